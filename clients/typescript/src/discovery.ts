/** Finding handlers in files, and template files. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, extname, join, resolve } from 'node:path';
import type { ExecutableHandler } from './handler.js';
import { describeFailure, importFailure, importFile, type ImportFailure, type Module } from './loader.js';
import { log } from './log.js';
import { HandlerRegistry, handlerNameOf, isHandlerClass, type HandlerEntry, type HandlerSpec, type RegistryResolver } from './registry.js';

const SOURCES = ['.ts', '.mts', '.js', '.mjs', '.cjs', '.cts'];
const INDEXES = ['examples/index', 'index', 'dsl_examples/index'];
const LISTS = ['ALL_EXAMPLE_HANDLERS', 'ALL_DSL_HANDLERS', 'ALL_HANDLERS'];
const SKIPPED = /^_|^\.|^node_modules$|\.d\.[cm]?ts$|\.(?:test|spec)\.[cm]?[jt]s$/;

/** The handlers of a module: what its lists hold, else every export that has a name to be known by. */
export function handlersIn(found: Module): Map<string, HandlerEntry> {
  const listed = LISTS.flatMap((name) => (Array.isArray(found[name]) ? (found[name] as unknown[]) : []));
  const candidates = listed.length > 0 ? listed : Object.values(found).flatMap((value) => (Array.isArray(value) ? (value as unknown[]) : [value]));
  const out = new Map<string, HandlerEntry>();
  for (const candidate of candidates) {
    const name = handlerNameOf(candidate);
    if (name && (isHandlerClass(candidate) || typeof (candidate as ExecutableHandler).call === 'function')) out.set(name, candidate as HandlerEntry);
  }
  // A class without a handlerName is known by its own, if it is meant to be a handler at all.
  for (const [name, value] of Object.entries(found)) {
    if (isHandlerClass(value) && !handlerNameOf(value) && 'handlerName' in value && listed.length === 0) out.set(value.name || name, value);
  }
  return out;
}

