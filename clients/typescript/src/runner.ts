/** One attempt: find the handler, run it, turn what comes out into the bytes of a result. */

import { Encoder, isMap, isThenable, safeText, splitLimits, DEFAULT_LIMITS, type Data } from './codec.js';
import { RUNNING, StepContext, type Attempt } from './context.js';
import { ConversionError, retryAfterOf } from './errors.js';
import { hasPublishers, stepEvents } from './events/collect.js';
import { currentStep, log, quoted } from './log.js';
import type { Tracing } from './otel.js';
import { now } from './own.js';
import { ResolutionError, newHandler, type HandlerRegistry } from './registry.js';
import { StepHandlerResult, failureFromError, messageOf, resultFromValue } from './results.js';

const MAX_MESSAGE = 16384;
const MAX_BACKTRACE = 64;

/** What is told of an attempt that has ended. */
export type Done = (attempt: Attempt, result: StepHandlerResult, elapsedMs: number, events?: Data[]) => void;

/** Runs attempts. */
export class StepRunner {
  /** Bytes and items one result may have; replaced after each handshake. */
  room: [number, number] = splitLimits(DEFAULT_LIMITS);
  private readonly encoder = new Encoder();

  constructor(
    readonly registry: HandlerRegistry,
    public tracing?: Tracing,
  ) {}

  /** Run one attempt; `done` is called once, perhaps before this returns. Never throws. */
  run(attempt: Attempt, done: Done): void {
    const context = StepContext.fromStep(attempt);
    attempt.stage = RUNNING;
    attempt.startedAt = now();
    const settle = (value: unknown): void => this.finish(context, attempt, read(value), done);
    const fail = (error: unknown): void => this.finish(context, attempt, failureFromError(error), done);
    let value: unknown;
    try {
      value = currentStep.run(context, begin, this, context, attempt);
    } catch (error) {
      fail(error);
      return;
    }
    if (isThenable(value)) value.then(settle, fail);
    else settle(value);
  }

  /** The result of one attempt; never rejects. For replay and tests. */
  attempt(attempt: Attempt): Promise<StepHandlerResult> {
    return new Promise((resolve) => this.run(attempt, (_, result) => resolve(result)));
  }

  /** What the handler returns; for `run`. */
  call(context: StepContext, attempt: Attempt): unknown {
    if (attempt.cancelReason !== undefined) {
      return StepHandlerResult.failure(`cancelled before it began: ${attempt.cancelReason}`, 'cancelled');
    }
    const spec = attempt.step.handler;
    const plain = !spec.resolver && (!spec.method || spec.method === 'call');
    const entry = plain ? this.registry.entry(spec.callable) : undefined;
    if (entry === undefined) return this.resolved(context, spec);
    return newHandler(entry).call(context);
  }

  private async resolved(context: StepContext, spec: Data): Promise<unknown> {
    const name = spec['callable'];
    try {
      const handler = await this.registry.resolverChain.resolve(spec);
      if (!handler) return unresolved(name, 'no resolver knows it');
      return await handler.call(context);
    } catch (error) {
      if (error instanceof ResolutionError) return unresolved(name, error.message);
      throw error;
    }
  }

  private finish(context: StepContext, attempt: Attempt, result: StepHandlerResult, done: Done): void {
    const elapsed = now() - attempt.startedAt;
    if (!result.success) logFailure(context, attempt, result);
    if (attempt.step['publishes_events'] === undefined || !hasPublishers()) {
      done(attempt, result, elapsed);
      return;
    }
    void stepEvents(context, attempt, result).then((events) => done(attempt, result, elapsed, events));
  }

  /** The packed item of `step.result`; a failure that says why if the result cannot be sent. */
  encode(attempt: Attempt, result: StepHandlerResult, elapsedMs: number, events?: Data[]): Buffer {
    let kind = 'serialization_error';
    let why: string;
    try {
      const packed = this.item(attempt, result, elapsedMs, events);
      const [maxBytes, maxItems] = this.room;
      if (packed.length <= maxBytes && this.encoder.items <= maxItems) return packed;
      if (events) {
        log.error(`step ${attempt.step.step_uuid}: its events are too large to be sent with the result`);
        return this.encode(attempt, result, elapsedMs, leftOut(events, 'too large to be sent with the result'));
      }
      kind = 'result_too_large';
      const what = packed.length > maxBytes ? `${packed.length} bytes, the daemon takes ${maxBytes}` : `more than ${maxItems} items`;
      why = what;
    } catch (error) {
      why = messageOf(error); // values of the handler's own may fail in any way while they are read
    }
    const { step } = attempt;
    log.error(`step ${step.step_uuid} of handler ${quoted(step.handler.callable)}: the result cannot be sent: ${why}`);
    return this.item(attempt, withoutExtras(result, kind, why), elapsedMs);
  }

