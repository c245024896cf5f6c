-- The hot path: set-based functions, arrays in, rows out, one round trip and one commit for each batch.
--
-- Lock order everywhere: queue rows, then task rows by task_id, then step rows. Whoever changes a task's step states other than
-- enqueued -> in_progress holds the task's row lock, so the counters on the task row and pending_parents never race.
--
-- Plans must not depend on statistics: a table that was empty when it was last analyzed makes the planner walk it whole as the outer side of a join with a batch,
-- and no enable_* setting forbids that. So every look-up of a batch in a table is a LATERAL subquery with OFFSET 0 (which cannot be reordered), and every update of what was
-- looked up goes by ctid (the rows are locked, or the states make concurrent writers exclude each other). The daemon's connections also turn sequential scans,
-- hash and merge joins off and use generic plans.

CREATE FUNCTION tasker.step_uuid(p_task uuid, p_step_no int) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
$$ SELECT (left(p_task::text, 30) || lpad(to_hex(p_step_no + 1), 6, '0'))::uuid $$;

-- The name of a step in its task: that of the template step, and for a batch worker instance the id of its batch.
CREATE FUNCTION tasker.step_name(p_name text, p_step_no int, p_template_no int, p_inputs jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN p_step_no = p_template_no THEN p_name ELSE p_name || '_' || coalesce(p_inputs #>> '{cursor,batch_id}', '') END $$;

-- Satisfied: its children need not wait for it. A batch worker's failure that its batch tolerates has a result, {"error": ...}; other failures have none.
CREATE FUNCTION tasker.satisfied(p_state tasker.step_state, p_result jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT p_state IN ('complete', 'resolved_manually') OR (p_state = 'error' AND p_result IS NOT NULL) $$;

-- Step numbers of a batch worker's instances; none while there are none.
CREATE FUNCTION tasker.instances(p_task bigint, p_template_no int) RETURNS SETOF int
LANGUAGE sql STABLE ROWS 100 AS
$$ SELECT b.template_no + k * b.stride FROM tasker.batches b CROSS JOIN LATERAL generate_series(1, b.n_workers) AS k WHERE b.task_id = p_task AND b.template_no = p_template_no $$;

-- UUIDv7 (48 bits of milliseconds, then random) whose low 24 bits are zero, room for step numbers.
CREATE FUNCTION tasker.new_task_uuid() RETURNS uuid
LANGUAGE sql VOLATILE AS
$$ SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(g, 14, 13) || '000000')::uuid
   FROM replace(gen_random_uuid()::text, '-', '') AS g $$;

CREATE TYPE tasker.hot_row AS (
  kind "char",          -- a: outcome of item idx; c: a step claimed for the calling node; s: a task has settled; q: a queue has messages; e: see publish_events;
                        -- d: a queue's next message is due in idx milliseconds; x: a running step of a cancelled task;
                        -- k: a context that the daemon is to check
  idx int,              -- a: 1-based position in the input arrays; c from adopt_claims: times the step was given back at a checkpoint
  status text,          -- a, s: see each function
  task_id bigint,
  task_uuid uuid,
  template_id int,
  step_no int,
  attempt int,
  fence int,
  handler_id int,
  context jsonb,
  deps jsonb,           -- {"<step_no>": result}; of batch workers {"<name>": result}
  inputs jsonb,
  checkpoint jsonb,
  meta jsonb            -- priority, correlation ids, if not default
);

-- What a deciding step's outcome leads to. problem set (from tasker.apply_outcomes as the JSON of an error): the outcome is refused and nothing has changed. Else: step
-- step_no waits for n parents less.
CREATE TYPE tasker.effect AS (idx int, problem text, task_id bigint, template_id int, step_no int, n int);

-- Refuse the writes of a daemon that has been replaced. False: the node's lease has run out (it was paused), so it must not claim until it has proved life again; what it
-- claimed now would be taken back at once.
CREATE FUNCTION tasker.hot_begin(p_node int, p_incarnation int) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  v_alive boolean;
  -- Held to the commit: a new incarnation waits for the calls that its predecessor left in flight before it looks at what the node holds.
  v_locked CONSTANT boolean := pg_advisory_xact_lock_shared(x'7461736c'::int, p_node) IS NULL;
BEGIN
  SELECT n.lease_until > now() INTO v_alive FROM tasker.nodes n WHERE n.node_no = p_node AND n.incarnation = p_incarnation;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'node % incarnation % has been replaced', p_node, p_incarnation USING ERRCODE = 'TK001';
  END IF;
  RETURN v_alive;
END $$;

-- Queues are read in the order of vt, which carries the priority: a message for now gets a vt in the past, the further the higher its task's priority. A delayed
-- message has its due time as vt; when that has come, claim() gives it the vt of its priority. So one index serves visibility, priority and order of arrival.
CREATE FUNCTION tasker.ready_vt(p_at timestamptz, p_priority int) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT p_at - (101 + p_priority) * interval '24 hours' $$;

-- Put messages for ready steps into their handlers' queues. `p_at` NULL: visible now. Returns one q row for each queue with something for now.
CREATE FUNCTION tasker.enqueue(p_tasks bigint[], p_steps int[], p_fences int[], p_handlers int[], p_at timestamptz[], p_notify boolean)
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  q record;
  v_ids int[] := '{}';
  v_now timestamptz := clock_timestamp();
  r tasker.hot_row;
BEGIN
  FOR q IN
    SELECT h.handler_id, h.queue_name, m.at IS NULL AS ready, coalesce(m.at, tasker.ready_vt(v_now, t.priority)) AS vt,
           array_agg(CASE WHEN t.priority = 0 THEN jsonb_build_object('t', m.task_id, 's', m.step_no, 'f', m.fence)
                     ELSE jsonb_build_object('t', m.task_id, 's', m.step_no, 'f', m.fence, 'p', t.priority) END ORDER BY m.ord) AS msgs
    FROM unnest(p_tasks, p_steps, p_fences, p_handlers, p_at) WITH ORDINALITY AS m(task_id, step_no, fence, handler_id, at, ord)
    CROSS JOIN LATERAL (SELECT x.handler_id, x.queue_name FROM tasker.handlers x WHERE x.handler_id = m.handler_id OFFSET 0) h
    CROSS JOIN LATERAL (SELECT x.priority FROM tasker.tasks x WHERE x.task_id = m.task_id OFFSET 0) t
    GROUP BY h.handler_id, h.queue_name, m.at IS NULL, vt
    ORDER BY h.handler_id, vt
  LOOP
    PERFORM pgmq.send_batch(q.queue_name, q.msgs, q.vt);
    IF q.ready AND q.handler_id <> ALL (v_ids) THEN
      v_ids := v_ids || q.handler_id;
      r.kind := 'q';
      r.handler_id := q.handler_id;
      RETURN NEXT r;
    END IF;
  END LOOP;
  IF p_notify AND cardinality(v_ids) > 0 THEN
    PERFORM pg_notify('tasker_ready', left(array_to_string(v_ids, ','), 7900));
  END IF;
END $$;

-- A claimed step's optional fields, or NULL if all have their defaults.
CREATE FUNCTION tasker.claim_meta(p_priority int, p_correlation text, p_parent text, p_traceparent text) RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN p_priority <> 0 OR p_correlation IS NOT NULL OR p_parent IS NOT NULL OR p_traceparent IS NOT NULL
          THEN jsonb_strip_nulls(jsonb_build_object('priority', p_priority, 'correlation_id', p_correlation,
                 'parent_correlation_id', p_parent, 'traceparent', p_traceparent)) END $$;

-- The rows a dispatcher needs to run steps just claimed. Results of ancestors that are more than the setting tasker.max_dependencies (bytes) together are left out
-- (status partial); handlers ask for them.
-- (Workers of a batch are many, and the result of their batchable lists them all: they are given no more than 16 KiB each, so that a batch costs what its workers cost.)
CREATE FUNCTION tasker.claimed_rows(p_tasks bigint[], p_steps int[], p_attempts int[], p_fences int[])
RETURNS SETOF tasker.hot_row LANGUAGE sql STABLE ROWS 100 AS $$
  SELECT 'c'::"char", NULL::int, CASE WHEN d.cut THEN 'partial' END, t.task_id, t.task_uuid, t.template_id, c.step_no, c.attempt, c.fence, ts.handler_id,
         t.context, d.deps, s.inputs, s.checkpoint,
         tasker.claim_meta(t.priority::int, t.correlation_id, t.parent_correlation_id, t.traceparent)
  FROM (SELECT coalesce(current_setting('tasker.max_dependencies', true), '1048576')::bigint AS bytes) m
  CROSS JOIN unnest(p_tasks, p_steps, p_attempts, p_fences) AS c(task_id, step_no, attempt, fence)
  CROSS JOIN LATERAL (SELECT x.* FROM tasker.tasks x WHERE x.task_id = c.task_id OFFSET 0) t
  CROSS JOIN LATERAL (SELECT x.template_no, x.inputs, x.checkpoint FROM tasker.steps x WHERE x.task_id = c.task_id AND x.step_no = c.step_no OFFSET 0) s
  CROSS JOIN LATERAL (SELECT x.handler_id, x.ancestors, x.worker_ancestors FROM tasker.template_steps x WHERE x.template_id = t.template_id AND x.step_no = s.template_no OFFSET 0) ts
  CROSS JOIN LATERAL (SELECT CASE WHEN s.template_no = c.step_no THEN m.bytes ELSE least(m.bytes, 16384) END AS bytes) l
  LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(p.name, p.result) FILTER (WHERE p.total <= l.bytes) AS deps, bool_or(p.total > l.bytes) AS cut
    FROM (SELECT a.name, a.result, sum(coalesce(a.result_bytes, 4)) OVER () AS total
          FROM (SELECT x.step_no::text AS name, x.result, x.result_bytes
                FROM unnest(ts.ancestors) AS a(no) -- not = ANY: that may become a filter over all steps of the task
                CROSS JOIN LATERAL (SELECT y.step_no, y.result, y.result_bytes FROM tasker.steps y
                                    WHERE y.task_id = c.task_id AND y.step_no = a.no AND y.state IN ('complete', 'resolved_manually') OFFSET 0) x
                UNION ALL
                SELECT tasker.step_name(tw.name, x.step_no, w.no, x.inputs), x.result, x.result_bytes
                FROM unnest(ts.worker_ancestors) AS w(no)
                CROSS JOIN LATERAL (SELECT y.name FROM tasker.template_steps y WHERE y.template_id = t.template_id AND y.step_no = w.no OFFSET 0) tw
                CROSS JOIN LATERAL tasker.instances(c.task_id, w.no) AS i(no)
                CROSS JOIN LATERAL (SELECT y.step_no, y.inputs, y.result, y.result_bytes FROM tasker.steps y
                                    WHERE y.task_id = c.task_id AND y.step_no = i.no AND tasker.satisfied(y.state, y.result) OFFSET 0) x) a) p
  ) d ON ts.ancestors <> '{}'
$$;

-- Note in a slot of the journal what a node now holds. The slot is free: all that it lists is recorded. If a commit's outcome is lost, tasker.recover_claims(slot, seq)
-- tells whether it happened and what it claimed.
CREATE FUNCTION tasker.note_claims(p_node int, p_incarnation int, p_slot int, p_seq bigint, p_tasks bigint[], p_steps int[], p_fences int[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  -- A node's rows are its own incarnation's: whoever takes them over (adopt_claims, reclaim) removes them.
  UPDATE tasker.node_claims n SET seq = p_seq, task_ids = p_tasks, step_nos = p_steps, fences = p_fences WHERE n.node_no = p_node AND n.slot = p_slot AND n.seq < p_seq;
  IF NOT FOUND THEN
    IF NOT tasker.hot_begin(p_node, p_incarnation) THEN
      RAISE EXCEPTION 'the lease of node % has run out', p_node USING ERRCODE = 'TK002';
    END IF;
    INSERT INTO tasker.node_claims (node_no, slot, seq, task_ids, step_nos, fences) VALUES (p_node, p_slot, p_seq, p_tasks, p_steps, p_fences);
  END IF;
END $$;

-- The same, and return what the node's dispatcher needs.
CREATE FUNCTION tasker.hold(p_node int, p_incarnation int, p_slot int, p_seq bigint, p_tasks bigint[], p_steps int[], p_attempts int[], p_fences int[])
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
BEGIN
  PERFORM tasker.note_claims(p_node, p_incarnation, p_slot, p_seq, p_tasks, p_steps, p_fences);
  RETURN QUERY SELECT * FROM tasker.claimed_rows(p_tasks, p_steps, p_attempts, p_fences);
END $$;

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

-- The usual case in single-row statements: one success, in a task that counts nothing, of a step all of whose children have no other parent (the caller knows: templates never
-- change). Children become ready: those with p_take are claimed for the calling node (attempt 1, fence 1), the others go to their queues. 0: not such a case
-- (the attempt is not current, the task counts); nothing is changed, and record_results does it. SQLSTATE TK002: likewise. 1: recorded; 2: and the task is complete. One number,
-- because a row costs a function scan.
CREATE FUNCTION tasker.record_one(
  p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean, p_children int[], p_handlers int[], p_take boolean[],
  p_task bigint, p_step int, p_fence int, p_result jsonb, p_bytes int, p_meta jsonb, p_exec_ms real, p_worker uuid, p_finished timestamptz) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
  v_locked CONSTANT boolean := pg_advisory_xact_lock_shared(x'7461736c'::int, p_node) IS NULL; -- as in hot_begin
  v_now timestamptz; -- taken under the task's lock, so that a task's times are in the order of what happened
  v_active int; v_attempts int; v_ready timestamptz; v_claimed timestamptz; v_child int; v_take boolean; v_complete boolean;
  c_t bigint[]; c_s int[]; c_f int[];
  e_t bigint[]; e_s int[]; e_h int[];
BEGIN
  SELECT t.n_active INTO v_active FROM tasker.tasks t WHERE t.task_id = p_task FOR NO KEY UPDATE;
  IF NOT FOUND OR v_active IS NOT NULL THEN
    RETURN 0;
  END IF;
  v_now := clock_timestamp();
  UPDATE tasker.steps s SET state = 'complete', result = p_result, result_bytes = p_bytes, error = NULL, finished_at = v_now
  WHERE s.task_id = p_task AND s.step_no = p_step AND s.state = 'in_progress' AND s.fence = p_fence
  RETURNING s.attempts, s.ready_at, s.claimed_at INTO v_attempts, v_ready, v_claimed;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  INSERT INTO tasker.step_attempts (task_id, step_no, attempt, fence, outcome, node_no, worker_uuid, ready_at, claimed_at, finished_at, recorded_at, execution_ms, metadata)
  VALUES (p_task, p_step, v_attempts, p_fence, 'success', p_node, p_worker, v_ready, v_claimed, p_finished, v_now, p_exec_ms, p_meta);

  IF p_children IS NULL THEN
    UPDATE tasker.tasks t SET
      open_sinks = t.open_sinks - 1,
      state = CASE WHEN t.open_sinks = 1 THEN 'complete' ELSE t.state END,
      finished_at = CASE WHEN t.open_sinks = 1 THEN v_now END,
      finished_by_node = CASE WHEN t.open_sinks = 1 THEN p_node END
    WHERE t.task_id = p_task AND t.state NOT IN ('complete', 'error', 'cancelled', 'resolved_manually')
    RETURNING t.open_sinks = 0 INTO v_complete;
    IF v_complete AND p_notify THEN
      PERFORM pg_notify('tasker_settled', (SELECT t.task_uuid::text FROM tasker.tasks t WHERE t.task_id = p_task));
    END IF;
    RETURN CASE WHEN v_complete THEN 2 ELSE 1 END;
  END IF;
  FOR i IN 1 .. cardinality(p_children) LOOP
    v_child := p_children[i];
    v_take := p_take[i];
    IF v_take THEN
      UPDATE tasker.steps s SET state = 'in_progress', pending_parents = 0, attempts = 1, fence = 1, node_no = p_node, ready_at = v_now, claimed_at = v_now
      WHERE s.task_id = p_task AND s.step_no = v_child AND s.state = 'pending' AND s.fence = 0;
      c_t := c_t || p_task; c_s := c_s || v_child; c_f := c_f || 1;
    ELSE
      UPDATE tasker.steps s SET state = 'enqueued', pending_parents = 0, ready_at = v_now
      WHERE s.task_id = p_task AND s.step_no = v_child AND s.state = 'pending' AND s.fence = 0;
      e_t := e_t || p_task; e_s := e_s || v_child; e_h := e_h || p_handlers[i];
    END IF;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'step % of task id % is not as its template made it', v_child, p_task USING ERRCODE = 'TK002';
    END IF;
  END LOOP;
  IF e_t IS NOT NULL THEN
    PERFORM tasker.enqueue(e_t, e_s, array_fill(0, ARRAY[cardinality(e_t)]), e_h, array_fill(NULL::timestamptz, ARRAY[cardinality(e_t)]), p_notify);
  END IF;
  IF c_t IS NOT NULL THEN
    UPDATE tasker.node_claims n SET seq = p_seq, task_ids = c_t, step_nos = c_s, fences = c_f WHERE n.node_no = p_node AND n.slot = p_slot AND n.seq < p_seq;
    IF NOT FOUND THEN
      PERFORM tasker.note_claims(p_node, p_incarnation, p_slot, p_seq, c_t, c_s, c_f);
    END IF;
  END IF;
  RETURN 1;
END $$;

-- The steps of tasks that begin now. Ready ones are claimed within the credits (see tasker.create_tasks), else enqueued. c and q rows.
CREATE FUNCTION tasker.begin_tasks(p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean, p_handler int[], p_quota int[], p_cap int, p_ids bigint[], p_tids int[])
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  c_t bigint[]; c_s int[];
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
      SELECT nt.ord, nt.task_id, ts.step_no, ts.handler_id, ts.parents = '{}' AS root, cardinality(ts.parents) AS n_parents,
             ts.parents = '{}' AND o.quota IS NOT NULL
               AND row_number() OVER (PARTITION BY ts.parents = '{}', ts.handler_id ORDER BY nt.ord, ts.step_no) <= o.quota AS in_quota
      FROM unnest(p_ids, p_tids) WITH ORDINALITY AS nt(task_id, template_id, ord)
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
           array_agg(task_id) FILTER (WHERE root AND NOT take), array_agg(step_no) FILTER (WHERE root AND NOT take),
           array_agg(handler_id) FILTER (WHERE root AND NOT take)
    INTO c_t, c_s, e_t, e_s, e_h
    FROM capped WHERE root;
  END IF;

  IF e_t IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.enqueue(e_t, e_s, array_fill(0, ARRAY[cardinality(e_t)]), e_h,
                                              array_fill(NULL::timestamptz, ARRAY[cardinality(e_t)]), p_notify);
  END IF;
  IF c_t IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.hold(p_node, p_incarnation, p_slot, p_seq, c_t, c_s, array_fill(1, ARRAY[cardinality(c_t)]), array_fill(1, ARRAY[cardinality(c_t)]));
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
  r.idx := greatest(1, least(extract(epoch FROM v_first - v_now) * 1000 + 1, 86400000))::int;
  RETURN NEXT r;
  IF p_notify THEN
    PERFORM pg_notify('tasker_ready', '0');
  END IF;
END $$;

-- One text for every context that means the same: jsonb has sorted keys and dropped duplicates; what is left are zeros at the end of fractions (1.50 and 1.5, 2.0
-- and 2). The first branch passes over strings.
CREATE FUNCTION tasker.canonical(p jsonb) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
$$ SELECT CASE WHEN p::text ~ '[0-9][.][0-9]*0([]},]|$)'
          THEN regexp_replace(p::text, '("(?:[^"\\]|\\.)*")|(-?[0-9]+)(?:[.]0+|([.][0-9]*[1-9])0+)(?![0-9])', '\1\2\3', 'g') ELSE p::text END $$;

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
  v_ids bigint[]; v_tids int[];
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
                              initiator, source_system, reason, tags, correlation_id, parent_correlation_id, traceparent, run_at, finished_at)
    SELECT i.u, i.tid, CASE WHEN l.at IS NOT NULL THEN 'pending' WHEN t.n_sinks = 0 THEN 'complete' ELSE 'steps_in_process' END::tasker.task_state, t.n_sinks, t.start_active,
           coalesce((i.opts ->> 'priority')::smallint, 0), p_node, i.ctx, i.key, i.opts ->> 'idempotency_key',
           i.opts ->> 'initiator', i.opts ->> 'source_system', i.opts ->> 'reason',
           CASE WHEN i.opts ? 'tags' THEN ARRAY(SELECT jsonb_array_elements_text(i.opts -> 'tags')) END,
           i.opts ->> 'correlation_id', i.opts ->> 'parent_correlation_id', i.opts ->> 'traceparent', l.at,
           CASE WHEN t.n_sinks = 0 AND l.at IS NULL THEN now() END
    FROM unnest(p_uuid, v_templates, p_context, p_opts, v_keys, v_strat, v_later) WITH ORDINALITY AS i(u, tid, ctx, opts, key, strat, later, ord)
    CROSS JOIN LATERAL (SELECT x.n_sinks, x.start_active FROM tasker.templates x WHERE x.template_id = i.tid OFFSET 0) t
    CROSS JOIN LATERAL (SELECT CASE WHEN (i.opts ->> 'run_at')::timestamptz > now() THEN (i.opts ->> 'run_at')::timestamptz WHEN i.later THEN now() END AS at) l
    WHERE i.strat <> 'caller_provided' OR i.opts ->> 'idempotency_key' IS NOT NULL
    ORDER BY i.key NULLS FIRST, i.ord
    ON CONFLICT DO NOTHING
    RETURNING task_id, template_id, state, priority, run_at)
  SELECT array_agg(task_id ORDER BY task_id) FILTER (WHERE state <> 'pending'), array_agg(template_id ORDER BY task_id) FILTER (WHERE state <> 'pending'),
         array_agg(task_id ORDER BY task_id) FILTER (WHERE state = 'pending'), array_agg(priority::int ORDER BY task_id) FILTER (WHERE state = 'pending'),
         array_agg(run_at ORDER BY task_id) FILTER (WHERE state = 'pending')
  INTO v_ids, v_tids, d_ids, d_priorities, d_at FROM ins;

  IF v_ids IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.begin_tasks(p_node, p_incarnation, p_slot, p_seq, p_notify, p_handler, p_quota, p_cap, v_ids, v_tids);
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

-- Give the calling node steps from the queues of p_handler, up to p_quota[i] of each and p_cap in all, beginning with any of them. c rows; a q row for every queue that
-- may hold more; a d row for every queue that has only messages for later. The message is deleted here: from now on the node's lease guards the step.
CREATE FUNCTION tasker.claim(
  p_node int, p_incarnation int, p_slot int, p_seq bigint,
  p_handler int[], p_quota int[], p_cap int)
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  i int;
  n int := coalesce(cardinality(p_handler), 0);
  v_first int := floor(random() * n);
  v_left int := p_cap;
  v_want int; v_got int; v_queue text; v_due timestamptz; v_now timestamptz := clock_timestamp();
  m_t bigint[] := '{}'; m_s int[] := '{}'; m_f int[] := '{}';
  g_t bigint[]; g_s int[]; g_f int[];
  c_t bigint[]; c_s int[]; c_a int[]; c_f int[];
  v_waiting boolean;
  r tasker.hot_row;
BEGIN
  IF NOT tasker.hot_begin(p_node, p_incarnation) THEN
    v_left := 0; -- every queue gets its q row: come again
  END IF;
  FOR k IN 1 .. n LOOP
    i := 1 + (v_first + k) % n;
    r := NULL;
    r.kind := 'q';
    r.handler_id := p_handler[i];
    v_want := least(v_left, p_quota[i]);
    IF v_want <= 0 THEN
      RETURN NEXT r;
      CONTINUE;
    END IF;
    SELECT h.queue_name INTO v_queue FROM tasker.handlers h WHERE h.handler_id = p_handler[i];
    CONTINUE WHEN NOT FOUND;
    -- By vt, not msg_id: the index skips what is not yet due. First, what has become due takes the place of its priority.
    EXECUTE format('UPDATE pgmq.%I q SET vt = tasker.ready_vt(q.vt, coalesce((q.message ->> ''p'')::int, 0)) WHERE q.vt > $1 - interval ''12 hours'' AND q.vt <= $1',
                   'q_' || v_queue) USING v_now;
    EXECUTE format(
      'WITH m AS MATERIALIZED (SELECT q.msg_id FROM pgmq.%1$I q WHERE q.vt <= $2 ORDER BY q.vt LIMIT $1 FOR UPDATE SKIP LOCKED),
            d AS (DELETE FROM pgmq.%1$I q WHERE q.msg_id = ANY (ARRAY(SELECT m.msg_id FROM m)) RETURNING q.msg_id, q.message)
       SELECT array_agg((message ->> ''t'')::bigint ORDER BY msg_id), array_agg((message ->> ''s'')::int ORDER BY msg_id),
              array_agg((message ->> ''f'')::int ORDER BY msg_id), count(*) FROM d',
      'q_' || v_queue) INTO g_t, g_s, g_f, v_got USING v_want, v_now;
    IF v_got > 0 THEN
      m_t := m_t || g_t; m_s := m_s || g_s; m_f := m_f || g_f;
      v_left := v_left - v_got;
    END IF;
    IF v_got = v_want THEN
      RETURN NEXT r;
    ELSE
      EXECUTE format('SELECT q.vt FROM pgmq.%I q ORDER BY q.vt LIMIT 1', 'q_' || v_queue) INTO v_due;
      IF v_due IS NOT NULL THEN
        r.kind := 'd';
        r.idx := greatest(1, least(extract(epoch FROM v_due - clock_timestamp()) * 1000 + 1, 86400000))::int;
        RETURN NEXT r;
      END IF;
    END IF;
  END LOOP;
  IF cardinality(m_t) = 0 THEN
    RETURN;
  END IF;

  -- A step coming out of a backoff changes its task's counters: task rows first.
  SELECT bool_or(true) INTO v_waiting FROM (
    SELECT 1 FROM tasker.tasks t
    WHERE t.task_id = ANY (ARRAY(
      SELECT s.task_id FROM unnest(m_t, m_s) AS m(task_id, step_no)
      CROSS JOIN LATERAL (SELECT z.task_id FROM tasker.steps z WHERE z.task_id = m.task_id AND z.step_no = m.step_no AND z.state = 'waiting_for_retry' OFFSET 0) s))
    ORDER BY t.task_id FOR NO KEY UPDATE) x;
  IF v_waiting THEN
    WITH w AS (
      SELECT m.task_id, count(DISTINCT m.step_no)::int AS n
      FROM unnest(m_t, m_s, m_f) AS m(task_id, step_no, fence)
      CROSS JOIN LATERAL (SELECT 1 FROM tasker.steps z WHERE z.task_id = m.task_id AND z.step_no = m.step_no AND z.fence = m.fence AND z.state = 'waiting_for_retry' OFFSET 0) s
      GROUP BY m.task_id),
    o AS (
      SELECT w.n, z.c, z.state FROM w
      CROSS JOIN LATERAL (SELECT t.ctid AS c, t.state FROM tasker.tasks t WHERE t.task_id = w.task_id OFFSET 0) z),
    u AS (
      UPDATE tasker.tasks t SET n_waiting = t.n_waiting - o.n, n_active = t.n_active + o.n, state = 'steps_in_process'
      FROM o WHERE t.ctid = o.c
      RETURNING t.task_id, o.state AS old)
    INSERT INTO tasker.task_transitions (task_id, from_state, to_state, at, node_no, cause)
    SELECT u.task_id, u.old, 'steps_in_process', clock_timestamp(), p_node, '{"event": "retry_ready"}' FROM u WHERE u.old <> 'steps_in_process';
  END IF;

  WITH u AS (
    UPDATE tasker.steps s SET state = 'in_progress', node_no = p_node, claimed_at = clock_timestamp(), attempts = s.attempts + 1, fence = s.fence + 1, retry_at = NULL
    FROM (SELECT m.fence, z.c FROM unnest(m_t, m_s, m_f) AS m(task_id, step_no, fence)
          CROSS JOIN LATERAL (SELECT x.ctid AS c FROM tasker.steps x WHERE x.task_id = m.task_id AND x.step_no = m.step_no OFFSET 0) z
          ORDER BY m.task_id, m.step_no) k
    WHERE s.ctid = k.c AND s.fence = k.fence AND s.state IN ('enqueued', 'waiting_for_retry')
    RETURNING s.task_id, s.step_no, s.attempts, s.fence)
  SELECT array_agg(task_id), array_agg(step_no), array_agg(attempts), array_agg(fence) INTO c_t, c_s, c_a, c_f FROM u;
  IF c_t IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.hold(p_node, p_incarnation, p_slot, p_seq, c_t, c_s, c_a, c_f);
  END IF;
END $$;

-- s rows for tasks that have settled, and a word to the other nodes.
CREATE FUNCTION tasker.tell_settled(p_notify boolean, p_state text, p_uuids uuid[]) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
BEGIN
  IF p_notify AND p_uuids IS NOT NULL THEN
    PERFORM tasker.notify_uuids('tasker_settled', p_uuids);
  END IF;
  RETURN QUERY SELECT 's'::"char", NULL::int, p_state, NULL::bigint, x, NULL::int, NULL::int, NULL::int, NULL::int, NULL::int,
                      NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb FROM unnest(p_uuids) AS x;
END $$;

-- Begin these pending tasks, whose rows are locked.
CREATE FUNCTION tasker.start_now(p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean, p_handler int[], p_quota int[], p_cap int, p_ids bigint[], p_tids int[])
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_settled uuid[];
BEGIN
  WITH u AS (
    UPDATE tasker.tasks t SET state = CASE WHEN t.open_sinks = 0 THEN 'complete' ELSE 'steps_in_process' END::tasker.task_state,
           finished_at = CASE WHEN t.open_sinks = 0 THEN clock_timestamp() END, finished_by_node = CASE WHEN t.open_sinks = 0 THEN p_node END
    WHERE t.task_id = ANY (p_ids) RETURNING t.task_id, t.task_uuid, t.state),
  h AS (INSERT INTO tasker.task_transitions (task_id, from_state, to_state, at, node_no, cause)
        SELECT u.task_id, 'pending', u.state, clock_timestamp(), p_node, '{"event": "started"}' FROM u WHERE u.state <> 'complete')
  SELECT array_agg(u.task_uuid) INTO v_settled FROM u WHERE u.state = 'complete';
  PERFORM tasker.arm_deadlines(p_ids);
  RETURN QUERY SELECT * FROM tasker.begin_tasks(p_node, p_incarnation, p_slot, p_seq, p_notify, p_handler, p_quota, p_cap, p_ids, p_tids);
  RETURN QUERY SELECT * FROM tasker.tell_settled(p_notify, 'complete', v_settled);
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
  UPDATE pgmq.q_orchestration_task_requests q SET vt = tasker.ready_vt(q.vt, coalesce((q.message ->> 'p')::int, 0)) WHERE q.vt > v_now - interval '12 hours' AND q.vt <= v_now;
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
      r.idx := greatest(1, least(extract(epoch FROM v_due - clock_timestamp()) * 1000 + 1, 86400000))::int;
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
  v_ids bigint[]; v_tids int[]; v_bad bigint[]; v_settled uuid[];
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
      UPDATE tasker.tasks t SET state = 'error', finished_at = clock_timestamp(), finished_by_node = p_node WHERE t.task_id = ANY (v_bad) RETURNING t.task_id, t.task_uuid),
    h AS (INSERT INTO tasker.task_transitions (task_id, from_state, to_state, at, node_no, cause)
          SELECT u.task_id, 'pending', 'error', clock_timestamp(), p_node, jsonb_build_object('event', 'invalid_context') || e.error
          FROM u JOIN unnest(p_tasks, p_errors) AS e(task_id, error) USING (task_id))
    SELECT array_agg(u.task_uuid) INTO v_settled FROM u;
    RETURN QUERY SELECT * FROM tasker.tell_settled(p_notify, 'error', v_settled);
  END IF;
