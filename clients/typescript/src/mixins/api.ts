/** Calls to HTTP services, and what their answers mean for the step. */

import type { Data } from '../codec.js';
import { isMap } from '../codec.js';
import { StepHandler, applyMixin } from '../handler.js';
import { currentStep } from '../log.js';
import { ErrorType, StepHandlerResult, messageOf } from '../results.js';

const ERROR_TYPES: Record<number, string> = {
  400: 'bad_request',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
  405: 'method_not_allowed',
  408: 'request_timeout',
  409: 'conflict',
  410: 'gone',
  422: 'unprocessable_entity',
  429: 'rate_limited',
  500: 'internal_server_error',
  502: 'bad_gateway',
  503: 'service_unavailable',
  504: 'gateway_timeout',
};
const RETRYABLE = new Set([408, 429, 500, 502, 503, 504]);
const MESSAGE_KEYS = ['error', 'message', 'detail', 'error_message', 'msg'];
/** Seconds to wait if a service says Retry-After in a way that cannot be read. */
const ODD_RETRY_AFTER = 60;

/** An HTTP answer with its body read: parsed if it is JSON, else text. */
export class ApiResponse {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  readonly body: unknown;
  readonly rawResponse: Response | undefined;

  constructor(response: Response | { status: number; headers?: Record<string, string> }, body: unknown = null) {
    this.statusCode = response.status;
    this.rawResponse = response instanceof Response ? response : undefined;
    const given = response.headers ?? {};
    const rows = given instanceof Headers ? [...given] : Object.entries(given);
    this.headers = Object.fromEntries(rows.map(([name, value]) => [name.toLowerCase(), value]));
    this.body = body;
  }

  /** Read an answer of `fetch`. */
  static async read(response: Response): Promise<ApiResponse> {
    const text = await response.text();
    if (!(response.headers.get('content-type') ?? '').includes('json')) return new ApiResponse(response, text);
    try {
      return new ApiResponse(response, JSON.parse(text));
    } catch {
      return new ApiResponse(response, text);
    }
  }

  /** True for 2xx. */
  get ok(): boolean {
    return this.statusCode >= 200 && this.statusCode < 300;
  }

  get isClientError(): boolean {
    return this.statusCode >= 400 && this.statusCode < 500;
  }

  get isServerError(): boolean {
    return this.statusCode >= 500 && this.statusCode < 600;
  }

  /** True if the same request may succeed later. */
  get isRetryable(): boolean {
    return RETRYABLE.has(this.statusCode);
  }

  /** Seconds the service asks to wait, null if it does not say. */
  get retryAfter(): number | null {
    const text = this.headers['retry-after'];
    if (text === undefined) return null;
    if (/^\s*\d+\s*$/.test(text)) return Number(text);
    const when = Date.parse(text);
    return Number.isNaN(when) ? ODD_RETRY_AFTER : Math.max(0, (when - Date.now()) / 1000);
  }

  toDict(): Data {
    return { status_code: this.statusCode, headers: this.headers, body: this.body };
  }

  toJSON(): Data {
    return this.toDict();
  }
}

export interface ApiBody {
  /** A raw body: text, bytes, a form. */
  body?: BodyInit | Data | null;
  /** A value to be sent as JSON. */
  json?: unknown;
  headers?: Record<string, string>;
}

export type QueryParams = Record<string, string | number | boolean | null | undefined | readonly (string | number | boolean)[]>;

/** What `applyAPI` adds to a handler. */
export interface APICapable {
  get(path: string, params?: QueryParams, headers?: Record<string, string>): Promise<ApiResponse>;
  post(path: string, options?: ApiBody): Promise<ApiResponse>;
  put(path: string, options?: ApiBody): Promise<ApiResponse>;
  patch(path: string, options?: ApiBody): Promise<ApiResponse>;
  delete(path: string, headers?: Record<string, string>): Promise<ApiResponse>;
  request(method: string, path: string, init?: RequestInit): Promise<ApiResponse>;
  apiSuccess(response: ApiResponse | Data, result?: Data, includeResponse?: boolean): StepHandlerResult;
  apiFailure(response: ApiResponse, message?: string): StepHandlerResult;
  connectionError(error: Error, context?: string): StepHandlerResult;
  timeoutError(error: Error, context?: string): StepHandlerResult;
}

interface ApiSettings {
  baseUrl?: string;
  defaultTimeout?: number;
  defaultHeaders?: Record<string, string>;
}

/** Settings stand on the instance, or as static properties of its class. */
function setting<K extends keyof ApiSettings>(target: object, name: K): ApiSettings[K] {
  return (target as ApiSettings)[name] ?? (target.constructor as ApiSettings)[name];
}

/** Query parameters: also in the form `{params: {...}, headers: {...}}`. */
function readQuery(params: unknown, headers: Record<string, string> | undefined): [QueryParams, Record<string, string>] {
  if (isMap(params) && isMap(params['params'])) {
    const given = isMap(params['headers']) ? (params['headers'] as Record<string, string>) : {};
    return [params['params'] as QueryParams, { ...given, ...headers }];
  }
  return [(params ?? {}) as QueryParams, headers ?? {}];
}

function query(params: QueryParams): string {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value === null || value === undefined) continue;
    for (const item of Array.isArray(value) ? (value as unknown[]) : [value]) out.append(name, String(item));
  }
  return out.toString();
}

