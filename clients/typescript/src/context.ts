/** StepContext: everything a handler can see of its step. */

import { Claim, isMap, type Data } from './codec.js';
import { stepUuids } from './dependencies.js';
import { PermanentError, StepCancelledError } from './errors.js';
import { now } from './own.js';

/** What a context asks of the worker that runs it. */
export interface StepHost {
  storeCheckpoint(params: Data): Promise<string>;
  sendProgress(stepUuid: string, attempt: number, progress: unknown): void;
  sendLog(stepUuid: string | undefined, level: string, message: string, fields: Data): void;
}

/** A step of `step.execute`. */
export interface WireStep extends Data {
  step_uuid: string;
  task_uuid: string;
  attempt: number;
  claim: Buffer;
  handler: { callable: string; method?: string | null; resolver?: string | null; initialization?: Data | null };
}

/** The result of an earlier step with what is known about it. */
export interface DependencyEnvelope extends Data {
  stepUuid: string | null;
  success: boolean;
  result: unknown;
  status: string;
  errorMessage: string | null;
  errorType: string | null;
  errorRetryable: boolean | null;
}

/** How far a batch worker's step was at its last checkpoint. */
export interface CheckpointData extends Data {
  cursor?: unknown;
  items_processed?: number;
  accumulated_results?: unknown;
}

/** The daemon's data of an attempt in its raw form. */
export interface StepEvent extends Data {
  eventId: string;
  taskUuid: string;
  stepUuid: string;
  correlationId: string;
  taskCorrelationId: string;
  parentCorrelationId: string | null;
  traceId: string | null;
  spanId: string | null;
  task: Data;
  workflowStep: Data;
  stepDefinition: Data;
  dependencyResults: Data;
}

export interface StepContextParams {
  event?: unknown;
  taskUuid?: string;
  stepUuid?: string;
  correlationId?: string;
  handlerName?: string;
  inputData?: Data;
  dependencyResults?: Data;
  stepConfig?: Data;
  stepInputs?: Data;
  retryCount?: number;
  maxRetries?: number;
  checkpoint?: CheckpointData | null;
}

export const WAITING = 0;
export const RUNNING = 1;
export const FINISHED = 2;
export const ABANDONED = 3;

/** How the worker keeps what belongs to an attempt and is not for handlers. */
export class Attempt {
  stage: number = WAITING;
  cancelReason: string | undefined;
  /** When the handler began, and when the worker's own limit for it is over. */
  startedAt = 0;
  deadline = Infinity;
  controller: AbortController | undefined;

  constructor(
    readonly key: string,
    readonly step: WireStep,
    readonly host: StepHost,
    readonly received: number,
  ) {}

  cancel(reason: string): void {
    if (this.cancelReason !== undefined) return;
    this.cancelReason = reason;
    this.controller?.abort(new StepCancelledError(`step cancelled: ${reason}`));
  }
}

/** Attempts by context; contexts made by hand have none. */
const ATTEMPT = Symbol('taskerd.attempt');

/** The attempt behind a context. */
export function attemptOf(context: StepContext): Attempt | undefined {
  return context[ATTEMPT];
}

function own(data: unknown, key: string): unknown {
  return typeof data === 'object' && data !== null && Object.hasOwn(data, key) ? (data as Data)[key] : undefined;
}

/** One level of an envelope: the value under `result` if there is such a key, else the entry itself. */
export function unwrapResult(entry: unknown): unknown {
  return isMap(entry) && Object.hasOwn(entry, 'result') ? entry['result'] : entry;
}

/**
 * One attempt of one step.
 *
 * Handlers read it. In tests a context can be made by hand: `new StepContext({inputData: {id: 7}, dependencyResults: {earlier:
 * {result: {...}}}})`; `taskerd/testing` has an easier way.
 */
export class StepContext {
  readonly [ATTEMPT]: Attempt | undefined;
  /** Name of the handler that runs the step. */
  handlerName: string;
  readonly retryCount: number;
  readonly maxRetries: number;
  private readonly params: StepContextParams;
  private results: Data | undefined;
  private envelopes: Data | undefined;
  private raw: StepEvent | undefined;
  private current: CheckpointData | null | undefined;

  constructor(params: StepContextParams, attempt?: Attempt) {
    this.params = params;
    this[ATTEMPT] = attempt;
    this.handlerName = params.handlerName ?? '';
    this.retryCount = params.retryCount ?? 0;
    this.maxRetries = params.maxRetries ?? 3;
  }

  /** Wrap a step of `step.execute`. */
  static fromStep(attempt: Attempt): StepContext {
    const { step } = attempt;
    const max = step['max_attempts'];
    const params = { handlerName: step.handler.callable, retryCount: step.attempt - 1, maxRetries: typeof max === 'number' ? max : 3 };
    return new StepContext(params, attempt);
  }

