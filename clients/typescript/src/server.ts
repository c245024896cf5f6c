/** WorkerServer and the worker of this process by functions, as applications of the reference use them. */

import type { Data } from './codec.js';
import { HandlerSystem } from './discovery.js';
import { WorkerAlreadyRunningError } from './errors.js';
import { InProcessDomainEventPoller } from './events/poller.js';
import { SubscriberRegistry } from './events/registry.js';
import { log, setLevels, type Level } from './log.js';
import { messageOf } from './results.js';
import { VERSION } from './version.js';
import { DEFAULT_CONCURRENCY, Worker, type WorkerStatus } from './worker.js';

export interface WorkerServerConfig {
  /** Limits the worker to one namespace; `default` and `*` take every one. */
  namespace?: string;
  logLevel?: Level;
  /** Handlers that run at a time. */
  maxConcurrentHandlers?: number;
  /** How long a handler may run; expiry is a retryable failure. */
  handlerTimeoutMs?: number;
  prefetch?: number;
  socket?: string;
  name?: string;
  /** How long to wait for the daemon; null waits for ever. */
  connectTimeoutMs?: number | null;
  templates?: string;
  /** Accepted and unused: the daemon has the configuration and the database, and nothing is polled. */
  configPath?: string;
  databaseUrl?: string;
  libraryPath?: string;
  pollIntervalMs?: number;
  starvationCheckInterval?: number;
  cleanupInterval?: number;
  metricsInterval?: number;
  [more: string]: unknown;
}

export type ServerState = 'initialized' | 'starting' | 'running' | 'shutting_down' | 'stopped' | 'error';

export interface ServerStatus extends Data {
  state: ServerState;
  workerId: string | null;
  running: boolean;
  processedCount: number;
  errorCount: number;
  activeHandlers: number;
  uptimeMs: number;
}

/** A worker with a life of its own: started, asked how it does, shut down. */
export class WorkerServer {
  private state: ServerState = 'initialized';
  private readonly system = new HandlerSystem();
  private readonly hooks: (() => unknown)[] = [];
  private worker: Worker | undefined;
  private events: InProcessDomainEventPoller | undefined;
  private startedAt = 0;

  /** Start; throws if it runs already. */
  async start(config: WorkerServerConfig = {}): Promise<this> {
    if (this.state === 'running' || this.state === 'starting') throw new WorkerAlreadyRunningError('the worker server runs already');
    this.state = 'starting';
    if (config.logLevel) setLevels({ own: config.logLevel, daemon: config.logLevel });
    try {
      await this.system.loadFromEnv();
      const worker = new Worker(workerOptions(config, this.system));
      worker.system.importFailures.push(...this.system.importFailures);
      this.worker = worker;
      this.system.onRegister = () => worker.announce();
      await worker.start();
      await this.startSubscribers(worker);
    } catch (error) {
      this.state = 'error';
      throw error;
    }
    this.startedAt = performance.now();
    this.state = 'running';
    if (!server?.isRunning()) server = this;
    return this;
  }

  private async startSubscribers(worker: Worker): Promise<void> {
    if (SubscriberRegistry.instance.count === 0) return;
    this.events = new InProcessDomainEventPoller({ socket: worker.socket, namespaces: worker.namespaces });
    SubscriberRegistry.instance.startAll(this.events);
    await this.events.start();
  }

  /** Let running steps finish, deliver their results, and end. */
  async shutdown(): Promise<void> {
    if (this.state !== 'running' && this.state !== 'error') return;
    this.state = 'shutting_down';
    if (this.events) SubscriberRegistry.instance.stopAll();
    await this.events?.stop();
    await this.worker?.stop();
    for (const hook of this.hooks) {
      try {
        await hook();
      } catch (error) {
        log.error(`a shutdown hook has failed: ${messageOf(error)}`);
      }
    }
    this.state = 'stopped';
  }

  /** Have a function called when the server has shut down. */
  onShutdown(hook: () => unknown): void {
    this.hooks.push(hook);
  }

  isRunning(): boolean {
    return this.state === 'running' && (this.worker?.isRunning ?? false);
  }

  running(): boolean {
    return this.isRunning();
  }

  getState(): ServerState {
    return this.state;
  }

  getWorkerId(): string | null {
    return this.worker?.workerId ?? null;
  }

  /** Where handlers are registered, before or after the start. */
  getHandlerSystem(): HandlerSystem {
    return this.system;
  }

  /** `healthy`: it runs and is connected. */
  async healthCheck(): Promise<{ healthy: boolean; status: WorkerStatus | null; error?: string }> {
    const status = this.worker?.status() ?? null;
    if (this.isRunning() && status?.connected) return { healthy: true, status };
    return { healthy: false, status, error: status?.error ?? (this.isRunning() ? 'no connection to taskerd' : `the worker is ${this.state}`) };
  }

