/** Finding the daemon, connecting, and the handshake. */

import { existsSync, readFileSync, statSync } from 'node:fs';
import { connect as netConnect, type Socket } from 'node:net';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import {
  DEFAULT_LIMITS,
  Encoder,
  FrameReader,
  HELLO_MAX_FRAME,
  HELLO_MAX_ITEMS,
  REQUEST,
  RESPONSE,
  isMap,
  type Data,
  type Envelope,
  type Limits,
} from './codec.js';
import { ConnectionLostError, ProtocolError, TaskerdError, TooLargeError, UnsupportedVersionError, messageFor } from './errors.js';
import { clearTimeout, now, setTimeout, stringify } from './own.js';
import { CLIENT_NAME, PROTOCOL_VERSION } from './version.js';

const SYSTEM_SOCKET = '/run/taskerd/taskerd.sock';
const HELLO_TIMEOUT = 10_000;
/** Frames larger than this are refused whatever the daemon says its limit is. */
const MAX_FRAME = 1 << 26;

/** Where the daemon listens: the argument, $TASKERD_SOCKET, the user's runtime directory, the system's. */
export function socketPath(explicit?: string | null): string {
  const named = explicit || process.env['TASKERD_SOCKET'];
  if (named) return named;
  const runtime = process.env['XDG_RUNTIME_DIR'];
  if (runtime) {
    const own = join(runtime, 'taskerd', 'taskerd.sock');
    if (existsSync(own)) return own;
  }
  return SYSTEM_SOCKET;
}

/**
 * Waits between attempts to connect: full jitter below a bound that doubles from 0.1 s to `capMs`. A restarted daemon keeps steps for its
 * workers for ten seconds, which they must not sleep away.
 */
export class Backoff {
  private bound = 100;

  constructor(private readonly capMs = 2_000) {}

  /** Milliseconds to wait now. */
  next(atLeast = 0): number {
    const delay = Math.random() * this.bound;
    this.bound = Math.min(this.capMs, this.bound * 2);
    return Math.max(delay, atLeast);
  }

  /** Start again from the shortest, after a connection that was good. */
  reset(): void {
    this.bound = 100;
  }
}

/** Says at once that something is wrong, and while it stays so once a minute. */
export class Complaints {
  private last: number | undefined;

  constructor(private readonly everyMs = 60_000) {}

  /** True if it is time to say it (again). */
  due(): boolean {
    const at = now();
    if (this.last !== undefined && at - this.last < this.everyMs) return false;
    this.last = at;
    return true;
  }

  /** It is no longer wrong. */
  over(): void {
    this.last = undefined;
  }
}

/** The daemon's answer to `hello`. */
export interface Welcome {
  session: string;
  resumed: boolean;
  server: string;
  node: string;
  workerUuid: string;
  heartbeatMs: number;
  limits: Limits;
  features: string[];
}

