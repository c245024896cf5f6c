/** Batches as data: ranges of work, what analyzers and workers report, totals. */

import { isMap, type Data } from './codec.js';
import { unwrapResult, type CheckpointData, type StepContext } from './context.js';

/** What the failure of one batch means for the others. */
export const FailureStrategy = { CONTINUE_ON_FAILURE: 'continue_on_failure', FAIL_FAST: 'fail_fast', ISOLATE: 'isolate' } as const;
export type FailureStrategy = (typeof FailureStrategy)[keyof typeof FailureStrategy];

/** A range of work: from `startCursor` up to but not including `endCursor`. Any JSON value will do, mostly they are integers. */
export interface CursorConfig {
  startCursor: unknown;
  endCursor: unknown;
  stepSize: number;
  metadata: Data;
}

/** One worker's share, when the work is divided by the number of workers. */
export interface BatchWorkerConfig {
  batch_id: string;
  cursor_start: number;
  cursor_end: number;
  row_count: number;
  worker_index: number;
  total_workers: number;
  [more: string]: unknown;
}

/** A batch as the daemon stores it. */
export interface RustCursorConfig {
  batch_id: string;
  start_cursor: unknown;
  end_cursor: unknown;
  batch_size: number;
}

/** What all batches of a step share. */
export interface BatchMetadata {
  cursor_field?: string;
  failure_strategy?: FailureStrategy | string;
  [more: string]: unknown;
}

/** The inputs of a batch worker's step. */
export interface RustBatchWorkerInputs {
  cursor: RustCursorConfig;
  batch_metadata: BatchMetadata;
  is_no_op: boolean;
  [more: string]: unknown;
}

/** The batches that an analyzer wants. */
export interface BatchAnalyzerOutcome {
  cursorConfigs: CursorConfig[];
  totalItems: number | null;
  batchMetadata: Data;
}

/** What one batch has done. */
export interface BatchWorkerOutcome {
  itemsProcessed: number;
  itemsSucceeded: number;
  itemsFailed: number;
  itemsSkipped: number;
  results: unknown[];
  errors: unknown[];
  lastCursor: unknown;
  batchMetadata: Data;
}

/** What a batch worker's handler needs to know of its batch. */
export interface BatchWorkerContext {
  batchId: string;
  cursorConfig: CursorConfig;
  batchIndex: number;
  totalBatches: number;
  batchMetadata: Data;
  checkpoint: CheckpointData;
  isNoOp: boolean;
  batchSize: number;
  startCursor: any; // eslint-disable-line @typescript-eslint/no-explicit-any -- handlers calculate with it
  endCursor: any; // eslint-disable-line @typescript-eslint/no-explicit-any
  stepSize: number;
  checkpointCursor: any; // eslint-disable-line @typescript-eslint/no-explicit-any
  checkpointItemsProcessed: number;
  accumulatedResults: unknown;
  hasCheckpoint(): boolean;
}

export interface NoBatchesOutcome {
  type: 'no_batches';
}
export interface CreateBatchesOutcome {
  type: 'create_batches';
  worker_template_name: string;
  worker_count: number;
  cursor_configs: RustCursorConfig[];
  total_items: number;
}
export type BatchProcessingOutcome = NoBatchesOutcome | CreateBatchesOutcome;

/** What the steps before an aggregation have left: nothing to do, or the workers' results. */
export interface BatchAggregationScenario {
  isNoBatches: boolean;
  batchableResult: Data;
  /** Worker step name -> its result. */
  batchResults: Record<string, Data>;
  workerCount: number;
}

/** Totals over all batches. */
export interface BatchAggregationResult {
  total_processed: number;
  total_succeeded: number;
  total_failed: number;
  total_skipped: number;
  batch_count: number;
  success_rate: number;
  errors: unknown[];
  error_count: number;
}

/** The outcome of an analyzer that found nothing to do. */
export function noBatches(): NoBatchesOutcome {
  return { type: 'no_batches' };
}

/** The outcome of an analyzer that wants workers, one for each cursor. */
export function createBatches(
  workerTemplateName: string,
  workerCount: number,
  cursorConfigs: readonly unknown[],
  totalItems: number,
): CreateBatchesOutcome {
  return {
    type: 'create_batches',
    worker_template_name: workerTemplateName,
    worker_count: workerCount,
    cursor_configs: cursorConfigs.map((config, i) => cursorMap(config, i + 1)),
    total_items: totalItems,
  };
}

