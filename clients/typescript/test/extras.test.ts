/** What is there only where it is asked for: traces where OpenTelemetry is installed, several processes. */

import { trace } from '@opentelemetry/api';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { defineHandler } from 'taskerd';
import { scratch, step, withDaemon, withWorker, within, type Data } from './support.js';

const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url));

test('a handler runs in a span that continues the trace of its task', async () => {
  const spans: Data[] = [];
  const provider = {
    getTracer: () => ({
      startActiveSpan: (name: string, options: Data, parent: unknown, call: (span: unknown) => unknown) => {
        const span: Data = { name, attributes: options['attributes'], parent: trace.getSpanContext(parent as never) };
        spans.push(span);
        return call({ setStatus: (status: unknown) => (span['status'] = status), recordException: () => undefined, end: () => (span['ended'] = true) });
      },
      startSpan: () => undefined,
    }),
  };
  assert.equal(trace.setGlobalTracerProvider(provider as never), true);
  const handler = defineHandler('h', ({ context }) => {
    if (context.getInput('bad')) throw new Error('bad');
  });
  await withWorker({ h: handler }, async ({ conn }) => {
    conn.execute(step('h', 1, { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', tracestate: 'vendor=1,x=y' }), step('h', 2, { context: { bad: true } }));
    await conn.results(2);
  });
  assert.deepEqual([spans[0]?.['name'], spans[0]?.['parent'].traceId, spans[0]?.['attributes']['taskerd.step'], spans[0]?.['ended'], spans[0]?.['status']], ['h', '0af7651916cd43dd8448eb211c80319c', 's1', true, undefined]);
  assert.equal(spans[0]?.['parent'].traceState.serialize(), 'vendor=1,x=y');
  assert.equal(spans[1]?.['status'].message, 'bad');
  trace.disable();
});

test('one of several processes that is told twice to stop finishes what it runs', () =>
  withDaemon(async (daemon) => {
    const place = scratch();
    const [file, gate] = [join(place, 'handlers.mjs'), join(place, 'gate')];
    writeFileSync(file, `import { existsSync } from 'node:fs'; import { setTimeout } from 'node:timers/promises';
export class Held { static handlerName = 'held'; async call(context) { context.heartbeat('on'); while (!existsSync(${JSON.stringify(gate)})) await setTimeout(5); return {}; } }\n`);
    const args = [...('Deno' in globalThis ? ['run', '-A'] : []), CLI, 'worker', file, '--socket', daemon.path, '--processes', '2', '--log-level', 'error'];
    const child = spawn(process.execPath, args, { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.on('close', resolve));
    const [busy, idle] = [await daemon.accept(), await daemon.accept()];
    const pid = (await busy.hello())['pid'] as number;
    await idle.hello();
    busy.execute(step('held'));
    await busy.expect('step.heartbeat');
    process.kill(pid, 'SIGTERM');
    await busy.expect('worker.update');
    process.kill(child.pid as number, 'SIGTERM');
    for (const method of ['worker.update', 'goodbye']) await idle.expect(method);
    writeFileSync(gate, '');
    busy.ack(await busy.results(1));
    await busy.expect('goodbye');
    assert.equal(await within(ended, 'the end'), 0);
  }));

test('a process that dies is replaced, and all end with the one above', () =>
  withDaemon(async (daemon) => {
    const file = join(scratch(), 'handlers.mjs');
    writeFileSync(file, "export class Die { static handlerName = 'die'; async call() { process.kill(process.pid, 'SIGKILL'); await new Promise(() => {}); } }\n");
    const args = [...('Deno' in globalThis ? ['run', '-A'] : []), CLI, 'worker', file, '--socket', daemon.path, '--processes', '2', '--name', 'pair', '--log-level', 'error'];
    const child = spawn(process.execPath, args, { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.on('close', resolve));
    const first = await daemon.accept();
    const second = await daemon.accept();
    const names = [await first.hello(), await second.hello()].map((hello) => hello['worker'].name as string);
    assert.deepEqual(names.sort(), ['pair.1', 'pair.2']);
    first.execute(step('die'));
    await first.expectEnd();
    const third = await daemon.accept();
    assert.match((await third.hello())['worker'].name, /^pair\.[12]$/);
    process.kill(child.pid as number, 'SIGTERM');
    for (const conn of [second, third]) {
      await conn.expect('worker.update');
      await conn.expect('goodbye');
    }
    assert.equal(await within(ended, 'the end'), 0);
  }));
