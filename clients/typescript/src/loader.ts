/** Importing modules of handlers, and telling well what is wrong with one that cannot be imported. */

import { readFileSync } from 'node:fs';
import module from 'node:module';
import { resolve as resolvePath } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { compile, locate, type Places } from './hooks.js';
import { messageOf } from './results.js';

export type Module = Record<string, unknown>;

/** A module that could not be imported, and where in it that went wrong. */
export interface ImportFailure {
  file: string;
  line: number | null;
  error: string;
}

/** An import failure as a sentence. */
export function describeFailure({ file, line, error }: ImportFailure): string {
  return `cannot be imported: ${file}${line === null ? '' : `:${line}`}: ${error}`;
}

/** This copy of the package, for whoever imports it. */
export const PLACES: Places = {
  entries: {
    taskerd: new URL('./index.js', import.meta.url).href,
    'taskerd/testing': new URL('./testing.js', import.meta.url).href,
    '@tasker-systems/tasker': new URL('./index.js', import.meta.url).href,
  },
};

const NODE = !('Bun' in globalThis) && !('Deno' in globalThis);
let prepared = false;

/** Let the runtime find what handler files import. Once, before the first of them. */
export async function prepareImports(): Promise<void> {
  if (prepared) return;
  prepared = true;
  const runtime = module as unknown as { register?: (url: string, options: object) => void; registerHooks?: (hooks: object) => void };
  if ('Bun' in globalThis) await prepareBun();
  else if ('Deno' in globalThis) runtime.registerHooks?.({ resolve: resolveSync });
  else {
    process.setSourceMapsEnabled(true);
    runtime.register?.(new URL('./hooks.js', import.meta.url).href, { data: PLACES });
  }
}

let requirable = false;

/** Let CommonJS have what is an ES module: `require('taskerd')` is answered with what has been imported. */
async function prepareRequire(): Promise<void> {
  requirable = true;
  const own = new Map<string, Module>();
  for (const [name, url] of Object.entries(PLACES.entries)) own.set(name, (await import(url)) as Module);
  const runtime = module as unknown as { _load: (request: string, ...rest: unknown[]) => unknown };
  const load = runtime._load;
  runtime._load = function (request, ...rest) {
    return own.get(request) ?? load.call(this, request, ...rest);
  };
}

interface Context {
  parentURL?: string;
}

function resolveSync(specifier: string, context: Context, next: (specifier: string, context: Context) => unknown): unknown {
  const url = locate(specifier, context.parentURL, PLACES);
  return url === undefined ? next(specifier, context) : { url, shortCircuit: true };
}

/** Bun finds sources by itself; only this package may be out of its sight. */
async function prepareBun(): Promise<void> {
  const own = (await import(PLACES.entries['taskerd'] as string)) as Module; // at hand, so that it can be required too
  const { Bun } = globalThis as unknown as { Bun: { plugin(options: object): void } };
  const build = { module(_name: string, _make: () => unknown): void {} };
  Bun.plugin({
    name: 'taskerd',
    setup(given: typeof build) {
      for (const [name, url] of Object.entries(PLACES.entries))
        given.module(name, url === PLACES.entries['taskerd'] ? () => ({ exports: own, loader: 'object' }) : async () => ({ exports: (await import(url)) as object, loader: 'object' }));
    },
  });
}

/** Import a file; throws what the import throws. A file that was written as a script and ends the process does not get its way. */
export async function importFile(path: string): Promise<Module> {
  const { exit } = process;
  process.exit = (code) => {
    throw new Error(`process.exit(${code ?? ''}) was called`);
  };
  try {
    return await imported(path);
  } catch (error) {
    throw unreadable(path, error) ?? error;
  } finally {
    process.exit = exit;
  }
}

/** Node alone does not read CommonJS TypeScript; Bun, Deno, tsx and a newer Node do. */
function unreadable(path: string, cause: unknown): Error | undefined {
  if (!path.endsWith('.cts') || (cause as { code?: unknown } | null)?.code !== 'ERR_UNKNOWN_FILE_EXTENSION') return undefined;
  const error = new Error('a .cts file (CommonJS TypeScript) is not read by this Node: write it with import and export and name it .ts or .mts, or compile it to .cjs', { cause });
  error.stack = `Error: ${error.message}`; // nothing in it is a place in the file
  return error;
}