function bodyOf(options: ApiBody | undefined): RequestInit {
  const headers = { ...options?.headers };
  const { body } = options ?? {};
  const json = options?.json ?? (isMap(body) && Object.getPrototypeOf(body) === Object.prototype ? body : undefined);
  if (json !== undefined) {
    return { body: JSON.stringify(json), headers: { 'content-type': 'application/json', ...headers } };
  }
  return body === undefined || body === null ? { headers } : { body: body as BodyInit, headers };
}

/** The methods of handlers that call HTTP services. */
export class APIMixin implements APICapable {
  async get(path: string, params?: QueryParams, headers?: Record<string, string>): Promise<ApiResponse> {
    const [asked, sent] = readQuery(params, headers);
    const search = query(asked);
    const url = search ? `${path}${path.includes('?') ? '&' : '?'}${search}` : path;
    return this.request('GET', url, { headers: sent });
  }

  async post(path: string, options?: ApiBody): Promise<ApiResponse> {
    return this.request('POST', path, bodyOf(options));
  }

  async put(path: string, options?: ApiBody): Promise<ApiResponse> {
    return this.request('PUT', path, bodyOf(options));
  }

  async patch(path: string, options?: ApiBody): Promise<ApiResponse> {
    return this.request('PATCH', path, bodyOf(options));
  }

  async delete(path: string, headers?: Record<string, string>): Promise<ApiResponse> {
    return this.request('DELETE', path, { headers: headers ?? {} });
  }

  /** One request. Rejects with a TimeoutError after `defaultTimeout` ms, and with the error of `fetch` without a connection. */
  async request(method: string, path: string, init: RequestInit = {}): Promise<ApiResponse> {
    const base = setting(this, 'baseUrl') ?? '';
    const url = path.includes('://') || base === '' ? path : `${base.replace(/\/+$/, '')}/${path.replace(/^\/+/, '')}`;
    const headers = new Headers(setting(this, 'defaultHeaders') ?? {});
    new Headers(init.headers ?? {}).forEach((value, name) => headers.set(name, value));
    const limit = AbortSignal.timeout(setting(this, 'defaultTimeout') ?? 30_000);
    // A request does not outlive the step that makes it.
    const signals = [limit, init.signal, currentStep.getStore()?.signal].filter((signal) => signal instanceof AbortSignal);
    const signal = AbortSignal.any(signals);
    return ApiResponse.read(await fetch(url, { ...init, method, headers, signal }));
  }

  /** The call has succeeded; the result is the body, or what is given. */
  apiSuccess(response: ApiResponse | Data, result?: Data, includeResponse = true): StepHandlerResult {
    if (!(response instanceof ApiResponse)) return StepHandlerResult.success(response);
    const { body } = response;
    const made = result ?? (isMap(body) ? body : { data: body });
    const metadata = includeResponse ? { status_code: response.statusCode, headers: response.headers } : {};
    return StepHandlerResult.success(made, metadata);
  }

  /** The call has failed; the status says whether to try again, and `Retry-After` when. */
  apiFailure(response: ApiResponse, message?: string): StepHandlerResult {
    const { statusCode } = response;
    const metadata: Data = { status_code: statusCode, headers: response.headers };
    if (response.retryAfter !== null) metadata['retry_after_seconds'] = response.retryAfter;
    if (response.body !== null && response.body !== '') metadata['response_body'] = response.body;
    return StepHandlerResult.failure(message ?? failureMessage(response), typeOf(response), response.isRetryable, metadata);
  }

  connectionError(error: Error, context?: string): StepHandlerResult {
    return transportFailure('connection_error', 'Connection error', error, context);
  }

  timeoutError(error: Error, context?: string): StepHandlerResult {
    return transportFailure(ErrorType.TIMEOUT, 'Request timeout', error, context);
  }
}

function transportFailure(type: string, what: string, error: Error, context: string | undefined): StepHandlerResult {
  const where = context ? ` while ${context}` : '';
  return StepHandlerResult.failure(`${what}${where}: ${messageOf(error)}`, type, true, { exception_type: error.constructor.name });
}

function typeOf(response: ApiResponse): string {
  const known = ERROR_TYPES[response.statusCode];
  return known ?? (response.isClientError ? 'client_error' : response.isServerError ? 'server_error' : 'http_error');
}

function failureMessage(response: ApiResponse): string {
  const { body } = response;
  for (const key of isMap(body) ? MESSAGE_KEYS : []) {
    const value = (body as Data)[key];
    const text = isMap(value) ? value['message'] : value;
    if (typeof text === 'string' && text) return `HTTP ${response.statusCode}: ${text}`;
  }
  return `HTTP ${response.statusCode}: ${typeOf(response).replaceAll('_', ' ')}`;
}

/** Give a handler the methods for HTTP services: `applyAPI(this)` in its constructor. */
export function applyAPI<T extends object>(target: T): T & APICapable {
  applyMixin(target, new APIMixin());
  return target as T & APICapable;
}

/** Base of class handlers that call HTTP services. */
export abstract class ApiHandler extends StepHandler implements APICapable {
  static baseUrl = '';
  /** Milliseconds. */
  static defaultTimeout = 30_000;
  static defaultHeaders: Record<string, string> = {};
  declare get: APICapable['get'];
  declare post: APICapable['post'];
  declare put: APICapable['put'];
  declare patch: APICapable['patch'];
  declare delete: APICapable['delete'];
  declare request: APICapable['request'];
  declare apiSuccess: APICapable['apiSuccess'];
  declare apiFailure: APICapable['apiFailure'];
  declare connectionError: APICapable['connectionError'];
  declare timeoutError: APICapable['timeoutError'];

  override get capabilities(): string[] {
    return ['process', 'http', 'api'];
  }
}
applyMixin(ApiHandler.prototype, new APIMixin());
