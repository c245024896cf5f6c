-- Tables. Names follow the reference vocabulary: namespace, template, task, step, attempt, transition, node, worker.
-- bigint inside, UUIDv7 outside. A step's UUID is not stored: it is its task's UUID with the step number plus one in the low 24 bits,
-- which the task's UUID leaves zero (see tasker.step_uuid).

CREATE TYPE tasker.task_state AS ENUM (
  'pending', 'initializing', 'enqueuing_steps', 'steps_in_process', 'evaluating_results', 'waiting_for_dependencies',
  'waiting_for_retry', 'blocked_by_failures', 'complete', 'error', 'cancelled', 'resolved_manually');

CREATE TYPE tasker.step_state AS ENUM (
  'pending', 'enqueued', 'in_progress', 'enqueued_for_orchestration', 'enqueued_as_error_for_orchestration',
  'waiting_for_retry', 'complete', 'error', 'cancelled', 'resolved_manually');

CREATE TYPE tasker.attempt_outcome AS ENUM (
  'success', 'handler_error', 'permanent_error', 'invalid_result', 'timeout', 'worker_lost', 'released', 'cancelled');

CREATE TYPE tasker.backoff_kind AS ENUM ('none', 'linear', 'exponential', 'fibonacci');
CREATE TYPE tasker.identity_strategy AS ENUM ('strict', 'caller_provided', 'always_unique');

-- LISTEN and NOTIFY ask nobody for rights: whoever knows the name of a channel hears, and says, what they like on it. So these names end in what only roles know that may read this table.
CREATE TABLE tasker.channels (secret text NOT NULL);
INSERT INTO tasker.channels VALUES (replace(gen_random_uuid()::text, '-', ''));

