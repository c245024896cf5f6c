-- What has happened to tasks and steps, and the reference's tables as views.

-- A uuid of what has none of its own, made of its names.
CREATE FUNCTION tasker.derived_uuid(VARIADIC p text[]) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT md5(array_to_string(p, chr(31)))::uuid $$;

-- Tasks ------------------------------------------------------------------------------------------------------------------

-- What an answer says of an entry of the history.
CREATE FUNCTION tasker.transition_item(p_from tasker.task_state, p_to tasker.task_state, p_at timestamptz, p_node text, p_cause jsonb) RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT jsonb_build_object('kind', 'transition', 'from', p_from, 'to', p_to, 'at', tasker.rfc3339(p_at), 'node', p_node, 'cause', p_cause) $$;

CREATE FUNCTION tasker.attempt_item(a tasker.step_attempts, p_task uuid, p_step text, p_node text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('kind', 'attempt', 'audit_uuid', tasker.derived_uuid('audit', p_task::text, a.step_no::text, a.fence::text), 'step', p_step, 'step_uuid', tasker.step_uuid(p_task, a.step_no), 'attempt', a.attempt,
    'outcome', a.outcome, 'node', p_node, 'worker_uuid', a.worker_uuid, 'ready_at', tasker.rfc3339(a.ready_at), 'started_at', tasker.rfc3339(a.claimed_at),
    'finished_at', tasker.rfc3339(a.finished_at), 'recorded_at', tasker.rfc3339(a.recorded_at), 'execution_ms', a.execution_ms, 'error', a.error, 'metadata', a.metadata)
$$;

CREATE FUNCTION tasker.action_item(o tasker.operator_actions, p_step text, p_node text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('kind', 'action', 'action', o.action, 'at', tasker.rfc3339(o.at), 'step', CASE WHEN o.step_no IS NOT NULL THEN p_step END, 'from', o.from_state, 'to', o.to_state,
    'reason', o.reason, 'operator', o.operator, 'uid', o.uid, 'user', o.user_name, 'pid', o.pid, 'node', p_node) || CASE WHEN o.metadata IS NULL THEN '{}' ELSE jsonb_build_object('metadata', o.metadata) END
$$;

-- Where an item of a history stands: (microseconds, rank, step, number), as the text of a cursor.
CREATE TYPE tasker.history_place AS (at timestamptz, rank int, step_no int, seq bigint);

CREATE FUNCTION tasker.place_text(p tasker.history_place) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT concat_ws('.', round((extract(epoch FROM p.at) * 1000000)::numeric), p.rank, p.step_no, p.seq) $$;

CREATE FUNCTION tasker.place_of(p_cursor text) RETURNS tasker.history_place LANGUAGE plpgsql STABLE AS $$
DECLARE
  v bigint[];
BEGIN
  IF p_cursor IS NULL THEN
    RETURN ROW('-infinity', 0, 0, 0)::tasker.history_place;
  ELSIF p_cursor !~ '^[0-9]{1,16}(\.[0-9]{1,9}){2}\.[0-9]{1,18}$' THEN
    RAISE EXCEPTION 'unknown cursor %', quote_literal(left(p_cursor, 40)) USING ERRCODE = 'TK400', COLUMN = 'cursor';
  END IF;
  v := string_to_array(p_cursor, '.');
  RETURN ROW(timestamptz 'epoch' + v[1] * interval '1 microsecond', v[2], v[3], v[4])::tasker.history_place;
END $$;

-- Everything about a task, in order, as {"kind": "transition" | "attempt" | "action", ...}: at most p_limit items after a place. What is not among them is not made, nor even sorted.
CREATE FUNCTION tasker.history_items(p_task bigint, p_after tasker.history_place, p_limit bigint) RETURNS TABLE (n bigint, item jsonb, place text) LANGUAGE sql STABLE AS $$
  SELECT row_number() OVER (ORDER BY k.at, k.rank, k.step_no, k.seq), CASE k.rank WHEN 2 THEN a.item WHEN 1 THEN o.item ELSE k.item END, tasker.place_text(ROW(k.at, k.rank, k.step_no, k.seq)::tasker.history_place)
  FROM (
    SELECT x.*
    FROM (
      SELECT h.at, CASE WHEN h.from_state IS NULL THEN 0 ELSE 3 END AS rank, 0 AS step_no, 0::bigint AS seq, NULL::tid AS row,
             tasker.transition_item(h.from_state, h.to_state, h.at, nd.node_name, h.cause) AS item
      FROM tasker.task_history h LEFT JOIN tasker.nodes nd ON nd.node_no = h.node_no WHERE h.task_id = p_task AND h.at >= p_after.at
      UNION ALL
      SELECT a.recorded_at, 2, a.step_no, a.fence::bigint, a.ctid, NULL FROM tasker.step_attempts a WHERE a.task_id = p_task AND a.recorded_at >= p_after.at
      UNION ALL
      SELECT o.at, 1, coalesce(o.step_no, 0), o.action_id, o.ctid, NULL FROM tasker.operator_actions o WHERE o.task_id = p_task AND o.at >= p_after.at) x
    WHERE (x.at, x.rank, x.step_no, x.seq) > (p_after.at, p_after.rank, p_after.step_no, p_after.seq)
    ORDER BY x.at, x.rank, x.step_no, x.seq LIMIT p_limit) k
  CROSS JOIN LATERAL (SELECT x.task_uuid, x.template_id FROM tasker.tasks x WHERE x.task_id = p_task OFFSET 0) t
  LEFT JOIN LATERAL (SELECT tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs) AS name FROM tasker.steps s
                     CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts WHERE s.task_id = p_task AND s.step_no = k.step_no OFFSET 0) s ON k.rank IN (1, 2)
  LEFT JOIN LATERAL (
    SELECT tasker.attempt_item(a, t.task_uuid, s.name, nd.node_name) AS item
    FROM tasker.step_attempts a LEFT JOIN tasker.nodes nd ON nd.node_no = a.node_no WHERE k.rank = 2 AND a.ctid = k.row OFFSET 0) a ON true
  LEFT JOIN LATERAL (
    SELECT tasker.action_item(o, s.name, nd.node_name) AS item
    FROM tasker.operator_actions o LEFT JOIN tasker.nodes nd ON nd.node_no = o.node_no WHERE k.rank = 1 AND o.ctid = k.row OFFSET 0) o ON true
  ORDER BY 1
$$;

-- The same of an archived task, whole.
CREATE FUNCTION tasker.archived_items(p_task bigint) RETURNS TABLE (n bigint, item jsonb) LANGUAGE sql STABLE
SET enable_nestloop = off SET enable_hashjoin = on AS $$ -- nobody knows how long an array is
  WITH a AS (SELECT x.* FROM tasker.archived_tasks x WHERE x.task_id = p_task),
  t AS MATERIALIZED (SELECT i.* FROM tasker.task_rows(p_task) i),
  r AS (SELECT x.* FROM a CROSS JOIN LATERAL unnest(a.transitions) AS x),
  s AS MATERIALIZED (
    SELECT x.step_no, tasker.step_name(ts.name, x.step_no, x.template_no, x.inputs) AS name
    FROM t CROSS JOIN a CROSS JOIN LATERAL unnest(a.steps) AS x
    CROSS JOIN LATERAL (SELECT i.name FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = x.template_no OFFSET 0) ts)
  SELECT row_number() OVER (ORDER BY x.at, x.rank, x.step_no, x.seq), x.item
  FROM (
    SELECT h.at, h.rank, 0 AS step_no, 0::bigint AS seq, tasker.transition_item(h.from_state, h.to_state, h.at, nd.node_name, h.cause) AS item
    FROM (
      SELECT t.created_at AS at, 0 AS rank, NULL::tasker.task_state AS from_state, tasker.born_as(t) AS to_state, t.created_by_node AS node_no, '{"event": "created"}'::jsonb AS cause FROM t
      UNION ALL SELECT r.at, 3, r.from_state, r.to_state, r.node_no, r.cause FROM r
      UNION ALL SELECT t.finished_at, 3, coalesce((SELECT r.to_state FROM r ORDER BY r.at DESC LIMIT 1), tasker.born_as(t)), 'complete', t.finished_by_node, '{"event": "all_steps_successful"}'
      FROM t WHERE t.state = 'complete' AND t.finished_at <> t.created_at) h
    LEFT JOIN tasker.nodes nd ON nd.node_no = h.node_no
    UNION ALL
    SELECT x.recorded_at, 2, x.step_no, x.fence, tasker.attempt_item(x, t.task_uuid, s.name, nd.node_name)
    FROM t CROSS JOIN a CROSS JOIN LATERAL unnest(a.attempts) AS x LEFT JOIN s ON s.step_no = x.step_no LEFT JOIN tasker.nodes nd ON nd.node_no = x.node_no
    UNION ALL
    SELECT x.at, 1, coalesce(x.step_no, 0), x.action_id, tasker.action_item(x, s.name, nd.node_name)
    FROM a CROSS JOIN LATERAL unnest(a.actions) AS x LEFT JOIN s ON s.step_no = x.step_no LEFT JOIN tasker.nodes nd ON nd.node_no = x.node_no) x
$$;

-- Operators ----------------------------------------------------------------------------------------------------------------

-- The words of tasker.operator_actions.action.
CREATE FUNCTION tasker.operator_words() RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
  SELECT '{step.reset_for_retry,step.resolve_manually,step.complete_manually,step.skip,task.cancel,task.retry,task.resolve_manually,task.pause,task.resume,task.restore,namespace.pause,
          namespace.resume,namespace.retention,template.apply,queue.purge,worker.drain,dlq.add,dlq.update,token.create,token.revoke}'::text[]
