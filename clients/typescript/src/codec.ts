/**
 * Frames and values: the byte level of the protocol.
 *
 * A frame is a big-endian u32 length and one MessagePack value. The codec is the package's own because values come from user
 * code on the one side and from a socket on the other: encoding brings a value into the JSON data model and names the place
 * that cannot be, in the same pass; decoding never trusts a length, keeps `__proto__` an ordinary key, and gives integers
 * beyond 2^53 as bigint only where they are.
 */

import { Buffer } from 'node:buffer';
import { ConversionError, ProtocolError } from './errors.js';
import { messageOf } from './results.js';

export const REQUEST = 0;
export const RESPONSE = 1;
export const NOTIFICATION = 2;

/** Limits before the daemon has told its own in the welcome. */
export const HELLO_MAX_FRAME = 1 << 20;
export const HELLO_MAX_ITEMS = 16384;

/** The daemon's limits, from the welcome. */
export interface Limits {
  max_frame: number;
  max_items: number;
  max_depth: number;
  max_bulk: number;
  [name: string]: number;
}

export const DEFAULT_LIMITS: Limits = { max_frame: 4 << 20, max_items: 262144, max_depth: 30, max_bulk: 1000 };

/** Containers that a user's value may nest: the frame's 30 less the envelope, params, array and item around it. */
export const MAX_VALUE_DEPTH = 26;

export type Data = Record<string, unknown>;
export type Envelope = [1, number, Data | null, unknown] | [2, string, Data];

const INT64_MIN = -(1n << 63n);
const INT64_MAX = (1n << 63n) - 1n;
/** Halves of surrogate pairs without the other half, which no encoding of text has. */
const HALVES = /\p{Surrogate}/u;
const START_SIZE = 1 << 14;
const KEEP_SIZE = 1 << 20;

// ---- encoding ---------------------------------------------------------------------------------

/**
 * Packs values, one after the other, into a buffer of its own.
 *
 * Objects are read as `JSON.stringify` reads them (`toJSON`, own enumerable properties, `undefined` left out); Maps become maps,
 * Sets and typed arrays arrays, errors `{name, message}`, bigints integers if they fit 64 bits. Functions, symbols, promises,
 * NaN, infinities, U+0000, cycles and what nests too deeply are a ConversionError that says where.
 */
export class Encoder {
  /** MessagePack items packed since the last `take`, as the daemon's limit counts them. */
  items = 0;
  private buf = Buffer.allocUnsafeSlow(START_SIZE);
  private pos = 0;
  private readonly keys: (string | number)[] = [];
  private readonly parents: unknown[] = [];

  /** The bytes packed so far, copied; begins anew. */
  take(): Buffer {
    const out = Buffer.allocUnsafe(this.pos);
    this.buf.copy(out, 0, 0, this.pos);
    this.reset();
    return out;
  }

  /** Forget what was packed. */
  reset(): void {
    this.pos = 0;
    this.items = 0;
    if (this.buf.length > KEEP_SIZE) this.buf = Buffer.allocUnsafeSlow(START_SIZE);
  }

  /** Pack one value alone. */
  pack(value: unknown, path = ''): Buffer {
    this.reset();
    this.value(value, path);
    return this.take();
  }

  /** The frame that carries one value. */
  frame(value: unknown): Buffer {
    this.reset();
    this.pos = 4;
    this.value(value);
    this.buf.writeUInt32BE(this.pos - 4, 0);
    return this.take();
  }

  /** Append a value. `path` is what errors call it. */
  value(value: unknown, path = '', depth = MAX_VALUE_DEPTH + 4): void {
    this.keys.length = this.parents.length = 0;
    try {
      this.any(value, depth);
    } catch (error) {
      if (error instanceof ConversionError && error.path) throw error;
      // Getters, proxies and toJSON are the application's code, which may throw anything.
      throw new ConversionError(messageOf(error), pathOf(path, this.keys));
    }
  }

  /** Append bytes as `bin`, as claims are sent. */
  bin(bytes: Uint8Array): void {
    const n = bytes.length;
    this.items += 1;
    this.room(n + 5);
    if (n < 256) this.sized(0xc4, 1, n);
    else if (n < 65536) this.sized(0xc5, 2, n);
    else this.sized(0xc6, 4, n);
    this.buf.set(bytes, this.pos);
    this.pos += n;
  }

  mapHeader(n: number): void {
    this.items += 1;
    this.header(n, 0x80, 0xde);
  }

  arrayHeader(n: number): void {
    this.items += 1;
    this.header(n, 0x90, 0xdc);
  }