  private item(attempt: Attempt, result: StepHandlerResult, elapsedMs: number, events?: Data[]): Buffer {
    const { encoder } = this;
    const { step } = attempt;
    encoder.reset();
    const parts = result.success ? successParts(result) : failureParts(result);
    if (events) parts.push(['events', events]);
    encoder.mapHeader(5 + parts.length);
    encoder.text('step_uuid');
    encoder.text(step.step_uuid);
    encoder.text('attempt');
    encoder.value(step.attempt);
    encoder.text('claim');
    encoder.bin(step.claim);
    encoder.text('success');
    encoder.value(result.success);
    encoder.text('execution_ms');
    encoder.value(Math.round(elapsedMs * 1000) / 1000);
    for (const [name, value] of parts) {
      encoder.text(name);
      encoder.value(value, name);
    }
    const { items } = encoder;
    const packed = encoder.take();
    encoder.items = items;
    return packed;
  }
}

function begin(runner: StepRunner, context: StepContext, attempt: Attempt): unknown {
  const { tracing } = runner;
  return tracing ? tracing.run(attempt, () => runner.call(context, attempt)) : runner.call(context, attempt);
}

function read(value: unknown): StepHandlerResult {
  try {
    return resultFromValue(value);
  } catch (error) {
    return failureFromError(error);
  }
}

/** Of these events none is published; undefined if that is so already. */
function leftOut(events: Data[], why: string): Data[] | undefined {
  if (!events.some((e) => 'payload' in e)) return undefined;
  return events.map((e) => ('payload' in e ? { name: e['name'], failed: why } : e));
}

function unresolved(name: unknown, why: string): StepHandlerResult {
  return StepHandlerResult.failure(`handler ${quoted(name)} cannot be resolved: ${why}`, 'handler_not_found', false);
}

/** What is sent instead: a success that cannot be stored is a permanent failure, a failure goes without the extras that were
 * in its way. */
function withoutExtras(result: StepHandlerResult, kind: string, why: string): StepHandlerResult {
  if (result.success) return StepHandlerResult.failure(`the handler's result cannot be sent: ${why}`, kind, false);
  const wait = retryAfter(result);
  const metadata = wait === undefined ? {} : { retry_after: wait };
  return StepHandlerResult.failure(String(result.errorMessage), result.errorType ?? 'handler_error', result.retryable, metadata, result.errorCode);
}

type Part = [string, unknown];

function successParts(result: StepHandlerResult): Part[] {
  const parts: Part[] = [['result', result.result ?? {}]];
  if (Object.keys(result.metadata ?? {}).length > 0) parts.push(['metadata', result.metadata]);
  return parts;
}

function failureParts(result: StepHandlerResult): Part[] {
  const { traceback, ...metadata } = result.metadata ?? {};
  const error: Data = {
    message: safeText(result.errorMessage || 'the step failed', MAX_MESSAGE),
    error_type: safeText(result.errorType ?? 'handler_error', 128),
    retryable: result.retryable,
  };
  const code = result.errorCode ?? metadata['error_code'] ?? metadata['errorCode'];
  if (code !== undefined && code !== null) error['error_code'] = safeText(code, 128);
  if (typeof traceback === 'string') error['backtrace'] = traceback.split('\n').slice(0, MAX_BACKTRACE).map((line) => safeText(line, 1024));
  if (Number.isInteger(metadata['status_code'])) error['status_code'] = metadata['status_code'];
  const context = result.orchestrationMetadata?.errorContext;
  if (context) error['context'] = { error_context: safeText(context, 1024) };
  const parts: Part[] = [['error', error]];
  if (Object.keys(metadata).length > 0) parts.push(['metadata', lenient(metadata)]);
  const wait = result.retryable ? retryAfter(result) : undefined;
  if (wait !== undefined) parts.push(['retry_after_ms', Math.round(wait * 1000)]);
  return parts;
}

const scratch = new Encoder();

/** A failure's extras never hide the failure itself: what cannot be stored is shown as text. */
function lenient(data: Data): Data {
  const out: Data = {};
  for (const [name, value] of Object.entries(data)) {
    if (value === undefined) continue;
    const key = safeText(name, 1024);
    try {
      scratch.reset();
      scratch.value(value, '', 20);
      out[key] = value;
    } catch (error) {
      out[key] = error instanceof ConversionError ? `(${error.message})` : safeText(messageOf(error), 1024);
    }
  }
  return out;
}

/** The wished delay in seconds: a hint for the orchestrator, or the metadata key under which handlers put it. */
function retryAfter(result: StepHandlerResult): number | undefined {
  const hints = result.orchestrationMetadata;
  const delay = hints?.backoffHint?.delaySeconds;
  if (typeof delay === 'number' && delay >= 0 && delay < 1e9) return delay;
  const header = isMap(hints?.headers) ? Object.entries(hints.headers).find(([name]) => name.toLowerCase() === 'retry-after')?.[1] : undefined;
  if (header !== undefined && /^\d{1,9}$/.test(String(header))) return Number(header);
  return retryAfterOf(result.metadata ?? {});
}

function logFailure(context: StepContext, attempt: Attempt, result: StepHandlerResult): void {
  const { step } = attempt;
  const trace = attempt.cancelReason === undefined ? result.metadata?.['traceback'] : undefined;
  const said = `step ${step.step_uuid} (handler ${quoted(context.handlerName)}, attempt ${step.attempt}) failed, ${result.retryable ? 'retryable' : 'permanent'}: ${result.errorMessage}`;
  if (typeof trace === 'string') log.warn(`${said}\n${trace}`);
  else log.info(said);
}
