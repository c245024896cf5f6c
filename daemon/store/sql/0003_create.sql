-- Making tasks, and beginning those that were to begin later. The rules of 0002_engine.sql hold.

-- The usual case in single-row statements: one task without options, of a template with one root, whose tasks are always unique and under no limits. The root is claimed if its handler is one of
-- p_handlers (NULL: no credits), else enqueued. new_task NULL: not such a case, nothing is changed, and create_tasks does it. A uuid that is there already is a
-- unique violation, for create_tasks to answer.
CREATE FUNCTION tasker.create_one(
  p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean, p_handlers int[], p_uuid uuid, p_ns text, p_name text, p_version text, p_context jsonb, p_checked int,
  OUT new_task bigint, OUT template int, OUT root int, OUT root_handler int, OUT taken boolean)
LANGUAGE plpgsql AS $$
DECLARE
  v_locked CONSTANT boolean := pg_advisory_xact_lock_shared(x'7461736c'::int, p_node) IS NULL; -- as in hot_begin
  v_sinks int; v_unique boolean; v_state tasker.step_state; v_one int; v_node int; v_claimed timestamptz;
  v_now CONSTANT timestamptz := now();
BEGIN
  SELECT t.template_id, t.n_sinks, t.root_no, t.root_handler, t.used AND t.identity_strategy = 'always_unique' AND t.lifecycle IS NULL AND (t.input_schema IS NULL OR t.template_id = p_checked)
  INTO template, v_sinks, root, root_handler, v_unique
  FROM tasker.namespaces n JOIN tasker.templates t ON t.namespace_id = n.namespace_id
  WHERE n.name = p_ns AND t.name = p_name AND (p_version IS NULL OR t.version = p_version)
  ORDER BY t.prerelease IS NULL DESC, t.version_key DESC, t.prerelease DESC LIMIT 1;
  IF root IS NULL OR NOT v_unique THEN
    RETURN;
  END IF;
  taken := coalesce(root_handler = ANY (p_handlers), false);
  IF taken THEN
    v_state := 'in_progress'; v_one := 1; v_node := p_node; v_claimed := v_now;
  ELSE
    v_state := 'enqueued'; v_one := 0;
  END IF;
  INSERT INTO tasker.tasks (task_uuid, template_id, state, open_sinks, created_by_node, context)
  VALUES (p_uuid, template, 'steps_in_process', v_sinks, p_node, p_context) RETURNING task_id INTO new_task;
  INSERT INTO tasker.steps (task_id, step_no, template_no, state, pending_parents, attempts, fence, node_no, ready_at, claimed_at)
  SELECT new_task, ts.step_no, ts.step_no, CASE WHEN ts.step_no = root THEN v_state ELSE 'pending' END, cardinality(ts.parents),
         CASE WHEN ts.step_no = root THEN v_one ELSE 0 END, CASE WHEN ts.step_no = root THEN v_one ELSE 0 END,
         CASE WHEN ts.step_no = root THEN v_node END, CASE WHEN ts.step_no = root THEN v_now END, CASE WHEN ts.step_no = root THEN v_claimed END
  FROM tasker.template_steps ts WHERE ts.template_id = template ORDER BY ts.step_no;
  IF NOT taken THEN
    PERFORM tasker.enqueue(ARRAY[new_task], ARRAY[root], ARRAY[0], ARRAY[root_handler], ARRAY[NULL::timestamptz], p_notify);
    RETURN;
  END IF;
  UPDATE tasker.node_claims n SET seq = p_seq, task_ids = ARRAY[new_task], step_nos = ARRAY[root], fences = ARRAY[1]
  WHERE n.node_no = p_node AND n.slot = p_slot AND n.seq < p_seq;
  IF NOT FOUND THEN
    PERFORM tasker.note_claims(p_node, p_incarnation, p_slot, p_seq, ARRAY[new_task], ARRAY[root], ARRAY[1]);
  END IF;
END $$;