$$;

CREATE FUNCTION tasker.action_object(o tasker.operator_actions) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('at', tasker.rfc3339(o.at), 'action', o.action, 'task_uuid', t.task_uuid, 'step', tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs),
    'step_uuid', tasker.step_uuid(t.task_uuid, o.step_no), 'namespace', n.name, 'from', o.from_state, 'to', o.to_state, 'reason', o.reason, 'operator', o.operator, 'uid', o.uid,
    'user', o.user_name, 'pid', o.pid, 'node', nd.node_name, 'host', nd.host, 'request', o.request_id)
  FROM (SELECT 1) one
  LEFT JOIN tasker.tasks t ON t.task_id = o.task_id
  LEFT JOIN tasker.templates tp ON tp.template_id = t.template_id
  LEFT JOIN tasker.namespaces n ON n.namespace_id = coalesce(o.namespace_id, tp.namespace_id)
  LEFT JOIN tasker.steps s ON s.task_id = o.task_id AND s.step_no = o.step_no
  LEFT JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = s.template_no
  LEFT JOIN tasker.nodes nd ON nd.node_no = o.node_no
$$;

-- The conditions of audit.list on a row o of tasker.operator_actions, as SQL.
CREATE FUNCTION tasker.audit_condition(p jsonb) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_all text[] := ARRAY['true']; v_words text[]; v_task bigint;
  c_time CONSTANT text[] := ARRAY['after', 'o.at >= %L', 'before', 'o.at < %L'];
