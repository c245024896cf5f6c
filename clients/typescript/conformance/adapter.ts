/** The adapter of the TypeScript client for protocol/conformance. */

import { spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { AsyncTaskerClient, BaseSubscriber, InProcessDomainEventPoller, SubscriberRegistry, TaskerdError, Worker, type ClientTaskResponse, type DomainEvent } from 'taskerd';

type Data = Record<string, any>;

function here(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    socket: { type: 'string' },
    name: { type: 'string' },
    concurrency: { type: 'string' },
    namespace: { type: 'string', multiple: true },
    events: { type: 'string' },
    broken: { type: 'boolean' },
  },
});
const socket = values.socket as string;

/** Note every event of a pattern. */
async function subscribe(pattern: string): Promise<void> {
  const { note } = await import('./handlers.js');
  class Noted extends BaseSubscriber {
    static override subscribesTo(): string[] {
      return [pattern];
    }

    handle(event: DomainEvent): void {
      note('event', { name: event.eventName, payload: event.businessPayload });
    }
  }
  SubscriberRegistry.instance.register(Noted);
  const poller = new InProcessDomainEventPoller({ socket });
  SubscriberRegistry.instance.startAll(poller);
  await poller.start();
}

/** Serve until SIGTERM. */
async function worker(): Promise<number> {
  if (values.events !== undefined) await subscribe(values.events);
  const made = new Worker({
    handlers: [here('./handlers.js'), ...(values.broken ? [here('./broken.js')] : [])],
    socket,
    name: values.name as string,
    concurrency: Number(values.concurrency),
    prefetch: 0,
    namespaces: values.namespace ?? [],
  });
  process.on('SIGTERM', () => made.drain());
  try {
    await made.start();
  } catch (error) {
    process.stderr.write(`cannot serve: ${(error as Error).message}\n`);
    return 1;
  }
  return (await made.wait()) ? 0 : 1;
}

function shown({ task_uuid, name, namespace, status, context }: ClientTaskResponse): Data {
  return { task_uuid, name, namespace, status, context };
}

const CALLS: Record<string, (client: AsyncTaskerClient, args: Data) => Promise<unknown>> = {
  create_task: async (client, args) => ({ task_uuid: (await client.createTask(args as { name: string })).task_uuid }),
  get_task: async (client, { task_uuid }) => shown(await client.getTask(task_uuid)),
  list_tasks: async (client, args) => ({ tasks: (await client.listTasks(args)).tasks.map(shown) }),
  list_task_steps: async (client, { task_uuid }) => (await client.listTaskSteps(task_uuid)).map(({ name, current_state }) => ({ name, current_state })),
  wait_for_task: async (client, { task_uuid, timeout }) => shown(await client.waitForTask(task_uuid, { timeoutMs: timeout * 1000 })),
  cancel_task: async (client, { task_uuid }) => client.cancelTask(task_uuid),
  health_check: async (client) => ({ healthy: (await client.healthCheck()).healthy }),
  request: async (client, { method, params }) => client.request(method, params),
};

/** One call of the client. */
async function answer(asked: Data): Promise<Data> {
  const client = new AsyncTaskerClient({ socket: asked['socket'] ?? socket, connectTimeoutMs: 0 });
  try {
    return { ok: (await CALLS[asked['call']]?.(client, asked['args'] ?? {})) ?? null };
  } catch (error) {
    if (!(error instanceof TaskerdError)) throw error;
    return { error: { code: error.code, message: error.message, retryable: error.retryable } };
  } finally {
    await client.close();
  }
}

async function client(): Promise<number> {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line) as Data))}\n`);
  }
  return 0;
}

async function replay(): Promise<number> {
  const runtime = 'Deno' in globalThis ? ['run', '-A'] : [];
  const cli = fileURLToPath(import.meta.resolve('taskerd')).replace(/index\.js$/, 'cli.js');
  const { status } = spawnSync(process.execPath, [...runtime, cli, 'replay', positionals[1] as string, here('./handlers.js'), '--socket', socket], { stdio: 'inherit' });
  return status ?? 1;
}

const COMMANDS: Record<string, () => Promise<number>> = { worker, client, replay };
const command = COMMANDS[positionals[0] ?? ''];
process.exit(command ? await command() : 2);
