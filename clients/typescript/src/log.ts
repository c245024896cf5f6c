/** The worker's own lines on stderr, and what handlers write: there too, and to the daemon with the ids of their step. */

import { AsyncLocalStorage } from 'node:async_hooks';
import type { Data } from './codec.js';
import type { StepContext } from './context.js';
import { stringify } from './own.js';

/** Names of levels, as the daemon and the command line use them. */
export const LEVELS = { trace: 0, debug: 1, info: 2, warn: 3, error: 4, off: 5 } as const;
export type Level = keyof typeof LEVELS;
export type LogLevel = Exclude<Level, 'off'>;

/** One object for the process, also if several copies of this package are loaded. */
export function shared<T>(name: string, make: () => T): T {
  const store = globalThis as unknown as Record<symbol, T | undefined>;
  return (store[Symbol.for(name)] ??= make());
}

/** The step that the running code belongs to. */
export const currentStep = shared('taskerd.step', () => new AsyncLocalStorage<StepContext>());

const settings = shared('taskerd.levels', (): { own: Level; daemon: Level } => ({ own: 'info', daemon: 'info' }));

/** From which level on lines are shown here, and go to the daemon. */
export function setLevels(levels: { own?: Level; daemon?: Level }): void {
  if (levels.own) settings.own = levels.own;
  if (levels.daemon) settings.daemon = levels.daemon;
}

/** Do something with another level of the own lines. */
export async function withLevel(level: Level, work: () => Promise<void>): Promise<void> {
  const { own } = settings;
  settings.own = level;
  try {
    await work();
  } finally {
    settings.own = own;
  }
}

function write(level: LogLevel, source: string, message: string): void {
  if (LEVELS[level] < LEVELS[settings.own]) return;
  try {
    process.stderr.write(`${new Date().toISOString()} ${level.toUpperCase()} ${source}: ${message}\n`);
  } catch {
    // Whoever read it is gone; the work goes on.
  }
}

/** The library's own lines. */
export const log = {
  debug: (message: string): void => write('debug', 'taskerd', message),
  info: (message: string): void => write('info', 'taskerd', message),
  warn: (message: string): void => write('warn', 'taskerd', message),
  error: (message: string): void => write('error', 'taskerd', message),
};

/** A name in quotes, as it stands in messages. */
export function quoted(name: unknown): string {
  return `'${String(name)}'`;
}

/** The usual fields of a line. */
export interface LogFields {
  component?: string;
  operation?: string;
  correlation_id?: string;
  task_uuid?: string;
  step_uuid?: string;
  namespace?: string;
  error_message?: string;
  [name: string]: unknown;
}

function shown(value: unknown): string {
  if (typeof value === 'string') return value;
  if (value instanceof Error) return value.stack ?? value.message;
  try {
    return stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}

/** A line of a handler, or of an application that uses the library's loggers. */
function line(level: LogLevel, message: string, fields: LogFields = {}): void {
  const named = Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, shown(value)]));
  const tail = Object.entries(named)
    .map(([name, value]) => ` ${name}=${value}`)
    .join('');
  write(level, 'app', `${message}${tail}`);
  toDaemon(level, message, named);
}

/** Send a line of the running step to the daemon; lines outside of steps stay here. */
export function toDaemon(level: LogLevel, message: string, fields: Data): void {
  if (LEVELS[level] < LEVELS[settings.daemon]) return;
  currentStep.getStore()?.log(level, message, fields);
}

export function logError(message: string, fields?: LogFields): void {
  line('error', message, fields);
}
export function logWarn(message: string, fields?: LogFields): void {
  line('warn', message, fields);
}
export function logInfo(message: string, fields?: LogFields): void {
  line('info', message, fields);
}
export function logDebug(message: string, fields?: LogFields): void {
  line('debug', message, fields);
}
export function logTrace(message: string, fields?: LogFields): void {
  line('trace', message, fields);
}

export type Logger = Record<LogLevel, (message: string, fields?: LogFields) => void>;

/** A logger whose lines have some fields in common. */
export function createLogger(defaultFields: LogFields = {}): Logger {
  const at =
    (level: LogLevel) =>
    (message: string, fields: LogFields = {}): void =>
      line(level, message, { ...defaultFields, ...fields });
  return { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug'), trace: at('trace') };
}

// ---- the console ------------------------------------------------------------------------------

const CONSOLE = { log: 'info', info: 'info', warn: 'warn', error: 'error', debug: 'debug' } as const;
let bridges = 0;
const originals: Partial<Record<keyof typeof CONSOLE, (...args: unknown[]) => void>> = {};

/** What handlers write to the console goes to the daemon too. Undone by as many calls of `unbridgeConsole`. */
export function bridgeConsole(): void {
  if (bridges++ > 0) return;
  for (const [name, level] of Object.entries(CONSOLE) as [keyof typeof CONSOLE, LogLevel][]) {
    const original = console[name].bind(console) as (...args: unknown[]) => void;
    originals[name] = console[name] as (...args: unknown[]) => void;
    console[name] = (...args: unknown[]): void => {
      original(...args);
      if (currentStep.getStore()) toDaemon(level, args.map(shown).join(' '), { logger: 'console' });
    };
  }
}

export function unbridgeConsole(): void {
  if (bridges === 0 || --bridges > 0) return;
  for (const name of Object.keys(CONSOLE) as (keyof typeof CONSOLE)[]) {
    const original = originals[name];
    if (original) console[name] = original;
  }
}
