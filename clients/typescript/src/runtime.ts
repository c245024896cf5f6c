/**
 * The worker's session with the daemon: the open steps, and the results that are not acknowledged.
 *
 * It survives every loss of the connection: it reconnects, resumes what handlers still run, and sends again what was not
 * acknowledged. Results that become ready in the same turn of the event loop leave in one frame.
 */

import { Claim, Encoder, NOTIFICATION, REQUEST, RESPONSE, arrayHeader, isMap, splitLimits, type Data, type Envelope, safeText } from './codec.js';
import { ABANDONED, Attempt, FINISHED, RUNNING, WAITING, type StepHost, type WireStep } from './context.js';
import { fetchRest } from './dependencies.js';
import { ConnectionLostError, ProtocolError, RequestTimeoutError, TaskerdError } from './errors.js';
import { log, quoted } from './log.js';
import { clearTimeout, now, setTimeout } from './own.js';
import { StepHandlerResult } from './results.js';
import type { StepRunner } from './runner.js';
import { Backoff, Complaints, Session, type Welcome, type WorkerHello } from './transport.js';

/** Refusals of the handshake that waiting will not change. */
const FATAL_CODES = new Set(['unsupported_version', 'permission_denied', 'bad_request', 'invalid_value', 'too_large', 'unknown_method']);
const RESUME_TIMEOUT = 30_000;
const REQUEST_TIMEOUT = 60_000;
/** Progress and log lines are dropped while more than this waits to be sent. */
const MAX_BACKLOG = 1 << 20;
const MAX_LOG = 8192;
/** A connection that lived this long, or on which a result was acknowledged, was good: the next reconnect starts from the
 * shortest wait. One that is closed again and again at once backs off. */
const GOOD_MS = 5000;

interface Request {
  method: string;
  params: Data;
  resolve(result: unknown): void;
  reject(error: Error): void;
}

interface Link {
  session: Session;
  /** True once the steps of an earlier connection are settled. */
  ready: boolean;
  born: number;
  resumeId: number | undefined;
  timers: NodeJS.Timeout[];
  /** Ends `serve`: undefined if the work is done. */
  over(reason: Error | undefined): void;
}

export interface RuntimeOptions {
  path: string;
  hello: WorkerHello;
  runner: StepRunner;
  /** Handlers that run at a time. */
  concurrency: number;
  ackTimeoutMs: number;
  abandonAfterMs: number | null;
  handlerTimeoutMs: number | null;
}

/** Runs a worker until it has drained or failed for good. */
export class WorkerRuntime implements StepHost {
  welcome: Welcome | undefined;
  failure: Error | undefined;
  /** Fulfilled when the worker has ended. */
  readonly finished: Promise<void>;
  connected = false;
  ended = false;
  readonly counters: Record<string, number> = {
    received: 0,
    recorded: 0,
    duplicate: 0,
    stale: 0,
    rejected: 0,
    not_claimed: 0,
    released: 0,
    reconnects: 0,
    abandoned: 0,
    failed: 0,
  };
  /** Called at every connection. */
  onConnected: (() => void) | undefined;
  /** Called when the daemon may have templates that this worker has not seen. */
  onTemplates: (() => void) | undefined;