END $$;

-- Tell all nodes of these, in as many notifications as it takes.
CREATE FUNCTION tasker.notify_uuids(p_channel text, p_uuids uuid[]) RETURNS void LANGUAGE sql AS $$
  SELECT pg_notify(p_channel, g.list)
  FROM (SELECT string_agg(u.uuid::text, ',') AS list FROM unnest(p_uuids) WITH ORDINALITY AS u(uuid, ord) GROUP BY (u.ord - 1) / 200) g
$$;

-- End attempts that did not succeed. The caller holds the tasks' row locks. Arrays are parallel; p_retry says whether the result allows another
-- try, the template has the last word. a rows for what was applied: status retrying | failed | released.
CREATE FUNCTION tasker.end_attempts(
  p_node int, p_notify boolean,
  p_idx int[], p_task bigint[], p_step int[], p_fence int[], p_outcome tasker.attempt_outcome[], p_retry boolean[], p_delay_ms bigint[],
  p_error jsonb[], p_meta jsonb[], p_exec_ms real[], p_worker uuid[], p_finished timestamptz[])
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
  u_i int[]; u_t bigint[]; u_s int[]; u_f int[]; u_h int[]; u_how text[]; u_at timestamptz[]; v_batches boolean;
  e_t bigint[]; e_s int[]; e_f int[]; e_h int[]; e_at timestamptz[];
