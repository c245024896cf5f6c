/**
 * Tests of handlers: one handler without a daemon, or a whole workflow against a taskerd of the test's own.
 *
 * Works with node:test, vitest, bun:test and Deno.test alike: there is nothing to register.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { AsyncTaskerClient, type CreateTaskOptions } from './client.js';
import type { ClientTaskResponse } from './client_models.js';
import { decode, isMap, type Data } from './codec.js';
import { Attempt, StepContext, type CheckpointData, type StepHost, type WireStep } from './context.js';
import { TaskerError, TaskerdError } from './errors.js';
import { HandlerRegistry, type HandlerEntry } from './registry.js';
import { StepHandlerResult } from './results.js';
import { StepRunner } from './runner.js';
import { sleep } from './transport.js';
import { Worker, type WorkerOptions } from './worker.js';

/** Stands for the worker: keeps what the handler tells it. */
export class RecordingHost implements StepHost {
  readonly progress: unknown[] = [];
  readonly checkpoints: Data[] = [];
  readonly logs: { level: string; message: string; fields: Data }[] = [];

  async storeCheckpoint({ step_uuid: _step, attempt: _attempt, claim: _claim, ...kept }: Data): Promise<string> {
    this.checkpoints.push(kept);
    return 'recorded';
  }

  sendProgress(_stepUuid: string, _attempt: number, progress: unknown): void {
    this.progress.push(progress);
  }

  sendLog(_stepUuid: string | undefined, level: string, message: string, fields: Data): void {
    this.logs.push({ level, message, fields });
  }
}

/** What a step is made from in tests. */
export interface ContextOptions {
  /** What the task was created with. */
  input?: Data;
  /** Results of earlier steps by name (not their envelopes). */
  dependencies?: Data;
  /** The template's `handler.initialization`. */
  config?: Data;
  /** The inputs of a batch worker. */
  stepInputs?: Data;
  checkpoint?: CheckpointData;
  handler?: string;
  method?: string;
  attempt?: number;
  maxAttempts?: number;
  host?: StepHost;
  /** Further fields of `step.execute`: `namespace`, `step`, `correlation_id`, ... */
  more?: Data;
}

function attemptOf(options: ContextOptions): Attempt {
  const taskUuid = `${randomUUID().slice(0, 30)}000000`;
  const { dependencies = {} } = options;
  const earlier = Object.keys(dependencies).length;
  const { handler = 'handler', method, attempt = 1, maxAttempts = 3, host = new RecordingHost() } = options;
  const step: WireStep = {
    step_uuid: taskUuid.slice(0, 30) + (earlier + 1).toString(16).padStart(6, '0'),
    task_uuid: taskUuid,
    attempt,
    max_attempts: maxAttempts,
    retryable: true,
    claim: Buffer.alloc(16),
    namespace: 'default',
    template: 'test',
    version: '1.0.0',
    step: 'step',
    handler: { callable: handler, ...(method && { method }), ...(options.config && { initialization: options.config }) },
    context: options.input ?? {},
    dependencies,
    dependency_steps: [...Array(earlier).keys()],
    correlation_id: taskUuid,
    ...(options.stepInputs && { inputs: options.stepInputs }),
    ...(options.checkpoint && { checkpoint: options.checkpoint }),
    ...options.more,
  };
  return new Attempt(`${step.step_uuid}:${attempt}`, step, host, performance.now());
}

/** A context as the worker makes it. */
export function makeContext(options: ContextOptions = {}): StepContext {
  return StepContext.fromStep(attemptOf(options));
}

/**
 * One attempt of a handler: a class, an instance, or what `defineHandler` has made.
 *
 * Goes the whole way of the worker: errors become failures, promises are awaited, and a result that could not be sent is the
 * failure that the daemon would get. With `toTheEnd` a handler that yields at a checkpoint is called again until it is done.
 */
export async function runHandler(handler: HandlerEntry, options: ContextOptions & { toTheEnd?: boolean } = {}): Promise<StepHandlerResult> {
  const registry = new HandlerRegistry();
  registry.register('handler', handler);
  const runner = new StepRunner(registry);
  let { checkpoint } = options;
  for (;;) {
    const attempt = attemptOf({ ...options, handler: 'handler', ...(checkpoint && { checkpoint }) });
    const result = sent(runner, attempt, await runner.attempt(attempt));
    if (!options.toTheEnd || !result.success || result.metadata['checkpoint_yield'] !== true) return result;
    const { type: _type, ...made } = result.result ?? {};
    checkpoint = made;
  }
}

/** The result itself, or the failure that is sent in its place. */
function sent(runner: StepRunner, attempt: Attempt, result: StepHandlerResult): StepHandlerResult {
  const item = decode(runner.encode(attempt, result, 0));
  if (!result.success || !isMap(item) || item['success'] === true) return result;
  const error = item['error'] as { message: string; error_type: string; retryable: boolean };
  return StepHandlerResult.failure(error.message, error.error_type, error.retryable);
}

/** A workflow did not end well. `task` is what became of it. */
export class TaskFailed extends TaskerError {
  constructor(readonly task: ClientTaskResponse) {
    const bad = task.steps.filter((step) => step.error).map((step) => `\n  ${step.name}: ${String(step.error?.['message'])}`);
    super(`task ${task.name} is ${task.status}${bad.join('')}`);
  }
}

export interface EmbeddedOptions {
  /** Where the daemon and its database live; removed at the end if none is given. */
  directory?: string;
  /** The taskerd to start; default is `$TASKERD_PROGRAM`, or the one on the PATH. */
  program?: string;
  /** Further options of taskerd. */
  options?: string[];
  startTimeoutMs?: number;
}