-- The same for tasks of one name: p_uuid and p_context are parallel. The first p_cap roots are claimed if their handler is one of p_handlers, the others enqueued. template NULL: not such a
-- case, nothing is changed, and create_tasks does it. taken: the ids of the tasks whose roots were claimed, in order.
CREATE FUNCTION tasker.create_many(
  p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean, p_handlers int[], p_cap int, p_uuid uuid[], p_context jsonb[], p_ns text, p_name text, p_version text, p_checked int,
  OUT template int, OUT root int, OUT root_handler int, OUT taken bigint[])
LANGUAGE plpgsql AS $$
DECLARE
  v_locked CONSTANT boolean := pg_advisory_xact_lock_shared(x'7461736c'::int, p_node) IS NULL; -- as in hot_begin
  v_found int; v_sinks int; v_queue text; v_ids bigint[]; v_no int[]; v_parents int[];
  v_now CONSTANT timestamptz := now();
BEGIN
  SELECT t.template_id, t.n_sinks, t.root_no, t.root_handler INTO v_found, v_sinks, root, root_handler
  FROM (SELECT t.* FROM tasker.namespaces n JOIN tasker.templates t ON t.namespace_id = n.namespace_id
        WHERE n.name = p_ns AND t.name = p_name AND (p_version IS NULL OR t.version = p_version)
        ORDER BY t.prerelease IS NULL DESC, t.version_key DESC, t.prerelease DESC LIMIT 1) t
  WHERE t.root_no IS NOT NULL AND t.used AND t.identity_strategy = 'always_unique' AND t.lifecycle IS NULL AND (t.input_schema IS NULL OR t.template_id = p_checked);
  IF NOT FOUND THEN
    RETURN;
  END IF;
  template := v_found;
  IF p_cap > 0 AND (root_handler = ANY (p_handlers)) IS NOT TRUE THEN
    p_cap := 0;
  END IF;
  SELECT array_agg(ts.step_no ORDER BY ts.step_no), array_agg(cardinality(ts.parents) ORDER BY ts.step_no) INTO v_no, v_parents
  FROM tasker.template_steps ts WHERE ts.template_id = v_found;
  v_ids := ARRAY(SELECT nextval('tasker.tasks_task_id_seq') FROM generate_subscripts(p_uuid, 1));
  INSERT INTO tasker.tasks (task_id, task_uuid, template_id, state, open_sinks, created_by_node, context) OVERRIDING SYSTEM VALUE
  SELECT v_ids[i], p_uuid[i], v_found, 'steps_in_process', v_sinks, p_node, p_context[i] FROM generate_subscripts(p_uuid, 1) AS i;
  INSERT INTO tasker.steps (task_id, step_no, template_no, state, pending_parents, attempts, fence, node_no, ready_at, claimed_at)
  SELECT v_ids[i], v_no[k], v_no[k], CASE WHEN v_no[k] <> root THEN 'pending' WHEN i <= p_cap THEN 'in_progress' ELSE 'enqueued' END::tasker.step_state, v_parents[k],
         (v_no[k] = root AND i <= p_cap)::int, (v_no[k] = root AND i <= p_cap)::int, CASE WHEN v_no[k] = root AND i <= p_cap THEN p_node END,
         CASE WHEN v_no[k] = root THEN v_now END, CASE WHEN v_no[k] = root AND i <= p_cap THEN v_now END
  FROM generate_subscripts(p_uuid, 1) AS i CROSS JOIN generate_subscripts(v_no, 1) AS k;
  taken := v_ids[1:p_cap];
  v_ids := v_ids[p_cap + 1:];
  IF v_ids <> '{}' THEN
    SELECT h.queue_name INTO v_queue FROM tasker.handlers h WHERE h.handler_id = root_handler;
    PERFORM pgmq.send_batch(v_queue, ARRAY(SELECT jsonb_build_object('t', v_ids[i], 's', root, 'f', 0) FROM generate_subscripts(v_ids, 1) AS i), tasker.ready_vt(clock_timestamp(), 0));
    IF p_notify THEN
      PERFORM tasker.notify('tasker_ready', root_handler::text);
    END IF;
  END IF;
  IF taken <> '{}' THEN
    PERFORM tasker.note_claims(p_node, p_incarnation, p_slot, p_seq, taken, array_fill(root, ARRAY[cardinality(taken)]), array_fill(1, ARRAY[cardinality(taken)]));
  END IF;