  /** A context from a raw event (for tests written for it). */
  static fromFfiEvent(event: unknown, handlerName: string): StepContext {
    return new StepContext(paramsOfEvent(event as Data, handlerName));
  }

  // -- ids ---------------------------------------------------------------------------------------

  get taskUuid(): string {
    return this[ATTEMPT]?.step.task_uuid ?? this.params.taskUuid ?? '';
  }

  get stepUuid(): string {
    return this[ATTEMPT]?.step.step_uuid ?? this.params.stepUuid ?? '';
  }

  get correlationId(): string {
    const step = this[ATTEMPT]?.step;
    return step ? textOr(step['correlation_id'], step.task_uuid) : (this.params.correlationId ?? '');
  }

  /** Name of the step in its task. */
  get stepName(): string {
    return textOr(this[ATTEMPT]?.step['step'], '');
  }

  /** Namespace of the task. */
  get namespace(): string {
    return textOr(this[ATTEMPT]?.step['namespace'], 'default');
  }

  /** The daemon's data of the attempt in its raw form. */
  get event(): StepEvent {
    this.raw ??= this[ATTEMPT] ? eventOf(this, this[ATTEMPT].step) : ((this.params.event ?? {}) as StepEvent);
    return this.raw;
  }

  // -- the task's input --------------------------------------------------------------------------

  /** What the task was created with. */
  get inputData(): Data {
    return mapOr(this[ATTEMPT] ? this[ATTEMPT].step['context'] : this.params.inputData);
  }

  /** The template's `handler.initialization`. */
  get stepConfig(): Data {
    return mapOr(this[ATTEMPT] ? this[ATTEMPT].step.handler.initialization : this.params.stepConfig);
  }

  /** Inputs of this step instance; for an ordinary step the same as `stepConfig`. */
  get stepInputs(): Data {
    const step = this[ATTEMPT]?.step;
    return step ? mapOr(step['inputs'] ?? step.handler.initialization) : mapOr(this.params.stepInputs);
  }

  /** A value of the task's context, undefined if absent. */
  getInput<T = unknown>(key: string): T | undefined {
    return own(this.inputData, key) as T | undefined;
  }

  /** A value of the task's context; `defaultValue` if it is absent. */
  getInputOr<T = unknown>(key: string, defaultValue: T): T {
    const value = own(this.inputData, key);
    return value === undefined ? defaultValue : (value as T);
  }

  /** A value of the template's `initialization`, undefined if absent. */
  getConfig<T = unknown>(key: string): T | undefined {
    return own(this.stepConfig, key) as T | undefined;
  }

  // -- results of earlier steps ------------------------------------------------------------------

  private outputs(): Data {
    if (this.results === undefined) {
      const step = this[ATTEMPT]?.step;
      if (step) this.results = mapOr(step['dependencies']);
      else {
        const given = this.params.dependencyResults ?? {};
        this.results = Object.fromEntries(Object.keys(given).map((name) => [name, unwrapResult(given[name])]));
      }
    }
    return this.results;
  }

  /** Results of earlier steps with what is known about them; see `getDependencyResult`. */
  get dependencyResults(): Data {
    if (!this[ATTEMPT]) return this.params.dependencyResults ?? {};
    if (!this.envelopes) {
      const uuids = stepUuids(this[ATTEMPT].step);
      this.envelopes = Object.fromEntries(Object.entries(this.outputs()).map(([name, result]) => [name, envelopeOf(result, uuids.get(name) ?? null)]));
    }
    return this.envelopes;
  }

  /** The output of an earlier step (any ancestor that has completed), null if there is none. */
  getDependencyResult<T = unknown>(stepName: string): T | null {
    return (own(this.outputs(), stepName) ?? null) as T | null;
  }

  /** A value inside an earlier step's output; null as soon as the path leaves the data, undefined if its last key is absent. */
  getDependencyField<T = unknown>(stepName: string, ...path: string[]): T | null | undefined {
    let value: unknown = this.getDependencyResult(stepName);
    for (const part of path) {
      if (typeof value !== 'object' || value === null) return null;
      value = own(value, String(part));
    }
    return value as T | null | undefined;
  }

  /** Names of the earlier steps that have results. */
  getDependencyResultKeys(): string[] {
    return Object.keys(this.outputs());
  }

  /** Outputs, null left out, of all earlier steps whose name begins with `prefix`. */
  getAllDependencyResults<T = unknown>(prefix: string): T[] {
    const outputs = this.outputs();
    const found = Object.keys(outputs).filter((name) => name.startsWith(prefix));
    return found.map((name) => outputs[name]).filter((value) => value !== null && value !== undefined) as T[];
  }

  // -- attempts ----------------------------------------------------------------------------------