  /** Append a string. */
  text(value: string): void {
    this.items += 1;
    const n = value.length;
    this.room(n * 3 + 5);
    const { buf } = this;
    if (n < 32) {
      // Most strings are short and ASCII: written in place, without a call into the runtime.
      const start = this.pos + 1;
      let i = 0;
      for (; i < n; i++) {
        const c = value.charCodeAt(i);
        if (c > 0x7f || c === 0) break;
        buf[start + i] = c;
      }
      if (i === n) {
        buf[this.pos] = 0xa0 | n;
        this.pos = start + n;
        return;
      }
    }
    this.longText(value, n);
  }

  private longText(value: string, n: number): void {
    if (value.includes('\0')) throw new ConversionError('U+0000 cannot be stored');
    if (HALVES.test(value)) throw new ConversionError('text with half of a surrogate pair cannot be stored');
    const { buf } = this;
    // The header's size is settled by a guess; a wrong one costs a second write of the string.
    let head = n < 32 ? 1 : n < 256 ? 2 : n < 65536 ? 3 : 5;
    let size = buf.write(value, this.pos + head, 'utf8');
    const right = size < 32 ? 1 : size < 256 ? 2 : size < 65536 ? 3 : 5;
    if (right !== head) {
      head = right;
      size = buf.write(value, this.pos + head, 'utf8');
    }
    const { pos } = this;
    if (head === 1) buf[pos] = 0xa0 | size;
    else if (head === 2) {
      buf[pos] = 0xd9;
      buf[pos + 1] = size;
    } else if (head === 3) {
      buf[pos] = 0xda;
      buf.writeUInt16BE(size, pos + 1);
    } else {
      buf[pos] = 0xdb;
      buf.writeUInt32BE(size, pos + 1);
    }
    this.pos = pos + head + size;
  }

  private room(n: number): void {
    if (this.pos + n <= this.buf.length) return;
    let size = this.buf.length * 2;
    while (size < this.pos + n) size *= 2;
    const grown = Buffer.allocUnsafeSlow(size);
    this.buf.copy(grown, 0, 0, this.pos);
    this.buf = grown;
  }

  private any(value: unknown, depth: number): void {
    switch (typeof value) {
      case 'string':
        this.text(value);
        return;
      case 'number':
        this.number(value);
        return;
      case 'boolean':
        this.byte(value ? 0xc3 : 0xc2);
        return;
      case 'undefined':
        this.byte(0xc0);
        return;
      case 'bigint':
        this.bigint(value);
        return;
      case 'object':
        if (value === null) this.byte(0xc0);
        else this.object(value, depth);
        return;
      default:
        throw new ConversionError(`a ${typeof value} cannot be stored`);
    }
  }

  private byte(code: number): void {
    this.items += 1;
    this.room(1);
    this.buf[this.pos++] = code;
  }

  private number(value: number): void {
    if (Number.isSafeInteger(value)) {
      this.integer(value);
      return;
    }
    if (!Number.isFinite(value)) throw new ConversionError('NaN and infinity are not allowed');
    this.items += 1;
    this.room(9);
    this.buf[this.pos] = 0xcb;
    this.buf.writeDoubleBE(value, this.pos + 1);
    this.pos += 9;
  }

  private integer(value: number): void {
    this.items += 1;
    this.room(9);
    const { buf, pos } = this;
    if (value >= 0) {
      if (value < 0x80) {
        buf[pos] = value;
        this.pos = pos + 1;
      } else if (value < 0x100) this.sized(0xcc, 1, value);
      else if (value < 0x10000) this.sized(0xcd, 2, value);
      else if (value < 0x100000000) this.sized(0xce, 4, value);
      else this.wide(0xcf, BigInt(value));
    } else if (value >= -0x20) {
      buf[pos] = 0x100 + value;
      this.pos = pos + 1;
    } else if (value >= -0x80) this.sized(0xd0, 1, value & 0xff);
    else if (value >= -0x8000) this.sized(0xd1, 2, value & 0xffff);
    else if (value >= -0x80000000) this.sized(0xd2, 4, value >>> 0);
    else this.wide(0xd3, BigInt(value));
  }

  private sized(code: number, size: number, value: number): void {
    this.buf[this.pos] = code;
    this.buf.writeUIntBE(value, this.pos + 1, size);
    this.pos += 1 + size;
  }

  private wide(code: number, value: bigint): void {
    this.buf[this.pos] = code;
    if (code === 0xcf) this.buf.writeBigUInt64BE(value, this.pos + 1);
    else this.buf.writeBigInt64BE(value, this.pos + 1);
    this.pos += 9;
  }