END $$;

-- The steps of tasks that begin now. Ready ones are claimed within the credits (see tasker.create_tasks), else enqueued. c and q rows.
CREATE FUNCTION tasker.begin_tasks(p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean, p_handler int[], p_quota int[], p_cap int, p_ids bigint[], p_tids int[],
                                   p_uuids uuid[] DEFAULT NULL)
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  c_t bigint[]; c_s int[]; c_u uuid[]; c_m int[]; c_k int[];
  e_t bigint[]; e_s int[]; e_h int[];
BEGIN
  IF p_cap = 0 THEN
    INSERT INTO tasker.steps (task_id, step_no, template_no, state, pending_parents, ready_at)
    SELECT nt.task_id, ts.step_no, ts.step_no, CASE WHEN ts.parents = '{}' THEN 'enqueued' ELSE 'pending' END::tasker.step_state,
           cardinality(ts.parents), CASE WHEN ts.parents = '{}' THEN now() END
    FROM unnest(p_ids, p_tids) WITH ORDINALITY AS nt(task_id, template_id, ord)
    CROSS JOIN LATERAL (SELECT x.step_no, x.parents FROM tasker.template_steps x WHERE x.template_id = nt.template_id AND x.initial OFFSET 0) ts
    ORDER BY nt.ord, ts.step_no;
    SELECT array_agg(nt.task_id ORDER BY nt.ord, ts.step_no), array_agg(ts.step_no ORDER BY nt.ord, ts.step_no),
           array_agg(ts.handler_id ORDER BY nt.ord, ts.step_no)
    INTO e_t, e_s, e_h
    FROM unnest(p_ids, p_tids) WITH ORDINALITY AS nt(task_id, template_id, ord)
    CROSS JOIN LATERAL (SELECT x.step_no, x.handler_id FROM tasker.template_steps x WHERE x.template_id = nt.template_id AND x.parents = '{}' OFFSET 0) ts;
  ELSE
    WITH want AS (
      SELECT nt.*, ts.step_no, ts.handler_id, ts.parents = '{}' AS root, cardinality(ts.parents) AS n_parents,
             ts.parents = '{}' AND o.quota IS NOT NULL
               AND row_number() OVER (PARTITION BY ts.parents = '{}', ts.handler_id ORDER BY nt.ord, ts.step_no) <= o.quota AS in_quota
      FROM unnest(p_ids, p_tids, p_uuids) WITH ORDINALITY AS nt(task_id, template_id, uuid, ord)
      CROSS JOIN LATERAL (SELECT x.step_no, x.handler_id, x.parents FROM tasker.template_steps x WHERE x.template_id = nt.template_id AND x.initial OFFSET 0) ts
      LEFT JOIN unnest(p_handler, p_quota) AS o(handler_id, quota) ON o.handler_id = ts.handler_id),
    capped AS (
      SELECT w.*, w.in_quota AND row_number() OVER (PARTITION BY w.in_quota ORDER BY w.ord, w.step_no) <= p_cap AS take FROM want w),
    ins AS (
      INSERT INTO tasker.steps (task_id, step_no, template_no, state, pending_parents, attempts, fence, node_no, ready_at, claimed_at)
      SELECT k.task_id, k.step_no, k.step_no,
             CASE WHEN NOT k.root THEN 'pending' WHEN k.take THEN 'in_progress' ELSE 'enqueued' END::tasker.step_state,
             k.n_parents, k.take::int, k.take::int, CASE WHEN k.take THEN p_node END,
             CASE WHEN k.root THEN now() END, CASE WHEN k.take THEN now() END
      FROM capped k ORDER BY k.task_id, k.step_no)
    SELECT array_agg(task_id) FILTER (WHERE take), array_agg(step_no) FILTER (WHERE take),
           array_agg(uuid) FILTER (WHERE take), array_agg(template_id) FILTER (WHERE take), array_agg(CASE WHEN uuid IS NOT NULL THEN 0 END) FILTER (WHERE take),
           array_agg(task_id) FILTER (WHERE root AND NOT take), array_agg(step_no) FILTER (WHERE root AND NOT take),
           array_agg(handler_id) FILTER (WHERE root AND NOT take)
    INTO c_t, c_s, c_u, c_m, c_k, e_t, e_s, e_h
    FROM capped WHERE root;
  END IF;

  IF e_t IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.enqueue(e_t, e_s, array_fill(0, ARRAY[cardinality(e_t)]), e_h,
                                              array_fill(NULL::timestamptz, ARRAY[cardinality(e_t)]), p_notify);
  END IF;
  IF c_t IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.hold(p_node, p_incarnation, p_slot, p_seq, c_t, c_s, array_fill(1, ARRAY[cardinality(c_t)]), array_fill(1, ARRAY[cardinality(c_t)]),
                                            c_k, c_u, c_m);
  END IF;