  /** This attempt, counted from 1. */
  get attempt(): number {
    return this.retryCount + 1;
  }

  /** True if an attempt was made before this one. */
  isRetry(): boolean {
    return this.retryCount > 0;
  }

  /** True if no attempt is left after this one. */
  isLastRetry(): boolean {
    return this.retryCount >= this.maxRetries - 1;
  }

  // -- checkpoint --------------------------------------------------------------------------------

  /** What the last checkpoint stored, null if there is none. */
  get checkpoint(): CheckpointData | null {
    if (this.current === undefined) this.current = this.storedCheckpoint();
    return this.current;
  }

  private storedCheckpoint(): CheckpointData | null {
    const step = this[ATTEMPT]?.step;
    if (step) return isMap(step['checkpoint']) ? step['checkpoint'] : null;
    if (this.params.checkpoint !== undefined) return this.params.checkpoint;
    const workflowStep = own(this.params.event, 'workflowStep') ?? own(this.params.event, 'workflow_step');
    const found = own(workflowStep, 'checkpoint');
    return isMap(found) ? found : null;
  }

  /** Where the last checkpoint stands. */
  get checkpointCursor(): unknown {
    return this.checkpoint?.cursor ?? null;
  }

  /** Items done up to the last checkpoint. */
  get checkpointItemsProcessed(): number {
    return Number(this.checkpoint?.items_processed ?? 0);
  }

  /** What earlier parts of the step have collected. */
  get accumulatedResults(): unknown {
    return this.checkpoint?.accumulated_results ?? null;
  }

  /** True if a checkpoint with a cursor exists. */
  hasCheckpoint(): boolean {
    return this.checkpointCursor !== null;
  }

  /**
   * Store how far the step is and go on. It is durable when the promise is fulfilled: another attempt, should one be needed,
   * finds it as `checkpoint`. Throws StepCancelledError if the attempt no longer counts, and PermanentError if the daemon
   * cannot store it.
   */
  async saveCheckpoint(cursor: unknown, itemsProcessed?: number, accumulatedResults?: unknown): Promise<void> {
    const made: CheckpointData = { cursor };
    if (itemsProcessed !== undefined) made.items_processed = itemsProcessed;
    if (accumulatedResults !== undefined) made.accumulated_results = accumulatedResults;
    const attempt = this[ATTEMPT];
    if (attempt) {
      const { step_uuid, attempt: number, claim } = attempt.step;
      const status = await attempt.host.storeCheckpoint({ step_uuid, attempt: number, claim: new Claim(claim), ...made });
      if (status === 'rejected') throw new PermanentError('the checkpoint cannot be stored: it is too large, or holds a bad value');
      if (status !== 'recorded') throw new StepCancelledError(`the checkpoint does not count: ${status}`);
    }
    this.current = made;
  }

  // -- cancelling and time -----------------------------------------------------------------------

  /** Aborted when the daemon takes the attempt back: pass it to `fetch`, `setTimeout` of `node:timers/promises`, ... */
  get signal(): AbortSignal {
    const attempt = this[ATTEMPT];
    if (!attempt) return new AbortController().signal;
    if (!attempt.controller) {
      attempt.controller = new AbortController();
      if (attempt.cancelReason !== undefined) attempt.controller.abort(new StepCancelledError(`step cancelled: ${attempt.cancelReason}`));
    }
    return attempt.controller.signal;
  }

  /** True once the daemon has taken the attempt back; whatever the handler returns is void. */
  get cancelled(): boolean {
    return this[ATTEMPT]?.cancelReason !== undefined;
  }

  /** `timeout`, `task_cancelled`, `batch_failed`, `stale` or `shutdown`; null while the attempt counts. */
  get cancelReason(): string | null {
    return this[ATTEMPT]?.cancelReason ?? null;
  }

  /** Leave the handler if the attempt was cancelled. */
  throwIfCancelled(): void {
    const reason = this.cancelReason;
    if (reason !== null) throw new StepCancelledError(`step cancelled: ${reason}`);
  }

  /** Milliseconds until the daemon ends the attempt; null if the template sets no timeout. */
  get remainingMs(): number | null {
    const attempt = this[ATTEMPT];
    const limit = attempt?.step['timeout_ms'];
    if (!attempt || typeof limit !== 'number') return null;
    return Math.max(0, limit - (now() - attempt.received));
  }

  // -- telling people ----------------------------------------------------------------------------

  /** Show progress to whoever looks at the step. Changes nothing else. */
  heartbeat(progress?: unknown): void {
    const attempt = this[ATTEMPT];
    attempt?.host.sendProgress(attempt.step.step_uuid, attempt.step.attempt, progress);
  }