  private bigint(value: bigint): void {
    if (value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER)) {
      this.integer(Number(value));
      return;
    }
    if (value < INT64_MIN || value > INT64_MAX) throw new ConversionError('integer does not fit 64 bits');
    this.items += 1;
    this.room(9);
    this.wide(value < 0n ? 0xd3 : 0xcf, value);
  }

  private header(n: number, fix: number, code16: number): void {
    this.room(5);
    if (n < 16) this.buf[this.pos++] = fix | n;
    else if (n < 65536) this.sized(code16, 2, n);
    else this.sized(code16 + 1, 4, n);
  }

  private object(value: object, depth: number): void {
    if (depth === 0) throw new ConversionError('nested too deeply');
    if (this.parents.includes(value)) throw new ConversionError('the value contains itself');
    const level = this.parents.length;
    this.parents.push(value);
    if (Array.isArray(value)) this.array(value, level, depth);
    else this.map(value, level, depth);
    this.parents.length = level;
    this.keys.length = level;
  }

  private array(value: readonly unknown[], level: number, depth: number): void {
    this.arrayHeader(value.length);
    for (let i = 0; i < value.length; i++) {
      this.keys[level] = i;
      this.any(value[i], depth - 1);
    }
  }

  private map(value: object, level: number, depth: number): void {
    const proto: unknown = Object.getPrototypeOf(value);
    if (proto !== Object.prototype && proto !== null) {
      if (this.special(value, level, depth)) return;
    } else if (Object.hasOwn(value, 'toJSON') && typeof (value as Data)['toJSON'] === 'function') {
      this.replaced(value, level, depth);
      return;
    }
    const names = Object.keys(value);
    let absent = 0;
    for (const name of names) if ((value as Data)[name] === undefined) absent += 1;
    this.mapHeader(names.length - absent);
    for (const name of names) {
      const item = (value as Data)[name];
      if (item !== undefined) this.entry(name, item, level, depth);
    }
  }

  private entry(name: string, item: unknown, level: number, depth: number): void {
    this.keys[level] = name;
    this.text(name);
    this.any(item, depth - 1);
  }

  /** Objects that are no plain maps. False: it is read as one all the same. */
  private special(value: object, level: number, depth: number): boolean {
    if (value instanceof Claim) this.bin(value.bytes);
    else if (value instanceof Uint8Array && !hasToJson(value)) this.array([...value], level, depth);
    else if (hasToJson(value)) this.replaced(value, level, depth);
    else if (value instanceof Map) this.mapObject(value, level, depth);
    else if (value instanceof Set) this.array([...(value as Set<unknown>)], level, depth);
    else if (value instanceof Error) this.map(Object.assign({ name: value.name, message: value.message }, value), level, depth);
    else if (value instanceof Number || value instanceof String || value instanceof Boolean) this.any(value.valueOf(), depth);
    else if (ArrayBuffer.isView(value) && !(value instanceof DataView)) this.array([...(value as unknown as Iterable<unknown>)], level, depth);
    else if (isThenable(value)) throw new ConversionError('a promise cannot be stored: it was not awaited');
    else return false;
    return true;
  }

  private mapObject(value: Map<unknown, unknown>, level: number, depth: number): void {
    const rows = [...value].filter((row) => row[1] !== undefined).map(([key, item]) => [keyOf(key), item] as const);
    const merged = new Map(rows);
    if (merged.size !== rows.length) throw new ConversionError('a key occurs twice');
    this.mapHeader(rows.length);
    for (const [name, item] of rows) this.entry(name, item, level, depth);
  }

  private replaced(value: object, level: number, depth: number): void {
    const key = level > 0 ? String(this.keys[level - 1]) : '';
    const made = (value as { toJSON: (key: string) => unknown }).toJSON(key);
    if (made === value) throw new ConversionError('the value contains itself');
    // One level down, so that a toJSON that always makes a new object ends.
    this.any(made, depth - 1);
  }
}

/** Any text in a form that can be sent and stored, no longer than so many characters. */
export function safeText(value: unknown, limit: number): string {
  const text = String(value).slice(0, limit).replaceAll('\0', '\\0');
  return text.replace(/\p{Surrogate}/gu, (half) => `\\u${half.charCodeAt(0).toString(16)}`);
}

/** The proof that a session was given an attempt: the one value that travels as `bin`. */
export class Claim {
  constructor(readonly bytes: Uint8Array) {}
}

function hasToJson(value: object): boolean {
  return typeof (value as { toJSON?: unknown }).toJSON === 'function';
}