END $$;

-- Messages for tasks that are to be started later, or by a daemon. q row (handler 0, the queue of starts): one may be started now; d row: the next one's time.
CREATE FUNCTION tasker.enqueue_starts(p_tasks bigint[], p_priorities int[], p_at timestamptz[], p_notify boolean) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
  v_first timestamptz := (SELECT min(a) FROM unnest(p_at) AS a);
  r tasker.hot_row;
BEGIN
  INSERT INTO pgmq.q_orchestration_task_requests (vt, message)
  SELECT CASE WHEN m.at <= v_now THEN tasker.ready_vt(v_now, m.priority) ELSE m.at END,
         CASE WHEN m.priority = 0 THEN jsonb_build_object('t', m.task_id) ELSE jsonb_build_object('t', m.task_id, 'p', m.priority) END
  FROM unnest(p_tasks, p_priorities, p_at) WITH ORDINALITY AS m(task_id, priority, at, ord) ORDER BY m.ord;
  r.kind := CASE WHEN v_first <= v_now THEN 'q' ELSE 'd' END;
  r.handler_id := 0;
  r.idx := tasker.until(v_first);
  RETURN NEXT r;
  IF p_notify THEN
    PERFORM tasker.notify('tasker_ready', '0');
  END IF;
END $$;

-- One text for every context that means the same: jsonb has sorted keys and dropped duplicates; what is left are zeros at the end of fractions (1.50 and 1.5, 2.0
-- and 2). The first branch passes over strings. E'', because the caller's standard_conforming_strings may be off.
CREATE FUNCTION tasker.canonical(p jsonb) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
$$ SELECT CASE WHEN p::text ~ '[0-9][.][0-9]*0([]},]|$)'
          THEN regexp_replace(p::text, E'("(?:[^"\\\\]|\\\\.)*")|(-?[0-9]+)(?:[.]0+|([.][0-9]*[1-9])0+)(?![0-9])', E'\\1\\2\\3', 'g') ELSE p::text END $$;

-- Make tasks. Arrays are parallel; p_opts items hold the optional fields of task.create or are NULL.
-- a rows, one for each item: status created | exists | conflict | template_not_found | key_required, with task_uuid and {"state"} in meta.
-- A repeat of the same call (same uuids) answers as the first did: safe when the outcome of a commit is unknown.
-- p_handler, p_quota, p_cap are this node's free credits: up to p_quota[i] steps of handler p_handler[i], p_cap in all, are claimed at once
-- (state in_progress, no queue); what is beyond goes to the queues. p_node NULL: an SQL caller, nothing is claimed.
CREATE FUNCTION tasker.create_tasks(
  p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean,
  p_handler int[], p_quota int[], p_cap int,
  p_uuid uuid[], p_ns text[], p_name text[], p_version text[], p_context jsonb[], p_opts jsonb[],
  p_checked int[] DEFAULT NULL)
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_ids bigint[]; v_tids int[]; v_uuids uuid[]; -- begun at once; the uuid where the caller knows all that the first steps are given
  v_templates int[]; v_unchecked int[]; v_strat tasker.identity_strategy[]; v_keys bytea[]; v_limits boolean; v_later boolean[];
  d_ids bigint[]; d_priorities int[]; d_at timestamptz[]; -- to be started later
