/**
 * TaskerClient: the client of the reference, whose calls return their results rather than promises.
 *
 * A thread has the connection; a call waits for its answer and blocks this thread meanwhile. Right for scripts, tests, and code
 * that was written so. New code has AsyncTaskerClient.
 */

import { MessageChannel, Worker, receiveMessageOnPort, type MessagePort } from 'node:worker_threads';
import type { AsyncTaskerClient, ClientOptions, CreateTaskOptions, ListTasksOptions } from './client.js';
import type { ClientHealthResponse, ClientStepAuditResponse, ClientStepResponse, ClientTaskListResponse, ClientTaskResponse } from './client_models.js';
import type { Data } from './codec.js';
import { TaskerError } from './errors.js';
import { shared } from './log.js';

/** A call of TaskerClient has failed. `recoverable`: it may succeed later. */
export class TaskerClientError extends TaskerError {
  constructor(
    message: string,
    readonly recoverable = false,
    /** The protocol's error code. */
    readonly code = 'internal',
    readonly details?: unknown,
  ) {
    super(message);
  }
}

/** What the thread is told, and what it answers. */
export interface SyncStart {
  port: MessagePort;
  flag: Int32Array;
  options: ClientOptions;
}
export interface SyncCall {
  method: string;
  args: unknown[];
}
export interface SyncAnswer {
  value?: unknown;
  error?: { message: string; recoverable: boolean; code: string; details: unknown };
}

const OPTIONS = ['socket', 'timeoutMs', 'connectTimeoutMs', 'initiator', 'sourceSystem'] as const;

/** The client of the reference: every call waits for its answer. */
export class TaskerClient {
  private readonly options: ClientOptions;
  private readonly flag = new Int32Array(new SharedArrayBuffer(4));
  private thread: Worker | undefined;
  private port: MessagePort | undefined;

  /** Anything but options (an `FfiLayer` of the reference) is tolerated. */
  constructor(options: ClientOptions | object = {}) {
    const given = options as Data;
    const known = OPTIONS.filter((name) => typeof given[name] === 'string' || typeof given[name] === 'number');
    this.options = { initiator: 'tasker-core-typescript', sourceSystem: 'tasker-core', ...Object.fromEntries(known.map((name) => [name, given[name]])) };
  }

  private connected(): MessagePort {
    if (this.port) return this.port;
    const { port1, port2 } = new MessageChannel();
    const start: SyncStart = { port: port2, flag: this.flag, options: this.options };
    this.thread = new Worker(new URL('./sync_thread.js', import.meta.url), { workerData: start, transferList: [port2] });
    this.thread.unref();
    port1.unref();
    this.port = port1;
    return port1;
  }

  private call<K extends keyof AsyncTaskerClient & string>(method: K, ...args: unknown[]): unknown {
    const port = this.connected();
    Atomics.store(this.flag, 0, 0);
    port.postMessage({ method, args } satisfies SyncCall);
    Atomics.wait(this.flag, 0, 0);
    const answer = receiveMessageOnPort(port)?.message as SyncAnswer | undefined;
    if (!answer) throw new TaskerClientError('the thread of the client gave no answer');
    if (answer.error) throw new TaskerClientError(answer.error.message, answer.error.recoverable, answer.error.code, answer.error.details);
    return answer.value;
  }

  /** Create a task. */
  createTask(options: CreateTaskOptions): ClientTaskResponse {
    return this.call('createTask', options) as ClientTaskResponse;
  }

  getTask(taskUuid: string): ClientTaskResponse {
    return this.call('getTask', taskUuid) as ClientTaskResponse;
  }

  /** Tasks, newest first. */
  listTasks(options: ListTasksOptions = {}): ClientTaskListResponse {
    return this.call('listTasks', options) as ClientTaskListResponse;
  }

  cancelTask(taskUuid: string): void {
    this.call('cancelTask', taskUuid);
  }

  listTaskSteps(taskUuid: string): ClientStepResponse[] {
    return this.call('listTaskSteps', taskUuid) as ClientStepResponse[];
  }

  /** A step of a task, by uuid or name. */
  getStep(taskUuid: string, stepUuid: string): ClientStepResponse {
    return this.call('getStep', taskUuid, stepUuid) as ClientStepResponse;
  }

  /** Every attempt of a step, oldest first. */
  getStepAuditHistory(taskUuid: string, stepUuid: string): ClientStepAuditResponse[] {
    return this.call('getStepAuditHistory', taskUuid, stepUuid) as ClientStepAuditResponse[];
  }

  healthCheck(): ClientHealthResponse {
    return this.call('healthCheck') as ClientHealthResponse;
  }

  /** Wait until a task is settled and return it. */
  waitForTask(taskUuid: string, timeoutMs = 60_000): ClientTaskResponse {
    return this.call('waitForTask', taskUuid, { timeoutMs }) as ClientTaskResponse;
  }

  /** Close the connection. */
  close(): void {
    this.port?.close();
    void this.thread?.terminate();
    this.port = this.thread = undefined;
  }
}

/** The client of this process. */
export function getTaskerClient(): TaskerClient {
  return shared('taskerd.client', () => new TaskerClient());
}