export function isNoBatches(outcome: unknown): outcome is NoBatchesOutcome {
  return isMap(outcome) && outcome['type'] === 'no_batches';
}

export function isCreateBatches(outcome: unknown): outcome is CreateBatchesOutcome {
  return isMap(outcome) && outcome['type'] === 'create_batches';
}

/** The first of these keys that is there: handlers write snake_case and camelCase. */
function pick(data: Data, ...keys: string[]): unknown {
  for (const key of keys) if (data[key] !== undefined && data[key] !== null) return data[key];
  return undefined;
}

function number(value: unknown, fallback = 0): number {
  return typeof value === 'number' ? value : fallback;
}

/** The daemon's form of one range, the `n`-th counted from 1. Takes any of the shapes above. */
export function cursorMap(config: unknown, n: number): RustCursorConfig & Data {
  const data = (isMap(config) ? config : {}) as Data;
  const start = pick(data, 'start_cursor', 'startCursor', 'cursor_start', 'cursorStart') ?? null;
  const end = pick(data, 'end_cursor', 'endCursor', 'cursor_end', 'cursorEnd') ?? null;
  const step = pick(data, 'step_size', 'stepSize');
  let size = pick(data, 'batch_size', 'batchSize', 'row_count', 'rowCount');
  if (!size) size = typeof start === 'number' && typeof end === 'number' ? end - start : (step ?? 1);
  const out: RustCursorConfig & Data = {
    batch_id: String(pick(data, 'batch_id', 'batchId') ?? String(n).padStart(3, '0')),
    start_cursor: start,
    end_cursor: end,
    batch_size: number(size, 1),
  };
  if (step !== undefined && step !== 1) out['step_size'] = step;
  const { metadata } = data;
  if (isMap(metadata) && Object.keys(metadata).length > 0) out['metadata'] = metadata;
  return out;
}

/** Ranges of `batchSize` items, made larger if there would be more than `maxBatches`. */
export function cursorRanges(totalItems: number, batchSize: number, stepSize = 1, maxBatches?: number): CursorConfig[] {
  if (!(batchSize > 0)) throw new RangeError('batchSize must be positive');
  if (!(totalItems > 0)) return [];
  const size = maxBatches !== undefined && maxBatches > 0 ? Math.max(batchSize, Math.ceil(totalItems / maxBatches)) : batchSize;
  const out: CursorConfig[] = [];
  for (let start = 0; start < totalItems; start += size) {
    out.push({ startCursor: start, endCursor: Math.min(start + size, totalItems), stepSize, metadata: {} });
  }
  return out;
}

/** A batch worker's context; null if the step is no batch worker. */
export function batchContextOf(context: StepContext): BatchWorkerContext | null {
  const inputs = context.stepInputs;
  const { checkpoint } = context;
  if (isMap(inputs['cursor'])) return fromInputs(inputs, inputs['cursor'], checkpoint);
  for (const source of [inputs, context.stepConfig, context.inputData]) {
    const given = source['batch_context'] ?? source['batchContext'];
    if (isMap(given)) return fromGiven(given, checkpoint);
  }
  return null;
}

function fromInputs(inputs: Data, cursor: Data, checkpoint: CheckpointData | null): BatchWorkerContext {
  const metadata = isMap(inputs['batch_metadata']) ? inputs['batch_metadata'] : {};
  const range = cursorMap(cursor, 1);
  const size = typeof cursor['batch_size'] === 'number' ? cursor['batch_size'] : range.batch_size;
  const batchId = String(cursor['batch_id'] ?? 'unknown');
  return createBatchWorkerContext({
    batchId,
    cursorConfig: {
      startCursor: range.start_cursor ?? 0,
      endCursor: range.end_cursor ?? 0,
      stepSize: number(cursor['step_size'], size || 1),
      metadata: isMap(cursor['metadata']) ? cursor['metadata'] : {},
    },
    batchIndex: indexOf(inputs['batch_index'], batchId),
    totalBatches: number(inputs['total_batches'] ?? metadata['total_batches'], 1),
    batchMetadata: metadata,
    checkpoint: checkpoint ?? {},
    isNoOp: inputs['is_no_op'] === true,
    batchSize: size,
  });
}

