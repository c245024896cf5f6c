/** The thread of a TaskerClient: does its calls one after the other. */

import { workerData } from 'node:worker_threads';
import { AsyncTaskerClient } from './client.js';
import type { SyncAnswer, SyncCall, SyncStart } from './client_sync.js';
import { TaskerdError } from './errors.js';
import { messageOf } from './results.js';

const { port, flag, options } = workerData as SyncStart;
const client = new AsyncTaskerClient(options) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;

async function answer({ method, args }: SyncCall): Promise<SyncAnswer> {
  try {
    return { value: await client[method]?.(...args) };
  } catch (error) {
    const known = error instanceof TaskerdError ? error : undefined;
    return { error: { message: messageOf(error), recoverable: known?.retryable ?? false, code: known?.code ?? 'internal', details: known?.details } };
  }
}

port.on('message', (call: SyncCall) => {
  void answer(call).then((made) => {
    port.postMessage(made);
    Atomics.store(flag, 0, 1);
    Atomics.notify(flag, 0);
  });
});
