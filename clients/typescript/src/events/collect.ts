/** What the publishers of this process make of the events that a step declares. */

import { isMap, type Data } from '../codec.js';
import type { Attempt, StepContext } from '../context.js';
import { log } from '../log.js';
import { messageOf, type StepHandlerResult } from '../results.js';
import { declarationOf, fires, publisherView } from './models.js';
import { PublisherRegistry } from './registry.js';

const MAX_EVENTS = 64;

/** False: no event needs anything from this process. */
export function hasPublishers(): boolean {
  return PublisherRegistry.instance.count > 0;
}

/** The `events` of a result: one entry for each event that fires and has a publisher here. Events without one are left to the
 * daemon. Never rejects. */
export async function stepEvents(context: StepContext, attempt: Attempt, result: StepHandlerResult): Promise<Data[] | undefined> {
  const declared = attempt.step['publishes_events'];
  if (!Array.isArray(declared) || (result.success && result.metadata['checkpoint_yield'] === true)) return undefined;
  try {
    const found: Data[] = [];
    for (const entry of declared.filter(isMap)) {
      const made = await eventFor(entry, context, attempt, result);
      if (made) found.push(made);
    }
    return found.length > 0 ? found.slice(0, MAX_EVENTS) : undefined;
  } catch (error) {
    log.error(`the events of step ${attempt.step.step_uuid} have failed: ${messageOf(error)}`); // never the step's trouble
    return undefined;
  }
}

async function eventFor(entry: Data, context: StepContext, attempt: Attempt, result: StepHandlerResult): Promise<Data | undefined> {
  const declaration = declarationOf(entry);
  const publisher = PublisherRegistry.instance.get(declaration.publisher);
  const final = !(result.retryable && attempt.step['retryable'] !== false && context.attempt < context.maxRetries);
  if (!publisher || !fires(declaration.condition ?? 'success', result.success, final)) return undefined;
  const [stepResult, stepContext] = publisherView(context, attempt, result);
  const made = await publisher.collect({ eventName: declaration.name, stepResult, eventDeclaration: declaration, stepContext });
  // Its default payload may be what the hooks that failed were there to change.
  if (made.outcome === 'failed') return { name: declaration.name, failed: made.failed };
  if (made.outcome === 'stopped') return { name: declaration.name, skip: true };
  return { name: declaration.name, payload: made.payload, metadata: made.metadata };
}
