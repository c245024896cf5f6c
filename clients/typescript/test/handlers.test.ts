/** What handlers see and may use: contexts, results, mixins, resolvers, registries; each without a daemon. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  ApiHandler,
  BasePublisher,
  BaseSubscriber,
  BatchableMixin,
  BatchableStepHandler,
  ClassLookupResolver,
  Decision,
  DecisionHandler,
  ErrorType,
  ExplicitMappingResolver,
  HandlerRegistry,
  HandlerSystem,
  MethodDispatchWrapper,
  PermanentError,
  PublisherRegistry,
  RegistryResolver,
  ResolverChain,
  ShutdownController,
  StepContext,
  StepHandler,
  StepHandlerResult,
  SubscriberRegistry,
  aggregateBatchResults,
  applyAPI,
  applyBatchable,
  applyDecision,
  createBatchWorkerContext,
  createBatches,
  defineApiHandler,
  defineBatchAnalyzer,
  defineDecisionHandler,
  defineHandler,
  effectiveMethod,
  fromDto,
  hasResolverHint,
  isCreateBatches,
  isNoBatches,
  isStandardErrorType,
  isTypicallyRetryable,
  matchesPattern,
  noBatches,
  usesMethodDispatch,
  type APICapable,
  type DecisionCapable,
  type DomainEvent,
  type ExecutableHandler,
  type HandlerDefinition,
} from 'taskerd';
import { RecordingHost, makeContext, runHandler } from 'taskerd/testing';
import type { Data } from './support.js';

describe('contexts', () => {
  const context = new StepContext({
    taskUuid: 't',
    stepUuid: 's',
    correlationId: 'c',
    handlerName: 'h',
    inputData: { a: 1, nothing: null },
    dependencyResults: { one: { result: { x: { y: [10, 20] } } }, two: { plain: true }, three: { result: null }, own: { result: { result: 5 } } },
    stepConfig: { url: 'u' },
    stepInputs: { batch: 1 },
    retryCount: 2,
    maxRetries: 3,
  });

  test('input and configuration', () => {
    assert.equal(context.getInput('a'), 1);
    assert.equal(context.getInput('constructor'), undefined);
    assert.equal(context.getInputOr('b', 7), 7);
    assert.equal(context.getInputOr('nothing', 7), null);
    assert.equal(context.getConfig('url'), 'u');
    assert.deepEqual(context.stepInputs, { batch: 1 });
  });

  test('results of earlier steps', () => {
    assert.deepEqual(context.getDependencyResult('one'), { x: { y: [10, 20] } });
    assert.deepEqual(context.getDependencyResult('two'), { plain: true });
    assert.equal(context.getDependencyResult('nobody'), null);
    assert.deepEqual(context.getDependencyResult('own'), { result: 5 });
    assert.equal(context.getDependencyField('one', 'x', 'y', '1'), 20);
    assert.equal(context.getDependencyField('one', 'x', 'z'), undefined);
    assert.equal(context.getDependencyField('one', 'x', 'z', 'deeper'), null);
    assert.equal(context.getDependencyField('nobody', 'x'), null);
    assert.deepEqual(context.getDependencyResultKeys(), ['one', 'two', 'three', 'own']);
    assert.deepEqual(context.getAllDependencyResults('t'), [{ plain: true }]);
  });

  test('attempts', () => {
    assert.deepEqual([context.isRetry(), context.isLastRetry(), context.retryCount, context.maxRetries], [true, true, 2, 3]);
    assert.deepEqual([context.checkpoint, context.checkpointCursor, context.checkpointItemsProcessed, context.accumulatedResults, context.hasCheckpoint()], [null, null, 0, null, false]);
  });

  test('from the worker', () => {
    const made = makeContext({ input: { n: 1 }, dependencies: { one: { x: 1 }, bad: { error: { message: 'm', error_type: 't', retryable: true } } }, config: { k: 'v' }, attempt: 2, checkpoint: { cursor: 5, items_processed: 5 } });
    assert.deepEqual(made.dependencyResults['one'], { stepUuid: `${made.taskUuid.slice(0, 30)}000002`, success: true, result: { x: 1 }, status: 'completed', errorMessage: null, errorType: null, errorRetryable: null });
    assert.equal((made.dependencyResults['bad'] as Data).errorMessage, 'm');
    assert.deepEqual([made.getDependencyField('one', 'x'), made.retryCount, made.checkpointCursor, made.checkpointItemsProcessed, made.stepInputs], [1, 1, 5, 5, { k: 'v' }]);
    assert.deepEqual([made.event.task['context'], made.event.stepDefinition['handlerInitialization'], made.event.workflowStep['attempts'], made.event.workflowStep['checkpoint']], [{ n: 1 }, { k: 'v' }, 1, { cursor: 5, items_processed: 5 }]);
  });

  test('from a raw event', () => {
    const made = StepContext.fromFfiEvent(
      { taskUuid: 't', stepUuid: 's', correlationId: 'c', task: { context: { a: 1 } }, workflowStep: { attempts: 1, maxAttempts: 5, inputs: { i: 1 }, checkpoint: { cursor: 9 } }, stepDefinition: { handlerInitialization: { k: 1 } }, dependencyResults: { p: { result: 2 } } },
      'name',
    );
    assert.deepEqual([made.taskUuid, made.handlerName, made.getInput('a'), made.retryCount, made.maxRetries, made.stepInputs, made.checkpointCursor, made.getConfig('k'), made.getDependencyResult('p')], ['t', 'name', 1, 1, 5, { i: 1 }, 9, 1, 2]);
  });
});

describe('results', () => {
  test('factories', () => {
    const ok = StepHandlerResult.success({ a: 1 }, { m: 2 });
    assert.deepEqual([ok.success, ok.result, ok.metadata, ok.isSuccess(), ok.isFailure()], [true, { a: 1 }, { m: 2 }, true, false]);
    const bad = StepHandlerResult.failure('m');
    assert.deepEqual([bad.success, bad.errorMessage, bad.errorType, bad.retryable, bad.errorCode, bad.metadata], [false, 'm', 'handler_error', true, null, {}]);
    assert.deepEqual(StepHandlerResult.failure('m', ErrorType.VALIDATION_ERROR, false, { k: 1 }, 'C').toJSON(), {
      success: false,
      result: null,
      error_message: 'm',
      error_type: 'validation_error',
      error_code: 'C',
      retryable: false,
      metadata: { k: 1 },
    });
    assert.deepEqual([isStandardErrorType('timeout'), isStandardErrorType('x'), isTypicallyRetryable('timeout'), isTypicallyRetryable('permanent_error')], [true, false, true, false]);
  });
});

describe('decisions', () => {
  class Route extends DecisionHandler {
    static override handlerName = 'route';
    static override handlerVersion = '2.0.0';
    async call(context: StepContext): Promise<StepHandlerResult> {
      const to = context.getInput<string[]>('to');
      return to ? this.decisionSuccess(to, { by: 'input' }, { extra: 1 }) : this.skipBranches('nowhere', { by: 'nothing' });
    }
  }
  test('a class', async () => {
    const made = await runHandler(Route, { input: { to: ['a', 'b'] } });
    assert.deepEqual(made.result, { decision_point_outcome: { type: 'create_steps', step_names: ['a', 'b'] }, routing_context: { by: 'input' } });
    assert.deepEqual(made.metadata, { decision_handler: 'route', decision_version: '2.0.0', extra: 1 });
    assert.deepEqual((await runHandler(Route)).result, { decision_point_outcome: { type: 'no_branches' }, reason: 'nowhere', routing_context: { by: 'nothing' } });
  });
  test('a mixin, whose fields a compiler has declared', async () => {
    class Mixed extends StepHandler implements Pick<DecisionCapable, 'decisionSuccess' | 'decisionNoBranches' | 'decisionFailure'> {
      static override handlerName = 'mixed';
      decisionSuccess!: DecisionCapable['decisionSuccess'];
      decisionNoBranches!: DecisionCapable['decisionNoBranches'];
      decisionFailure!: DecisionCapable['decisionFailure'];
      constructor() {
        super();
        applyDecision(this);
      }
      async call(context: StepContext): Promise<StepHandlerResult> {
        const how = context.getInput('how');
        if (how === 'fail') return this.decisionFailure('cannot decide');
        return how === 'none' ? this.decisionNoBranches('because') : this.decisionSuccess('one');
      }
    }
    assert.deepEqual((await runHandler(Mixed)).result, { decision_point_outcome: { type: 'create_steps', step_names: ['one'] } });
    assert.deepEqual((await runHandler(Mixed, { input: { how: 'none' } })).result, { decision_point_outcome: { type: 'no_branches' }, reason: 'because' });
    const failed = await runHandler(Mixed, { input: { how: 'fail' } });
    assert.deepEqual([failed.errorType, failed.retryable], ['decision_error', false]);
  });
  test('a function', async () => {
    const route = defineDecisionHandler('r', { inputs: { n: 'n' } }, ({ n }) => (n > 1 ? Decision.route('one', { n }) : Decision.skip('few')));
    assert.deepEqual((await runHandler(route, { input: { n: 2 } })).result, { decision_point_outcome: { type: 'create_steps', step_names: ['one'] }, routing_context: { n: 2 } });
    assert.deepEqual((await runHandler(route, { input: { n: 1 } })).result, { decision_point_outcome: { type: 'no_branches' }, reason: 'few' });
  });
});

describe('batches', () => {
  const mixin = new BatchableMixin();
  test('dividing', () => {
    assert.deepEqual(mixin.createCursorRanges(5, 2).map((range) => [range.startCursor, range.endCursor]), [[0, 2], [2, 4], [4, 5]]);
    assert.equal(mixin.createCursorRanges(100, 1, 1, 4).length, 4);
    assert.deepEqual(mixin.createCursorRanges(0, 5), []);
    assert.throws(() => mixin.createCursorRanges(5, 0), RangeError);
    assert.deepEqual(mixin.createCursorConfigs(5, 2).map((config) => [config.batch_id, config.cursor_start, config.cursor_end]), [['001', 0, 3], ['002', 3, 5]]);
  });
  test('an analyzer\'s results', () => {
    const made = mixin.batchSuccess('work', [{ batch_id: 'b', cursor_start: 0, cursor_end: 3 }], { note: 1 });
    assert.deepEqual(made.result?.['batch_processing_outcome'], { type: 'create_batches', worker_template_name: 'work', worker_count: 1, cursor_configs: [{ batch_id: 'b', start_cursor: 0, end_cursor: 3, batch_size: 3 }], total_items: 3 });
    assert.deepEqual([made.result?.['note'], made.metadata['note']], [1, 1]);
    assert.deepEqual(mixin.batchAnalyzerSuccess(mixin.createBatchOutcome(4, 2)).result?.['worker_count'], 2);
    const named = (name?: string): unknown => (mixin.batchAnalyzerSuccess(mixin.createBatchOutcome(4, 2), {}, name).result?.['batch_processing_outcome'] as Data)['worker_template_name'];
    assert.deepEqual([named(), named('work')], [undefined, 'work']); // without one the template says it
    assert.equal(isNoBatches(mixin.noBatchesResult('none').result?.['batch_processing_outcome']), true);
    assert.equal(isCreateBatches(createBatches('w', 1, [{ start_cursor: 1, end_cursor: 2 }], 1)), true);
    assert.equal(isCreateBatches(noBatches()), false);
  });
  test('an analyzer as a function', async () => {
    const analyze = defineBatchAnalyzer('a', { workerTemplate: 'work' }, ({ context }) => context.getInput('config'));
    const made = await runHandler(analyze, { input: { config: { totalItems: 5, batchSize: 2, metadata: { m: 1 } } } });
    const outcome = made.result?.['batch_processing_outcome'] as Data;
    assert.deepEqual(outcome.cursor_configs.map((config: Data) => [config.batch_id, config.start_cursor, config.end_cursor]), [['batch_000', 0, 2], ['batch_001', 2, 4], ['batch_002', 4, 5]]);
    assert.deepEqual([made.metadata['batch_count'], made.metadata['m']], [3, 1]);
    assert.equal((await runHandler(analyze, { input: { config: { totalItems: 0, batchSize: 2 } } })).result?.['reason'], 'empty_dataset');
    assert.match((await runHandler(analyze, { input: { config: { totalItems: 3 } } })).errorMessage ?? '', /batchSize/);
  });
  test('a worker goes on from its checkpoints', async () => {
    class Work extends BatchableStepHandler {
      static override handlerName = 'work';
      async call(context: StepContext): Promise<StepHandlerResult> {
        const batch = this.getBatchContext(context);
        assert.ok(batch);
        assert.deepEqual([batch.batchId, batch.batchSize, batch.batchIndex, batch.isNoOp, batch.stepSize], ['002', 4, 1, false, 4]);
        const at = (batch.checkpointCursor ?? batch.startCursor) + 2;
        if (at < batch.endCursor) return this.checkpointYield(at, at);
        return this.batchWorkerSuccess(this.createWorkerOutcome(4));
      }
    }
    const stepInputs = { cursor: { batch_id: '002', start_cursor: 0, end_cursor: 4, batch_size: 4 }, batch_metadata: { cursor_field: 'id' }, is_no_op: false };
    const once = await runHandler(Work, { stepInputs });
    assert.deepEqual(once.result, { type: 'checkpoint_yield', cursor: 2, items_processed: 2 });
    const done = await runHandler(Work, { stepInputs, toTheEnd: true });
    assert.equal(done.result?.['items_succeeded'], 4);
    assert.equal((done.result?.['batch_worker_outcome'] as Data).items_processed, 4);
    const noOp = new Work().handleNoOpWorker(makeContext({ stepInputs: { is_no_op: true, cursor: { batch_id: '000' } } }));
    assert.deepEqual([noOp?.result?.['no_op'], noOp?.result?.['batch_id'], noOp?.result?.['processed_count']], [true, '000', 0]);
    assert.equal(new Work().getBatchWorkerInputs(makeContext()), null);
    assert.equal(new Work().getBatchContext(makeContext()), null);
  });
  test('adding up', () => {
    const results = { a: { result: { batch_processing_outcome: { type: 'create_batches' } } }, w_1: { result: { items_processed: 2 } }, w_2: { result: { items_processed: 3 } } };
    const scenario = mixin.detectAggregationScenario(results, 'a', 'w_');
    assert.deepEqual([scenario.isNoBatches, scenario.workerCount, scenario.batchResults['w_2']], [false, 2, { items_processed: 3 }]);
    assert.throws(() => mixin.detectAggregationScenario(results, 'nobody', 'w_'), /batchable step 'nobody'/);
    assert.throws(() => mixin.detectAggregationScenario(results, 'a', 'x_'), /'x_'/);
    assert.deepEqual(mixin.noBatchesAggregationResult({ total: 0 }).result, { worker_count: 0, scenario: 'no_batches', total: 0 });
    const totals = BatchableMixin.aggregateWorkerResults([{ items_processed: 4, items_succeeded: 3, items_failed: 1, errors: ['e'] }, null, { batch_worker_outcome: { items_processed: 1, items_succeeded: 1 } }]);
    assert.deepEqual([totals.total_processed, totals.total_succeeded, totals.batch_count, totals.success_rate, totals.error_count], [5, 4, 2, 0.8, 1]);
    assert.equal(aggregateBatchResults([]).success_rate, 0);
    assert.equal(createBatchWorkerContext('x', { startCursor: 1, endCursor: 4 }).batchSize, 3);
    const target = applyBatchable(new (class extends StepHandler { call(): StepHandlerResult { return this.success(); } })());
    assert.equal(target.createCursorConfigs(4, 2).length, 2);
  });
});

describe('HTTP services', () => {
  async function withServer(body: (url: string) => Promise<void>): Promise<void> {
    const server = createServer((request, response) => {
      let text = '';
      request.on('data', (chunk: Buffer) => (text += chunk.toString()));
      request.on('end', () => {
        const url = new URL(request.url ?? '/', 'http://x');
        const status = Number(url.searchParams.get('status') ?? 200);
        response.writeHead(status, { 'content-type': 'application/json', ...(status === 429 ? { 'retry-after': '7' } : {}) });
        response.end(JSON.stringify(status < 400 ? { method: request.method, path: url.pathname, query: Object.fromEntries(url.searchParams), body: text, key: request.headers['x-key'] } : { error: { message: 'no' } }));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      await body(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`);
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  }

  test('a class', () =>
    withServer(async (url) => {
      class Call extends ApiHandler {
        static override handlerName = 'call';
        static override baseUrl = url;
        static override defaultHeaders = { 'x-key': 'k' };
        async call(context: StepContext): Promise<StepHandlerResult> {
          const response = await this.post(`/charges?status=${context.getInput('status')}`, { json: { a: 1 } });
          return response.ok ? this.apiSuccess(response) : this.apiFailure(response);
        }
      }
      const ok = await runHandler(Call, { input: { status: 201 } });
      assert.deepEqual(ok.result, { method: 'POST', path: '/v1/charges', query: { status: '201' }, body: '{"a":1}', key: 'k' });
      assert.equal(ok.metadata['status_code'], 201);
      const busy = await runHandler(Call, { input: { status: 429 } });
      assert.deepEqual([busy.errorMessage, busy.errorType, busy.retryable, busy.metadata['retry_after_seconds']], ['HTTP 429: no', 'rate_limited', true, 7]);
      const gone = await runHandler(Call, { input: { status: 410 } });
      assert.deepEqual([gone.errorType, gone.retryable], ['gone', false]);
    }));

  test('a mixin and a function', () =>
    withServer(async (url) => {
      class Mixed extends StepHandler {
        static override handlerName = 'mixed';
        static baseUrl = url;
        get!: APICapable['get'];
        apiSuccess!: APICapable['apiSuccess'];
        constructor() {
          super();
          applyAPI(this);
        }
        async call(): Promise<StepHandlerResult> {
          return this.apiSuccess(await this.get('/a', { x: 1, y: null }));
        }
      }
      assert.deepEqual((await runHandler(Mixed)).result?.['query'], { x: '1' });
      const call = defineApiHandler('f', { baseUrl: url, inputs: { x: 'x' } }, async ({ api, x }) => api.apiSuccess(await api.get('/b', { params: { x } } as never)));
      assert.deepEqual((await runHandler(call, { input: { x: 5 } })).result?.['query'], { x: '5' });
      const unreachable = await runHandler(defineApiHandler('g', { baseUrl: 'http://127.0.0.1:1' }, async ({ api }) => {
        try {
          return await api.get('/');
        } catch (error) {
          return api.connectionError(error as Error, 'asking');
        }
      }));
      assert.deepEqual([unreachable.errorType, unreachable.retryable], ['connection_error', true]);
    }));
});

describe('resolving', () => {
  class Pay extends StepHandler {
    static override handlerName = 'pay';
    async call(): Promise<StepHandlerResult> {
      return this.success({ method: 'call' });
    }
    async refundAll(): Promise<StepHandlerResult> {
      return this.success({ method: 'refundAll', name: this.name });
    }
  }

  test('definitions', () => {
    const definition = fromDto({ callable: 'a', method: 'm', resolver: 'r', initialization: { k: 1 } });
    assert.deepEqual(definition, { callable: 'a', method: 'm', resolver: 'r', initialization: { k: 1 } });
    assert.deepEqual([effectiveMethod(definition), usesMethodDispatch(definition), hasResolverHint(definition), effectiveMethod({ callable: 'a' })], ['m', true, true, 'call']);
  });

  test('methods', async () => {
    for (const method of ['refundAll', 'refund_all']) assert.equal((await runHandler(Pay, { method })).result?.['method'], 'refundAll');
    const missing = await runHandler(Pay, { method: 'nope' });
    assert.deepEqual([missing.errorType, missing.retryable], ['handler_not_found', false]);
    const wrapper = (await new HandlerRegistry().resolverChain.resolve('x')) ?? new MethodDispatchWrapper(new Pay(), 'refundAll');
    assert.equal((wrapper as MethodDispatchWrapper).unwrap() instanceof Pay, true);
  });

  test('a resolver of one\'s own', async () => {
    class Payments extends RegistryResolver {
      static override _name = 'payments';
      static override _priority = 20;
      static override pattern = /^payments:(?<kind>\w+)$/;
      async resolveHandler(definition: HandlerDefinition, match: RegExpMatchArray | null): Promise<ExecutableHandler> {
        return { name: definition.callable, call: async () => ({ kind: match?.groups?.['kind'] }) };
      }
    }
    const registry = new HandlerRegistry();
    registry.addResolver(new Payments());
    assert.deepEqual(registry.listResolvers(), [['explicit_mapping', 10], ['payments', 20], ['class_lookup', 100]]);
    assert.deepEqual(await (await registry.resolve('payments:card'))?.call(makeContext()), { kind: 'card' });
    assert.equal(await registry.resolve({ callable: 'payments:card', resolver: 'explicit_mapping' }), null);
    assert.equal(await registry.resolve({ callable: 'payments:card', resolver: 'nobody' }), null);
    assert.deepEqual(registry.offered([{ callable: 'payments:cash', resolver: 'payments' }, 'unknown']), ['payments:cash']);
  });

  test('the registry', async () => {
    const registry = new HandlerRegistry();
    registry.register(Pay);
    registry.register('instance', new Pay());
    registry.register('factory', () => new Pay());
    assert.deepEqual(registry.listHandlers(), ['factory', 'instance', 'pay']);
    for (const name of registry.listHandlers()) assert.equal((await registry.resolve(name)) instanceof Pay, true, name);
    assert.equal((await registry.resolve('pay')) === (await registry.resolve('pay')), false);
    assert.throws(() => registry.register('x', 5 as never), /no handler class/);
    assert.equal(registry.unregister('pay'), true);
    assert.equal(await registry.resolve('pay'), null);
    const chain = await ResolverChain.default();
    chain.addResolver(new ExplicitMappingResolver('mine'));
    assert.equal(chain.removeResolver('mine'), true);
    assert.equal(new ClassLookupResolver().canResolve({ callable: 'dotted.Name' }), false);
  });
});

describe('events', () => {
  class Charged extends BasePublisher {
    readonly publisherName = 'charged';
    readonly told: string[] = [];
    override beforePublish(_name: string, payload: Data): boolean | undefined {
      return payload['stop'] ? undefined : true;
    }
    override transformPayload(stepResult: { result?: Data }): Data {
      if (stepResult.result?.['bad']) throw new Error('bad');
      return { ...stepResult.result };
    }
    override afterPublish(name: string): void {
      this.told.push(name);
    }
    override onPublishError(_name: string, error: Error): void {
      this.told.push(error.message);
    }
  }

  test('publishers', async () => {
    const publisher = new Charged();
    const publish = (result: Data): Promise<boolean> => publisher.publish({ eventName: 'e', stepResult: { success: true, result, metadata: {} } });
    assert.deepEqual([await publish({ a: 1 }), await publish({ stop: 1 }), await publish({ bad: 1 })], [true, false, false]);
    assert.deepEqual(publisher.told, ['e', 'bad']);
    const failed = await publisher.collect({ eventName: 'e', stepResult: { success: true, result: { bad: 1 }, metadata: {} } });
    assert.deepEqual(failed, { outcome: 'failed', failed: 'bad' });
  });

  test('the registry of publishers', () => {
    const registry = new PublisherRegistry();
    registry.register(new Charged());
    assert.throws(() => registry.register(new Charged()), { name: 'DuplicatePublisherError' });
    assert.throws(() => registry.getStrict('nobody'), { name: 'PublisherNotFoundError' });
    assert.equal(registry.getOrDefault('nobody').publisherName, 'default');
    assert.throws(() => registry.validateRequired(['charged', 'nobody']), { name: 'PublisherValidationError' });
    registry.validateRequired(['charged']);
    assert.throws(() => registry.clear(), { name: 'RegistryFrozenError' });
    registry.reset();
    assert.equal(registry.count, 0);
    assert.equal(PublisherRegistry.getInstance(), PublisherRegistry.instance);
  });

  test('subscribers', async () => {
    const seen: string[] = [];
    class Mail extends BaseSubscriber {
      static override subscribesTo(): string[] {
        return ['payment.*'];
      }
      override beforeHandle(event: DomainEvent): boolean {
        return event.eventName !== 'payment.skipped';
      }
      async handle(event: DomainEvent): Promise<void> {
        if (event.eventName === 'payment.bad') throw new Error('bad');
        seen.push(event.eventName);
      }
      override onHandleError(_event: DomainEvent, error: Error): void {
        seen.push(error.message);
      }
    }
    class Patterns extends BaseSubscriber {
      patterns = ['order.*'];
      handle(): void {}
    }
    const registry = new SubscriberRegistry();
    registry.register(Mail);
    const [mail] = registry.startAll({ addListener: () => undefined, removeListener: () => undefined });
    for (const name of ['payment.ok', 'payment.skipped', 'payment.bad', 'order.ok']) await mail?.receive({ eventName: name } as DomainEvent);
    assert.deepEqual(seen, ['payment.ok', 'bad']);
    assert.deepEqual([mail?.active, mail?.matches('payment'), new Patterns().matches('order.x')], [true, false, true]);
    registry.stopAll();
    assert.equal(mail?.active, false);
    assert.equal(matchesPattern('a.*.c', 'a.b.c'), true);
  });
});

describe('tests of handlers', () => {
  test('what a handler tells is kept', async () => {
    const host = new RecordingHost();
    const handler = defineHandler('h', {}, async ({ context }) => {
      context.heartbeat(1);
      context.log('info', 'text', { a: 1 });
      await context.saveCheckpoint(3, 3);
      return {};
    });
    assert.equal((await runHandler(handler, { host })).success, true);
    assert.deepEqual([host.progress, host.logs, host.checkpoints], [[1], [{ level: 'info', message: 'text', fields: { a: 1 } }], [{ cursor: 3, items_processed: 3 }]]);
  });

  test('a result that could not be sent is the failure', async () => {
    const result = await runHandler(defineHandler('h', () => ({ f: () => 1 })));
    assert.deepEqual([result.success, result.errorType, result.retryable], [false, 'serialization_error', false]);
  });

  test('errors of another copy of the package are known', async () => {
    class Foreign extends Error {
      metadata = { errorCode: 'F' };
      get [Symbol.for('taskerd.error.kind')](): string {
        return 'permanent';
      }
    }
    const result = await runHandler(defineHandler('h', () => { throw new Foreign('f'); }));
    assert.deepEqual([result.errorType, result.retryable], ['permanent_error', false]);
    assert.equal(new PermanentError('m', { errorCode: 'X' }).name, 'PermanentError');
  });

  test('a shutdown is asked for once', async () => {
    const controller = new ShutdownController();
    const told: string[] = [];
    controller.onShutdown((signal) => told.push(signal));
    controller.trigger('SIGTERM');
    controller.trigger('SIGINT');
    assert.deepEqual([await controller.promise, controller.isRequested, told], ['SIGTERM', true, ['SIGTERM']]);
  });
});

test('resolvers that a handler file exports', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'taskerd-resolvers-'));
  const file = join(dir, 'pay.mjs');
  writeFileSync(file, `import { RegistryResolver } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
    export class Pay extends RegistryResolver {
      static prefix = 'pay:';
      resolveHandler({ callable }) { return { name: callable, call: async () => ({ paid: callable }) }; }
    }
    export const Again = Pay;
    export const nothing = null;
    export const refund = new (class extends RegistryResolver { static _name = 'refund'; static prefix = 'refund:'; resolveHandler() { return { name: 'r', call: async () => ({}) }; } })();
  `);
  const system = new HandlerSystem();
  assert.deepEqual([await system.loadFromPath(file), system.importFailures], [0, []]);
  assert.deepEqual(system.getRegistry().listResolvers().map(([name]) => name).sort(), ['Pay', 'class_lookup', 'explicit_mapping', 'refund']);
  assert.deepEqual(await (await system.resolve('pay:stripe'))?.call(makeContext()), { paid: 'pay:stripe' });
  rmSync(dir, { recursive: true });
});

test('CommonJS in TypeScript is read by the runtime, or named with what to do', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'taskerd-cts-'));
  const file = join(dir, 'old.cts');
  writeFileSync(file, "exports.old = { call: (): object => ({}), handlerName: 'Old.one' };\n");
  const system = new HandlerSystem();
  const found = await system.loadFromPath(dir);
  if ('Bun' in globalThis || 'Deno' in globalThis || (process.features as { typescript?: unknown }).typescript) {
    assert.deepEqual([found, system.importFailures], [1, []]);
  } else {
    assert.deepEqual([found, ...system.importFailures.map((failure) => [failure.file, failure.line])], [0, [file, null]]);
    assert.match(system.importFailures[0]?.error ?? '', /a \.cts file .* name it \.ts or \.mts, or compile it to \.cjs/);
  }
  rmSync(dir, { recursive: true });
});
