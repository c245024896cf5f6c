/** What the client returns: plain data, with the names of the protocol and of the reference. */

import { isMap, type Data } from './codec.js';
import type { TaskerdError } from './errors.js';

/** Task states that nothing leaves. */
export const FINISHED_STATES: ReadonlySet<string> = new Set(['complete', 'error', 'cancelled', 'resolved_manually']);

export interface ClientStepResponse extends Data {
  step_uuid: string;
  task_uuid: string;
  name: string;
  /** With its task, as far as is known. */
  created_at: string | null;
  updated_at: string | null;
  state: string;
  /** The same as `state`. */
  current_state: string;
  attempts: number;
  max_attempts: number;
  depends_on: string[];
  /** What the step returned. */
  result: any; // eslint-disable-line @typescript-eslint/no-explicit-any -- what handlers return
  results: any; // eslint-disable-line @typescript-eslint/no-explicit-any
  error: Data | null;
  dependencies_satisfied: boolean;
  total_parents: number;
  completed_parents: number;
  retry_eligible: boolean;
  ready_for_execution: boolean;
  next_retry_at: string | null;
  last_attempted_at: string | null;
  last_failure_at: string | null;
}

export interface ClientTaskResponse extends Data {
  task_uuid: string;
  name: string;
  namespace: string;
  version: string;
  state: string;
  /** The same as `state`. */
  status: string;
  context: Data;
  tags: string[];
  steps: ClientStepResponse[];
  total_steps: number;
  completed_steps: number;
  failed_steps: number;
  completion_percentage: number;
  missing_handlers: string[];
  completed_at: string | null;
  /** True if the task will not change any more. */
  finished: boolean;
  /** Of `createTask`: false if an earlier task with the same idempotency key was found. */
  created?: boolean;
}

export interface ClientPaginationInfo {
  page: number;
  per_page: number;
  /** The daemon does not count lists: the totals are known on the last page (unless a cursor has led there), and null on others. */
  total_count: number | null;
  total_pages: number | null;
  has_next: boolean;
  has_previous: boolean;
  /** For the next page. */
  next_cursor: string | null;
}

export interface ClientTaskListResponse {
  tasks: ClientTaskResponse[];
  pagination: ClientPaginationInfo;
}

/** How one attempt of a step went. */
export interface ClientStepAuditResponse extends Data {
  audit_uuid: string | null;
  workflow_step_uuid: string;
  task_uuid: string;
  step_name: string;
  attempt: number;
  outcome: string;
  success: boolean;
  worker_uuid: string | null;
  recorded_at: string | null;
  execution_time_ms: number | null;
  from_state: string;
  to_state: string | null;
}

export interface ClientHealthResponse {
  healthy: boolean;
  info: Data;
}

/** What `wait` saw. `settled`: nothing moves without an operator; `finished`: the task is over. */
export interface WaitResult {
  task_uuid: string;
  state: string;
  settled: boolean;
  finished: boolean;
}

/** What became of one task of `createTasks`: `task_uuid`, or `error`. */
export interface CreateOutcome {
  task_uuid?: string;
  created: boolean;
  state: string;
  error?: TaskerdError;
}

const DONE = new Set(['complete', 'resolved_manually']);

function stepResponse(row: Data, task: Data, done: ReadonlySet<unknown>): ClientStepResponse {
  const state = String(row['state'] ?? '');
  const parents = Array.isArray(row['depends_on']) ? (row['depends_on'] as string[]) : [];
  const completed = parents.filter((name) => done.has(name)).length;
  const satisfied = completed === parents.length;
  const attempts = Number(row['attempts'] ?? 0);
  const max = Number(row['max_attempts'] ?? 0);
  const optional = (key: string): string | null => (typeof row[key] === 'string' ? row[key] : null);
  const createdAt = typeof task['created_at'] === 'string' ? task['created_at'] : null;
  const moments = [createdAt, optional('ready_at'), optional('started_at'), optional('finished_at')].filter((at) => at !== null);
  return {
    ...row,
    step_uuid: String(row['step_uuid'] ?? ''),
    task_uuid: String(task['task_uuid'] ?? ''),
    created_at: createdAt,
    updated_at: moments.sort().at(-1) ?? null,
    name: String(row['name'] ?? ''),
    state,
    current_state: state,
    attempts,
    max_attempts: max,
    depends_on: parents,
    result: row['result'] ?? null,
    results: row['result'] ?? null,
    error: isMap(row['error']) ? row['error'] : null,
    dependencies_satisfied: satisfied,
    total_parents: parents.length,
    completed_parents: completed,
    retry_eligible: attempts < max,
    ready_for_execution: state === 'enqueued' || (state === 'pending' && satisfied),
    next_retry_at: optional('retry_at'),
    last_attempted_at: optional('started_at'),
    last_failure_at: row['error'] ? optional('finished_at') : null,
  };
}

