/** Handlers as functions: `defineHandler` and its relatives make a handler class of a function. */

import { batchContextOf, cursorRanges, noBatches, type BatchWorkerContext } from './batch.js';
import { isMap, isThenable, type Data } from './codec.js';
import type { StepContext } from './context.js';
import { StepHandler, type StepHandlerClass } from './handler.js';
import { APIMixin, applyAPI, type APICapable } from './mixins/api.js';
import { batchesResult } from './mixins/batchable.js';
import { DecisionMixin, type DecisionPointOutcome } from './mixins/decision.js';
import { StepHandlerResult, failureFromError, isResult, resultFromValue } from './results.js';

/** What a function gets: its dependencies and inputs by name, and `context`. */
export type HandlerArgs = Record<string, any> & { context: StepContext }; // eslint-disable-line @typescript-eslint/no-explicit-any -- handlers know what they asked for
export type ApiHandlerArgs = HandlerArgs & { api: APICapable };
export type BatchWorkerArgs = HandlerArgs & { batchContext: BatchWorkerContext | null };

/** A handler function. */
export type HandlerFn<A = HandlerArgs> = (args: A) => unknown;

export interface HandlerOptions {
  /** Results of earlier steps: argument -> step. */
  depends?: Record<string, string>;
  /** Values of the task's context: argument -> key; or keys that keep their name. */
  inputs?: Record<string, string> | readonly string[];
  version?: string;
}
export interface BatchWorkerOptions extends HandlerOptions {
  /** For readers; the template says which step makes the batches. */
  analyzerStep?: string;
}
export interface BatchAnalyzerOptions extends HandlerOptions {
  /** The template's step that does the work. */
  workerTemplate: string;
}
export interface ApiHandlerOptions extends HandlerOptions {
  baseUrl: string;
  /** Milliseconds. */
  defaultTimeout?: number;
  defaultHeaders?: Record<string, string>;
}

/** What a batch analyzer function returns: how much there is to do, and how much at a time. */
export interface BatchConfig {
  totalItems: number;
  batchSize: number;
  metadata?: Data;
}

/** What a decision function returns. */
export class Decision {
  private constructor(
    readonly type: 'create_steps' | 'no_branches',
    readonly steps: string[],
    readonly reason: string | null,
    readonly routingContext: Data,
  ) {}

  /** Create these steps. */
  static route(steps: string | string[], routingContext: Data = {}): Decision {
    return new Decision('create_steps', typeof steps === 'string' ? [steps] : [...steps], null, routingContext);
  }

  /** Create none of the steps. */
  static skip(reason: string, routingContext: Data = {}): Decision {
    return new Decision('no_branches', [], reason, routingContext);
  }

  /** The same as data. */
  get outcome(): DecisionPointOutcome {
    return { decisionType: this.type, nextStepNames: this.steps, reason: this.reason, routingContext: this.routingContext };
  }
}

function isDecision(value: unknown): value is Decision {
  if (value instanceof Decision) return true;
  return isMap(value) && (value['type'] === 'create_steps' || value['type'] === 'no_branches') && 'routingContext' in value;
}

type Arguments = (context: StepContext, handler: StepHandler) => HandlerArgs;
type Finish = (value: unknown, handler: StepHandler) => StepHandlerResult;

/** Which arguments a function gets, settled when it is defined. */
function binding(options: HandlerOptions): Arguments {
  const depends = Object.entries(options.depends ?? {});
  const given = options.inputs ?? {};
  const inputs = Array.isArray(given) ? (given as string[]).map((key) => [key, key] as [string, string]) : Object.entries(given as Record<string, string>);
  return (context) => {
    const args: HandlerArgs = { context };
    for (const [name, step] of depends) args[name] = context.getDependencyResult(step);
    for (const [name, key] of inputs) args[name] = context.getInput(key);
    return args;
  };
}

function define(kind: string, name: string, options: HandlerOptions, fn: unknown, bind: Arguments, finish: Finish, statics: Data = {}): StepHandlerClass {
  if (typeof name !== 'string' || !name) throw new TypeError(`${kind} needs the handler's name: ${kind}('my_handler', {...}, fn)`);
  if (typeof fn !== 'function') throw new TypeError(`${kind}('${name}', ...) needs a function`);
  const run = fn as HandlerFn;
  const handler = class extends StepHandler {
    static override handlerName = name;
    static override handlerVersion = options.version ?? '1.0.0';

    /** Run the function; errors come back as failures. */
    call(context: StepContext): Promise<StepHandlerResult> | StepHandlerResult {
      try {
        const value = run(bind(context, this));
        if (isThenable(value)) return later(value, this, finish);
        return finish(value, this);
      } catch (error) {
        return failureFromError(error);
      }
    }
  };
  Object.defineProperty(handler, 'name', { value: `${name}Handler` });
  Object.assign(handler, statics);
  return handler;
}

