/**
 * Publishers: classes that say what an event carries, and whether it is published at all.
 *
 * Handlers never publish. The template declares events and may name a publisher for each; the worker runs that publisher's hooks
 * when an attempt has ended, and the daemon publishes what came out together with the attempt's result.
 */

import { safeText, toJsonValue, type Data } from '../codec.js';
import { createLogger, log, quoted, type Logger } from '../log.js';
import { messageOf } from '../results.js';
import type { EventDeclaration, PublishContext, StepEventContext, StepResult } from './models.js';

/** Containers that a payload may nest, so that it fits into the messages around it. */
const DEPTH = 20;

/** What came of the hooks of one event. */
export interface Published {
  outcome: 'published' | 'stopped' | 'failed';
  payload?: unknown;
  metadata?: Data;
  /** Why it failed. */
  failed?: string;
}

type Maybe<T> = T | Promise<T>;

/** Base of publishers: implement `publisherName`, override the hooks that matter. Hooks may be async. */
export abstract class BasePublisher {
  private ownLogger: Logger | undefined;

  /** What templates call the publisher. */
  abstract readonly publisherName: string;

  /** A logger for the hooks. */
  get logger(): Logger {
    this.ownLogger ??= createLogger({ component: this.publisherName });
    return this.ownLogger;
  }

  // -- hooks -------------------------------------------------------------------------------------

  /** False: the event is not published. */
  shouldPublish(_stepResult: StepResult, _eventDeclaration?: EventDeclaration, _stepContext?: StepEventContext): Maybe<boolean> {
    return true;
  }

  /** What the event is about; by default the step's result. */
  transformPayload(stepResult: StepResult, _eventDeclaration?: EventDeclaration, _stepContext?: StepEventContext): Maybe<Data> {
    return (stepResult.result ?? {}) as Data;
  }

  /** Joins the event's metadata. */
  additionalMetadata(_stepResult: StepResult, _eventDeclaration?: EventDeclaration, _stepContext?: StepEventContext): Maybe<Data> {
    return {};
  }

  /** A last look; anything falsy stops the event. */
  beforePublish(_eventName: string, _payload: Data, _metadata: Data): Maybe<boolean | undefined | void> {
    return true;
  }

  /** The event is on its way. */
  afterPublish(_eventName: string, _payload: Data, _metadata: Data): Maybe<void> {}

  /** A hook has failed; the step is not affected. */
  onPublishError(eventName: string, error: Error, _payload: Data): Maybe<void> {
    log.error(`publisher ${quoted(this.publisherName)}: event ${quoted(eventName)}: ${error.message}`);
  }

  // -- running them ------------------------------------------------------------------------------

  /** What every event's metadata holds. */
  private baseMetadata(context: StepEventContext | undefined): Data {
    return {
      publisher: this.publisherName,
      publishedAt: new Date().toISOString(),
      ...(context && { taskUuid: context.taskUuid, stepUuid: context.stepUuid, stepName: context.stepName, namespace: context.namespace }),
    };
  }

  /**
   * Run the hooks for an event. False if one of them stopped it or failed. The worker calls `collect`, and sends what came out
   * with the result; this only runs the hooks, as tests want it.
   */
  async publish(context: PublishContext): Promise<boolean> {
    return (await this.collect(context)).outcome === 'published';
  }

  /** Run the hooks for an event and say what came out. Never rejects. */
  async collect({ eventName, stepResult, eventDeclaration, stepContext }: PublishContext): Promise<Published> {
    let payload: Data = {};
    let made: Published | undefined;
    try {
      const about = [stepResult, eventDeclaration, stepContext] as const;
      if (!(await this.shouldPublish(...about))) return { outcome: 'stopped' };
      payload = await this.transformPayload(...about);
      const metadata = { ...this.baseMetadata(stepContext), ...(await this.additionalMetadata(...about)) };
      if (!(await this.beforePublish(eventName, payload, metadata))) return { outcome: 'stopped' };
      made = {
        outcome: 'published',
        payload: toJsonValue(payload, 'payload', DEPTH),
        metadata: toJsonValue(metadata, 'metadata', DEPTH) as Data,
      };
      await this.afterPublish(eventName, payload, metadata);
      return made;
    } catch (error) {
      await this.failed(eventName, error instanceof Error ? error : new Error(messageOf(error)), payload);
      return made ?? { outcome: 'failed', failed: safeText(messageOf(error), 300) };
    }
  }

  private async failed(eventName: string, error: Error, payload: Data): Promise<void> {
    try {
      await this.onPublishError(eventName, error, payload);
    } catch (again) {
      log.error(`publisher ${quoted(this.publisherName)}: onPublishError has failed itself: ${messageOf(again)}`);
    }
  }
}

/** The step's result as it is. */
export class DefaultPublisher extends BasePublisher {
  readonly publisherName = 'default';
}