CREATE FUNCTION tasker.notify(p_channel text, p_payload text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify(p_channel || '_' || c.secret, p_payload) FROM tasker.channels c;
END $$;

CREATE TABLE tasker.namespaces (
  namespace_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_]{0,28}$'),
  description text,
  event_queue text UNIQUE,              -- PGMQ queue of its durable domain events, once there is one
  paused boolean NOT NULL DEFAULT false, -- its queues are not claimed from; tasks are created as ever
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tasker.templates (
  template_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  namespace_id int NOT NULL REFERENCES tasker.namespaces,
  name text NOT NULL,
  version text NOT NULL,
  version_key int[] NOT NULL,           -- {major, minor, patch}
  prerelease text COLLATE "C",          -- tasker.prerelease_key; NULL sorts after every prerelease
  digest text NOT NULL,                 -- hex SHA-256 of the normalised definition
  definition jsonb NOT NULL,
  identity_strategy tasker.identity_strategy NOT NULL,
  input_schema jsonb,                   -- the daemon checks contexts against it; NULL: none
  n_steps int NOT NULL,
  n_sinks int NOT NULL,                 -- tasks.open_sinks at the start
  dynamic boolean NOT NULL,             -- has steps that results make: decision, deferred_convergence, batchable, batch_worker
  start_active int,                     -- tasks.n_active at the start
  root_no int,                          -- the only step without parents, and its handler; NULL if there are several, or the template is dynamic
  root_handler int,
  used boolean NOT NULL DEFAULT false,  -- a task was made from it: immutable from then on
  lifecycle jsonb GENERATED ALWAYS AS ( -- of the definition, if it sets a limit
    CASE WHEN definition -> 'lifecycle' ?| ARRAY['max_duration_minutes', 'max_waiting_for_dependencies_minutes', 'max_waiting_for_retry_minutes', 'max_steps_in_process_minutes']
    THEN definition -> 'lifecycle' END) STORED,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (namespace_id, name, version)
);

-- One queue for each (namespace, callable): a handler without workers cannot hold up another.
CREATE TABLE tasker.handlers (
  handler_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  namespace_id int NOT NULL REFERENCES tasker.namespaces,
  callable text NOT NULL,
  queue_name text NOT NULL UNIQUE,
  UNIQUE (namespace_id, callable)
);

CREATE TABLE tasker.template_steps (
  template_id int NOT NULL REFERENCES tasker.templates ON DELETE CASCADE,
  step_no int NOT NULL,                 -- topological: parents have smaller numbers
  name text NOT NULL,
  step_type text NOT NULL,
  initial boolean NOT NULL,             -- made with the task; others are made by the results of decisions and batchables
  counts boolean NOT NULL,              -- in tasks.open_sinks: steps without children; in a dynamic template every step
  handler_id int NOT NULL REFERENCES tasker.handlers,
  handler jsonb NOT NULL,               -- callable, method, resolver, initialization
  retryable boolean NOT NULL,
  max_attempts int NOT NULL,
  backoff tasker.backoff_kind NOT NULL,
  backoff_base_ms int NOT NULL,
  max_backoff_ms int NOT NULL,
  timeout_ms bigint,
  parents int[] NOT NULL,
  children int[] NOT NULL,
  ancestors int[] NOT NULL,             -- nearest first, capped
  ancestors_cut boolean NOT NULL,
  result_schema jsonb,                  -- the daemon checks results against it; NULL: none
  worker_ancestors int[],               -- those of type batch_worker, each of which stands for its instances; NULL if there are none
  sure_after int[],                     -- of a batch_worker: its batchables that have no other, so that it is sure to get instances when they exist
  decision_depth int NOT NULL,          -- decisions on the way to this step, itself included
  batch_config jsonb,                   -- of a batch_worker: its own over that of its batchable
  events jsonb,                         -- publishes_events: [{name, condition, delivery_mode, publisher, schema}]; NULL: none
  PRIMARY KEY (template_id, step_no),
  UNIQUE (name, template_id)            -- in this order: by template_id alone it might be taken for look-ups by step_no, and read them all
);

CREATE TABLE tasker.nodes (
  node_no int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  node_name text NOT NULL UNIQUE,
  host text NOT NULL,
  pid int NOT NULL,
  version text NOT NULL,
  incarnation int NOT NULL DEFAULT 1,   -- a start of the daemon; writes of an earlier one are refused
  state text NOT NULL DEFAULT 'up' CHECK (state IN ('up', 'draining', 'down')),
  secret bytea NOT NULL,                -- key of the claim proofs given to workers; stays the same over restarts
  started_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz NOT NULL,
  info jsonb,                           -- store_threads, sessions, workers, open_steps, handlers, as of the last proof of life
  worker_load jsonb                   -- {"UUID": [open steps, results recorded, a second]} of its workers, then
) WITH (fillfactor = 50);

-- What a node holds: one row for each call that claimed steps and is not all recorded. A restarted node, or another node after the lease has run out, finds running
-- steps here, without an index on a column that every transition changes. A row is a slot: when all it lists is recorded, the node's next call writes over it, so that a
-- step on its way costs one update in place. What is listed and no longer running under its fence means nothing.
CREATE TABLE tasker.node_claims (
  node_no int NOT NULL,
  slot int NOT NULL,
  seq bigint NOT NULL,                  -- of the call that wrote it; grows
  task_ids bigint[] NOT NULL,
  step_nos int[] NOT NULL,
  fences int[] NOT NULL,
  PRIMARY KEY (node_no, slot)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE tasker.workers (
  worker_uuid uuid PRIMARY KEY,
  node_no int NOT NULL,
  name text, pid int, uid bigint, client text, language text,
  namespaces text[], handlers text[], max_concurrency int,
  broken jsonb NOT NULL DEFAULT '[]',   -- what it could not load
  unit text,                            -- of the service manager that it runs in
  draining boolean NOT NULL DEFAULT false, -- an operator has told it to finish
  connected_at timestamptz NOT NULL DEFAULT now(),
  disconnected_at timestamptz
);

CREATE TABLE tasker.tasks (
  task_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_uuid uuid NOT NULL UNIQUE,
  template_id int NOT NULL,             -- of tasker.templates; no foreign keys on hot tables: each would lock the parent row once a row
  state tasker.task_state NOT NULL,
  open_sinks int NOT NULL,              -- steps that are not yet satisfied, of those whose template_steps.counts is true: 0 means complete
  n_failed int NOT NULL DEFAULT 0,      -- steps in error
  n_waiting int NOT NULL DEFAULT 0,     -- steps in waiting_for_retry
  n_active int,                         -- steps enqueued or in progress; kept only from the first failure on, NULL before; in dynamic templates from the start
  priority smallint NOT NULL DEFAULT 0,
  paused boolean NOT NULL DEFAULT false, -- ready steps stay pending; implies n_active, but for a task that has not begun
  created_by_node int,
  finished_by_node int,
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  run_at timestamptz,                   -- set if the task began as pending: when it is (or was) to be started
  context jsonb NOT NULL,
  identity_key bytea,
  idempotency_key text,
  initiator text, source_system text, reason text,
  tags text[],
  correlation_id text, parent_correlation_id text, traceparent text,
  tracestate text,                      -- with a traceparent that is one; else it means nothing
  impossible int[],                     -- template steps that will never be made: branches not taken, unused batch workers; NULL if there are none
  request jsonb                         -- what else its creator said, for people: requested_at, options; NULL: nothing
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX tasks_identity ON tasker.tasks (identity_key) WHERE identity_key IS NOT NULL;
-- For lists; those that use no such things pay nothing for the first two, and a few bytes in a thousand rows for the third.
CREATE INDEX tasks_correlation ON tasker.tasks (correlation_id, task_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX tasks_tags ON tasker.tasks USING gin (tags) WHERE tags IS NOT NULL;
CREATE INDEX tasks_created ON tasker.tasks USING brin (created_at) WITH (pages_per_range = 32);

-- Of all steps but batch workers there is at most one in a task: step_no is template_no. Batch worker instance k (from 0) of template step w in a template of n
-- steps is number w + (k + 1) * n.
CREATE TABLE tasker.steps (
  task_id bigint NOT NULL,
  step_no int NOT NULL,
  template_no int NOT NULL,             -- tasker.template_steps.step_no
  state tasker.step_state NOT NULL,
  pending_parents int NOT NULL,
  attempts int NOT NULL DEFAULT 0,      -- tries used, the running one included
  fence int NOT NULL DEFAULT 0,         -- grows with every claim; a result must name the current one
  node_no int,                          -- holder of the lease while in_progress
  ready_at timestamptz,
  claimed_at timestamptz,
  finished_at timestamptz,
  retry_at timestamptz,
  result jsonb,
  result_bytes int,                     -- of its JSON text: what it costs to send
  error jsonb,
  inputs jsonb,                         -- of a batch worker: {"cursor": {"batch_id", ...}, ...}
  checkpoint jsonb,
  PRIMARY KEY (task_id, step_no)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- A batch worker template step's instances in a task.
CREATE TABLE tasker.batches (
  task_id bigint NOT NULL,
  template_no int NOT NULL,
  stride int NOT NULL,                  -- from one instance's step_no to the next one's: templates.n_steps
  n_workers int NOT NULL,
  n_released int NOT NULL,              -- the first so many have been let through the gate; the others' pending_parents has one more
  parallelism int,                      -- so many at a time; NULL: all, and the gate is open
  n_inside int NOT NULL,                -- let through and not yet ended
  n_returned int NOT NULL DEFAULT 0,    -- in tasker.batch_returns
  failure_strategy text NOT NULL CHECK (failure_strategy IN ('isolate', 'continue_on_failure', 'fail_fast')),
  PRIMARY KEY (task_id, template_no)
);

-- Instances that had ended and are to be run again, behind the gate of their batch, first those that came back first: their pending_parents has the gate's one as well.
CREATE TABLE tasker.batch_returns (
  task_id bigint NOT NULL,
  step_no int NOT NULL,
  template_no int NOT NULL,
  turn bigint GENERATED ALWAYS AS IDENTITY,
  PRIMARY KEY (task_id, step_no)
);
CREATE UNIQUE INDEX batch_returns_turn ON tasker.batch_returns (task_id, template_no, turn);

-- The audit trail: one row for each attempt, append-only.
CREATE TABLE tasker.step_attempts (
  task_id bigint NOT NULL,
  step_no int NOT NULL,
  attempt int NOT NULL,
  fence int NOT NULL,
  outcome tasker.attempt_outcome NOT NULL,
  node_no int,
  worker_uuid uuid,
  ready_at timestamptz,
  claimed_at timestamptz,
  finished_at timestamptz,              -- when the daemon read the result
  recorded_at timestamptz NOT NULL,
  execution_ms real,
  error jsonb,
  metadata jsonb
);
CREATE INDEX step_attempts_task ON tasker.step_attempts (task_id, step_no);

-- Every state a task rested in, but for the first (tasks.created_at) and complete (tasks.finished_at): see the view task_history.
CREATE TABLE tasker.task_transitions (
  task_id bigint NOT NULL,
  from_state tasker.task_state,
  to_state tasker.task_state NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  node_no int,
  cause jsonb
);
CREATE INDEX task_transitions_task ON tasker.task_transitions (task_id);

-- A queue is a table in a schema where the daemon's role makes nothing of its own.
CREATE FUNCTION tasker.make_queue(p_name text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT pgmq.create(p_name) $$;

-- Tasks that are to be started later, or by a daemon.
SELECT tasker.make_queue('orchestration_task_requests');

-- Who did what by hand, and why; see 0008_operators.sql.
CREATE TABLE tasker.operator_actions (
  action_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  request_id uuid NOT NULL,             -- one for each request: a repeat after a lost answer is recognised by it
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  action text NOT NULL,                 -- step.skip, task.pause, namespace.resume, template.apply...
  task_id bigint,
  step_no int,
  namespace_id int,
  from_state text, to_state text,
  attempts_before int,                  -- of a step that was reset: the attempts it had used
  uid bigint, user_name text, pid int,  -- of the peer, from the kernel
  operator text,                        -- what the peer says about who it acts for
  reason text NOT NULL,
  node_no int,
  metadata jsonb                        -- what else the peer says about it
);
CREATE INDEX operator_actions_request ON tasker.operator_actions (request_id);
CREATE INDEX operator_actions_task ON tasker.operator_actions (task_id, step_no);
CREATE INDEX operator_actions_pause ON tasker.operator_actions (namespace_id, action_id) WHERE action IN ('namespace.pause', 'namespace.resume'); -- who paused it last

-- Who asks, in the parameters of functions.
CREATE TYPE tasker.actor AS (request_id uuid, node_no int, uid bigint, user_name text, operator text, reason text, pid int, metadata jsonb);

-- Actions on tasks with very many steps, which are done in stretches, a transaction each; see 0008_operators.sql.
CREATE TABLE tasker.long_actions (
  task_id bigint PRIMARY KEY,
  action text NOT NULL,
  actor tasker.actor NOT NULL,
  from_state tasker.task_state NOT NULL,
  at_step int NOT NULL DEFAULT -1,      -- steps up to this one have been looked at
  at timestamptz NOT NULL DEFAULT clock_timestamp(), -- of the last stretch
  keeper int                            -- the node whose keeper goes on with it, since nobody else did
);

-- What the request that began some of them is to be answered, once they are done.
CREATE TABLE tasker.long_answers (
  request_id uuid PRIMARY KEY,
  answer jsonb NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);

-- Finished tasks that retention has moved out of the way: their rows as they were, so that archiving costs little more than removing. task.get and task.history read them.
CREATE TABLE tasker.archived_tasks (
  task_id bigint PRIMARY KEY,
  task_uuid uuid NOT NULL UNIQUE,
  archived_at timestamptz NOT NULL DEFAULT now(),
  whole boolean NOT NULL,               -- false: more than one value may hold; steps are without what they were given and gave, and there are no attempts
  task tasker.tasks NOT NULL,
  steps tasker.steps[] NOT NULL,
  attempts tasker.step_attempts[] NOT NULL,
  transitions tasker.task_transitions[] NOT NULL,
  actions tasker.operator_actions[] NOT NULL,
  dlq jsonb                             -- dead-letter entries, with snapshots; NULL if there were none
);
CREATE INDEX archived_tasks_at ON tasker.archived_tasks (archived_at);
-- Less processor time for archiving, where the server can.
DO $$
BEGIN
  EXECUTE 'ALTER TABLE tasker.archived_tasks ALTER task SET COMPRESSION lz4, ALTER steps SET COMPRESSION lz4, ALTER attempts SET COMPRESSION lz4';
EXCEPTION WHEN feature_not_supported OR syntax_error THEN
  NULL; -- built without it, or older than 14
END $$;
