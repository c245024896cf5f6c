/** Whole workflows against a real taskerd: handler files as users have them, the command line, the clients, events. */

import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  AsyncTaskerClient,
  BasePublisher,
  BaseSubscriber,
  HandlerRegistry,
  InProcessDomainEventPoller,
  PublisherRegistry,
  RegistryResolver,
  StepHandler,
  TaskerClient,
  Worker,
  WorkerServer,
  bootstrapWorker,
  defineHandler,
  getWorkerStatus,
  isWorkerRunning,
  stopWorker,
  type ClientTaskResponse,
  type DomainEvent,
  type ExecutableHandler,
  type StepHandlerResult,
  type StepResult,
} from 'taskerd';
import { EmbeddedTaskerd, TaskFailed } from 'taskerd/testing';
import { ONE, ROUTE, SHOP, rows } from './fixtures/templates.js';
import { Later, PATIENCE, within, type Data } from './support.js';

const FIXTURES = fileURLToPath(new URL('../test/fixtures', import.meta.url));
const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const RUN = 'Deno' in globalThis ? ['run', '-A', CLI] : [CLI];
const program = join(process.env['TASKERD_BUILD'] ?? '/nowhere', 'daemon', 'taskerd');
const skip = existsSync(program) ? false : 'there is no taskerd: set TASKERD_BUILD';

let daemon: EmbeddedTaskerd;

/** A process of the command line. */
class Cli {
  text = '';
  readonly ended: Promise<number | null>;
  readonly child: ChildProcess;
  private wake: (() => void)[] = [];

  constructor(args: string[], env: Data = {}) {
    this.child = spawn(process.execPath, [...RUN, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    const more = (chunk: Buffer): void => {
      this.text += chunk.toString();
      for (const wake of this.wake.splice(0)) wake();
    };
    this.child.stdout?.on('data', more);
    this.child.stderr?.on('data', more);
    this.ended = new Promise((resolve) => this.child.on('close', resolve));
  }

  async says(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.text)) {
      const next = new Promise<void>((resolve) => this.wake.push(resolve));
      const ended = this.ended.then(() => 'ended');
      const first = await within(Promise.race([next, ended]), `${pattern} in:\n${this.text}`);
      if (first === 'ended' && !pattern.test(this.text)) assert.fail(`${pattern} is not in:\n${this.text}`);
    }
  }

  async terminate(): Promise<number | null> {
    process.kill(this.child.pid as number, 'SIGTERM'); // Deno's child.kill() does not tell the exit status afterwards
    return within(this.ended, 'the end');
  }
}

async function worker(paths: string[], options: string[] = []): Promise<Cli> {
  const cli = new Cli(['worker', ...paths, '--socket', daemon.socket, ...options]);
  await cli.says(/connected to/);
  return cli;
}

function results(task: ClientTaskResponse): Data {
  return Object.fromEntries(task.steps.map((step) => [step.name, step.result]));
}