/** From the daemon's task object. */
export function taskResponse(data: Data): ClientTaskResponse {
  const taskUuid = String(data['task_uuid'] ?? '');
  const rows = Array.isArray(data['steps']) ? data['steps'].filter(isMap) : [];
  const done = new Set(rows.filter((row) => DONE.has(String(row['state']))).map((row) => row['name']));
  const state = String(data['state'] ?? '');
  return {
    total_steps: 0,
    completed_steps: 0,
    failed_steps: 0,
    completion_percentage: 0,
    ...data,
    task_uuid: taskUuid,
    name: String(data['name'] ?? ''),
    namespace: String(data['namespace'] ?? ''),
    version: String(data['version'] ?? ''),
    state,
    status: state,
    context: isMap(data['context']) ? data['context'] : {},
    tags: Array.isArray(data['tags']) ? (data['tags'] as string[]) : [],
    missing_handlers: Array.isArray(data['missing_handlers']) ? (data['missing_handlers'] as string[]) : [],
    completed_at: typeof data['finished_at'] === 'string' ? data['finished_at'] : null,
    finished: FINISHED_STATES.has(state),
    steps: rows.map((row) => stepResponse(row, data, done)),
  };
}

/** From the daemon's answer to `task.list`. `whole`: the list was read from its beginning, not from a cursor. */
export function taskListResponse(data: Data, limit: number, offset: number, whole: boolean): ClientTaskListResponse {
  const cursor = typeof data['next_cursor'] === 'string' ? data['next_cursor'] : null;
  const tasks = (Array.isArray(data['tasks']) ? data['tasks'].filter(isMap) : []).map(taskResponse);
  const total = whole && cursor === null && (tasks.length > 0 || offset === 0) ? offset + tasks.length : null;
  return {
    tasks,
    pagination: {
      page: Math.floor(offset / limit) + 1,
      per_page: limit,
      total_count: total,
      total_pages: total === null ? null : Math.ceil(total / limit),
      has_next: cursor !== null,
      has_previous: offset > 0,
      next_cursor: cursor,
    },
  };
}

const ENDS: Record<string, string> = { success: 'complete', permanent_error: 'error', invalid_result: 'error', cancelled: 'cancelled' };

/** The attempts of one step (by name or uuid) out of `task.history`. */
export function auditRows(taskUuid: string, step: string, history: Data): ClientStepAuditResponse[] {
  const attempts = Array.isArray(history['attempts']) ? history['attempts'].filter(isMap) : [];
  return attempts
    .filter((row) => step === row['step_uuid'] || step === row['step'])
    .map((row) => {
      const outcome = String(row['outcome'] ?? '');
      return {
        ...row,
        audit_uuid: (row['audit_uuid'] ?? null) as string | null,
        workflow_step_uuid: String(row['step_uuid'] ?? ''),
        task_uuid: taskUuid,
        step_name: String(row['step'] ?? ''),
        attempt: Number(row['attempt'] ?? 0),
        outcome,
        success: outcome === 'success',
        worker_uuid: (row['worker_uuid'] ?? null) as string | null,
        recorded_at: (row['recorded_at'] ?? null) as string | null,
        execution_time_ms: (row['execution_ms'] ?? null) as number | null,
        from_state: 'in_progress',
        to_state: ENDS[outcome] ?? null,
      };
    });
}