BEGIN
  IF p ->> 'task_uuid' IS NOT NULL THEN
    SELECT t.task_id INTO v_task FROM tasker.tasks t JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
    WHERE t.task_uuid = (p ->> 'task_uuid')::uuid AND tasker.is_within(p, n.name);
    IF v_task IS NULL THEN -- or it is archived: with what was done to it
      RAISE EXCEPTION 'no task %', p ->> 'task_uuid' USING ERRCODE = 'TK404', COLUMN = 'task_uuid';
    END IF;
    v_all := v_all || format('o.task_id = %L', v_task);
  END IF;
  IF p ->> 'action' IS NOT NULL THEN
    v_words := ARRAY(SELECT w FROM unnest(tasker.operator_words()) w WHERE p ->> 'action' IN (w, split_part(w, '.', 1)));
    IF v_words = '{}' THEN
      RAISE EXCEPTION 'unknown action %: one of %, or what stands before the dot, is expected', quote_literal(left(p ->> 'action', 40)), array_to_string(tasker.operator_words(), ', ')
        USING ERRCODE = 'TK400', COLUMN = 'action';
    END IF;
    v_all := v_all || format('o.action = ANY (%L)', v_words);
  END IF;
  IF p ->> 'who' IS NOT NULL THEN
    v_all := v_all || format('%L IN (o.operator, o.user_name, o.uid::text)', p ->> 'who');
  END IF;
  IF p ->> 'request' IS NOT NULL THEN
    v_all := v_all || format('o.request_id = %L', p ->> 'request');
  END IF;
  IF p ->> 'namespace' IS NOT NULL OR p -> 'within' IS NOT NULL THEN -- what is of none is for those who may see all
    v_all := v_all || format('coalesce(o.namespace_id, (SELECT tp.namespace_id FROM tasker.tasks t JOIN tasker.templates tp USING (template_id) WHERE t.task_id = o.task_id)) = ANY (%L)',
      ARRAY(SELECT n.namespace_id FROM tasker.namespaces n WHERE (p ->> 'namespace' IS NULL OR n.name = p ->> 'namespace') AND tasker.is_within(p, n.name)));
  END IF;
  FOR i IN 1 .. cardinality(c_time) BY 2 LOOP
    IF p ->> c_time[i] IS NOT NULL THEN
      v_all := v_all || format(c_time[i + 1], (p ->> c_time[i])::timestamptz);
    END IF;
  END LOOP;
  RETURN array_to_string(v_all, ' AND ');
END $$;