function indexOf(given: unknown, batchId: string): number {
  if (typeof given === 'number') return given;
  return /^\d+$/.test(batchId) ? Math.max(Number(batchId) - 1, 0) : 0;
}

/** From a map of the context's own fields, as tests and older files write it. */
function fromGiven(given: Data, checkpoint: CheckpointData | null): BatchWorkerContext {
  const nested = pick(given, 'cursor_config', 'cursorConfig');
  const cursor = isMap(nested) ? nested : given;
  const own = given['checkpoint'];
  return createBatchWorkerContext({
    batchId: String(pick(given, 'batch_id', 'batchId') ?? 'unknown'),
    cursorConfig: {
      startCursor: pick(cursor, 'start_cursor', 'startCursor') ?? 0,
      endCursor: pick(cursor, 'end_cursor', 'endCursor') ?? 0,
      stepSize: number(pick(cursor, 'step_size', 'stepSize'), 1),
      metadata: isMap(cursor['metadata']) ? cursor['metadata'] : {},
    },
    batchIndex: number(pick(given, 'batch_index', 'batchIndex')),
    totalBatches: number(pick(given, 'total_batches', 'totalBatches'), 1),
    batchMetadata: (pick(given, 'batch_metadata', 'batchMetadata') ?? {}) as Data,
    checkpoint: isMap(own) && Object.keys(own).length > 0 ? own : (checkpoint ?? {}),
  });
}

/** What `createBatchWorkerContext` needs. */
export interface BatchWorkerContextParams {
  batchId: string;
  cursorConfig?: Partial<CursorConfig>;
  batchIndex?: number;
  totalBatches?: number;
  batchMetadata?: Data;
  checkpoint?: CheckpointData;
  isNoOp?: boolean;
  batchSize?: number;
}

/** A batch made by hand, for tests: from an object, or by its parts in order. */
export function createBatchWorkerContext(
  given: BatchWorkerContextParams | string,
  cursorConfig?: Partial<CursorConfig>,
  batchIndex = 0,
  totalBatches = 1,
  batchMetadata: Data = {},
  checkpoint: CheckpointData = {},
): BatchWorkerContext {
  const params = typeof given === 'string' ? { batchId: given, cursorConfig, batchIndex, totalBatches, batchMetadata, checkpoint } : given;
  const cursor: CursorConfig = { startCursor: 0, endCursor: 0, stepSize: 1, metadata: {}, ...params.cursorConfig };
  const range = typeof cursor.startCursor === 'number' && typeof cursor.endCursor === 'number' ? cursor.endCursor - cursor.startCursor : 0;
  const stored = params.checkpoint ?? {};
  return {
    batchId: params.batchId,
    cursorConfig: cursor,
    batchIndex: params.batchIndex ?? 0,
    totalBatches: params.totalBatches ?? 1,
    batchMetadata: params.batchMetadata ?? {},
    checkpoint: stored,
    isNoOp: ('isNoOp' in params && params.isNoOp) || false,
    batchSize: ('batchSize' in params ? params.batchSize : undefined) ?? range,
    startCursor: cursor.startCursor,
    endCursor: cursor.endCursor,
    stepSize: cursor.stepSize,
    checkpointCursor: stored.cursor ?? null,
    checkpointItemsProcessed: number(stored.items_processed),
    accumulatedResults: stored.accumulated_results ?? null,
    hasCheckpoint: () => stored.cursor !== undefined && stored.cursor !== null,
  };
}

/** A worker's outcome with all its fields, from one in either spelling. */
export function workerOutcome(given: Partial<BatchWorkerOutcome> | Data): BatchWorkerOutcome {
  const data = given as Data;
  const processed = number(pick(data, 'itemsProcessed', 'items_processed'));
  return {
    itemsProcessed: processed,
    itemsSucceeded: number(pick(data, 'itemsSucceeded', 'items_succeeded'), processed),
    itemsFailed: number(pick(data, 'itemsFailed', 'items_failed')),
    itemsSkipped: number(pick(data, 'itemsSkipped', 'items_skipped')),
    results: (pick(data, 'results') ?? []) as unknown[],
    errors: (pick(data, 'errors') ?? []) as unknown[],
    lastCursor: pick(data, 'lastCursor', 'last_cursor') ?? null,
    batchMetadata: (pick(data, 'batchMetadata', 'batch_metadata') ?? {}) as Data,
  };
}