BEGIN
  -- From its first failure on, a task counts what can still move it.
  UPDATE tasker.tasks t SET n_active = (
      SELECT count(*) FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state IN ('enqueued', 'in_progress'))
  WHERE t.task_id = ANY (p_task) AND t.n_active IS NULL AND EXISTS (
    SELECT 1 FROM unnest(p_task, p_step, p_fence) AS u(task_id, step_no, fence)
    CROSS JOIN LATERAL (SELECT 1 FROM tasker.steps x WHERE x.task_id = u.task_id AND x.step_no = u.step_no AND x.state = 'in_progress' AND x.fence = u.fence OFFSET 0) s
    WHERE u.task_id = t.task_id);

  WITH r AS MATERIALIZED (
    SELECT u.*, ts.handler_id, s.template_no, s.ready_at AS was_ready,
           s.c, CASE WHEN u.outcome = 'released' THEN 'released'
                WHEN u.retry AND ts.retryable AND s.attempts < ts.max_attempts THEN 'retrying'
                ELSE 'failed' END AS how,
           CASE WHEN u.outcome <> 'released' AND u.retry AND ts.retryable AND s.attempts < ts.max_attempts AND u.delay_ms > 0
                THEN v_now + u.delay_ms * interval '1 millisecond' END AS at
    FROM unnest(p_idx, p_task, p_step, p_fence, p_outcome, p_retry, p_delay_ms, p_error, p_meta, p_exec_ms, p_worker, p_finished)
         AS u(idx, task_id, step_no, fence, outcome, retry, delay_ms, error, meta, exec_ms, worker, finished)
    CROSS JOIN LATERAL (SELECT x.template_id FROM tasker.tasks x WHERE x.task_id = u.task_id OFFSET 0) t
    CROSS JOIN LATERAL (SELECT x.ctid AS c, x.template_no, x.attempts, x.ready_at FROM tasker.steps x
                        WHERE x.task_id = u.task_id AND x.step_no = u.step_no AND x.state = 'in_progress' AND x.fence = u.fence OFFSET 0) s
    CROSS JOIN LATERAL (SELECT x.handler_id, x.retryable, x.max_attempts FROM tasker.template_steps x WHERE x.template_id = t.template_id AND x.step_no = s.template_no OFFSET 0) ts),
  u AS (
    UPDATE tasker.steps s SET
      state = CASE WHEN r.how = 'failed' THEN 'error' WHEN r.at IS NULL THEN 'enqueued' ELSE 'waiting_for_retry' END::tasker.step_state,
      attempts = s.attempts - (r.how = 'released')::int,
      node_no = NULL,
      ready_at = CASE WHEN r.how = 'retrying' THEN coalesce(r.at, v_now) ELSE s.ready_at END,
      retry_at = r.at,
      finished_at = CASE WHEN r.how = 'failed' THEN v_now END,
      error = coalesce(r.error, s.error)
    FROM r WHERE s.ctid = r.c
    RETURNING r.*, s.attempts + (r.how = 'released')::int AS attempt, s.claimed_at),
  a AS (
    INSERT INTO tasker.step_attempts (task_id, step_no, attempt, fence, outcome, node_no, worker_uuid, ready_at, claimed_at, finished_at, recorded_at, execution_ms, error, metadata)
    SELECT u.task_id, u.step_no, u.attempt, u.fence, u.outcome, p_node, u.worker, u.was_ready, u.claimed_at, u.finished, v_now, u.exec_ms, u.error, u.meta
    FROM u)
  SELECT array_agg(idx), array_agg(task_id), array_agg(step_no), array_agg(fence), array_agg(handler_id), array_agg(how), array_agg(at), bool_or(how = 'failed' AND step_no <> template_no)
  INTO u_i, u_t, u_s, u_f, u_h, u_how, u_at, v_batches FROM u;
  IF u_i IS NULL THEN
    RETURN;
  END IF;

  UPDATE tasker.tasks t SET n_active = t.n_active - k.failed - k.waiting, n_failed = t.n_failed + k.failed, n_waiting = t.n_waiting + k.waiting
  FROM (SELECT g.failed, g.waiting, z.c
        FROM (SELECT e.task_id, count(*) FILTER (WHERE e.how = 'failed')::int AS failed, count(*) FILTER (WHERE e.at IS NOT NULL)::int AS waiting
              FROM unnest(u_t, u_how, u_at) AS e(task_id, how, at) GROUP BY e.task_id) g
        CROSS JOIN LATERAL (SELECT x.ctid AS c FROM tasker.tasks x WHERE x.task_id = g.task_id OFFSET 0) z
        WHERE g.failed + g.waiting > 0) k
  WHERE t.ctid = k.c;

  SELECT array_agg(t), array_agg(s), array_agg(f), array_agg(h), array_agg(at)
  INTO e_t, e_s, e_f, e_h, e_at
  FROM unnest(u_t, u_s, u_f, u_h, u_how, u_at) AS e(t, s, f, h, how, at) WHERE how <> 'failed';
  IF e_t IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.enqueue(e_t, e_s, e_f, e_h, e_at, p_notify);
  END IF;
  IF v_batches THEN
    RETURN QUERY SELECT b.* FROM (SELECT array_agg(e.t) AS t, array_agg(e.s) AS s FROM unnest(u_t, u_s, u_how) AS e(t, s, how) WHERE e.how = 'failed') g
                 CROSS JOIN LATERAL tasker.batch_failures(p_node, p_notify, g.t, g.s) b;
  END IF;
  RETURN QUERY SELECT 'a'::"char", e.i, e.how, e.t, NULL::uuid, NULL::int, e.s, NULL::int, e.f, e.h,
                      NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
               FROM unnest(u_i, u_how, u_t, u_s, u_f, u_h) AS e(i, how, t, s, f, h);