-- What was done by hand, the newest first.
CREATE FUNCTION tasker.api_audit_list(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_limit CONSTANT int := coalesce((p ->> 'limit')::int, 50);
  v_below CONSTANT bigint := coalesce(tasker.read_cursor(p, '^[0-9]{1,18}$')::bigint, 9223372036854775807);
  v_ids bigint[];
BEGIN
  EXECUTE format('SELECT ARRAY(SELECT o.action_id FROM tasker.operator_actions o WHERE o.action_id < $1 AND %s ORDER BY o.action_id DESC LIMIT $2)', tasker.audit_condition(p)) INTO v_ids USING v_below, v_limit + 1;
  RETURN jsonb_build_object(
    'actions', coalesce((SELECT jsonb_agg(tasker.action_object(o) ORDER BY o.action_id DESC) FROM unnest(v_ids[1:v_limit]) AS k(id)
                         CROSS JOIN LATERAL (SELECT x.* FROM tasker.operator_actions x WHERE x.action_id = k.id OFFSET 0) o), '[]'),
    'next_cursor', CASE WHEN cardinality(v_ids) > v_limit THEN v_ids[v_limit]::text END);
END $$;

-- Steps ------------------------------------------------------------------------------------------------------------------

-- Every state a step was in, and what was done to it by hand. Each attempt tells of four moments: it became ready, began, the worker's word was read, and it was recorded. What is under
-- way has told of the first ones.
CREATE VIEW tasker.step_history AS
  SELECT s.task_id, s.step_no, e.at, e.rank, e.state, e.event, e.attempt, e.fence, e.node_no, e.worker_uuid, e.detail
  FROM tasker.steps s
  CROSS JOIN LATERAL (
    SELECT t.created_at AS at, 0 AS rank, 'pending'::tasker.step_state AS state, 'created' AS event, NULL::int AS attempt, 0 AS fence, t.created_by_node AS node_no, NULL::uuid AS worker_uuid, NULL::jsonb AS detail
    FROM tasker.tasks t CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
    WHERE t.task_id = s.task_id AND ts.initial AND ts.parents <> '{}'
    UNION ALL
    SELECT m.at, m.rank, m.state, m.event, a.attempt, a.fence, a.node_no, CASE WHEN m.rank > 1 THEN a.worker_uuid END, m.detail
    FROM tasker.step_attempts a
    CROSS JOIN LATERAL (VALUES
      (a.ready_at, 1, 'enqueued'::tasker.step_state, CASE WHEN a.attempt > 1 THEN 'retry_ready' ELSE 'ready' END, NULL::jsonb),
      (a.claimed_at, 2, 'in_progress', 'started', NULL),
      (CASE WHEN a.outcome IN ('success', 'handler_error', 'permanent_error', 'invalid_result') THEN a.finished_at END, 3,
       CASE a.outcome WHEN 'success' THEN 'enqueued_for_orchestration' ELSE 'enqueued_as_error_for_orchestration' END::tasker.step_state, 'finished', NULL),
      (a.recorded_at, 4, CASE WHEN a.outcome = 'success' THEN 'complete' WHEN a.outcome = 'cancelled' THEN 'cancelled' WHEN a.outcome = 'released' THEN 'enqueued'
                              WHEN a.fence = s.fence AND s.state = 'error' OR EXISTS (SELECT 1 FROM tasker.operator_actions o WHERE o.task_id = a.task_id AND o.step_no = a.step_no AND o.from_state = 'error'
                                AND o.at >= a.recorded_at AND NOT EXISTS (SELECT 1 FROM tasker.step_attempts l WHERE l.task_id = a.task_id AND l.step_no = a.step_no AND l.fence > a.fence AND l.recorded_at <= o.at)) THEN 'error' ELSE 'waiting_for_retry' END::tasker.step_state, 'recorded',
       jsonb_strip_nulls(jsonb_build_object('outcome', a.outcome, 'execution_ms', a.execution_ms, 'error', a.error)))) AS m(at, rank, state, event, detail)
    WHERE a.task_id = s.task_id AND a.step_no = s.step_no AND m.at IS NOT NULL
    UNION ALL
    SELECT o.at, 5, o.to_state::tasker.step_state, o.action, NULL, (SELECT coalesce(max(a.fence), 0) FROM tasker.step_attempts a WHERE a.task_id = o.task_id AND a.step_no = o.step_no AND a.recorded_at <= o.at),
           o.node_no, NULL, jsonb_strip_nulls(jsonb_build_object('from', o.from_state, 'reason', o.reason, 'operator', o.operator, 'uid', o.uid, 'user', o.user_name, 'pid', o.pid, 'metadata', o.metadata))
    FROM tasker.operator_actions o WHERE o.task_id = s.task_id AND o.step_no = s.step_no
    UNION ALL
    SELECT m.at, m.rank, m.state, m.event, m.attempt, s.fence + (s.state <> 'in_progress')::int, s.node_no, NULL::uuid, NULL::jsonb
    FROM (VALUES
      (s.ready_at, 1, 'enqueued'::tasker.step_state, CASE WHEN s.attempts - (s.state = 'in_progress')::int > 0 THEN 'retry_ready' ELSE 'ready' END, s.attempts + (s.state <> 'in_progress')::int),
      (CASE WHEN s.state = 'in_progress' THEN s.claimed_at END, 2, 'in_progress', 'started', s.attempts)) AS m(at, rank, state, event, attempt)
    WHERE s.state IN ('enqueued', 'in_progress', 'waiting_for_retry') AND m.at IS NOT NULL AND m.at <= clock_timestamp()) e;

CREATE FUNCTION tasker.step_items(p_task bigint, p_step int) RETURNS TABLE (n bigint, item jsonb) LANGUAGE sql STABLE AS $$
  SELECT row_number() OVER (ORDER BY h.fence, h.rank, h.at),
         jsonb_build_object('at', tasker.rfc3339(h.at), 'state', h.state, 'event', h.event, 'attempt', h.attempt, 'node', nd.node_name, 'worker_uuid', h.worker_uuid) || coalesce(h.detail, '{}')
  FROM tasker.step_history h LEFT JOIN tasker.nodes nd ON nd.node_no = h.node_no
  WHERE h.task_id = p_task AND h.step_no = p_step
$$;

-- A step by its name in the task, or its uuid.
CREATE FUNCTION tasker.step_no_of(p_task bigint, p_step text) RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_no int := tasker.find_step(p_task, p_step);
BEGIN
  IF v_no IS NULL THEN
    RAISE EXCEPTION 'the task has no step %', quote_literal(left(p_step, 200)) USING ERRCODE = 'TK404', COLUMN = 'step';
  END IF;
  RETURN v_no;
END $$;

-- task.history: {"task_uuid", "step", "limit", "cursor"}. A page holds at most `limit` items and about a MiB, but at least one item. Of an archived task the attempts of a step stand for
-- its events.
CREATE FUNCTION tasker.api_task_history(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  a record := tasker.archived_task(p ->> 'task_uuid');
  v_id bigint; v_after tasker.history_place; v_from bigint := 0; v_items jsonb; v_next text; v_more boolean;
  v_limit int := coalesce((p ->> 'limit')::int, 500);
  v_step text := p ->> 'step';
BEGIN
  IF a.task_id IS NULL THEN
    v_id := tasker.task_id_of(p ->> 'task_uuid');
  END IF;
  IF v_id IS NOT NULL AND v_step IS NULL THEN
    v_after := tasker.place_of(p ->> 'cursor');
  ELSE
    v_from := coalesce(tasker.read_cursor(p, '^[0-9]{1,18}$')::bigint, 0);
  END IF;
  WITH items AS (
    SELECT h.n, h.item, h.place FROM tasker.history_items(CASE WHEN v_step IS NULL THEN v_id END, v_after, v_limit + 1) h
    UNION ALL
    SELECT h.n, h.item, h.n::text FROM tasker.step_items(v_id, CASE WHEN v_step IS NOT NULL AND v_id IS NOT NULL THEN tasker.step_no_of(v_id, v_step) END) h WHERE a.task_id IS NULL AND v_step IS NOT NULL
    UNION ALL
    SELECT e.n, e.item, e.n::text FROM tasker.archived_items(a.task_id) e
    WHERE v_step IS NULL OR e.item ->> 'step' = v_step OR e.item ->> 'step_uuid' = v_step),
  sized AS (
    SELECT i.n, i.item, i.place, row_number() OVER w AS k, sum(octet_length(i.item::text)) OVER w AS size FROM items i WHERE i.n > v_from WINDOW w AS (ORDER BY i.n)),
  chosen AS (SELECT s.*, s.k <= v_limit AND (s.size <= 1048576 OR s.k = 1) AS fits FROM sized s)
  SELECT coalesce(jsonb_agg(s.item ORDER BY s.n) FILTER (WHERE s.fits), '[]'), (array_agg(s.place ORDER BY s.n DESC) FILTER (WHERE s.fits))[1], bool_or(NOT s.fits)
  INTO v_items, v_next, v_more FROM chosen s;
  RETURN CASE WHEN v_step IS NULL THEN (
      SELECT jsonb_build_object('transitions', coalesce(jsonb_agg(e.item - 'kind' ORDER BY e.ord) FILTER (WHERE e.item ->> 'kind' = 'transition'), '[]'),
        'attempts', coalesce(jsonb_agg(e.item - 'kind' ORDER BY e.ord) FILTER (WHERE e.item ->> 'kind' = 'attempt'), '[]'),
        'actions', coalesce(jsonb_agg(e.item - 'kind' ORDER BY e.ord) FILTER (WHERE e.item ->> 'kind' = 'action'), '[]'))
      FROM jsonb_array_elements(v_items) WITH ORDINALITY AS e(item, ord))
    ELSE jsonb_build_object('step', v_step, 'events', v_items) END
    || jsonb_build_object('next_cursor', CASE WHEN v_more THEN v_next END);
END $$;

-- The reference's tables --------------------------------------------------------------------------------------------------

-- Read-only, with the names and the essential columns that users of the reference know, for their queries and dashboards. A schema of its own, since `tasks` and others are
-- names of ours with other columns: SET search_path = tasker_views. Identifiers that we have no uuid for are derived from their names. A condition on task_uuid is cheap.
CREATE SCHEMA tasker_views;

CREATE VIEW tasker_views.task_namespaces AS
  SELECT tasker.derived_uuid('namespace', n.name) AS task_namespace_uuid, n.name, n.description, n.created_at, n.created_at AS updated_at FROM tasker.namespaces n;

CREATE VIEW tasker_views.named_tasks AS
  SELECT tasker.derived_uuid('template', n.name, tp.name, tp.version) AS named_task_uuid, tasker.derived_uuid('namespace', n.name) AS task_namespace_uuid, tp.name, tp.version,
         tp.definition ->> 'description' AS description, tp.definition AS configuration, tp.identity_strategy, tp.created_at, tp.created_at AS updated_at
  FROM tasker.templates tp JOIN tasker.namespaces n USING (namespace_id);

CREATE VIEW tasker_views.named_steps AS
  SELECT tasker.derived_uuid('step', x.name) AS named_step_uuid, x.name FROM (SELECT DISTINCT ts.name FROM tasker.template_steps ts) x;

CREATE VIEW tasker_views.named_tasks_named_steps AS
  SELECT tasker.derived_uuid('template', n.name, tp.name, tp.version) AS named_task_uuid, tasker.derived_uuid('step', ts.name) AS named_step_uuid,
         ts.retryable AS default_retryable, ts.max_attempts AS default_max_attempts
  FROM tasker.template_steps ts JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id);

CREATE VIEW tasker_views.tasks AS
  SELECT t.task_uuid, tasker.derived_uuid('template', n.name, tp.name, tp.version) AS named_task_uuid, t.state = 'complete' AS complete, t.state, t.created_at AS requested_at, t.finished_at AS completed_at,
         t.initiator, t.source_system, t.reason, t.tags, t.context, encode(t.identity_key, 'hex') AS identity_hash, t.priority::int AS priority,
         coalesce(t.correlation_id, t.task_uuid::text) AS correlation_id, t.parent_correlation_id, t.created_at, coalesce(t.finished_at, t.created_at) AS updated_at
  FROM tasker.tasks t JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id);