/** What a worker says of itself in `hello`. */
export interface WorkerHello {
  name: string;
  namespaces: string[];
  handlers: string[];
  max_concurrency: number;
  [more: string]: unknown;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function positive(value: unknown, fallback: number): number {
  return typeof value === 'number' && value > 0 ? value : fallback;
}

function readWelcome(result: Data): Welcome {
  const version = result['protocol'];
  if (!Array.isArray(version) || version[0] !== PROTOCOL_VERSION[0]) {
    const said = `the daemon speaks protocol ${stringify(version)}, this library ${stringify(PROTOCOL_VERSION)}`;
    throw new UnsupportedVersionError('unsupported_version', said, { details: { client: PROTOCOL_VERSION, server: version } });
  }
  const given = isMap(result['limits']) ? result['limits'] : {};
  const limits = { ...DEFAULT_LIMITS };
  for (const name of Object.keys(limits)) limits[name] = positive(given[name], limits[name] as number);
  limits.max_frame = Math.min(limits.max_frame, MAX_FRAME);
  return {
    session: text(result['session']),
    resumed: result['resumed'] === true,
    server: text(result['server']),
    node: text(result['node']),
    workerUuid: text(result['worker_uuid']),
    heartbeatMs: positive(result['heartbeat_ms'], 10_000),
    limits,
    features: Array.isArray(result['features']) ? result['features'].map(String) : [],
  };
}

/** The `hello` request (always id 0); TooLargeError if it breaks the limits before the handshake. */
export function helloFrame(worker?: WorkerHello, resume?: Data): Buffer {
  const params: Data = { protocol: PROTOCOL_VERSION, client: CLIENT_NAME, language: 'typescript', pid: process.pid, worker, resume };
  const encoder = new Encoder();
  const payload = encoder.pack([REQUEST, 0, 'hello', params]);
  encoder.value([REQUEST, 0, 'hello', params]);
  if (payload.length > HELLO_MAX_FRAME || encoder.items > HELLO_MAX_ITEMS) {
    const said = `the handshake takes ${payload.length} bytes and ${encoder.items} values, ${HELLO_MAX_FRAME} and ${HELLO_MAX_ITEMS} are allowed: offer fewer handlers in one process`;
    throw new TooLargeError('too_large', said);
  }
  return new Encoder().frame([REQUEST, 0, 'hello', params]);
}

/** The welcome in an envelope, undefined for a message that is not the answer; throws what was refused. */
function welcomeOf(envelope: Envelope): Welcome | undefined {
  if (envelope[0] !== RESPONSE) {
    if (envelope[1] === 'error') throw TaskerdError.fromWire(envelope[2]);
    return undefined;
  }
  if (envelope[1] !== 0) throw new ProtocolError('answer to a request that was not sent');
  if (envelope[2] !== null) throw TaskerdError.fromWire(envelope[2]);
  if (!isMap(envelope[3])) throw new ProtocolError('the answer to hello is not a map');
  return readWelcome(envelope[3]);
}

/** What an open session does with what it reads, and when it ends. */
export interface SessionEvents {
  envelope(envelope: Envelope): void;
  /** Called once. Without a reason the daemon closed the connection. */
  closed(reason: Error | undefined): void;
}

/** A connection whose handshake is done. */
export class Session {
  /** When something was sent last. */
  sentAt = now();
  ended = false;
  private events: SessionEvents | undefined;
  private early: Envelope[] = [];

  private constructor(
    private readonly socket: Socket,
    readonly welcome: Welcome,
    private readonly reader: FrameReader,
  ) {}

  /**
   * Connect and shake hands. Throws ConnectionLostError if the daemon cannot be reached or hangs up, and the daemon's own
   * error if it refuses.
   */
  static open(path: string, worker?: WorkerHello, resume?: Data, signal?: AbortSignal): Promise<Session> {
    const hello = helloFrame(worker, resume);
    return new Promise((resolve, reject) => new Handshake(path, hello, resolve, reject, signal));
  }

  /** Made by the handshake, with what came right behind the welcome. */
  static made(socket: Socket, welcome: Welcome, reader: FrameReader, early: Envelope[]): Session {
    const session = new Session(socket, welcome, reader);
    session.early = early;
    return session;
  }

  /** Begin to read. */
  attach(events: SessionEvents): void {
    this.events = events;
    const { socket } = this;
    socket.on('data', (chunk: Buffer) => this.read(chunk));
    socket.on('error', (error) => this.end(new ConnectionLostError(`the connection to taskerd broke: ${error.message}`)));
    socket.on('close', () => this.end(undefined));
    const { early } = this;
    this.early = [];
    this.guarded(() => {
      for (const envelope of early) events.envelope(envelope);
    });
    if (!this.ended) socket.resume();
  }

  private read(chunk: Buffer): void {
    if (this.ended) return;
    this.guarded(() => this.reader.feed(chunk, (envelope) => this.events?.envelope(envelope)));
  }

  private guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.end(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Bytes that wait to be sent. */
  get backlog(): number {
    return this.socket.writableLength;
  }

  send(data: Buffer): void {
    this.sentAt = now();
    this.socket.write(data);
  }

  /** Send what is left and close. */
  finish(data: Buffer | undefined, timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => done(false), timeoutMs);
      const done = (sent: boolean): void => {
        clearTimeout(timer);
        this.close();
        resolve(sent);
      };
      if (this.ended) done(false);
      else {
        this.socket.once('close', () => done(false));
        this.socket.end(data ?? Buffer.alloc(0), () => done(true));
      }
    });
  }

  /** Close now; `closed` is not called. */
  close(): void {
    this.ended = true;
    this.events = undefined;
    this.socket.destroy();
  }

  /** Do not keep the process alive for this connection. */
  unref(): void {
    this.socket.unref();
  }

  ref(): void {
    this.socket.ref();
  }

  private end(reason: Error | undefined): void {
    if (this.ended) return;
    const { events } = this;
    this.close();
    events?.closed(reason);
  }
}

