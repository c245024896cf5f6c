/** Worker: offers this process's handlers to the daemon and runs the steps it sends. */

import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename } from 'node:path';
import type { AsyncTaskerClient } from './client.js';
import { isMap, safeText, type Data } from './codec.js';
import { HandlerSystem, templateFiles } from './discovery.js';
import { ConflictError, ConnectionLostError, PermissionDeniedError, TaskerdError, WorkerAlreadyRunningError, WorkerBootstrapError, findingLine } from './errors.js';
import { describeFailure, type ImportFailure } from './loader.js';
import { bridgeConsole, log, setLevels, unbridgeConsole, type Level } from './log.js';
import { loadTracing } from './otel.js';
import { now } from './own.js';
import { HandlerRegistry, type HandlerEntry, type HandlerSpec } from './registry.js';
import { messageOf } from './results.js';
import { StepRunner } from './runner.js';
import { WorkerRuntime } from './runtime.js';
import { Complaints, sleep, socketPath } from './transport.js';

export const DEFAULT_CONCURRENCY = 10;

export interface WorkerOptions {
  /** The handlers. */
  registry?: HandlerRegistry;
  /** Handlers as classes or functions made by `defineHandler`, and paths of files and directories of them. */
  handlers?: readonly (HandlerEntry | string)[];
  /** The daemon's socket; see `socketPath` for where it is looked for. */
  socket?: string;
  /** Handlers that run at a time. */
  concurrency?: number;
  /** Steps held ready beyond those, default as many. More raises the throughput of short handlers; 0 suits long ones. */
  prefetch?: number;
  /** What people see in lists of workers; default is host and process id. */
  name?: string;
  /** Namespaces to serve; default all. */
  namespaces?: readonly string[];
  /** Directory (or file) whose templates are registered at the start; default is what TASKER_TEMPLATE_PATH says, if set. */
  templates?: string;
  /** How long to wait for the daemon at the start; null (the default) waits for ever. */
  connectTimeoutMs?: number | null;
  /** How long to wait, while stopping without a connection, for a chance to deliver results. */
  ackTimeoutMs?: number;
  /** How long a handler has to return after its step was cancelled. Then its place is given to another; null: never. */
  abandonAfterMs?: number | null;
  /** How long a handler may run, whatever its template says; null (the default): as long as that allows. */
  handlerTimeoutMs?: number | null;
  /** What handlers log goes to the daemon's log from this level on. */
  daemonLogLevel?: Level;
  /** Whether the worker may start without a handler, for those that are registered later. */
  mayBeEmpty?: boolean;
}

export type WorkerState = 'created' | 'running' | 'draining' | 'stopped';

/** A look at a worker. */
export interface WorkerStatus {
  running: boolean;
  environment: string;
  worker_core_status: WorkerState | 'not_initialized';
  worker_id: string | null;
  connected: boolean;
  supported_namespaces: string[];
  handlers: string[];
  concurrency: number;
  max_concurrency: number;
  open_steps: number;
  running_handlers: number;
  unacknowledged: number;
  counters: Record<string, number>;
  error: string | null;
}

/**
 * Runs steps of a daemon in this process.
 *
 * ```ts
 * const worker = new Worker({ handlers: [LoadCart, Charge] });
 * await worker.start();
 * // ...
 * await worker.stop();
 * ```
 */
export class Worker {
  readonly registry: HandlerRegistry;
  readonly socket: string;
  readonly name: string;
  readonly namespaces: string[];
  readonly concurrency: number;
  readonly prefetch: number;
  readonly system: HandlerSystem;
  private readonly templates: string | undefined;
  private readonly options: WorkerOptions;
  private runtime: WorkerRuntime | undefined;
  private offered: string[] = [];
  private callables: HandlerSpec[] = [];