async function imported(path: string): Promise<Module> {
  const { href } = pathToFileURL(resolvePath(path));
  if ('Deno' in globalThis && !requirable && /\brequire\(/.test(readFileSync(path, 'utf8'))) await prepareRequire(); // Deno does not forget a failure
  try {
    return await importedAs(path, href);
  } catch (error) {
    if (requirable || !/\brequire\b|ES Module|Cannot find module|Cannot resolve module/.test(`${(error as Error | null)?.stack ?? ''} ${messageOf(error)}`)) throw error;
    await prepareRequire();
    return importedAs(path, `${href}?required`);
  }
}

async function importedAs(path: string, href: string): Promise<Module> {
  if (NODE && !prepared && !/\.m?ts$/.test(path)) {
    // Node's hooks cost a thread, and time at the start. Most JavaScript does without.
    try {
      return (await import(href)) as Module;
    } catch (error) {
      if (!isAbsent(error)) throw error;
    }
    await prepareImports();
    return (await import(`${href}?hooked`)) as Module;
  }
  await prepareImports();
  return (await import(href)) as Module;
}

/** Import a path as a template may name it, relative to the working directory; undefined if there is no such module. */
export async function importFrom(specifier: string): Promise<Module | undefined> {
  await prepareImports();
  const parent = pathToFileURL(`${process.cwd()}/`).href;
  const relative = specifier.startsWith('.');
  const target = relative ? (locate(specifier, parent, PLACES) ?? new URL(specifier, parent).href) : specifier;
  try {
    return (await import(target)) as Module;
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

function isAbsent(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND' || /Cannot find (?:module|package)|Module not found/.test(messageOf(error));
}

/** What is known about an import that has failed. */
export async function importFailure(file: string, thrown: unknown): Promise<ImportFailure> {
  const { errors } = (thrown ?? {}) as { errors?: unknown };
  const error: unknown = Array.isArray(errors) && errors.length > 0 ? errors[0] : thrown;
  const place = placeOf(file, error);
  if (place.line === null && error instanceof SyntaxError) place.line = await syntaxLine(file);
  const name = error instanceof Error ? error.name : 'Error';
  const said = messageOf(error).split('\n')[0] ?? '';
  return { ...place, error: said.startsWith(name) ? said : `${name}: ${said}` };
}

/** Node shows where a syntax error is only to who lets it end the process; the compiler says it. */
async function syntaxLine(file: string): Promise<number | null> {
  try {
    await compile(file);
    return null;
  } catch (error) {
    const found = /:(\d+): /.exec(messageOf(error));
    return found ? Number(found[1]) : null;
  }
}

interface Place {
  file: string;
  line: number | null;
}

/** File and line: what the runtime says, else the innermost line of the file, else the line that imports what is missing. */
function placeOf(file: string, error: unknown): Place {
  const { position } = (error ?? {}) as { position?: { file?: string; line?: number } };
  if (position?.line) return { file: position.file || file, line: position.line };
  const text = `${error instanceof Error ? (error.stack ?? '') : ''}\n${messageOf(error)}`;
  return ownLine(file, text) ?? missingImport(file, error) ?? anyLine(file, text) ?? { file, line: null };
}

function ownLine(file: string, text: string): Place | undefined {
  const url = pathToFileURL(file).href;
  for (const name of [url, file]) {
    const escaped = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const found = new RegExp(`${escaped}:(\\d+)`).exec(text);
    if (found) return { file, line: Number(found[1]) };
  }
  return undefined;
}

/** Something that the file imports is not there, or lacks a name: the line that asks for it. */
function missingImport(file: string, error: unknown): Place | undefined {
  const said = messageOf(error);
  const wanted = /(?:package|module|import|requested module|module not found) ['"]([^'"]+)['"]/i.exec(said)?.[1];
  if (!wanted) return undefined;
  const from = /imported from ['"]?(\S+?)['"]?(?:\s|$)/.exec(said)?.[1];
  const place = from === undefined ? file : from.startsWith('file:') ? fileURLToPath(from) : from;
  const names = [wanted, wanted.split('/').at(-1) ?? wanted];
  try {
    const lines = readFileSync(place, 'utf8').split('\n');
    for (const name of names) {
      const at = lines.findIndex((line) => line.includes(name));
      if (at >= 0) return { file: place, line: at + 1 };
    }
  } catch {
    return undefined;
  }
  return undefined;
}

/** A file that the module imports is the broken one. */
function anyLine(file: string, text: string): Place | undefined {
  const own = fileURLToPath(new URL('.', import.meta.url));
  for (const found of text.matchAll(/(?:file:\/\/)?(\/[^\s()'"]+?\.m?[jt]s):(\d+)/g)) {
    if (!found[1]?.startsWith(own)) return { file: found[1] ?? file, line: Number(found[2]) };
  }
  return undefined;
}