BEGIN
  IF p_node IS NOT NULL AND NOT tasker.hot_begin(p_node, p_incarnation) THEN
    p_cap := 0;
  END IF;
  -- An application's transaction may hold an identity for long; those who wait with it in one batch must not.
  PERFORM set_config('lock_timeout', '1s', true) WHERE p_node IS NOT NULL;

  -- Templates, once for each distinct name in the batch. Those with a schema that the context was not checked against count as none; what SQL callers make of them, a daemon
  -- checks before it starts it.
  SELECT array_agg(CASE WHEN x.checks AND p_node IS NOT NULL AND p_checked[i.ord] IS DISTINCT FROM x.template_id THEN NULL ELSE x.template_id END ORDER BY i.ord),
         array_agg(CASE WHEN x.checks AND p_node IS NOT NULL AND p_checked[i.ord] IS DISTINCT FROM x.template_id THEN x.template_id END ORDER BY i.ord),
         array_agg(x.identity_strategy ORDER BY i.ord), bool_or(x.limits), array_agg(x.checks AND p_node IS NULL ORDER BY i.ord)
  INTO v_templates, v_unchecked, v_strat, v_limits, v_later
  FROM unnest(p_ns, p_name, p_version) WITH ORDINALITY AS i(ns, name, version, ord)
  LEFT JOIN (
    SELECT k.ns, k.name, k.version, t.template_id, t.identity_strategy, t.lifecycle IS NOT NULL AS limits, t.input_schema IS NOT NULL AS checks
    FROM (SELECT DISTINCT u.ns, u.name, u.version FROM unnest(p_ns, p_name, p_version) AS u(ns, name, version)) k
    JOIN tasker.namespaces n ON n.name = k.ns
    CROSS JOIN LATERAL (
      SELECT t.template_id, t.identity_strategy, t.lifecycle, t.input_schema FROM tasker.templates t
      WHERE t.namespace_id = n.namespace_id AND t.name = k.name AND (k.version IS NULL OR t.version = k.version)
      ORDER BY t.prerelease IS NULL DESC, t.version_key DESC, t.prerelease DESC LIMIT 1) t
  ) x ON x.ns = i.ns AND x.name = i.name AND x.version IS NOT DISTINCT FROM i.version;

  -- Who replaces an unused template waits for both. An application may take long to commit, so it must not keep a daemon from marking the template.
  IF p_node IS NULL THEN
    PERFORM 1 FROM tasker.templates t WHERE t.template_id = ANY (v_templates) AND NOT t.used ORDER BY t.template_id FOR KEY SHARE;
  ELSE
    UPDATE tasker.templates SET used = true WHERE template_id = ANY (v_templates) AND NOT used;
  END IF;

  -- Identity: an idempotency key wins over the template's strategy.
  SELECT array_agg(CASE
      WHEN i.opts ->> 'idempotency_key' IS NOT NULL THEN sha256(convert_to('key' || chr(31) || i.ns || chr(31) || (i.opts ->> 'idempotency_key'), 'UTF8'))
      WHEN i.strat = 'strict' THEN sha256(convert_to('ctx' || chr(31) || i.tid || chr(31) || tasker.canonical(i.ctx), 'UTF8'))
    END ORDER BY i.ord)
  INTO v_keys
  FROM unnest(p_ns, v_templates, v_strat, p_context, p_opts) WITH ORDINALITY AS i(ns, tid, strat, ctx, opts, ord);

  WITH ins AS (
    INSERT INTO tasker.tasks (task_uuid, template_id, state, open_sinks, n_active, priority, created_by_node, context, identity_key, idempotency_key,
                              initiator, source_system, reason, tags, correlation_id, parent_correlation_id, traceparent, tracestate, run_at, finished_at, request)
    SELECT i.u, i.tid, CASE WHEN l.at IS NOT NULL THEN 'pending' WHEN t.n_sinks = 0 THEN 'complete' ELSE 'steps_in_process' END::tasker.task_state, t.n_sinks, t.start_active,
           coalesce((i.opts ->> 'priority')::smallint, 0), p_node, i.ctx, i.key, i.opts ->> 'idempotency_key',
           i.opts ->> 'initiator', i.opts ->> 'source_system', i.opts ->> 'reason',
           CASE WHEN i.opts ? 'tags' THEN ARRAY(SELECT jsonb_array_elements_text(i.opts -> 'tags')) END,
           i.opts ->> 'correlation_id', i.opts ->> 'parent_correlation_id', i.opts ->> 'traceparent',
           CASE WHEN i.opts ->> 'traceparent' ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}' THEN i.opts ->> 'tracestate' END, l.at,
           CASE WHEN t.n_sinks = 0 AND l.at IS NULL THEN now() END,
           CASE WHEN i.opts ?| '{requested_at,options}' THEN jsonb_strip_nulls(jsonb_build_object('requested_at', i.opts -> 'requested_at', 'options', i.opts -> 'options')) END
    FROM unnest(p_uuid, v_templates, p_context, p_opts, v_keys, v_strat, v_later) WITH ORDINALITY AS i(u, tid, ctx, opts, key, strat, later, ord)
    CROSS JOIN LATERAL (SELECT x.n_sinks, x.start_active FROM tasker.templates x WHERE x.template_id = i.tid OFFSET 0) t
    CROSS JOIN LATERAL (SELECT CASE WHEN (i.opts ->> 'run_at')::timestamptz > now() THEN (i.opts ->> 'run_at')::timestamptz WHEN i.later THEN now() END AS at) l
    WHERE i.strat <> 'caller_provided' OR i.opts ->> 'idempotency_key' IS NOT NULL
    ORDER BY i.key NULLS FIRST, i.ord
    ON CONFLICT DO NOTHING
    RETURNING task_id, template_id, state, priority, run_at,
              CASE WHEN priority = 0 AND correlation_id IS NULL AND parent_correlation_id IS NULL AND traceparent IS NULL THEN task_uuid END AS known)
  SELECT array_agg(task_id ORDER BY task_id) FILTER (WHERE state <> 'pending'), array_agg(template_id ORDER BY task_id) FILTER (WHERE state <> 'pending'),
         array_agg(known ORDER BY task_id) FILTER (WHERE state <> 'pending'),
         array_agg(task_id ORDER BY task_id) FILTER (WHERE state = 'pending'), array_agg(priority::int ORDER BY task_id) FILTER (WHERE state = 'pending'),
         array_agg(run_at ORDER BY task_id) FILTER (WHERE state = 'pending')
  INTO v_ids, v_tids, v_uuids, d_ids, d_priorities, d_at FROM ins;

  IF v_ids IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.begin_tasks(p_node, p_incarnation, p_slot, p_seq, p_notify, p_handler, p_quota, p_cap, v_ids, v_tids, v_uuids);
  END IF;
  IF v_limits THEN
    PERFORM tasker.arm_deadlines(v_ids || d_ids);
  END IF;
  IF d_ids IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.enqueue_starts(d_ids, d_priorities, d_at, p_notify);
  END IF;

  RETURN QUERY
    SELECT 'a'::"char", i.ord::int,
           CASE WHEN i.unchecked IS NOT NULL THEN 'unchecked'
                WHEN i.tid IS NULL THEN 'template_not_found'
                WHEN mine.task_id IS NOT NULL THEN 'created'
                WHEN i.strat = 'caller_provided' AND i.key IS NULL THEN 'key_required'
                WHEN other.context = i.ctx AND (other.template_id = i.tid OR (i.version IS NULL AND EXISTS (
                       SELECT 1 FROM tasker.templates a JOIN tasker.templates b USING (namespace_id, name) WHERE a.template_id = other.template_id AND b.template_id = i.tid))) THEN 'exists'
                WHEN other.task_id IS NULL THEN 'unchecked' -- the template was replaced meanwhile
                ELSE 'conflict' END,
           coalesce(mine.task_id, other.task_id), coalesce(mine.task_uuid, other.task_uuid), coalesce(i.tid, i.unchecked),
           NULL::int, NULL::int, NULL::int, NULL::int, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb,
           jsonb_build_object('state', coalesce(mine.state, other.state))
    FROM unnest(p_uuid, v_templates, p_context, v_keys, v_strat, v_unchecked, p_version) WITH ORDINALITY AS i(u, tid, ctx, key, strat, unchecked, version, ord)
    LEFT JOIN tasker.tasks mine ON mine.task_uuid = i.u
    LEFT JOIN tasker.tasks other ON other.identity_key = i.key AND i.key IS NOT NULL;