  status(): ServerStatus {
    const status = this.worker?.status();
    const count = (name: string): number => status?.counters[name] ?? 0;
    return {
      state: this.state,
      workerId: this.getWorkerId(),
      running: this.isRunning(),
      processedCount: count('recorded') + count('duplicate'),
      errorCount: count('failed'),
      activeHandlers: status?.running_handlers ?? 0,
      uptimeMs: this.startedAt === 0 ? 0 : Math.round(performance.now() - this.startedAt),
      version: VERSION,
    };
  }
}

function workerOptions(config: WorkerServerConfig, system: HandlerSystem): ConstructorParameters<typeof Worker>[0] {
  const { namespace = process.env['TASKER_NAMESPACE'] } = config;
  return {
    registry: system.getRegistry(),
    concurrency: config.maxConcurrentHandlers ?? DEFAULT_CONCURRENCY,
    handlerTimeoutMs: config.handlerTimeoutMs ?? 300_000,
    connectTimeoutMs: config.connectTimeoutMs === undefined ? 30_000 : config.connectTimeoutMs,
    mayBeEmpty: true,
    ...(config.prefetch === undefined ? {} : { prefetch: config.prefetch }),
    ...(config.socket === undefined ? {} : { socket: config.socket }),
    ...(config.name === undefined ? {} : { name: config.name }),
    ...(config.templates === undefined ? {} : { templates: config.templates }),
    ...(namespace && namespace !== 'default' && namespace !== '*' ? { namespaces: [namespace] } : {}),
  };
}

/** Remembers that the process was asked to end, and tells who wants to know. */
export class ShutdownController {
  /** Fulfilled with the signal when the end was asked for. */
  readonly promise: Promise<string>;
  private signal: string | undefined;
  private readonly listeners: ((signal: string) => unknown)[] = [];
  private resolve: (signal: string) => void = () => undefined;

  constructor() {
    this.promise = new Promise((resolve) => (this.resolve = resolve));
  }

  get isRequested(): boolean {
    return this.signal !== undefined;
  }

  /** Ask for the end; only the first time counts. */
  trigger(signal = 'manual'): void {
    if (this.signal !== undefined) return;
    this.signal = signal;
    this.resolve(signal);
    for (const listener of this.listeners) listener(signal);
  }

  onShutdown(listener: (signal: string) => unknown): void {
    if (this.signal === undefined) this.listeners.push(listener);
    else listener(this.signal);
  }

  /** Trigger on these signals of the system. */
  listen(signals: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT']): void {
    for (const signal of signals) process.once(signal, () => this.trigger(signal));
  }
}

// ---- the worker of this process ---------------------------------------------------------------

export interface BootstrapConfig extends WorkerServerConfig {
  workerId?: string;
  /** Handlers to offer, beside those of TYPESCRIPT_HANDLER_PATH. */
  handlers?: HandlerSystem;
}

export interface BootstrapResult {
  success: boolean;
  handleId: string;
  workerId: string;
  status: 'started' | 'already_running' | 'failed';
  message: string;
  errorMessage?: string;
}

let server: WorkerServer | undefined;

/** Start the worker of this process. A failure is told in the result, not thrown. */
export async function bootstrapWorker(config: BootstrapConfig = {}): Promise<BootstrapResult> {
  if (server?.isRunning()) return bootstrapped('already_running', 'the worker runs already');
  try {
    server = new WorkerServer();
    await server.start({ ...config, ...(config.workerId === undefined ? {} : { name: config.workerId }) });
    return bootstrapped('started', `${server.getHandlerSystem().handlerCount()} handlers`);
  } catch (error) {
    return { success: false, handleId: '', workerId: '', status: 'failed', message: 'the worker did not start', errorMessage: messageOf(error) };
  }
}

function bootstrapped(status: 'started' | 'already_running', message: string): BootstrapResult {
  const id = server?.getWorkerId() ?? '';
  return { success: true, handleId: id, workerId: id, status, message };
}

/** The server that was started first, by `bootstrapWorker` or by itself. */
export function workerOfProcess(): WorkerServer | undefined {
  return server;
}

/** Drain and stop the worker of this process. */
export async function stopWorker(): Promise<{ success: boolean; status: 'stopped' | 'not_running'; message: string }> {
  if (!server?.isRunning()) return { success: true, status: 'not_running', message: 'no worker runs' };
  await server.shutdown();
  return { success: true, status: 'stopped', message: 'the worker has stopped' };
}

/** Where the worker of this process stands. */
export function getWorkerStatus(): ServerStatus | { success: boolean; running: boolean; state: 'not_initialized' } {
  return server ? { success: true, ...server.status() } : { success: true, running: false, state: 'not_initialized' };
}

/** True if the worker of this process runs. */
export function isWorkerRunning(): boolean {
  return server?.isRunning() ?? false;
}

/** The library's version. */
export function getVersion(): string {
  return VERSION;
}
