/** From a template's `handler` entry to a handler: definitions, resolvers, the chain, the registry. */

import { isMap, type Data } from './codec.js';
import type { StepContext } from './context.js';
import { TaskerError } from './errors.js';
import { StepHandler, type ExecutableHandler, type StepHandlerClass } from './handler.js';
import { log, quoted } from './log.js';

/** A handler definition leads to no handler. */
export class ResolutionError extends TaskerError {}
/** A template names a resolver that does not exist. */
export class ResolverNotFoundError extends ResolutionError {}
/** No resolver of the chain knows a definition. */
export class NoResolverMatchError extends ResolutionError {}
/** The handler lacks the method that the template names. */
export class MethodDispatchError extends ResolutionError {}

/** The `handler` entry of a template step. */
export interface HandlerDefinition {
  callable: string;
  method?: string | null;
  resolver?: string | null;
  initialization?: Data;
}

/** What names a handler: a callable, a definition, or the entry as it stands in a template. */
export type HandlerSpec = string | HandlerDefinition | Data;

/** A definition with nothing but the name. */
export function fromCallable(callable: string): HandlerDefinition {
  return { callable, method: null, resolver: null, initialization: {} };
}

/** A definition from a template's map. */
export function fromDto(dto: Data): HandlerDefinition {
  const text = (...keys: string[]): string | null => {
    for (const key of keys) if (typeof dto[key] === 'string' && dto[key]) return dto[key];
    return null;
  };
  const initialization = dto['initialization'] ?? dto['handlerInitialization'];
  return {
    callable: text('callable', 'handlerCallable') ?? '',
    method: text('method', 'handler_method', 'handlerMethod'),
    resolver: text('resolver', 'handlerResolver'),
    initialization: isMap(initialization) ? initialization : {},
  };
}

/** A definition from anything that names a handler. */
export function normalizeToDefinition(spec: HandlerSpec): HandlerDefinition {
  return typeof spec === 'string' ? fromCallable(spec) : fromDto(spec as Data);
}

/** The method that runs the step. */
export function effectiveMethod(definition: HandlerDefinition): string {
  return definition.method || 'call';
}

/** True if another method than `call` runs the step. */
export function usesMethodDispatch(definition: HandlerDefinition): boolean {
  return effectiveMethod(definition) !== 'call';
}

/** True if the template names a resolver. */
export function hasResolverHint(definition: HandlerDefinition): boolean {
  return Boolean(definition.resolver);
}

/** A handler whose `call` runs another of its methods. */
export class MethodDispatchWrapper implements ExecutableHandler {
  private readonly run: (context: StepContext) => unknown;

  constructor(
    readonly handler: ExecutableHandler,
    readonly targetMethod: string,
  ) {
    const method = methodOf(handler, targetMethod);
    if (!method) throw new MethodDispatchError(`${handler.constructor.name} has no method ${quoted(targetMethod)}`);
    this.run = method;
  }

  get name(): string {
    return this.handler.name ?? '';
  }

  get version(): string {
    return this.handler.version ?? '1.0.0';
  }

  get capabilities(): string[] {
    return this.handler.capabilities ?? [];
  }

  call(context: StepContext): unknown {
    return this.run.call(this.handler, context);
  }

  /** The wrapped handler. */
  unwrap(): ExecutableHandler {
    return this.handler;
  }
}