CREATE VIEW tasker_views.workflow_steps AS
  SELECT tasker.step_uuid(t.task_uuid, s.step_no) AS workflow_step_uuid, t.task_uuid, tasker.derived_uuid('step', ts.name) AS named_step_uuid,
         tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs) AS name, s.state, ts.retryable, ts.max_attempts, s.attempts,
         s.state = 'in_progress' AS in_process, s.state IN ('complete', 'resolved_manually', 'cancelled') AS processed, s.finished_at AS processed_at, s.claimed_at AS last_attempted_at,
         CASE WHEN s.state = 'waiting_for_retry' THEN ceil(extract(epoch FROM s.retry_at - s.claimed_at))::int END AS backoff_request_seconds,
         coalesce(s.inputs, ts.handler -> 'initialization') AS inputs, s.result AS results, s.error, s.checkpoint, t.priority::int AS priority,
         t.created_at, greatest(t.created_at, s.ready_at, s.claimed_at, s.finished_at) AS updated_at
  FROM tasker.tasks t JOIN tasker.steps s USING (task_id) JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = s.template_no;

CREATE VIEW tasker_views.workflow_step_edges AS
  SELECT t.task_uuid, tasker.step_uuid(t.task_uuid, p.step_no) AS from_step_uuid, tasker.step_uuid(t.task_uuid, s.step_no) AS to_step_uuid,
         CASE WHEN pt.step_type = 'batchable' AND ts.step_type = 'batch_worker' THEN 'batch_dependency' WHEN pt.step_type = 'batch_worker' THEN 'worker_to_convergence' ELSE 'provides' END AS name
  FROM tasker.tasks t
  JOIN tasker.steps s USING (task_id)
  JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = s.template_no
  JOIN tasker.steps p ON p.task_id = t.task_id AND p.template_no = ANY (ts.parents)
  JOIN tasker.template_steps pt ON pt.template_id = t.template_id AND pt.step_no = p.template_no;