/** The stored form of a worker's outcome. */
export function workerResult(outcome: BatchWorkerOutcome): Data {
  const out: Data = {
    items_processed: outcome.itemsProcessed,
    items_succeeded: outcome.itemsSucceeded,
    items_failed: outcome.itemsFailed,
    items_skipped: outcome.itemsSkipped,
    last_cursor: outcome.lastCursor,
    batch_metadata: outcome.batchMetadata,
  };
  // Results need not be a list: some workers report a map.
  if (filled(outcome.results)) out['results'] = outcome.results;
  if (filled(outcome.errors)) out['errors'] = outcome.errors;
  return out;
}

function filled(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : isMap(value) ? Object.keys(value).length > 0 : value !== null && value !== undefined;
}

/**
 * Look at the results of the steps before an aggregation. `dependencyResults` is the context, or its `dependencyResults`.
 * Throws if the analyzer has no result, or wanted workers and none of the names begins with `batchWorkerPrefix`.
 */
export function detectAggregationScenario(
  dependencyResults: StepContext | Data,
  batchableStepName: string,
  batchWorkerPrefix: string,
): BatchAggregationScenario {
  const results = outputs(dependencyResults);
  if (!Object.hasOwn(results, batchableStepName)) throw new Error(`no result of the batchable step '${batchableStepName}'`);
  const analyzed = results[batchableStepName] as Data;
  const outcome = isMap(analyzed) ? analyzed['batch_processing_outcome'] : undefined;
  if (isNoBatches(outcome)) return { isNoBatches: true, batchableResult: analyzed, batchResults: {}, workerCount: 0 };
  const names = Object.keys(results).filter((name) => name.startsWith(batchWorkerPrefix) && name !== batchableStepName);
  if (names.length === 0) throw new Error(`no result of a batch worker whose name begins with '${batchWorkerPrefix}'`);
  const batchResults = Object.fromEntries(names.map((name) => [name, results[name] as Data]));
  return { isNoBatches: false, batchableResult: analyzed, batchResults, workerCount: names.length };
}

/** Outputs by step name from a context or a map of envelopes. */
function outputs(source: StepContext | Data): Data {
  if (typeof source['getDependencyResultKeys'] === 'function') {
    const context = source as StepContext;
    return Object.fromEntries(context.getDependencyResultKeys().map((name) => [name, context.getDependencyResult(name)]));
  }
  const data = source as Data;
  return Object.fromEntries(Object.keys(data).map((name) => [name, unwrapResult(data[name])]));
}

/** Add up what batch workers returned. Entries that are null are left out. */
export function aggregateBatchResults(workerResults: readonly (Data | null | undefined)[], maxErrors = 100): BatchAggregationResult {
  const sum = { processed: 0, succeeded: 0, failed: 0, skipped: 0, count: 0 };
  const errors: unknown[] = [];
  for (const entry of workerResults) {
    const found = reported(entry);
    if (!found) continue;
    sum.count += 1;
    sum.processed += found.itemsProcessed;
    sum.succeeded += found.itemsSucceeded;
    sum.failed += found.itemsFailed;
    sum.skipped += found.itemsSkipped;
    if (Array.isArray(found.errors)) errors.push(...found.errors);
  }
  return {
    total_processed: sum.processed,
    total_succeeded: sum.succeeded,
    total_failed: sum.failed,
    total_skipped: sum.skipped,
    batch_count: sum.count,
    success_rate: sum.processed > 0 ? sum.succeeded / sum.processed : 0,
    errors: errors.slice(0, maxErrors),
    error_count: errors.length,
  };
}

function reported(entry: Data | null | undefined): BatchWorkerOutcome | undefined {
  if (!isMap(entry)) return undefined;
  const flat = 'items_processed' in entry || 'itemsProcessed' in entry || 'batch_worker_outcome' in entry;
  const value = flat ? entry : unwrapResult(entry);
  if (!isMap(value)) return undefined;
  const inner = value['batch_worker_outcome'];
  return workerOutcome(isMap(inner) ? inner : { items_succeeded: 0, ...value });
}
