/** Events from the daemon: a stream on a connection of its own, and a loop that calls listeners. */

import { Channel } from '../channel.js';
import { isMap, type Data } from '../codec.js';
import { ConnectionLostError, TaskerdError } from '../errors.js';
import { log } from '../log.js';
import { messageOf } from '../results.js';
import { Backoff, Complaints, sleep, socketPath } from '../transport.js';
import { eventOf, matchesPattern, type DomainEvent } from './models.js';

const REQUEST_TIMEOUT = 30_000;
/** Events kept for a reader that is slow; the oldest go first. */
const BUFFER = 65536;

export interface EventStreamOptions {
  namespaces?: readonly string[];
  socket?: string;
}

/** An async iterator over the fast events that fit some patterns; it outlives the daemon. */
export class EventStream implements AsyncIterable<DomainEvent> {
  /** Events that the daemon or this stream had to drop because they were not read in time. */
  lost = 0;
  private readonly socket: string;
  private readonly patterns: string[];
  private readonly namespaces: string[];
  private readonly events: Data[] = [];
  private channel: Channel | undefined;
  private readonly closer = new AbortController();
  private wake: (() => void) | undefined;

  constructor(patterns: readonly string[] = ['*'], options: EventStreamOptions = {}) {
    this.socket = socketPath(options.socket);
    this.patterns = [...patterns];
    this.namespaces = [...(options.namespaces ?? ['*'])];
  }

  /** Connect and subscribe, if that has not been done. Rejects with what the daemon refuses. */
  async connect(): Promise<void> {
    if (this.channel && !this.channel.closed) return;
    const channel = await Channel.open(
      this.socket,
      { notification: (method, params) => this.onNotification(method, params), lost: () => this.wake?.() },
      this.closer.signal,
    );
    try {
      await this.subscribeOn(channel, this.patterns);
      channel.session.ref();
    } catch (error) {
      await channel.close();
      throw error;
    }
    this.channel = channel;
    if (this.closer.signal.aborted) await channel.close();
  }

  /** Have more patterns. */
  async subscribe(patterns: readonly string[]): Promise<void> {
    const added = patterns.filter((pattern) => !this.patterns.includes(pattern));
    this.patterns.push(...added);
    const { channel } = this;
    if (added.length === 0 || !channel || channel.closed) return;
    try {
      await this.subscribeOn(channel, added);
      channel.session.ref();
    } catch (error) {
      if (!(error instanceof ConnectionLostError)) throw error; // with the next connection
    }
  }

  private async subscribeOn(channel: Channel, patterns: readonly string[]): Promise<void> {
    for (let first = 0; first < patterns.length; first += 64) {
      const params = { patterns: patterns.slice(first, first + 64), namespaces: this.namespaces };
      await channel.request('event.subscribe', params, REQUEST_TIMEOUT);
    }
  }

  private onNotification(method: string, params: Data): void {
    if (method !== 'event.message') return;
    const { events, lost } = params;
    if (typeof lost === 'number') this.lost += lost;
    if (Array.isArray(events)) this.events.push(...events.filter(isMap));
    if (this.events.length > BUFFER) this.lost += this.events.splice(0, this.events.length - BUFFER).length;
    this.wake?.();
  }

  /** The next event; null if there is none within `timeoutMs`, or the stream was closed. */
  async next(timeoutMs = Infinity): Promise<DomainEvent | null> {
    const deadline = performance.now() + timeoutMs;
    const backoff = new Backoff();
    const complaints = new Complaints();
    while (!this.closer.signal.aborted) {
      const event = this.events.shift();
      if (event) return eventOf(event);
      const left = deadline - performance.now();
      if (left <= 0) return null;
      try {
        await this.connect();
      } catch (error) {
        if (!(error instanceof TaskerdError) || !error.retryable) throw error;
        if (complaints.due()) log.warn(`events: ${error.message}; trying on`);
        await sleep(Math.min(left, backoff.next((error.retryAfter ?? 0) * 1000)), this.closer.signal);
        continue;
      }
      if (this.events.length === 0) await this.awaitEvent(left);
    }
    return null;
  }

