-- What people and clients look at: functions from jsonb to jsonb, named after the protocol's requests. Errors are raised with SQLSTATE TK404 (not found),
-- TK409 (conflict), TK400 (bad request), TK413 (the answer would be too large).

CREATE FUNCTION tasker.rfc3339(p timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT to_char(p AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;

-- A time that a request holds, which may be without a zone: UTC then.
CREATE FUNCTION tasker.moment(p text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT tasker.rfc3339(p::timestamptz) $$; -- sessions are in UTC

-- Whether who asks may see this namespace: "within", which the daemon adds for peers that are restricted, lists those it may.
CREATE FUNCTION tasker.is_within(p jsonb, p_namespace text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT p -> 'within' IS NULL OR p -> 'within' ? p_namespace $$;

-- What sorts (by bytes) as semantic versioning orders prereleases: numbers by value and before words, fewer parts before more.
CREATE FUNCTION tasker.prerelease_key(p text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT string_agg(CASE WHEN x.part ~ '^[0-9]+$' THEN '0' || lpad(length(x.part)::text, 2, '0') || x.part ELSE '1' || x.part END, chr(1) ORDER BY x.ord)
  FROM unnest(string_to_array(p, '.')) WITH ORDINALITY AS x(part, ord)
$$;

-- Register a template as the template layer emits it; see template_to_json.
CREATE FUNCTION tasker.register_template(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_ns int; v_tid int; v_digest text; v_used boolean; h record; v_core text;
  v_dynamic boolean; v_sinks int; v_callables text[];
BEGIN
  INSERT INTO tasker.namespaces (name) VALUES (p ->> 'namespace') ON CONFLICT (name) DO NOTHING;
  SELECT namespace_id INTO v_ns FROM tasker.namespaces WHERE name = p ->> 'namespace' FOR UPDATE;
  SELECT template_id, digest, used INTO v_tid, v_digest, v_used FROM tasker.templates
  WHERE namespace_id = v_ns AND name = p ->> 'name' AND version = p ->> 'version';
  IF v_digest = p ->> 'digest' THEN
    RETURN jsonb_build_object('namespace', p ->> 'namespace', 'name', p ->> 'name', 'version', p ->> 'version', 'created', false);
  ELSIF NOT v_used THEN
    BEGIN
      SELECT t.used INTO v_used FROM tasker.templates t WHERE t.template_id = v_tid FOR UPDATE NOWAIT;
      v_used := v_used OR EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.template_id = v_tid); -- those that SQL callers have made leave no mark
    EXCEPTION WHEN lock_not_available THEN
      v_used := true; -- right now, by a transaction that may take its time
    END;
  END IF;
  IF NOT v_used AND p -> 'replace_unused' = 'true' THEN
    DELETE FROM tasker.templates WHERE template_id = v_tid; -- a create that has chosen it waits for this commit, then finds the new one
  ELSIF v_tid IS NOT NULL THEN
    RAISE EXCEPTION 'template %/% version % exists with other content%', p ->> 'namespace', p ->> 'name', p ->> 'version',
      CASE WHEN v_used THEN ' and has had tasks, or is about to: give the new content a new version' ELSE ': give the new content a new version, or have the old one replaced, which no task has used' END USING ERRCODE = 'TK409';
  END IF;
  SELECT coalesce(bool_or(s ->> 'type' <> 'standard'), false), count(*) FILTER (WHERE s -> 'children' = '[]'), array_agg(DISTINCT s ->> 'callable') INTO v_dynamic, v_sinks, v_callables FROM jsonb_array_elements(p -> 'steps') s;
  FOR h IN SELECT c.callable FROM unnest(v_callables) AS c(callable) ORDER BY 1 LOOP
    INSERT INTO tasker.handlers (namespace_id, callable, queue_name)
    VALUES (v_ns, h.callable, 'worker_' || lower(p ->> 'namespace') || '_' || left(encode(sha256(convert_to((p ->> 'namespace') || '/' || h.callable, 'UTF8')), 'hex'), 10))
    ON CONFLICT (namespace_id, callable) DO NOTHING;
    IF FOUND THEN
      PERFORM tasker.make_queue((SELECT queue_name FROM tasker.handlers WHERE namespace_id = v_ns AND callable = h.callable));
    END IF;
  END LOOP;
  v_core := split_part(split_part(p ->> 'version', '+', 1), '-', 1);
  INSERT INTO tasker.templates (namespace_id, name, version, version_key, prerelease, digest, definition, identity_strategy, input_schema, n_steps, n_sinks, dynamic)
  VALUES (v_ns, p ->> 'name', p ->> 'version', string_to_array(v_core, '.')::int[],
          tasker.prerelease_key(nullif(substr(split_part(p ->> 'version', '+', 1), length(v_core) + 2), '')), p ->> 'digest', p -> 'definition',
          (p ->> 'identity_strategy')::tasker.identity_strategy, p -> 'input_schema', jsonb_array_length(p -> 'steps'),
          v_sinks, v_dynamic)
  RETURNING template_id INTO v_tid;
  INSERT INTO tasker.template_steps (template_id, step_no, name, step_type, initial, counts, decision_depth, batch_config, handler_id, handler, retryable, max_attempts, backoff, backoff_base_ms, max_backoff_ms,
                                     timeout_ms, parents, children, ancestors, ancestors_cut, events, result_schema)
  SELECT v_tid, (s ->> 'no')::int, s ->> 'name', s ->> 'type', true, v_dynamic OR s -> 'children' = '[]', 0, nullif(s -> 'batch_config', 'null'), hd.handler_id, s -> 'handler', (s ->> 'retryable')::boolean, (s ->> 'max_attempts')::int,
         (s ->> 'backoff')::tasker.backoff_kind, (s ->> 'backoff_base_ms')::int, (s ->> 'max_backoff_ms')::int, (s ->> 'timeout_seconds')::bigint * 1000,
         translate(s ->> 'parents', '[]', '{}')::int[], translate(s ->> 'children', '[]', '{}')::int[],
         translate(s ->> 'ancestors', '[]', '{}')::int[], (s ->> 'ancestors_cut')::boolean,
         nullif(nullif(s -> 'publishes_events', 'null'), '[]'), s -> 'result_schema'
  FROM jsonb_array_elements(p -> 'steps') s
  JOIN tasker.handlers hd ON hd.namespace_id = v_ns AND hd.callable = s ->> 'callable';
  IF v_dynamic THEN
    PERFORM tasker.register_dynamic(v_tid);
  END IF;
  UPDATE tasker.templates t SET root_no = s.step_no, root_handler = s.handler_id
  FROM tasker.template_steps s
  WHERE t.template_id = v_tid AND NOT v_dynamic AND s.template_id = v_tid AND s.parents = '{}'
    AND 1 = (SELECT count(*) FROM tasker.template_steps x WHERE x.template_id = v_tid AND x.parents = '{}');
  IF EXISTS (SELECT 1 FROM tasker.template_steps s WHERE s.template_id = v_tid AND s.events IS NOT NULL) THEN
    PERFORM tasker.event_queue(v_ns);
  END IF;
  PERFORM tasker.notify('tasker_templates', '');
  IF p ? 'by' THEN
    PERFORM tasker.note_action(tasker.actor_of(p), 'template.apply', NULL, v_ns, NULL, concat(p ->> 'name', ' version ', p ->> 'version'));
  END IF;
  RETURN jsonb_build_object('namespace', p ->> 'namespace', 'name', p ->> 'name', 'version', p ->> 'version', 'created', true);
END $$;

CREATE FUNCTION tasker.api_template_list(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('templates', coalesce(jsonb_agg(jsonb_build_object('namespace', n.name, 'name', t.name, 'version', t.version, 'steps', t.n_steps,
           'created_at', tasker.rfc3339(t.created_at), 'digest', t.digest) ORDER BY n.name, t.name, t.version_key, t.prerelease), '[]'))
  FROM tasker.templates t JOIN tasker.namespaces n USING (namespace_id)
  WHERE (p ->> 'namespace' IS NULL OR n.name = p ->> 'namespace') AND tasker.is_within(p, n.name)
$$;

-- Names of a template's steps, in the order of their numbers.
CREATE FUNCTION tasker.step_names(p_template int, p_nos int[]) RETURNS text[] LANGUAGE sql STABLE AS $$
  SELECT ARRAY(SELECT i.name FROM unnest(p_nos) AS p(no) CROSS JOIN LATERAL (SELECT x.name FROM tasker.template_steps x WHERE x.template_id = p_template AND x.step_no = p.no OFFSET 0) i ORDER BY p.no)
$$;

CREATE FUNCTION tasker.api_template_get(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v jsonb;
BEGIN
  SELECT jsonb_build_object('namespace', n.name, 'name', t.name, 'version', t.version, 'digest', t.digest, 'created_at', tasker.rfc3339(t.created_at), 'definition', t.definition,
    'steps', (SELECT jsonb_agg(jsonb_build_object('no', s.step_no, 'name', s.name, 'type', s.step_type, 'handler', s.handler, 'retryable', s.retryable, 'max_attempts', s.max_attempts,
               'backoff', s.backoff, 'backoff_base_ms', s.backoff_base_ms, 'max_backoff_ms', s.max_backoff_ms, 'timeout_ms', s.timeout_ms,
               'depends_on', tasker.step_names(s.template_id, s.parents)) ORDER BY s.step_no)
              FROM tasker.template_steps s WHERE s.template_id = t.template_id))
  INTO v FROM tasker.templates t JOIN tasker.namespaces n USING (namespace_id)
  WHERE n.name = coalesce(p ->> 'namespace', 'default') AND t.name = p ->> 'name' AND (p ->> 'version' IS NULL OR t.version = p ->> 'version')
  ORDER BY t.prerelease IS NULL DESC, t.version_key DESC, t.prerelease DESC LIMIT 1;
  IF v IS NULL THEN
    RAISE EXCEPTION 'no template %', concat(coalesce(p ->> 'namespace', 'default'), '/', p ->> 'name', ' version ' || (p ->> 'version')) USING ERRCODE = 'TK404';
  END IF;
  RETURN v;
END $$;

-- A task and its steps, wherever they are: among the live ones or in the archive.
CREATE FUNCTION tasker.task_rows(p_task bigint) RETURNS SETOF tasker.tasks LANGUAGE sql STABLE ROWS 1 AS $$
  SELECT t.* FROM tasker.tasks t WHERE t.task_id = p_task
  UNION ALL SELECT (a.task).* FROM tasker.archived_tasks a WHERE a.task_id = p_task
$$;

CREATE FUNCTION tasker.step_rows(p_task bigint) RETURNS SETOF tasker.steps LANGUAGE sql STABLE AS $$
  SELECT s.* FROM tasker.steps s WHERE s.task_id = p_task
  UNION ALL SELECT s.* FROM tasker.archived_tasks a CROSS JOIN LATERAL unnest(a.steps) AS s WHERE a.task_id = p_task
$$;

-- The task objects of the protocol, section 7. p_steps: with their steps, if there are no more than p_most: a frame has no items for more, and what cannot be sent need not be made. Of them
-- p_page after number p_after.
-- A set, so that many cost one start of a query, and one that is looked up by its key.
CREATE FUNCTION tasker.task_objects(p_ids bigint[], p_steps boolean, p_most bigint, p_after int DEFAULT -1, p_page int DEFAULT NULL) RETURNS TABLE (task_id bigint, object jsonb) LANGUAGE sql STABLE AS $$
  SELECT t.task_id, jsonb_build_object(
    'task_uuid', t.task_uuid, 'namespace', n.name, 'name', tp.name, 'version', tp.version, 'state', t.state, 'status', t.state,
    'created_at', tasker.rfc3339(t.created_at), 'finished_at', tasker.rfc3339(t.finished_at),
    'updated_at', tasker.rfc3339(greatest(t.created_at, t.finished_at, c.last)),
    'context', t.context, 'initiator', t.initiator, 'source_system', t.source_system, 'reason', t.reason, 'tags', to_jsonb(t.tags), 'priority', t.priority,
    'correlation_id', coalesce(t.correlation_id, t.task_uuid::text), 'parent_correlation_id', t.parent_correlation_id,
    'paused', t.paused, 'run_at', tasker.rfc3339(t.run_at), 'total_steps', c.total,
    'pending_steps', c.pending, 'in_progress_steps', c.running, 'completed_steps', c.done, 'failed_steps', c.failed, 'ready_steps', c.ready, 'waiting_steps', c.waiting,
    'completion_percentage', CASE WHEN c.total = 0 THEN 100 ELSE round(100.0 * c.done / c.total, 2) END,
    'execution_status', CASE WHEN t.state IN ('complete', 'resolved_manually') THEN 'all_complete' WHEN t.state IN ('cancelled', 'error') THEN t.state::text
      WHEN t.state = 'blocked_by_failures' THEN 'blocked_by_failures' WHEN c.running > 0 THEN 'processing' WHEN c.ready > 0 THEN 'has_ready_steps' ELSE 'waiting_for_dependencies' END)
    || CASE WHEN t.request IS NULL THEN '{}' ELSE jsonb_strip_nulls(jsonb_build_object('requested_at', tasker.moment(t.request ->> 'requested_at'), 'options', t.request -> 'options')) END
    || CASE WHEN w.steps THEN jsonb_build_object('steps', l.steps) ELSE '{}' END
  FROM unnest(p_ids) AS u(id)
  CROSS JOIN LATERAL (SELECT i.* FROM tasker.task_rows(u.id) i OFFSET 0) t
  CROSS JOIN LATERAL (SELECT i.namespace_id, i.name, i.version, i.n_steps FROM tasker.templates i WHERE i.template_id = t.template_id OFFSET 0) tp
  CROSS JOIN LATERAL (SELECT i.name FROM tasker.namespaces i WHERE i.namespace_id = tp.namespace_id OFFSET 0) n
  CROSS JOIN LATERAL (
    SELECT CASE WHEN t.state = 'pending' THEN tp.n_steps ELSE count(*) END AS total, CASE WHEN t.state = 'pending' THEN tp.n_steps ELSE count(*) FILTER (WHERE s.state = 'pending') END AS pending, count(*) FILTER (WHERE s.state = 'in_progress') AS running,
           count(*) FILTER (WHERE s.state IN ('complete', 'resolved_manually')) AS done, count(*) FILTER (WHERE s.state = 'error') AS failed,
           count(*) FILTER (WHERE s.state = 'enqueued') AS ready, count(*) FILTER (WHERE s.state = 'waiting_for_retry') AS waiting, max(coalesce(s.finished_at, s.claimed_at)) AS last
    FROM tasker.step_rows(t.task_id) s) c
  CROSS JOIN LATERAL (SELECT p_steps AND (p_most IS NULL OR c.total <= p_most) AS steps OFFSET 0) w
  CROSS JOIN LATERAL ( -- the condition stands within: that of a join would be looked at after all the steps were made
    SELECT coalesce(jsonb_agg(jsonb_build_object(
             'step_uuid', tasker.step_uuid(t.task_uuid, s.step_no), 'name', tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs), 'state', s.state, 'attempts', s.attempts, 'max_attempts', ts.max_attempts,
             'depends_on', ARRAY(SELECT i.name FROM unnest(ts.parents) AS p(no) CROSS JOIN LATERAL (SELECT x.name FROM tasker.template_steps x WHERE x.template_id = t.template_id AND x.step_no = p.no OFFSET 0) i ORDER BY p.no),
             'handler', ts.handler ->> 'callable', 'ready_at', tasker.rfc3339(s.ready_at), 'started_at', tasker.rfc3339(s.claimed_at), 'finished_at', tasker.rfc3339(s.finished_at),
             'retry_at', tasker.rfc3339(s.retry_at), 'result', s.result, 'error', s.error)
             || CASE WHEN s.step_no = s.template_no THEN '{}' ELSE jsonb_build_object('template_step', ts.name) END
             || CASE WHEN s.inputs IS NULL THEN '{}' ELSE jsonb_build_object('inputs', s.inputs) END
             || CASE WHEN s.checkpoint IS NULL THEN '{}' ELSE jsonb_build_object('checkpoint', s.checkpoint) END ORDER BY s.step_no), '[]') AS steps
    FROM (SELECT x.* FROM tasker.step_rows(t.task_id) x WHERE w.steps AND x.step_no > p_after ORDER BY x.step_no LIMIT p_page) s
    CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts) l
$$;

CREATE FUNCTION tasker.task_object(p_id bigint, p_steps boolean, p_most bigint DEFAULT 9700) RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT o.object FROM tasker.task_objects(ARRAY[p_id], p_steps, p_most) o $$;

-- What an action is answered with: without steps if there are many, for whoever reads them all keeps others waiting.
CREATE FUNCTION tasker.task_after(p_id bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT tasker.task_object(p_id, true, 1000) $$;

CREATE FUNCTION tasker.task_id_of(p_uuid text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
  v bigint;
BEGIN
  SELECT task_id INTO v FROM tasker.tasks WHERE task_uuid = p_uuid::uuid;
  IF v IS NULL THEN
    RAISE EXCEPTION 'no task %', p_uuid USING ERRCODE = 'TK404';
  END IF;
  RETURN v;
EXCEPTION WHEN invalid_text_representation THEN
  RAISE EXCEPTION '% is not a task uuid', quote_literal(left(p_uuid, 64)) USING ERRCODE = 'TK400';
END $$;

-- A task that has been archived; NULLs if it has not. Not the row: all of it would be read.
CREATE FUNCTION tasker.archived_task(p_uuid text, OUT task_id bigint, OUT archived_at timestamptz, OUT whole boolean) LANGUAGE plpgsql STABLE AS $$
BEGIN
  SELECT x.task_id, x.archived_at, x.whole INTO task_id, archived_at, whole FROM tasker.archived_tasks x WHERE x.task_uuid = p_uuid::uuid;
EXCEPTION WHEN invalid_text_representation THEN
  NULL; -- task_id_of says so
END $$;

-- Its number as the uuid of a step has it.
CREATE FUNCTION tasker.step_no_in(p_uuid text) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT ('x00' || right(p_uuid, 6))::bit(32)::int - 1 $$;

-- A page of its steps: {"task_uuid", "limit", "cursor"}.
CREATE FUNCTION tasker.task_page(p_id bigint, p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_task jsonb; v_last int;
BEGIN
  SELECT o.object INTO v_task FROM tasker.task_objects(ARRAY[p_id], true, NULL, coalesce(tasker.read_cursor(p, '^[0-9]{1,9}$')::int, -1), coalesce((p ->> 'limit')::int, 1000)) o;
  v_last := tasker.step_no_in(v_task #>> '{steps,-1,step_uuid}');
  RETURN v_task || jsonb_build_object('next_cursor', CASE WHEN EXISTS (SELECT 1 FROM tasker.step_rows(p_id) s WHERE s.step_no > v_last) THEN v_last::text END);
END $$;

-- A task object with its missing_handlers: what its ready steps need and no connected worker offers. The daemon knows better what its own workers offer.
CREATE FUNCTION tasker.with_missing_handlers(p_task jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT p_task || jsonb_build_object('missing_handlers', coalesce((
    SELECT jsonb_agg(h.callable ORDER BY h.callable COLLATE "C")
    FROM (SELECT DISTINCT s ->> 'handler' AS callable FROM jsonb_array_elements(p_task -> 'steps') s WHERE s ->> 'state' = 'enqueued') h
    WHERE NOT tasker.is_offered(p_task ->> 'namespace', h.callable)), '[]'))
$$;

CREATE FUNCTION tasker.api_task_get(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  a record := tasker.archived_task(p ->> 'task_uuid');
  v_id CONSTANT bigint := coalesce(a.task_id, tasker.task_id_of(p ->> 'task_uuid'));
  v_steps CONSTANT boolean := coalesce((p ->> 'steps')::boolean, true);
  v_task jsonb;
BEGIN
  IF v_steps AND coalesce(a.whole, true) AND coalesce(p ->> 'limit', p ->> 'cursor') IS NOT NULL THEN
    v_task := tasker.task_page(v_id, p);
  ELSE
    v_task := CASE WHEN (p ->> 'after_action')::boolean THEN tasker.task_after(v_id) ELSE tasker.task_object(v_id, v_steps AND coalesce(a.whole, true)) END;
  END IF;
  IF a.task_id IS NOT NULL THEN
    v_task := v_task || jsonb_build_object('archived_at', tasker.rfc3339(a.archived_at));
  END IF;
  IF v_steps AND NOT v_task ? 'steps' AND NOT coalesce((p ->> 'lenient')::boolean, false) THEN
    RAISE EXCEPTION 'the task has % steps, more than an answer can hold: ask for a page of them (limit, cursor), or with steps false', v_task ->> 'total_steps'
      USING ERRCODE = 'TK413';
  END IF;
  IF (p ->> 'readiness')::boolean AND v_task ? 'steps' THEN
    v_task := tasker.with_readiness(v_id, v_task, false);
  END IF;
  RETURN tasker.with_missing_handlers(v_task);
END $$;

-- What became of an attempt that this node does not hold: duplicate (its result was recorded before) or stale.
CREATE FUNCTION tasker.api_attempt_status(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT jsonb_build_object('status', CASE WHEN EXISTS (
     SELECT 1 FROM tasker.step_attempts a JOIN tasker.tasks t USING (task_id)
     WHERE t.task_uuid = (p ->> 'task_uuid')::uuid AND a.step_no = (p ->> 'step_no')::int AND a.fence = (p ->> 'fence')::int
       AND a.outcome IN ('success', 'handler_error', 'permanent_error', 'invalid_result')) THEN 'duplicate' ELSE 'stale' END) $$;

-- The first state a task rested in.
CREATE FUNCTION tasker.born_as(t tasker.tasks) RETURNS tasker.task_state LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN t.run_at IS NOT NULL THEN 'pending' WHEN t.open_sinks = 0 AND t.finished_at = t.created_at THEN 'complete' ELSE 'steps_in_process' END::tasker.task_state $$;

-- Every state a task rested in.
CREATE VIEW tasker.task_history AS
  SELECT t.task_id, NULL::tasker.task_state AS from_state, tasker.born_as(t) AS to_state, t.created_at AS at, t.created_by_node AS node_no, '{"event": "created"}'::jsonb AS cause FROM tasker.tasks t
  UNION ALL
  SELECT task_id, from_state, to_state, at, node_no, cause FROM tasker.task_transitions
  UNION ALL
  SELECT t.task_id, coalesce((SELECT tr.to_state FROM tasker.task_transitions tr WHERE tr.task_id = t.task_id ORDER BY tr.at DESC LIMIT 1), tasker.born_as(t)), 'complete',
         t.finished_at, t.finished_by_node, '{"event": "all_steps_successful"}'::jsonb
  FROM tasker.tasks t WHERE t.state = 'complete' AND t.finished_at <> t.created_at;

-- What was done by hand to a task, or to one of its steps.
CREATE FUNCTION tasker.actions_of(p_task bigint, p_step int) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object('action', o.action, 'at', tasker.rfc3339(o.at), 'step', tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs), 'from', o.from_state, 'to', o.to_state, 'reason', o.reason,
           'operator', o.operator, 'uid', o.uid, 'user', o.user_name, 'pid', o.pid, 'node', n.node_name)
           || CASE WHEN o.metadata IS NULL THEN '{}' ELSE jsonb_build_object('metadata', o.metadata) END ORDER BY o.action_id), '[]')
  FROM tasker.operator_actions o
  JOIN tasker.tasks t ON t.task_id = o.task_id
  LEFT JOIN tasker.steps s ON s.task_id = o.task_id AND s.step_no = o.step_no
  LEFT JOIN tasker.template_steps ts ON ts.template_id = t.template_id AND ts.step_no = s.template_no
  LEFT JOIN tasker.nodes n ON n.node_no = o.node_no
  WHERE o.task_id = p_task AND (p_step IS NULL OR o.step_no = p_step)
$$;

-- Results of ancestors, for handlers whose step.execute carried only some. By step number, in pages of at most max_bytes of JSON (but at least one result).
CREATE FUNCTION tasker.api_step_dependencies(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_task bigint; v_tid int; v_n int; v_from int; v_deps jsonb; v_last int; v_more boolean; v_step int := (p ->> 'step_no')::int;
  v_size bigint := 0; v_names text[] := '{}'; v_numbers int[] := '{}'; v_results jsonb[] := '{}'; v_steps jsonb; d record;
  v_max bigint := (p ->> 'max_bytes')::bigint;
BEGIN
  BEGIN
    v_from := coalesce((p ->> 'cursor')::int, 0);
  EXCEPTION WHEN invalid_text_representation OR numeric_value_out_of_range THEN
    RAISE EXCEPTION 'unknown cursor %', quote_literal(left(p ->> 'cursor', 40)) USING ERRCODE = 'TK400', COLUMN = 'cursor';
  END;
  SELECT t.task_id, t.template_id, tp.n_steps INTO v_task, v_tid, v_n FROM tasker.tasks t JOIN tasker.templates tp USING (template_id) WHERE t.task_uuid = (p ->> 'task_uuid')::uuid;
  IF v_task IS NULL THEN
    RAISE EXCEPTION 'no task %', p ->> 'task_uuid' USING ERRCODE = 'TK404';
  ELSIF NOT EXISTS (SELECT 1 FROM tasker.steps s WHERE s.task_id = v_task AND s.step_no = v_step) THEN
    RAISE EXCEPTION 'task % has no step number %', p ->> 'task_uuid', v_step USING ERRCODE = 'TK404';
  END IF;
  -- Sorted by number alone, and read one after the other as far as the page goes: each page costs what it holds.
  FOR d IN
    WITH RECURSIVE up(step_no) AS (
      SELECT unnest(ts.parents) FROM tasker.template_steps ts WHERE ts.template_id = v_tid AND ts.step_no = v_step % v_n
      UNION
      SELECT unnest(ts.parents) FROM up CROSS JOIN LATERAL (SELECT x.parents FROM tasker.template_steps x WHERE x.template_id = v_tid AND x.step_no = up.step_no OFFSET 0) ts),
    numbers AS MATERIALIZED (
      SELECT i.no, up.step_no AS template_no FROM up CROSS JOIN LATERAL (SELECT up.step_no AS no UNION ALL SELECT tasker.instances(v_task, up.step_no)) i WHERE i.no >= v_from ORDER BY i.no)
    SELECT k.no, k.name, k.result, coalesce(k.result_bytes, octet_length(k.result::text), 4) + octet_length(k.name) + 64 AS bytes
    FROM numbers n
    CROSS JOIN LATERAL (
      SELECT s.step_no AS no, tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs) AS name, s.result, s.result_bytes
      FROM tasker.steps s CROSS JOIN LATERAL (SELECT x.name FROM tasker.template_steps x WHERE x.template_id = v_tid AND x.step_no = n.template_no OFFSET 0) ts
      WHERE s.task_id = v_task AND s.step_no = n.no AND tasker.satisfied(s.state, s.result) OFFSET 0) k
    WHERE p -> 'names' IS NULL OR jsonb_typeof(p -> 'names') = 'null' OR p -> 'names' ? k.name
  LOOP
    v_size := v_size + d.bytes;
    v_more := v_size > v_max AND v_last IS NOT NULL;
    EXIT WHEN v_more;
    v_last := d.no;
    v_names := v_names || d.name;
    v_numbers := v_numbers || d.no;
    v_results := v_results || coalesce(d.result, 'null');
  END LOOP;
  SELECT coalesce(jsonb_object_agg(x.name, x.result), '{}'), coalesce(jsonb_agg(x.no ORDER BY x.name COLLATE "C"), '[]') INTO v_deps, v_steps
  FROM unnest(v_names, v_numbers, v_results) AS x(name, no, result);
  RETURN jsonb_build_object('dependencies', v_deps, 'dependency_steps', v_steps, 'next_cursor', CASE WHEN v_more THEN (v_last + 1)::text END);
END $$;

-- A worker's session: {"worker_uuid", "node", ...}; with "gone" true it has ended.
CREATE FUNCTION tasker.api_worker_seen(p jsonb) RETURNS jsonb LANGUAGE sql AS $$
  WITH ins AS (
    INSERT INTO tasker.workers (worker_uuid, node_no, name, pid, uid, unit, client, language, namespaces, handlers, max_concurrency, broken)
    SELECT (p ->> 'worker_uuid')::uuid, n.node_no, nullif(p ->> 'name', ''), (p ->> 'pid')::int, (p ->> 'uid')::bigint, p ->> 'unit', p ->> 'client', p ->> 'language',
           ARRAY(SELECT jsonb_array_elements_text(p -> 'namespaces')), ARRAY(SELECT jsonb_array_elements_text(p -> 'handlers')), (p ->> 'max_concurrency')::int, p -> 'broken'
    FROM tasker.nodes n WHERE n.node_name = p ->> 'node' AND p -> 'gone' IS NULL
    ON CONFLICT (worker_uuid) DO UPDATE SET disconnected_at = NULL, max_concurrency = excluded.max_concurrency, broken = excluded.broken),
  gone AS (UPDATE tasker.workers w SET disconnected_at = now() WHERE w.worker_uuid = (p ->> 'worker_uuid')::uuid AND p -> 'gone' IS NOT NULL)
  SELECT '{}'::jsonb
$$;

CREATE FUNCTION tasker.api_node_list(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('nodes', coalesce(jsonb_agg(jsonb_build_object('node', n.node_name, 'node_no', n.node_no, 'host', n.host, 'pid', n.pid, 'version', n.version,
    'state', CASE WHEN n.state <> 'down' AND n.lease_until < now() THEN 'expired' ELSE n.state END,
    'started_at', tasker.rfc3339(n.started_at), 'lease_until', tasker.rfc3339(n.lease_until), 'store_threads', n.info -> 'store_threads', 'sessions', n.info -> 'sessions', 'workers', n.info -> 'workers',
    'open_steps', n.info -> 'open_steps',
    'in_progress', (SELECT count(*) FROM tasker.node_claims c CROSS JOIN LATERAL unnest(c.task_ids, c.step_nos, c.fences) AS x(task_id, step_no, fence)
                    JOIN tasker.steps s ON s.task_id = x.task_id AND s.step_no = x.step_no AND s.fence = x.fence AND s.state = 'in_progress' WHERE c.node_no = n.node_no)) ORDER BY n.node_no), '[]'))
  FROM tasker.nodes n
$$;

-- Doctor: prove over the whole database, in one snapshot, that nothing is stranded (every non-terminal task and step has an owner that will move it) and that the
-- redundant facts agree. Reads everything: minutes on a very large database. Each check counts violations and shows up to ten.
CREATE FUNCTION tasker.doctor_check(p_name text, p_detail text, p_query text) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_found bigint; v_sample jsonb;
BEGIN
  EXECUTE format('WITH bad AS MATERIALIZED (%s) SELECT count(*), (SELECT jsonb_agg(to_jsonb(b)) FROM (SELECT * FROM bad LIMIT 10) b) FROM bad', p_query) INTO v_found, v_sample;
  RETURN jsonb_build_object('name', p_name, 'ok', v_found = 0, 'found', v_found, 'detail', p_detail, 'sample', coalesce(v_sample, '[]'));
END $$;

-- The same for what compares two large sets by keys without an index: under the settings of the hot path, or without statistics, each of the one would be looked for among all of the other.
CREATE FUNCTION tasker.doctor_join(p_name text, p_detail text, p_query text) RETURNS jsonb LANGUAGE plpgsql STABLE SET enable_seqscan = on SET enable_hashjoin = on SET enable_nestloop = off AS $$
BEGIN
  RETURN tasker.doctor_check(p_name, p_detail, p_query);
END $$;

-- What waits in the queues of steps, one queue after the other: a single query over thousands of them takes far longer to be planned than to be run.
CREATE FUNCTION tasker.queued_messages() RETURNS TABLE (handler_id int, task_id bigint, step_no bigint, fence bigint) LANGUAGE plpgsql STABLE AS $$
DECLARE
  h record;
BEGIN
  FOR h IN SELECT x.handler_id AS id, x.queue_name FROM tasker.handlers x LOOP
    RETURN QUERY EXECUTE format('SELECT %s, tasker.whole(m.message, ''t''), tasker.whole(m.message, ''s''), tasker.whole(m.message, ''f'') FROM pgmq.%I m', h.id, 'q_' || h.queue_name);
  END LOOP;
END $$;

CREATE FUNCTION tasker.api_doctor(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v jsonb;
  c_live CONSTANT text := $q$ t.state NOT IN ('complete', 'error', 'cancelled', 'resolved_manually') $q$;
  -- Of steps grouped by what they are instances of: what that says, and its unsatisfied parents in a template that is not dynamic. One look for all the workers of a batch.
  c_template CONSTANT text := $q$
       CROSS JOIN LATERAL (SELECT i.* FROM tasker.tasks i WHERE i.task_id = g.task_id OFFSET 0) t
       CROSS JOIN LATERAL (SELECT i.dynamic FROM tasker.templates i WHERE i.template_id = t.template_id OFFSET 0) tp
       CROSS JOIN LATERAL (SELECT i.parents FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = g.template_no OFFSET 0) ts $q$;
  c_open CONSTANT text := $q$ SELECT count(*) FROM unnest(ts.parents) AS p(no)
       CROSS JOIN LATERAL (SELECT 1 FROM tasker.steps i WHERE i.task_id = g.task_id AND i.step_no = p.no AND i.state NOT IN ('complete', 'resolved_manually') OFFSET 0) o $q$;
BEGIN
  v := jsonb_build_array(
    tasker.doctor_check('stranded_tasks', 'a live task that is neither blocked nor paused has a step enqueued, running or waiting for a retry',
      'SELECT t.task_uuid, t.state FROM tasker.tasks t WHERE ' || c_live || $q$ AND t.state NOT IN ('pending', 'blocked_by_failures') AND NOT t.paused AND NOT EXISTS (
         SELECT 1 FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state IN ('enqueued', 'in_progress', 'waiting_for_retry')) $q$),
    tasker.doctor_join('pending_tasks_will_start', 'a task that has not begun has a message in the queue of starts, or is paused; it has no steps',
      $q$ SELECT t.task_uuid, t.run_at FROM tasker.tasks t WHERE t.state = 'pending' AND EXISTS (SELECT 1 FROM tasker.steps s WHERE s.task_id = t.task_id)
         UNION ALL SELECT t.task_uuid, t.run_at FROM tasker.tasks t
         WHERE t.state = 'pending' AND NOT t.paused AND NOT EXISTS (SELECT 1 FROM pgmq.q_orchestration_task_requests m WHERE tasker.whole(m.message, 't') = t.task_id) $q$),
    tasker.doctor_check('paused_tasks_rest', 'a paused task has nothing queued, and counts',
      $q$ SELECT t.task_uuid FROM tasker.tasks t WHERE t.paused AND (t.n_active IS NULL AND t.state <> 'pending' OR EXISTS (
         SELECT 1 FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state IN ('enqueued', 'waiting_for_retry')) AND NOT EXISTS (SELECT 1 FROM tasker.long_actions l WHERE l.task_id = t.task_id)) $q$),
    tasker.doctor_check('long_actions_go_on', 'an action that is done in stretches is on a task that exists, and had one in the last hour',
      $q$ SELECT l.task_id, t.task_uuid, l.action, l.at FROM tasker.long_actions l LEFT JOIN tasker.tasks t USING (task_id) WHERE t.task_id IS NULL OR l.at < clock_timestamp() - interval '1 hour' $q$),
    tasker.doctor_check('blocked_tasks_can_move', 'a blocked task has a step that failed, or was cancelled with its batch, and nothing that moves by itself',
      $q$ SELECT t.task_uuid FROM tasker.tasks t WHERE t.state = 'blocked_by_failures' AND NOT t.paused AND (
         EXISTS (SELECT 1 FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state IN ('enqueued', 'in_progress', 'waiting_for_retry'))
         OR NOT EXISTS (SELECT 1 FROM tasker.steps s WHERE s.task_id = t.task_id AND (s.state = 'cancelled' OR s.state = 'error' AND s.result IS NULL))) $q$),
    tasker.doctor_join('queued_steps_have_messages', 'an enqueued or waiting step has a message in its queue with its fence',
      $q$ SELECT t.task_uuid, s.step_no, s.state FROM tasker.steps s JOIN tasker.tasks t USING (task_id) CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
       WHERE s.state IN ('enqueued', 'waiting_for_retry') AND NOT EXISTS (SELECT 1 FROM tasker.queued_messages() m
         WHERE m.task_id = s.task_id AND m.step_no = s.step_no AND m.fence = s.fence AND m.handler_id = ts.handler_id) $q$),
    tasker.doctor_join('running_steps_are_leased', 'a running step is in the claim journal of a node that is up, or whose lease a peer will take back',
      $q$ SELECT t.task_uuid, s.step_no, s.node_no FROM tasker.steps s JOIN tasker.tasks t USING (task_id)
         WHERE s.state = 'in_progress' AND NOT EXISTS (SELECT 1 FROM tasker.node_claims c CROSS JOIN LATERAL unnest(c.task_ids, c.step_nos, c.fences) AS x(a, b, f)
           WHERE c.node_no = s.node_no AND x.a = s.task_id AND x.b = s.step_no AND x.f = s.fence) $q$),
    tasker.doctor_check('ready_steps_are_enqueued', 'a pending step has an unsatisfied parent, unless its task is paused, and pending_parents counts them',
      'SELECT t.task_uuid, r.step_no, r.pending_parents
       FROM (SELECT s.task_id, s.template_no, array_agg(s.step_no) AS nos, array_agg(s.pending_parents) AS counts FROM tasker.steps s WHERE s.state = ''pending'' GROUP BY s.task_id, s.template_no) g' || c_template || '
       CROSS JOIN LATERAL (SELECT CASE WHEN tp.dynamic THEN tasker.open_parents(g.task_id, ts.parents, t.impossible) ELSE (' || c_open || ') END AS n OFFSET 0) x
       CROSS JOIN LATERAL unnest(g.nos, g.counts) AS r(step_no, pending_parents)
       WHERE r.pending_parents <= 0 AND NOT t.paused OR r.pending_parents <> x.n + CASE WHEN r.step_no = g.template_no THEN 0 ELSE tasker.behind_gate(g.task_id, g.template_no, r.step_no) END'),
    tasker.doctor_check('nothing_ran_early', 'a step that was claimed has only satisfied parents',
      'SELECT t.task_uuid, g.no AS step_no
       FROM (SELECT s.task_id, s.template_no, min(s.step_no) AS no FROM tasker.steps s WHERE s.claimed_at IS NOT NULL GROUP BY s.task_id, s.template_no) g' || c_template || '
       WHERE CASE WHEN tp.dynamic THEN tasker.open_parents(g.task_id, ts.parents, t.impossible) > 0 ELSE (' || c_open || ') > 0 END'),
    tasker.doctor_check('complete_tasks_are_complete', 'open_sinks counts unsatisfied steps that count, and a task is complete when it is 0',
      'SELECT t.task_uuid, t.state, t.open_sinks FROM tasker.tasks t WHERE t.state NOT IN (''pending'', ''cancelled'', ''error'', ''resolved_manually'') AND (t.open_sinks <> (
         SELECT count(*) FROM tasker.steps s CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no AND i.counts OFFSET 0) ts
         WHERE s.task_id = t.task_id AND NOT tasker.satisfied(s.state, s.result)) OR (t.open_sinks = 0) <> (t.state = ''complete''))'),
    tasker.doctor_check('finished_tasks_are_quiet', 'a finished task has no live step',
      'SELECT t.task_uuid, t.state FROM tasker.tasks t WHERE NOT (' || c_live || $q$) AND EXISTS (
         SELECT 1 FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state NOT IN ('complete', 'cancelled', 'resolved_manually', 'error')) $q$),
    tasker.doctor_check('counters_agree', 'n_active, n_waiting and n_failed of a task equal what its steps say',
      'SELECT t.task_uuid, t.n_active, t.n_waiting, t.n_failed FROM tasker.tasks t WHERE t.n_active IS NOT NULL AND t.state <> ''pending'' AND ' || c_live || $q$ AND (t.n_active, t.n_waiting, t.n_failed) <> (
         SELECT count(*) FILTER (WHERE s.state IN ('enqueued', 'in_progress')), count(*) FILTER (WHERE s.state = 'waiting_for_retry'), count(*) FILTER (WHERE s.state = 'error' AND s.result IS NULL)
         FROM tasker.steps s WHERE s.task_id = t.task_id) $q$),
    tasker.doctor_check('recorded_exactly_once', 'a complete step has exactly one recorded success, unless an operator gave its result',
      $q$ SELECT t.task_uuid, s.step_no, k.n FROM tasker.steps s JOIN tasker.tasks t USING (task_id)
         CROSS JOIN LATERAL (SELECT count(*) AS n FROM tasker.step_attempts a WHERE a.task_id = s.task_id AND a.step_no = s.step_no AND a.outcome = 'success') k
         WHERE (s.state = 'complete' AND NOT EXISTS (SELECT 1 FROM tasker.operator_actions o WHERE o.task_id = s.task_id AND o.step_no = s.step_no AND o.action = 'step.complete_manually'))
               <> (k.n = 1) $q$),
    tasker.doctor_check('attempts_are_audited', 'every attempt used by a step that is not running, since it was last reset, has its audit row',
      $q$ SELECT t.task_uuid, s.step_no, s.attempts, k.n FROM tasker.steps s JOIN tasker.tasks t USING (task_id)
         CROSS JOIN LATERAL (SELECT count(*) AS n FROM tasker.step_attempts a WHERE a.task_id = s.task_id AND a.step_no = s.step_no AND a.outcome <> 'released') k
         WHERE k.n <> s.attempts - (s.state = 'in_progress')::int
               + coalesce((SELECT sum(o.attempts_before) FROM tasker.operator_actions o WHERE o.task_id = s.task_id AND o.step_no = s.step_no), 0) $q$));
  v := v || tasker.event_checks() || tasker.doctor_lifecycle() || tasker.dynamic_checks();
  RETURN jsonb_build_object('ok', NOT EXISTS (SELECT 1 FROM jsonb_array_elements(v) c WHERE NOT (c ->> 'ok')::boolean), 'checks', v);
END $$;

-- No transaction will write an earlier time any more: the start of the oldest one that writes, or may begin to (a function takes its time, then waits for a lock). What the role of the daemons
-- may not see is not looked at: others have no part in what happens to a task that there is.
CREATE FUNCTION tasker.complete_until() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
  SELECT least(clock_timestamp(), min(a.xact_start)) - interval '1 second' FROM pg_catalog.pg_stat_activity a
  WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend' AND a.xact_start IS NOT NULL
    AND (a.backend_xid IS NOT NULL OR a.state = 'active' AND a.xact_start > clock_timestamp() - interval '1 minute')
$$;

-- What has happened to a task, in order, each event with a key that is its identity. since: leave out what is more than ten seconds older. A transaction may commit long after the times that it writes, so who asks again asks
-- from complete_until on, which is looked up before the events (VOLATILE: each query has a snapshot of its own). Of a very large task only its own states: each call looks at all steps.
CREATE FUNCTION tasker.api_task_events(p jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  v_id bigint; v_large boolean;
  v_archived record := tasker.archived_task(p ->> 'task_uuid');
  v_since CONSTANT timestamptz := coalesce((p ->> 'since')::timestamptz - interval '10 seconds', '-infinity');
  v_until CONSTANT timestamptz := tasker.complete_until();
BEGIN
  IF v_archived.task_id IS NOT NULL THEN
    RETURN (SELECT jsonb_build_object('events', jsonb_build_array(jsonb_build_object('kind', 'task', 'state', t.state, 'at', tasker.rfc3339(t.finished_at), 'key', concat('t', extract(epoch FROM t.finished_at), t.state))))
            FROM tasker.task_rows(v_archived.task_id) t);
  END IF;
  v_id := tasker.task_id_of(p ->> 'task_uuid');
  v_large := 9700 < (SELECT tp.n_steps + coalesce((SELECT sum(b.n_workers) FROM tasker.batches b WHERE b.task_id = v_id), 0) FROM tasker.tasks t JOIN tasker.templates tp USING (template_id) WHERE t.task_id = v_id);
  RETURN jsonb_build_object('complete_until', tasker.rfc3339(v_until), 'events', coalesce((
    SELECT jsonb_agg(e.event || jsonb_build_object('at', tasker.rfc3339(e.at), 'key', e.key) ORDER BY e.at, e.rank, e.step_no)
    FROM (
      SELECT h.at, CASE WHEN h.from_state IS NULL THEN -1 ELSE 9 END AS rank, 0 AS step_no, concat('t', extract(epoch FROM h.at), h.to_state) AS key, jsonb_build_object('kind', 'task', 'state', h.to_state) AS event
      FROM tasker.task_history h WHERE h.task_id = v_id
      UNION ALL
      SELECT x.at, x.rank, cur.step_no, concat('s', cur.step_no, '/', f.fence, x.state), jsonb_build_object('kind', 'step', 'step', tasker.step_name(ts.name, cur.step_no, cur.template_no, cur.inputs),
             'step_uuid', tasker.step_uuid(t.task_uuid, cur.step_no), 'state', x.state, 'attempt', nullif(f.attempt, 0), 'worker_uuid', f.worker_uuid, 'outcome', x.outcome, 'error', x.error)
      FROM tasker.tasks t
      JOIN tasker.steps cur ON cur.task_id = t.task_id
      CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = cur.template_no OFFSET 0) ts
      JOIN LATERAL (
        SELECT a.fence, a.attempt, a.worker_uuid, a.ready_at, a.claimed_at, a.recorded_at AS ended_at, a.outcome, a.error
        FROM tasker.step_attempts a WHERE a.task_id = t.task_id AND a.step_no = cur.step_no
        UNION ALL
        SELECT s.fence + (s.state <> 'in_progress')::int, s.attempts + (s.state <> 'in_progress')::int, NULL, s.ready_at,
               CASE WHEN s.state = 'in_progress' THEN s.claimed_at END, NULL, NULL, NULL
        FROM tasker.steps s WHERE s.task_id = t.task_id AND s.step_no = cur.step_no AND s.state IN ('enqueued', 'in_progress', 'waiting_for_retry')) f ON true
      CROSS JOIN LATERAL (VALUES
        (f.ready_at, 1, 'enqueued', NULL::tasker.attempt_outcome, NULL::jsonb),
        (f.claimed_at, 2, 'in_progress', NULL, NULL),
        (f.ended_at, 0, CASE WHEN f.outcome = 'success' THEN 'complete' WHEN f.outcome = 'cancelled' THEN 'cancelled' WHEN f.outcome = 'released' THEN 'enqueued'
                             WHEN f.fence = cur.fence AND cur.state = 'error' THEN 'error' ELSE 'waiting_for_retry' END, f.outcome, f.error)) AS x(at, rank, state, outcome, error)
      WHERE t.task_id = v_id AND NOT v_large AND x.at IS NOT NULL AND x.at <= clock_timestamp()
      UNION ALL -- ended, but not by an attempt: by hand, or with others
      SELECT greatest(s.finished_at, a.recorded_at), 3, s.step_no, concat('s', s.step_no, '/', s.fence, s.state, extract(epoch FROM s.finished_at)),
             jsonb_build_object('kind', 'step', 'step', tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs), 'step_uuid', tasker.step_uuid(t.task_uuid, s.step_no), 'state', s.state)
      FROM tasker.tasks t
      JOIN tasker.steps s ON s.task_id = t.task_id
      CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
      LEFT JOIN tasker.step_attempts a ON a.task_id = s.task_id AND a.step_no = s.step_no AND a.fence = s.fence AND a.outcome <> 'released'
      WHERE t.task_id = v_id AND NOT v_large AND s.finished_at >= v_since AND s.state IN ('complete', 'resolved_manually', 'cancelled')
        AND a.outcome IS DISTINCT FROM CASE s.state WHEN 'complete' THEN 'success'::tasker.attempt_outcome WHEN 'cancelled' THEN 'cancelled' ELSE 'released' END
    ) e WHERE e.at >= v_since), '[]'));
END $$;
