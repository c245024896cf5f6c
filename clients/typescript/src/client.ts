/** AsyncTaskerClient: create tasks, follow them, look around. */

import { randomUUID } from 'node:crypto';
import { Channel, packRequest } from './channel.js';
import {
  auditRows,
  FINISHED_STATES,
  taskListResponse,
  taskResponse,
  type ClientHealthResponse,
  type ClientStepAuditResponse,
  type ClientStepResponse,
  type ClientTaskListResponse,
  type ClientTaskResponse,
  type CreateOutcome,
  type WaitResult,
} from './client_models.js';
import { Encoder, isMap, splitLimits, type Data, type Limits } from './codec.js';
import { ConnectionLostError, NotFoundError, ProtocolError, RequestTimeoutError, ShuttingDownError, TaskerdError } from './errors.js';
import { EventStream, type EventStreamOptions } from './events/poller.js';
import { Backoff, sleep, socketPath, type Welcome } from './transport.js';

/** Requests that may be sent again if the connection broke before the answer. */
const REPEATABLE = new Set([
  ...['doctor', 'event.list', 'node.list', 'ping', 'queue.list', 'server.info', 'task.get', 'task.history', 'task.list'],
  ...['task.unwatch', 'task.wait', 'task.watch', 'template.apply', 'template.get', 'template.list', 'template.validate', 'worker.list'],
]);
const DEFAULT_TIMEOUT = 30_000;
/** Longest time one `task.wait` asks for; longer waits are made of several. */
const WAIT_SLICE = 60_000;
/** `task.create_many` requests under way at a time. */
const BULK_WINDOW = 4;
/** Steps of a task that are asked for at a time, so that a large one keeps nobody waiting. */
const STEPS_PAGE = 1000;
/** Time that an answer may come later than the wait that was asked for. */
const GRACE = 30_000;

export interface ClientOptions {
  /** The daemon's socket; see `socketPath` for where it is looked for. */
  socket?: string;
  /** Milliseconds a request may take unless it says otherwise, reconnecting included. */
  timeoutMs?: number;
  /** Milliseconds to try connecting within one request; default is the request's timeout. 0 tries once. */
  connectTimeoutMs?: number;
  /** Stored with every task created here. */
  initiator?: string;
  sourceSystem?: string;
}

/** What a task is created from. Names in snake_case are understood as well. */
export interface CreateTaskOptions {
  name: string;
  namespace?: string;
  context?: Data;
  /** By default the newest. */
  version?: string;
  initiator?: string;
  sourceSystem?: string;
  reason?: string;
  tags?: string[];
  priority?: number;
  correlationId?: string;
  parentCorrelationId?: string;
  /** W3C trace context, handed to the handlers; `tracestate` with a `traceparent` only. */
  traceparent?: string;
  tracestate?: string;
  /** A repeat with the same key and content returns the first task. */
  idempotencyKey?: string;
  /** When it begins. */
  runAt?: string | Date;
}

export interface ListTasksOptions {
  limit?: number;
  offset?: number;
  namespace?: string;
  status?: string;
  name?: string;
  cursor?: string;
}

export interface RequestOptions {
  timeoutMs?: number;
  signal?: AbortSignal;
}

export interface ConsumeOptions {
  namespace?: string;
  limit?: number;
  /** What is not acknowledged within this many ms comes again. */
  visibilityMs?: number;
  /** How long to wait for a first one. */
  waitMs?: number;
  patterns?: string[];
}

/** A durable event, taken from its queue. */
export interface EventMessage extends Data {
  msg_id: number;
  read_count: number;
  event: Data;
}

const NAMES: Record<string, string> = {
  sourceSystem: 'source_system',
  correlationId: 'correlation_id',
  parentCorrelationId: 'parent_correlation_id',
  idempotencyKey: 'idempotency_key',
  runAt: 'run_at',
};

/** Params of `task.create`. */
function taskParams(options: CreateTaskOptions, defaults: Data): Data {
  const params: Data = { ...defaults };
  for (const [name, value] of Object.entries(options)) if (value !== undefined && value !== null) params[NAMES[name] ?? name] = value;
  return params;
}