describe('against a daemon', { skip }, () => {
  before(async () => {
    daemon = await EmbeddedTaskerd.start({ program });
  });
  after(async () => daemon?.stop());

  test('a handler file that takes over the process harms itself alone', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'taskerd-takes-'));
    writeFileSync(
      join(dir, 'takes.mjs'),
      `import { defineHandler } from 'taskerd';
       const broken = () => { throw new Error('replaced'); };
       Object.assign(process.env, { TASKERD_SOCKET: '/nowhere', TASKER_NAMESPACE: 'other', TASKER_TEMPLATE_PATH: '/nowhere' });
       process.on('SIGTERM', () => process.exit(7));
       JSON.stringify = JSON.parse = globalThis.setTimeout = globalThis.clearTimeout = performance.now = Date.now = broken;
       Object.prototype.toJSON = () => ({ replaced: true });
       Object.prototype.more = Array.prototype.more = 1;
       export const takes = defineHandler('Takes.over', {}, async () => {
         process.removeAllListeners('SIGTERM');
         process.on('SIGTERM', () => process.exit(8));
         return { list: [1, { two: 2 }] };
       });`,
    );
    const cli = await worker([dir]);
    const task = await daemon.run({ name: 'takes', namespace_name: 'takes', version: '1.0.0', steps: [{ name: 'takes', handler: { callable: 'Takes.over' } }] }, {});
    assert.deepEqual(results(task), { takes: { list: [1, { two: 2 }] } });
    assert.equal(await cli.terminate(), 0, cli.text);
    assert.match(cli.text, /a handler listens for SIGTERM: that is left out/);
    rmSync(dir, { recursive: true });
  });

  test('CommonJS has the package too', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'taskerd-required-'));
    writeFileSync(join(dir, 'one.cjs'), "const { defineHandler } = require('taskerd');\nexports.one = defineHandler('Required.one', {}, async () => ({ by: 'cjs' }));\n");
    writeFileSync(join(dir, 'two.js'), "const { defineHandler } = require('taskerd');\nmodule.exports = { two: defineHandler('Required.two', {}, async () => ({ by: 'js' })) };\n");
    const cli = await worker([dir]);
    const steps = ['one', 'two'].map((name) => ({ name, handler: { callable: `Required.${name}` } }));
    const task = await daemon.run({ name: 'required', namespace_name: 'required', version: '1.0.0', steps }, {});
    assert.deepEqual(results(task), { one: { by: 'cjs' }, two: { by: 'js' } });
    assert.equal(await cli.terminate(), 0, cli.text);
    rmSync(dir, { recursive: true });
  });

  test('files of TypeScript are served from the command line', async () => {
    const cli = await worker([join(FIXTURES, 'shop'), join(FIXTURES, 'rows')]);
    const order = { items: [{ sku: 'a', price: 7, quantity: 3 }], customer_email: 'a@b.c' };
    const shop = await daemon.run(SHOP, order);
    assert.deepEqual(results(shop), {
      validate: { items: order.items, currency: 'EUR', total: 21, handler: 'Shop.StepHandlers.ValidateCart', version: '1.2.0' },
      charge: { charged: 21, attempts: 2, last: false, charge: 36 },
      refund: { refunded: 21 },
      receipt: { to: 'a@b.c', lines: 1, charged: 21, nothing: null, missing: true, correlated: true },
    });

    const empty = await daemon.run(SHOP, { items: [] }, { check: false });
    const { error, attempts } = empty.steps.find((step) => step.name === 'validate') as ClientTaskResponse['steps'][0];
    assert.deepEqual([attempts, error?.['message'], error?.['error_code'], error?.['error_type']], [1, 'the cart is empty', 'EMPTY_CART', 'validation_error']);
    await assert.rejects(daemon.run(SHOP, { items: [{ sku: 'a', price: 1, quantity: 1000 }] }), (failed: unknown) => failed instanceof TaskFailed && /too many of one thing/.test(failed.message));

    for (const [amount, names] of [[5, ['route', 'start']], [500, ['manager', 'route', 'start']], [5000, ['director', 'manager', 'route', 'start']]] as const) {
      const task = await daemon.run(ROUTE, { amount });
      assert.deepEqual(task.steps.filter((step) => step.state === 'complete').map((step) => step.name).sort(), names);
    }
    assert.equal(await cli.terminate(), 0);
  });

  test('a worker whose output nobody reads works on, and ends when it is told to', async () => {
    const cli = new Cli(['worker', join(FIXTURES, 'shop'), '--socket', daemon.socket, '--log-level', 'trace']);
    await cli.says(/connected to/);
    cli.child.stdout?.destroy();
    cli.child.stderr?.destroy();
    const order = { items: [{ sku: 'a', price: 1, quantity: 1000 }] };
    assert.equal((await daemon.run(SHOP, order, { check: false })).status, 'blocked_by_failures');
    assert.equal(await cli.terminate(), 0);
  });

  test('batches, as classes and as functions', async () => {
    const cli = await worker([join(FIXTURES, 'rows', 'rows.ts')]);
    const classes = await daemon.run(rows('rows', 'Rows.Analyze', 'Rows.Work'), { rows: 10 });
    assert.deepEqual(results(classes)['sum'], { total: 10, nested: true, worker_count: 3, scenario: 'with_batches' });
    assert.deepEqual(results(classes)['work_003'].results, [{ sum: 17 }]);
    assert.deepEqual(results(await daemon.run(rows('rows', 'Rows.Analyze', 'Rows.Work'), { rows: 0 }))['sum'], { total: 0, worker_count: 0, scenario: 'no_batches' });
    const functions = await daemon.run(rows('rows-f', 'rows.analyze', 'rows.work'), { rows: 9 }, { check: false });
    const ids = functions.steps.map((step) => step.result?.id as string).filter(Boolean).sort();
    assert.deepEqual(ids, ['batch_000', 'batch_001', 'batch_002']);
    assert.equal(await cli.terminate(), 0);
  });

  test('broken files are named with file and line, the others are served', async () => {
    const cli = await worker([join(FIXTURES, 'broken')]);
    assert.deepEqual(results(await daemon.run(ONE('broken.good'))), { one: { good: true } });
    for (const place of [/syntax\.js:3/, /throws\.ts:4/, /missing\.ts:(3|null)?/, /exits\.ts:2: Error: process\.exit\(5\) was called/, /two handlers are called 'broken\.good': in \S+again\.ts and \S+good\.ts; the second is used/]) assert.match(cli.text, place);
    const { broken } = (await daemon.client.listWorkers()).find((known) => (known['handlers'] as string[]).includes('broken.good')) as Data;
    assert.deepEqual(broken.map((row: Data) => row.name).sort(), ['exits.ts', 'missing.ts', 'syntax.js', 'throws.ts']);
    assert.equal(await cli.terminate(), 0);
  });

  test('a recorded step is replayed', async () => {
    const task = await daemon.run(ONE('shop.receipt'), { customer_email: 'x' }, { check: false, handlers: [join(FIXTURES, 'shop', 'dsl.ts')] });
    const cli = new Cli(['replay', task.steps[0]?.step_uuid as string, join(FIXTURES, 'shop', 'dsl.ts'), '--socket', daemon.socket, '--log-level', 'error']);
    assert.equal(await within(cli.ended, 'the replay'), 0);
    const shown = JSON.parse(cli.text.slice(cli.text.indexOf('\n{\n') + 1)) as Data;
    assert.equal(shown.step, 'one');
    assert.equal(shown.recorded.error.message, shown.replayed.error.message);
    assert.equal(shown.same, false);
  });

  test('nothing to do on the command line is an error of usage', async () => {
    for (const args of [[], ['worker'], ['worker', '--threads', 'x', 'a.js'], ['worker', '--nonsense'], ['dance']]) {
      const cli = new Cli(args, { TYPESCRIPT_HANDLER_PATH: '' });
      assert.equal(await within(cli.ended, 'the end'), 2, args.join(' '));
    }
    const cli = new Cli(['worker', '/no/such/file.ts', '--socket', daemon.socket]);
    assert.equal(await within(cli.ended, 'the end'), 1);
    assert.match(cli.text, /no such file or directory: \/no\/such\/file\.ts/);
  });

  test('the clients', async () => {
    const made = await daemon.apply(ONE('client.wait'));
    const client = new AsyncTaskerClient({ socket: daemon.socket });
    const old = new TaskerClient({ socket: daemon.socket });
    const create = { name: made['name'] as string, namespace: 'ts', context: { n: 1 }, idempotencyKey: 'k1', tags: ['t'] };
    const first = await client.createTask(create);
    assert.equal(first.created, true);
    const again = old.createTask({ ...create, correlationId: first['correlation_id'] as string });
    assert.deepEqual([again.task_uuid, again.created], [first.task_uuid, false]);
    assert.equal(old.getTask(first.task_uuid).context['n'], 1);
    assert.deepEqual((await client.getTask(first.task_uuid)).missing_handlers, ['client.wait']);
    assert.throws(() => old.createTask({ name: 'nobody' }), { name: 'TaskerClientError', code: 'template_not_found', recoverable: false });
    await assert.rejects(client.createTask({ ...create, context: { f: () => 1 } }), { code: 'invalid_value', path: 'context.f' });

    const outcomes = await client.createTasks(Array.from({ length: 1500 }, (_, n) => ({ ...create, idempotencyKey: `bulk-${n}`, name: n === 7 ? 'nobody' : create.name })));
    assert.deepEqual(outcomes.map((outcome) => outcome.created).filter((created) => !created).length, 1);
    assert.equal(outcomes[7]?.error?.code, 'template_not_found');
    assert.equal((await client.listTasks({ namespace: 'ts', limit: 10 })).tasks.length, 10);
    assert.equal(old.listTasks({ namespace: 'ts', limit: 10, offset: 1200 }).pagination.has_previous, true);
    const { pagination: last } = await client.listTasks({ namespace: 'ts', limit: 1000, offset: 1000, name: create.name });
    assert.deepEqual([last.total_count, last.total_pages, last.has_next], [1500, 2, false]);
    const [step] = (await client.getTask(first.task_uuid)).steps;
    assert.ok(step?.created_at && step.updated_at && step.updated_at >= step.created_at);

    const seen: string[] = [];
    const watched = (async () => {
      for await (const event of client.watch(first.task_uuid)) seen.push(`${event['kind']} ${event['state']}`);
    })();
    const done = await daemon.run(ONE('client.wait'), {}, { handlers: [defineHandler('client.wait', () => ({}))] });
    assert.equal(done.finished, true);
    await within(watched, 'the end of the watch');
    assert.equal(seen.at(-1), 'task complete');
    assert.equal((await client.getStepAuditHistory(first.task_uuid, 'one'))[0]?.to_state, 'complete');
    assert.equal(old.getStep(first.task_uuid, 'one').current_state, 'complete');
    assert.equal(old.healthCheck().healthy, true);
    old.close();
    await client.close();
    await assert.rejects(client.ping(), { code: 'connection_lost' });
  });

  test('resolvers of their own serve what the templates of the daemon name', async () => {
    class Payments extends StepHandler {
      async call(): Promise<StepHandlerResult> {
        return this.success({ did: 'call' });
      }
      async refund(): Promise<StepHandlerResult> {
        return this.success({ did: 'refund' });
      }
    }
    class Prefixed extends RegistryResolver {
      static override _name = 'prefixed';
      static override prefix = 'pay:';
      override resolveHandler(): ExecutableHandler {
        return new Payments();
      }
    }
    const registry = new HandlerRegistry();
    registry.addResolver(new Prefixed());
    const steps = [
      { name: 'a', handler: { callable: 'pay:card', method: 'refund' } },
      { name: 'b', handler: { callable: 'pay:cash', resolver: 'not_here' } },
    ];
    await daemon.client.applyTemplate(JSON.stringify({ name: 'resolved', namespace_name: 'ts', version: '1.0.0', steps }));
    const worker = new Worker({ registry, socket: daemon.socket });
    await worker.start();
    const { task_uuid } = await daemon.client.createTask({ name: 'resolved', namespace: 'ts' });
    const done = await daemon.client.waitForTask(task_uuid, { timeoutMs: PATIENCE });
    const [a, b] = ['a', 'b'].map((name) => done.steps.find((step) => step.name === name));
    assert.deepEqual(a?.result, { did: 'refund' });
    assert.match(String(b?.error?.['message']), /not_here/);
    assert.equal(b?.attempts, 1);
    for (const name of ['late', 'later']) {
      const template = { name, namespace_name: 'ts', version: '1.0.0', steps: [{ name: 'one', handler: { callable: `pay:${name}` } }] };
      await daemon.client.applyTemplate(JSON.stringify(template));
      const { task_uuid: uuid } = await daemon.client.createTask({ name, namespace: 'ts' });
      assert.equal((await daemon.client.waitForTask(uuid, { timeoutMs: PATIENCE })).state, 'complete');
    }
    await worker.stop();
  });

  test('events of a step, with a publisher and a subscriber', async () => {
    class Charged extends BasePublisher {
      readonly publisherName = 'shop.charged';
      override transformPayload(stepResult: StepResult): Data {
        return { amount: stepResult.result.amount * 2 };
      }
    }
    const got = new Later<DomainEvent>();
    class Mail extends BaseSubscriber {
      static override subscribesTo(): string[] {
        return ['payment.*'];
      }
      handle(event: DomainEvent): void {
        got.resolve(event);
      }
    }
    PublisherRegistry.instance.register(new Charged());
    const poller = new InProcessDomainEventPoller({ socket: daemon.socket });
    const mail = new Mail();
    mail.start(poller);
    await poller.start();
    const published = [{ name: 'payment.charged', delivery_mode: 'broadcast', publisher: 'shop.charged', schema: { type: 'object', required: ['amount'] } }];
    const charge = defineHandler('pay.charge', () => ({ amount: 21 }));
    const task = await daemon.run(ONE('pay.charge', { publishes_events: published }), {}, { handlers: [charge] });
    const event = await within(got.promise, 'the event');
    assert.deepEqual(event.businessPayload, { amount: 42 });
    assert.equal(event.payload['amount'], 42);
    assert.equal(event.metadata.taskUuid, task.task_uuid);
    assert.equal(event.metadata.publisher, 'shop.charged');
    assert.equal(event.executionResult.success, true);
    const [message] = await daemon.client.consumeEvents({ namespace: 'ts', waitMs: PATIENCE });
    assert.equal(message?.event['event_name'], 'payment.charged');
    assert.deepEqual(await daemon.client.ackEvents([message!], 'ts'), { done: 1, missing: [] });
    await poller.stop();
    PublisherRegistry.instance.reset();
  });

  test('a worker server, with handlers registered before and after the start', async () => {
    const server = new WorkerServer();
    await server.start({ socket: daemon.socket, maxConcurrentHandlers: 2, logLevel: 'off' });
    assert.deepEqual([server.isRunning(), isWorkerRunning()], [true, true]);
    server.getHandlerSystem().register('late', defineHandler('late', () => ({ late: true })));
    assert.deepEqual(results(await daemon.run(ONE('late'))), { one: { late: true } });
    assert.equal((await server.healthCheck()).healthy, true);
    await assert.rejects(server.start(), /runs already/);
    let hooked = false;
    server.onShutdown(() => (hooked = true));
    await server.shutdown();
    assert.equal(server.status().processedCount, 1);
    assert.deepEqual([hooked, server.getState(), server.isRunning(), isWorkerRunning()], [true, 'stopped', false, false]);
  });

  test('the worker of the process', async () => {
    process.env['TYPESCRIPT_HANDLER_PATH'] = join(FIXTURES, 'rows');
    try {
      const result = await bootstrapWorker({ socket: daemon.socket, logLevel: 'off' });
      assert.deepEqual([result.success, result.status], [true, 'started'], result.errorMessage);
      assert.equal((await bootstrapWorker()).status, 'already_running');
      assert.equal(isWorkerRunning(), true);
      assert.equal((getWorkerStatus() as Data).state, 'running');
      assert.equal((await stopWorker()).status, 'stopped');
      assert.equal(isWorkerRunning(), false);
    } finally {
      delete process.env['TYPESCRIPT_HANDLER_PATH'];
    }
  });
});