  private readonly open = new Map<string, Attempt>();
  private readonly unacked = new Map<string, { attempt: Attempt; data: Buffer }>();
  /** Acknowledgements still to come for results of earlier deliveries of an attempt: a step that yielded at a checkpoint comes
   * again as the same attempt, perhaps before its yield is acknowledged. */
  private readonly earlier = new Map<string, number>();
  private out: { attempt: Attempt; data: Buffer }[] = [];
  private waiting: Attempt[] = [];
  private readonly running = new Set<Attempt>();
  private readonly cancelled = new Map<Attempt, number>();
  private readonly requests = new Map<number, Request>();
  private unsent: Request[] = [];
  private nextId = 1;
  private link: Link | undefined;
  private flushing = false;
  private progress = false;
  private announced = false;
  private drainWanted = false;
  private draining = false;
  private drainLimit: number | undefined;
  private aborted = false;
  private readonly aborter = new AbortController();
  private endPause: (() => void) | undefined;
  private sweepTimer: NodeJS.Timeout | undefined;
  private sweepAt = Infinity;
  private begin: (() => void) | undefined;
  private readonly encoder = new Encoder();
  private readonly notified: Record<string, (params: Data) => void> = {
    'step.execute': (params) => this.onExecute(params),
    'result.ack': (params) => this.onAck(params),
    'step.cancel': (params) => this.onCancel(params),
    'templates.changed': () => this.onTemplates?.(),
    'server.draining': () => log.info('taskerd is stopping; running steps go on, their results follow after the reconnect'),
    'worker.finish': () => {
      log.info('an operator sends this worker home; it finishes what it runs, and ends');
      this.drain();
    },
    error: (params) => log.error(`taskerd complains: ${TaskerdError.fromWire(params).message}`),
  };
  private readonly prefix: Buffer;

  constructor(private readonly options: RuntimeOptions) {
    const { encoder } = this;
    encoder.reset();
    encoder.arrayHeader(3);
    encoder.value(NOTIFICATION);
    encoder.text('step.result');
    encoder.mapHeader(1);
    encoder.text('results');
    this.prefix = encoder.take();
    const started = new Promise<void>((resolve) => (this.begin = resolve));
    this.finished = started.then(() => this.main());
  }

  /** Begin. */
  start(): void {
    this.begin?.();
  }

  /** Begin no further step, finish those that run, wait for their acknowledgements, then end. */
  drain(): void {
    this.drainWanted = true;
    this.endPause?.();
    this.drainStep();
  }

  /** End now; the daemon sees the connection close with steps open. */
  abort(): void {
    this.aborted = true;
    this.aborter.abort();
    this.endPause?.();
    this.link?.over(undefined);
  }

  /** Offer other handlers: the daemon learns them by a reconnect, over which running steps are held. */
  announce(handlers: string[]): void {
    this.options.hello.handlers = handlers;
    this.announced = true;
    this.link?.over(new ConnectionLostError('reconnecting to offer other handlers'));
  }

  get isDraining(): boolean {
    return this.drainWanted;
  }

  /** Steps held and not yet finished. */
  get openSteps(): number {
    return this.open.size;
  }

  /** Handlers that run. */
  get runningHandlers(): number {
    return this.running.size;
  }

  /** Results the daemon has not confirmed. */
  get unacknowledged(): number {
    return this.unacked.size + this.out.length;
  }

  // -- what handlers ask for ---------------------------------------------------------------------

  async storeCheckpoint(params: Data): Promise<string> {
    return String((await this.request('step.checkpoint', params))['status'] ?? '');
  }

  sendProgress(stepUuid: string, attempt: number, progress: unknown): void {
    this.notify('step.heartbeat', { step_uuid: stepUuid, attempt, progress });
  }

  sendLog(stepUuid: string | undefined, level: string, message: string, fields: Data): void {
    const named = Object.entries(fields).map(([name, value]) => [safeText(name, MAX_LOG), safeText(value, MAX_LOG)]);
    const params = { step_uuid: stepUuid, level, message: safeText(message, MAX_LOG), fields: Object.fromEntries(named) as Data };
    this.notify('step.log', params);
  }

  /** Something that may be lost: it is dropped while there is no connection. */
  private notify(method: string, params: Data): void {
    const { link } = this;
    const data = this.encoder.frame([NOTIFICATION, method, params]);
    if (link?.ready && link.session.backlog < MAX_BACKLOG) link.session.send(data);
  }