function repeatable(method: string, params: Data): boolean {
  return method === 'task.create' ? Boolean(params['idempotency_key']) : REPEATABLE.has(method);
}

type Notified = (params: Data | undefined) => void;

/**
 * A connection to the daemon, made on first use and made again when it breaks. It does not keep the process alive.
 *
 * A request whose connection breaks is repeated if that is harmless (reading, or creating with an `idempotencyKey`); otherwise
 * it rejects with ConnectionLostError, whose `sent` tells whether the daemon may have done it.
 */
export class AsyncTaskerClient {
  readonly socket: string;
  private readonly timeoutMs: number;
  private readonly connectTimeoutMs: number | undefined;
  private readonly defaults: Data;
  private channel: Channel | undefined;
  private opening: Promise<Channel> | undefined;
  private closed = false;
  private readonly watches = new Map<string, Set<Notified>>();

  constructor(options: ClientOptions = {}) {
    this.socket = socketPath(options.socket);
    this.timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT;
    this.connectTimeoutMs = options.connectTimeoutMs;
    this.defaults = { initiator: options.initiator ?? 'taskerd-typescript', source_system: options.sourceSystem ?? 'taskerd' };
  }

  // -- connection --------------------------------------------------------------------------------

  /** Connect now rather than with the first request. */
  async connect(timeoutMs = this.timeoutMs): Promise<Welcome> {
    return (await this.open(performance.now() + timeoutMs)).session.welcome;
  }