END $$;

-- Begin these pending tasks, whose rows are locked.
CREATE FUNCTION tasker.start_now(p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean, p_handler int[], p_quota int[], p_cap int, p_ids bigint[], p_tids int[])
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  d_t bigint[]; d_u uuid[]; d_m int[]; -- nothing is to be done
BEGIN
  WITH u AS (
    UPDATE tasker.tasks t SET state = CASE WHEN t.open_sinks = 0 THEN 'complete' ELSE 'steps_in_process' END::tasker.task_state,
           finished_at = CASE WHEN t.open_sinks = 0 THEN clock_timestamp() END, finished_by_node = CASE WHEN t.open_sinks = 0 THEN p_node END
    WHERE t.task_id = ANY (p_ids) RETURNING t.task_id, t.task_uuid, t.template_id, t.state),
  h AS (INSERT INTO tasker.task_transitions (task_id, from_state, to_state, at, node_no, cause)
        SELECT u.task_id, 'pending', u.state, clock_timestamp(), p_node, '{"event": "started"}' FROM u WHERE u.state <> 'complete')
  SELECT array_agg(u.task_id), array_agg(u.task_uuid), array_agg(u.template_id) INTO d_t, d_u, d_m FROM u WHERE u.state = 'complete';
  PERFORM tasker.arm_deadlines(p_ids);
  RETURN QUERY SELECT * FROM tasker.begin_tasks(p_node, p_incarnation, p_slot, p_seq, p_notify, p_handler, p_quota, p_cap, p_ids, p_tids);
  RETURN QUERY SELECT * FROM tasker.tell_settled(p_notify, 'complete', d_t, d_u, d_m);
