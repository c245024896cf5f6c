/** Bytes and values: the golden vectors, framing in any cut, and what user values become. */

import { decode as packagedDecode } from '@msgpack/msgpack';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Encoder, FrameReader, checkEnvelope, decode, safeText, toJsonValue, Claim } from '../dist/internal.js';
import { ConversionError, ProtocolError } from 'taskerd';
import { vectors, type Data } from './support.js';

/** Well-formed for a reader that trusts the daemon: this side need not refuse these. */
const TOLERATED = /duplicate map key|nested too deeply|too many items/;

/** The value of a vector's meaning. */
function meaning(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(meaning);
  if (typeof value !== 'object' || value === null) return value;
  const [[key, inner] = ['', ''], ...rest] = Object.entries(value);
  if (rest.length === 0 && typeof inner === 'string') {
    if (key === '$bin') return Buffer.from(inner, 'hex');
    if (key === '$int') return BigInt(inner);
    if (key === '$float') return Number(inner.replace('inf', 'Infinity').replace('nan', 'NaN'));
  }
  const out: Data = {};
  for (const [name, item] of Object.entries(value)) Object.defineProperty(out, name, { value: meaning(item), enumerable: true, configurable: true, writable: true });
  return out;
}

function hasFloat(value: unknown): boolean {
  return JSON.stringify(value, (_, item: unknown) => item)?.includes('$float') || /[0-9]\.[0-9]|e[+-]?[0-9]/.test(JSON.stringify(value));
}

function pack(value: unknown): Buffer {
  const encoder = new Encoder();
  return encoder.pack(value);
}

/** As `pack`, with bytes as they are sent on the wire. */
function withClaims(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return new Claim(value);
  if (Array.isArray(value)) return value.map(withClaims);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withClaims(item)]));
}

describe('vectors', () => {
  for (const v of vectors('values')) {
    test(`value: ${v.name}`, () => {
      const bytes = Buffer.from(v.hex, 'hex');
      const value = meaning(v.meaning);
      assert.deepEqual(decode(bytes), value);
      if (v.canonical === false || v.refused || hasFloat(v.meaning) || JSON.stringify(v.meaning)?.includes('$bin')) return;
      assert.equal(pack(value).toString('hex'), v.hex);
    });
  }

  for (const v of vectors('messages')) {
    test(`message: ${v.name}`, () => {
      const bytes = Buffer.from(v.hex, 'hex');
      const value = meaning(v.meaning);
      assert.deepEqual(decode(bytes), value);
      if (v.direction === 'to_client') checkEnvelope(decode(bytes));
      if (!hasFloat(v.meaning)) assert.equal(pack(withClaims(value)).toString('hex'), v.hex);
    });
  }

  for (const v of vectors('frames')) {
    test(`frames: ${v.name}`, () => {
      const bytes = Buffer.from(v.hex, 'hex');
      for (const size of [1, 3, bytes.length || 1]) {
        const reader = new FrameReader(v.limit);
        const found: unknown[] = [];
        for (let i = 0; i < bytes.length; i += size) reader.cut(bytes.subarray(i, i + size), (buf, start, end) => found.push(decode(buf, start, end)));
        assert.deepEqual(found, meaning(v.meaning.frames));
        assert.equal(reader.left, v.meaning.left);
      }
    });
  }

  for (const v of vectors('hostile')) {
    test(`hostile: ${v.name}`, () => {
      const bytes = Buffer.from(v.hex, 'hex');
      const read = (): unknown => {
        if (v.refused_by === 'frame') return new FrameReader(v.limits?.max_payload ?? 65536).cut(bytes, () => undefined);
        return checkEnvelope(decode(bytes));
      };
      if (TOLERATED.test(v.why)) {
        try {
          read();
        } catch (error) {
          assert.ok(error instanceof ProtocolError, String(error));
        }
      } else assert.throws(read, ProtocolError);
    });
  }
});

