/** A worker against a daemon that the test scripts: credits, results, acknowledgements, reconnects, ends. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PermanentError, RetryableError, StepHandlerResult, Worker, defineHandler, type StepContext } from 'taskerd';
import { Later, runOne, step, withDaemon, withWorker, within, type Data } from './support.js';

const echo = defineHandler('echo', { inputs: { n: 'n' } }, async ({ n }) => ({ n }));

/** Handlers that run until they are let go. */
class Gate {
  readonly contexts: StepContext[] = [];
  private entered: Later<StepContext>[] = [];
  private readonly leave = new Later();
  readonly handler = defineHandler('gate', {}, async ({ context }) => {
    this.contexts.push(context);
    this.entered.shift()?.resolve(context);
    await this.leave.promise;
    return { cancelled: context.cancelReason };
  });

  async running(count: number): Promise<void> {
    while (this.contexts.length < count) {
      const later = new Later<StepContext>();
      this.entered.push(later);
      if (this.contexts.length < count) await within(later.promise, 'the handler');
    }
  }

  open(): void {
    this.leave.resolve();
  }
}

describe('handshake', () => {
  test('says what the worker is', () =>
    withWorker({ echo, other: echo }, async ({ hello, worker }) => {
      assert.deepEqual(hello.protocol, [1, 0]);
      assert.equal(hello.language, 'typescript');
      assert.match(hello.client, /^taskerd-typescript\//);
      assert.equal(hello.pid, process.pid);
      assert.equal(hello.resume, undefined);
      const { name, ...rest } = hello.worker;
      assert.ok(name);
      assert.deepEqual(rest, { namespaces: ['*'], handlers: ['echo', 'other'], max_concurrency: 7 });
      assert.equal(worker.workerId, '0190b5a0-7c1e-7000-8000-00000000c001');
    }, { concurrency: 4, prefetch: 3 }));

  test('another major version is refused', () =>
    withDaemon(async (daemon) => {
      const worker = new Worker({ handlers: [echo], socket: daemon.path });
      const started = worker.start();
      const conn = await daemon.accept();
      await conn.hello({ protocol: [2, 0] });
      await assert.rejects(within(started, 'the refusal'), { code: 'unsupported_version' });
    }));

  test('a worker without handlers does not start', async () => {
    await assert.rejects(new Worker({ socket: '/nowhere' }).start(), /no handlers/);
  });

  test('a daemon that is not there is named', async () => {
    const worker = new Worker({ handlers: [echo], socket: '/nowhere/s', connectTimeoutMs: 50 });
    await assert.rejects(within(worker.start(), 'the failure'), /\/nowhere\/s/);
  });
});

describe('results', () => {
  test('steps of one message are answered', () =>
    withWorker({ echo }, async ({ conn, worker }) => {
      conn.execute(step('echo', 1, { context: { n: 1 } }), step('echo', 2, { context: { n: 2 } }));
      const results = await conn.results(2);
      assert.deepEqual(results.map((r) => [r.step_uuid, r.attempt, r.success, r.result]), [
        [step('', 1).step_uuid, 1, true, { n: 1 }],
        [step('', 2).step_uuid, 1, true, { n: 2 }],
      ]);
      assert.deepEqual([...results[0]?.claim], [...step('', 1).claim]);
      assert.equal(typeof results[0]?.execution_ms, 'number');
      conn.ack(results);
      worker.drain();
      await conn.expect('worker.update');
      await conn.expect('goodbye');
      assert.equal(await worker.wait(), true);
      assert.equal(worker.status().counters['recorded'], 2);
    }));

  const failures: [string, () => unknown, Data, Data][] = [
    ['PermanentError', () => { throw new PermanentError('no', { errorCode: 'X', order: 7 }); }, { message: 'no', error_type: 'permanent_error', retryable: false, error_code: 'X' }, {}],
    ['PermanentError with a code', () => { throw new PermanentError('no', 'CODE'); }, { message: 'no', error_type: 'permanent_error', retryable: false, error_code: 'CODE' }, {}],
    ['RetryableError', () => { throw new RetryableError('busy', { retry_after: 1.5 }); }, { message: 'busy', error_type: 'retryable_error', retryable: true }, { retry_after_ms: 1500 }],
    ['an error of another kind', () => { throw new TypeError('what'); }, { message: 'what', error_type: 'handler_error', retryable: true }, {}],
    ['an error with its cause', () => { throw new TypeError('fetch failed', { cause: new Error('refused') }); }, { message: 'fetch failed: refused', error_type: 'handler_error', retryable: true }, {}],
    ['a string', () => { throw 'text'; }, { message: 'text', error_type: 'handler_error', retryable: true }, {}], // eslint-disable-line no-throw-literal
    ['nothing', () => { throw undefined; }, { message: 'undefined', error_type: 'handler_error', retryable: true }, {}], // eslint-disable-line no-throw-literal
    ['failure()', () => StepHandlerResult.failure('bad', 'validation_error', false, { status_code: 422 }, 'C'), { message: 'bad', error_type: 'validation_error', retryable: false, error_code: 'C', status_code: 422 }, {}],
    ['failure() without words', () => StepHandlerResult.failure(''), { message: 'the step failed' }, {}],
    ['a hint', () => new StepHandlerResult({ success: false, errorMessage: 'later', retryable: true, orchestrationMetadata: { headers: { 'Retry-After': '7' } } }), { message: 'later' }, { retry_after_ms: 7000 }],
  ];
  for (const form of ['class', 'function'] as const) {
    for (const [name, run, error, more] of failures) {
      test(`${form}: ${name}`, async () => {
        const entry = form === 'function' ? defineHandler('h', {}, async () => run()) : class { static handlerName = 'h'; async call() { return run(); } };
        const result = await runOne(entry as never);
        assert.equal(result.success, false);
        for (const [key, value] of Object.entries(error)) assert.deepEqual(result.error[key], value, key);
        for (const [key, value] of Object.entries(more)) assert.deepEqual(result[key], value, key);
      });
    }
  }

  test('a stack reaches the daemon', async () => {
    const result = await runOne(defineHandler('h', {}, async function blowUp() { throw new Error('deep'); }));
    assert.match(result.error.backtrace.join('\n'), /blowUp/);
    assert.equal(result.metadata.traceback, undefined);
  });

  const values: [string, unknown, unknown][] = [
    ['an object', { a: 1 }, { a: 1 }],
    ['nothing', undefined, {}],
    ['a list', [1, 2], { result: [1, 2] }],
    ['a number', 7, { result: 7 }],
    ['its own result key', { result: 3 }, { result: 3 }],
    ['a success flag', { success: true, id: 9 }, { success: true, id: 9 }],
  ];
  for (const [name, value, stored] of values) {
    test(`returned: ${name}`, async () => {
      assert.deepEqual((await runOne(defineHandler('h', {}, () => value))).result, stored);
    });
  }

  const unsendable: [string, unknown, RegExp, string][] = [
    ['a function', { a: { f: () => 1 } }, /result\.a\.f: a function/, 'serialization_error'],
    ['NaN', { a: NaN }, /result\.a: NaN/, 'serialization_error'],
    ['something huge', { a: 'x'.repeat(5_000_000) }, /the daemon takes 4194240/, 'result_too_large'],
    ['too many items', { a: new Array(270_000).fill(null) }, /more than 262128 items/, 'result_too_large'],
    ['what throws when read', { get a() { throw new Error('no such thing'); } }, /no such thing/, 'serialization_error'],
  ];
  for (const [name, value, message, type] of unsendable) {
    test(`not sent: ${name}`, async () => {
      const result = await runOne(defineHandler('h', {}, () => value));
      assert.match(result.error.message, message);
      assert.equal(result.error.error_type, type);
      assert.equal(result.error.retryable, false);
    });
  }

  test('a failure is told whatever its extras are', async () => {
    const result = await runOne(defineHandler('h', {}, () => StepHandlerResult.failure('bad\0', 't', true, { f: () => 1, ok: 1 })));
    assert.equal(result.error.message, 'bad\\0');
    assert.deepEqual(result.metadata, { f: '(a function cannot be stored)', ok: 1 });
  });

  test('an unknown handler is a permanent failure', () =>
    withWorker({ echo }, async ({ conn }) => {
      conn.execute(step('nobody'));
      const [result] = await conn.results(1);
      assert.equal(result?.error.error_type, 'handler_not_found');
      assert.equal(result?.error.retryable, false);
      assert.match(result?.error.message, /'nobody'/);
    }));
});

describe('connections', () => {
  test('an unacknowledged result is sent again', () =>
    withWorker({ echo }, async ({ conn, daemon, worker }) => {
      conn.execute(step('echo', 1), step('echo', 2));
      const results = await conn.results(2);
      conn.ack(results.slice(0, 1));
      conn.send([2, 'error', { code: 'x', message: 'so that the acknowledgement is read first' }]);
      conn.socket.end();
      const again = await daemon.accept();
      const hello = await again.hello({ resumed: true });
      assert.deepEqual(hello.resume, { session: 'token-1', held: 1 });
      const [id, params] = await again.expect('session.resume');
      assert.deepEqual(params.steps.map((s: Data) => s.step_uuid), [results[1]?.step_uuid]);
      again.answer(id, { steps: [{ step_uuid: results[1]?.step_uuid, attempt: 1, status: 'held' }] });
      const [second] = await again.results(1);
      assert.deepEqual(second, results[1]);
      again.ack([second as Data], 'duplicate');
      assert.equal(await worker.stop(30_000), true);
    }));

  test('a step that went to others is cancelled', async () => {
    const gate = new Gate();
    await withWorker({ gate: gate.handler }, async ({ conn, daemon }) => {
      conn.execute(step('gate', 1), step('gate', 2));
      await gate.running(2);
      conn.close();
      const again = await daemon.accept();
      await again.hello();
      const [id, params] = await again.expect('session.resume');
      assert.equal(params.steps.length, 2);
      const statuses = params.steps.map((s: Data, i: number) => ({ step_uuid: s.step_uuid, attempt: 1, status: i === 0 ? 'stale' : 'held' }));
      again.answer(id, { steps: statuses });
      again.send([2, 'step.cancel', { step_uuid: 'nobody', attempt: 1, reason: 'stale' }]);
      await within(new Promise<void>((resolve) => gate.contexts[0]?.signal.addEventListener('abort', () => resolve())), 'the abort');
      assert.equal(gate.contexts[0]?.cancelReason, 'stale');
      assert.equal(gate.contexts[1]?.cancelled, false);
      gate.open();
      const [result] = await again.results(1);
      assert.equal(result?.step_uuid, step('', 2).step_uuid);
    });
  });

  test('what nobody could read is survived', () =>
    withWorker({ echo }, async ({ conn, daemon }) => {
      conn.raw(Buffer.from('00000003c1c1c1', 'hex'));
      let next = await daemon.accept();
      for (const bad of [{ steps: 5 }, { steps: [{}] }, { steps: [{ ...step('echo'), claim: 'text' }] }]) {
        await next.hello();
        next.send([2, 'step.execute', bad]);
        next = await daemon.accept();
      }
      await next.hello();
      next.execute(step('echo', 3));
      assert.equal((await next.results(1)).length, 1);
    }));

  test('a cancelled handler sees its signal', async () => {
    const gate = new Gate();
    await withWorker({ gate: gate.handler }, async ({ conn }) => {
      conn.execute(step('gate'));
      await gate.running(1);
      const aborted = new Promise<void>((resolve) => gate.contexts[0]?.signal.addEventListener('abort', () => resolve()));
      conn.send([2, 'step.cancel', { step_uuid: step('').step_uuid, attempt: 1, reason: 'timeout' }]);
      await within(aborted, 'the abort');
      gate.open();
      const [result] = await conn.results(1);
      assert.deepEqual(result?.result, { cancelled: 'timeout' });
    });
  });

  test('a handler that does not return loses its place', () =>
    withWorker(
      { hang: defineHandler('hang', {}, () => new Promise(() => undefined)), echo },
      async ({ conn }) => {
        conn.execute(step('hang', 1), step('echo', 2));
        conn.send([2, 'step.cancel', { step_uuid: step('', 1).step_uuid, attempt: 1, reason: 'timeout' }]);
        const results = await conn.results(2);
        assert.equal(results[0]?.error.error_type, 'cancelled');
        assert.equal(results[1]?.success, true);
      },
      { concurrency: 1, abandonAfterMs: 0 },
    ));

  test('the worker\'s own time limit is a retryable failure', () =>
    withWorker(
      { hang: defineHandler('hang', {}, () => new Promise(() => undefined)) },
      async ({ conn }) => {
        conn.execute(step('hang', 1));
        const [result] = await conn.results(1);
        assert.equal(result?.error.error_type, 'timeout');
        assert.equal(result?.error.retryable, true);
      },
      { handlerTimeoutMs: 5 },
    ));

  test('steps not begun go back, steps that run are finished', async () => {
    const gate = new Gate();
    await withWorker(
      { gate: gate.handler },
      async ({ conn, worker }) => {
        conn.execute(step('gate', 1), step('gate', 2));
        await gate.running(1);
        worker.drain();
        assert.deepEqual(await conn.expect('worker.update'), { draining: true });
        gate.open();
        const results = await conn.results(1);
        conn.ack(results);
        await conn.expect('goodbye');
        await conn.expectEnd();
        assert.equal(await worker.wait(), true);
        assert.equal(worker.status().counters['released'], 1);
      },
      { concurrency: 1 },
    );
  });

  test('handlers registered later are offered by a reconnect', async () => {
    const gate = new Gate();
    await withWorker({ gate: gate.handler }, async ({ conn, worker, daemon }) => {
      conn.execute(step('gate'));
      await gate.running(1);
      worker.register('echo', echo);
      const again = await daemon.accept();
      const hello = await again.hello({ resumed: true });
      assert.deepEqual(hello.worker.handlers, ['echo', 'gate']);
      const [id] = await again.expect('session.resume');
      again.answer(id, { steps: [{ step_uuid: step('').step_uuid, attempt: 1, status: 'held' }] });
      gate.open();
      assert.equal((await again.results(1)).length, 1);
    });
  });
});

describe('what handlers ask for', () => {
  test('results that were left out of the step', () =>
    withWorker({ h: defineHandler('h', { depends: { a: 'a', b: 'b' } }, ({ a, b, context }) => ({ a, b, names: context.getDependencyResultKeys() })) }, async ({ conn }) => {
      conn.execute(step('h', 1, { dependencies: { a: 1 }, dependencies_partial: true }));
      const [id, params] = await conn.expect('step.dependencies');
      assert.equal(params.step_uuid, step('').step_uuid);
      conn.answer(id, { dependencies: { b: { x: 2 } }, next_cursor: 'more' });
      const [next, asked] = await conn.expect('step.dependencies');
      assert.equal(asked.cursor, 'more');
      conn.answer(next, { dependencies: { c: null } });
      const [result] = await conn.results(1);
      assert.deepEqual(result?.result, { a: 1, b: { x: 2 }, names: ['a', 'b', 'c'] });
    }));

  test('checkpoints', () =>
    withWorker({ h: defineHandler('h', {}, async ({ context }) => { await context.saveCheckpoint(5, 5, { sum: 1 }); return { at: context.checkpointCursor }; }) }, async ({ conn }) => {
      conn.execute(step('h'));
      const [id, { claim, ...params }] = await conn.expect('step.checkpoint');
      assert.deepEqual([...claim], [...step('').claim]);
      assert.deepEqual(params, { step_uuid: step('').step_uuid, attempt: 1, cursor: 5, items_processed: 5, accumulated_results: { sum: 1 } });
      conn.answer(id, { status: 'recorded' });
      assert.deepEqual((await conn.results(1))[0]?.result, { at: 5 });
    }));

  for (const [status, type, retryable] of [['stale', 'retryable_error', true], ['rejected', 'permanent_error', false]] as const) {
    test(`a checkpoint that is ${status}`, () =>
      withWorker({ h: defineHandler('h', {}, async ({ context }) => context.saveCheckpoint(5)) }, async ({ conn }) => {
        conn.execute(step('h'));
        const [id] = await conn.expect('step.checkpoint');
        conn.answer(id, { status });
        const [result] = await conn.results(1);
        assert.equal(result?.error.error_type, type);
        assert.equal(result?.error.retryable, retryable);
      }));
  }

  test('progress and lines of the log', () =>
    withWorker(
      { h: defineHandler('h', {}, async ({ context }) => { context.heartbeat({ done: 1 }); await null; console.error('seen', { a: 1 }); }) },
      async ({ conn }) => {
        conn.execute(step('h'));
        assert.deepEqual(await conn.expect('step.heartbeat'), { step_uuid: step('').step_uuid, attempt: 1, progress: { done: 1 } });
        assert.deepEqual(await conn.expect('step.log'), { step_uuid: step('').step_uuid, level: 'error', message: 'seen {"a":1}', fields: { logger: 'console' } });
      },
      { daemonLogLevel: 'info' },
    ));
});