/** A method by its name in the template: `process_refund` also finds `processRefund`. */
function methodOf(handler: ExecutableHandler, name: string): ((context: StepContext) => unknown) | undefined {
  const camel = name.replace(/_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  for (const key of [name, camel]) {
    const found = (handler as unknown as Data)[key];
    if (key !== 'constructor' && typeof found === 'function' && !(key in Object.prototype)) return found as (context: StepContext) => unknown;
  }
  return undefined;
}

/** What may be registered under a name: a class, an instance, or a function that makes a handler. */
export type HandlerEntry = StepHandlerClass | ExecutableHandler | (() => ExecutableHandler);

/** True for the class of a handler. */
export function isHandlerClass(value: unknown): value is StepHandlerClass {
  return typeof value === 'function' && typeof (value.prototype as Data | undefined)?.['call'] === 'function';
}

function isHandler(value: unknown): value is ExecutableHandler {
  return typeof value === 'object' && value !== null && typeof (value as { call?: unknown }).call === 'function';
}

/** A handler to run one attempt with: a new instance of a class, what a factory makes, or the instance itself. */
export function newHandler(entry: unknown): ExecutableHandler {
  if (isHandlerClass(entry)) return new entry();
  if (isHandler(entry)) return entry;
  const made: unknown = typeof entry === 'function' ? (entry as () => unknown)() : undefined;
  if (!isHandler(made)) throw new ResolutionError('what is registered makes no handler');
  return made;
}

/** One way to find handlers. Lower `priority` is asked first. */
export interface BaseResolver {
  /** What templates call the resolver in `handler.resolver`. */
  readonly name: string;
  readonly priority: number;
  canResolve(definition: HandlerDefinition, config?: Data): boolean;
  resolve(definition: HandlerDefinition, config?: Data): Promise<ExecutableHandler | null> | ExecutableHandler | null;
  /** Names the resolver knows beforehand. */
  registeredCallables?(): string[];
}

/** Names registered by hand or by discovery. */
export class ExplicitMappingResolver implements BaseResolver {
  readonly name: string;
  readonly priority = 10;
  private readonly entries = new Map<string, HandlerEntry>();

  constructor(name = 'explicit_mapping') {
    this.name = name;
  }

  register(name: string, entry: HandlerEntry): void {
    this.entries.set(name, entry);
  }

  unregister(name: string): boolean {
    return this.entries.delete(name);
  }

  /** What is registered under a name. */
  entry(name: string): HandlerEntry | undefined {
    return this.entries.get(name);
  }

  clear(): void {
    this.entries.clear();
  }

  registeredCallables(): string[] {
    return [...this.entries.keys()];
  }

  canResolve(definition: HandlerDefinition): boolean {
    return this.entries.has(definition.callable);
  }

  async resolve(definition: HandlerDefinition): Promise<ExecutableHandler | null> {
    const entry = this.entries.get(definition.callable);
    return entry === undefined ? null : newHandler(entry);
  }
}

/** Import paths: `./`, `../` or `@scope/`, with the export behind `#`, `:` or a dot; without one the default or only handler. */
export class ClassLookupResolver implements BaseResolver {
  readonly name = 'class_lookup';
  readonly priority = 100;
  private static readonly PATH = /^(?:\.{1,2}\/|@[\w.-]+\/)/;
  private readonly found = new Map<string, Promise<unknown>>();

  canResolve(definition: HandlerDefinition): boolean {
    return ClassLookupResolver.PATH.test(definition.callable);
  }

  async resolve(definition: HandlerDefinition): Promise<ExecutableHandler | null> {
    if (!this.canResolve(definition)) return null;
    let loading = this.found.get(definition.callable);
    if (!loading) {
      loading = ClassLookupResolver.load(definition.callable);
      this.found.set(definition.callable, loading);
      loading.catch(() => this.found.delete(definition.callable));
    }
    const entry = await loading;
    return entry === undefined ? null : newHandler(entry);
  }

  private static async load(callable: string): Promise<unknown> {
    const { importFrom } = await import('./loader.js');
    for (const [path, wanted] of pathAndExport(callable)) {
      const module = await importFrom(path);
      if (!module) continue;
      const named = wanted === undefined ? undefined : module[wanted];
      if (isHandlerClass(named)) return named;
      const handlers = Object.values(module).filter(isHandlerClass);
      if (wanted === undefined) return isHandlerClass(module['default']) ? module['default'] : handlers.length === 1 ? handlers[0] : undefined;
    }
    return undefined;
  }
}

/** How a callable may be split into a module and one of its exports. */
function* pathAndExport(callable: string): Generator<[string, string | undefined]> {
  const marked = /^(.+)[#:]([A-Za-z_$][\w$]*)$/.exec(callable);
  if (marked) {
    yield [marked[1] as string, marked[2] as string];
    return;
  }
  yield [callable, undefined];
  const dotted = /^(.+)\.([A-Z][\w$]*)$/.exec(callable);
  if (dotted) yield [dotted[1] as string, dotted[2] as string];
}

/** Base for resolvers of one's own: set `prefix` or `pattern`, implement `resolveHandler`. */
export abstract class RegistryResolver implements BaseResolver {
  static _name = '';
  static _priority = 50;
  static pattern: RegExp | null = null;
  static prefix: string | null = null;

  private get statics(): typeof RegistryResolver {
    return this.constructor as typeof RegistryResolver;
  }

  get name(): string {
    const own = this.statics as unknown as { resolverName?: unknown };
    return this.statics._name || (typeof own.resolverName === 'string' ? own.resolverName : '') || this.statics.name;
  }

  get priority(): number {
    return this.statics._priority;
  }

  private match(callable: string): RegExpMatchArray | null {
    const { prefix, pattern } = this.statics;
    if (prefix && callable.startsWith(prefix)) return [callable, callable.slice(prefix.length)] as RegExpMatchArray;
    return pattern ? callable.match(new RegExp(pattern.source, pattern.flags.replace('g', ''))) : null;
  }

  canResolve(definition: HandlerDefinition): boolean {
    return this.match(definition.callable) !== null;
  }

  async resolve(definition: HandlerDefinition, config: Data = {}): Promise<ExecutableHandler | null> {
    return this.resolveHandler(definition, this.match(definition.callable), config);
  }

  /** The handler for a definition that fits. */
  abstract resolveHandler(
    definition: HandlerDefinition,
    match: RegExpMatchArray | null,
    config: Data,
  ): Promise<ExecutableHandler | null> | ExecutableHandler | null;
}

/** Resolvers by priority; the first that knows a definition wins. */
export class ResolverChain {
  private resolvers: BaseResolver[] = [];
  /** The explicit mapping while no other resolver comes before it; the short way for most steps. */
  firstMapping: ExplicitMappingResolver | undefined;

  /** A chain of explicit mapping and class lookup, at once. */
  static standard(): ResolverChain {
    const chain = new ResolverChain();
    chain.addResolver(new ExplicitMappingResolver());
    chain.addResolver(new ClassLookupResolver());
    return chain;
  }

  /** A chain of explicit mapping and class lookup. */
  static async default(): Promise<ResolverChain> {
    return ResolverChain.standard();
  }

  /** Add a resolver; one of the same name is replaced. */
  addResolver(resolver: BaseResolver): void {
    const others = this.resolvers.filter((known) => known.name !== resolver.name);
    this.set([...others, resolver].sort((a, b) => a.priority - b.priority));
  }

  /** Remove a resolver; false if there was none. */
  removeResolver(name: string): boolean {
    const kept = this.resolvers.filter((known) => known.name !== name);
    const removed = kept.length < this.resolvers.length;
    this.set(kept);
    return removed;
  }

  /** True if some resolver may know names that it does not list. */
  get openEnded(): boolean {
    return this.resolvers.some((one) => !(one instanceof ExplicitMappingResolver) && !(one instanceof ClassLookupResolver));
  }

  private set(resolvers: BaseResolver[]): void {
    this.resolvers = resolvers;
    this.firstMapping = resolvers[0] instanceof ExplicitMappingResolver ? resolvers[0] : undefined;
  }

  getResolver(name: string): BaseResolver | undefined {
    return this.resolvers.find((known) => known.name === name);
  }

  /** Names and priorities, in the order they are asked. */
  listResolvers(): [string, number][] {
    return this.resolvers.map((known) => [known.name, known.priority]);
  }

  /** Name, priority and known callables of each resolver. */
  chainInfo(): Data[] {
    return this.resolvers.map((known) => ({ name: known.name, priority: known.priority, callables: known.registeredCallables?.() ?? [] }));
  }

  get explicit(): ExplicitMappingResolver {
    const found = this.getResolver('explicit_mapping');
    if (!(found instanceof ExplicitMappingResolver)) throw new ResolutionError('the chain has no explicit mapping');
    return found;
  }

  /** Register a handler with the explicit mapping. */
  register(name: string, entry: HandlerEntry): void {
    this.explicit.register(name, entry);
  }

  /** Every name known beforehand. */
  registeredCallables(): string[] {
    return [...new Set(this.resolvers.flatMap((known) => known.registeredCallables?.() ?? []))].sort();
  }

  /** True if `resolve` would look for a handler (whether it has the method aside). */
  canResolve(spec: HandlerSpec, config: Data = {}): boolean {
    const definition = normalizeToDefinition(spec);
    const asked = definition.resolver ? [this.getResolver(definition.resolver)] : this.resolvers;
    return asked.some((known) => known?.canResolve(definition, config) ?? false);
  }

  /**
   * A handler for one attempt, null if no resolver knows the definition. Throws ResolverNotFoundError if it names an unknown
   * resolver, MethodDispatchError if the handler lacks the method.
   */
  async resolve(spec: HandlerSpec, config: Data = {}): Promise<ExecutableHandler | null> {
    const definition = normalizeToDefinition(spec);
    for (const resolver of this.candidates(definition)) {
      if (!resolver.canResolve(definition, config)) continue;
      const found = await resolver.resolve(definition, config);
      if (found === null || found === undefined) continue;
      return this.wrapForMethodDispatch(isHandler(found) ? found : newHandler(found), definition);
    }
    return null;
  }

  /** The handler itself, or a wrapper that calls the method the definition names. */
  wrapForMethodDispatch(handler: ExecutableHandler, definition: HandlerDefinition): ExecutableHandler {
    return usesMethodDispatch(definition) ? new MethodDispatchWrapper(handler, effectiveMethod(definition)) : handler;
  }

  private candidates(definition: HandlerDefinition): BaseResolver[] {
    if (!definition.resolver) return this.resolvers;
    const named = this.getResolver(definition.resolver);
    if (!named) throw new ResolverNotFoundError(`no resolver ${quoted(definition.resolver)}`);
    return [named];
  }
}

/** The name under which a class asks to be known, '' if it has none. */
export function handlerNameOf(value: unknown): string {
  if (typeof value !== 'function' && (typeof value !== 'object' || value === null)) return '';
  const { handlerName } = value as { handlerName?: unknown };
  return typeof handlerName === 'string' ? handlerName : '';
}

/** Handlers by name. */
export class HandlerRegistry {
  readonly resolverChain = ResolverChain.standard();

  /** Offer a handler under a name (by default its own `handlerName`); another one of that name is replaced. */
  register(name: string | StepHandlerClass, entry?: HandlerEntry): void {
    const given = typeof name === 'string' ? entry : name;
    const called = typeof name === 'string' ? name : handlerNameOf(name);
    if (!called) throw new TypeError('a handler needs a name: give one, or a class with a static handlerName');
    if (!isHandlerClass(given) && !isHandler(given) && typeof given !== 'function') {
      throw new TypeError(`handler ${quoted(called)}: what is registered is no handler class`);
    }
    const old = this.explicit.entry(called);
    if (old !== undefined && old !== given) log.warn(`handler ${quoted(called)} is replaced`);
    this.explicit.register(called, given);
  }

  private get explicit(): ExplicitMappingResolver {
    return this.resolverChain.explicit;
  }

  /** Stop offering a name; false if it was not offered. */
  unregister(name: string): boolean {
    return this.explicit.unregister(name);
  }

  /** What is registered under a name, if that decides alone (no resolver comes before it). */
  entry(name: string): HandlerEntry | undefined {
    return this.resolverChain.firstMapping?.entry(name);
  }

  /** A handler for a name, a definition or a template's map; null if there is none. */
  async resolve(spec: HandlerSpec): Promise<ExecutableHandler | null> {
    try {
      return await this.resolverChain.resolve(spec);
    } catch (error) {
      if (!(error instanceof ResolutionError)) throw error;
      log.error(`handler ${quoted(normalizeToDefinition(spec).callable)} cannot be resolved: ${error.message}`);
      return null;
    }
  }

  /** What is registered under a name. */
  getHandlerClass(name: string): HandlerEntry | undefined {
    return this.explicit.entry(name);
  }

  /** True if a handler is found under the name. */
  isRegistered(name: string): boolean {
    return this.resolverChain.canResolve(name);
  }

  /** The registered names, sorted. */
  listHandlers(): string[] {
    return this.explicit.registeredCallables().sort();
  }

  handlerCount(): number {
    return this.explicit.registeredCallables().length;
  }

  clear(): void {
    this.explicit.clear();
  }

  addResolver(resolver: BaseResolver): void {
    this.resolverChain.addResolver(resolver);
  }

  getResolver(name: string): BaseResolver | undefined {
    return this.resolverChain.getResolver(name);
  }

  listResolvers(): [string, number][] {
    return this.resolverChain.listResolvers();
  }

  /** Every name a worker announces: the registered ones, what resolvers know, and those of `callables` (from templates) that
   * some resolver can serve, whichever the template asks for: one that there is not is an error of the step. */
  offered(callables: Iterable<HandlerSpec> = []): string[] {
    const names = new Set(this.resolverChain.registeredCallables());
    for (const spec of callables) {
      const { callable } = normalizeToDefinition(spec);
      if (this.resolverChain.canResolve(callable)) names.add(callable);
    }
    return [...names].sort();
  }
}

export { StepHandler };