END $$;

-- Start tasks whose time has come: pending -> steps_in_process. Credits as in create_tasks; at most p_limit tasks. a row: attempt says how many were started; q row with
-- handler 0: there may be more; d row with handler 0: when the next one is due. A paused task's message is dropped: who resumes it sends another.
CREATE FUNCTION tasker.start_tasks(
  p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean,
  p_handler int[], p_quota int[], p_cap int, p_limit int)
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
  v_msgs bigint[]; v_ids bigint[]; v_tids int[]; v_due timestamptz; u_ids bigint[]; u_priorities int[];
  r tasker.hot_row;
BEGIN
  IF NOT tasker.hot_begin(p_node, p_incarnation) THEN
    p_cap := 0;
  END IF;
  UPDATE pgmq.q_orchestration_task_requests q SET vt = tasker.ready_vt(q.vt, coalesce((q.message ->> 'p')::int, 0))
  WHERE q.msg_id = ANY (ARRAY(SELECT x.msg_id FROM pgmq.q_orchestration_task_requests x WHERE x.vt > v_now - interval '12 hours' AND x.vt <= v_now FOR UPDATE SKIP LOCKED));
  WITH m AS MATERIALIZED (SELECT q.msg_id FROM pgmq.q_orchestration_task_requests q WHERE q.vt <= v_now ORDER BY q.vt LIMIT p_limit FOR UPDATE SKIP LOCKED),
  d AS (DELETE FROM pgmq.q_orchestration_task_requests q WHERE q.msg_id = ANY (ARRAY(SELECT m.msg_id FROM m)) RETURNING (q.message ->> 't')::bigint AS task_id)
  SELECT array_agg(d.task_id) INTO v_msgs FROM d;
  r.handler_id := 0;
  IF cardinality(v_msgs) = p_limit THEN
    r.kind := 'q';
    RETURN NEXT r;
  ELSE
    SELECT q.vt INTO v_due FROM pgmq.q_orchestration_task_requests q ORDER BY q.vt LIMIT 1;
    IF v_due IS NOT NULL THEN
      r.kind := 'd';
      r.idx := tasker.until(v_due);
      RETURN NEXT r;
    END IF;
  END IF;
  -- Highest priority first: what begins is handed over in this order.
  SELECT array_agg(l.task_id ORDER BY l.priority DESC, l.task_id) FILTER (WHERE NOT l.unchecked), array_agg(l.template_id ORDER BY l.priority DESC, l.task_id) FILTER (WHERE NOT l.unchecked), array_agg(l.task_id) FILTER (WHERE l.unchecked), array_agg(l.priority) FILTER (WHERE l.unchecked)
  INTO v_ids, v_tids, u_ids, u_priorities FROM (
    SELECT t.task_id, t.template_id, t.priority::int, t.created_by_node IS NULL AND EXISTS (SELECT 1 FROM tasker.templates x WHERE x.template_id = t.template_id AND x.input_schema IS NOT NULL) AS unchecked
    FROM tasker.tasks t WHERE t.task_id = ANY (v_msgs) AND t.state = 'pending' AND NOT t.paused ORDER BY t.task_id FOR NO KEY UPDATE) l;
  IF v_ids IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.start_now(p_node, p_incarnation, p_slot, p_seq, p_notify, p_handler, p_quota, p_cap, v_ids, v_tids);
  END IF;
  IF u_ids IS NOT NULL THEN
    -- Should the daemon die before it says what it has found, another look is taken. A message that has become useless is dropped then.
    PERFORM tasker.enqueue_starts(u_ids, u_priorities, array_fill(v_now + interval '30 seconds', ARRAY[cardinality(u_ids)]), false);
    RETURN QUERY SELECT 'k'::"char", NULL::int, NULL::text, t.task_id, t.task_uuid, t.template_id, NULL::int, NULL::int, NULL::int, NULL::int, t.context, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
                 FROM tasker.tasks t WHERE t.task_id = ANY (u_ids);
  END IF;
  r := NULL;
  r.kind := 'a'; r.idx := 1; r.status := 'started'; r.attempt := coalesce(cardinality(v_ids), 0);
  RETURN NEXT r;
