/** What goes wrong: in handlers (to steer their steps), in the library, in the daemon's answers. */

type Details = Record<string, unknown>;

const KIND = Symbol.for('taskerd.error.kind');

/** Base of everything the library itself raises. */
export class TaskerError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** How an error that a handler throws says what shall become of its step. */
export interface StepErrorOptions extends Details {
  /** A code for programs, stored with the error. */
  errorCode?: string;
  /** Seconds until the next attempt; replaces the template's backoff. */
  retryAfter?: number;
}

/** What a handler throws to steer its step. The second argument may also be an error code alone. */
abstract class StepError extends TaskerError {
  abstract readonly retryable: boolean;
  readonly metadata: Details;
  readonly errorCode: string | undefined;
  readonly retryAfter: number | undefined;

  constructor(message: string, metadata?: StepErrorOptions | string) {
    super(message);
    const given: Details = typeof metadata === 'string' ? { errorCode: metadata } : { ...metadata };
    this.metadata = given;
    const code = given['errorCode'] ?? given['error_code'] ?? given['code'];
    this.errorCode = typeof code === 'string' ? code : undefined;
    this.retryAfter = retryAfterOf(given);
  }
}

/** Seconds to wait, from the keys under which handlers put it. */
export function retryAfterOf(data: Details): number | undefined {
  for (const key of ['retryAfter', 'retry_after', 'retryAfterSeconds', 'retry_after_seconds']) {
    const value = data[key];
    if (typeof value === 'number' && value >= 0 && value < 1e9) return value;
  }
  const ms = data['retryAfterMs'] ?? data['retry_after_ms'];
  return typeof ms === 'number' && ms >= 0 && ms < 1e12 ? ms / 1000 : undefined;
}

/** The step has failed for good: no other attempt is made. */
export class PermanentError extends StepError {
  readonly retryable: boolean = false;
  get [KIND](): string {
    return 'permanent';
  }
}

/** The attempt has failed; another one is made if attempts are left. */
export class RetryableError extends StepError {
  readonly retryable: boolean = true;
  get [KIND](): string {
    return 'retryable';
  }
}

/** Thrown by `context.throwIfCancelled()`, and the reason of `context.signal`. */
export class StepCancelledError extends RetryableError {}

/** `permanent`, `retryable` or undefined: what an error is, also if another copy of this package has made it. */
export function stepErrorKind(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const kind = (error as { [KIND]?: unknown })[KIND];
  return typeof kind === 'string' ? kind : undefined;
}

/** A worker could not be started. */
export class WorkerBootstrapError extends TaskerError {}

/** A worker is running already. */
export class WorkerAlreadyRunningError extends TaskerError {}

/** A value cannot be expressed in the JSON data model. `path` says where in the value. */
export class ConversionError extends TaskerError {
  constructor(
    message: string,
    readonly path: string = '',
  ) {
    super(path ? `${path}: ${message}` : message);
  }
}

/** The daemon refused a request, or could not be reached. */
export class TaskerdError extends TaskerError {
  /** The protocol's error code. */
  readonly code: string;
  /** True if the same request may succeed later. */
  readonly retryable: boolean;
  /** Seconds that the daemon asks to wait before that. */
  readonly retryAfter: number | undefined;
  /** Where in the params. */
  readonly path: string | undefined;
  readonly details: unknown;

  constructor(code: string, message: string, more: { retryAfter?: number; path?: string; details?: unknown; cause?: unknown } = {}) {
    super(message + (more.path ? ` (at ${more.path})` : '') + ` [${code}]`, more.cause === undefined ? undefined : { cause: more.cause });
    this.code = code;
    this.retryable = RETRYABLE_CODES.has(code);
    this.retryAfter = more.retryAfter;
    this.path = more.path;
    this.details = more.details;
  }

  /** Kept for code that reads the reference's name of it. */
  get recoverable(): boolean {
    return this.retryable;
  }

  /** The error for an `error` map of the protocol. */
  static fromWire(error: Details): TaskerdError {
    const code = typeof error['code'] === 'string' ? error['code'] : 'internal';
    const wait = error['retry_after_ms'];
    const more = {
      ...(typeof wait === 'number' ? { retryAfter: wait / 1000 } : {}),
      ...(typeof error['path'] === 'string' && error['path'] ? { path: error['path'] } : {}),
      details: error['details'],
    };
    const Kind = BY_CODE[code] ?? TaskerdError;
    return new Kind(code, withFindings(typeof error['message'] === 'string' ? error['message'] : code, error['details']), more);
  }
}

