#!/usr/bin/env node
/** `taskerd worker`: run handlers from the command line. `taskerd replay`: a recorded step in the foreground. */

import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { HandlerSystem } from './discovery.js';
import { TaskerError } from './errors.js';
import type { InProcessDomainEventPoller } from './events/poller.js';
import { SubscriberRegistry } from './events/registry.js';
import { LEVELS, log, setLevels, type Level } from './log.js';
import { setTimeout, stringify } from './own.js';
import { messageOf } from './results.js';
import { ownSignals } from './signals.js';
import { VERSION } from './version.js';
import { DEFAULT_CONCURRENCY, Worker, type WorkerOptions } from './worker.js';

const USAGE = `Usage: taskerd COMMAND [OPTION]... [PATH]...

TypeScript client of taskerd.

Commands:
  worker   Import handlers from files and directories, offer them to taskerd, and run its steps until SIGTERM or SIGINT. The
           first signal lets running steps finish, a second ends at once. SIGUSR1 logs the status.
  replay   Run the handler of a recorded step again, in the foreground, with the context, results and checkpoint that the
           daemon has, and print its result beside the recorded one. Nothing is recorded.
           taskerd replay STEP [PATH]... or taskerd replay TASK --step NAME [PATH]..., under a debugger:
           node --inspect-brk node_modules/taskerd/dist/cli.js replay STEP PATH

Options of worker (PATH: file or directory; default: $TYPESCRIPT_HANDLER_PATH):
  --socket PATH             the daemon's socket (default: $TASKERD_SOCKET, ...)
  --threads N               handlers that run at a time (${DEFAULT_CONCURRENCY}); --concurrency is the same
  --prefetch N              steps held ready beyond those (as many as threads)
  --processes N             worker processes, for handlers that compute; one that crashes costs only its own attempts (1)
  --abandon-after SECONDS   give up a handler that does not return so long after its step was cancelled (30)
  --name NAME               name shown in lists of workers (host and process id)
  --namespace NAME          serve this namespace; may be repeated (default: $TASKER_NAMESPACE, or all)
  --templates DIR           register the templates below this directory at the start (default: $TASKER_TEMPLATE_PATH)
  --log-level LEVEL         trace, debug, info, warn, error (info)
  --daemon-log-level LEVEL  what handlers log goes to the daemon's log from this level on; also 'off' (info)

  --help, --version`;

/** Something on the command line is wrong. */
class UsageError extends Error {}

const OPTIONS = {
  socket: { type: 'string' },
  threads: { type: 'string' },
  concurrency: { type: 'string' },
  prefetch: { type: 'string' },
  processes: { type: 'string' },
  'abandon-after': { type: 'string' },
  name: { type: 'string' },
  step: { type: 'string' },
  namespace: { type: 'string', multiple: true },
  templates: { type: 'string' },
  'log-level': { type: 'string' },
  'daemon-log-level': { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const;

function count(name: string, text: string | undefined, least: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < least) throw new UsageError(`--${name}: ${text} is no integer of at least ${least}`);
  return value;
}

function level(name: string, text: string | undefined): Level | undefined {
  if (text === undefined) return undefined;
  if (!Object.hasOwn(LEVELS, text)) throw new UsageError(`--${name}: ${text} is none of ${Object.keys(LEVELS).join(', ')}`);
  return text as Level;
}

function parse(args: string[]): { values: Record<string, any>; positionals: string[] } { // eslint-disable-line @typescript-eslint/no-explicit-any -- checked below
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new UsageError(messageOf(error));
  }
}

async function main(args: string[]): Promise<number> {
  const [command, ...rest] = args;
  const { values, positionals } = parse(command === 'worker' ? rest : args);
  if (values['version']) {
    process.stdout.write(`taskerd-typescript ${VERSION}\n`);
    return 0;
  }
  if (values['help']) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  if (command === 'replay') return runReplay(values, positionals.slice(1));
  if (command !== 'worker') throw new UsageError(command === undefined ? 'a command is missing' : `unknown command ${command}`);
  const options = workerOptions(values, positionals);
  const processes = count('processes', values['processes'], 1) ?? 1;
  if (processes > 1 && !process.env['TASKERD_SUPERVISED']) {
    const { Supervisor } = await import('./processes.js');
    return new Supervisor(processes, args, options.name as string).run();
  }
  return (await runAgain(args, options.handlers as string[])) ?? runWorker(options);
}