END $$;

-- Put tasks with counters (n_active set) into the state that the counters say. s rows for those that have settled. The caller holds the row locks.
CREATE FUNCTION tasker.settle(p_node int, p_tasks bigint[], p_cause jsonb) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  u_t bigint[]; u_u uuid[]; u_old tasker.task_state[]; u_new tasker.task_state[];
BEGIN
  WITH want AS (
    SELECT t.ctid AS c, t.state AS old,
           CASE WHEN t.open_sinks = 0 THEN 'complete' WHEN t.paused THEN t.state WHEN t.n_active > 0 THEN 'steps_in_process'
                WHEN t.n_waiting > 0 THEN 'waiting_for_retry' ELSE 'blocked_by_failures' END::tasker.task_state AS new
    FROM tasker.tasks t
    WHERE t.task_id = ANY (p_tasks) AND t.n_active IS NOT NULL AND t.state NOT IN ('pending', 'complete', 'error', 'cancelled', 'resolved_manually')),
  u AS (
    UPDATE tasker.tasks t SET state = w.new, finished_at = CASE WHEN w.new = 'complete' THEN clock_timestamp() END,
           finished_by_node = CASE WHEN w.new = 'complete' THEN p_node END
    FROM want w WHERE t.ctid = w.c AND w.new <> w.old
    RETURNING t.task_id, t.task_uuid, w.old, w.new),
  h AS (
    INSERT INTO tasker.task_transitions (task_id, from_state, to_state, at, node_no, cause)
    SELECT u.task_id, u.old, u.new, clock_timestamp(), p_node, p_cause FROM u WHERE u.new <> 'complete')
  SELECT array_agg(u.task_id), array_agg(u.task_uuid), array_agg(u.old), array_agg(u.new) INTO u_t, u_u, u_old, u_new FROM u;
  IF 'blocked_by_failures' = ANY (u_new) THEN
    PERFORM tasker.on_blocked((SELECT array_agg(x.t) FROM unnest(u_t, u_new) AS x(t, new) WHERE x.new = 'blocked_by_failures'));
  END IF;
  IF 'blocked_by_failures' = ANY (u_old) THEN
    PERFORM tasker.on_unblocked((SELECT array_agg(x.t) FROM unnest(u_t, u_old) AS x(t, old) WHERE x.old = 'blocked_by_failures'), p_cause ->> 'operator', p_cause ->> 'reason');
  END IF;
  RETURN QUERY
    SELECT 's'::"char", NULL::int, x.new::text, x.t, x.u, NULL::int, NULL::int, NULL::int, NULL::int, NULL::int,
           NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
    FROM unnest(u_t, u_u, u_new) AS x(t, u, new) WHERE x.new IN ('complete', 'blocked_by_failures');