-- processor_uuid stands for the node.
CREATE VIEW tasker_views.task_transitions AS
  SELECT tasker.derived_uuid('transition', x.task_uuid::text, x.sort_key::text) AS task_transition_uuid, x.task_uuid, x.to_state, x.from_state, x.sort_key::int AS sort_key, x.newest = 1 AS most_recent,
         tasker.derived_uuid('node', x.node_name) AS processor_uuid, x.node_name, x.cause AS metadata, x.at AS created_at
  FROM (
    SELECT t.task_uuid, h.to_state, h.from_state, h.at, h.cause, nd.node_name,
           row_number() OVER (PARTITION BY t.task_uuid ORDER BY h.at, h.from_state NULLS FIRST) AS sort_key, row_number() OVER (PARTITION BY t.task_uuid ORDER BY h.at DESC, h.from_state DESC NULLS LAST) AS newest
    FROM tasker.tasks t JOIN tasker.task_history h USING (task_id) LEFT JOIN tasker.nodes nd ON nd.node_no = h.node_no) x;

CREATE VIEW tasker_views.workflow_step_transitions AS
  SELECT tasker.derived_uuid('step transition', x.task_uuid::text, x.step_no::text, x.sort_key::text) AS workflow_step_transition_uuid, tasker.step_uuid(x.task_uuid, x.step_no) AS workflow_step_uuid, x.task_uuid,
         x.state AS to_state, x.from_state, x.sort_key::int AS sort_key, x.next IS NULL AS most_recent,
         jsonb_strip_nulls(jsonb_build_object('event', x.event, 'attempt', x.attempt, 'worker_uuid', x.worker_uuid, 'node', x.node_name)) || coalesce(x.detail, '{}') AS metadata, x.at AS created_at
  FROM (
    SELECT t.task_uuid, h.step_no, h.state, h.event, h.attempt, h.worker_uuid, h.detail, h.at, nd.node_name,
           lag(h.state) OVER w AS from_state, lead(h.state) OVER w AS next, row_number() OVER w AS sort_key
    FROM tasker.tasks t JOIN tasker.step_history h USING (task_id) LEFT JOIN tasker.nodes nd ON nd.node_no = h.node_no
    WINDOW w AS (PARTITION BY t.task_uuid, h.step_no ORDER BY h.fence, h.rank, h.at)) x;

-- Who produced which result.
CREATE VIEW tasker_views.workflow_step_result_audit AS
  SELECT tasker.derived_uuid('audit', t.task_uuid::text, a.step_no::text, a.fence::text) AS workflow_step_result_audit_uuid, tasker.step_uuid(t.task_uuid, a.step_no) AS workflow_step_uuid, t.task_uuid,
         a.attempt, a.outcome, a.worker_uuid, nd.node_name, coalesce(t.correlation_id, t.task_uuid::text) AS correlation_id, a.outcome = 'success' AS success, round(a.execution_ms)::bigint AS execution_time_ms,
         a.finished_at, a.recorded_at
  FROM tasker.tasks t JOIN tasker.step_attempts a USING (task_id) LEFT JOIN tasker.nodes nd ON nd.node_no = a.node_no;

CREATE VIEW tasker_views.tasks_dlq AS
  SELECT d.dlq_uuid AS dlq_entry_uuid, t.task_uuid, d.original_state, d.reason AS dlq_reason, d.created_at AS dlq_timestamp, d.status AS resolution_status, d.resolved_at AS resolution_timestamp,
         d.notes AS resolution_notes, d.resolved_by, d.snapshot AS task_snapshot, d.metadata, d.created_at, d.updated_at
  FROM tasker.dlq d JOIN tasker.tasks t USING (task_id);

-- Traces: what collectors are sent. Each attempt of a step is a span, whatever became of it, and each run of a task is, from its beginning (or its return) to where it came to rest. They are
-- read from the history, so that it does not matter which node recorded what, or how often it was restarted since.