END $$;

-- What the daemon has found of the contexts of tasks that SQL callers made (k rows of start_tasks): those without an error begin, the others end in error with
-- the reason in their history. Nothing is claimed.
CREATE FUNCTION tasker.start_checked(p_node int, p_incarnation int, p_notify boolean, p_tasks bigint[], p_errors jsonb[]) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_ids bigint[]; v_tids int[]; v_bad bigint[]; d_t bigint[]; d_u uuid[]; d_m int[];
BEGIN
  PERFORM tasker.hot_begin(p_node, p_incarnation);
  SELECT array_agg(l.task_id) FILTER (WHERE e.error IS NULL), array_agg(l.template_id) FILTER (WHERE e.error IS NULL), array_agg(l.task_id) FILTER (WHERE e.error IS NOT NULL)
  INTO v_ids, v_tids, v_bad
  FROM (SELECT t.task_id, t.template_id FROM tasker.tasks t WHERE t.task_id = ANY (p_tasks) AND t.state = 'pending' AND NOT t.paused ORDER BY t.task_id FOR NO KEY UPDATE) l
  JOIN unnest(p_tasks, p_errors) AS e(task_id, error) USING (task_id);
  IF v_ids IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.start_now(p_node, p_incarnation, NULL, NULL, p_notify, '{}', '{}', 0, v_ids, v_tids);
  END IF;
  IF v_bad IS NOT NULL THEN
    WITH u AS (
      UPDATE tasker.tasks t SET state = 'error', finished_at = clock_timestamp(), finished_by_node = p_node WHERE t.task_id = ANY (v_bad) RETURNING t.task_id, t.task_uuid, t.template_id),
    h AS (INSERT INTO tasker.task_transitions (task_id, from_state, to_state, at, node_no, cause)
          SELECT u.task_id, 'pending', 'error', clock_timestamp(), p_node, jsonb_build_object('event', 'invalid_context') || e.error
          FROM u JOIN unnest(p_tasks, p_errors) AS e(task_id, error) USING (task_id))
    SELECT array_agg(u.task_id), array_agg(u.task_uuid), array_agg(u.template_id) INTO d_t, d_u, d_m FROM u;
    RETURN QUERY SELECT * FROM tasker.tell_settled(p_notify, 'error', d_t, d_u, d_m);
  END IF;
END $$;