END $$;

-- From now on these tasks count what can move them. The caller holds the row locks.
CREATE FUNCTION tasker.begin_counting(p_tasks bigint[]) RETURNS void LANGUAGE sql AS $$
  UPDATE tasker.tasks t SET n_active = (SELECT count(*) FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state IN ('enqueued', 'in_progress'))
  WHERE t.task_id = ANY (p_tasks) AND t.n_active IS NULL
$$;

-- Take the steps of paused tasks (others are passed over) out of their queues: what was enqueued or waits for a retry is pending again, and its message has an old
-- fence. The caller holds the row locks.
CREATE FUNCTION tasker.hold_back(p_tasks bigint[]) RETURNS void LANGUAGE sql AS $$
  WITH was AS MATERIALIZED (
    SELECT s.ctid AS c, s.task_id, s.state FROM tasker.steps s
    WHERE s.task_id = ANY (ARRAY(SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY (p_tasks) AND t.paused))
      AND s.state IN ('enqueued', 'waiting_for_retry') FOR NO KEY UPDATE),
  u AS (UPDATE tasker.steps s SET state = 'pending', fence = s.fence + 1 FROM was WHERE s.ctid = was.c RETURNING was.task_id, was.state)
  UPDATE tasker.tasks t SET n_active = t.n_active - g.active, n_waiting = t.n_waiting - g.waiting
  FROM (SELECT u.task_id, count(*) FILTER (WHERE u.state = 'enqueued')::int AS active, count(*) FILTER (WHERE u.state <> 'enqueued')::int AS waiting FROM u GROUP BY u.task_id) g
  WHERE t.task_id = g.task_id
$$;

-- Record a batch of results. Arrays are parallel, one item for each result; see tasker.end_attempts for those that are not a success.
-- a rows for all but recorded successes: status retrying | failed | released for what this call changed, duplicate | stale for what it did not.
-- p_events (NULL: no step of the batch declares any): see publish_events, as for e rows.
-- s rows: tasks that settled (status is the state). c rows: steps that became ready and were claimed within the offered credits. q rows: queues that got messages.
CREATE FUNCTION tasker.record_results(
  p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean,
  p_handler int[], p_quota int[], p_cap int,
  p_task bigint[], p_step int[], p_fence int[], p_outcome tasker.attempt_outcome[], p_retry boolean[], p_delay_ms bigint[],
  p_result jsonb[], p_error jsonb[], p_meta jsonb[], p_exec_ms real[], p_worker uuid[], p_finished timestamptz[], p_bytes int[] DEFAULT NULL,
  p_events jsonb[] DEFAULT NULL)
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_now timestamptz; -- taken under the task locks, so that a task's times are in the order of what happened
  v_counted boolean; v_paused bigint[]; v_sinks int; v_parents int; v_applied int := 0;
  o_i int[]; o_t bigint[]; o_s int[]; o_n int[]; o_tpl int[]; o_counts boolean[];
  f_d int[];
  c_t bigint[]; c_s int[]; c_a int[]; c_f int[];
  e_t bigint[]; e_s int[]; e_h int[]; e_f int[];
  x_t bigint[] := '{}'; x_s int[] := '{}'; x_tpl int[] := '{}'; x_n int[] := '{}'; -- steps that have n parents less to wait for, besides children
  v_effect tasker.effect;
  v_settled uuid[] := '{}';
  v_row tasker.hot_row;
  v_aborted boolean := false;
