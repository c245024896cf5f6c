/** OpenTelemetry: a step's handler runs in a span that continues the task's trace. Only where its API is installed. */

import { isThenable, type Data } from './codec.js';
import type { Attempt } from './context.js';
import { isResult, messageOf } from './results.js';

/** What is used of `@opentelemetry/api`. */
interface Span {
  setStatus(status: { code: number; message?: string }): void;
  recordException(error: Error): void;
  end(): void;
}
interface Api {
  context: { active(): unknown };
  trace: {
    getTracer(name: string): { startActiveSpan(name: string, options: Data, context: unknown, fn: (span: Span) => unknown): unknown };
    setSpanContext(context: unknown, spanContext: Data): unknown;
  };
  createTraceState?(text: string): unknown;
  SpanKind: { CONSUMER: number };
  SpanStatusCode: { ERROR: number };
}

/** The tracing of this process; undefined if OpenTelemetry is not installed. */
export async function loadTracing(): Promise<Tracing | undefined> {
  const name = '@opentelemetry/api';
  try {
    return new Tracing((await import(name)) as Api);
  } catch {
    return undefined;
  }
}

/** Makes spans with the application's tracer provider. */
export class Tracing {
  constructor(private readonly api: Api) {}

  /** Run an attempt in its span. */
  run(attempt: Attempt, call: () => unknown): unknown {
    const { api } = this;
    const { step } = attempt;
    const attributes = {
      'taskerd.task_uuid': step.task_uuid,
      'taskerd.step_uuid': step.step_uuid,
      'taskerd.step': step['step'],
      'taskerd.namespace': step['namespace'],
      'taskerd.template': step['template'],
      'taskerd.attempt': step.attempt,
    };
    const options = { kind: api.SpanKind.CONSUMER, attributes };
    return api.trace.getTracer('taskerd').startActiveSpan(step.handler.callable, options, this.parent(step['traceparent'], step['tracestate']), (span) => {
      const end = (error: unknown): void => {
        if (error !== undefined) {
          span.setStatus({ code: api.SpanStatusCode.ERROR, message: messageOf(error) });
          if (error instanceof Error) span.recordException(error);
        }
        span.end();
      };
      return ended(call, end);
    });
  }

  private parent(traceparent: unknown, tracestate: unknown): unknown {
    const active = this.api.context.active();
    const [version, traceId, spanId, flags] = typeof traceparent === 'string' ? traceparent.split('-') : [];
    if (version === undefined || !traceId || !spanId || !flags) return active;
    const spanContext: Data = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
    if (typeof tracestate === 'string' && this.api.createTraceState) spanContext['traceState'] = this.api.createTraceState(tracestate);
    return this.api.trace.setSpanContext(active, spanContext);
  }
}

/** Call a handler, and `end` with what went wrong when it has ended. */
function ended(call: () => unknown, end: (error: unknown) => void): unknown {
  const wrong = (value: unknown): unknown => (isResult(value) && !value.success ? (value.errorMessage ?? 'the step failed') : undefined);
  try {
    const value = call();
    if (!isThenable(value)) {
      end(wrong(value));
      return value;
    }
    return value.then(
      (result) => {
        end(wrong(result));
        return result;
      },
      (error: unknown) => {
        end(error ?? 'failed');
        throw error;
      },
    );
  } catch (error) {
    end(error ?? 'failed');
    throw error;
  }
}
