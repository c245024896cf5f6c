/** What a handler returns, and how thrown errors become results. */

import type { Data } from './codec.js';
import { TaskerdError, retryAfterOf, stepErrorKind } from './errors.js';

/** The standard error types. Any other string may be used as well. */
export const ErrorType = {
  PERMANENT_ERROR: 'permanent_error',
  RETRYABLE_ERROR: 'retryable_error',
  VALIDATION_ERROR: 'validation_error',
  TIMEOUT: 'timeout',
  HANDLER_ERROR: 'handler_error',
} as const;
export type ErrorType = (typeof ErrorType)[keyof typeof ErrorType];

/** True for one of the five types of `ErrorType`. */
export function isStandardErrorType(errorType: string): errorType is ErrorType {
  return (Object.values(ErrorType) as string[]).includes(errorType);
}

/** True for the types that usually ask for another attempt. */
export function isTypicallyRetryable(errorType: string): boolean {
  return errorType === ErrorType.RETRYABLE_ERROR || errorType === ErrorType.TIMEOUT;
}

/** Hints for whoever plans the next attempt. `delaySeconds`, or a header `Retry-After`, replaces the template's backoff. */
export interface OrchestrationMetadata {
  headers?: Record<string, string>;
  errorContext?: string | null;
  backoffHint?: { backoffType?: string; delaySeconds?: number; context?: string | null } | null;
  custom?: Data;
}

export interface StepHandlerResultParams {
  success: boolean;
  result?: Data | null;
  errorMessage?: string | null;
  errorType?: string | null;
  errorCode?: string | null;
  retryable?: boolean;
  metadata?: Data;
  orchestrationMetadata?: OrchestrationMetadata | null;
}

const BRAND = Symbol.for('taskerd.StepHandlerResult');

/**
 * Success or failure of one attempt. Made by `success()` and `failure()`.
 *
 * `retryable` alone decides whether another attempt is made; `errorType` is for people.
 */
export class StepHandlerResult {
  readonly success: boolean;
  readonly result: Data | null;
  readonly errorMessage: string | null;
  readonly errorType: string | null;
  readonly errorCode: string | null;
  readonly retryable: boolean;
  readonly metadata: Data;
  readonly orchestrationMetadata: OrchestrationMetadata | null;

  constructor(params: StepHandlerResultParams) {
    this.success = params.success;
    this.result = params.result ?? null;
    this.errorMessage = params.errorMessage ?? null;
    this.errorType = params.errorType ?? null;
    this.errorCode = params.errorCode ?? null;
    this.retryable = params.retryable ?? !params.success;
    this.metadata = params.metadata ?? {};
    this.orchestrationMetadata = params.orchestrationMetadata ?? null;
  }

  get [BRAND](): boolean {
    return true;
  }

  /** The step is done; `result` is what later steps see. */
  static success(result: Data = {}, metadata: Data = {}): StepHandlerResult {
    return new StepHandlerResult({ success: true, result, metadata, retryable: false });
  }

  /** The attempt failed; another one is made if `retryable` and attempts are left. */
  static failure(
    message: string,
    errorType: ErrorType | string = ErrorType.HANDLER_ERROR,
    retryable = true,
    metadata: Data = {},
    errorCode?: string | null,
  ): StepHandlerResult {
    return new StepHandlerResult({
      success: false,
      errorMessage: message,
      errorType,
      retryable,
      metadata,
      errorCode: errorCode ?? null,
    });
  }

  /** The step is not done: store how far it is and run it again at once, as the same attempt. */
  static checkpointYield(cursor: unknown, itemsProcessed: number, accumulatedResults?: unknown): StepHandlerResult {
    const result: Data = { type: 'checkpoint_yield', cursor, items_processed: itemsProcessed };
    if (accumulatedResults !== undefined && accumulatedResults !== null) result['accumulated_results'] = accumulatedResults;
    return StepHandlerResult.success(result, { checkpoint_yield: true, batch_worker: true });
  }

