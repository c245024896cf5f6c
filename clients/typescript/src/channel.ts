/** One connection of a client: requests and their answers. Never reconnects. */

import { Encoder, NOTIFICATION, REQUEST, RESPONSE, type Data, type Envelope, type Limits } from './codec.js';
import { ConnectionLostError, ConversionError, InvalidValueError, ProtocolError, RequestTimeoutError, TaskerdError, TooLargeError } from './errors.js';
import { clearTimeout, setTimeout } from './own.js';
import { Session } from './transport.js';

interface Pending {
  method: string;
  timer: NodeJS.Timeout;
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** What a channel tells whoever has it. */
export interface ChannelEvents {
  notification(method: string, params: Data): void;
  lost(): void;
}

/** Packs a request, and says which of the daemon's limits it breaks. */
export function packRequest(encoder: Encoder, id: number, method: string, params: Data, limits: Limits): Buffer {
  let frame: Buffer;
  try {
    encoder.reset();
    encoder.value(params);
    const { items } = encoder;
    const size = encoder.take().length + method.length + 16;
    if (size > limits.max_frame) {
      throw new TooLargeError('too_large', `the request takes ${size} bytes`, { details: { limit: 'max_frame', max: limits.max_frame, size } });
    }
    if (items + 8 > limits.max_items) {
      throw new TooLargeError('too_large', 'the request has too many items', { details: { limit: 'max_items', max: limits.max_items } });
    }
    frame = encoder.frame([REQUEST, id, method, params]);
  } catch (error) {
    if (error instanceof ConversionError) throw new InvalidValueError('invalid_value', error.message, { path: error.path, cause: error });
    throw error;
  }
  return frame;
}

/** Connected from its creation until `closed`. */
export class Channel {
  closed = false;
  private readonly pending = new Map<number, Pending>();
  private readonly encoder = new Encoder();
  private nextId = 1;
  private reason: Error | undefined;

  private constructor(
    readonly session: Session,
    private readonly events: ChannelEvents,
  ) {
    session.attach({ envelope: (envelope) => this.dispatch(envelope), closed: (reason) => this.end(reason) });
    session.unref();
  }

  static async open(path: string, events: ChannelEvents, signal?: AbortSignal): Promise<Channel> {
    return new Channel(await Session.open(path, undefined, undefined, signal), events);
  }

  get limits(): Limits {
    return this.session.welcome.limits;
  }

  /** Send a request. ConnectionLostError with `sent` false if nothing left this process. */
  request(method: string, params: Data, timeoutMs: number): Promise<unknown> {
    if (this.closed) return Promise.reject(new ConnectionLostError('the connection to taskerd is closed'));
    while (this.pending.has(this.nextId)) this.nextId = (this.nextId % 0xffffffff) + 1;
    const id = this.nextId;
    this.nextId = (id % 0xffffffff) + 1;
    return new Promise((resolve, reject) => {
      const frame = packRequest(this.encoder, id, method, params, this.limits);
      const timer = setTimeout(() => this.settle(id)?.reject(new RequestTimeoutError(`no answer to ${method} in time`)), Math.max(0, timeoutMs));
      this.pending.set(id, { method, timer, resolve, reject });
      this.session.ref();
      this.session.send(frame);
    });
  }

  /** Say goodbye and close. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.session.finish(new Encoder().frame([NOTIFICATION, 'goodbye', {}]), 1000);
    this.rejectAll();
  }

  private settle(id: number): Pending | undefined {
    const found = this.pending.get(id);
    if (!found) return undefined;
    clearTimeout(found.timer);
    this.pending.delete(id);
    if (this.pending.size === 0) this.session.unref();
    return found;
  }

  private dispatch(envelope: Envelope): void {
    if (envelope[0] === RESPONSE) {
      const found = this.settle(envelope[1]);
      if (envelope[2]) found?.reject(TaskerdError.fromWire(envelope[2]));
      else found?.resolve(envelope[3]);
    } else if (envelope[1] === 'error') this.reason = TaskerdError.fromWire(envelope[2]);
    else this.events.notification(envelope[1], envelope[2]);
  }

  private end(reason: Error | undefined): void {
    this.closed = true;
    this.reason ??= reason;
    this.rejectAll();
    this.events.lost();
  }

  private rejectAll(): void {
    const why = this.reason ? `: ${this.reason.message}` : '';
    for (const id of [...this.pending.keys()]) {
      const lost = this.reason instanceof ProtocolError ? this.reason : new ConnectionLostError(`the connection to taskerd broke before the answer${why}`, true);
      this.settle(id)?.reject(lost);
    }
  }
}
