/** The handlers of protocol/conformance/README.md. */

import { randomBytes } from 'node:crypto';
import { closeSync, constants, existsSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  BasePublisher,
  BatchableStepHandler,
  Decision,
  PermanentError,
  PublisherRegistry,
  RetryableError,
  StepHandler,
  StepHandlerResult,
  createLogger,
  defineBatchAnalyzer,
  defineDecisionHandler,
  defineHandler,
  type LogLevel,
  type StepContext,
  type StepResult,
} from 'taskerd';

type Data = Record<string, any>;
type Run = (context: StepContext, config: Data) => unknown;

/** A line in the ledger. */
export function note(event: string, more: Data = {}): void {
  const ledger = openSync(process.env['CONFORMANCE_LEDGER'] as string, constants.O_WRONLY | constants.O_APPEND);
  writeSync(ledger, `${JSON.stringify({ event, ...more, pid: process.pid })}\n`);
  closeSync(ledger);
}

/** A handler begins. */
function begin(handler: string, context: StepContext, event = 'begin'): void {
  note(event, { handler, step_uuid: context.stepUuid, attempt: context.attempt });
}

function gate(name: string): string {
  return join(process.env['CONFORMANCE_GATES'] as string, name);
}

/** A function of (context, config) with its line in the ledger. */
function noted(name: string, run: Run): (args: Data) => unknown {
  return ({ context }) => {
    begin(name, context as StepContext);
    return run(context as StepContext, (context as StepContext).stepConfig);
  };
}

function handler(name: string, run: Run): unknown {
  return defineHandler(name, {}, noted(name, run));
}

export const functions = [
  handler('conf.echo', (context, config) => ({
    context: context.inputData,
    config,
    inputs: context.stepInputs,
    results: Object.fromEntries(context.getDependencyResultKeys().map((name) => [name, context.getDependencyResult(name)])),
    attempt: context.retryCount + 1,
    max_attempts: context.maxRetries,
    task_uuid: context.taskUuid,
    step_uuid: context.stepUuid,
  })),
  handler('conf.value', (_, config) => config['value']),
  defineHandler('conf.nothing', () => undefined),
  handler('conf.fail', (_, config) => StepHandlerResult.failure(config['message'], config['error_type'], config['retryable'], {}, config['error_code'])),
  handler('conf.error_retryable', (_, config) => {
    throw new RetryableError(config['message']);
  }),
  handler('conf.error_permanent', (_, config) => {
    throw new PermanentError(config['message'], { errorCode: config['error_code'] });
  }),
  handler('conf.raise', (_, config) => {
    throw new Error(config['message']);
  }),
  handler('conf.retry_after', (context, config) => {
    if (context.attempt === 1) throw new RetryableError('later', { retryAfter: config['seconds'] });
    return { attempt: context.attempt };
  }),
  handler('conf.flaky', (context, config) => {
    if (context.attempt <= config['failures']) throw new Error('not yet');
    return { attempt: context.attempt };
  }),
  handler('conf.wait', async (context, config) => {
    while (!existsSync(gate(config['gate']))) await sleep(10, undefined, { signal: context.signal });
    return { waited: true };
  }),
  handler('conf.open', (_, config) => {
    writeFileSync(gate(config['gate']), '');
    return { opened: config['gate'] };
  }),
  handler('conf.sleep_until_cancelled', async (context) => {
    await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
    begin('conf.sleep_until_cancelled', context, 'cancelled');
  }),
  handler('conf.hang', () => new Promise(() => undefined)),
  handler('conf.save', async (context, config) => {
    const start = Number(context.checkpointCursor ?? 0);
    for (let upto = start + config['every']; upto < config['total']; upto += config['every']) {
      await context.saveCheckpoint(upto, upto);
      if (context.attempt === 1) throw new Error('after the first checkpoint');
    }
    return { items: config['total'], from: start };
  }),
  defineDecisionHandler('conf.decision', {}, noted('conf.decision', (_, config) => (config['steps']?.length ? Decision.route(config['steps']) : Decision.skip('none')))),
  defineBatchAnalyzer('conf.analyze', { workerTemplate: 'work' }, noted('conf.analyze', (_, config) => ({ totalItems: config['total'], batchSize: config['size'] }))),
  handler('conf.event', (_, config) => ({ amount: config['amount'] })),
  handler('conf.log', (_, config) => {
    createLogger({ component: 'conf' })[config['level'] as LogLevel](config['message']);
    return { logged: true };
  }),
  handler('conf.progress', (context, config) => {
    context.heartbeat({ n: config['n'] });
    return { n: config['n'] };
  }),
  handler('conf.sizes', (context) => {
    const sizes = context.getDependencyResultKeys().map((name) => [name, context.getDependencyField<string>(name, 'blob')?.length]);
    return Object.fromEntries(sizes) as Data;
  }),
  handler('conf.uuids', (context, config) =>
    Object.fromEntries((config['names'] as string[]).map((name) => [name, (context.dependencyResults[name] as Data)['stepUuid']])),
  ),
  handler('conf.unserialisable', () => ({ value: note })),
  handler('conf.nan', () => ({ value: NaN })),
  handler('conf.infinite', () => ({ value: Infinity })),
  handler('conf.nul', () => ({ value: 'a\0b' })),
  handler('conf.broken_text', (_, config) => {
    const text = 'broken: \ud800';
    if (config['in'] === 'error') throw new Error(text);
    if (config['in'] !== 'log') return { value: text };
    createLogger()['warn'](text);
    return { logged: true };
  }),
  handler('conf.cyclic', () => {
    const made: Data = {};
    made['self'] = made;
    return made;
  }),
  handler('conf.deep', (_, config) => {
    let made: unknown = null;
    for (let i = 0; i < config['depth']; i++) made = [made];
    return { value: made };
  }),
  handler('conf.wide', () => ({ value: 9007199254740993n })),
  handler('conf.huge', (_, config) => ({ blob: 'x'.repeat(config['bytes']) })),
  handler('conf.crash', async (context, config) => {
    // A runtime may take the first one for a fault of its own, and wait for it to happen again.
    while (context.attempt <= config['attempts']) {
      process.kill(process.pid, 'SIGSEGV');
      await sleep(10);
    }
    return { survived: true };
  }),
  handler('conf.exit', (context, config) => {
    if (context.attempt <= config['attempts']) process.exit(3);
    return { survived: true };
  }),
  handler('conf.garbage_stdout', (_, config) => {
    for (const descriptor of [1, 2]) writeSync(descriptor, randomBytes(config['bytes']));
    return { printed: config['bytes'] };
  }),
];

