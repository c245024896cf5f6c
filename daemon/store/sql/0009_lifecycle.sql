-- What becomes of tasks that do not go well, and of those that are over: the dead-letter log, the limits of `lifecycle`, retention.
-- None of it costs a task anything that does not use it: entries are written when a task is blocked, deadlines only for templates with limits, and what is
-- finished is found by walking the primary key.

-- Dead letters -----------------------------------------------------------------------------------------------------------

CREATE TYPE tasker.dlq_reason AS ENUM ('staleness_timeout', 'max_retries_exceeded', 'dependency_cycle_detected', 'worker_unavailable', 'manual_dlq');
CREATE TYPE tasker.dlq_status AS ENUM ('pending', 'manually_resolved', 'permanently_failed', 'cancelled');

-- A log for people to work through, never a queue: the task stays where it is. At most one open entry a task.
CREATE TABLE tasker.dlq (
  dlq_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  dlq_uuid uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
  task_id bigint NOT NULL,
  reason tasker.dlq_reason NOT NULL,
  detail text,                          -- a word that says more: permanent_error, exhausted, the limit that was passed, ...
  original_state tasker.task_state NOT NULL,
  status tasker.dlq_status NOT NULL DEFAULT 'pending',
  snapshot jsonb NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}',
  notes text,
  resolved_by text,
  resolved_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX dlq_open ON tasker.dlq (task_id) WHERE status = 'pending';
CREATE INDEX dlq_task ON tasker.dlq (task_id);

-- An error as an entry keeps it: whole if it is small.
CREATE FUNCTION tasker.dlq_error(p jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN octet_length(p::text) > 8192
          THEN jsonb_strip_nulls(jsonb_build_object('message', left(p ->> 'message', 1000), 'error_type', left(p ->> 'error_type', 200), 'error_code', left(p ->> 'error_code', 200), 'shortened', true))
          ELSE p END $$;

-- The task as it is now: what someone needs who looks at it when it has long moved on. Bounded: the first hundred steps that are not done, and counts of all.
CREATE FUNCTION tasker.dlq_snapshot(p_task bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object(
    'task', jsonb_strip_nulls(jsonb_build_object('task_uuid', t.task_uuid, 'namespace', n.name, 'name', tp.name, 'version', tp.version, 'state', t.state, 'priority', t.priority,
      'initiator', t.initiator, 'source_system', t.source_system, 'reason', t.reason, 'tags', to_jsonb(t.tags), 'correlation_id', coalesce(t.correlation_id, t.task_uuid::text),
      'parent_correlation_id', t.parent_correlation_id, 'idempotency_key', t.idempotency_key, 'context_bytes', octet_length(t.context::text))),
    'template', jsonb_build_object('digest', tp.digest, 'steps', tp.n_steps, 'lifecycle', tp.lifecycle),
    'counts', coalesce(c.counts, '{}'),
    'steps', coalesce(c.steps, '[]'),
    'timings', jsonb_build_object('created_at', tasker.rfc3339(t.created_at), 'first_started_at', tasker.rfc3339(c.first), 'last_change_at', tasker.rfc3339(greatest(t.created_at, c.last)),
      'taken_at', tasker.rfc3339(clock_timestamp()), 'age_seconds', round(extract(epoch FROM clock_timestamp() - t.created_at))))
  FROM tasker.tasks t
  JOIN tasker.templates tp ON tp.template_id = t.template_id
  JOIN tasker.namespaces n ON n.namespace_id = tp.namespace_id
  CROSS JOIN LATERAL (
    SELECT (SELECT jsonb_object_agg(g.state, g.n) FROM (SELECT s.state, count(*) AS n FROM tasker.steps s WHERE s.task_id = t.task_id GROUP BY s.state) g) AS counts,
           (SELECT min(a.claimed_at) FROM tasker.step_attempts a WHERE a.task_id = t.task_id) AS first,
           (SELECT max(greatest(s.claimed_at, s.finished_at)) FROM tasker.steps s WHERE s.task_id = t.task_id) AS last,
           (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', d.name, 'step_uuid', tasker.step_uuid(t.task_uuid, d.step_no), 'state', d.state, 'attempts', d.attempts,
              'max_attempts', d.max_attempts, 'handler', d.handler, 'last_outcome', d.outcome, 'last_error', tasker.dlq_error(d.error),
              'ready_at', tasker.rfc3339(d.ready_at), 'started_at', tasker.rfc3339(d.claimed_at), 'finished_at', tasker.rfc3339(d.finished_at), 'retry_at', tasker.rfc3339(d.retry_at)))
              ORDER BY d.rank, d.step_no)
            FROM (
              SELECT s.*, tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs) AS name, ts.max_attempts, ts.handler ->> 'callable' AS handler, a.outcome, r.rank
              FROM tasker.steps s
              CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
              CROSS JOIN LATERAL (SELECT array_position('{error,in_progress,waiting_for_retry,enqueued,pending,cancelled}', s.state::text) AS rank) r
              LEFT JOIN LATERAL (SELECT x.outcome FROM tasker.step_attempts x WHERE x.task_id = s.task_id AND x.step_no = s.step_no ORDER BY x.recorded_at DESC, x.fence DESC LIMIT 1) a ON true
              WHERE s.task_id = t.task_id AND s.state NOT IN ('complete', 'resolved_manually')
              ORDER BY r.rank, s.step_no LIMIT 100) d) AS steps) c
  WHERE t.task_id = p_task
$$;

-- Whether a decision asked for steps that it depends on itself, or for itself: what it wants would be a cycle.
CREATE FUNCTION tasker.names_cycle(p_template int, p_no int, p_result jsonb) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT jsonb_typeof(p_result -> 'decision_point_outcome' -> 'step_names') = 'array' AND EXISTS (
    SELECT 1 FROM tasker.template_steps d JOIN tasker.template_steps x ON x.template_id = d.template_id AND (x.step_no = d.step_no OR x.step_no = ANY (d.ancestors))
    WHERE d.template_id = p_template AND d.step_no = p_no AND (p_result -> 'decision_point_outcome' -> 'step_names') ? x.name)
$$;

-- Why a task is blocked: what its failed steps say. A failure that speaks of a cycle wins, then one that no retry would mend.
CREATE FUNCTION tasker.blocked_reason(p_task bigint, OUT reason tasker.dlq_reason, OUT detail text, OUT failed text[]) LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN bool_or(f.cycle) THEN 'dependency_cycle_detected' ELSE 'max_retries_exceeded' END::tasker.dlq_reason,
         CASE WHEN bool_or(f.cycle) THEN 'cycle' WHEN bool_or(f.outcome IN ('permanent_error', 'invalid_result')) THEN 'permanent_error'
              WHEN bool_or(f.outcome = 'worker_lost') THEN 'worker_lost' WHEN bool_or(f.outcome = 'timeout') THEN 'timeout' ELSE 'exhausted' END,
         (array_agg(f.name ORDER BY f.step_no))[1:20]
  FROM (
    SELECT s.step_no, tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs) AS name, a.outcome,
           coalesce(s.error ->> 'error_code' = 'dependency_cycle' OR s.error ->> 'error_type' = 'DependencyCycle', false) AS cycle
    FROM tasker.tasks t JOIN tasker.steps s ON s.task_id = t.task_id
    CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
    LEFT JOIN LATERAL (SELECT x.outcome FROM tasker.step_attempts x WHERE x.task_id = s.task_id AND x.step_no = s.step_no ORDER BY x.recorded_at DESC, x.fence DESC LIMIT 1) a ON true
    WHERE t.task_id = p_task AND s.state = 'error') f
$$;