const RETRYABLE_CODES = new Set(['overloaded', 'database_unavailable', 'shutting_down', 'connection_lost', 'timeout']);

/** The message with what the daemon lists below it: findings of a template, violations of a context. */
function withFindings(message: string, details: unknown): string {
  const given = details as { findings?: unknown; violations?: unknown } | null | undefined;
  const rows = (given?.findings ?? given?.violations) as unknown;
  if (!Array.isArray(rows)) return message;
  return message + (rows as Details[]).map((row) => `\n  ${findingLine(row)}`).join('');
}

/** A finding as compilers write theirs: `FILE:LINE:COLUMN: KEY: MESSAGE`. */
export function findingLine(row: Details): string {
  const place = [row['file'], row['line'], row['column']].filter((part) => part !== undefined && part !== null).join(':');
  const what = String(row['key'] ?? row['instance'] ?? '');
  return [place, what, String(row['message'] ?? '')].filter((part) => part !== '').join(': ');
}

/** One side sent bytes the other does not accept; the connection is closed. */
export class ProtocolError extends TaskerdError {
  constructor(codeOrMessage: string, message?: string, more?: ConstructorParameters<typeof TaskerdError>[2]) {
    super('protocol_error', message ?? codeOrMessage, more);
  }
}

/** Daemon and library speak different major versions; `details` holds both. */
export class UnsupportedVersionError extends TaskerdError {}
/** A parameter is missing or has the wrong type; `path` says which. */
export class BadRequestError extends TaskerdError {}
/** A value lies outside the JSON data model; `path` says which. */
export class InvalidValueError extends TaskerdError {}
/** Over one of the daemon's limits; `details` names it. */
export class TooLargeError extends TaskerdError {}
/** No such task, step or template. */
export class NotFoundError extends TaskerdError {}
/** The template is not registered. */
export class TemplateNotFoundError extends NotFoundError {}
/** The context does not fit the template's `input_schema`; `details.violations` lists where and why. */
export class InvalidContextError extends TaskerdError {}
/** The template was refused; `details.findings` lists every complaint with file and line. */
export class InvalidTemplateError extends TaskerdError {}
/** An identity or version is taken, or the state forbids the change. */
export class ConflictError extends TaskerdError {}
/** This process's user lacks the role for the request. */
export class PermissionDeniedError extends TaskerdError {}
/** The daemon reached a bound; try again after `retryAfter`. */
export class OverloadedError extends TaskerdError {}
/** The daemon has no database at the moment; try again after `retryAfter`. */
export class DatabaseUnavailableError extends TaskerdError {}
/** The daemon is stopping; try again on a new connection. */
export class ShuttingDownError extends TaskerdError {}

/** The daemon cannot be reached, or the connection broke before the answer; then (`sent`) it may have done what was asked. */
export class ConnectionLostError extends TaskerdError {
  constructor(
    message: string,
    readonly sent = false,
  ) {
    super('connection_lost', message);
  }
}

/** No answer within the time allowed; the daemon may still do what was asked. */
export class RequestTimeoutError extends TaskerdError {
  constructor(message: string) {
    super('timeout', message);
  }
}

const BY_CODE: Record<string, typeof TaskerdError> = {
  protocol_error: ProtocolError as unknown as typeof TaskerdError,
  unsupported_version: UnsupportedVersionError,
  bad_request: BadRequestError,
  invalid_value: InvalidValueError,
  too_large: TooLargeError,
  not_found: NotFoundError,
  template_not_found: TemplateNotFoundError,
  invalid_context: InvalidContextError,
  invalid_template: InvalidTemplateError,
  conflict: ConflictError,
  permission_denied: PermissionDeniedError,
  overloaded: OverloadedError,
  database_unavailable: DatabaseUnavailableError,
  shutting_down: ShuttingDownError,
};

/** What to show of a system error: runtimes differ in how much of it they put into the message. */
export function messageFor(error: NodeJS.ErrnoException): string {
  return error.code && !error.message.includes(error.code) ? `${error.message} (${error.code})` : error.message;
}