  /** Write a line with the step's ids to the daemon's log. `level`: `trace`, `debug`, `info`, `warn` or `error`. */
  log(level: string, message: string, fields: Data = {}): void {
    const attempt = this[ATTEMPT];
    attempt?.host.sendLog(attempt.step.step_uuid, level, message, fields);
  }
}

function mapOr(value: unknown): Data {
  return isMap(value) ? value : {};
}

function textOr(value: unknown, fallback: string): string {
  return typeof value === 'string' ? value : fallback;
}

/** A failure that its batch tolerates is there as `{error: {...}}`. */
function envelopeOf(result: unknown, stepUuid: string | null): DependencyEnvelope {
  const names = isMap(result) ? Object.keys(result) : [];
  const error = names.length === 1 && names[0] === 'error' ? (result as Data)['error'] : null;
  const failed = isMap(error);
  return {
    stepUuid,
    success: !failed,
    result,
    status: failed ? 'failed' : 'completed',
    errorMessage: failed ? textOr(error['message'], '') : null,
    errorType: failed ? textOr(error['error_type'], '') : null,
    errorRetryable: failed ? error['retryable'] === true : null,
  };
}

/** What the daemon does not send with a step; the keys are there for code that names them. */
const ABSENT_STEP = { namedStepUuid: null, results: null, backoffRequestSeconds: null, processedAt: null, lastAttemptedAt: null, createdAt: null, updatedAt: null };

function eventOf(context: StepContext, step: WireStep): StepEvent {
  const trace = textOr(step['traceparent'], '').split('-');
  const traced = trace.length === 4;
  const name = textOr(step['step'], '');
  const templateName = textOr(step['template_step'], name);
  const { correlationId, taskUuid, stepUuid } = context;
  const parent = typeof step['parent_correlation_id'] === 'string' ? step['parent_correlation_id'] : null;
  const timeout = step['timeout_ms'];
  return {
    eventId: `${stepUuid}:${step.attempt}`,
    taskUuid,
    stepUuid,
    correlationId,
    taskCorrelationId: correlationId,
    parentCorrelationId: parent,
    traceId: traced ? (trace[1] as string) : null,
    spanId: traced ? (trace[2] as string) : null,
    task: {
      taskUuid,
      name: step['template'] ?? null,
      namespace: step['namespace'] ?? null,
      version: step['version'] ?? null,
      context: context.inputData,
      correlationId,
      parentCorrelationId: parent,
      priority: step['priority'] ?? 0,
    },
    workflowStep: {
      workflowStepUuid: stepUuid,
      taskUuid,
      name,
      templateStepName: templateName,
      retryable: step['retryable'] !== false,
      maxAttempts: context.maxRetries,
      attempts: context.retryCount,
      inProcess: true,
      processed: false,
      inputs: context.stepInputs,
      checkpoint: context.checkpoint,
      ...ABSENT_STEP,
    },
    stepDefinition: {
      name: templateName,
      description: null,
      handlerCallable: step.handler.callable,
      handlerMethod: step.handler.method ?? null,
      handlerResolver: step.handler.resolver ?? null,
      handlerInitialization: context.stepConfig,
      dependencies: [],
      timeoutSeconds: typeof timeout === 'number' ? timeout / 1000 : null,
      retryRetryable: step['retryable'] !== false,
      retryMaxAttempts: context.maxRetries,
      publishesEvents: step['publishes_events'] ?? [],
    },
    dependencyResults: context.dependencyResults,
  };
}

/** Params from a raw event in its own spelling, or with the keys that other languages see. */
function paramsOfEvent(event: Data, handlerName: string): StepContextParams {
  const task = own(event, 'task');
  const step = own(event, 'workflowStep') ?? own(event, 'workflow_step');
  const definition = own(event, 'stepDefinition') ?? own(event, 'step_definition');
  const handler = own(definition, 'handler');
  const attempts = own(step, 'attempts');
  const max = own(step, 'maxAttempts') ?? own(step, 'max_attempts');
  const inner = own(task, 'task') ?? task;
  return {
    event,
    taskUuid: textOr(own(event, 'taskUuid') ?? own(event, 'task_uuid'), ''),
    stepUuid: textOr(own(event, 'stepUuid') ?? own(event, 'step_uuid'), ''),
    correlationId: textOr(own(event, 'correlationId') ?? own(event, 'correlation_id'), ''),
    handlerName,
    inputData: mapOr(own(inner, 'context')),
    dependencyResults: mapOr(own(event, 'dependencyResults') ?? own(event, 'dependency_results')),
    stepConfig: mapOr(own(definition, 'handlerInitialization') ?? own(handler, 'initialization')),
    stepInputs: mapOr(own(step, 'inputs')),
    retryCount: typeof attempts === 'number' ? attempts : 0,
    maxRetries: typeof max === 'number' ? max : 3,
  };
}