/** Source files below a directory; of a name with several extensions the first. */
export function sourceFiles(directory: string): string[] {
  const out = new Map<string, string>();
  const entries = readdirSync(directory, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  const below: string[] = [];
  for (const entry of entries) {
    const path = join(directory, entry.name);
    if (SKIPPED.test(entry.name)) continue;
    if (entry.isDirectory() || (entry.isSymbolicLink() && statSync(path, { throwIfNoEntry: false })?.isDirectory())) below.push(...sourceFiles(path));
    else if (SOURCES.includes(extname(entry.name))) keepBest(out, path);
  }
  return [...out.values(), ...below];
}

function keepBest(files: Map<string, string>, path: string): void {
  const stem = path.slice(0, -extname(path).length);
  const old = files.get(stem);
  if (old === undefined || SOURCES.indexOf(extname(path)) < SOURCES.indexOf(extname(old))) files.set(stem, path);
}

/** Handlers, and where they come from. */
export class HandlerSystem {
  /** Files with handlers that could not be imported. */
  readonly importFailures: ImportFailure[] = [];
  /** Called when a handler was registered. */
  onRegister: ((name: string) => void) | undefined;
  private readonly resolvers = new Set<unknown>();

  constructor(private readonly registry: HandlerRegistry = new HandlerRegistry()) {}

  getRegistry(): HandlerRegistry {
    return this.registry;
  }

  /** Offer a handler under a name. */
  register(name: string, entry: HandlerEntry): void {
    this.registry.register(name, entry);
    this.onRegister?.(name);
  }

  unregister(name: string): boolean {
    return this.registry.unregister(name);
  }

  resolve(spec: HandlerSpec): Promise<ExecutableHandler | null> {
    return this.registry.resolve(spec);
  }

  isRegistered(name: string): boolean {
    return this.registry.isRegistered(name);
  }

  listHandlers(): string[] {
    return this.registry.listHandlers();
  }

  handlerCount(): number {
    return this.registry.handlerCount();
  }

  get count(): number {
    return this.registry.handlerCount();
  }

  clear(): void {
    this.registry.clear();
  }

  /** Nothing is prepared beforehand; kept for callers of the reference. */
  async initialize(): Promise<void> {}

  /** Handlers of the path in TYPESCRIPT_HANDLER_PATH; 0 if it is not set. */
  async loadFromEnv(): Promise<number> {
    const path = process.env['TYPESCRIPT_HANDLER_PATH'];
    return path ? this.loadFromPath(path) : 0;
  }

  /**
   * Handlers of a file, or of a directory: of its `index` if that names handlers, else of every source file below it. Returns how
   * many were registered. A file that cannot be imported is logged and kept in `importFailures`, the others go on; only a
   * path that does not exist is an error.
   */
  async loadFromPath(path: string): Promise<number> {
    const place = existing(path);
    if (statSync(place).isFile()) return this.offer(await this.tryImport(place));
    let count = 0;
    for (const index of INDEXES) {
      const file = SOURCES.map((extension) => join(place, index + extension)).find((candidate) => existsSync(candidate));
      if (file) count += this.offer(await this.tryImport(file));
    }
    if (count > 0 && this.importFailures.length === 0) return count;
    const found = new Map<string, HandlerEntry>();
    const origin = new Map<string, string>();
    for (const file of sourceFiles(place)) {
      if (this.importFailures.some((failure) => failure.file === file)) continue;
      const loaded = await this.tryImport(file);
      for (const [name, entry] of loaded ? handlersIn(loaded) : []) {
        const first = origin.get(name);
        if (first && found.get(name) !== entry) log.warn(`two handlers are called '${name}': in ${first} and ${file}; the second is used`);
        found.set(name, entry);
        origin.set(name, file);
      }
    }
    for (const [name, entry] of found) if (this.registry.entry(name) !== entry) this.register(name, entry);
    return Math.max(count, found.size);
  }

  private offer(loaded: Module | undefined): number {
    const found = loaded ? handlersIn(loaded) : new Map<string, HandlerEntry>();
    for (const [name, entry] of found) this.register(name, entry);
    return found.size;
  }

  /** Resolvers that a file exports, as classes or made, find callables of a form of their own. */
  private addResolvers(loaded: Module): void {
    for (const value of Object.values(loaded)) {
      if (this.resolvers.has(value)) continue;
      const resolver = resolverOf(value);
      if (resolver) this.registry.addResolver(resolver);
      this.resolvers.add(value);
    }
  }

  private async tryImport(file: string): Promise<Module | undefined> {
    try {
      const loaded = await importFile(file);
      this.addResolvers(loaded);
      return loaded;
    } catch (error) {
      const failure = await importFailure(file, error);
      this.importFailures.push(failure);
      log.error(describeFailure(failure));
      return undefined;
    }
  }
}

function resolverOf(value: unknown): RegistryResolver | undefined {
  const isResolver = (x: unknown): boolean => ['canResolve', 'resolveHandler'].every((name) => typeof (x as Module | undefined)?.[name] === 'function');
  if (typeof value === 'function') return isResolver(value.prototype) ? new (value as new () => RegistryResolver)() : undefined;
  return value && isResolver(value) ? (value as RegistryResolver) : undefined;
}

/** An existing path; one without its extension is understood. */
function existing(path: string): string {
  const place = resolve(path);
  const found = ['', ...SOURCES].map((extension) => place + extension).find((candidate) => existsSync(candidate));
  if (!found) throw new Error(`no such file or directory: ${path}`);
  return found;
}

// ---- templates --------------------------------------------------------------------------------

const TEMPLATES = ['.yaml', '.yml', '.json'];
const MARKERS = ['package.json', 'deno.json', '.git'];

/** Where templates lie: `TASKER_TEMPLATE_PATH`, `WORKSPACE_PATH/config/tasks`, the same below the workspace that encloses the
 * working directory, `./config/tasks`. Null if there is none of these. */
export function findTemplatePath(): string | null {
  const named = process.env['TASKER_TEMPLATE_PATH'];
  if (named) {
    if (!existsSync(named)) throw new Error(`TASKER_TEMPLATE_PATH: no such directory: ${named}`);
    return named;
  }
  const places = [process.env['WORKSPACE_PATH'], workspace(process.cwd()), process.cwd()];
  const found = places.map((place) => (place ? join(place, 'config', 'tasks') : '')).find((place) => place && existsSync(place));
  return found ?? null;
}

function workspace(from: string): string | undefined {
  if (MARKERS.some((marker) => existsSync(join(from, marker)))) return from;
  const parent = dirname(from);
  return parent === from ? undefined : workspace(parent);
}

/** The template files below a directory, sorted; a file stands for itself. */
export function templateFiles(path: string): string[] {
  if (!existsSync(path)) throw new Error(`no such file or directory: ${path}`);
  if (statSync(path).isFile()) return [path];
  const names = readdirSync(path, { recursive: true }) as string[];
  const files = names.map((name) => join(path, name)).filter((file) => TEMPLATES.includes(extname(file)) && statSync(file).isFile());
  return files.sort();
}

/** Every callable that a template file names, without a daemon: of YAML the lines that say `callable:`. */
export function templateCallables(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  const found = text.matchAll(/(?:^|[\s{,"])callable["']?\s*:\s*["']?([^\s"',}#]+(?:#\w+)?)/gm);
  return [...new Set([...found].map((match) => match[1] as string))];
}