async function later(value: PromiseLike<unknown>, handler: StepHandler, finish: Finish): Promise<StepHandlerResult> {
  try {
    return finish(await value, handler);
  } catch (error) {
    return failureFromError(error);
  }
}

/** Options may be left out. */
function sorted<O extends HandlerOptions, A>(options: O | HandlerFn<A>, fn: HandlerFn<A> | undefined): [O, HandlerFn<A> | undefined] {
  return typeof options === 'function' ? [{} as O, options] : [options, fn];
}

/** Make a function the handler `name`. */
export function defineHandler<A = HandlerArgs>(name: string, options: HandlerOptions | HandlerFn<A>, fn?: HandlerFn<A>): StepHandlerClass {
  const [given, run] = sorted(options, fn);
  return define('defineHandler', name, given, run, binding(given), resultFromValue);
}

/** Make a function the handler of a decision; it returns a `Decision`. */
export function defineDecisionHandler<A = HandlerArgs>(name: string, options: HandlerOptions | HandlerFn<A>, fn?: HandlerFn<A>): StepHandlerClass {
  const [given, run] = sorted(options, fn);
  return define('defineDecisionHandler', name, given, run, binding(given), (value, handler) => {
    if (!isDecision(value)) return resultFromValue(value);
    return DecisionMixin.result(handler, { decisionType: value.type, nextStepNames: value.steps, reason: value.reason, routingContext: value.routingContext });
  });
}

/** Make a function the handler of a batchable step; it returns a `BatchConfig`. */
export function defineBatchAnalyzer<A = HandlerArgs>(name: string, options: BatchAnalyzerOptions, fn: HandlerFn<A>): StepHandlerClass {
  const template = options.workerTemplate ?? 'batch_worker';
  return define('defineBatchAnalyzer', name, options, fn, binding(options), (value) => analyzed(value, template));
}

function analyzed(value: unknown, template: string): StepHandlerResult {
  if (isResult(value)) return value;
  if (!isMap(value) || 'batch_processing_outcome' in value) return resultFromValue(value);
  const total = Number(value['totalItems'] ?? value['total_items']);
  const size = Number(value['batchSize'] ?? value['batch_size']);
  const metadata = (value['metadata'] ?? {}) as Data;
  if (!Number.isFinite(total) || !(size > 0)) {
    throw new TypeError('a batch analyzer returns {totalItems, batchSize}: numbers, batchSize above 0');
  }
  if (total <= 0) {
    const marked = { batch_analyzer: true, ...metadata, batch_count: 0, total_items: 0 };
    return StepHandlerResult.success({ batch_processing_outcome: noBatches(), reason: 'empty_dataset', ...metadata }, marked);
  }
  const configs = cursorRanges(total, size).map((range, i) => ({ ...range, batch_id: `batch_${String(i).padStart(3, '0')}` }));
  const result = batchesResult(template, configs, total);
  if (Object.keys(metadata).length > 0) result['batch_metadata'] = metadata;
  return StepHandlerResult.success(result, { batch_analyzer: true, ...metadata, batch_count: configs.length, total_items: total });
}

/** Make a function the handler of a batch worker; its argument `batchContext` says which part to do. */
export function defineBatchWorker<A = BatchWorkerArgs>(name: string, options: BatchWorkerOptions | HandlerFn<A>, fn?: HandlerFn<A>): StepHandlerClass {
  const [given, run] = sorted(options, fn);
  const bind = binding(given);
  return define('defineBatchWorker', name, given, run, (context, handler) => ({ ...bind(context, handler), batchContext: batchContextOf(context) }), resultFromValue);
}

/** Make a function a handler that calls an HTTP service; its argument `api` has `get`, `post`, `apiSuccess`, ... */
export function defineApiHandler<A = ApiHandlerArgs>(name: string, options: ApiHandlerOptions, fn: HandlerFn<A>): StepHandlerClass {
  const bind = binding(options);
  const statics = { baseUrl: options.baseUrl, defaultTimeout: options.defaultTimeout ?? 30_000, defaultHeaders: options.defaultHeaders ?? {} };
  return define('defineApiHandler', name, options, fn, (context, handler) => ({ ...bind(context, handler), api: apiOf(handler) }), resultFromValue, statics);
}

function apiOf(handler: StepHandler): APICapable {
  return applyAPI(handler) as unknown as APICapable;
}

export { APIMixin };
