/**
 * Deno finds what a file imports before any code of this package can help. A worker whose handler files need help, because they
 * import this package without a project that has it, or files without their extensions, is run again with flags that allow it.
 */

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { HandlerSystem } from './discovery.js';
import { PLACES } from './loader.js';
import { withLevel } from './log.js';

const AGAIN = 'TASKERD_DENO';
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGUSR1'] as const;

/** The flags that these files need; none if they do without. */
async function flagsFor(paths: readonly string[]): Promise<string[]> {
  const system = new HandlerSystem();
  await withLevel('off', async () => {
    for (const path of paths) await system.loadFromPath(path);
  });
  const said = system.importFailures.map((failure) => failure.error);
  const flags = said.some((text) => text.includes('sloppy-imports') || /Module not found "file:/.test(text)) ? ['--unstable-sloppy-imports'] : [];
  if (said.some((text) => text.includes('require is not defined'))) flags.push('--unstable-detect-cjs');
  if (!said.some((text) => /"(?:taskerd(?:\/testing)?|@tasker-systems\/tasker)" not a dependency/.test(text))) return flags;
  const map = encodeURIComponent(JSON.stringify({ imports: PLACES.entries }));
  return [...new Set([...flags, '--unstable-sloppy-imports']), `--import-map=data:application/json,${map}`];
}

/** Run this command again in a process of its own, if that is needed; its exit status. */
export async function runAgainOnDeno(args: readonly string[], paths: readonly string[]): Promise<number | undefined> {
  if (!('Deno' in globalThis) || process.env[AGAIN]) return undefined;
  const flags = await flagsFor(paths);
  if (flags.length === 0) return undefined;
  const program = fileURLToPath(new URL('./cli.js', import.meta.url));
  const child = spawn(process.execPath, ['run', '-A', ...flags, program, ...args], { stdio: ['pipe', 'inherit', 'inherit'], env: { ...process.env, [AGAIN]: '1' } });
  let ends = 0;
  const pass = (signal: NodeJS.Signals): void => {
    // A service manager may tell both; so it is here that a second time means at once.
    process.kill(child.pid as number, signal !== 'SIGUSR1' && ++ends > 1 ? 'SIGKILL' : signal);
  };
  for (const signal of SIGNALS) process.removeAllListeners(signal).on(signal, pass); // not those of the files that were looked at
  return new Promise((resolve) => child.on('exit', (code) => resolve(code ?? 1)));
}

/** In the process of its own: end when the one that has started it is gone. */
export function underParent(drain: () => void): void {
  if (!process.env[AGAIN]) return;
  process.stdin.on('end', drain);
  process.stdin.on('error', drain);
  process.stdin.resume();
}
