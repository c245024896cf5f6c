/** Domain events as data. */

import { isMap, type Data } from '../codec.js';
import type { Attempt, StepContext } from '../context.js';
import type { StepHandlerResult } from '../results.js';

export type PublishCondition = 'success' | 'failure' | 'retryable_failure' | 'permanent_failure' | 'always';

/** An entry of the template's `publishes_events`. */
export interface EventDeclaration {
  name: string;
  condition?: PublishCondition | string;
  deliveryMode?: string;
  publisher?: string;
  schema?: Data;
}

/** How an attempt ended, as publishers see it. */
export interface StepResult {
  success: boolean;
  /** What the handler returned; after a failure its error. */
  result?: any; // eslint-disable-line @typescript-eslint/no-explicit-any -- what handlers return
  metadata?: Data;
}

/** Whose event it is. */
export interface StepEventContext {
  taskUuid: string;
  stepUuid: string;
  stepName: string;
  namespace: string;
  correlationId: string;
  result?: any; // eslint-disable-line @typescript-eslint/no-explicit-any
  metadata?: Data;
  /** What the task was created with. */
  context?: Data;
}

/** One event about to be published. */
export interface PublishContext {
  eventName: string;
  stepResult: StepResult;
  eventDeclaration?: EventDeclaration;
  stepContext?: StepEventContext;
}

export interface DomainEventMetadata extends Data {
  taskUuid: string;
  stepUuid: string;
  stepName: string | null;
  namespace: string;
  correlationId: string;
  firedAt: string;
  publisher: string;
}

export interface ExecutionResult extends Data {
  success: boolean;
  status?: string;
  stepUuid?: string;
}

/** An event as subscribers get it. */
export interface DomainEvent {
  eventId: string;
  eventName: string;
  eventVersion: string;
  /** `{task_sequence_step, execution_result, payload}`; keys of the inner payload can be read here as well. */
  payload: Record<string, any>; // eslint-disable-line @typescript-eslint/no-explicit-any
  /** What the event is about. */
  businessPayload: any; // eslint-disable-line @typescript-eslint/no-explicit-any
  metadata: DomainEventMetadata;
  executionResult: ExecutionResult;
}

/** True if an event's name fits a pattern, in which `*` stands for any characters. */
export function matchesPattern(pattern: string, name: string): boolean {
  if (pattern === '*' || pattern === name) return true;
  const source = pattern.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*');
  return new RegExp(`^${source}$`, 's').test(name);
}

/** True if an attempt that ended in this way meets the condition; `final`: no other will be made. */
export function fires(condition: string, success: boolean, final: boolean): boolean {
  if (condition === 'always') return true;
  if (success || condition === 'success') return success && condition === 'success';
  return condition === 'failure' || condition === (final ? 'permanent_failure' : 'retryable_failure');
}

/** A declaration as it stands in `step.execute`. */
export function declarationOf(entry: Data): EventDeclaration {
  const text = (key: string): string | undefined => (typeof entry[key] === 'string' ? entry[key] : undefined);
  const out: EventDeclaration = { name: text('name') ?? '', condition: text('condition') ?? 'success', deliveryMode: text('delivery_mode') ?? 'durable' };
  const publisher = text('publisher');
  if (publisher !== undefined) out.publisher = publisher;
  return out;
}

/** What publishers see of an attempt that this process has run. */
export function publisherView(context: StepContext, attempt: Attempt, result: StepHandlerResult): [StepResult, StepEventContext] {
  const failure = { message: result.errorMessage, error_type: result.errorType, retryable: result.retryable };
  const value = result.success ? result.result : failure;
  const { step } = attempt;
  const seen: StepEventContext = {
    taskUuid: step.task_uuid,
    stepUuid: step.step_uuid,
    stepName: context.stepName,
    namespace: context.namespace,
    correlationId: context.correlationId,
    result: value,
    metadata: result.metadata,
    context: context.inputData,
  };
  return [{ success: result.success, result: value, metadata: result.metadata }, seen];
}

function camel(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

function camelKeys(data: Data): Data {
  return Object.fromEntries(Object.entries(data).map(([name, value]) => [camel(name), value]));
}

/** An event from the daemon's map. */
export function eventOf(data: Data): DomainEvent {
  const whole: Data = isMap(data['payload']) ? { ...data['payload'] } : {};
  const inner = whole['payload'];
  if (isMap(inner)) {
    for (const [name, value] of Object.entries(inner)) if (!(name in whole)) Object.defineProperty(whole, name, { value, enumerable: false });
  }
  const metadata = isMap(data['metadata']) ? camelKeys(data['metadata']) : {};
  metadata['publisher'] ??= metadata['firedBy'];
  const executed = whole['execution_result'];
  return {
    eventId: String(data['event_id'] ?? ''),
    eventName: String(data['event_name'] ?? ''),
    eventVersion: String(data['event_version'] ?? '1.0'),
    payload: whole,
    businessPayload: inner ?? null,
    metadata: metadata as DomainEventMetadata,
    executionResult: (isMap(executed) ? camelKeys(executed) : { success: true }) as ExecutionResult,
  };
}
