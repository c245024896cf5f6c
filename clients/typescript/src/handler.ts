/** StepHandler: the base of class handlers. */

import type { Data } from './codec.js';
import type { StepContext } from './context.js';
import { ErrorType, StepHandlerResult } from './results.js';

/** What a class of handlers looks like. */
export interface StepHandlerClass {
  new (): ExecutableHandler;
  handlerName: string;
  handlerVersion?: string;
}

/** Anything that runs steps. A plain object, array or value that is returned counts as success. */
export interface ExecutableHandler {
  call(context: StepContext): unknown;
  readonly name?: string;
  readonly version?: string;
  readonly capabilities?: string[];
}

/**
 * Base of class handlers. Each attempt gets an instance of its own.
 *
 * ```ts
 * class Ship extends StepHandler {
 *   static handlerName = 'shop.ship';
 *   async call(context: StepContext) {
 *     return this.success({ shipped: true });
 *   }
 * }
 * ```
 */
export abstract class StepHandler implements ExecutableHandler {
  /** The `handler.callable` of the template. */
  static handlerName = '';
  static handlerVersion = '1.0.0';

  /** Run one attempt. */
  abstract call(context: StepContext): Promise<StepHandlerResult> | StepHandlerResult;

  get name(): string {
    return staticText(this, 'handlerName') || this.constructor.name;
  }

  get version(): string {
    return staticText(this, 'handlerVersion') || '1.0.0';
  }

  get capabilities(): string[] {
    return ['process'];
  }

  /** A JSON Schema of the handler's configuration, if it has one. */
  configSchema(): Data | null {
    return null;
  }

  /** The step is done; `result` is what later steps see. */
  success(result: Data = {}, metadata?: Data): StepHandlerResult {
    return StepHandlerResult.success(result, metadata);
  }

  /** The attempt failed; another one is made if `retryable` and attempts are left. */
  failure(
    message: string,
    errorType: ErrorType | string = ErrorType.HANDLER_ERROR,
    retryable = true,
    metadata?: Data,
    errorCode?: string | null,
  ): StepHandlerResult {
    return StepHandlerResult.failure(message, errorType, retryable, metadata, errorCode);
  }
}

/** A static property of an object's class, '' if it is no string. */
export function staticText(target: object, name: string): string {
  const value = (target.constructor as unknown as Data)[name];
  return typeof value === 'string' ? value : '';
}

/** What mixins need of the object they are applied to. */
export type MixinTarget = object;

/**
 * Put the methods of a mixin on an object. Its own methods win over the mixin's, but not fields that a compiler has made
 * `undefined` from a declaration such as `get!: APICapable['get']`.
 */
export function applyMixin(target: MixinTarget, mixin: object): void {
  const proto = Object.getPrototypeOf(mixin) as object;
  for (const name of Object.getOwnPropertyNames(proto)) {
    if (name === 'constructor') continue;
    const descriptor = Object.getOwnPropertyDescriptor(proto, name) as PropertyDescriptor;
    const current: unknown = name in target ? (target as Data)[name] : undefined;
    if (current !== undefined) continue;
    Object.defineProperty(target, name, { ...descriptor, configurable: true });
  }
}