describe('values', () => {
  const cases: [string, unknown, unknown][] = [
    ['undefined in a map is left out', { a: 1, b: undefined }, { a: 1 }],
    ['undefined in a list is nil', [undefined, 1], [null, 1]],
    ['a date', new Date(0), '1970-01-01T00:00:00.000Z'],
    ['a map', new Map<unknown, unknown>([['a', 1], [2, 'b']]), { a: 1, 2: 'b' }],
    ['a set', new Set([1, 2]), [1, 2]],
    ['a typed array', new Float64Array([1, 2.5]), [1, 2.5]],
    ['an error', new RangeError('no'), { name: 'RangeError', message: 'no' }],
    ['toJSON', { toJSON: () => ({ x: 1 }) }, { x: 1 }],
    ['an instance', new (class A { x = 1; get y() { return 2; } })(), { x: 1 }],
    ['boxed', [Object(1), Object('a'), Object(true)], [1, 'a', true]],
    ['a bigint that is small', 5n, 5],
    ['a bigint that fits 64 bits', -(1n << 63n), -(1n << 63n)],
    ['minus zero', -0, 0],
    ['__proto__', JSON.parse('{"__proto__": {"a": 1}}'), JSON.parse('{"__proto__": {"a": 1}}')],
    ['a sparse list', [1, , 3], [1, null, 3]], // eslint-disable-line no-sparse-arrays
    ['strings of every length', Array.from({ length: 300 }, (_, i) => 'ä'.repeat(i)), Array.from({ length: 300 }, (_, i) => 'ä'.repeat(i))],
    ['a string of 70,000', 'x'.repeat(70000), 'x'.repeat(70000)],
  ];
  for (const [name, value, expected] of cases) test(name, () => assert.deepEqual(toJsonValue(value), expected));

  const cyclic: Data = { a: {} };
  cyclic.a.b = [cyclic];
  let deep: unknown = 1;
  for (let i = 0; i < 40; i++) deep = [deep];
  const refused: [string, unknown, RegExp][] = [
    ['a function', { a: [{ b: () => 1 }] }, /^a\[0\]\.b: a function cannot be stored/],
    ['a symbol', { a: Symbol('s') }, /^a: a symbol cannot be stored/],
    ['NaN', { a: NaN }, /^a: NaN/],
    ['infinity', [Infinity], /^\[0\]: NaN and infinity/],
    ['a cycle', cyclic, /^a\.b\[0\]: the value contains itself/],
    ['depth', deep, /nested too deeply/],
    ['a promise', { a: Promise.resolve(1) }, /^a: a promise/],
    ['U+0000', { a: 'x\0y' }, /^a: U\+0000/],
    ['U+0000 in a long string', { a: `${'x'.repeat(100)}\0` }, /^a: U\+0000/],
    ['U+0000 in a key', { 'k\0': 1 }, /U\+0000/],
    ['half of a surrogate pair', { a: ['x\ud800'] }, /^a\[0\]: text with half of a surrogate pair/],
    ['the other half, in a long string', { a: `${'x'.repeat(100)}\udc00` }, /^a: text with half/],
    ['half of a surrogate pair in a key', { 'k\ud834': 1 }, /half of a surrogate pair/],
    ['an integer of 65 bits', { a: 1n << 64n }, /^a: integer does not fit 64 bits/],
    ['a key that is an object', new Map([[{}, 1]]), /map key of type object/],
    ['a toJSON that throws', { a: [{ toJSON() { throw new Error('gone'); } }] }, /^a\[0\]: gone/],
    ['a proxy that throws', { a: new Proxy({}, { ownKeys() { throw new Error('trapped'); } }) }, /^a: trapped/],
    ['a getter that throws', { get a() { throw new Error('gone'); } }, /gone/],
  ];
  for (const [name, value, message] of refused) {
    test(`refused: ${name}`, () => {
      assert.throws(() => toJsonValue(value), (error: Error) => message.test(error.message));
      assert.deepEqual(toJsonValue({ after: 1 }), { after: 1 });
    });
  }

  test('texts for people are mended', () => {
    assert.equal(safeText('\u00e9\ud800\0', 9), '\u00e9\\ud800\\0');
    assert.equal(safeText('a\ud834\udd1e', 2), 'a\\ud834');
    assert.equal(toJsonValue('\ud834\udd1e'), '\ud834\udd1e');
  });

  test('the path begins with the name that is given', () => {
    assert.throws(() => toJsonValue({ a: NaN }, 'result'), (error: unknown) => error instanceof ConversionError && error.path === 'result.a');
  });

  test('a packaged codec reads what is written', () => {
    const value = { text: 'äöü€😀', n: [0, 127, 128, 255, 256, 65535, 65536, 2 ** 32, 2 ** 53 - 1, -1, -32, -33, -128, -129, -32769, -(2 ** 31) - 1], f: 1.5, t: true, nil: null };
    assert.deepEqual(packagedDecode(pack(value)), value);
  });

  test('items are counted as the daemon counts them', () => {
    const encoder = new Encoder();
    encoder.value({ a: [1, 'x', null], b: {} });
    assert.equal(encoder.items, 8);
  });
});