  /** Close the connection. The client cannot be used afterwards. */
  async close(): Promise<void> {
    this.closed = true;
    const { channel } = this;
    this.channel = undefined;
    await channel?.close();
    this.onLost();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Send any request of the protocol and return its result. */
  async request(method: string, params: Data = {}, options: RequestOptions = {}): Promise<unknown> {
    const deadline = performance.now() + (options.timeoutMs ?? this.timeoutMs);
    const backoff = new Backoff();
    for (;;) {
      options.signal?.throwIfAborted();
      const channel = await this.open(deadline, options.signal);
      try {
        return await abortable(channel.request(method, params, deadline - performance.now()), options.signal);
      } catch (error) {
        if (error instanceof ConnectionLostError) {
          if ((error.sent && !repeatable(method, params)) || this.closed) throw error;
          if (performance.now() >= deadline) throw error;
        } else if (error instanceof ShuttingDownError) {
          if (this.channel === channel) this.channel = undefined;
          const delay = backoff.next();
          if (performance.now() + delay >= deadline) throw error;
          await sleep(delay, options.signal);
        } else throw error;
      }
    }
  }

  private async map(method: string, params: Data = {}, options: RequestOptions = {}): Promise<Data> {
    const answer = await this.request(method, params, options);
    if (!isMap(answer)) throw new ProtocolError(`${method} was not answered with a map`);
    return answer;
  }

  private open(deadline: number, signal?: AbortSignal): Promise<Channel> {
    if (this.closed) return Promise.reject(new ConnectionLostError('the client is closed'));
    if (this.channel && !this.channel.closed) return Promise.resolve(this.channel);
    this.opening ??= this.tryOpen(deadline, signal).finally(() => (this.opening = undefined));
    return this.opening;
  }

  private async tryOpen(deadline: number, signal?: AbortSignal): Promise<Channel> {
    const until = this.connectTimeoutMs === undefined ? deadline : Math.min(deadline, performance.now() + this.connectTimeoutMs);
    const backoff = new Backoff();
    for (;;) {
      try {
        const channel = await Channel.open(this.socket, { notification: (method, params) => this.onNotification(method, params), lost: () => this.onLost() }, signal);
        if (this.closed) await channel.close();
        this.channel = channel;
        return channel;
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof TaskerdError) || !error.retryable || this.closed) throw error;
        const delay = backoff.next((error.retryAfter ?? 0) * 1000);
        if (performance.now() + delay >= until) throw error;
        await sleep(delay, signal);
      }
    }
  }

  private onNotification(method: string, params: Data): void {
    if (method !== 'task.event') return;
    for (const notified of this.watches.get(String(params['task_uuid'])) ?? []) notified(params);
  }

  private onLost(): void {
    for (const watchers of this.watches.values()) for (const notified of watchers) notified(undefined);
  }

  // -- creating ----------------------------------------------------------------------------------

  /** Create a task. The answer comes when it is durable. */
  async createTask(options: CreateTaskOptions, request: RequestOptions = {}): Promise<ClientTaskResponse> {
    const params = taskParams({ correlationId: randomUUID(), reason: 'Task requested', ...options }, this.defaults);
    return taskResponse({ ...params, ...(await this.map('task.create', params, request)) });
  }

  /**
   * Create many tasks; their outcomes come in order. They are sent in requests that respect the daemon's limits, a few at a
   * time. Each task stands alone; nothing is thrown for what befalls a single one.
   */
  async createTasks(tasks: Iterable<CreateTaskOptions>, request: RequestOptions = {}): Promise<CreateOutcome[]> {
    const { limits } = await this.open(performance.now() + this.timeoutMs);
    const outcomes: CreateOutcome[] = [];
    const underWay: Promise<void>[] = [];
    for (const chunk of chunks(tasks, limits, this.defaults, outcomes)) {
      if (underWay.length >= BULK_WINDOW) await underWay.shift();
      underWay.push(this.createChunk(chunk, outcomes, request));
    }
    await Promise.all(underWay);
    return outcomes;
  }

  private async createChunk(chunk: Chunk, outcomes: CreateOutcome[], request: RequestOptions): Promise<void> {
    try {
      const answer = await this.repeated('task.create_many', { tasks: chunk.tasks }, request, chunk.keyed);
      const { results } = answer;
      if (!Array.isArray(results) || results.length !== chunk.places.length) throw new ProtocolError('task.create_many was not answered with one result per task');
      chunk.places.forEach((place, i) => (outcomes[place] = outcomeOf(results[i])));
    } catch (error) {
      for (const place of chunk.places) outcomes[place] = { created: false, state: '', error: error as TaskerdError };
    }
  }

  private async repeated(method: string, params: Data, request: RequestOptions, harmless: boolean): Promise<Data> {
    const deadline = performance.now() + (request.timeoutMs ?? this.timeoutMs);
    for (;;) {
      try {
        return await this.map(method, params, { ...request, timeoutMs: deadline - performance.now() });
      } catch (error) {
        if (!(error instanceof ConnectionLostError) || !harmless || performance.now() >= deadline || this.closed) throw error;
      }
    }
  }

  // -- reading -----------------------------------------------------------------------------------

  /** A task, with its steps (all of them, however many pages) unless `steps` is false. */
  async getTask(taskUuid: string, options: RequestOptions & { steps?: boolean } = {}): Promise<ClientTaskResponse> {
    const params = { task_uuid: taskUuid, steps: options.steps ?? true, limit: STEPS_PAGE };
    let { next_cursor: cursor, ...whole } = await this.map('task.get', params, options);
    while (typeof cursor === 'string') {
      const page: Data = await this.map('task.get', { ...params, cursor }, options);
      whole = { ...whole, steps: [...((whole['steps'] as unknown[]) ?? []), ...((page['steps'] as unknown[]) ?? [])] };
      cursor = page['next_cursor'];
    }
    return taskResponse(whole);
  }

  /** Tasks, newest first. For the next page pass `pagination.next_cursor` as `cursor`; `offset` works too but reads what it skips. */
  async listTasks(options: ListTasksOptions = {}): Promise<ClientTaskListResponse> {
    const { limit = 50, offset = 0, namespace, status, name } = options;
    let { cursor } = options;
    const whole = cursor === undefined;
    const filter = { namespace, state: status, name };
    for (let skip = offset; skip > 0; ) {
      const page = await this.map('task.list', { ...filter, limit: Math.min(skip, 1000), cursor });
      skip -= Array.isArray(page['tasks']) ? page['tasks'].length : 0;
      if (typeof page['next_cursor'] !== 'string') return taskListResponse({}, limit, offset, whole);
      cursor = page['next_cursor'];
    }
    return taskListResponse(await this.map('task.list', { ...filter, limit, cursor }), limit, offset, whole);
  }

  /** All tasks, newest first, read page by page. */
  async *iterTasks(options: Omit<ListTasksOptions, 'limit' | 'offset' | 'cursor'> = {}): AsyncGenerator<ClientTaskResponse> {
    let cursor: string | null = null;
    do {
      const page: ClientTaskListResponse = await this.listTasks({ ...options, limit: 1000, ...(cursor === null ? {} : { cursor }) });
      yield* page.tasks;
      cursor = page.pagination.next_cursor;
    } while (cursor !== null);
  }

  /** End a task that is not finished. */
  async cancelTask(taskUuid: string, reason = 'cancelled by a client'): Promise<void> {
    await this.map('task.cancel', { task_uuid: taskUuid, reason });
  }

  /** The steps of a task. */
  async listTaskSteps(taskUuid: string): Promise<ClientStepResponse[]> {
    return (await this.getTask(taskUuid)).steps;
  }

  /** A step of a task, by uuid or name. */
  async getStep(taskUuid: string, step: string): Promise<ClientStepResponse> {
    const found = (await this.listTaskSteps(taskUuid)).find((row) => row.step_uuid === step || row.name === step);
    if (!found) throw new NotFoundError('not_found', `task ${taskUuid} has no step ${step}`);
    return found;
  }

  /** `{transitions, attempts, actions}` of a task; all of it, however many pages. */
  async getTaskHistory(taskUuid: string): Promise<Data> {
    const whole: Data = {};
    let cursor: unknown;
    do {
      const { next_cursor: next, ...page } = await this.map('task.history', { task_uuid: taskUuid, cursor });
      for (const [key, rows] of Object.entries(page)) whole[key] = Array.isArray(rows) ? [...((whole[key] as unknown[]) ?? []), ...(rows as unknown[])] : rows;
      cursor = next ?? undefined;
    } while (cursor !== undefined);
    return whole;
  }

  /** Every attempt of a step (by uuid or name), oldest first. */
  async getStepAuditHistory(taskUuid: string, step: string): Promise<ClientStepAuditResponse[]> {
    return auditRows(taskUuid, step, await this.getTaskHistory(taskUuid));
  }

  // -- following ---------------------------------------------------------------------------------

  /** Wait until nothing moves without an operator (`settled`), or `timeoutMs`. Does not poll. */
  async wait(taskUuid: string, options: RequestOptions = {}): Promise<WaitResult> {
    const deadline = performance.now() + (options.timeoutMs ?? Infinity);
    for (;;) {
      const ms = Math.round(Math.max(0, Math.min(deadline - performance.now(), WAIT_SLICE)));
      const asked = { ...options, timeoutMs: ms + this.timeoutMs };
      const answer = await this.map('task.wait', { task_uuid: taskUuid, timeout_ms: ms }, asked);
      const result = { task_uuid: taskUuid, state: String(answer['state']), settled: answer['settled'] === true, finished: answer['finished'] === true };
      if (result.settled || performance.now() >= deadline) return result;
    }
  }

  /** Wait as `wait` does and return the task; RequestTimeoutError if it is not settled. */
  async waitForTask(taskUuid: string, options: RequestOptions & { steps?: boolean } = {}): Promise<ClientTaskResponse> {
    const result = await this.wait(taskUuid, options);
    if (!result.settled) throw new RequestTimeoutError(`task ${taskUuid} is ${result.state} after ${options.timeoutMs} ms`);
    return this.getTask(taskUuid, { steps: options.steps ?? true });
  }

  /**
   * Follow a task: its events, until it is finished. The first one tells the state at the beginning. After a lost connection
   * the watch goes on with the state found then.
   */
  async *watch(taskUuid: string, options: { signal?: AbortSignal } = {}): AsyncGenerator<Data> {
    const { signal } = options;
    const events: Data[] = [];
    let lost = true;
    let wake: (() => void) | undefined;
    const notified: Notified = (params) => {
      if (params === undefined) lost = true;
      else if (Array.isArray(params['events'])) events.push(...params['events'].filter(isMap));
      wake?.();
    };
    const stop = (): void => wake?.();
    const watchers = this.watches.get(taskUuid) ?? new Set();
    this.watches.set(taskUuid, watchers.add(notified));
    signal?.addEventListener('abort', stop);
    try {
      for (;;) {
        signal?.throwIfAborted();
        const event = events.shift();
        if (event) {
          yield event;
          if (event['kind'] === 'task' && FINISHED_STATES.has(String(event['state']))) return;
        } else if (lost) {
          lost = false;
          const task = await this.map('task.watch', { task_uuid: taskUuid }, signal ? { signal } : {});
          (await this.open(performance.now() + this.timeoutMs)).session.ref();
          events.unshift({ kind: 'task', state: task['state'], at: task['updated_at'] });
        } else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      signal?.removeEventListener('abort', stop);
      watchers.delete(notified);
      if (watchers.size === 0) await this.unwatch(taskUuid);
    }
  }

  private async unwatch(taskUuid: string): Promise<void> {
    this.watches.delete(taskUuid);
    const { channel } = this;
    if (!channel || channel.closed) return;
    await channel.request('task.unwatch', { task_uuid: taskUuid }, this.timeoutMs).catch(() => undefined);
  }

  // -- templates ---------------------------------------------------------------------------------

  /** Register a template in YAML or JSON. InvalidTemplateError lists what is wrong with it. */
  async applyTemplate(source: string, options: { filename?: string; strict?: boolean; replaceUnused?: boolean } = {}): Promise<Data> {
    return this.map('template.apply', { source, filename: options.filename, strict: options.strict, replace_unused: options.replaceUnused });
  }

  /** `{ok, findings}` of a template. */
  async validateTemplate(source: string, options: { filename?: string; strict?: boolean } = {}): Promise<Data> {
    return this.map('template.validate', { source, ...options });
  }

  async listTemplates(namespace?: string): Promise<Data[]> {
    return list(await this.map('template.list', { namespace }), 'templates');
  }

  /** A template with its definition; the newest version unless one is named. */
  async getTemplate(name: string, options: { namespace?: string; version?: string } = {}): Promise<Data> {
    return this.map('template.get', { namespace: options.namespace ?? 'default', name, version: options.version });
  }

  // -- events ------------------------------------------------------------------------------------

  /** Publish an event; `{event_id, msg_id}`. `options` are params of `event.publish`: `namespace`, `delivery_mode`, `metadata`, ... */
  async publishEvent(name: string, payload: unknown = null, options: Data = {}): Promise<Data> {
    return this.map('event.publish', { name, payload, ...options });
  }

  /** Take durable events from a namespace's queue. */
  async consumeEvents(options: ConsumeOptions = {}): Promise<EventMessage[]> {
    const { namespace, limit = 1, visibilityMs = 30_000, waitMs = 0, patterns } = options;
    const params = { namespace, max: limit, visibility_ms: visibilityMs, wait_ms: waitMs, patterns };
    return list(await this.map('event.consume', params, { timeoutMs: waitMs + GRACE }), 'messages') as EventMessage[];
  }

  /** Remove events (or ids) that `consumeEvents` gave. */
  async ackEvents(messages: readonly (EventMessage | number)[], namespace?: string): Promise<Data> {
    return this.map('event.ack', messageIds(messages, namespace));
  }

  /** Keep events for `visibilityMs` more; 0 gives them back. */
  async extendEvents(messages: readonly (EventMessage | number)[], visibilityMs: number, namespace?: string): Promise<Data> {
    return this.map('event.extend', { ...messageIds(messages, namespace), visibility_ms: visibilityMs });
  }

  /** The queues of durable events. */
  async listEventQueues(): Promise<Data[]> {
    return list(await this.map('event.list'), 'queues');
  }

  /** An async iterator over fast events, on a connection of its own; it is subscribed when the promise is fulfilled. */
  async subscribeEvents(patterns: readonly string[] = ['*'], options: Omit<EventStreamOptions, 'socket'> = {}): Promise<EventStream> {
    const stream = new EventStream(patterns, { ...options, socket: this.socket });
    await stream.connect();
    return stream;
  }

  // -- looking around ----------------------------------------------------------------------------

  /** Whether the daemon has its database; ConnectionLostError if there is no daemon. */
  async healthCheck(): Promise<ClientHealthResponse> {
    const info = await this.serverInfo();
    const state = isMap(info['database']) ? info['database']['state'] : undefined;
    return { healthy: state === 'up' || state === 'ready', info };
  }

  /** Version, node, database and counters of the daemon. */
  async serverInfo(): Promise<Data> {
    return this.map('server.info');
  }

  async listWorkers(): Promise<Data[]> {
    return list(await this.map('worker.list'), 'workers');
  }

  async listNodes(): Promise<Data[]> {
    return list(await this.map('node.list'), 'nodes');
  }

  /** Steps that wait, by namespace and handler. */
  async listQueues(): Promise<Data[]> {
    return list(await this.map('queue.list'), 'queues');
  }

  /** The daemon's check of its own data. */
  async doctor(): Promise<Data> {
    return this.map('doctor');
  }

  /** Milliseconds for a round trip. */
  async ping(): Promise<number> {
    const start = performance.now();
    await this.request('ping');
    return performance.now() - start;
  }
}

