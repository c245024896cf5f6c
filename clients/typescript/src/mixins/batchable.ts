/** What the handlers of batches add to StepHandler. */

import {
  aggregateBatchResults,
  batchContextOf,
  createBatches,
  createBatchWorkerContext,
  cursorMap,
  cursorRanges,
  detectAggregationScenario,
  noBatches,
  workerOutcome,
  workerResult,
  type BatchAggregationResult,
  type BatchAggregationScenario,
  type BatchAnalyzerOutcome,
  type BatchWorkerConfig,
  type BatchWorkerContext,
  type BatchWorkerOutcome,
  type CursorConfig,
  type RustBatchWorkerInputs,
} from '../batch.js';
import { isMap, type Data } from '../codec.js';
import type { CheckpointData, StepContext } from '../context.js';
import { StepHandler, applyMixin } from '../handler.js';
import { StepHandlerResult, isResult } from '../results.js';

/** What batch handlers return. */
export type BatchableResult = StepHandlerResult;

/** Several cursors, with what goes with all of them. */
type Ranges = BatchAnalyzerOutcome | (Partial<BatchAnalyzerOutcome> & Data);

/** The methods of batches. */
export class BatchableMixin {
  // -- dividing the work -------------------------------------------------------------------------

  /** One range, from `start` up to but not including `end`. */
  createCursorConfig(start: unknown, end: unknown, stepSize = 1, metadata: Data = {}): CursorConfig {
    return { startCursor: start, endCursor: end, stepSize, metadata };
  }

  /** Ranges of `batchSize` items, made larger if there would be more than `maxBatches`. */
  createCursorRanges(totalItems: number, batchSize: number, stepSize = 1, maxBatches?: number): CursorConfig[] {
    return cursorRanges(totalItems, batchSize, stepSize, maxBatches);
  }

  /** At most `workerCount` shares of equal size, the last one perhaps smaller. */
  createCursorConfigs(totalItems: number, workerCount: number): BatchWorkerConfig[] {
    if (!(workerCount > 0)) throw new RangeError('workerCount must be positive');
    if (!(totalItems > 0)) return [];
    const ranges = cursorRanges(totalItems, Math.ceil(totalItems / workerCount)) as { startCursor: number; endCursor: number }[];
    return ranges.map((range, i) => ({
      batch_id: String(i + 1).padStart(3, '0'),
      cursor_start: range.startCursor,
      cursor_end: range.endCursor,
      row_count: range.endCursor - range.startCursor,
      worker_index: i,
      total_workers: ranges.length,
    }));
  }

  /** Ranges of `batchSize` items as an outcome. */
  createBatchOutcome(totalItems: number, batchSize: number, stepSize = 1, batchMetadata: Data = {}): BatchAnalyzerOutcome {
    return { cursorConfigs: cursorRanges(totalItems, batchSize, stepSize), totalItems, batchMetadata };
  }

  /** The analyzer is done: a worker for each range, or none if there is no range. Without a name the template says of which step. */
  batchAnalyzerSuccess(outcome: Ranges, metadata?: Data, workerTemplateName?: string): StepHandlerResult {
    const data = outcome as Data;
    const configs = (data['cursorConfigs'] ?? data['cursor_configs'] ?? []) as unknown[];
    const shared = (data['batchMetadata'] ?? data['batch_metadata'] ?? {}) as Data;
    const marked = { batch_analyzer: true, ...metadata };
    if (configs.length === 0) return StepHandlerResult.success({ batch_processing_outcome: noBatches(), ...shared }, marked);
    const template = (data['workerTemplateName'] ?? data['worker_template_name'] ?? workerTemplateName) as string | undefined;
    const result = batchesResult(template, configs, (data['totalItems'] ?? data['total_items']) as number | undefined);
    if (Object.keys(shared).length > 0) result['batch_metadata'] = shared;
    return StepHandlerResult.success(result, marked);
  }

  /** The analyzer is done: a worker of a template's step for each share. */
  batchSuccess(workerTemplateName: string, batchConfigs: readonly unknown[], metadata: Data = {}): BatchableResult {
    if (batchConfigs.length === 0) return this.noBatchesResult('no batches', metadata);
    return StepHandlerResult.success({ ...metadata, ...batchesResult(workerTemplateName, batchConfigs) }, { ...metadata });
  }

  /** There is nothing to do; `metadata` becomes part of the result. */
  noBatchesResult(reason?: string, metadata: Data = {}): BatchableResult {
    const said = reason === undefined ? {} : { reason };
    return StepHandlerResult.success({ ...metadata, batch_processing_outcome: noBatches(), ...said }, { ...metadata });
  }

  /** The same under the name that other languages use. */
  noBatchesOutcome(reason: string, metadata: Data = {}): BatchableResult {
    return this.noBatchesResult(reason, metadata);
  }

  // -- doing a part ------------------------------------------------------------------------------

  /** The batch of a worker's step; null if the step is no batch worker. */
  getBatchContext(context: StepContext): BatchWorkerContext | null {
    return batchContextOf(context);
  }

  /** The inputs of a worker's step as the daemon made them; null if there are none. */
  getBatchWorkerInputs(context: StepContext): RustBatchWorkerInputs | null {
    const inputs = context.stepInputs;
    return Object.keys(inputs).length > 0 ? (inputs as unknown as RustBatchWorkerInputs) : null;
  }

  /** A batch made by hand, for tests. */
  createBatchContext(
    batchId: string,
    startCursor: unknown,
    endCursor: unknown,
    batchIndex = 0,
    totalBatches = 1,
    batchMetadata: Data = {},
    checkpoint: CheckpointData = {},
  ): BatchWorkerContext {
    return createBatchWorkerContext({ batchId, cursorConfig: { startCursor, endCursor }, batchIndex, totalBatches, batchMetadata, checkpoint });
  }

