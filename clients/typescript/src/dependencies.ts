/** Results of earlier steps as the daemon sends them, and the uuids of those steps. */

import { Buffer } from 'node:buffer';
import { isMap, type Data } from './codec.js';
import type { WireStep } from './context.js';

/** Numbers by name: what the pages that were asked for brought. */
const NUMBERS = 'dependency_numbers';

/** `dependency_steps` are in the order of the names' bytes. */
function numbersOf(page: Data): [string, unknown][] {
  const names = isMap(page['dependencies']) ? Object.keys(page['dependencies']) : [];
  const numbers = page['dependency_steps'];
  if (!Array.isArray(numbers) || numbers.length !== names.length) return [];
  names.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return names.map((name, i) => [name, numbers[i]]);
}

/** The uuids of the steps whose results a step was given, by their names. */
export function stepUuids(step: WireStep): Map<string, string> {
  const asked = step[NUMBERS] as Map<string, unknown> | undefined;
  const uuid = (no: unknown) => step.task_uuid.slice(0, 30) + (Number(no) + 1).toString(16).padStart(6, '0');
  return new Map([...(asked ?? numbersOf(step))].map(([name, no]) => [name, uuid(no)]));
}

/** Ask for the results that were left out of a step for size, page after page. */
export async function fetchRest(step: WireStep, request: (method: string, params: Data) => Promise<unknown>): Promise<void> {
  const results: Data = isMap(step['dependencies']) ? step['dependencies'] : {};
  const numbers = new Map(numbersOf(step));
  let cursor: unknown;
  do {
    const page = await request('step.dependencies', { step_uuid: step.step_uuid, cursor });
    const found = isMap(page) ? page : {};
    if (isMap(found['dependencies'])) Object.assign(results, found['dependencies']);
    for (const [name, no] of numbersOf(found)) numbers.set(name, no);
    cursor = found['next_cursor'] ?? undefined;
  } while (cursor !== undefined);
  step['dependencies'] = results;
  step[NUMBERS] = numbers;
  step['dependencies_partial'] = false;
}