/** The way from nothing to a session. */
class Handshake {
  private readonly socket: Socket;
  private readonly reader = new FrameReader(MAX_FRAME);
  private readonly timer: NodeJS.Timeout;
  private readonly early: Envelope[] = [];
  private welcome: Welcome | undefined;
  private over = false;

  constructor(
    private readonly path: string,
    hello: Buffer,
    private readonly resolve: (session: Session) => void,
    private readonly reject: (error: Error) => void,
    private readonly signal?: AbortSignal,
  ) {
    this.timer = setTimeout(() => this.fail(new ConnectionLostError('taskerd did not answer the handshake')), HELLO_TIMEOUT);
    this.socket = netConnect({ path });
    this.socket.on('connect', () => this.socket.write(hello));
    this.socket.on('data', this.onData);
    this.socket.on('error', this.onError);
    this.socket.on('close', this.onClose);
    signal?.addEventListener('abort', this.onAbort);
    if (signal?.aborted) this.onAbort();
  }

  private readonly onAbort = (): void => this.fail(new ConnectionLostError('connecting was given up'));

  private readonly onClose = (): void => this.fail(new ConnectionLostError(`taskerd closed the connection during the handshake (${this.path})`));

  private readonly onError = (error: NodeJS.ErrnoException): void =>
    this.fail(new ConnectionLostError(`cannot reach taskerd at ${this.path}: ${whyNot(this.path, error)}`));

  private readonly onData = (chunk: Buffer): void => {
    try {
      this.reader.feed(chunk, (envelope) => {
        if (this.welcome) this.early.push(envelope);
        else this.welcome = welcomeOf(envelope);
      });
    } catch (error) {
      this.fail(error as Error);
      return;
    }
    if (this.welcome) this.succeed(this.welcome);
  };

  private settle(): boolean {
    if (this.over) return false;
    this.over = true;
    clearTimeout(this.timer);
    this.signal?.removeEventListener('abort', this.onAbort);
    return true;
  }

  private succeed(welcome: Welcome): void {
    if (!this.settle()) return;
    const { socket, reader } = this;
    socket.pause();
    socket.off('data', this.onData).off('error', this.onError).off('close', this.onClose);
    // Until the session is attached an error must not be nobody's.
    socket.on('error', () => undefined);
    reader.maxPayload = welcome.limits.max_frame;
    this.resolve(Session.made(socket, welcome, reader, this.early));
  }

  private fail(error: Error): void {
    if (!this.settle()) return;
    this.socket.on('error', () => undefined);
    this.socket.destroy();
    this.reject(error);
  }
}

const PLAIN: Record<string, string> = {
  ENOENT: 'no socket is there: taskerd is not running, or listens elsewhere',
  ECONNREFUSED: 'nobody listens any more: taskerd has stopped',
};

/** What to tell people about a failed connect; where the socket may not be used, who may. */
export function whyNot(path: string, error: NodeJS.ErrnoException): string {
  const plain = PLAIN[error.code ?? ''];
  if (plain) return plain;
  if (error.code !== 'EACCES' && error.code !== 'EPERM') return messageFor(error);
  let place = path;
  for (;;) {
    try {
      const found = statSync(place);
      const owner = nameOf('/etc/passwd', found.uid);
      const group = nameOf('/etc/group', found.gid);
      return `permission denied: ${place} is for user ${owner} and group ${group}, this process is user ${ownName()}`;
    } catch (failure) {
      const { code } = failure as NodeJS.ErrnoException;
      if ((code !== 'EACCES' && code !== 'EPERM') || place === dirname(place)) return messageFor(error);
      place = dirname(place);
    }
  }
}

function ownName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? '?');
  }
}

/** The name of a number in a file of the form of /etc/passwd; the number itself if it has none there. */
function nameOf(file: string, id: number): string {
  try {
    const row = readFileSync(file, 'utf8')
      .split('\n')
      .find((line) => line.split(':')[2] === String(id));
    return row?.split(':')[0] ?? String(id);
  } catch {
    return String(id);
  }
}

/** A pause that a signal can end early. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done);
  });
}