BEGIN
  IF NOT tasker.hot_begin(p_node, p_incarnation) THEN
    p_cap := 0;
  END IF;

  SELECT bool_or(l.n_active IS NOT NULL), array_agg(l.task_id) FILTER (WHERE l.paused) INTO v_counted, v_paused FROM (
    SELECT t.task_id, t.n_active, t.paused FROM tasker.tasks t WHERE t.task_id = ANY (p_task) ORDER BY t.task_id FOR NO KEY UPDATE) l;
  v_now := clock_timestamp();

  -- Outcomes of decisions and batchables make steps, or turn out to be failures, before they count as successes. Their tasks count from the start.
  IF v_counted THEN
    FOR v_effect IN SELECT * FROM tasker.apply_outcomes(p_task, p_step, p_fence, p_outcome, p_result) LOOP
      IF v_effect.problem IS NOT NULL THEN
        p_outcome[v_effect.idx] := 'invalid_result';
        p_retry[v_effect.idx] := false;
        p_error[v_effect.idx] := v_effect.problem::jsonb;
      ELSE
        x_t := x_t || v_effect.task_id; x_s := x_s || v_effect.step_no; x_tpl := x_tpl || v_effect.template_id; x_n := x_n || v_effect.n;
      END IF;
    END LOOP;
  END IF;

  -- Successes.
  WITH r AS MATERIALIZED (
    SELECT u.ord, u.task_id, u.step_no, u.fence, u.result, u.bytes, u.meta, u.exec_ms, u.worker, u.finished, s.c, s.attempts, s.ready_at, s.claimed_at, t.template_id, s.template_no, ts.counts, ts.parent
    FROM unnest(p_task, p_step, p_fence, p_outcome, p_result, p_bytes, p_meta, p_exec_ms, p_worker, p_finished) WITH ORDINALITY
         AS u(task_id, step_no, fence, outcome, result, bytes, meta, exec_ms, worker, finished, ord)
    CROSS JOIN LATERAL (SELECT x.ctid AS c, x.template_no, x.attempts, x.ready_at, x.claimed_at FROM tasker.steps x
                        WHERE x.task_id = u.task_id AND x.step_no = u.step_no AND x.state = 'in_progress' AND x.fence = u.fence OFFSET 0) s
    CROSS JOIN LATERAL (SELECT x.template_id FROM tasker.tasks x WHERE x.task_id = u.task_id OFFSET 0) t
    CROSS JOIN LATERAL (SELECT x.counts, x.children <> '{}' AS parent FROM tasker.template_steps x WHERE x.template_id = t.template_id AND x.step_no = s.template_no OFFSET 0) ts
    WHERE u.outcome = 'success'),
  u AS (
    UPDATE tasker.steps s SET state = 'complete', result = r.result, result_bytes = r.bytes, error = NULL, finished_at = v_now
    FROM r WHERE s.ctid = r.c
    RETURNING r.ord, s.task_id, s.step_no, s.attempts, s.fence, s.ready_at, s.claimed_at, r.meta, r.exec_ms, r.worker, r.finished, r.template_id, r.template_no, r.counts, r.parent),
  a AS (
    INSERT INTO tasker.step_attempts (task_id, step_no, attempt, fence, outcome, node_no, worker_uuid, ready_at, claimed_at, finished_at, recorded_at, execution_ms, metadata)
    SELECT u.task_id, u.step_no, u.attempts, u.fence, 'success', p_node, u.worker, u.ready_at, u.claimed_at, u.finished, v_now, u.exec_ms, u.meta
    FROM u)
  SELECT array_agg(u.ord), array_agg(u.task_id), array_agg(u.step_no), array_agg(u.template_no), array_agg(u.template_id), array_agg(u.counts),
         count(*) FILTER (WHERE u.counts), count(*) FILTER (WHERE u.parent)
  INTO o_i, o_t, o_s, o_n, o_tpl, o_counts, v_sinks, v_parents FROM u;

  IF o_t IS NOT NULL THEN
    v_applied := cardinality(o_t);
    IF v_counted AND o_s <> o_n THEN
      FOR v_effect IN SELECT * FROM tasker.batch_progress(o_t, o_s) LOOP
        x_t := x_t || v_effect.task_id; x_s := x_s || v_effect.step_no; x_tpl := x_tpl || v_effect.template_id; x_n := x_n || v_effect.n;
      END LOOP;
    END IF;
    -- Children: count down; what is ready is claimed within the credits, else enqueued.
    IF v_parents > 0 OR x_t <> '{}' THEN
      WITH ch AS (
        SELECT o.task_id, o.tpl, ch.step_no, 1 AS n
        FROM unnest(o_t, o_n, o_tpl) AS o(task_id, template_no, tpl)
        CROSS JOIN LATERAL (SELECT unnest(x.children) AS step_no FROM tasker.template_steps x WHERE x.template_id = o.tpl AND x.step_no = o.template_no OFFSET 0) ch),
      all_ch AS (
        SELECT ch.* FROM ch
        UNION ALL
        SELECT ch.task_id, ch.tpl, i.no, ch.n FROM ch CROSS JOIN LATERAL tasker.instances(ch.task_id, ch.step_no) AS i(no) WHERE v_counted
        UNION ALL
        SELECT x.* FROM unnest(x_t, x_tpl, x_s, x_n) AS x(task_id, tpl, step_no, n)),
      k AS (
        SELECT c.task_id, c.tpl, c.step_no, sum(c.n)::int AS n FROM all_ch c GROUP BY c.task_id, c.tpl, c.step_no),
      want AS (
        SELECT k.task_id, k.step_no, k.n, ts.handler_id, s.c, s.pending_parents = k.n AS ready,
               s.pending_parents = k.n AND of.quota IS NOT NULL AND (v_paused IS NULL OR k.task_id <> ALL (v_paused))
                 AND row_number() OVER (PARTITION BY s.pending_parents = k.n AND (v_paused IS NULL OR k.task_id <> ALL (v_paused)), ts.handler_id ORDER BY k.task_id, k.step_no) <= of.quota AS in_quota
        FROM k
        CROSS JOIN LATERAL (SELECT x.ctid AS c, x.template_no, x.pending_parents FROM tasker.steps x WHERE x.task_id = k.task_id AND x.step_no = k.step_no AND x.state = 'pending' OFFSET 0) s
        CROSS JOIN LATERAL (SELECT x.handler_id FROM tasker.template_steps x WHERE x.template_id = k.tpl AND x.step_no = s.template_no OFFSET 0) ts
        LEFT JOIN unnest(p_handler, p_quota) AS of(handler_id, quota) ON of.handler_id = ts.handler_id),
      capped AS (
        SELECT w.*, w.in_quota AND row_number() OVER (PARTITION BY w.in_quota ORDER BY w.task_id, w.step_no) <= p_cap AS take FROM want w),
      u AS (
        UPDATE tasker.steps s SET
          pending_parents = s.pending_parents - c.n,
          state = CASE WHEN c.take THEN 'in_progress' WHEN c.ready THEN 'enqueued' ELSE 'pending' END::tasker.step_state,
          attempts = s.attempts + c.take::int, fence = s.fence + c.take::int,
          node_no = CASE WHEN c.take THEN p_node END,
          ready_at = CASE WHEN c.ready THEN v_now END,
          claimed_at = CASE WHEN c.take THEN v_now END
        FROM capped c WHERE s.ctid = c.c
        RETURNING s.task_id, s.step_no, s.attempts, s.fence, c.handler_id, c.ready, c.take)
      SELECT array_agg(task_id) FILTER (WHERE take), array_agg(step_no) FILTER (WHERE take),
             array_agg(attempts) FILTER (WHERE take), array_agg(fence) FILTER (WHERE take),
             array_agg(task_id) FILTER (WHERE NOT take), array_agg(step_no) FILTER (WHERE NOT take),
             array_agg(handler_id) FILTER (WHERE NOT take), array_agg(fence) FILTER (WHERE NOT take)
      INTO c_t, c_s, c_a, c_f, e_t, e_s, e_h, e_f
      FROM u WHERE ready;
      IF e_t IS NOT NULL THEN
        RETURN QUERY SELECT * FROM tasker.enqueue(e_t, e_s, e_f, e_h, array_fill(NULL::timestamptz, ARRAY[cardinality(e_t)]), p_notify);
      END IF;
    END IF;
    -- A task is complete when every step that counts is satisfied.
    IF v_sinks > 0 THEN
      FOR v_row IN
        WITH k AS (
          SELECT o.task_id, count(*)::int AS n FROM unnest(o_t, o_counts) AS o(task_id, counts) WHERE o.counts GROUP BY o.task_id),
        z AS (
          SELECT k.n, t.c FROM k
          CROSS JOIN LATERAL (SELECT x.ctid AS c FROM tasker.tasks x WHERE x.task_id = k.task_id AND x.state NOT IN ('complete', 'error', 'cancelled', 'resolved_manually') OFFSET 0) t),
        u AS (
          UPDATE tasker.tasks t SET
            open_sinks = t.open_sinks - z.n,
            state = CASE WHEN t.open_sinks = z.n THEN 'complete' ELSE t.state END,
            finished_at = CASE WHEN t.open_sinks = z.n THEN v_now END,
            finished_by_node = CASE WHEN t.open_sinks = z.n THEN p_node END
          FROM z WHERE t.ctid = z.c
          RETURNING t.task_id, t.task_uuid, t.state, t.open_sinks)
        SELECT 's'::"char", NULL::int, u.state::text, u.task_id, u.task_uuid, NULL::int, NULL::int, NULL::int, NULL::int, NULL::int,
               NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
        FROM u WHERE u.open_sinks = 0
      LOOP
        v_settled := v_settled || v_row.task_uuid;
        RETURN NEXT v_row;
      END LOOP;
    END IF;
    IF v_counted THEN
      UPDATE tasker.tasks t SET n_active = t.n_active + d.n
      FROM (SELECT g.n, z.c FROM (
              SELECT x.task_id, sum(x.n)::int AS n FROM (
                SELECT unnest(o_t) AS task_id, -1 AS n UNION ALL SELECT unnest(c_t), 1 UNION ALL SELECT unnest(e_t), 1) x GROUP BY x.task_id) g
            CROSS JOIN LATERAL (SELECT y.ctid AS c FROM tasker.tasks y WHERE y.task_id = g.task_id AND y.n_active IS NOT NULL OFFSET 0) z
            WHERE g.n <> 0) d
      WHERE t.ctid = d.c;
    END IF;
  END IF;

  -- Everything else. What is given back with a result was given back at a checkpoint.
  IF 'success' <> ANY (p_outcome) THEN
    PERFORM tasker.store_checkpoints(p_task, p_step, p_fence, p_outcome, p_result) FROM unnest(p_outcome, p_result) AS r(outcome, result) WHERE r.outcome = 'released' AND r.result IS NOT NULL LIMIT 1;
    FOR v_row IN
      SELECT e.* FROM (
        SELECT array_agg(r.ord::int) AS i, array_agg(r.task_id) AS t, array_agg(r.step_no) AS s, array_agg(r.fence) AS f, array_agg(r.outcome) AS o, array_agg(r.retry) AS y,
               array_agg(r.delay_ms) AS d, array_agg(r.error) AS e, array_agg(r.meta) AS m, array_agg(r.exec_ms) AS x, array_agg(r.worker) AS w, array_agg(r.finished) AS n
        FROM unnest(p_task, p_step, p_fence, p_outcome, p_retry, p_delay_ms, p_error, p_meta, p_exec_ms, p_worker, p_finished) WITH ORDINALITY
             AS r(task_id, step_no, fence, outcome, retry, delay_ms, error, meta, exec_ms, worker, finished, ord)
        WHERE r.outcome <> 'success') g
      CROSS JOIN LATERAL tasker.end_attempts(p_node, p_notify, g.i, g.t, g.s, g.f, g.o, g.y, g.d, g.e, g.m, g.x, g.w, g.n) e
    LOOP
      IF v_row.kind = 'a' THEN
        f_d := f_d || v_row.idx;
        v_applied := v_applied + 1;
      END IF;
      v_aborted := v_aborted OR v_row.kind = 'x';
      RETURN NEXT v_row;
    END LOOP;
    v_counted := true;
  END IF;
  IF v_aborted AND c_t IS NOT NULL THEN
    -- A batch that failed fast may have taken back what had just been handed over.
    SELECT array_agg(c.t), array_agg(c.s), array_agg(c.a), array_agg(c.f) INTO c_t, c_s, c_a, c_f
    FROM unnest(c_t, c_s, c_a, c_f) AS c(t, s, a, f)
    CROSS JOIN LATERAL (SELECT 1 FROM tasker.steps x WHERE x.task_id = c.t AND x.step_no = c.s AND x.fence = c.f AND x.state = 'in_progress' OFFSET 0) k;
  END IF;
  IF v_paused IS NOT NULL THEN
    PERFORM tasker.hold_back(v_paused);
  END IF;
  IF v_counted THEN
    FOR v_row IN SELECT * FROM tasker.settle(p_node, p_task, '{"event": "results"}') LOOP
      v_settled := v_settled || v_row.task_uuid;
      RETURN NEXT v_row;
    END LOOP;
  END IF;

  -- What did not apply: say whether this very attempt was recorded before.
  IF v_applied < cardinality(p_task) THEN
    RETURN QUERY
      SELECT 'a'::"char", x.i,
             CASE WHEN EXISTS (SELECT 1 FROM tasker.step_attempts a WHERE a.task_id = p_task[x.i] AND a.step_no = p_step[x.i] AND a.fence = p_fence[x.i]
                               AND a.outcome IN ('success', 'handler_error', 'permanent_error', 'invalid_result')) THEN 'duplicate' ELSE 'stale' END,
             p_task[x.i], NULL::uuid, NULL::int, p_step[x.i], NULL::int, p_fence[x.i], NULL::int, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
      FROM generate_subscripts(p_task, 1) AS x(i)
      WHERE x.i <> ALL (coalesce(o_i, '{}') || coalesce(f_d, '{}'));
  END IF;
  IF c_t IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.hold(p_node, p_incarnation, p_slot, p_seq, c_t, c_s, c_a, c_f);
  END IF;
  IF p_events IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.publish_events(p_node, p_notify, p_task, p_step, p_fence, p_events);
  END IF;
  IF p_notify AND cardinality(v_settled) > 0 THEN
    PERFORM pg_notify('tasker_settled', left(array_to_string(v_settled, ','), 7900));
  END IF;