  isSuccess(): boolean {
    return this.success;
  }

  isFailure(): boolean {
    return !this.success;
  }

  /** The result as plain data with snake_case keys. */
  toJSON(): Data {
    return {
      success: this.success,
      result: this.result,
      error_message: this.errorMessage,
      error_type: this.errorType,
      error_code: this.errorCode,
      retryable: this.retryable,
      metadata: this.metadata,
      ...(this.orchestrationMetadata ? { orchestration_metadata: this.orchestrationMetadata } : {}),
    };
  }
}

/** True for a result, also if another copy of this package has made it. */
export function isResult(value: unknown): value is StepHandlerResult {
  return typeof value === 'object' && value !== null && (value as { [BRAND]?: unknown })[BRAND] === true;
}

/** What a handler returned, as a result: objects as they are, nothing as `{}`, anything else as `{result: value}`. */
export function resultFromValue(value: unknown): StepHandlerResult {
  if (isResult(value)) return value;
  if (value === undefined || value === null) return StepHandlerResult.success({});
  if (typeof value !== 'object' || Array.isArray(value)) return StepHandlerResult.success({ result: value });
  if (isResultShape(value as Data)) return new StepHandlerResult(value as StepHandlerResultParams & Data);
  return StepHandlerResult.success(value as Data);
}

/** A plain object with the fields of a failure is meant as one. */
function isResultShape(value: Data): boolean {
  return (
    typeof value['success'] === 'boolean' &&
    typeof value['retryable'] === 'boolean' &&
    ('errorMessage' in value || (value['success'] && typeof value['result'] === 'object'))
  );
}

/**
 * What an uncaught error means for the step: a PermanentError is final, a RetryableError asks for another attempt (after its
 * `retryAfter`), the library's other errors follow their `retryable`, everything else is retryable.
 */
export function failureFromError(error: unknown): StepHandlerResult {
  const message = messageOf(error);
  const kind = stepErrorKind(error);
  if (kind !== undefined) {
    const thrown = error as { metadata?: Data; errorCode?: string; retryAfter?: number };
    const metadata: Data = { ...thrown.metadata };
    if (typeof thrown.retryAfter === 'number' && retryAfterOf(metadata) === undefined) metadata['retry_after'] = thrown.retryAfter;
    const type = kind === 'permanent' ? ErrorType.PERMANENT_ERROR : ErrorType.RETRYABLE_ERROR;
    return StepHandlerResult.failure(message, type, kind !== 'permanent', metadata, thrown.errorCode);
  }
  const metadata: Data = { exception_type: nameOf(error), errorType: nameOf(error) };
  if (error instanceof Error && error.stack) metadata['traceback'] = error.stack;
  if (error instanceof TaskerdError) {
    if (error.retryAfter !== undefined) metadata['retry_after'] = error.retryAfter;
    return StepHandlerResult.failure(message, ErrorType.HANDLER_ERROR, error.retryable, metadata, error.code);
  }
  return StepHandlerResult.failure(message, ErrorType.HANDLER_ERROR, true, metadata);
}

function nameOf(error: unknown): string {
  if (error instanceof Error) return error.constructor.name || error.name;
  return error === null ? 'null' : typeof error;
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  try {
    if (error instanceof Error) return withCause(error.message || nameOf(error), error.cause);
    if (typeof error === 'object' && error !== null && typeof (error as Data)['message'] === 'string') return (error as { message: string }).message;
    return String(error);
  } catch {
    return 'a value was thrown that cannot be shown';
  }
}

/** Node's `fetch failed` says only in its cause what failed. */
function withCause(message: string, cause: unknown): string {
  if (!(cause instanceof Error)) return message;
  const why = cause.message || String((cause as NodeJS.ErrnoException).code ?? nameOf(cause));
  return message.includes(why) ? message : `${message}: ${why}`;
}
