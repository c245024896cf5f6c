/** Subscribers: classes that are called for events. */

import { createLogger, log, type Logger } from '../log.js';
import { messageOf } from '../results.js';
import { matchesPattern, type DomainEvent } from './models.js';

/** What subscribers are started on. */
export interface EventSource {
  addListener(listener: (event: DomainEvent) => unknown, patterns: readonly string[]): void;
  removeListener(listener: (event: DomainEvent) => unknown): void;
}

/** The class of a subscriber. */
export interface SubscriberClass {
  new (): BaseSubscriber;
  subscribesTo(): string[];
}

/**
 * Base of subscribers: implement `handle`, say in `subscribesTo` which events. Those that are `fast` or `broadcast` arrive. What
 * goes wrong in a subscriber is logged and harms nothing else.
 */
export abstract class BaseSubscriber {
  private source: EventSource | undefined;
  private ownLogger: Logger | undefined;

  /** Patterns of event names, such as `payment.*`. */
  static subscribesTo(): string[] {
    return ['*'];
  }

  /** Called for each event. */
  abstract handle(event: DomainEvent): Promise<void> | void;

  // -- hooks -------------------------------------------------------------------------------------

  /** False: `handle` is not called. */
  beforeHandle(_event: DomainEvent): boolean | Promise<boolean> {
    return true;
  }

  /** `handle` has returned. */
  afterHandle(_event: DomainEvent): void | Promise<void> {}

  /** `handle` or another hook has failed. */
  onHandleError(event: DomainEvent, error: Error): void | Promise<void> {
    log.error(`subscriber ${this.constructor.name}: event ${event.eventName}: ${error.stack ?? error.message}`);
  }

  // -- life --------------------------------------------------------------------------------------

  get logger(): Logger {
    this.ownLogger ??= createLogger({ component: this.constructor.name });
    return this.ownLogger;
  }

  /** The patterns. */
  get subscriptions(): string[] {
    const own = (this as unknown as { patterns?: unknown }).patterns;
    const found = own ?? (this.constructor as unknown as { subscribesTo(): string[] | string }).subscribesTo();
    return typeof found === 'string' ? [found] : [...(found as string[])];
  }

  /** True between `start` and `stop`. */
  get active(): boolean {
    return this.source !== undefined;
  }

  /** True if an event's name fits one of the patterns. */
  matches(eventName: string): boolean {
    return this.subscriptions.some((pattern) => matchesPattern(pattern, eventName));
  }

  /** Get events from a poller. */
  start(poller: EventSource): void {
    if (this.active) return;
    this.source = poller;
    poller.addListener(this.receive, this.subscriptions);
  }

  /** Get no more events. */
  stop(): void {
    const { source } = this;
    this.source = undefined;
    source?.removeListener(this.receive);
  }

  /** One event. */
  readonly receive = async (event: DomainEvent): Promise<void> => {
    if (!this.active || !this.matches(event.eventName)) return;
    try {
      if ((await this.beforeHandle(event)) === false) return;
      await this.handle(event);
      await this.afterHandle(event);
    } catch (error) {
      await this.failed(event, error instanceof Error ? error : new Error(messageOf(error)));
    }
  };

  private async failed(event: DomainEvent, error: Error): Promise<void> {
    try {
      await this.onHandleError(event, error);
    } catch (again) {
      log.error(`subscriber ${this.constructor.name}: onHandleError has failed itself: ${messageOf(again)}`);
    }
  }
}