END $$;

-- Nodes ------------------------------------------------------------------------------------------------------------------

-- Join, or come back as a new incarnation of the same node. The caller holds the node's advisory lock (class 0x7461736b) on this connection.
CREATE FUNCTION tasker.node_register(p_name text, p_host text, p_pid int, p_version text, p_ttl_ms int, p_secret bytea DEFAULT sha256(gen_random_uuid()::text::bytea))
RETURNS TABLE (node_no int, incarnation int, secret bytea) LANGUAGE sql AS $$
  SELECT pg_notify('tasker_nodes', '');
  INSERT INTO tasker.nodes AS n (node_name, host, pid, version, secret, lease_until)
  VALUES (p_name, p_host, p_pid, p_version, p_secret, now() + p_ttl_ms * interval '1 millisecond')
  ON CONFLICT (node_name) DO UPDATE SET host = excluded.host, pid = excluded.pid, version = excluded.version, state = 'up',
    incarnation = n.incarnation + 1, started_at = now(), lease_until = excluded.lease_until
  RETURNING n.node_no, n.incarnation, n.secret
$$;

-- Prove life. `alive` false: another incarnation has taken the name. peers: other nodes with a running lease. had_lapsed: others had taken this node for dead.
CREATE FUNCTION tasker.node_heartbeat(p_node int, p_incarnation int, p_ttl_ms int, p_state text)
RETURNS TABLE (alive boolean, peers int, had_lapsed boolean) LANGUAGE sql AS $$
  WITH o AS (SELECT n.state FROM tasker.nodes n WHERE n.node_no = p_node AND n.incarnation = p_incarnation FOR UPDATE),
  u AS (
    UPDATE tasker.nodes n SET lease_until = now() + p_ttl_ms * interval '1 millisecond', state = p_state
    FROM o WHERE n.node_no = p_node AND n.incarnation = p_incarnation RETURNING o.state)
  SELECT EXISTS (SELECT 1 FROM u),
         (SELECT count(*)::int FROM tasker.nodes n WHERE n.node_no <> p_node AND n.state <> 'down' AND n.lease_until > now()),
         EXISTS (SELECT 1 FROM u WHERE u.state = 'down')
$$;

-- A clean stop: nothing is left running.
CREATE FUNCTION tasker.node_leave(p_node int, p_incarnation int) RETURNS void LANGUAGE sql AS $$
  UPDATE tasker.nodes SET state = 'down', lease_until = now() WHERE node_no = p_node AND incarnation = p_incarnation;
  UPDATE tasker.workers SET disconnected_at = now() WHERE node_no = p_node AND disconnected_at IS NULL;
$$;

-- What a node held when it stopped without recording it, gathered into one journal row of its new incarnation. c rows without payloads.
CREATE FUNCTION tasker.adopt_claims(p_node int, p_incarnation int, p_slot int, p_seq bigint) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  c_t bigint[]; c_s int[]; c_f int[];
BEGIN
  PERFORM pg_advisory_xact_lock(x'7461736c'::int, p_node);
  PERFORM tasker.hot_begin(p_node, p_incarnation);
  UPDATE tasker.workers SET disconnected_at = now() WHERE node_no = p_node AND disconnected_at IS NULL;
  WITH old AS (DELETE FROM tasker.node_claims WHERE node_no = p_node RETURNING task_ids, step_nos, fences),
  held AS (
    SELECT DISTINCT s.task_id, s.step_no, s.fence
    FROM old CROSS JOIN LATERAL unnest(old.task_ids, old.step_nos, old.fences) AS c(task_id, step_no, fence)
    CROSS JOIN LATERAL (SELECT x.task_id, x.step_no, x.fence FROM tasker.steps x
                        WHERE x.task_id = c.task_id AND x.step_no = c.step_no AND x.fence = c.fence AND x.state = 'in_progress' AND x.node_no = p_node OFFSET 0) s)
  SELECT array_agg(task_id), array_agg(step_no), array_agg(fence) INTO c_t, c_s, c_f FROM held;
  IF c_t IS NULL THEN
    RETURN;
  END IF;
  INSERT INTO tasker.node_claims (node_no, slot, seq, task_ids, step_nos, fences) VALUES (p_node, p_slot, p_seq, c_t, c_s, c_f);
  RETURN QUERY
    SELECT 'c'::"char", (s.checkpoint ->> 'yields')::int, NULL::text, t.task_id, t.task_uuid, t.template_id, s.step_no, s.attempts, s.fence, ts.handler_id,
           NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
    FROM unnest(c_t, c_s) AS c(task_id, step_no)
    CROSS JOIN LATERAL (SELECT x.step_no, x.template_no, x.attempts, x.fence, x.checkpoint FROM tasker.steps x WHERE x.task_id = c.task_id AND x.step_no = c.step_no OFFSET 0) s
    CROSS JOIN LATERAL (SELECT x.task_id, x.task_uuid, x.template_id FROM tasker.tasks x WHERE x.task_id = c.task_id OFFSET 0) t
    CROSS JOIN LATERAL (SELECT x.handler_id FROM tasker.template_steps x WHERE x.template_id = t.template_id AND x.step_no = s.template_no OFFSET 0) ts;
END $$;

-- After a lost connection: what the call with this seq claimed in its slot, if it committed (no rows if it did not, or claimed nothing).
CREATE FUNCTION tasker.recover_claims(p_node int, p_slot int, p_seq bigint) RETURNS SETOF tasker.hot_row LANGUAGE sql AS $$
  -- Waits for the call if it is in flight; if it has yet to come, it will fail on this row when it claims.
  INSERT INTO tasker.node_claims AS n (node_no, slot, seq, task_ids, step_nos, fences) VALUES (p_node, p_slot, p_seq, '{}', '{}', '{}')
  ON CONFLICT (node_no, slot) DO UPDATE SET seq = excluded.seq, task_ids = '{}', step_nos = '{}', fences = '{}' WHERE n.seq < excluded.seq;
  SELECT r.* FROM (
    SELECT array_agg(s.task_id) AS t, array_agg(s.step_no) AS s, array_agg(s.attempts) AS a, array_agg(s.fence) AS f
    FROM tasker.node_claims nc
    CROSS JOIN LATERAL unnest(nc.task_ids, nc.step_nos, nc.fences) AS c(task_id, step_no, fence)
    CROSS JOIN LATERAL (SELECT x.task_id, x.step_no, x.attempts, x.fence FROM tasker.steps x
                        WHERE x.task_id = c.task_id AND x.step_no = c.step_no AND x.fence = c.fence AND x.state = 'in_progress' OFFSET 0) s
    WHERE nc.node_no = p_node AND nc.slot = p_slot AND nc.seq = p_seq) x
  CROSS JOIN LATERAL tasker.claimed_rows(x.t, x.s, x.a, x.f) r
  WHERE x.t IS NOT NULL