  constructor(options: WorkerOptions = {}) {
    this.options = options;
    this.registry = options.registry ?? new HandlerRegistry();
    this.system = new HandlerSystem(this.registry);
    this.socket = socketPath(options.socket);
    this.concurrency = atLeast('concurrency', options.concurrency ?? DEFAULT_CONCURRENCY, 1);
    this.prefetch = atLeast('prefetch', options.prefetch ?? this.concurrency, 0);
    this.name = options.name ?? (process.env['HOSTNAME'] || `${hostname()}-${process.pid}`);
    this.templates = options.templates ?? process.env['TASKER_TEMPLATE_PATH']; // handler files may change it
    this.namespaces = options.namespaces?.length ? [...options.namespaces] : ['*'];
  }

  // -- life --------------------------------------------------------------------------------------

  /**
   * Import handlers, register templates, connect, and begin to run steps. Fulfilled when the connection stands; rejects with
   * the daemon's error if it refuses the session or a template, and with WorkerBootstrapError if there is no handler or no daemon
   * within `connectTimeoutMs`.
   */
  async start(): Promise<void> {
    if (this.runtime) throw new WorkerAlreadyRunningError('this worker was started before');
    const limit = this.options.connectTimeoutMs ?? null;
    const deadline = limit === null ? Infinity : now() + limit;
    await this.load();
    this.callables = await this.applyTemplates(deadline);
    this.offered = this.registry.offered(this.callables);
    const broken = this.system.importFailures.map(describeFailure);
    if (this.offered.length === 0 && !this.options.mayBeEmpty) {
      throw new WorkerBootstrapError(`no handlers: ${broken.join('; ') || 'name the files that define them'}`);
    }
    const runtime = this.makeRuntime(await loadTracing());
    this.runtime = runtime;
    if (this.openEnded().open_ended) this.followTemplates(runtime);
    if (this.options.daemonLogLevel) setLevels({ daemon: this.options.daemonLogLevel });
    bridgeConsole();
    void runtime.finished.then(unbridgeConsole);
    await this.awaitConnection(runtime, deadline);
    for (const failure of broken) runtime.sendLog(undefined, 'error', failure, { worker: this.name });
  }

  private async load(): Promise<void> {
    for (const handler of this.options.handlers ?? []) {
      if (typeof handler === 'string') await this.system.loadFromPath(handler);
      else this.registry.register(handler as never);
    }
  }

  private makeRuntime(tracing: StepRunner['tracing']): WorkerRuntime {
    const { ackTimeoutMs = 10_000, abandonAfterMs = 30_000, handlerTimeoutMs = null } = this.options;
    return new WorkerRuntime({
      path: this.socket,
      hello: { name: this.name, namespaces: this.namespaces, handlers: this.offered, max_concurrency: this.concurrency + this.prefetch, ...this.openEnded(), ...brokenOf(this.system.importFailures) },
      runner: new StepRunner(this.registry, tracing),
      concurrency: this.concurrency,
      ackTimeoutMs,
      abandonAfterMs,
      handlerTimeoutMs,
    });
  }

  private async awaitConnection(runtime: WorkerRuntime, deadline: number): Promise<void> {
    const connected = new Promise<void>((resolve) => {
      runtime.onConnected = () => {
        runtime.onConnected = undefined;
        resolve();
      };
    });
    runtime.start();
    const timer = new AbortController();
    const late = deadline === Infinity ? new Promise<never>(() => undefined) : sleep(deadline - now(), timer.signal);
    const first = await Promise.race([connected.then(() => 'connected'), runtime.finished.then(() => 'finished'), late.then(() => 'late')]);
    timer.abort();
    if (first === 'finished' && runtime.failure) throw runtime.failure;
    if (first !== 'late') return;
    runtime.abort();
    await runtime.finished;
    throw new WorkerBootstrapError(`taskerd does not answer at ${this.socket}`);
  }

  /** Offer a handler. After the start the daemon is told by a reconnect, which interrupts no step. */
  register(name: string, entry: HandlerEntry): void {
    this.registry.register(name, entry);
    this.announce();
  }