  /** The finished result if this is the placeholder of a batch without work, else null. */
  handleNoOpWorker(context: StepContext): BatchableResult | null {
    const inputs = context.stepInputs;
    if (inputs['is_no_op'] !== true && inputs['isNoOp'] !== true) return null;
    const { cursor } = inputs;
    const result = {
      batch_id: (isMap(cursor) ? cursor['batch_id'] : undefined) ?? '000',
      no_op: true,
      processed_count: 0,
      message: 'there was no work for this batch',
      processed_at: new Date().toISOString(),
    };
    return StepHandlerResult.success(result, { no_op: true });
  }

  /** What a worker has done. Without `itemsSucceeded` every item succeeded. */
  createWorkerOutcome(
    itemsProcessed: number,
    itemsSucceeded = 0,
    itemsFailed = 0,
    itemsSkipped = 0,
    results: unknown[] = [],
    errors: unknown[] = [],
    lastCursor: unknown = null,
    batchMetadata: Data = {},
  ): BatchWorkerOutcome {
    const succeeded = itemsSucceeded || itemsProcessed;
    return { itemsProcessed, itemsSucceeded: succeeded, itemsFailed, itemsSkipped, results, errors, lastCursor, batchMetadata };
  }

  /** A worker is done. The result has the outcome's fields, and the outcome under `batch_worker_outcome`. */
  batchWorkerSuccess(outcome: Partial<BatchWorkerOutcome> | Data, metadata?: Data): BatchableResult {
    const flat = workerResult(workerOutcome(outcome));
    return StepHandlerResult.success({ ...flat, batch_worker_outcome: flat }, { batch_worker: true, ...metadata });
  }

  /** Store how far the step is and have it called again, with `context.checkpoint` set. Uses no attempt. */
  checkpointYield(cursor: unknown, itemsProcessed?: number, accumulatedResults?: unknown): StepHandlerResult {
    if (isMap(cursor) && itemsProcessed === undefined) {
      const given = cursor;
      const processed = given['itemsProcessed'] ?? given['items_processed'];
      return StepHandlerResult.checkpointYield(given['cursor'], Number(processed ?? 0), given['accumulatedResults'] ?? given['accumulated_results']);
    }
    return StepHandlerResult.checkpointYield(cursor, itemsProcessed ?? 0, accumulatedResults);
  }

  // -- adding up ---------------------------------------------------------------------------------

  /** What the analyzer and the workers before this step have left. */
  detectAggregationScenario(dependencyResults: StepContext | Data, batchableStepName: string, batchWorkerPrefix: string): BatchAggregationScenario {
    return detectAggregationScenario(dependencyResults, batchableStepName, batchWorkerPrefix);
  }

  /** The result of an aggregation over nothing. */
  noBatchesAggregationResult(zeroMetrics: Data = {}): BatchableResult {
    return StepHandlerResult.success({ worker_count: 0, scenario: 'no_batches', ...zeroMetrics });
  }

  /** The result of an aggregation: what `aggregationFn` makes of the workers' results by step name, or they themselves. */
  aggregateBatchWorkerResults(
    scenario: BatchAggregationScenario,
    zeroMetrics: Data = {},
    aggregationFn?: (batchResults: Record<string, Data>) => Data,
  ): BatchableResult {
    if (scenario.isNoBatches) return this.noBatchesAggregationResult(zeroMetrics);
    const made: unknown = aggregationFn ? aggregationFn(scenario.batchResults) : { batch_results: scenario.batchResults };
    if (isResult(made)) return made;
    return StepHandlerResult.success({ ...(made as Data), worker_count: scenario.workerCount, scenario: 'with_batches' });
  }

  /** Totals over what batch workers returned. */
  static aggregateWorkerResults(workerResults: (Data | null)[], maxErrors = 100): BatchAggregationResult {
    return aggregateBatchResults(workerResults, maxErrors);
  }

  /** The same on an instance. */
  aggregateWorkerResults(workerResults: (Data | null)[], maxErrors = 100): BatchAggregationResult {
    return aggregateBatchResults(workerResults, maxErrors);
  }
}

/** The part of an analyzer's result that the daemon reads, with the counts that handlers read. */
export function batchesResult(workerTemplateName: string | undefined, configs: readonly unknown[], totalItems?: number | null): Data {
  const cursors = configs.map((config, i) => cursorMap(config, i + 1));
  const total = totalItems ?? cursors.reduce((sum, cursor) => sum + cursor.batch_size, 0);
  const outcome = { ...createBatches('', cursors.length, cursors, total), worker_template_name: workerTemplateName };
  return { batch_processing_outcome: outcome, worker_count: cursors.length, total_items: total };
}

/** What `applyBatchable` adds to a handler. */
export type Batchable = Omit<BatchableMixin, never>;

/** Give a handler the methods of batches: `applyBatchable(this)` in its constructor. */
export function applyBatchable<T extends object>(target: T): T & Batchable {
  applyMixin(target, new BatchableMixin());
  return target as T & Batchable;
}

/** Base of class handlers of batches: analyzers, workers and aggregators. */
export abstract class BatchableStepHandler extends StepHandler {
  override get capabilities(): string[] {
    return ['process', 'batchable', 'batch_processing'];
  }
}
// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging -- the methods are put on the prototype below
export interface BatchableStepHandler extends Batchable {}
applyMixin(BatchableStepHandler.prototype, new BatchableMixin());