/** True for promises and what behaves like one. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}

function keyOf(key: unknown): string {
  if (typeof key === 'string') return key;
  if (key === null || typeof key === 'number' || typeof key === 'boolean' || typeof key === 'bigint') return String(key);
  throw new ConversionError(`a map key of type ${typeof key} is not a string`);
}

function pathOf(root: string, keys: readonly (string | number)[]): string {
  let path = root;
  for (const key of keys) path += typeof key === 'number' ? `[${key}]` : path ? `.${key}` : key;
  return path;
}

const checker = new Encoder();

/** A copy of a value in the JSON data model; ConversionError naming the place that cannot be. */
export function toJsonValue(value: unknown, path = '', depth = MAX_VALUE_DEPTH): unknown {
  checker.reset();
  checker.value(value, path, depth);
  return decode(checker.take());
}

// ---- decoding ---------------------------------------------------------------------------------

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const MAX_DEPTH = 64;

/** Strings that come again and again: keys, ids of messages, names of fields. By length, then by a hash of the bytes. */
const CACHE_SIZE = 1024;
const MAX_CACHED = 24;
const cacheText: string[] = new Array<string>(CACHE_SIZE).fill('');

class Decoder {
  private buf: Buffer = Buffer.alloc(0);
  private pos = 0;
  private end = 0;

  decode(buf: Buffer, start: number, end: number): unknown {
    this.buf = buf;
    this.pos = start;
    this.end = end;
    const value = this.any(MAX_DEPTH);
    if (this.pos !== end) throw new ProtocolError(`payload goes on for ${end - this.pos} bytes behind its value`);
    return value;
  }

  private need(n: number): number {
    const at = this.pos;
    if (n > this.end - at) throw new ProtocolError('payload is truncated');
    this.pos = at + n;
    return at;
  }

  private any(depth: number): unknown {
    const code = this.buf[this.need(1)] as number;
    if (code < 0x80) return code;
    if (code < 0x90) return this.map(code & 0x0f, depth);
    if (code < 0xa0) return this.array(code & 0x0f, depth);
    if (code < 0xc0) return this.text(code & 0x1f);
    if (code >= 0xe0) return code - 0x100;
    return this.coded(code, depth);
  }

