/**
 * How handler files are found and read where the runtime alone would not: TypeScript on Node, imports without or with another
 * extension than the file has, and `taskerd` itself, which is always the copy that runs the worker.
 */

import { existsSync, readFileSync, statSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';

const EXTENSIONS = ['.ts', '.mts', '.js', '.mjs', '/index.ts', '/index.js'];
const TYPESCRIPT = /\.m?ts$/;

/** What a hook is given for finding: the importing file, and the copies of this package's entry points. */
export interface Places {
  entries: Record<string, string>;
}

function isFile(path: string): boolean {
  return existsSync(path) && statSync(path).isFile();
}

/** The file that an import means, as a URL; undefined if that is for the runtime to say. */
export function locate(specifier: string, parent: string | undefined, places: Places): string | undefined {
  const entry = places.entries[specifier];
  if (entry !== undefined) return entry;
  if (!/^\.{1,2}\//.test(specifier) || !parent?.startsWith('file:')) return undefined;
  const path = fileURLToPath(new URL(specifier, parent));
  if (isFile(path)) return undefined;
  const source = path.replace(/\.(m?)js$/, '.$1ts');
  if (source !== path && isFile(source)) return pathToFileURL(source).href;
  const found = EXTENSIONS.map((extension) => path + extension).find(isFile);
  return found === undefined ? undefined : pathToFileURL(found).href;
}

type Transform = (source: string, filename: string) => string;
let transform: Promise<Transform> | undefined;

/** What makes JavaScript of TypeScript: `@swc/wasm-typescript`, which comes with this package unless it was left out. */
async function transformer(): Promise<Transform> {
  const name = '@swc/wasm-typescript';
  const swc = (await import(name)) as { transformSync(source: string, options: object): { code: string; map?: string } };
  return (source, filename) => {
    const made = swc.transformSync(source, { mode: 'transform', filename, sourceMap: true, transform: { verbatimModuleSyntax: false } });
    const map = made.map ? `\n//# sourceMappingURL=data:application/json;base64,${Buffer.from(made.map).toString('base64')}\n` : '';
    return made.code + map;
  };
}

/** The JavaScript of a TypeScript file. */
export async function compile(path: string): Promise<string> {
  transform ??= transformer();
  let compiled: Transform;
  try {
    compiled = await transform;
  } catch (cause) {
    throw new Error(`${path} is TypeScript, and @swc/wasm-typescript is not installed (npm install @swc/wasm-typescript)`, { cause });
  }
  try {
    return compiled(readFileSync(path, 'utf8'), path);
  } catch (error) {
    throw syntaxError(path, error);
  }
}

/** The compiler throws a report with the place. */
function syntaxError(path: string, error: unknown): Error {
  const { message, startLine } = error as { message?: string; startLine?: number };
  return new SyntaxError(`${path}:${startLine ?? ''}: ${message ?? String(error)}`);
}

// ---- hooks of Node, in a thread of their own --------------------------------------------------

let places: Places = { entries: {} };

export function initialize(data: Places): void {
  places = data;
}

interface ResolveContext {
  parentURL?: string;
}
interface Resolved {
  url: string;
  format?: string;
  shortCircuit?: boolean;
}

export async function resolve(specifier: string, context: ResolveContext, next: (specifier: string, context: ResolveContext) => Promise<Resolved>): Promise<Resolved> {
  const url = locate(specifier, context.parentURL, places) ?? ownTypeScript(specifier, context.parentURL);
  if (url === undefined) return next(specifier, context);
  return { url, shortCircuit: true, ...(TYPESCRIPT.test(url) ? { format: 'module' } : {}) };
}

/** A TypeScript file that is there under the name it is imported by; Node would not know its format. */
function ownTypeScript(specifier: string, parent: string | undefined): string | undefined {
  if (!TYPESCRIPT.test(specifier) || !/^(?:\.{1,2}\/|file:|\/)/.test(specifier)) return undefined;
  const url = new URL(specifier.startsWith('/') ? pathToFileURL(specifier).href : specifier, parent);
  return isFile(fileURLToPath(url)) ? url.href : undefined;
}

export async function load(url: string, context: object, next: (url: string, context: object) => Promise<object>): Promise<object> {
  if (!url.startsWith('file:') || !TYPESCRIPT.test(url) || url.includes('/node_modules/')) return next(url, context);
  return { format: 'module', source: await compile(fileURLToPath(url)), shortCircuit: true };
}
