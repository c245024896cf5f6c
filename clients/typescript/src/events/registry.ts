/** The publishers and subscribers of this process. */

import type { Data } from '../codec.js';
import { TaskerError } from '../errors.js';
import { shared } from '../log.js';
import { DefaultPublisher, type BasePublisher } from './publisher.js';
import type { BaseSubscriber, EventSource, SubscriberClass } from './subscriber.js';

/** No publisher of the name is registered. */
export class PublisherNotFoundError extends TaskerError {
  constructor(readonly publisherName: string) {
    super(`no publisher '${publisherName}'`);
  }
}
/** The registry takes no more publishers. */
export class RegistryFrozenError extends TaskerError {
  constructor() {
    super('the publisher registry is frozen');
  }
}
/** Another publisher has the name. */
export class DuplicatePublisherError extends TaskerError {
  constructor(readonly publisherName: string) {
    super(`a publisher '${publisherName}' is registered already`);
  }
}
/** Publishers that templates name are missing. */
export class PublisherValidationError extends TaskerError {
  constructor(readonly missingPublishers: string[]) {
    super(`publishers are missing: ${missingPublishers.join(', ')}`);
  }
}

/** Publishers by name. `PublisherRegistry.instance` is the one that the worker asks. */
export class PublisherRegistry {
  private readonly publishers = new Map<string, BasePublisher>();
  private readonly fallback = new DefaultPublisher();
  private isFrozen = false;

  /** The registry of the process. */
  static get instance(): PublisherRegistry {
    return shared('taskerd.publishers', () => new PublisherRegistry());
  }
  static getInstance(): PublisherRegistry {
    return PublisherRegistry.instance;
  }

  /** Add a publisher. */
  register(publisher: BasePublisher): BasePublisher {
    this.mustBeOpen();
    const { publisherName } = publisher;
    if (this.publishers.has(publisherName)) throw new DuplicatePublisherError(publisherName);
    this.publishers.set(publisherName, publisher);
    return publisher;
  }

  unregister(name: string): boolean {
    this.mustBeOpen();
    return this.publishers.delete(name);
  }

  private mustBeOpen(): void {
    if (this.isFrozen) throw new RegistryFrozenError();
  }

  get(name: string | null | undefined): BasePublisher | undefined {
    return this.publishers.get(name ?? '');
  }

  /** The publisher of a name, else the default one. */
  getOrDefault(name?: string | null): BasePublisher {
    return this.get(name) ?? this.fallback;
  }

  /** The publisher of a name; PublisherNotFoundError if there is none. */
  getStrict(name: string): BasePublisher {
    const found = this.get(name) ?? (name === 'default' ? this.fallback : undefined);
    if (!found) throw new PublisherNotFoundError(name);
    return found;
  }

  isRegistered(name: string): boolean {
    return this.publishers.has(name);
  }

  listPublishers(): string[] {
    return [...this.publishers.keys()].sort();
  }

  get count(): number {
    return this.publishers.size;
  }

  get registeredNames(): string[] {
    return this.listPublishers();
  }

  get frozen(): boolean {
    return this.isFrozen;
  }

  /** Throw PublisherValidationError if one of the names has no publisher; then freeze. */
  validateRequired(names: readonly string[]): void {
    const missing = names.filter((name) => name !== 'default' && !this.publishers.has(name));
    if (missing.length > 0) throw new PublisherValidationError(missing);
    this.freeze();
  }

  freeze(): void {
    this.isFrozen = true;
  }

  clear(): void {
    this.mustBeOpen();
    this.publishers.clear();
  }

  /** Forget all publishers and thaw. */
  reset(): void {
    this.isFrozen = false;
    this.publishers.clear();
  }
}

/** Subscriber classes and instances of the process. */
export class SubscriberRegistry {
  private readonly classes: SubscriberClass[] = [];
  private readonly made: BaseSubscriber[] = [];

  /** The registry of the process. */
  static get instance(): SubscriberRegistry {
    return shared('taskerd.subscribers', () => new SubscriberRegistry());
  }
  static getInstance(): SubscriberRegistry {
    return SubscriberRegistry.instance;
  }

  /** Add a class; `startAll` makes the instance. */
  register(subscriber: SubscriberClass): void {
    if (!this.classes.includes(subscriber)) this.classes.push(subscriber);
  }

  registerInstance(subscriber: BaseSubscriber): void {
    if (!this.made.includes(subscriber)) this.made.push(subscriber);
  }

  private get unmade(): SubscriberClass[] {
    return this.classes.filter((known) => !this.made.some((one) => one.constructor === known));
  }

  /** Start every subscriber on a poller. */
  startAll(poller: EventSource): BaseSubscriber[] {
    for (const known of this.unmade) this.made.push(new known());
    for (const subscriber of this.made) if (!subscriber.active) subscriber.start(poller);
    return [...this.made];
  }

  stopAll(): void {
    for (const subscriber of this.made) subscriber.stop();
  }

  get subscribers(): BaseSubscriber[] {
    return [...this.made];
  }

  get count(): number {
    return this.made.length + this.unmade.length;
  }

  /** How many subscribers there are and run, and their patterns. */
  stats(): Data {
    return {
      total: this.count,
      active: this.made.filter((subscriber) => subscriber.active).length,
      subscribers: this.made.map((one) => ({ name: one.constructor.name, active: one.active, patterns: one.subscriptions })),
    };
  }

  /** Stop and forget all. */
  reset(): void {
    this.stopAll();
    this.classes.length = this.made.length = 0;
  }
}