/** Reject as soon as a signal is aborted; the answer is then nobody's. */
function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', stop, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}

function list(answer: Data, field: string): Data[] {
  const value = answer[field];
  return Array.isArray(value) ? value.filter(isMap) : [];
}

function messageIds(messages: readonly (EventMessage | number)[], namespace: string | undefined): Data {
  const ids = messages.map((message) => (typeof message === 'object' ? message.msg_id : message));
  const counts = messages.map((message) => (typeof message === 'object' ? message.read_count : undefined));
  return { namespace, ids, read_counts: counts.includes(undefined) ? undefined : counts };
}

function outcomeOf(result: unknown): CreateOutcome {
  const row = isMap(result) ? result : {};
  if (isMap(row['error'])) return { created: false, state: '', error: TaskerdError.fromWire(row['error']) };
  return { task_uuid: String(row['task_uuid'] ?? ''), created: row['created'] === true, state: String(row['state'] ?? '') };
}

/** One `task.create_many`: places of its tasks in the caller's list, and whether all of them have idempotency keys. */
interface Chunk {
  places: number[];
  tasks: Data[];
  keyed: boolean;
}

/** Requests that respect the daemon's limits, made as they are asked for. A task that cannot be sent gets its outcome here. */
function* chunks(tasks: Iterable<CreateTaskOptions>, limits: Limits, defaults: Data, outcomes: CreateOutcome[]): Generator<Chunk> {
  const encoder = new Encoder();
  const [maxBytes, maxItems] = splitLimits(limits);
  // A frame of fewer bytes than max_items needs no counting of items.
  const cap = Math.min(maxBytes, maxItems);
  let chunk: Chunk = { places: [], tasks: [], keyed: true };
  let size = 0;
  for (const task of tasks) {
    const place = outcomes.push({ created: false, state: '' }) - 1;
    const params = taskParams({ reason: 'Task requested', ...task }, defaults);
    let length: number;
    try {
      length = packRequest(encoder, 0, 'task.create', params, { ...limits, max_frame: maxBytes, max_items: maxItems }).length;
    } catch (error) {
      outcomes[place] = { created: false, state: '', error: error as TaskerdError };
      continue;
    }
    if (chunk.places.length > 0 && (size + length > cap || chunk.places.length >= limits.max_bulk)) {
      yield chunk;
      chunk = { places: [], tasks: [], keyed: true };
      size = 0;
    }
    chunk.places.push(place);
    chunk.tasks.push(params);
    chunk.keyed &&= Boolean(params['idempotency_key']);
    size += length;
  }
  if (chunk.places.length > 0) yield chunk;
}