export class Checkpoint extends BatchableStepHandler {
  static override handlerName = 'conf.checkpoint';

  async call(context: StepContext): Promise<StepHandlerResult> {
    begin(Checkpoint.handlerName, context);
    const total = context.getConfig<number>('total') ?? 0;
    const upto = Math.min(Number(context.checkpointCursor ?? 0) + (context.getConfig<number>('every') ?? 1), total);
    const visits = ((context.accumulatedResults as { visits: number } | null)?.visits ?? 0) + 1;
    return upto < total ? this.checkpointYield(upto, upto, { visits }) : this.success({ items: total, visits });
  }
}

export class Batch extends BatchableStepHandler {
  static override handlerName = 'conf.batch';

  async call(context: StepContext): Promise<StepHandlerResult> {
    begin(Batch.handlerName, context);
    const nothing = this.handleNoOpWorker(context);
    if (nothing) return nothing;
    const batch = this.getBatchContext(context);
    if (!batch) throw new PermanentError('no batch worker');
    const { startCursor: start, endCursor: end } = batch;
    return this.success({ items_processed: end - start, start, end });
  }
}

export class Aggregate extends BatchableStepHandler {
  static override handlerName = 'conf.aggregate';

  async call(context: StepContext): Promise<StepHandlerResult> {
    begin(Aggregate.handlerName, context);
    const { analyze, prefix } = context.stepConfig as { analyze: string; prefix: string };
    const scenario = this.detectAggregationScenario(context.dependencyResults, analyze, prefix);
    return this.aggregateBatchWorkerResults(scenario, { total: 0 }, (found) => ({
      total: Object.values(found).reduce((sum, result) => sum + Number(result['items_processed']), 0),
    }));
  }
}

export class Methods extends StepHandler {
  static override handlerName = 'conf.methods';

  async call(context: StepContext): Promise<StepHandlerResult> {
    begin(Methods.handlerName, context);
    return this.success({ method: 'call' });
  }

  /** The method a template may ask for. */
  async other(context: StepContext): Promise<StepHandlerResult> {
    begin(Methods.handlerName, context);
    return this.success({ method: 'other' });
  }
}

class Publisher extends BasePublisher {
  readonly publisherName = 'conf.publisher';

  override shouldPublish(stepResult: StepResult): boolean {
    return stepResult.result.amount >= 0;
  }

  override transformPayload(stepResult: StepResult): Data {
    if (stepResult.result.amount === 13) throw new Error('13 brings bad luck');
    return { amount: stepResult.result.amount, by: 'conf.publisher' };
  }

  override additionalMetadata(): Data {
    return { note: 'conf' };
  }
}

PublisherRegistry.instance.register(new Publisher());
