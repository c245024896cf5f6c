/** Replay: run a recorded step again in the foreground, recording nothing. */

import { isMap, toJsonValue, type Data } from './codec.js';
import { AsyncTaskerClient } from './client.js';
import { Attempt, type StepHost, type WireStep } from './context.js';
import { fetchRest } from './dependencies.js';
import { HandlerSystem } from './discovery.js';
import { ProtocolError } from './errors.js';
import { messageOf, type StepHandlerResult } from './results.js';
import { StepRunner } from './runner.js';

type Print = (line: string) => void;

/** What a handler asks of the worker, shown instead of done. */
class ReplayHost implements StepHost {
  constructor(private readonly print: Print) {}

  async storeCheckpoint({ step_uuid: _step, attempt: _attempt, claim: _claim, ...shown }: Data): Promise<string> {
    this.print(`checkpoint: ${JSON.stringify(shown)}`);
    return 'recorded';
  }

  sendProgress(_stepUuid: string, _attempt: number, progress: unknown): void {
    this.print(`progress: ${JSON.stringify(progress)}`);
  }

  sendLog(_stepUuid: string | undefined, level: string, message: string, fields: Data): void {
    const tail = Object.entries(fields).map(([name, value]) => ` ${name}=${String(value)}`);
    this.print(`${level}: ${message}${tail.join('')}`);
  }
}

/** A step as the daemon has it: what `step.execute` would bring, and what became of it. */
export interface Recording {
  step: WireStep;
  recorded: Data;
}

/** Fetch a recorded step by its uuid, or by its task's uuid and its name. */
export async function fetchRecording(client: AsyncTaskerClient, uuid: string, name?: string): Promise<Recording> {
  const answer = await client.request('step.replay', name === undefined ? { step_uuid: uuid } : { task_uuid: uuid, step: name });
  if (!isMap(answer) || !isMap(answer['step']) || !isMap(answer['step']['handler'])) throw new ProtocolError('step.replay was not answered with a step');
  const step = { claim: Buffer.alloc(16), ...answer['step'] } as unknown as WireStep;
  if (step['dependencies_partial'] === true) await fetchRest(step, (method, params) => client.request(method, params));
  return { step, recorded: isMap(answer['recorded']) ? answer['recorded'] : {} };
}

function described(result: StepHandlerResult): Data {
  if (result.success) return { success: true, result: result.result };
  const { errorMessage: message, errorType: error_type, errorCode: error_code, retryable } = result;
  return { success: false, error: { message, error_type, error_code, retryable } };
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isMap(value)) return typeof value === 'bigint' ? String(value) : value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

/** The same as JSON values, whatever the order of their keys. */
function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

/** Run the handler of a recorded step; what came out beside what is recorded. */
export async function replay(recording: Recording, system: HandlerSystem, print: Print): Promise<Data> {
  const { step, recorded } = recording;
  const attempt = new Attempt(`${step.step_uuid}:${step.attempt}`, step, new ReplayHost(print), performance.now());
  const result = await new StepRunner(system.getRegistry()).attempt(attempt);
  const trace = result.metadata['traceback'];
  if (typeof trace === 'string') print(trace);
  let replayed: unknown = described(result);
  try {
    replayed = toJsonValue(replayed);
  } catch (error) {
    print(`the result could not be sent: ${messageOf(error)}`);
    replayed = { success: false, error: { message: `the handler's result cannot be sent: ${messageOf(error)}`, error_type: 'serialization_error', retryable: false } };
  }
  const outcome = replayed as Data;
  const equal = outcome['success'] === true && (recorded['error'] ?? null) === null && same(outcome['result'], recorded['result']);
  return { step: step['step'], handler: step.handler.callable, recorded, replayed, same: equal };
}
