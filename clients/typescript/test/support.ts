/** A daemon made of a few lines, for tests to script, and small helpers. Its codec is a packaged one: a second opinion. */

import { decode, encode } from '@msgpack/msgpack';
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setLevels } from '../dist/internal.js';
import { HandlerRegistry, Worker, type HandlerEntry, type WorkerOptions } from 'taskerd';

setLevels({ own: 'off' });

export type Data = Record<string, any>;

/** No test waits for time to pass; this only bounds how long a broken one hangs. */
export const PATIENCE = Number(process.env['TASKERD_TEST_PATIENCE'] ?? 300) * 1000;

export const ROOT = process.env['TASKERD_ROOT'] ?? fileURLToPath(new URL('../../..', import.meta.url));

/** A file of golden vectors. */
export function vectors(name: string): Data[] {
  return JSON.parse(readFileSync(join(ROOT, 'protocol', 'vectors', `${name}.json`), 'utf8')) as Data[];
}

const made: string[] = [];
function clean(): void {
  for (const path of made) rmSync(path, { recursive: true, force: true });
}
process.on('exit', clean);
(globalThis as { addEventListener?: (event: string, then: () => void) => void }).addEventListener?.('unload', clean); // Deno's tests end so

/** A directory of the test's own, with a short name. */
export function scratch(): string {
  const path = mkdtempSync(join(tmpdir(), 'tt-'));
  made.push(path);
  return path;
}

/** `promise`, or an error that says what did not come. */
export function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Something that will be there. */
export class Later<T = void> {
  resolve!: (value: T) => void;
  readonly promise = new Promise<T>((resolve) => (this.resolve = resolve));
}

export function welcome(changes: Data = {}): Data {
  return {
    protocol: [1, 0],
    server: 'taskerd/0.1.0',
    node: 'test-node',
    session: 'token-1',
    resumed: false,
    worker_uuid: '0190b5a0-7c1e-7000-8000-00000000c001',
    heartbeat_ms: 60000,
    limits: { max_frame: 4194304, max_items: 262144, max_depth: 30, max_bulk: 1000, max_context: 1048576, max_result: 1048576 },
    features: [],
    ...changes,
  };
}

function uuid(n: number): string {
  return `00000000-0000-0000-0000-${n.toString(16).padStart(12, '0')}`;
}

export function step(name: string, n = 1, changes: Data = {}): Data {
  const claim = new Uint8Array(16);
  claim[15] = n;
  return {
    step_uuid: uuid(n),
    task_uuid: uuid(1000),
    attempt: 1,
    max_attempts: 3,
    retryable: true,
    claim,
    namespace: 'default',
    template: 't',
    version: '1.0.0',
    step: `s${n}`,
    handler: { callable: name },
    context: {},
    dependencies: {},
    dependencies_partial: false,
    priority: 0,
    correlation_id: uuid(1000),
    ...changes,
  };
}

/** The daemon's end of one connection. */
export class Conn {
  /** Every envelope but heartbeats. */
  private readonly arrived: (any[] | null)[] = [];
  private wake: (() => void) | undefined;
  private bytes = Buffer.alloc(0);
  private readonly held: Data[] = [];

  constructor(readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => this.take(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => this.put(null));
  }

  private take(chunk: Buffer): void {
    this.bytes = Buffer.concat([this.bytes, chunk]);
    while (this.bytes.length >= 4) {
      const end = 4 + this.bytes.readUInt32BE(0);
      if (this.bytes.length < end) return;
      const envelope = decode(this.bytes.subarray(4, end)) as any[];
      this.bytes = this.bytes.subarray(end);
      if (envelope[1] !== 'heartbeat') this.put(envelope);
    }
  }

  private put(envelope: any[] | null): void {
    this.arrived.push(envelope);
    this.wake?.();
  }

  /** The next envelope, null at the end of the stream. */
  async recv(): Promise<any[] | null> {
    while (this.arrived.length === 0) await within(new Promise<void>((resolve) => (this.wake = resolve)), 'a message');
    return this.arrived.shift() as any[] | null;
  }

  send(...envelopes: unknown[]): void {
    const frames = envelopes.map((envelope) => {
      const payload = encode(envelope);
      const head = Buffer.alloc(4);
      head.writeUInt32BE(payload.length);
      return Buffer.concat([head, payload]);
    });
    this.socket.write(Buffer.concat(frames));
  }