  private awaitEvent(left: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = left < 0x7fffffff ? setTimeout(() => this.wake?.(), left) : undefined;
      this.wake = () => {
        clearTimeout(timer);
        this.wake = undefined;
        resolve();
      };
      if (this.closer.signal.aborted || !this.channel || this.channel.closed) this.wake();
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<DomainEvent> {
    try {
      for (let event = await this.next(); event; event = await this.next()) yield event;
    } finally {
      await this.close();
    }
  }

  /** End the stream; who waits for an event gets null. */
  async close(): Promise<void> {
    this.closer.abort();
    this.wake?.();
    await this.channel?.close();
  }
}

type Listener = (event: DomainEvent) => unknown;

export interface PollerOptions extends EventStreamOptions {
  /** Accepted and unused: nothing is polled, the daemon pushes. */
  pollIntervalMs?: number;
  maxEventsPerPoll?: number;
}

/** Reads events and calls listeners, one after the other. Nothing is polled, whatever the name says. */
export class InProcessDomainEventPoller {
  eventsProcessed = 0;
  errors = 0;
  private listeners: { listener: Listener; patterns: readonly string[] }[] = [];
  private readonly errorListeners: ((error: Error) => unknown)[] = [];
  private stream: EventStream | undefined;
  private done: Promise<void> = Promise.resolve();

  constructor(private readonly options: PollerOptions = {}) {}

  /** Have a function called with each event. */
  onEvent(listener: Listener, patterns: readonly string[] = ['*']): void {
    this.addListener(listener, patterns);
  }

  /** Have a function called with what listeners throw. */
  onError(listener: (error: Error) => unknown): void {
    this.errorListeners.push(listener);
  }

  addListener(listener: Listener, patterns: readonly string[]): void {
    this.listeners.push({ listener, patterns });
    this.stream?.subscribe(patterns).catch((error: unknown) => this.tell(error));
  }

  removeListener(listener: Listener): void {
    this.listeners = this.listeners.filter((known) => known.listener !== listener);
  }

  /** Begin to read events. Fulfilled when the subscription stands; if the daemon is not there it is tried on. */
  async start(): Promise<void> {
    if (this.stream) return;
    const patterns = new Set(this.listeners.flatMap((known) => known.patterns));
    const stream = new EventStream([...patterns], this.options);
    this.stream = stream;
    const connected = stream.connect();
    this.done = connected.catch(() => undefined).then(() => this.read(stream));
    await connected.catch((error: unknown) => {
      if (!(error instanceof TaskerdError) || !error.retryable) throw error;
    });
  }

  private async read(stream: EventStream): Promise<void> {
    try {
      for await (const event of stream) await this.dispatch(event);
    } catch (error) {
      log.error(`no more events: ${messageOf(error)}`);
    }
  }

  /** Read no more events. */
  async stop(): Promise<void> {
    const { stream } = this;
    this.stream = undefined;
    await stream?.close();
    await this.done;
  }

  get isRunning(): boolean {
    return this.stream !== undefined;
  }

  stats(): Data {
    return { running: this.isRunning, eventsProcessed: this.eventsProcessed, errors: this.errors, lost: this.stream?.lost ?? 0 };
  }

  /** Call the listeners with an event; for tests of subscribers also without a daemon. */
  async dispatch(event: DomainEvent): Promise<void> {
    for (const { listener, patterns } of [...this.listeners]) {
      if (!patterns.some((pattern) => matchesPattern(pattern, event.eventName))) continue;
      try {
        await listener(event);
      } catch (error) {
        this.tell(error);
      }
    }
    this.eventsProcessed += 1;
  }

  private tell(error: unknown): void {
    this.errors += 1;
    const told = error instanceof Error ? error : new Error(messageOf(error));
    if (this.errorListeners.length === 0) log.error(`a listener of events has failed: ${told.stack ?? told.message}`);
    for (const listener of this.errorListeners) listener(told);
  }
}