-- Open an entry for each of the tasks (no task twice); one that is open already takes the newer reason and keeps its age, its notes, and the older reasons in its metadata.
CREATE FUNCTION tasker.dlq_file(p_tasks bigint[], p_reasons tasker.dlq_reason[], p_details text[], p_metadata jsonb[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tasker.dlq AS d (task_id, reason, detail, original_state, snapshot, metadata)
  SELECT t.task_id, u.reason, u.detail, t.state, tasker.dlq_snapshot(t.task_id), coalesce(u.metadata, '{}')
  FROM unnest(p_tasks, p_reasons, p_details, p_metadata) AS u(id, reason, detail, metadata)
  CROSS JOIN LATERAL (SELECT x.task_id, x.state FROM tasker.tasks x WHERE x.task_id = u.id OFFSET 0) t
  ON CONFLICT (task_id) WHERE status = 'pending' DO UPDATE SET reason = excluded.reason, detail = excluded.detail, original_state = excluded.original_state,
    snapshot = excluded.snapshot, updated_at = clock_timestamp(),
    metadata = d.metadata || excluded.metadata || CASE WHEN d.reason <> excluded.reason THEN jsonb_build_object('earlier_reasons',
      coalesce(d.metadata -> 'earlier_reasons', '[]') || to_jsonb(d.reason::text)) ELSE '{}' END
$$;

-- settle() has just found that nothing moves these tasks any more. The caller holds their row locks.
CREATE FUNCTION tasker.on_blocked(p_tasks bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM tasker.dlq_file(array_agg(x.id), array_agg((x.why).reason), array_agg((x.why).detail), array_agg(jsonb_build_object('failed_steps', to_jsonb((x.why).failed))))
  FROM (SELECT u.id, tasker.blocked_reason(u.id) AS why FROM unnest(p_tasks) AS u(id) OFFSET 0) x;
END $$;

-- These tasks are no longer blocked, or were ended by hand: what was open about them is closed, with what became of the task. The caller holds their row locks.
CREATE FUNCTION tasker.on_unblocked(p_tasks bigint[], p_by text DEFAULT NULL, p_notes text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
  UPDATE tasker.dlq d SET
    status = CASE t.state WHEN 'cancelled' THEN 'cancelled' WHEN 'error' THEN 'permanently_failed' ELSE 'manually_resolved' END::tasker.dlq_status,
    resolved_at = clock_timestamp(), updated_at = clock_timestamp(), resolved_by = coalesce(p_by, d.resolved_by, 'taskerd'),
    notes = coalesce(p_notes, d.notes, format('the task went on to %s', t.state))
  FROM tasker.tasks t WHERE d.task_id = ANY (p_tasks) AND d.status = 'pending' AND t.task_id = d.task_id
$$;

-- The protocol's dlq.* -----------------------------------------------------------------------------------------------------

CREATE FUNCTION tasker.dlq_object(d tasker.dlq, p_snapshot boolean) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('entry', d.dlq_uuid, 'task_uuid', t.task_uuid, 'namespace', n.name, 'name', tp.name, 'version', tp.version, 'task_state', t.state,
           'reason', d.reason, 'detail', d.detail, 'original_state', d.original_state, 'status', d.status, 'notes', d.notes, 'resolved_by', d.resolved_by,
           'resolved_at', tasker.rfc3339(d.resolved_at), 'created_at', tasker.rfc3339(d.created_at), 'updated_at', tasker.rfc3339(d.updated_at), 'metadata', d.metadata)
         || CASE WHEN p_snapshot THEN jsonb_build_object('snapshot', d.snapshot) ELSE '{}' END
  FROM tasker.tasks t JOIN tasker.templates tp ON tp.template_id = t.template_id JOIN tasker.namespaces n ON n.namespace_id = tp.namespace_id
  WHERE t.task_id = d.task_id
$$;

-- A word of the request as a value of an enum, or TK400 naming the field.
CREATE FUNCTION tasker.dlq_word(p jsonb, p_key text, p_type regtype) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF p ->> p_key IS NOT NULL AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_enum e WHERE e.enumtypid = p_type AND e.enumlabel = p ->> p_key) THEN
    RAISE EXCEPTION 'unknown % %; there are %', p_key, quote_literal(left(p ->> p_key, 40)),
      (SELECT string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = p_type) USING ERRCODE = 'TK400', COLUMN = p_key;
  END IF;
  RETURN p ->> p_key;
END $$;

-- The entry that a request means: by its own uuid, or the newest of a task.
CREATE FUNCTION tasker.dlq_find(p jsonb) RETURNS tasker.dlq LANGUAGE plpgsql STABLE AS $$
DECLARE
  d tasker.dlq;
BEGIN
  IF (p ->> 'entry' IS NULL) = (p ->> 'task_uuid' IS NULL) THEN
    RAISE EXCEPTION 'one of entry and task_uuid is needed' USING ERRCODE = 'TK400', COLUMN = 'entry';
  ELSIF p ->> 'entry' IS NOT NULL THEN
    SELECT x.* INTO d FROM tasker.dlq x WHERE x.dlq_uuid = (p ->> 'entry')::uuid;
  ELSE
    SELECT x.* INTO d FROM tasker.dlq x WHERE x.task_id = tasker.task_id_of(p ->> 'task_uuid') ORDER BY x.dlq_id DESC LIMIT 1;
  END IF;
  IF d.dlq_id IS NULL THEN
    RAISE EXCEPTION 'no dead-letter entry %', coalesce(p ->> 'entry', 'of task ' || (p ->> 'task_uuid')) USING ERRCODE = 'TK404';
  END IF;
  RETURN d;
END $$;

CREATE FUNCTION tasker.api_dlq_get(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT tasker.dlq_object(tasker.dlq_find(p), true) $$;

-- Entries, the newest first. Snapshots go along while they are a MiB together; that one was left out is said in its place.
CREATE FUNCTION tasker.dlq_objects(p_ids bigint[], p_snapshots boolean) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT coalesce(jsonb_agg(tasker.dlq_object(x.d, false) || CASE WHEN NOT p_snapshots THEN '{}' WHEN x.size <= 1048576 THEN jsonb_build_object('snapshot', (x.d).snapshot)
                            ELSE jsonb_build_object('snapshot', NULL, 'snapshot_left_out', true) END ORDER BY (x.d).dlq_id DESC), '[]')
  FROM (SELECT d, CASE WHEN p_snapshots THEN sum(octet_length(d.snapshot::text)) OVER (ORDER BY d.dlq_id DESC) END AS size FROM tasker.dlq d WHERE d.dlq_id = ANY (p_ids)) x
$$;

CREATE FUNCTION tasker.api_dlq_list(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_limit int := coalesce((p ->> 'limit')::int, 50);
  v_status tasker.dlq_status := tasker.dlq_word(p, 'status', 'tasker.dlq_status');
  v_reason tasker.dlq_reason := tasker.dlq_word(p, 'reason', 'tasker.dlq_reason');
  v_cursor bigint; v_ids bigint[];
BEGIN
  BEGIN
    v_cursor := (p ->> 'cursor')::bigint;
  EXCEPTION WHEN invalid_text_representation OR numeric_value_out_of_range THEN
    RAISE EXCEPTION 'unknown cursor %', quote_literal(left(p ->> 'cursor', 40)) USING ERRCODE = 'TK400', COLUMN = 'cursor';
  END;
  SELECT array_agg(x.dlq_id ORDER BY x.dlq_id DESC) INTO v_ids FROM (
    SELECT d.dlq_id FROM tasker.dlq d JOIN tasker.tasks t USING (task_id) JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
    WHERE (v_cursor IS NULL OR d.dlq_id < v_cursor) AND (v_status IS NULL OR d.status = v_status) AND (v_reason IS NULL OR d.reason = v_reason)
      AND (p ->> 'namespace' IS NULL OR n.name = p ->> 'namespace') AND (p ->> 'name' IS NULL OR tp.name = p ->> 'name') AND tasker.is_within(p, n.name)
    ORDER BY d.dlq_id DESC OFFSET coalesce((p ->> 'offset')::int, 0) LIMIT v_limit + 1) x;
  RETURN jsonb_build_object(
    'entries', tasker.dlq_objects(v_ids[1:v_limit], coalesce((p ->> 'snapshots')::boolean, false)),
    'next_cursor', CASE WHEN cardinality(v_ids) > v_limit THEN v_ids[v_limit]::text END);
END $$;

-- What is open, by template, step and error: how many tasks each holds up, where and by which workers it failed. Of the newest 20,000 open entries.
CREATE FUNCTION tasker.dlq_causes(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  WITH d AS MATERIALIZED (
    SELECT x.task_id, x.reason, n.name AS namespace, tp.name, tp.version, tp.template_id, t.task_uuid
    FROM (SELECT i.task_id, i.reason FROM tasker.dlq i WHERE i.status = 'pending' ORDER BY i.task_id DESC LIMIT 20000) x
    CROSS JOIN LATERAL (SELECT i.template_id, i.task_uuid FROM tasker.tasks i WHERE i.task_id = x.task_id OFFSET 0) t
    CROSS JOIN LATERAL (SELECT i.* FROM tasker.templates i WHERE i.template_id = t.template_id OFFSET 0) tp
    JOIN tasker.namespaces n ON n.namespace_id = tp.namespace_id
    WHERE (p ->> 'namespace' IS NULL OR n.name = p ->> 'namespace') AND (p ->> 'name' IS NULL OR tp.name = p ->> 'name') AND tasker.is_within(p, n.name)),
  f AS MATERIALIZED (
    SELECT d.*, ts.name AS step, ts.handler ->> 'callable' AS handler, s.error ->> 'error_type' AS error_type, left(s.error ->> 'message', 300) AS message, s.finished_at AS at, a.outcome,
           concat(coalesce(w.name, CASE WHEN w.pid IS NOT NULL THEN 'pid ' || w.pid END, a.worker_uuid::text), '@' || nd.node_name) AS worker
    FROM d
    LEFT JOIN LATERAL (SELECT i.* FROM tasker.steps i WHERE i.task_id = d.task_id AND i.state = 'error' AND i.result IS NULL OFFSET 0) s ON true
    LEFT JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = d.template_id AND i.step_no = s.template_no OFFSET 0) ts ON true
    LEFT JOIN LATERAL (SELECT i.* FROM tasker.step_attempts i WHERE i.task_id = d.task_id AND i.step_no = s.step_no AND i.fence = s.fence LIMIT 1) a ON true
    LEFT JOIN tasker.workers w ON w.worker_uuid = a.worker_uuid
    LEFT JOIN tasker.nodes nd ON nd.node_no = a.node_no),
  g AS (
    SELECT f.reason, f.namespace, f.name, f.version, f.step, f.handler, f.outcome, f.error_type, count(DISTINCT f.task_id) AS tasks, min(f.at) AS oldest, max(f.at) AS newest,
           (array_agg(f.message ORDER BY f.at DESC))[1] AS message, (array_agg(f.task_uuid ORDER BY f.at DESC))[1] AS task_uuid, array_agg(DISTINCT f.worker) FILTER (WHERE f.worker <> '') AS workers
    FROM f GROUP BY 1, 2, 3, 4, 5, 6, 7, 8)
  SELECT coalesce(jsonb_agg(jsonb_build_object('tasks', g.tasks, 'namespace', g.namespace, 'name', g.name, 'version', g.version, 'reason', g.reason, 'step', g.step, 'handler', g.handler,
           'outcome', g.outcome, 'error_type', g.error_type, 'message', g.message, 'workers', to_jsonb(g.workers[1:10]), 'n_workers', coalesce(cardinality(g.workers), 0),
           'oldest_at', tasker.rfc3339(g.oldest), 'newest_at', tasker.rfc3339(g.newest), 'task_uuid', g.task_uuid) ORDER BY g.tasks DESC, g.namespace, g.name, g.version, g.step, g.error_type), '[]')
  FROM (SELECT g.* FROM g ORDER BY g.tasks DESC LIMIT 200) g
$$;

CREATE FUNCTION tasker.api_dlq_stats(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('reasons', jsonb_agg(jsonb_build_object('reason', r.reason, 'total', k.total, 'pending', k.pending, 'manually_resolved', k.resolved,
           'permanently_failed', k.failed, 'cancelled', k.cancelled, 'oldest_pending_at', tasker.rfc3339(k.oldest), 'oldest_at', tasker.rfc3339(k.first), 'newest_at', tasker.rfc3339(k.newest),
           'mean_resolution_minutes', k.mean) ORDER BY r.reason))
    || CASE WHEN (p ->> 'causes')::boolean THEN jsonb_build_object('causes', tasker.dlq_causes(p)) ELSE '{}' END
  FROM unnest(enum_range(NULL::tasker.dlq_reason)) AS r(reason)
  CROSS JOIN LATERAL (
    SELECT count(*) AS total, count(*) FILTER (WHERE d.status = 'pending') AS pending, count(*) FILTER (WHERE d.status = 'manually_resolved') AS resolved,
           count(*) FILTER (WHERE d.status = 'permanently_failed') AS failed, count(*) FILTER (WHERE d.status = 'cancelled') AS cancelled,
           min(d.created_at) FILTER (WHERE d.status = 'pending') AS oldest, min(d.created_at) AS first, max(d.created_at) AS newest,
           round((avg(extract(epoch FROM d.resolved_at - d.created_at)) / 60)::numeric, 2) AS mean
    FROM tasker.dlq d
    WHERE d.reason = r.reason AND (p ->> 'namespace' IS NULL AND p -> 'within' IS NULL OR EXISTS (
      SELECT 1 FROM tasker.tasks t JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
      WHERE t.task_id = d.task_id AND (p ->> 'namespace' IS NULL OR n.name = p ->> 'namespace') AND tasker.is_within(p, n.name)))) k
$$;

-- What to look at first: by what went wrong, then by how long it waits.
CREATE FUNCTION tasker.dlq_priority(p_reason tasker.dlq_reason, p_minutes double precision) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT round((CASE p_reason WHEN 'dependency_cycle_detected' THEN 1000 WHEN 'max_retries_exceeded' THEN 500 WHEN 'staleness_timeout' THEN 100
                               WHEN 'worker_unavailable' THEN 50 ELSE 10 END + p_minutes)::numeric, 2) $$;

CREATE FUNCTION tasker.api_dlq_queue(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('entries', coalesce(jsonb_agg(tasker.dlq_object(x.d, false) || jsonb_build_object('priority_score', x.score, 'minutes_waiting', round(x.minutes::numeric, 2)) ORDER BY x.score DESC, x.id), '[]'))
  FROM (
    SELECT d, (d).dlq_id AS id, m.minutes, tasker.dlq_priority(d.reason, m.minutes) AS score
    FROM tasker.dlq d CROSS JOIN LATERAL (SELECT extract(epoch FROM clock_timestamp() - d.created_at) / 60 AS minutes) m
    JOIN tasker.tasks t USING (task_id) JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
    WHERE d.status = 'pending' AND (p ->> 'namespace' IS NULL OR n.name = p ->> 'namespace') AND tasker.is_within(p, n.name)
    ORDER BY score DESC, d.dlq_id LIMIT coalesce((p ->> 'limit')::int, 100)) x
$$;

-- By hand: {"task_uuid", "notes", "metadata", "by"}. The same request again, after a lost answer, finds its entry.
CREATE FUNCTION tasker.api_dlq_add(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a tasker.actor := tasker.actor_of(p);
  v_id bigint := tasker.task_id_of(p ->> 'task_uuid');
  d tasker.dlq;
BEGIN
  PERFORM 1 FROM tasker.tasks t WHERE t.task_id = v_id FOR NO KEY UPDATE;
  SELECT x.* INTO d FROM tasker.dlq x WHERE x.task_id = v_id AND x.status = 'pending';
  IF d.metadata ->> 'request' = a.request_id::text THEN
    RETURN tasker.dlq_object(d, false);
  ELSIF d.dlq_id IS NOT NULL THEN
    RAISE EXCEPTION 'task % has an open entry already', p ->> 'task_uuid' USING ERRCODE = 'TK409';
  END IF;
  PERFORM tasker.dlq_file(ARRAY[v_id], ARRAY['manual_dlq'::tasker.dlq_reason], ARRAY[NULL::text],
                          ARRAY[coalesce(p -> 'metadata', '{}') || jsonb_strip_nulls(jsonb_build_object('filed_by', coalesce(a.user_name, 'uid:' || a.uid), 'request', a.request_id))]);
  UPDATE tasker.dlq x SET notes = p ->> 'notes' WHERE x.task_id = v_id AND x.status = 'pending' RETURNING x.* INTO d;
  a.reason := coalesce(a.reason, p ->> 'notes');
  PERFORM tasker.note_action(a, 'dlq.add', v_id, NULL, NULL, d.status::text);
  RETURN tasker.dlq_object(d, false);
END $$;

-- {"entry" or "task_uuid", "status", "notes", "resolved_by", "metadata", "by"}: only what is given changes. Whoever closes an entry that another has closed loses.
CREATE FUNCTION tasker.api_dlq_update(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a tasker.actor := tasker.actor_of(p);
  d tasker.dlq := tasker.dlq_find(p);
  v_was tasker.dlq_status;
  v_status tasker.dlq_status := tasker.dlq_word(p, 'status', 'tasker.dlq_status');
BEGIN
  SELECT x.* INTO d FROM tasker.dlq x WHERE x.dlq_id = d.dlq_id FOR UPDATE;
  IF v_status = 'pending' AND d.status <> 'pending' AND EXISTS (SELECT 1 FROM tasker.dlq x WHERE x.task_id = d.task_id AND x.status = 'pending') THEN
    RAISE EXCEPTION 'the task has a newer open entry' USING ERRCODE = 'TK409';
  ELSIF v_status <> d.status AND v_status <> 'pending' AND d.status <> 'pending' THEN
    RAISE EXCEPTION 'the entry was closed as % by %', d.status, coalesce(d.resolved_by, 'someone') USING ERRCODE = 'TK409', DETAIL = d.status;
  END IF;
  v_was := d.status;
  UPDATE tasker.dlq x SET
    status = coalesce(v_status, x.status), notes = coalesce(p ->> 'notes', x.notes), metadata = x.metadata || coalesce(p -> 'metadata', '{}'), updated_at = clock_timestamp(),
    resolved_by = CASE WHEN v_status = 'pending' THEN NULL WHEN v_status <> x.status THEN coalesce(p ->> 'resolved_by', a.user_name, 'uid:' || a.uid) ELSE coalesce(p ->> 'resolved_by', x.resolved_by) END,
    resolved_at = CASE WHEN v_status = 'pending' THEN NULL WHEN v_status <> x.status THEN clock_timestamp() ELSE x.resolved_at END
  WHERE x.dlq_id = d.dlq_id RETURNING x.* INTO d;
  a.reason := coalesce(a.reason, p ->> 'notes');
  PERFORM tasker.note_action(a, 'dlq.update', d.task_id, NULL, v_was::text, d.status::text);
  RETURN tasker.dlq_object(d, false);
END $$;

-- What is open about tasks that someone takes up again: he has found a remedy.
CREATE FUNCTION tasker.close_entries(a tasker.actor, p_tasks bigint[]) RETURNS void LANGUAGE sql AS $$
  UPDATE tasker.dlq x SET status = 'manually_resolved', resolved_at = clock_timestamp(), updated_at = clock_timestamp(), resolved_by = coalesce(a.operator, a.user_name, 'uid:' || a.uid),
    notes = concat_ws('; ', x.notes, a.reason), metadata = x.metadata || jsonb_build_object('redriven_at', tasker.rfc3339(clock_timestamp()))
  WHERE x.task_id = ANY (p_tasks) AND x.status = 'pending'
$$;

-- Take up the task of an entry again: {"entry" or "task_uuid", "reason", "operator", "by"}. The retry and the end of the entry are one transaction; the retry of a large task goes on in stretches.
CREATE FUNCTION tasker.api_dlq_redrive(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a CONSTANT tasker.actor := tasker.actor_of(p);
  d tasker.dlq := tasker.dlq_find(p);
  v_task tasker.tasks; v_why text;
BEGIN
  SELECT t.* INTO v_task FROM tasker.tasks t WHERE t.task_id = d.task_id FOR NO KEY UPDATE;
  SELECT x.* INTO d FROM tasker.dlq x WHERE x.dlq_id = d.dlq_id FOR UPDATE;
  IF EXISTS (SELECT 1 FROM tasker.long_actions l WHERE l.task_id = d.task_id AND (l.actor).request_id = a.request_id) THEN
    IF NOT tasker.go_on(d.task_id) THEN
      RETURN '"again"';
    END IF;
  ELSIF NOT EXISTS (SELECT 1 FROM tasker.operator_actions o WHERE o.request_id = a.request_id) THEN
    v_why := CASE WHEN d.status <> 'pending' THEN format('the entry was closed as %s by %s', d.status, coalesce(d.resolved_by, 'someone')) ELSE tasker.task_refusal('retry', v_task) END;
    IF v_why IS NOT NULL THEN
      RAISE EXCEPTION 'task %: %', v_task.task_uuid, v_why USING ERRCODE = 'TK409';
    ELSIF tasker.is_large(d.task_id) THEN
      PERFORM tasker.begin_long(a, 'retry', d.task_id);
      RETURN '"again"';
    END IF;
    PERFORM tasker.act_on_tasks(a, 'retry', ARRAY[d.task_id]);
  END IF;
  SELECT x.* INTO d FROM tasker.dlq x WHERE x.dlq_id = d.dlq_id;
  RETURN jsonb_build_object('entry', tasker.dlq_object(d, false), 'task', tasker.task_after(d.task_id));
END $$;

-- Lifecycle --------------------------------------------------------------------------------------------------------------

-- When to look at an unfinished task whose template has limits. A lazy timer: due_at is never later than the first moment at which a limit can have been passed, whatever the
-- task does meanwhile, so nothing that happens to a task writes here; whoever looks finds what has happened, acts, or puts the moment further off.
CREATE TABLE tasker.task_deadlines (
  task_id bigint PRIMARY KEY,
  due_at timestamptz NOT NULL,
  fired jsonb NOT NULL DEFAULT '{}'     -- limit -> since when; a limit acts once for each stay
);
CREATE INDEX task_deadlines_due ON tasker.task_deadlines (due_at);

-- The soonest moment, from p_from on, at which a limit other than max_duration_minutes can be passed by a task that begins to rest at p_from. A day at most.
CREATE FUNCTION tasker.next_look(p_lifecycle jsonb, p_from timestamptz) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT p_from + least(1440, (p_lifecycle ->> 'max_waiting_for_dependencies_minutes')::int, (p_lifecycle ->> 'max_waiting_for_retry_minutes')::int,
                        (p_lifecycle ->> 'max_steps_in_process_minutes')::int) * interval '1 minute'
$$;

-- Set the timers of tasks that have been made, or made live again.
CREATE FUNCTION tasker.arm_deadlines(p_tasks bigint[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tasker.task_deadlines (task_id, due_at)
  SELECT t.task_id, least(tasker.next_look(t.lifecycle, now()), now() + (t.lifecycle ->> 'max_duration_minutes')::int * interval '1 minute')
  FROM unnest(p_tasks) AS u(id)
  CROSS JOIN LATERAL (SELECT x.task_id, tp.lifecycle FROM tasker.tasks x JOIN tasker.templates tp USING (template_id)
                      WHERE x.task_id = u.id AND tp.lifecycle IS NOT NULL AND x.state NOT IN ('complete', 'error', 'cancelled', 'resolved_manually') OFFSET 0) t
  ON CONFLICT (task_id) DO UPDATE SET due_at = least(excluded.due_at, tasker.task_deadlines.due_at)
$$;

-- The limits that hold for an unfinished task where it rests now, each with the moment from which it counts:
--   max_duration_minutes                   the task's creation (or when it was to begin, or began, or the reset that made it live again)
--   max_waiting_for_retry_minutes          when it began to wait for a retry: nothing else is open
--   max_steps_in_process_minutes           the last start or end of a step, or checkpoint, while steps run
--   max_waiting_for_dependencies_minutes   the last start or end of a step, while none runs: what is open waits for a worker, for a resume, or, the task being blocked, for people
CREATE FUNCTION tasker.task_limits(p_task bigint) RETURNS TABLE (key text, minutes int, since timestamptz) LANGUAGE sql STABLE AS $$
  SELECT k.key, k.minutes, k.since
  FROM tasker.tasks t
  JOIN tasker.templates tp ON tp.template_id = t.template_id
  CROSS JOIN LATERAL (
    SELECT coalesce(bool_or(s.state = 'in_progress'), false) AS running,
           max(greatest(s.claimed_at, s.finished_at, CASE WHEN s.ready_at <= now() THEN s.ready_at END, CASE WHEN s.checkpoint ->> 'timestamp' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d' THEN (s.checkpoint ->> 'timestamp')::timestamptz END)) AS moved
    FROM tasker.steps s WHERE s.task_id = t.task_id) s
  CROSS JOIN LATERAL (SELECT max(a.recorded_at) AS ended FROM tasker.step_attempts a WHERE a.task_id = t.task_id) a
  CROSS JOIN LATERAL (SELECT max(o.at) AS acted FROM tasker.operator_actions o WHERE o.task_id = t.task_id AND o.action NOT IN ('dlq.add', 'dlq.update')) o
  CROSS JOIN LATERAL (
    SELECT max(tr.at) AS entered, max(tr.at) FILTER (WHERE tr.from_state IN ('pending', 'complete', 'error', 'cancelled', 'resolved_manually')) AS reset
    FROM tasker.task_transitions tr WHERE tr.task_id = t.task_id) e
  CROSS JOIN LATERAL (SELECT t.state NOT IN ('waiting_for_retry', 'blocked_by_failures') AND s.running AS runs, greatest(t.created_at, t.run_at, e.entered, s.moved, a.ended, o.acted) AS last) w
  CROSS JOIN LATERAL (VALUES
    ('max_duration_minutes', (tp.lifecycle ->> 'max_duration_minutes')::int, greatest(t.created_at, t.run_at, e.reset)),
    ('max_waiting_for_retry_minutes', (tp.lifecycle ->> 'max_waiting_for_retry_minutes')::int, CASE WHEN t.state = 'waiting_for_retry' THEN e.entered END),
    ('max_steps_in_process_minutes', (tp.lifecycle ->> 'max_steps_in_process_minutes')::int, CASE WHEN w.runs THEN w.last END),
    ('max_waiting_for_dependencies_minutes', (tp.lifecycle ->> 'max_waiting_for_dependencies_minutes')::int,
     CASE WHEN NOT w.runs AND t.state <> 'waiting_for_retry' THEN w.last END)) AS k(key, minutes, since)
  WHERE t.task_id = p_task AND tp.lifecycle IS NOT NULL AND t.state NOT IN ('complete', 'error', 'cancelled', 'resolved_manually') AND k.minutes IS NOT NULL AND k.since IS NOT NULL
$$;

-- End tasks that have taken too long: the task goes to error, what is live of it is cancelled, steps that failed stay failed. The caller holds the row locks. Where handlers
-- run they are told by NOTIFY.
CREATE FUNCTION tasker.fail_tasks(p_node int, p_tasks bigint[], p_causes jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
  v_tasks uuid[]; v_steps uuid[];
BEGIN
  WITH was AS MATERIALIZED (
    SELECT x.*, c.cause FROM unnest(p_tasks, p_causes) AS c(task_id, cause)
    CROSS JOIN LATERAL (SELECT s.ctid AS c, s.task_id, s.step_no, s.state, s.attempts, s.fence, s.node_no, s.ready_at, s.claimed_at FROM tasker.steps s
                        WHERE s.task_id = c.task_id AND s.state NOT IN ('complete', 'cancelled', 'resolved_manually', 'error') OFFSET 0) x),
  u AS (UPDATE tasker.steps s SET state = 'cancelled', node_no = NULL, finished_at = v_now, retry_at = NULL FROM was WHERE s.ctid = was.c),
  h AS (INSERT INTO tasker.step_attempts (task_id, step_no, attempt, fence, outcome, node_no, ready_at, claimed_at, finished_at, recorded_at, error)
        SELECT w.task_id, w.step_no, w.attempts, w.fence, 'cancelled', w.node_no, w.ready_at, w.claimed_at, v_now, v_now,
               jsonb_build_object('message', format('the task has passed its %s', w.cause ->> 'limit'), 'error_type', 'lifecycle_timeout')
        FROM was w WHERE w.state = 'in_progress')
  SELECT array_agg(tasker.step_uuid(t.task_uuid, w.step_no)) INTO v_steps FROM was w JOIN tasker.tasks t USING (task_id) WHERE w.state = 'in_progress';
  WITH was AS MATERIALIZED (
    SELECT x.*, c.cause FROM unnest(p_tasks, p_causes) AS c(task_id, cause)
    CROSS JOIN LATERAL (SELECT t.ctid AS c, t.state FROM tasker.tasks t WHERE t.task_id = c.task_id OFFSET 0) x),
  u AS (
    UPDATE tasker.tasks t SET state = 'error', finished_at = v_now, finished_by_node = p_node, n_active = 0, n_waiting = 0, n_failed = 0, paused = false FROM was WHERE t.ctid = was.c
    RETURNING t.task_id, t.task_uuid, was.state AS old, was.cause),
  h AS (INSERT INTO tasker.task_transitions (task_id, from_state, to_state, at, node_no, cause) SELECT u.task_id, u.old, 'error', v_now, p_node, u.cause FROM u)
  SELECT array_agg(u.task_uuid) INTO v_tasks FROM u;
  -- Entries about failed steps are closed with it: the task is blocked no more. One about the limit stays open.
  PERFORM tasker.on_unblocked(ARRAY(
    SELECT d.task_id FROM tasker.dlq d WHERE d.task_id = ANY (p_tasks) AND d.status = 'pending' AND d.reason IN ('max_retries_exceeded', 'dependency_cycle_detected')));
  PERFORM tasker.notify_uuids('tasker_cancel', v_steps);
  PERFORM tasker.notify_uuids('tasker_settled', v_tasks);
END $$;

-- Whether a task waits because no connected worker offers any of the handlers that its ready steps need.
CREATE FUNCTION tasker.lacks_workers(p_task bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT count(*) > 0 AND bool_and(NOT tasker.is_offered(k.name, k.callable))
  FROM (
    SELECT DISTINCT n.name, h.callable
    FROM tasker.tasks t
    JOIN tasker.steps s ON s.task_id = t.task_id AND s.state = 'enqueued'
    CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
    JOIN tasker.handlers h ON h.handler_id = ts.handler_id
    JOIN tasker.namespaces n ON n.namespace_id = h.namespace_id
    WHERE t.task_id = p_task) k
$$;

-- What a template wants done: {dlq, fail}. staleness_action says both in one word, the auto_ keys each have the last word on theirs.
CREATE FUNCTION tasker.on_timeout(p_lifecycle jsonb, OUT dlq boolean, OUT fail boolean) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce((p_lifecycle ->> 'auto_dlq_on_timeout')::boolean, coalesce(p_lifecycle ->> 'staleness_action', 'dlq') = 'dlq'),
         coalesce((p_lifecycle ->> 'auto_fail_on_timeout')::boolean, coalesce(p_lifecycle ->> 'staleness_action', 'dlq') = 'error')
$$;

-- A task over a limit that has not acted yet in this stay. The caller holds its row lock. Returns the cause if the task must be failed.
CREATE FUNCTION tasker.time_out(p_task bigint) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_lifecycle jsonb; v_fired jsonb; k record; v_do record; v_lacks boolean; v_cause jsonb;
BEGIN
  SELECT tp.lifecycle, d.fired INTO v_lifecycle, v_fired
  FROM tasker.tasks t JOIN tasker.templates tp USING (template_id) JOIN tasker.task_deadlines d USING (task_id) WHERE t.task_id = p_task;
  SELECT l.key, l.minutes, l.since, tasker.rfc3339(l.since) AS mark INTO k FROM tasker.task_limits(p_task) l
  WHERE l.since + l.minutes * interval '1 minute' <= clock_timestamp() AND v_fired ->> l.key IS DISTINCT FROM tasker.rfc3339(l.since)
  ORDER BY l.since + l.minutes * interval '1 minute' LIMIT 1;
  IF NOT FOUND THEN
    RETURN NULL; -- it has moved on meanwhile
  END IF;
  v_do := tasker.on_timeout(v_lifecycle);
  v_cause := jsonb_build_object('event', 'timeout', 'limit', k.key, 'minutes', k.minutes, 'since', k.mark);
  IF v_do.dlq THEN
    v_lacks := tasker.lacks_workers(p_task) AND k.key IN ('max_duration_minutes', 'max_waiting_for_dependencies_minutes');
    PERFORM tasker.dlq_file(ARRAY[p_task], ARRAY[CASE WHEN v_lacks THEN 'worker_unavailable' ELSE 'staleness_timeout' END::tasker.dlq_reason], ARRAY[k.key],
                            ARRAY[jsonb_build_object('limit', k.key, 'minutes', k.minutes, 'since', k.mark)]);
  END IF;
  UPDATE tasker.task_deadlines SET fired = fired || jsonb_build_object(k.key, k.mark) WHERE task_id = p_task;
  RETURN CASE WHEN v_do.fail THEN v_cause END;
END $$;

-- When to look at an unfinished task again: in the past, if a limit has been passed and has not acted.
CREATE FUNCTION tasker.next_deadline(p_task bigint) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT least(tasker.next_look(tp.lifecycle, clock_timestamp()),
               (SELECT min(l.since + l.minutes * interval '1 minute') FROM tasker.task_limits(p_task) l WHERE d.fired ->> l.key IS DISTINCT FROM tasker.rfc3339(l.since)))
  FROM tasker.task_deadlines d JOIN tasker.tasks t USING (task_id) JOIN tasker.templates tp USING (template_id) WHERE d.task_id = p_task
$$;

CREATE FUNCTION tasker.is_live(p_task bigint) RETURNS boolean LANGUAGE sql STABLE AS
$$ SELECT EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.task_id = p_task AND t.state NOT IN ('complete', 'error', 'cancelled', 'resolved_manually')) $$;

-- Look at the tasks whose time has come, at most p_limit, one node at a time. Returns how many were looked at, and how many timed out; -1 if another node is at it.
CREATE FUNCTION tasker.sweep_deadlines(p_node int, p_limit int, OUT looked int, OUT over int) LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  v_ids bigint[]; v_at timestamptz[]; v_done bigint[]; v_over bigint[]; v_fail bigint[] := '{}'; v_causes jsonb[] := '{}'; v_id bigint; v_cause jsonb;
BEGIN
  over := 0;
  IF NOT pg_try_advisory_xact_lock(x'7461736d'::int, 1) THEN
    looked := -1;
    RETURN;
  END IF;
  SELECT array_agg(x.task_id) INTO v_ids FROM (
    SELECT d.task_id FROM tasker.task_deadlines d WHERE d.due_at <= now() ORDER BY d.due_at LIMIT p_limit) x;
  looked := coalesce(cardinality(v_ids), 0);
  IF looked = 0 THEN
    RETURN;
  END IF;

  -- What is finished, or over a limit, is looked at again under its row lock: someone may just be taking it up.
  SELECT array_agg(x.id ORDER BY x.id) FILTER (WHERE x.at <= clock_timestamp()), array_agg(x.id) FILTER (WHERE x.at > clock_timestamp()), array_agg(x.at) FILTER (WHERE x.at > clock_timestamp())
  INTO v_over, v_ids, v_at
  FROM unnest(v_ids) AS u(id) CROSS JOIN LATERAL (SELECT u.id, CASE WHEN tasker.is_live(u.id) THEN tasker.next_deadline(u.id) ELSE '-infinity' END AS at OFFSET 0) x;
  IF v_over IS NOT NULL THEN
    PERFORM 1 FROM (SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY (v_over) ORDER BY t.task_id FOR NO KEY UPDATE) x;
    -- Finished or removed: no timer any more. What was noted about a task that went well after all is closed.
    v_done := ARRAY(SELECT u.id FROM unnest(v_over) AS u(id) WHERE NOT tasker.is_live(u.id));
    DELETE FROM tasker.task_deadlines d WHERE d.task_id = ANY (v_done);
    UPDATE tasker.dlq d SET status = 'manually_resolved', resolved_by = 'taskerd', resolved_at = clock_timestamp(), updated_at = clock_timestamp(), notes = coalesce(d.notes, 'the task completed')
    WHERE d.task_id = ANY (v_done) AND d.status = 'pending' AND d.reason IN ('staleness_timeout', 'worker_unavailable')
      AND EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.task_id = d.task_id AND t.state = 'complete');
    FOREACH v_id IN ARRAY v_over LOOP
      CONTINUE WHEN v_id = ANY (v_done);
      v_cause := tasker.time_out(v_id);
      over := over + 1;
      IF v_cause IS NOT NULL THEN
        v_fail := v_fail || v_id;
        v_causes := v_causes || v_cause;
      ELSE
        v_ids := v_ids || v_id;
        v_at := v_at || tasker.next_deadline(v_id);
      END IF;
    END LOOP;
    PERFORM tasker.fail_tasks(p_node, v_fail, v_causes) WHERE v_fail <> '{}';
    DELETE FROM tasker.task_deadlines d WHERE d.task_id = ANY (v_fail);
  END IF;
  UPDATE tasker.task_deadlines d SET due_at = n.at
  FROM (SELECT x.c, u.at FROM unnest(v_ids, v_at) AS u(id, at) CROSS JOIN LATERAL (SELECT y.ctid AS c FROM tasker.task_deadlines y WHERE y.task_id = u.id OFFSET 0) x) n
  WHERE d.ctid = n.c;
END $$;

-- Unfinished tasks under limits, the stalest first: healthy below 80 % of the limit that is nearest to be passed, warning, stale.
CREATE FUNCTION tasker.api_dlq_staleness(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('tasks', coalesce(jsonb_agg(jsonb_build_object('task_uuid', x.task_uuid, 'namespace', x.ns, 'name', x.name, 'version', x.version, 'state', x.state,
           'limit', x.key, 'minutes', x.minutes, 'since', tasker.rfc3339(x.since), 'percent', x.percent, 'health', x.health, 'action', x.action, 'in_dlq', x.in_dlq) ORDER BY x.percent DESC, x.task_id), '[]'))
  FROM (
    SELECT t.task_id, t.task_uuid, n.name AS ns, tp.name, tp.version, t.state, l.key, l.minutes, l.since, g.percent, h.health,
           CASE WHEN o.dlq AND o.fail THEN 'dlq_and_error' WHEN o.dlq THEN 'dlq' WHEN o.fail THEN 'error' ELSE 'none' END AS action,
           EXISTS (SELECT 1 FROM tasker.dlq q WHERE q.task_id = t.task_id AND q.status = 'pending') AS in_dlq
    FROM tasker.task_deadlines d
    JOIN tasker.tasks t USING (task_id) JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
    CROSS JOIN LATERAL (SELECT x.* FROM tasker.task_limits(t.task_id) x ORDER BY (clock_timestamp() - x.since) / x.minutes DESC LIMIT 1) l
    CROSS JOIN LATERAL (SELECT greatest(0, round((100 * extract(epoch FROM clock_timestamp() - l.since) / (60 * l.minutes))::numeric, 1)) AS percent) g
    CROSS JOIN LATERAL (SELECT CASE WHEN g.percent < 80 THEN 'healthy' WHEN g.percent < 100 THEN 'warning' ELSE 'stale' END AS health) h
    CROSS JOIN LATERAL tasker.on_timeout(tp.lifecycle) o
    WHERE (p ->> 'namespace' IS NULL OR n.name = p ->> 'namespace') AND tasker.is_within(p, n.name) AND (p ->> 'health' IS NULL OR h.health = p ->> 'health')
    ORDER BY g.percent DESC, t.task_id LIMIT coalesce((p ->> 'limit')::int, 100)) x
$$;

-- Doctor: what this file adds to the proof.
CREATE FUNCTION tasker.doctor_lifecycle() RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_array(
    tasker.doctor_check('blocked_tasks_are_filed', 'a blocked task has a dead-letter entry written since it was blocked',
      $q$ SELECT t.task_uuid FROM tasker.tasks t WHERE t.state = 'blocked_by_failures' AND NOT EXISTS (
            SELECT 1 FROM tasker.dlq d WHERE d.task_id = t.task_id AND greatest(d.created_at, d.updated_at) >= (
              SELECT max(tr.at) FROM tasker.task_transitions tr WHERE tr.task_id = t.task_id AND tr.to_state = 'blocked_by_failures')) $q$),
    tasker.doctor_check('open_entries_have_a_cause', 'an open dead-letter entry about failed steps belongs to a blocked task, any other to a task that exists and was not ended by hand',
      $q$ SELECT d.dlq_uuid, d.reason, t.task_uuid, t.state FROM tasker.dlq d LEFT JOIN tasker.tasks t USING (task_id)
          WHERE d.status = 'pending' AND (t.task_id IS NULL OR d.reason IN ('max_retries_exceeded', 'dependency_cycle_detected') AND t.state <> 'blocked_by_failures'
            OR d.reason <> 'manual_dlq' AND t.state IN ('cancelled', 'resolved_manually')) $q$),
    tasker.doctor_check('deadlines_exist', 'an unfinished task whose template has limits has a timer',
      $q$ SELECT t.task_uuid, t.state FROM tasker.tasks t JOIN tasker.templates tp USING (template_id)
          WHERE tp.lifecycle IS NOT NULL AND t.state NOT IN ('complete', 'error', 'cancelled', 'resolved_manually')
            AND NOT EXISTS (SELECT 1 FROM tasker.task_deadlines d WHERE d.task_id = t.task_id) $q$),
    tasker.doctor_check('deadlines_are_not_late', 'a timer goes off before a limit that has not acted is passed',
      $q$ SELECT t.task_uuid, d.due_at, l.key, l.since FROM tasker.task_deadlines d JOIN tasker.tasks t USING (task_id) CROSS JOIN LATERAL tasker.task_limits(t.task_id) l
          WHERE d.fired ->> l.key IS DISTINCT FROM tasker.rfc3339(l.since) AND d.due_at > l.since + l.minutes * interval '1 minute' $q$),
    tasker.doctor_check('nothing_is_left_of_removed_tasks', 'steps, attempts, transitions, entries and timers belong to a task, which is not in the archive',
      $q$ SELECT 'task' AS what, t.task_id FROM tasker.tasks t JOIN tasker.archived_tasks a USING (task_id)
          UNION ALL SELECT 'step', x.task_id FROM tasker.steps x WHERE NOT EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.task_id = x.task_id)
          UNION ALL SELECT 'attempt', x.task_id FROM tasker.step_attempts x WHERE NOT EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.task_id = x.task_id)
          UNION ALL SELECT 'transition', x.task_id FROM tasker.task_transitions x WHERE NOT EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.task_id = x.task_id)
          UNION ALL SELECT 'action', x.task_id FROM tasker.operator_actions x WHERE x.task_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.task_id = x.task_id)
          UNION ALL SELECT 'batch', x.task_id FROM tasker.batches x WHERE NOT EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.task_id = x.task_id)
          UNION ALL SELECT 'returned', x.task_id FROM tasker.batch_returns x WHERE NOT EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.task_id = x.task_id)
          UNION ALL SELECT 'entry', x.task_id FROM tasker.dlq x WHERE NOT EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.task_id = x.task_id)
          UNION ALL SELECT 'timer', x.task_id FROM tasker.task_deadlines x WHERE NOT EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.task_id = x.task_id) $q$))
$$;

-- Retention --------------------------------------------------------------------------------------------------------------

-- What a namespace wants done with its finished tasks, by state; what is not said here, the daemons' options say.
CREATE TABLE tasker.retention (
  namespace_id int NOT NULL REFERENCES tasker.namespaces ON DELETE CASCADE,
  state tasker.task_state NOT NULL CHECK (state IN ('complete', 'error', 'cancelled', 'resolved_manually')),
  keep interval,                        -- from finished_at on; NULL: for ever
  archive boolean NOT NULL,             -- false: delete
  PRIMARY KEY (namespace_id, state)
);

-- How far the walk over tasker.tasks has come, when the next one begins, and the options of the daemon that walked last.
CREATE TABLE tasker.retention_walk (
  one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
  at_id bigint NOT NULL DEFAULT 0,       -- tasks up to this one have been looked at
  next_at timestamptz NOT NULL DEFAULT '-infinity',
  ended_at timestamptz NOT NULL DEFAULT '-infinity',
  policy jsonb NOT NULL DEFAULT '{}',
  asked bigint NOT NULL DEFAULT 0        -- goes up when rules change: a walk that was under way then is followed by another at once
) WITH (fillfactor = 50);
INSERT INTO tasker.retention_walk DEFAULT VALUES;

-- The rule for a state of a namespace's tasks. policy: {"complete": minutes, "error": ..., "archived": ..., "delete": boolean}, what is absent is kept for ever.
-- A set, which becomes part of the query that asks for many.
CREATE FUNCTION tasker.retention_rule(p_namespace int, p_state tasker.task_state, p_policy jsonb) RETURNS TABLE (keep interval, archive boolean, own boolean) LANGUAGE sql STABLE ROWS 1 AS $$
  SELECT CASE WHEN r.namespace_id IS NULL THEN (p_policy ->> p_state::text)::int * interval '1 minute' ELSE r.keep END,
         coalesce(r.archive, NOT coalesce((p_policy ->> 'delete')::boolean, false)), r.namespace_id IS NOT NULL
  FROM (SELECT 1) one LEFT JOIN tasker.retention r ON r.namespace_id = p_namespace AND r.state = p_state
$$;

-- Forget finished tasks for good, whose row locks the caller holds.
CREATE FUNCTION tasker.remove_tasks(p_tasks bigint[]) RETURNS void LANGUAGE sql AS $$
  DELETE FROM tasker.dlq x WHERE x.task_id = ANY (p_tasks);
  DELETE FROM tasker.operator_actions x WHERE x.task_id = ANY (p_tasks);
  DELETE FROM tasker.task_deadlines x WHERE x.task_id = ANY (p_tasks);
  DELETE FROM tasker.batches x WHERE x.task_id = ANY (p_tasks);
  DELETE FROM tasker.batch_returns x WHERE x.task_id = ANY (p_tasks);
  DELETE FROM tasker.long_actions x WHERE x.task_id = ANY (p_tasks);
  DELETE FROM tasker.step_attempts x WHERE x.task_id = ANY (p_tasks);
  DELETE FROM tasker.task_transitions x WHERE x.task_id = ANY (p_tasks);
  DELETE FROM tasker.steps x WHERE x.task_id = ANY (p_tasks);
  UPDATE tasker.templates tp SET used = true WHERE NOT tp.used AND tp.template_id IN (SELECT x.template_id FROM tasker.tasks x WHERE x.task_id = ANY (p_tasks));
  DELETE FROM tasker.tasks x WHERE x.task_id = ANY (p_tasks);
$$;

-- p_whole: with all that steps were given and gave, and with their attempts.
CREATE FUNCTION tasker.archive_some(p_tasks bigint[], p_whole boolean) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tasker.archived_tasks (task_id, task_uuid, whole, task, steps, attempts, transitions, actions, dlq)
  SELECT t.task_id, t.task_uuid, p_whole, t.task,
         CASE WHEN p_whole THEN ARRAY(SELECT s FROM tasker.steps s WHERE s.task_id = t.task_id ORDER BY s.step_no)
              ELSE ARRAY(SELECT ROW(s.task_id, s.step_no, s.template_no, s.state, s.pending_parents, s.attempts, s.fence, s.node_no, s.ready_at, s.claimed_at, s.finished_at, s.retry_at, NULL, s.result_bytes, NULL, NULL, NULL)::tasker.steps
                         FROM tasker.steps s WHERE s.task_id = t.task_id ORDER BY s.step_no) END,
         CASE WHEN p_whole THEN ARRAY(SELECT a FROM tasker.step_attempts a WHERE a.task_id = t.task_id) ELSE '{}' END,
         ARRAY(SELECT x FROM tasker.task_transitions x WHERE x.task_id = t.task_id),
         ARRAY(SELECT x FROM tasker.operator_actions x WHERE x.task_id = t.task_id),
         (SELECT jsonb_agg(tasker.dlq_object(d, true) ORDER BY d.dlq_id) FROM tasker.dlq d WHERE d.task_id = t.task_id)
  FROM unnest(p_tasks) AS u(id)
  CROSS JOIN LATERAL (SELECT x.task_id, x.task_uuid, x AS task FROM tasker.tasks x WHERE x.task_id = u.id OFFSET 0) t
  ON CONFLICT DO NOTHING
$$;

-- A value in the database has a largest size (1 GiB). A task that is larger is archived without what its steps gave, so that it does not stop the walk.
CREATE FUNCTION tasker.archive_tasks(p_tasks bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_large bigint[] := ARRAY(SELECT s.task_id FROM tasker.steps s WHERE s.task_id = ANY (p_tasks) GROUP BY s.task_id HAVING sum(s.result_bytes::bigint) > 200 * 1048576);
BEGIN
  PERFORM tasker.archive_some(CASE WHEN v_large = '{}' THEN p_tasks ELSE ARRAY(SELECT u.id FROM unnest(p_tasks) AS u(id) WHERE u.id <> ALL (v_large)) END, true);
  IF v_large <> '{}' THEN
    PERFORM tasker.archive_some(v_large, false);
  END IF;
EXCEPTION WHEN program_limit_exceeded OR internal_error OR out_of_memory THEN -- as it is told depends on which value it is
  IF cardinality(p_tasks) = 1 THEN
    PERFORM tasker.archive_some(p_tasks, false);
  ELSE
    FOR i IN 1 .. cardinality(p_tasks) LOOP
      PERFORM tasker.archive_tasks(p_tasks[i:i]);
    END LOOP;
  END IF;
END $$;

-- One stretch of the walk: look at up to twice p_limit tasks in the order of their ids, remove those whose time is over, at most p_limit or about 5000 steps. A task with an
-- open dead-letter entry stays. Returns whether the walk goes on.
CREATE FUNCTION tasker.walk_tasks(p_policy jsonb, p_youngest interval, p_limit int, INOUT at_id bigint, OUT removed int, OUT more boolean) LANGUAGE plpgsql AS $$
DECLARE
  v_seen int; v_last bigint; v_old boolean; v_cut bigint; v_ids bigint[]; v_archive bigint[];
BEGIN
  removed := 0;
  WITH page AS MATERIALIZED (
    SELECT t.task_id, t.template_id, t.state, t.created_at, t.finished_at FROM tasker.tasks t WHERE t.task_id > at_id ORDER BY t.task_id LIMIT 2 * p_limit),
  due AS MATERIALIZED (
    SELECT p.task_id, r.archive
    FROM page p
    CROSS JOIN LATERAL (SELECT x.namespace_id FROM tasker.templates x WHERE x.template_id = p.template_id OFFSET 0) tp
    CROSS JOIN LATERAL tasker.retention_rule(tp.namespace_id, p.state, p_policy) r
    WHERE p.state IN ('complete', 'error', 'cancelled', 'resolved_manually') AND p.finished_at + r.keep <= now()
      AND NOT EXISTS (SELECT 1 FROM tasker.dlq d WHERE d.task_id = p.task_id AND d.status = 'pending')
    ORDER BY p.task_id LIMIT p_limit + 1),
  over AS MATERIALIZED (
    SELECT d.task_id, d.archive, row_number() OVER w AS n, sum(c.steps) OVER w - c.steps AS steps_before
    FROM due d
    CROSS JOIN LATERAL (SELECT count(*) AS steps FROM (SELECT 1 FROM tasker.steps s WHERE s.task_id = d.task_id LIMIT 5001) x) c
    WINDOW w AS (ORDER BY d.task_id))
  SELECT (SELECT count(*) FROM page), (SELECT max(p.task_id) FROM page p), (SELECT bool_or(p.created_at <= now() - p_youngest) FROM page p),
         (SELECT min(o.task_id) FROM over o WHERE o.n > p_limit OR o.steps_before > 5000),
         array_agg(o.task_id ORDER BY o.task_id), array_agg(o.task_id ORDER BY o.task_id) FILTER (WHERE o.archive)
  INTO v_seen, v_last, v_old, v_cut, v_ids, v_archive FROM over o WHERE o.n <= p_limit AND o.steps_before <= 5000;
  IF v_ids IS NOT NULL THEN
    -- Whoever acts on one of them at this moment keeps it: the next walk comes by again.
    SELECT array_agg(x.task_id) INTO v_ids FROM (
      SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY (v_ids) AND t.state IN ('complete', 'error', 'cancelled', 'resolved_manually') ORDER BY t.task_id FOR UPDATE SKIP LOCKED) x;
    PERFORM tasker.archive_tasks(ARRAY(SELECT unnest(v_archive) INTERSECT SELECT unnest(v_ids))) WHERE v_archive IS NOT NULL;
    PERFORM tasker.remove_tasks(v_ids);
    removed := coalesce(cardinality(v_ids), 0);
  END IF;
  at_id := coalesce(v_cut - 1, v_last, at_id);
  -- Ids are given in the order of creation, near enough: behind a page of tasks that are all too young there is nothing to do.
  more := v_cut IS NOT NULL OR v_seen = 2 * p_limit AND v_old;
END $$;

-- What else grows: sessions of workers long gone, archived tasks and archived messages whose time is over. At most p_limit of each; says whether there may be more.
CREATE FUNCTION tasker.sweep_leftovers(p_policy jsonb, p_limit int) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  v_keep interval := (p_policy ->> 'archived')::int * interval '1 minute';
  v_n bigint; v_most bigint := 0; q record;
BEGIN
  DELETE FROM tasker.workers w WHERE w.worker_uuid = ANY (ARRAY(SELECT x.worker_uuid FROM tasker.workers x WHERE x.disconnected_at < now() - interval '1 day' LIMIT p_limit));
  GET DIAGNOSTICS v_most = ROW_COUNT;
  IF v_keep IS NOT NULL THEN
    DELETE FROM tasker.archived_tasks a WHERE a.task_id = ANY (ARRAY(SELECT x.task_id FROM tasker.archived_tasks x WHERE x.archived_at <= now() - v_keep ORDER BY x.archived_at LIMIT p_limit));
    GET DIAGNOSTICS v_n = ROW_COUNT;
    v_most := greatest(v_most, v_n);
    FOR q IN
      SELECT m.queue_name FROM pgmq.meta m
      WHERE m.queue_name IN (SELECT h.queue_name FROM tasker.handlers h UNION ALL SELECT n.event_queue FROM tasker.namespaces n) AND to_regclass(format('pgmq.%I', 'a_' || m.queue_name)) IS NOT NULL
    LOOP
      EXECUTE format('DELETE FROM pgmq.%1$I a WHERE a.msg_id = ANY (ARRAY(SELECT x.msg_id FROM pgmq.%1$I x WHERE x.archived_at <= now() - $1 ORDER BY x.archived_at LIMIT $2))', 'a_' || q.queue_name)
        USING v_keep, p_limit;
      GET DIAGNOSTICS v_n = ROW_COUNT;
      v_most := greatest(v_most, v_n);
    END LOOP;
  END IF;
  RETURN v_most >= p_limit;
END $$;

-- Go on with the walk, as a transaction of its own. Returns how many tasks were removed, and whether there is more to do now. A new walk begins a twentieth of the shortest time that
-- anything is kept after the last one, an hour at most.
CREATE FUNCTION tasker.retain(p_node int, p_policy jsonb, OUT did int, OUT more boolean) LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  v_position bigint; v_asked bigint; v_rest boolean; v_youngest interval;
BEGIN
  did := 0;
  more := false;
  IF NOT pg_try_advisory_xact_lock(x'7461736d'::int, 2) THEN
    RETURN;
  END IF;
  -- Other options have a walk begin early, but daemons that do not agree cannot have one begin every moment.
  SELECT w.at_id, w.asked, w.next_at > now() AND (w.policy = p_policy OR w.ended_at > now() - interval '1 minute') INTO v_position, v_asked, v_rest FROM tasker.retention_walk w;
  IF v_rest THEN
    RETURN;
  END IF;
  SELECT least((SELECT min(e.value::int) FROM jsonb_each_text(p_policy) e WHERE e.key IN ('complete', 'error', 'cancelled', 'resolved_manually')) * interval '1 minute',
               (SELECT min(r.keep) FROM tasker.retention r)) INTO v_youngest;
  IF v_youngest IS NOT NULL THEN
    SELECT w.at_id, w.removed, w.more INTO v_position, did, more FROM tasker.walk_tasks(p_policy, v_youngest, 500, v_position) w;
  END IF;
  IF NOT more THEN
    v_position := 0;
    more := tasker.sweep_leftovers(p_policy, 5000);
  END IF;
  UPDATE tasker.retention_walk w SET at_id = CASE WHEN w.asked = v_asked THEN v_position ELSE 0 END, policy = p_policy,
    ended_at = CASE WHEN more THEN w.ended_at ELSE now() END,
    next_at = CASE WHEN more OR w.asked <> v_asked THEN '-infinity' ELSE now() + least(interval '1 hour', v_youngest / 20) END;
END $$;

-- namespace.retention: {"namespace", "state", and "keep_minutes", "forever" or "inherit", "action"}. Without one of them: how it stands.
CREATE FUNCTION tasker.api_namespace_retention(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_ns int; v_policy jsonb;
  v_states text[] := '{complete,error,cancelled,resolved_manually}';
  v_set boolean := p ->> 'keep_minutes' IS NOT NULL OR coalesce((p ->> 'forever')::boolean, false);
  v_inherit boolean := coalesce((p ->> 'inherit')::boolean, false);
BEGIN
  SELECT n.namespace_id INTO v_ns FROM tasker.namespaces n WHERE n.name = p ->> 'namespace';
  IF v_ns IS NULL THEN
    RAISE EXCEPTION 'no namespace %', p ->> 'namespace' USING ERRCODE = 'TK404';
  ELSIF p ->> 'state' IS NOT NULL AND NOT p ->> 'state' = ANY (v_states) THEN
    RAISE EXCEPTION 'state % is not one of %', quote_literal(left(p ->> 'state', 40)), array_to_string(v_states, ', ') USING ERRCODE = 'TK400', COLUMN = 'state';
  ELSIF p ->> 'action' IS NOT NULL AND p ->> 'action' NOT IN ('archive', 'delete') THEN
    RAISE EXCEPTION 'action % is neither archive nor delete', quote_literal(left(p ->> 'action', 40)) USING ERRCODE = 'TK400', COLUMN = 'action';
  ELSIF (p ->> 'keep_minutes' IS NOT NULL)::int + coalesce((p ->> 'forever')::boolean, false)::int + v_inherit::int > 1 OR p ->> 'action' IS NOT NULL AND NOT v_set THEN
    RAISE EXCEPTION 'one of keep_minutes, forever and inherit is to be given, and action only with the first two' USING ERRCODE = 'TK400', COLUMN = 'keep_minutes';
  END IF;
  SELECT w.policy INTO v_policy FROM tasker.retention_walk w;
  IF p ->> 'state' IS NOT NULL AND (v_set OR v_inherit) THEN
    v_states := ARRAY[p ->> 'state'];
  END IF;
  IF v_set THEN
    INSERT INTO tasker.retention (namespace_id, state, keep, archive)
    SELECT v_ns, s.state::tasker.task_state, (p ->> 'keep_minutes')::int * interval '1 minute', CASE WHEN p ->> 'action' IS NULL THEN d.archive ELSE p ->> 'action' = 'archive' END
    FROM unnest(v_states) AS s(state) CROSS JOIN LATERAL tasker.retention_rule(v_ns, s.state::tasker.task_state, v_policy) d
    ON CONFLICT (namespace_id, state) DO UPDATE SET keep = excluded.keep, archive = excluded.archive;
  ELSIF v_inherit THEN
    DELETE FROM tasker.retention r WHERE r.namespace_id = v_ns AND r.state = ANY (v_states::tasker.task_state[]);
  END IF;
  IF v_set OR v_inherit THEN
    UPDATE tasker.retention_walk w SET next_at = '-infinity', at_id = 0, asked = w.asked + 1;
    PERFORM tasker.note_action(tasker.actor_of(p), 'namespace.retention', NULL, v_ns, NULL, (p - 'by' - 'namespace' - 'reason' - 'operator')::text);
  END IF;
  RETURN jsonb_build_object('namespace', p ->> 'namespace', 'rules', (
    SELECT jsonb_agg(jsonb_build_object('state', s.state, 'keep_minutes', (extract(epoch FROM d.keep) / 60)::bigint, 'action', CASE WHEN d.archive THEN 'archive' ELSE 'delete' END, 'own', d.own) ORDER BY s.n)
    FROM unnest('{complete,error,cancelled,resolved_manually}'::text[]) WITH ORDINALITY AS s(state, n) CROSS JOIN LATERAL tasker.retention_rule(v_ns, s.state::tasker.task_state, v_policy) d));
END $$;