$$;

-- Take back what nodes with an expired lease hold: each attempt ends as worker_lost and its step goes back to its queue, or to error when its
-- attempts are used up. Any node may call this at any time; a node at a time is worked on by one caller. At most about p_limit steps a call; q and s rows,
-- and for each dead node an a row with its number in idx and the steps taken back in attempt.
CREATE FUNCTION tasker.reclaim(p_node int, p_notify boolean, p_limit int) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  n record; j record; r tasker.hot_row;
  v_t bigint[]; v_s int[]; v_f int[];
  v_slots int[]; v_seqs bigint[]; v_count int;
BEGIN
  FOR n IN
    SELECT d.node_no, d.node_name FROM tasker.nodes d
    WHERE d.node_no <> p_node AND d.lease_until < now() AND (d.state <> 'down' OR EXISTS (SELECT 1 FROM tasker.node_claims c WHERE c.node_no = d.node_no))
    LIMIT 1 FOR UPDATE OF d SKIP LOCKED
  LOOP
    v_t := '{}'; v_s := '{}'; v_f := '{}'; v_slots := '{}'; v_seqs := '{}';
    FOR j IN SELECT c.slot, c.seq, c.task_ids, c.step_nos, c.fences FROM tasker.node_claims c WHERE c.node_no = n.node_no ORDER BY c.slot LOOP
      v_t := v_t || j.task_ids; v_s := v_s || j.step_nos; v_f := v_f || j.fences; v_slots := v_slots || j.slot; v_seqs := v_seqs || j.seq;
      EXIT WHEN cardinality(v_t) >= p_limit;
    END LOOP;
    PERFORM 1 FROM (SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY (v_t) ORDER BY t.task_id FOR NO KEY UPDATE) x;
    v_count := 0;
    IF cardinality(v_t) > 0 THEN
      FOR r IN
        SELECT e.* FROM (
          SELECT array_agg(c.ord::int) AS i, array_agg(c.t) AS t, array_agg(c.s) AS s, array_agg(c.f) AS f FROM unnest(v_t, v_s, v_f) WITH ORDINALITY AS c(t, s, f, ord)) g
        CROSS JOIN LATERAL tasker.end_attempts(n.node_no, p_notify, g.i, g.t, g.s, g.f,
          array_fill('worker_lost'::tasker.attempt_outcome, ARRAY[cardinality(g.i)]), array_fill(true, ARRAY[cardinality(g.i)]), array_fill(0::bigint, ARRAY[cardinality(g.i)]),
          array_fill(jsonb_build_object('message', format('node %s stopped without recording a result', n.node_name), 'error_type', 'worker_lost'), ARRAY[cardinality(g.i)]),
          array_fill(NULL::jsonb, ARRAY[cardinality(g.i)]), array_fill(NULL::real, ARRAY[cardinality(g.i)]), array_fill(NULL::uuid, ARRAY[cardinality(g.i)]),
          array_fill(now(), ARRAY[cardinality(g.i)])) e
      LOOP
        IF r.kind = 'a' THEN
          v_count := v_count + 1;
        ELSE
          RETURN NEXT r;
        END IF;
      END LOOP;
      PERFORM tasker.hold_back(v_t);
      RETURN QUERY SELECT * FROM tasker.publish_events(p_node, p_notify, v_t, v_s, v_f, NULL);
      RETURN QUERY SELECT * FROM tasker.settle(p_node, v_t, '{"event": "node_lost"}');
    END IF;
    -- But for rows that the node, coming back, has written over meanwhile: the next call takes those.
    DELETE FROM tasker.node_claims c USING unnest(v_slots, v_seqs) AS k(slot, seq) WHERE c.node_no = n.node_no AND c.slot = k.slot AND c.seq = k.seq;
    UPDATE tasker.nodes d SET state = 'down' WHERE d.node_no = n.node_no;
    UPDATE tasker.workers w SET disconnected_at = now() WHERE w.node_no = n.node_no AND w.disconnected_at IS NULL;
    r := NULL;
    r.kind := 'a'; r.idx := n.node_no; r.status := n.node_name; r.attempt := v_count;
    RETURN NEXT r;
  END LOOP;
END $$;

-- End tasks in p_state (cancelled, error, resolved_manually): every live step becomes cancelled, running attempts end as cancelled. The caller holds the row locks and has
-- seen that the tasks are not finished. x rows: running steps, to be told; s rows.
CREATE FUNCTION tasker.end_tasks(p_node int, p_tasks bigint[], p_state tasker.task_state, p_cause jsonb, p_message text) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY
    WITH was AS MATERIALIZED (
      SELECT s.task_id, s.step_no, s.state, s.attempts, s.fence, s.node_no, s.ready_at, s.claimed_at FROM tasker.steps s
      WHERE s.task_id = ANY (p_tasks) AND s.state NOT IN ('complete', 'cancelled', 'resolved_manually') AND (s.state <> 'error' OR p_state = 'cancelled' AND s.result IS NULL) FOR NO KEY UPDATE),
    u AS (UPDATE tasker.steps s SET state = 'cancelled', node_no = NULL, finished_at = clock_timestamp(), retry_at = NULL
          FROM was WHERE s.task_id = was.task_id AND s.step_no = was.step_no),
    a AS (INSERT INTO tasker.step_attempts (task_id, step_no, attempt, fence, outcome, node_no, ready_at, claimed_at, finished_at, recorded_at, error)
          SELECT w.task_id, w.step_no, w.attempts, w.fence, 'cancelled', w.node_no, w.ready_at, w.claimed_at, clock_timestamp(), clock_timestamp(),
                 jsonb_build_object('message', p_message, 'reason', p_cause -> 'reason')
          FROM was w WHERE w.state = 'in_progress')
    SELECT 'x'::"char", NULL::int, NULL::text, w.task_id, t.task_uuid, NULL::int, w.step_no, w.attempts, w.fence, NULL::int,
           NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
    FROM was w JOIN tasker.tasks t USING (task_id) WHERE w.state = 'in_progress';
  INSERT INTO tasker.task_transitions (task_id, from_state, to_state, at, node_no, cause)
  SELECT t.task_id, t.state, p_state, clock_timestamp(), p_node, p_cause FROM tasker.tasks t WHERE t.task_id = ANY (p_tasks);
  RETURN QUERY
    UPDATE tasker.tasks t SET state = p_state, finished_at = clock_timestamp(), finished_by_node = p_node, n_active = 0, n_waiting = 0, n_failed = 0, paused = false
    WHERE t.task_id = ANY (p_tasks)
    RETURNING 's'::"char", NULL::int, p_state::text, t.task_id, t.task_uuid, NULL::int, NULL::int, NULL::int, NULL::int, NULL::int,
              NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb;
  PERFORM tasker.on_unblocked(p_tasks, p_cause ->> 'operator', p_cause ->> 'reason');
END $$;

-- Cancel a task. Status of the a row: cancelled | conflict (already finished) | not_found.
CREATE FUNCTION tasker.cancel_task(p_node int, p_uuid uuid, p_reason text, p_operator text, p_notify boolean)
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_id bigint; v_state tasker.task_state; r tasker.hot_row;
BEGIN
  SELECT t.task_id, t.state INTO v_id, v_state FROM tasker.tasks t WHERE t.task_uuid = p_uuid FOR NO KEY UPDATE;
  r.kind := 'a'; r.idx := 1; r.task_id := v_id; r.task_uuid := p_uuid;
  IF v_id IS NULL THEN
    r.status := 'not_found';
    RETURN NEXT r;
    RETURN;
  ELSIF v_state IN ('complete', 'error', 'cancelled', 'resolved_manually') THEN
    r.status := 'conflict'; r.meta := jsonb_build_object('state', v_state);
    RETURN NEXT r;
    RETURN;
  END IF;
  RETURN QUERY SELECT * FROM tasker.end_tasks(p_node, ARRAY[v_id], 'cancelled', jsonb_build_object('event', 'cancel', 'reason', p_reason, 'operator', p_operator), 'task cancelled');
  INSERT INTO tasker.operator_actions (request_id, action, task_id, from_state, to_state, uid, reason, node_no)
  VALUES (gen_random_uuid(), 'task.cancel', v_id, v_state::text, 'cancelled', substring(p_operator FROM '^uid:([0-9]+)$')::bigint, coalesce(p_reason, ''), p_node);
  IF p_notify THEN
    PERFORM pg_notify('tasker_cancel', p_uuid::text);
  END IF;
  r.status := 'cancelled';
  RETURN NEXT r;
END $$;

-- States of tasks that someone waits for: a rows with the position in the array as idx and the state as status; none for a task that does not exist.
CREATE FUNCTION tasker.task_states(p_uuids uuid[]) RETURNS SETOF tasker.hot_row LANGUAGE sql STABLE AS $$
  SELECT 'a'::"char", u.ord::int, t.state::text, NULL::bigint, u.uuid, NULL::int, NULL::int, NULL::int, NULL::int, NULL::int,
         NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
  FROM unnest(p_uuids) WITH ORDINALITY AS u(uuid, ord)
  CROSS JOIN LATERAL (SELECT x.state FROM tasker.tasks x WHERE x.task_uuid = u.uuid
                      UNION ALL SELECT x.state FROM tasker.archived_tasks x WHERE x.task_uuid = u.uuid LIMIT 1) t
$$;