-- The span of an attempt: the step's UUID and the fence; of a run of a task: its UUID and how many there were before. The daemon makes them too (daemon/trace).
CREATE FUNCTION tasker.span_id(p_of uuid, p_no int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT encode(substring(sha256(uuid_send(p_of) || int4send(p_no)) FOR 8), 'hex') $$;

CREATE FUNCTION tasker.nanoseconds(p_at timestamptz) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (extract(epoch FROM p_at) * 1000000)::bigint || '000' $$;

-- {"key": value} as OTLP has it; NULL if there is nothing in it. Long texts are cut.
CREATE FUNCTION tasker.otlp_attributes(p jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT jsonb_agg(jsonb_build_object('key', a.key, 'value', CASE jsonb_typeof(a.value)
           WHEN 'number' THEN jsonb_build_object('intValue', a.value #>> '{}') ELSE jsonb_build_object('stringValue', left(a.value #>> '{}', 1024)) END))
  FROM jsonb_each(p) AS a WHERE a.value <> 'null'
$$;

CREATE FUNCTION tasker.otlp_event(p_name text, p_at timestamptz, p_attributes jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT jsonb_strip_nulls(jsonb_build_object('name', p_name, 'timeUnixNano', tasker.nanoseconds(p_at), 'attributes', tasker.otlp_attributes(p_attributes)))
$$;

-- Clocks of hosts differ: what would end before it began ends when it began. p_message NULL: no error.
CREATE FUNCTION tasker.otlp_span(p_trace text, p_state text, p_id text, p_parent text, p_name text, p_kind int, p_from timestamptz, p_to timestamptz, p_message text, p_attributes jsonb, p_events jsonb)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT jsonb_strip_nulls(jsonb_build_object('traceId', p_trace, 'spanId', p_id, 'traceState', p_state, 'parentSpanId', p_parent, 'name', p_name, 'kind', p_kind,
    'startTimeUnixNano', tasker.nanoseconds(p_from), 'endTimeUnixNano', tasker.nanoseconds(greatest(p_from, p_to)), 'attributes', tasker.otlp_attributes(p_attributes), 'events', p_events,
    'status', CASE WHEN p_message IS NULL THEN '{}' ELSE jsonb_build_object('code', 2, 'message', left(p_message, 1024)) END))::text
$$;

-- The runs of these tasks that this node has ended, but for those that ended before p_since and are not what the task rests in now. Attempts recorded after `after` and up to
-- `until` belong to it.
CREATE FUNCTION tasker.runs_ended(p_node int, p_since timestamptz, p_tasks uuid[])
RETURNS TABLE (task_id bigint, task_uuid uuid, run int, traceparent text, after timestamptz, until timestamptz) LANGUAGE sql STABLE AS $$
  SELECT t.task_id, t.task_uuid, e.run, t.traceparent, coalesce(e.after, '-infinity'), CASE WHEN e.last AND t.state::text = e.state THEN 'infinity' ELSE e.at END
  FROM (SELECT DISTINCT x.uuid FROM unnest(p_tasks) AS x(uuid)) u
  CROSS JOIN LATERAL (SELECT x.task_id, x.task_uuid, x.traceparent, x.state, x.finished_at, x.finished_by_node, x.created_by_node FROM tasker.tasks x WHERE x.task_uuid = u.uuid OFFSET 0) t
  CROSS JOIN LATERAL (
    SELECT y.state, y.at, y.node_no, (row_number() OVER w - 1)::int AS run, lag(y.at) OVER w AS after, lead(y.at) OVER w IS NULL AS last
    FROM (SELECT x.to_state::text, x.at, x.node_no FROM tasker.task_transitions x
          WHERE x.task_id = t.task_id AND x.to_state IN ('blocked_by_failures', 'error', 'cancelled', 'resolved_manually')
          UNION ALL SELECT 'complete', t.finished_at, coalesce(t.finished_by_node, t.created_by_node) WHERE t.state = 'complete') AS y(state, at, node_no)
    WINDOW w AS (ORDER BY y.at)) e
  WHERE (e.at >= p_since OR (e.last AND t.state::text = e.state))
    -- What nobody's daemon did is for the first of those that live.
    AND coalesce(e.node_no, (SELECT min(n.node_no) FROM tasker.nodes n WHERE n.lease_until > now())) = p_node
$$;

-- The span of a run. Runs after the first hang below it, the first below whoever made the task (p_parent), if that is in the trace.
CREATE FUNCTION tasker.run_span(p_task bigint, p_run int, p_trace text, p_parent text, p_after timestamptz, p_until timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT tasker.otlp_span(p_trace, t.tracestate, tasker.span_id(t.task_uuid, p_run), CASE WHEN p_run = 0 THEN p_parent ELSE tasker.span_id(t.task_uuid, 0) END, m.name, 1,
    CASE WHEN p_run = 0 THEN t.created_at ELSE coalesce((SELECT min(x.at) FROM tasker.task_transitions x WHERE x.task_id = p_task AND x.at > p_after), p_after) END, e.at,
    CASE WHEN e.state IN ('blocked_by_failures', 'error') THEN coalesce(f.message, e.cause ->> 'message', e.cause ->> 'reason', e.state) END,
    jsonb_build_object('taskerd.task_uuid', t.task_uuid, 'taskerd.namespace', n.name, 'taskerd.template', m.name, 'taskerd.version', m.version, 'taskerd.state', e.state, 'taskerd.run', p_run + 1,
      'taskerd.priority', nullif(t.priority, 0), 'taskerd.correlation_id', t.correlation_id, 'taskerd.initiator', t.initiator, 'taskerd.node', nd.node_name),
    CASE WHEN p_run = 0 AND t.run_at IS NOT NULL THEN jsonb_build_array(tasker.otlp_event('due', t.run_at)) END)
  FROM tasker.tasks t JOIN tasker.templates m USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
  CROSS JOIN LATERAL (
    (SELECT x.to_state::text AS state, x.at, x.node_no, x.cause FROM tasker.task_transitions x
     WHERE x.task_id = t.task_id AND x.at > p_after AND x.at <= p_until AND x.to_state IN ('blocked_by_failures', 'error', 'cancelled', 'resolved_manually') ORDER BY x.at LIMIT 1)
    UNION ALL SELECT 'complete', t.finished_at, coalesce(t.finished_by_node, t.created_by_node), NULL::jsonb WHERE t.state = 'complete' AND t.finished_at > p_after AND t.finished_at <= p_until
    ORDER BY 2 LIMIT 1) e
  LEFT JOIN tasker.nodes nd ON nd.node_no = e.node_no
  LEFT JOIN LATERAL (
    SELECT ts.name || ': ' || coalesce(s.error ->> 'message', 'failed') AS message FROM tasker.steps s JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = s.template_no
    WHERE s.task_id = t.task_id AND s.state = 'error' AND e.state IN ('blocked_by_failures', 'error') ORDER BY s.step_no LIMIT 1) f ON true
  WHERE t.task_id = p_task
$$;

-- The spans of the attempts of a run, from the one after (p_step, p_fence) on: from when the step was ready (a retry: due) to when its end was recorded.
CREATE FUNCTION tasker.attempt_spans(p_task bigint, p_run int, p_trace text, p_after timestamptz, p_until timestamptz, p_step int, p_fence int, p_limit int)
RETURNS TABLE (step_no int, fence int, span text) LANGUAGE sql STABLE AS $$
  SELECT a.step_no, a.fence, tasker.otlp_span(p_trace, t.tracestate, tasker.span_id(u.uuid, a.fence), tasker.span_id(t.task_uuid, p_run), ts.name, 5,
    least(coalesce(a.ready_at, a.claimed_at, a.recorded_at), coalesce(a.claimed_at, a.recorded_at), a.recorded_at), a.recorded_at,
    CASE WHEN a.outcome NOT IN ('success', 'released', 'cancelled') THEN coalesce(a.error ->> 'message', a.outcome::text) END,
    jsonb_build_object('taskerd.task_uuid', t.task_uuid, 'taskerd.step_uuid', u.uuid, 'taskerd.step', tasker.step_name(ts.name, a.step_no, s.template_no, s.inputs), 'taskerd.namespace', n.name, 'taskerd.template', m.name,
      'taskerd.version', m.version, 'taskerd.handler', h.callable, 'taskerd.attempt', a.attempt, 'taskerd.max_attempts', ts.max_attempts, 'taskerd.outcome', a.outcome, 'taskerd.node', nd.node_name,
      'error.type', CASE WHEN a.outcome NOT IN ('success', 'released') THEN coalesce(a.error ->> 'error_type', a.outcome::text) END,
      'taskerd.queue_ms', (extract(epoch FROM a.claimed_at - a.ready_at) * 1000)::bigint, 'taskerd.execution_ms', round(a.execution_ms)::bigint, 'taskerd.worker_uuid', a.worker_uuid,
      'taskerd.worker', w.name, 'taskerd.worker_language', w.language, 'taskerd.worker_unit', w.unit, 'process.pid', w.pid),
    jsonb_path_query_array(jsonb_build_array(tasker.otlp_event('claimed', a.claimed_at), tasker.otlp_event('finished', a.finished_at),
      CASE WHEN a.outcome NOT IN ('success', 'released', 'cancelled') THEN tasker.otlp_event('exception', coalesce(a.finished_at, a.recorded_at),
        jsonb_build_object('exception.type', coalesce(a.error ->> 'error_type', a.outcome::text), 'exception.message', coalesce(a.error ->> 'message', a.outcome::text))) END),
      '$[*] ? (exists(@.timeUnixNano))'))
  FROM (SELECT x.* FROM tasker.step_attempts x
        WHERE x.task_id = p_task AND x.step_no >= p_step AND (x.step_no > p_step OR x.fence > p_fence) AND x.recorded_at > p_after AND x.recorded_at <= p_until
        ORDER BY x.step_no, x.fence LIMIT p_limit) a
  JOIN tasker.tasks t ON t.task_id = p_task JOIN tasker.templates m USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
  CROSS JOIN LATERAL (SELECT x.template_no, x.inputs FROM tasker.steps x WHERE x.task_id = p_task AND x.step_no = a.step_no OFFSET 0) s
  CROSS JOIN LATERAL (SELECT x.name, x.max_attempts, x.handler_id FROM tasker.template_steps x WHERE x.template_id = t.template_id AND x.step_no = s.template_no OFFSET 0) ts
  CROSS JOIN LATERAL (SELECT tasker.step_uuid(t.task_uuid, a.step_no) AS uuid) u
  JOIN tasker.handlers h USING (handler_id)
  LEFT JOIN tasker.nodes nd ON nd.node_no = a.node_no
  LEFT JOIN tasker.workers w ON w.worker_uuid = a.worker_uuid
  ORDER BY a.step_no, a.fence
$$;

-- Spans of runs (as runs_ended has them), in parallel arrays, from the one after (p_ord, p_step, p_fence) on: at most p_limit. A run's own span counts as step -1 of it.
CREATE FUNCTION tasker.otlp_spans(p_tasks bigint[], p_runs int[], p_traces text[], p_parents text[], p_after timestamptz[], p_until timestamptz[], p_ord int, p_step int, p_fence int, p_limit int)
RETURNS TABLE (ord int, step_no int, fence int, span text) LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_left int := p_limit; v_n int;
BEGIN
  FOR i IN p_ord .. cardinality(p_tasks) LOOP
    IF i > p_ord OR p_step < -1 THEN
      RETURN QUERY SELECT i, -1, 0, tasker.run_span(p_tasks[i], p_runs[i], p_traces[i], p_parents[i], p_after[i], p_until[i]);
      v_left := v_left - 1;
    END IF;
    RETURN QUERY SELECT i, a.step_no, a.fence, a.span
                 FROM tasker.attempt_spans(p_tasks[i], p_runs[i], p_traces[i], p_after[i], p_until[i], CASE WHEN i = p_ord THEN p_step ELSE -1 END, CASE WHEN i = p_ord THEN p_fence ELSE 0 END, v_left) a;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    v_left := v_left - v_n;
    EXIT WHEN v_left <= 0;
  END LOOP;
END $$;