  /** Tell the daemon of handlers that were registered since the start. */
  announce(): void {
    const { runtime } = this;
    if (!runtime || runtime.ended) return;
    const names = this.registry.offered(this.callables);
    if (names.length === this.offered.length && names.every((name, i) => name === this.offered[i])) return;
    this.offered = names;
    runtime.announce(names);
  }

  /** Begin to stop: running steps finish and are delivered, steps not begun go back to the daemon. */
  drain(): void {
    this.runtime?.drain();
  }

  /** Fulfilled when the worker has ended, with whether everything was delivered. */
  async wait(): Promise<boolean> {
    await this.runtime?.finished;
    return this.runtime?.failure === undefined;
  }

  /** Drain and wait. After `timeoutMs` the connection is closed whatever runs. True if everything was delivered. */
  async stop(timeoutMs = Infinity): Promise<boolean> {
    const { runtime } = this;
    if (!runtime) return true;
    runtime.drain();
    if (timeoutMs === Infinity) return this.wait();
    const timer = new AbortController();
    const inTime = await Promise.race([runtime.finished.then(() => true), sleep(timeoutMs, timer.signal).then(() => false)]);
    timer.abort();
    if (!inTime) await this.abort();
    return inTime && runtime.failure === undefined;
  }

  /** End now; the daemon gives the steps to others. */
  async abort(): Promise<void> {
    this.runtime?.abort();
    await this.runtime?.finished;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** What `hello` says of resolvers that cannot list what they serve. */
  private openEnded(): { open_ended?: true } {
    return this.registry.resolverChain.openEnded ? { open_ended: true } : {};
  }

  /** Offer what resolvers can serve of templates that come later, or came while there was no connection. */
  private followTemplates(runtime: WorkerRuntime): void {
    let looked: Promise<void> = Promise.resolve();
    runtime.onTemplates = () => {
      looked = looked.then(() => this.lookAtTemplates(runtime));
    };
  }

  private async lookAtTemplates(runtime: WorkerRuntime): Promise<void> {
    if (runtime.ended || runtime.isDraining) return;
    const { AsyncTaskerClient: Client } = await import('./client.js');
    const client = new Client({ socket: this.socket });
    try {
      const known = await knownHandlers(client);
      if (known.length > 0) this.callables = known;
    } catch {
      return; // the next connection looks again
    } finally {
      await client.close();
    }
    if (!runtime.isDraining) this.announce();
  }

  // -- looking at it -----------------------------------------------------------------------------

  /** The name under which the daemon's history shows this session; null before the first connection. */
  get workerId(): string | null {
    return this.runtime?.welcome?.workerUuid ?? null;
  }

  get isRunning(): boolean {
    return this.runtime !== undefined && !this.runtime.ended;
  }

  get failure(): Error | undefined {
    return this.runtime?.failure;
  }

  get state(): WorkerState {
    if (!this.runtime) return 'created';
    if (this.runtime.ended) return 'stopped';
    return this.runtime.isDraining ? 'draining' : 'running';
  }

  status(): WorkerStatus {
    const { runtime } = this;
    return {
      running: this.isRunning,
      environment: process.env['TASKER_ENV'] ?? 'development',
      worker_core_status: this.state,
      worker_id: this.workerId,
      connected: runtime?.connected ?? false,
      supported_namespaces: [...this.namespaces],
      handlers: [...this.offered],
      concurrency: this.concurrency,
      max_concurrency: this.concurrency + this.prefetch,
      open_steps: runtime?.openSteps ?? 0,
      running_handlers: runtime?.runningHandlers ?? 0,
      unacknowledged: runtime?.unacknowledged ?? 0,
      counters: { ...runtime?.counters },
      error: runtime?.failure?.message ?? null,
    };
  }

  // -- templates ---------------------------------------------------------------------------------

  /** Register the templates shipped with the worker. Returns the handlers that those name, and those of the daemon's other
   * templates if there are resolvers that cannot list what they serve. */
  private async applyTemplates(deadline: number): Promise<HandlerSpec[]> {
    const where = this.templates;
    const { openEnded } = this.system.getRegistry().resolverChain;
    if (!where && !openEnded) return [];
    const files = where ? templateFiles(where) : [];
    const found: HandlerSpec[] = [];
    const { AsyncTaskerClient: Client } = await import('./client.js');
    const client = new Client({ socket: this.socket });
    try {
      await awaitDaemon(client, deadline);
      for (const file of files) found.push(...(await applyTemplate(client, await readFile(file, 'utf8'), file)));
      if (openEnded) found.push(...(await knownHandlers(client)));
    } finally {
      await client.close();
    }
    return found;
  }
}

/** What `hello` says of files that could not be imported. */
function brokenOf(failures: readonly ImportFailure[]): Data {
  if (failures.length === 0) return {};
  const broken = failures.slice(0, 64).map(({ file, line, error }) => ({ name: safeText(basename(file), 60), file: safeText(file, 255), line: line ?? undefined, message: safeText(error, 255) }));
  return { broken };
}

function atLeast(name: string, value: number, least: number): number {
  if (!Number.isInteger(value) || value < least) throw new RangeError(`${name} must be an integer, at least ${least}`);
  return value;
}

async function awaitDaemon(client: AsyncTaskerClient, deadline: number): Promise<void> {
  const complaints = new Complaints();
  for (;;) {
    try {
      await client.connect(Math.max(0, Math.min(5000, deadline - now())));
      return;
    } catch (error) {
      if (!(error instanceof TaskerdError) || !error.retryable || now() >= deadline - 100) throw error;
      if (complaints.due()) log.warn(`waiting for taskerd: ${error.message}`);
      // A process that waits for nothing but the daemon must not end meanwhile.
      await sleep(10);
    }
  }
}

/** Register one template. An invalid one ends the start; one that is taken, or that this user may not register, is an
 * operator's business: the worker serves what the daemon has. */
async function applyTemplate(client: AsyncTaskerClient, source: string, filename: string): Promise<HandlerSpec[]> {
  let done: Data;
  try {
    done = await client.applyTemplate(source, { filename });
  } catch (error) {
    if (!(error instanceof ConflictError) && !(error instanceof PermissionDeniedError)) throw error;
    log.error(`template ${filename} was not registered: ${error.message}`);
    return [];
  }
  for (const finding of Array.isArray(done['findings']) ? done['findings'] : []) log.warn(`template ${findingLine(finding)}`);
  const { namespace, name, version } = done as Record<string, string>;
  log.info(`template ${namespace}/${name} ${version} ${done['created'] === true ? 'registered' : 'is registered already'}`);
  return handlersOf(client, done);
}

/** Every handler that the daemon's templates name. */
async function knownHandlers(client: AsyncTaskerClient): Promise<HandlerSpec[]> {
  try {
    const found: HandlerSpec[] = [];
    for (const template of await client.listTemplates()) found.push(...(await handlersOf(client, template)));
    return found;
  } catch (error) {
    if (!(error instanceof TaskerdError) || error instanceof ConnectionLostError) throw error;
    log.warn(`the daemon's templates cannot be listed: ${messageOf(error)}`);
    return [];
  }
}

async function handlersOf(client: AsyncTaskerClient, { namespace, name, version }: Data): Promise<HandlerSpec[]> {
  try {
    const template = await client.getTemplate(String(name), { namespace: String(namespace), version: String(version) });
    const steps = Array.isArray(template['steps']) ? template['steps'].filter(isMap) : [];
    return steps.map((step) => step['handler']).filter(isMap).filter((handler) => typeof handler['callable'] === 'string');
  } catch (error) {
    if (!(error instanceof TaskerdError) || error instanceof ConnectionLostError) throw error;
    log.warn(`template ${String(namespace)}/${String(name)} cannot be read: ${messageOf(error)}`);
    return [];
  }
}