  raw(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  /** The next message, which must be of that method: params of a notification, [id, params] of a request. */
  async expect(method: string): Promise<any> {
    const envelope = await this.recv();
    assert.ok(envelope, `end of stream instead of ${method}`);
    const [kind] = envelope;
    assert.equal(kind === 0 ? envelope[2] : envelope[1], method, JSON.stringify(envelope));
    return kind === 0 ? [envelope[1], envelope[3]] : envelope[2];
  }

  async expectEnd(): Promise<void> {
    assert.equal(await this.recv(), null);
  }

  /** Answer the handshake; returns the params of hello. */
  async hello(changes: Data = {}, ...more: unknown[]): Promise<Data> {
    const [id, params] = (await this.expect('hello')) as [number, Data];
    this.send([1, id, null, welcome(changes)], ...more);
    return params;
  }

  answer(id: number, result: unknown): void {
    this.send([1, id, null, result]);
  }

  refuse(id: number, code: string, more: Data = {}): void {
    this.send([1, id, { code, message: `refused: ${code}`, ...more }, null]);
  }

  execute(...steps: Data[]): void {
    this.send([2, 'step.execute', { steps }]);
  }

  /** The next results, however they are framed; log lines in between are skipped. */
  async results(count: number): Promise<Data[]> {
    while (this.held.length < count) {
      const envelope = await this.recv();
      assert.ok(envelope, 'end of stream instead of results');
      if (envelope[1] === 'step.log') continue;
      assert.equal(envelope[1], 'step.result', JSON.stringify(envelope));
      this.held.push(...(envelope[2].results as Data[]));
    }
    return this.held.splice(0, count);
  }

  ack(results: Data[], status = 'recorded', more: Data = {}): void {
    this.send([2, 'result.ack', { acks: results.map(({ step_uuid, attempt }) => ({ step_uuid, attempt, status, ...more })) }]);
  }

  close(): void {
    this.socket.destroy();
  }
}

/** Accepts connections. */
export class Daemon {
  readonly path: string;
  readonly conns: Conn[] = [];
  private readonly waiting: Conn[] = [];
  private wake: (() => void) | undefined;
  private server: Server | undefined;

  constructor() {
    this.path = join(scratch(), 's');
  }

  listen(): Promise<this> {
    const server = createServer((socket) => {
      const conn = new Conn(socket);
      this.conns.push(conn);
      this.waiting.push(conn);
      this.wake?.();
    });
    this.server = server;
    return new Promise((resolve) => server.listen(this.path, () => resolve(this)));
  }

  async accept(): Promise<Conn> {
    while (this.waiting.length === 0) await within(new Promise<void>((resolve) => (this.wake = resolve)), 'a connection');
    return this.waiting.shift() as Conn;
  }

  async stop(): Promise<void> {
    for (const conn of this.conns) conn.close();
    await new Promise<void>((resolve) => (this.server ? this.server.close(() => resolve()) : resolve()));
  }
}

/** Run a test with a daemon to script. */
export async function withDaemon(body: (daemon: Daemon) => Promise<void>): Promise<void> {
  const daemon = await new Daemon().listen();
  try {
    await body(daemon);
  } finally {
    await daemon.stop();
  }
}

export interface Running {
  worker: Worker;
  conn: Conn;
  daemon: Daemon;
  hello: Data;
}

/** Run a test with a worker that is connected. */
export function withWorker(
  handlers: Record<string, HandlerEntry>,
  body: (running: Running) => Promise<void>,
  options: WorkerOptions = {},
  welcomed: Data = {},
): Promise<void> {
  return withDaemon(async (daemon) => {
    const registry = new HandlerRegistry();
    for (const [name, entry] of Object.entries(handlers)) registry.register(name, entry);
    const worker = new Worker({ registry, socket: daemon.path, daemonLogLevel: 'off', ...options });
    const started = worker.start();
    try {
      const conn = await daemon.accept();
      const hello = await conn.hello(welcomed);
      await within(started, 'the start');
      await body({ worker, conn, daemon, hello });
    } finally {
      await worker.abort();
      await started.catch(() => undefined);
    }
  });
}

/** The result that a handler's step gets. */
export async function runOne(entry: HandlerEntry, changes: Data = {}): Promise<Data> {
  let result: Data = {};
  await withWorker({ h: entry }, async ({ conn }) => {
    conn.execute(step('h', 1, changes));
    [result] = (await conn.results(1)) as [Data];
    conn.ack([result]);
  });
  return result;
}