/** A template: YAML or JSON text, an object, or the path of a file. */
export type TemplateSource = string | Data;

export interface RunOptions extends Omit<CreateTaskOptions, 'name' | 'namespace' | 'version' | 'context'> {
  /** Handlers to run the task with: classes, and paths of files of them. */
  handlers?: readonly (HandlerEntry | string)[];
  timeoutMs?: number;
  /** Throw TaskFailed unless the task is complete; default true. */
  check?: boolean;
  worker?: Omit<WorkerOptions, 'handlers' | 'socket'>;
}

/**
 * A `taskerd --embedded` with a database of its own.
 *
 * ```ts
 * await using daemon = await EmbeddedTaskerd.start();
 * const task = await daemon.run(template, { cart_id: 7 }, { handlers: [LoadCart, Ship] });
 * ```
 */
export class EmbeddedTaskerd {
  readonly directory: string;
  readonly socket: string;
  private child: ChildProcess | undefined;
  private made: AsyncTaskerClient | undefined;
  private readonly kill = (): void => void this.child?.kill('SIGKILL');

  private constructor(private readonly options: EmbeddedOptions) {
    this.directory = options.directory ?? mkdtempSync(join(tmpdir(), 'taskerd-'));
    chmodSync(this.directory, 0o711); // a database that root starts runs as another user
    this.socket = join(this.directory, 'taskerd.sock');
  }

  /** Start the daemon and wait until it has its database. */
  static async start(options: EmbeddedOptions = {}): Promise<EmbeddedTaskerd> {
    const program = options.program ?? process.env['TASKERD_PROGRAM'] ?? onPath('taskerd');
    if (!program) throw new Error('there is no taskerd on the PATH; set TASKERD_PROGRAM');
    if (options.directory) mkdirSync(options.directory, { recursive: true });
    const daemon = new EmbeddedTaskerd(options);
    daemon.launch(program);
    try {
      await daemon.awaitDatabase(performance.now() + (options.startTimeoutMs ?? 120_000));
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return daemon;
  }

  private launch(program: string): void {
    const log = openSync(this.logPath, 'a');
    const args = [`--embedded=${join(this.directory, 'database')}`, `--socket=${this.socket}`, ...(this.options.options ?? [])];
    this.child = spawn(program, args, { stdio: ['ignore', log, log] });
    this.child.on('error', () => undefined);
    closeSync(log);
    process.on('exit', this.kill);
  }

  private async awaitDatabase(deadline: number): Promise<void> {
    while (performance.now() < deadline) {
      if (this.child?.pid === undefined || this.child.exitCode !== null) throw new Error(`taskerd did not start:\n${this.logText()}`);
      try {
        if ((await this.client.healthCheck()).healthy) return;
      } catch (error) {
        if (!(error instanceof TaskerdError)) throw error;
      }
      await sleep(20);
    }
    throw new Error(`taskerd does not get ready:\n${this.logText()}`);
  }

  /** End the daemon and its database. */
  async stop(): Promise<void> {
    await this.made?.close();
    this.made = undefined;
    const { child } = this;
    this.child = undefined;
    process.off('exit', this.kill);
    if (child?.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
      await ended;
      clearTimeout(timer);
    }
    if (!this.options.directory) rmSync(this.directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** The daemon's log. */
  get logPath(): string {
    return join(this.directory, 'taskerd.log');
  }

  /** The end of the daemon's log. */
  logText(lines = 40): string {
    return existsSync(this.logPath) ? readFileSync(this.logPath, 'utf8').split('\n').slice(-lines).join('\n') : '';
  }

  /** A client of the daemon. */
  get client(): AsyncTaskerClient {
    this.made ??= new AsyncTaskerClient({ socket: this.socket, timeoutMs: 60_000 });
    return this.made;
  }

  /** Register a template. */
  async apply(template: TemplateSource): Promise<Data> {
    if (typeof template !== 'string') return this.client.applyTemplate(JSON.stringify(template));
    if (template.includes('\n') || template.includes('{')) return this.client.applyTemplate(template);
    return this.client.applyTemplate(readFileSync(template, 'utf8'), { filename: template });
  }

  /** A worker in this process. */
  async worker(handlers: readonly (HandlerEntry | string)[], options: Omit<WorkerOptions, 'handlers' | 'socket'> = {}): Promise<Worker> {
    const worker = new Worker({ connectTimeoutMs: 30_000, ...options, handlers, socket: this.socket });
    await worker.start();
    return worker;
  }

  /** Register a template, run one task of it and return it with its steps; TaskFailed if it is not complete. */
  async run(template: TemplateSource, context: Data = {}, options: RunOptions = {}): Promise<ClientTaskResponse> {
    const { handlers = [], timeoutMs = 60_000, check = true, worker: workerOptions, ...create } = options;
    const { name, namespace, version } = (await this.apply(template)) as { name: string; namespace: string; version: string };
    const worker = handlers.length > 0 ? await this.worker(handlers, workerOptions) : undefined;
    try {
      const { task_uuid } = await this.client.createTask({ ...create, name, namespace, version, context });
      const done = await this.client.waitForTask(task_uuid, { timeoutMs });
      if (check && done.status !== 'complete') throw new TaskFailed(done);
      return done;
    } finally {
      await worker?.stop(30_000);
    }
  }
}

function onPath(program: string): string | undefined {
  const places = (process.env['PATH'] ?? '').split(delimiter).map((directory) => join(directory, program));
  return places.find((place) => existsSync(place));
}