function workerOptions(values: Record<string, any>, paths: string[]): WorkerOptions { // eslint-disable-line @typescript-eslint/no-explicit-any
  setLevels({ own: level('log-level', values['log-level']) ?? 'info' });
  const handlers = handlerPaths(paths);
  const namespace = process.env['TASKER_NAMESPACE'];
  const concurrency = count('threads', values['threads'] ?? values['concurrency'], 1);
  const prefetch = count('prefetch', values['prefetch'], 0);
  const abandon = values['abandon-after'] === undefined ? undefined : Number(values['abandon-after']) * 1000;
  if (abandon !== undefined && !(abandon >= 0)) throw new UsageError(`--abandon-after: ${values['abandon-after']} is no number of seconds`);
  return {
    handlers,
    namespaces: values['namespace'] ?? (namespace ? [namespace] : []),
    daemonLogLevel: level('daemon-log-level', values['daemon-log-level']) ?? 'info',
    ...(values['socket'] === undefined ? {} : { socket: values['socket'] }),
    ...(values['templates'] === undefined ? {} : { templates: values['templates'] }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(prefetch === undefined ? {} : { prefetch }),
    ...(abandon === undefined ? {} : { abandonAfterMs: abandon }),
    name: values['name'] ?? (process.env['HOSTNAME'] || `${hostname()}-${process.pid}`),
  };
}

/** What the modules below are for is seldom wanted, and a worker shall start fast: they are imported where they are. */
async function runAgain(args: string[], paths: string[]): Promise<number | undefined> {
  if (!('Deno' in globalThis)) return undefined;
  const { runAgainOnDeno } = await import('./deno.js');
  return runAgainOnDeno(args, paths);
}

/** End with the process that has started this one, if that looks after it. */
async function followParent(worker: Worker): Promise<void> {
  const drain = (): void => worker.drain();
  if (process.env['TASKERD_SUPERVISED']) (await import('./processes.js')).underSupervision(drain);
  if (process.env['TASKERD_DENO']) (await import('./deno.js')).underParent(drain);
}

/** Run a recorded step; its result goes to stdout, everything else to stderr. */
async function runReplay(values: Record<string, any>, [uuid, ...paths]: string[]): Promise<number> { // eslint-disable-line @typescript-eslint/no-explicit-any
  const { fetchRecording, replay } = await import('./replay.js');
  const { AsyncTaskerClient } = await import('./client.js');
  if (uuid === undefined) throw new UsageError('name the uuid of a step');
  setLevels({ own: level('log-level', values['log-level']) ?? 'info', daemon: 'trace' });
  // What handlers print must not end up in the result.
  for (const name of ['log', 'info', 'debug'] as const) console[name] = console.error;
  const client = new AsyncTaskerClient({ ...(values['socket'] === undefined ? {} : { socket: values['socket'] }), connectTimeoutMs: 5000 });
  const system = new HandlerSystem();
  const again = await runAgain(process.argv.slice(2), handlerPaths(paths));
  if (again !== undefined) return again;
  for (const path of handlerPaths(paths)) await system.loadFromPath(path);
  const recording = await fetchRecording(client, uuid, values['step']);
  const shown = await replay(recording, system, (line) => process.stderr.write(`${line}\n`));
  await client.close();
  const plain = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? Number(value) : value);
  process.stdout.write(`${JSON.stringify(shown, plain, 2)}\n`);
  return (shown['replayed'] as { error?: { error_type?: unknown } }).error?.error_type === 'handler_not_found' ? 1 : 0;
}

function handlerPaths(paths: string[]): string[] {
  const named = process.env['TYPESCRIPT_HANDLER_PATH'];
  const found = paths.length > 0 ? paths : named ? [named] : [];
  if (found.length === 0) throw new UsageError('name at least one PATH, or set TYPESCRIPT_HANDLER_PATH');
  return found;
}

/** What goes wrong outside of a handler's promise harms no other step. */
function surviveHandlers(): void {
  // Nobody may read what this process says; saying so would only be said to nobody again.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  process.on('uncaughtException', (error) => log.error(`uncaught, from code that a handler has left behind: ${error instanceof Error ? (error.stack ?? error.message) : messageOf(error)}`));
  process.on('unhandledRejection', (reason) => log.error(`rejected and not awaited by a handler: ${reason instanceof Error ? (reason.stack ?? reason.message) : messageOf(reason)}`));
}

async function runWorker(options: WorkerOptions): Promise<number> {
  surviveHandlers();
  const worker = new Worker(options);
  let signals = 0;
  const below = Boolean(process.env['TASKERD_SUPERVISED'] || process.env['TASKERD_DENO']);
  const onSignal = (signal: NodeJS.Signals): void => {
    // A process above passes on what a service manager tells both of them, and kills this one if that is meant.
    if (++signals > 1 && below) return;
    if (signals > 1 || !worker.isRunning) process.exit(worker.isRunning ? (signal === 'SIGINT' ? 130 : 143) : 0);
    worker.drain();
  };
  ownSignals((signal) => (signal === 'SIGUSR1' ? log.info(`status: ${stringify(worker.status())}`) : onSignal(signal)));
  await worker.start();
  await followParent(worker);
  const events = await startSubscribers(worker);
  const delivered = await worker.wait();
  if (events) SubscriberRegistry.instance.stopAll();
  await events?.stop();
  if (delivered) log.info(`the worker has ended; ${stringify(worker.status().counters)}`);
  return delivered ? 0 : 1;
}

async function startSubscribers(worker: Worker): Promise<InProcessDomainEventPoller | undefined> {
  if (SubscriberRegistry.instance.count === 0) return undefined;
  const { InProcessDomainEventPoller } = await import('./events/poller.js');
  const events = new InProcessDomainEventPoller({ socket: worker.socket, namespaces: worker.namespaces });
  SubscriberRegistry.instance.startAll(events);
  await events.start();
  return events;
}

try {
  process.exitCode = await main(process.argv.slice(2));
  // A handler may have left timers or sockets behind.
  setTimeout(() => process.exit(), 100).unref();
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`taskerd: ${error.message}\nTry 'taskerd --help'.\n`);
    process.exit(2);
  }
  log.error(`cannot start: ${error instanceof TaskerError || !(error instanceof Error) ? messageOf(error) : (error.stack ?? error.message)}`);
  process.exit(1);
}