  private request(method: string, params: Data): Promise<Data> {
    this.encoder.value(params, method); // a bad value is told to whoever has it
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new RequestTimeoutError(`no answer to ${method} within ${REQUEST_TIMEOUT / 1000} s`)), REQUEST_TIMEOUT);
      const request: Request = {
        method,
        params,
        resolve: (result) => {
          clearTimeout(timer);
          resolve(isMap(result) ? result : {});
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      if (this.ended) request.reject(new ConnectionLostError('the worker has ended'));
      else if (this.link?.ready) this.sendRequest(this.link, request);
      else this.unsent.push(request);
    });
  }

  // -- connections -------------------------------------------------------------------------------

  private async main(): Promise<void> {
    try {
      await this.sessions();
    } catch (error) {
      this.failure = error as Error;
      log.error(`the worker stops: ${this.failure.message}`);
    } finally {
      this.end();
    }
  }

  /** One connection after the other, until the work is done. */
  private async sessions(): Promise<void> {
    const backoff = new Backoff();
    const complaints = new Complaints();
    while (!this.aborted) {
      let session: Session;
      try {
        session = await this.connect();
        complaints.over();
      } catch (error) {
        if (this.aborted) return;
        if (!(error instanceof TaskerdError) || FATAL_CODES.has(error.code)) throw error;
        if (this.giveUp()) return;
        const delay = backoff.next((error.retryAfter ?? 0) * 1000);
        if (complaints.due()) log.warn(`${error.code === 'connection_lost' ? '' : 'taskerd refuses the session: '}${error.message}; trying on`);
        await this.pause(delay);
        continue;
      }
      const born = now();
      const reason = await this.serve(session);
      if (reason === undefined) return;
      if (this.announced) continue;
      log.warn(`connection to taskerd lost: ${reason.message}`);
      if (this.progress || now() - born >= GOOD_MS) backoff.reset();
      if (!this.giveUp()) await this.pause(backoff.next());
      else return;
    }
  }

  private async connect(): Promise<Session> {
    this.collect();
    this.progress = this.announced = false;
    this.earlier.clear();
    const { welcome } = this;
    const resume = welcome && { session: welcome.session, held: this.open.size + this.unacked.size };
    const session = await Session.open(this.options.path, this.options.hello, resume, this.aborter.signal);
    if (welcome) this.counters['reconnects'] = (this.counters['reconnects'] ?? 0) + 1;
    this.welcome = session.welcome;
    this.options.runner.room = splitLimits(session.welcome.limits);
    return session;
  }

  /** Fulfilled with the reason when the connection is lost, with nothing when the worker has drained. */
  private serve(session: Session): Promise<Error | undefined> {
    return new Promise((resolve) => {
      const link: Link = { session, ready: false, born: now(), resumeId: undefined, timers: [], over: (reason) => this.unlink(link, reason, resolve) };
      this.link = link;
      const beat = Math.max(50, session.welcome.heartbeatMs / 3);
      link.timers.push(setInterval(() => this.beat(link, beat), beat));
      this.resume(link);
      session.attach({
        envelope: (envelope) => this.dispatch(link, envelope),
        closed: (reason) => link.over(reason ?? new ConnectionLostError('taskerd closed the connection')),
      });
      if (this.link !== link) return;
      this.onTemplates?.();
      const { server, workerUuid, resumed } = session.welcome;
      log.info(`connected to ${server} (${this.options.path}) as ${workerUuid}${resumed ? ', session resumed' : ''}`);
      if (this.aborted) link.over(undefined);
    });
  }

  private unlink(link: Link, reason: Error | undefined, resolve: (reason: Error | undefined) => void): void {
    if (this.link !== link) return;
    this.link = undefined;
    this.connected = false;
    for (const timer of link.timers) clearInterval(timer);
    link.session.close();
    resolve(reason);
  }

  private beat(link: Link, beat: number): void {
    const at = now();
    if (!link.ready && at - link.born > RESUME_TIMEOUT) link.over(new ConnectionLostError('taskerd did not answer session.resume'));
    else if (at - link.session.sentAt >= beat * 0.9) this.send(link, 'heartbeat', {});
  }

  /** First thing on a connection: which attempts this process still has. Those whose results are about to be sent again count
   * too, lest the daemon gives them to others before the results arrive. */
  private resume(link: Link): void {
    const held = [...this.open.values(), ...[...this.unacked.values()].map((entry) => entry.attempt)];
    if (held.length === 0) {
      this.becomeReady(link);
      return;
    }
    link.resumeId = this.takeId();
    const steps = held.map(({ step }) => ({ step_uuid: step.step_uuid, attempt: step.attempt, claim: new Claim(step.claim) }));
    link.session.send(this.encoder.frame([REQUEST, link.resumeId, 'session.resume', { steps }]));
  }

  /** Then the results that were not acknowledged, and the requests that were not answered. */
  private becomeReady(link: Link): void {
    link.ready = true;
    this.connected = true;
    if (this.unacked.size > 0) {
      log.info(`sending ${this.unacked.size} unacknowledged results again`);
      this.sendResults(link, [...this.unacked.values()].map((entry) => this.fitted(entry)));
    }
    const requests = [...this.requests.values(), ...this.unsent];
    this.requests.clear();
    this.unsent = [];
    for (const request of requests) this.sendRequest(link, request);
    if (this.draining) this.send(link, 'worker.update', { draining: true });
    this.flush();
    this.onConnected?.();
  }

  /** A daemon may come back with smaller limits. */
  private fitted(entry: { attempt: Attempt; data: Buffer }): Buffer {
    const [limit] = this.options.runner.room;
    if (entry.data.length > limit) {
      const said = `the handler's result cannot be sent: ${entry.data.length} bytes, the daemon takes ${limit}`;
      entry.data = this.options.runner.encode(entry.attempt, StepHandlerResult.failure(said, 'result_too_large', false), 0);
    }
    return entry.data;
  }

  // -- messages from the daemon ------------------------------------------------------------------

  private dispatch(link: Link, envelope: Envelope): void {
    if (envelope[0] === RESPONSE) this.onResponse(link, envelope[1], envelope[2], envelope[3]);
    else if (Object.hasOwn(this.notified, envelope[1])) (this.notified[envelope[1]] as (params: Data) => void)(envelope[2]);
  }

  private onExecute(params: Data): void {
    const at = now();
    const steps = rows(params, 'step.execute', 'steps').map(checkedStep);
    for (const step of steps) {
      const attempt = new Attempt(`${step.step_uuid}:${step.attempt}`, step, this, at);
      if ((this.open.has(attempt.key) || this.unacked.has(attempt.key)) && this.sentTwice(attempt)) continue;
      this.open.set(attempt.key, attempt);
      this.counters['received'] = (this.counters['received'] ?? 0) + 1;
      if (this.draining) this.release(attempt);
      else this.waiting.push(attempt);
    }
    this.fill();
  }

  /** True if the attempt is here already. With another claim it is a new delivery (the first was given back without using an
   * attempt), and what this process still does for the first is void. */
  private sentTwice(attempt: Attempt): boolean {
    const { key } = attempt;
    const old = this.open.get(key) ?? (this.unacked.get(key)?.attempt as Attempt);
    if (old.step.claim.equals(attempt.step.claim)) return true;
    this.cancel(old, 'stale');
    if (this.unacked.delete(key)) this.earlier.set(key, (this.earlier.get(key) ?? 0) + 1);
    return false;
  }

  private onAck(params: Data): void {
    this.progress = true;
    for (const ack of rows(params, 'result.ack', 'acks')) {
      const { step_uuid: uuid, attempt, status, message } = ack;
      if (typeof uuid !== 'string' || typeof attempt !== 'number' || typeof status !== 'string') {
        throw new ProtocolError('result.ack lacks a field or has one of the wrong type');
      }
      const key = `${uuid}:${attempt}`;
      if (this.earlier.size === 0 || !this.wasEarlier(key)) this.unacked.delete(key);
      this.counters[status] = (this.counters[status] ?? 0) + 1;
      if (status === 'recorded' || status === 'duplicate') continue;
      const said = `result of step ${uuid}, attempt ${attempt}: ${status} ${typeof message === 'string' ? message : ''}`;
      if (status === 'stale') log.info(said);
      else log.error(said);
    }
    if (this.drainWanted) this.drainStep();
  }

  /** True if an acknowledgement is for an earlier delivery of an attempt than the one held. */
  private wasEarlier(key: string): boolean {
    const count = this.earlier.get(key) ?? 0;
    if (count > 1) this.earlier.set(key, count - 1);
    else this.earlier.delete(key);
    return count > 0;
  }

  private onCancel(params: Data): void {
    const attempt = this.open.get(`${String(params['step_uuid'])}:${String(params['attempt'])}`);
    if (attempt) this.cancel(attempt, typeof params['reason'] === 'string' ? params['reason'] : 'stale');
  }

  private onResponse(link: Link, id: number, error: Data | null, result: unknown): void {
    if (id === link.resumeId) {
      link.resumeId = undefined;
      if (error) throw new ConnectionLostError(`session.resume failed: ${TaskerdError.fromWire(error).message}`);
      this.onResumed(result);
      this.becomeReady(link);
      return;
    }
    const request = this.requests.get(id);
    if (!request) return;
    this.requests.delete(id);
    if (error) request.reject(TaskerdError.fromWire(error));
    else request.resolve(result);
  }

  /** Attempts that went to others are dropped; their handlers are told. A result is sent again whatever this says, for it may
   * have been recorded before the connection broke. */
  private onResumed(result: unknown): void {
    for (const step of rows(isMap(result) ? result : {}, 'session.resume', 'steps')) {
      if (step['status'] === 'held') continue;
      const key = `${String(step['step_uuid'])}:${String(step['attempt'])}`;
      const attempt = this.open.get(key);
      if (!attempt) continue;
      this.open.delete(key);
      this.cancel(attempt, 'stale');
      this.counters['stale'] = (this.counters['stale'] ?? 0) + 1;
    }
  }

  // -- handlers ----------------------------------------------------------------------------------

  private fill(): void {
    while (this.running.size < this.options.concurrency && this.waiting.length > 0) this.start1(this.waiting.shift() as Attempt);
  }

  private start1(attempt: Attempt): void {
    this.running.add(attempt);
    const { handlerTimeoutMs } = this.options;
    if (handlerTimeoutMs !== null) {
      attempt.deadline = now() + handlerTimeoutMs;
      this.sweepBy(attempt.deadline);
    }
    if (attempt.step['dependencies_partial'] === true) void this.startPartial(attempt);
    else this.options.runner.run(attempt, this.done);
  }

  /** Results that were left out of a step for size are asked for before the handler, to which they are just there. */
  private async startPartial(attempt: Attempt): Promise<void> {
    try {
      await fetchRest(attempt.step, (method, params) => this.request(method, params));
    } catch (error) {
      this.done(attempt, StepHandlerResult.failure(`results of earlier steps were not to be had: ${(error as Error).message}`), 0);
      return;
    }
    this.options.runner.run(attempt, this.done);
  }

  private readonly done = (attempt: Attempt, result: StepHandlerResult, elapsedMs: number, events?: Data[]): void => {
    if (attempt.stage === ABANDONED) return;
    attempt.stage = FINISHED;
    this.running.delete(attempt);
    if (this.cancelled.size > 0) this.cancelled.delete(attempt);
    if (!result.success) this.counters['failed'] = (this.counters['failed'] ?? 0) + 1;
    this.out.push({ attempt, data: this.options.runner.encode(attempt, result, elapsedMs, events) });
    if (!this.flushing) {
      this.flushing = true;
      queueMicrotask(this.flushLater);
    }
    if (this.waiting.length > 0) this.fill();
  };

  private readonly flushLater = (): void => {
    this.flushing = false;
    this.flush();
  };

  private cancel(attempt: Attempt, reason: string): void {
    const { abandonAfterMs } = this.options;
    if (attempt.cancelReason === undefined && abandonAfterMs !== null && attempt.stage <= RUNNING) {
      const due = now() + abandonAfterMs;
      this.cancelled.set(attempt, due);
      this.sweepBy(due);
    }
    attempt.cancel(reason);
  }

  private sweepBy(due: number): void {
    if (due >= this.sweepAt) return;
    clearTimeout(this.sweepTimer);
    this.sweepAt = due;
    this.sweepTimer = setTimeout(() => this.sweep(), Math.max(1, Math.ceil(due - now())));
  }

  /** Handlers whose time is up are waited for no longer, so that one that hangs costs only its own attempt. */
  private sweep(): void {
    this.sweepAt = Infinity;
    const at = now();
    let next = Infinity;
    for (const attempt of [...this.running]) {
      const due = Math.min(attempt.deadline, this.cancelled.get(attempt) ?? Infinity);
      if (due > at) next = Math.min(next, due);
      else if (attempt.deadline <= at && attempt.cancelReason === undefined) this.timeOut(attempt);
      else this.abandon(attempt, `cancelled (${attempt.cancelReason ?? 'timeout'}), and the handler did not return`, 'cancelled');
    }
    if (next < Infinity) this.sweepBy(next);
  }

  private timeOut(attempt: Attempt): void {
    attempt.cancel('timeout');
    this.abandon(attempt, `the handler did not return within ${this.options.handlerTimeoutMs} ms`, 'timeout');
  }

  private abandon(attempt: Attempt, message: string, type: string): void {
    log.error(`step ${attempt.step.step_uuid} of handler ${quoted(attempt.step.handler.callable)}: ${message}`);
    this.counters['abandoned'] = (this.counters['abandoned'] ?? 0) + 1;
    this.done(attempt, StepHandlerResult.failure(message, type), now() - attempt.startedAt);
    attempt.stage = ABANDONED;
  }

  // -- messages to the daemon --------------------------------------------------------------------

  private send(link: Link, method: string, params: Data): void {
    link.session.send(this.encoder.frame([NOTIFICATION, method, params]));
  }

  private takeId(): number {
    const id = this.nextId;
    this.nextId = id < 0xffffffff ? id + 1 : 1;
    return id;
  }

  private sendRequest(link: Link, request: Request): void {
    const id = this.takeId();
    this.requests.set(id, request);
    link.session.send(this.encoder.frame([REQUEST, id, request.method, request.params]));
  }

  /** Send what handlers have left. */
  private flush(): void {
    const { link } = this;
    if (!link?.ready) return;
    if (this.out.length > 0) this.sendResults(link, this.collect());
    if (this.drainWanted) this.drainStep();
  }

  /** Move finished steps from the open to the unacknowledged. */
  private collect(): Buffer[] {
    const items: Buffer[] = [];
    for (const entry of this.out) {
      const { key } = entry.attempt;
      if (this.open.get(key) !== entry.attempt) continue;
      this.open.delete(key);
      this.unacked.set(key, entry);
      items.push(entry.data);
    }
    this.out = [];
    return items;
  }

  /** As few `step.result` frames as the limits allow. An item has at least one byte, so a frame below `max_items` bytes needs
   * no counting; a larger item was counted alone and goes alone. */
  private sendResults(link: Link, items: Buffer[]): void {
    const cap = Math.min(...this.options.runner.room);
    let first = 0;
    let size = 0;
    for (let i = 0; i < items.length; i++) {
      const { length } = items[i] as Buffer;
      if (size > 0 && size + length > cap) {
        this.sendFrame(link, items.slice(first, i), size);
        first = i;
        size = 0;
      }
      size += length;
    }
    if (size > 0) this.sendFrame(link, first === 0 ? items : items.slice(first), size);
  }

  private sendFrame(link: Link, items: Buffer[], size: number): void {
    const header = arrayHeader(items.length);
    const length = this.prefix.length + header.length + size;
    const head = Buffer.allocUnsafe(4);
    head.writeUInt32BE(length, 0);
    link.session.send(Buffer.concat([head, this.prefix, header, ...items], length + 4));
  }

  // -- ending ------------------------------------------------------------------------------------

  /** One look at the way to the end. */
  private drainStep(): void {
    const { link } = this;
    if (!link?.ready || !this.drainWanted) return;
    if (!this.draining) {
      this.beginDrain();
      this.send(link, 'worker.update', { draining: true });
    }
    if (this.open.size + this.unacked.size + this.out.length > 0) return;
    link.ready = false;
    const bye = this.encoder.frame([NOTIFICATION, 'goodbye', {}]);
    void link.session.finish(bye, this.options.ackTimeoutMs).then((sent) => {
      if (!sent) log.warn('goodbye was not sent');
      link.over(undefined);
    });
  }

  /** Steps that no handler has begun stay with the daemon: goodbye gives them to others at no cost. */
  private beginDrain(): void {
    this.draining = true;
    const { waiting } = this;
    this.waiting = [];
    for (const attempt of waiting) this.release(attempt);
    log.info(`draining: ${this.open.size} steps run, ${this.unacknowledged} results to be acknowledged`);
  }

  private release(attempt: Attempt): void {
    if (attempt.stage === WAITING && this.open.delete(attempt.key)) this.counters['released'] = (this.counters['released'] ?? 0) + 1;
  }

  /** Without a connection: true if nothing is left to deliver; throws if delivering has become hopeless. */
  private giveUp(): boolean {
    if (!this.drainWanted || this.aborted) return this.aborted;
    if (!this.draining) this.beginDrain();
    this.collect();
    if (this.open.size > 0) {
      this.drainLimit = undefined;
      return false;
    }
    if (this.unacked.size === 0) return true;
    this.drainLimit ??= now() + this.options.ackTimeoutMs;
    if (now() >= this.drainLimit) throw new ConnectionLostError(`${this.unacked.size} results were never acknowledged`);
    return false;
  }

  /** Wait before the next attempt to connect; a drain or abort ends the wait. */
  private pause(ms: number): Promise<void> {
    if (this.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.endPause?.(), ms);
      this.endPause = () => {
        clearTimeout(timer);
        this.endPause = undefined;
        resolve();
      };
    });
  }

  private end(): void {
    this.ended = true;
    clearTimeout(this.sweepTimer);
    this.waiting = [];
    for (const attempt of this.running) attempt.cancel('shutdown');
    const lost = new ConnectionLostError('the worker has ended');
    for (const request of [...this.requests.values(), ...this.unsent]) request.reject(lost);
    this.requests.clear();
  }
}

/** A list of maps in the params of a message. */
function rows(params: Data, message: string, field: string): Data[] {
  const value = params[field] ?? [];
  if (!Array.isArray(value) || !value.every(isMap)) throw new ProtocolError(`${message}: ${field} is no list of maps`);
  return value;
}

function checkedStep(step: Data): WireStep {
  const { handler } = step;
  const whole =
    typeof step['step_uuid'] === 'string' &&
    typeof step['task_uuid'] === 'string' &&
    Number.isSafeInteger(step['attempt']) &&
    Buffer.isBuffer(step['claim']) &&
    isMap(handler) &&
    typeof handler['callable'] === 'string';
  if (!whole) throw new ProtocolError('a step of step.execute lacks a field or has one of the wrong type');
  return step as WireStep;
}