  private coded(code: number, depth: number): unknown {
    const { buf } = this;
    switch (code) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.bin(this.uint(1 << (code - 0xc4)));
      case 0xca:
        return buf.readFloatBE(this.need(4));
      case 0xcb:
        return buf.readDoubleBE(this.need(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.uint(1 << (code - 0xcc));
      case 0xcf:
        return narrow(buf.readBigUInt64BE(this.need(8)));
      case 0xd0:
        return buf.readInt8(this.need(1));
      case 0xd1:
        return buf.readInt16BE(this.need(2));
      case 0xd2:
        return buf.readInt32BE(this.need(4));
      case 0xd3:
        return narrow(buf.readBigInt64BE(this.need(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.text(this.uint(1 << (code - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.array(this.uint(code === 0xdc ? 2 : 4), depth);
      case 0xde:
      case 0xdf:
        return this.map(this.uint(code === 0xde ? 2 : 4), depth);
      default:
        throw new ProtocolError(code === 0xc1 ? 'payload holds the byte c1' : 'payload holds an ext value');
    }
  }

  private uint(size: number): number {
    const at = this.need(size);
    return size === 1 ? (this.buf[at] as number) : size === 2 ? this.buf.readUInt16BE(at) : this.buf.readUInt32BE(at);
  }

  private bin(n: number): Buffer {
    const at = this.need(n);
    return Buffer.from(this.buf.subarray(at, at + n));
  }

  private text(n: number): string {
    const at = this.need(n);
    const { buf } = this;
    if (n > MAX_CACHED) return longText(buf, at, at + n);
    let hash = n;
    for (let i = at; i < at + n; i++) {
      const c = buf[i] as number;
      if (c > 0x7f) return longText(buf, at, at + n);
      hash = (hash * 31 + c) | 0;
    }
    const slot = hash & (CACHE_SIZE - 1);
    const found = cacheText[slot] as string;
    if (found.length === n) {
      let i = 0;
      while (i < n && found.charCodeAt(i) === buf[at + i]) i += 1;
      if (i === n) return found;
    }
    const made = buf.toString('latin1', at, at + n);
    cacheText[slot] = made;
    return made;
  }

  private array(n: number, depth: number): unknown[] {
    if (depth === 0) throw new ProtocolError('payload nests too deeply');
    if (n > this.end - this.pos) throw new ProtocolError('payload is truncated');
    const out: unknown[] = [];
    for (let i = 0; i < n; i++) out.push(this.any(depth - 1));
    return out;
  }

  private map(n: number, depth: number): Data {
    if (depth === 0) throw new ProtocolError('payload nests too deeply');
    if (n * 2 > this.end - this.pos) throw new ProtocolError('payload is truncated');
    const out: Data = {};
    for (let i = 0; i < n; i++) {
      const key = this.any(0);
      if (typeof key !== 'string') throw new ProtocolError('a map key is not a string');
      const value = this.any(depth - 1);
      if (key === '__proto__') Object.defineProperty(out, key, { value, enumerable: true, configurable: true, writable: true });
      else out[key] = value;
    }
    return out;
  }
}

function longText(buf: Buffer, start: number, end: number): string {
  let i = start;
  while (i < end && (buf[i] as number) < 0x80) i += 1;
  if (i === end) return buf.toString('latin1', start, end);
  try {
    return utf8.decode(buf.subarray(start, end));
  } catch {
    throw new ProtocolError('payload holds a string that is not UTF-8');
  }
}

/** An integer of 64 bits as a number where that is exact, else as a bigint. */
function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

const decoder = new Decoder();

/** The value of one payload; ProtocolError if it is not exactly one value with string keys. */
export function decode(payload: Buffer, start = 0, end = payload.length): unknown {
  return decoder.decode(payload, start, end);
}

/** `value` if it is a response or a notification; ProtocolError otherwise. */
export function checkEnvelope(value: unknown): Envelope {
  if (Array.isArray(value)) {
    if (value[0] === NOTIFICATION && value.length === 3) {
      if (typeof value[1] === 'string' && isMap(value[2])) return value as Envelope;
    } else if (value[0] === RESPONSE && value.length === 4) {
      const [, id, error, result] = value as unknown[];
      const valid = typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < 4294967296;
      if (valid && (error === null) !== (result === null) && (error === null || isMap(error))) return value as Envelope;
    }
  }
  throw new ProtocolError('envelope is neither a response nor a notification');
}

/** True for a map, as the decoder makes them. */
export function isMap(value: unknown): value is Data {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
}

/** Cuts a byte stream into decoded envelopes. */
export class FrameReader {
  private held: Buffer[] = [];
  private size = 0;

  constructor(public maxPayload: number = HELLO_MAX_FRAME) {}

  /** Bytes that wait for the rest of their frame. */
  get left(): number {
    return this.size;
  }

  /** Add received bytes and hand every whole envelope to `each`, oldest first. */
  feed(chunk: Buffer, each: (envelope: Envelope) => void): void {
    this.cut(chunk, (buf, start, end) => each(checkEnvelope(decode(buf, start, end))));
  }

  /** The same for payloads. */
  cut(chunk: Buffer, each: (buf: Buffer, start: number, end: number) => void): void {
    this.held.push(chunk);
    this.size += chunk.length;
    if (this.size < 4) return;
    if (this.held.length > 1 && this.size < this.wanted()) return;
    const buf = this.held.length > 1 ? Buffer.concat(this.held, this.size) : (this.held[0] as Buffer);
    let start = 0;
    this.held = [];
    this.size = 0;
    while (buf.length - start >= 4) {
      const stop = start + 4 + this.length(buf, start);
      if (stop > buf.length) break;
      each(buf, start + 4, stop);
      start = stop;
    }
    if (start < buf.length) {
      this.held = [buf.subarray(start)];
      this.size = buf.length - start;
    }
  }

  /** Bytes up to the end of the frame that has begun, so that pieces of a large one are joined once. */
  private wanted(): number {
    const first = this.held[0] as Buffer;
    if (first.length < 4) this.held = [Buffer.concat(this.held, this.size)];
    return 4 + this.length(this.held[0] as Buffer, 0);
  }

  private length(buf: Buffer, at: number): number {
    const n = buf.readUInt32BE(at);
    if (n === 0 || n > this.maxPayload) throw new ProtocolError(`frame of ${n} bytes, allowed are 1 to ${this.maxPayload}`);
    return n;
  }
}

/** The MessagePack header of an array. */
export function arrayHeader(n: number): Buffer {
  if (n < 16) return Buffer.from([0x90 | n]);
  if (n < 65536) return Buffer.from([0xdc, n >> 8, n & 0xff]);
  const out = Buffer.alloc(5);
  out[0] = 0xdd;
  out.writeUInt32BE(n, 1);
  return out;
}

/** `[bytes, items]` that one list item may have, leaving room for what surrounds it in the frame. */
export function splitLimits(limits: Limits): [number, number] {
  return [limits.max_frame - 64, limits.max_items - 16];
}
