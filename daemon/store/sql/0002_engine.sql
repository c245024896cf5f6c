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
                        -- k: a context that the daemon is to check; w: why what item idx says about other steps was refused, in status
  idx int,              -- a: 1-based position in the input arrays; c from adopt_claims: times the step was given back at a checkpoint, from claimed_rows: milliseconds it has waited since it was ready
  status text,          -- a, s: see each function
  task_id bigint,
  task_uuid uuid,
  template_id int,
  step_no int,
  attempt int,
  fence int,
  handler_id int,
  context jsonb,
  deps jsonb,           -- {"<step_no>": result}; of batch workers {"<step_no> <name>": result}
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

-- A whole number of a message, or NULL: others may have put what they like into a queue.
CREATE FUNCTION tasker.whole(p jsonb, p_key text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN jsonb_typeof(p -> p_key) = 'number' AND p ->> p_key ~ '^-?[0-9]{1,18}$' THEN (p ->> p_key)::bigint END $$;

-- Whether a value has a number that no double holds, and so no worker can be given. 309 digits in a row are rare, and only then a closer look is taken.
CREATE FUNCTION tasker.beyond_double(p jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT p::text ~ '[0-9]{155}[0-9]{154}' AND jsonb_path_exists(p, '$.** ? (@.type() == "number" && (@ > $most || @ < -$most))', '{"most": 1.7976931348623157e308}') $$;

-- Milliseconds to a time, from 1 to a day. (Infinite times have no difference; clocks differ, so a moment too early would be one look too many.)
CREATE FUNCTION tasker.until(p_at timestamptz) RETURNS int LANGUAGE sql VOLATILE AS
$$ SELECT CASE WHEN isfinite(p_at) THEN greatest(1, least(extract(epoch FROM p_at - clock_timestamp()) * 1000 + 1, 86400000))::int ELSE 86400000 END $$;

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
    PERFORM tasker.notify('tasker_ready', left(array_to_string(v_ids, ','), 7900));
  END IF;
END $$;

-- A claimed step's optional fields, or NULL if all have their defaults.
CREATE FUNCTION tasker.claim_meta(p_priority int, p_correlation text, p_parent text, p_traceparent text, p_tracestate text) RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN p_priority <> 0 OR p_correlation IS NOT NULL OR p_parent IS NOT NULL OR p_traceparent IS NOT NULL
          THEN jsonb_strip_nulls(jsonb_build_object('priority', p_priority, 'correlation_id', p_correlation,
                 'parent_correlation_id', p_parent, 'traceparent', p_traceparent, 'tracestate', p_tracestate)) END $$;

-- The rows a dispatcher needs to run steps just claimed. Results of ancestors that are more than the setting tasker.max_dependencies (bytes) together are left out
-- (status partial); handlers ask for them.
-- (Workers of a batch are many, and the result of their batchable lists them all: they are given no more than 16 KiB each, so that a batch costs what its workers cost.)
CREATE FUNCTION tasker.claimed_rows(p_tasks bigint[], p_steps int[], p_attempts int[], p_fences int[])
RETURNS SETOF tasker.hot_row LANGUAGE sql STABLE ROWS 100 AS $$
  SELECT 'c'::"char", greatest(0, least(date_part('epoch', clock_timestamp() - s.ready_at) * 1000, 2147483647))::int, CASE WHEN d.cut THEN 'partial' END, p_tasks[c.i], t.task_uuid, t.template_id,
         p_steps[c.i], p_attempts[c.i], p_fences[c.i], ts.handler_id, t.context, d.deps, s.inputs, s.checkpoint,
         tasker.claim_meta(t.priority::int, t.correlation_id, t.parent_correlation_id, t.traceparent, t.tracestate)
  FROM (SELECT coalesce(current_setting('tasker.max_dependencies', true), '1048576')::bigint AS bytes) m
  CROSS JOIN generate_subscripts(p_tasks, 1) AS c(i)
  CROSS JOIN LATERAL (SELECT x.task_uuid, x.template_id, x.context, x.priority, x.correlation_id, x.parent_correlation_id, x.traceparent, x.tracestate
                      FROM tasker.tasks x WHERE x.task_id = p_tasks[c.i] OFFSET 0) t
  CROSS JOIN LATERAL (SELECT x.template_no, x.inputs, x.checkpoint, x.ready_at FROM tasker.steps x WHERE x.task_id = p_tasks[c.i] AND x.step_no = p_steps[c.i] OFFSET 0) s
  CROSS JOIN LATERAL (SELECT x.handler_id, x.ancestors, x.worker_ancestors FROM tasker.template_steps x WHERE x.template_id = t.template_id AND x.step_no = s.template_no OFFSET 0) ts
  LEFT JOIN LATERAL (
    SELECT g.deps, g.cut
    FROM (SELECT CASE WHEN s.template_no = p_steps[c.i] THEN m.bytes ELSE least(m.bytes, 16384) END AS bytes WHERE ts.ancestors <> '{}' OFFSET 0) l -- no row: what follows is not begun
    CROSS JOIN LATERAL (
      SELECT jsonb_object_agg(p.name, p.result) FILTER (WHERE p.total <= l.bytes) AS deps, bool_or(p.total > l.bytes) AS cut
      FROM (SELECT a.name, a.result, sum(coalesce(a.result_bytes, 4)) OVER () AS total
            FROM (SELECT x.step_no::text AS name, x.result, x.result_bytes
                  FROM unnest(ts.ancestors) AS a(no) -- not = ANY: that may become a filter over all steps of the task
                  CROSS JOIN LATERAL (SELECT y.step_no, y.result, y.result_bytes FROM tasker.steps y
                                      WHERE y.task_id = p_tasks[c.i] AND y.step_no = a.no AND y.state IN ('complete', 'resolved_manually') OFFSET 0) x
                  UNION ALL
                  SELECT x.step_no || ' ' || tasker.step_name(tw.name, x.step_no, w.no, x.inputs), x.result, x.result_bytes
                  FROM unnest(ts.worker_ancestors) AS w(no)
                  CROSS JOIN LATERAL (SELECT y.name FROM tasker.template_steps y WHERE y.template_id = t.template_id AND y.step_no = w.no OFFSET 0) tw
                  CROSS JOIN LATERAL tasker.instances(p_tasks[c.i], w.no) AS i(no)
                  CROSS JOIN LATERAL (SELECT y.step_no, y.inputs, y.result, y.result_bytes FROM tasker.steps y
                                      WHERE y.task_id = p_tasks[c.i] AND y.step_no = i.no AND tasker.satisfied(y.state, y.result) OFFSET 0) x) a) p
      OFFSET 0) g
  ) d ON true
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

-- The same, and return what the node's dispatcher needs. Where p_known has something, the dispatcher has at hand what the step is given: it gets a c row without, in which
-- handler_id is NULL, idx is the item's p_known and task_uuid and template_id are the item's p_uuids and p_templates.
CREATE FUNCTION tasker.hold(p_node int, p_incarnation int, p_slot int, p_seq bigint, p_tasks bigint[], p_steps int[], p_attempts int[], p_fences int[],
                            p_known int[] DEFAULT NULL, p_uuids uuid[] DEFAULT NULL, p_templates int[] DEFAULT NULL)
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
BEGIN
  PERFORM tasker.note_claims(p_node, p_incarnation, p_slot, p_seq, p_tasks, p_steps, p_fences);
  IF p_known IS NOT NULL THEN
    RETURN QUERY SELECT 'c'::"char", x.known, NULL::text, x.t, x.u, x.m, x.s, x.a, x.f, NULL::int, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
                 FROM unnest(p_tasks, p_steps, p_attempts, p_fences, p_known, p_uuids, p_templates) AS x(t, s, a, f, known, u, m) WHERE x.known IS NOT NULL;
    IF array_position(p_known, NULL) IS NULL THEN
      RETURN;
    END IF;
    SELECT array_agg(x.t), array_agg(x.s), array_agg(x.a), array_agg(x.f) INTO p_tasks, p_steps, p_attempts, p_fences
    FROM unnest(p_tasks, p_steps, p_attempts, p_fences, p_known) AS x(t, s, a, f, known) WHERE x.known IS NULL;
  END IF;
  RETURN QUERY SELECT * FROM tasker.claimed_rows(p_tasks, p_steps, p_attempts, p_fences);
END $$;

-- s rows for tasks that have settled, and a word to the other nodes.
CREATE FUNCTION tasker.tell_settled(p_notify boolean, p_state text, p_tasks bigint[], p_uuids uuid[], p_templates int[]) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
BEGIN
  IF p_notify AND p_uuids IS NOT NULL THEN
    PERFORM tasker.notify_uuids('tasker_settled', p_uuids);
  END IF;
  RETURN QUERY SELECT 's'::"char", NULL::int, p_state, x.t, x.u, x.m, NULL::int, NULL::int, NULL::int, NULL::int,
                      NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb FROM unnest(p_tasks, p_uuids, p_templates) AS x(t, u, m);
END $$;

-- Tell all nodes of these, in as many notifications as it takes.
CREATE FUNCTION tasker.notify_uuids(p_channel text, p_uuids uuid[]) RETURNS void LANGUAGE sql AS $$
  SELECT tasker.notify(p_channel, g.list)
  FROM (SELECT string_agg(u.uuid::text, ',') AS list FROM unnest(p_uuids) WITH ORDINALITY AS u(uuid, ord) GROUP BY (u.ord - 1) / 200) g
$$;

-- Live steps, in a range of numbers, of tasks that are to end in p_state become cancelled. x rows: running steps, to be told. Unless it is the whole range, the tasks, which count, go on
-- counting. The caller holds the tasks' row locks.
CREATE FUNCTION tasker.cancel_steps(p_tasks bigint[], p_state tasker.task_state, p_cause jsonb, p_message text, p_from int DEFAULT 0, p_to int DEFAULT 2147483647) RETURNS SETOF tasker.hot_row LANGUAGE sql AS $$
  WITH was AS MATERIALIZED (
    SELECT s.task_id, s.step_no, s.state, s.attempts, s.fence, s.node_no, s.ready_at, s.claimed_at FROM tasker.steps s
    WHERE s.task_id = ANY (p_tasks) AND s.step_no BETWEEN p_from AND p_to
      AND s.state NOT IN ('complete', 'cancelled', 'resolved_manually') AND (s.state <> 'error' OR p_state = 'cancelled' AND s.result IS NULL) FOR NO KEY UPDATE),
  u AS (UPDATE tasker.steps s SET state = 'cancelled', node_no = NULL, finished_at = clock_timestamp(), retry_at = NULL
        FROM was WHERE s.task_id = was.task_id AND s.step_no = was.step_no),
  a AS (INSERT INTO tasker.step_attempts (task_id, step_no, attempt, fence, outcome, node_no, ready_at, claimed_at, finished_at, recorded_at, error)
        SELECT w.task_id, w.step_no, w.attempts, w.fence, 'cancelled', w.node_no, w.ready_at, w.claimed_at, clock_timestamp(), clock_timestamp(),
               jsonb_build_object('message', p_message, 'reason', p_cause -> 'reason')
        FROM was w WHERE w.state = 'in_progress'),
  n AS (UPDATE tasker.tasks t SET n_active = t.n_active - g.active, n_waiting = t.n_waiting - g.waiting, n_failed = t.n_failed - g.failed
        FROM (SELECT w.task_id, count(*) FILTER (WHERE w.state IN ('enqueued', 'in_progress'))::int AS active, count(*) FILTER (WHERE w.state = 'waiting_for_retry')::int AS waiting,
                     count(*) FILTER (WHERE w.state = 'error')::int AS failed FROM was w WHERE p_to < 2147483647 GROUP BY w.task_id) g
        WHERE t.task_id = g.task_id)
  SELECT 'x'::"char", NULL::int, NULL::text, w.task_id, t.task_uuid, NULL::int, w.step_no, w.attempts, w.fence, NULL::int,
         NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
  FROM was w JOIN tasker.tasks t USING (task_id) WHERE w.state = 'in_progress'
$$;

-- End tasks in p_state (cancelled, error, resolved_manually): every live step becomes cancelled, running attempts end as cancelled. The caller holds the row locks and has
-- seen that the tasks are not finished. x rows: running steps, to be told; s rows.
CREATE FUNCTION tasker.end_tasks(p_node int, p_tasks bigint[], p_state tasker.task_state, p_cause jsonb, p_message text) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY SELECT * FROM tasker.cancel_steps(p_tasks, p_state, p_cause, p_message);
  INSERT INTO tasker.task_transitions (task_id, from_state, to_state, at, node_no, cause)
  SELECT t.task_id, t.state, p_state, clock_timestamp(), p_node, p_cause FROM tasker.tasks t WHERE t.task_id = ANY (p_tasks);
  RETURN QUERY
    UPDATE tasker.tasks t SET state = p_state, finished_at = clock_timestamp(), finished_by_node = p_node, n_active = 0, n_waiting = 0, n_failed = 0, paused = false
    WHERE t.task_id = ANY (p_tasks)
    RETURNING 's'::"char", NULL::int, p_state::text, t.task_id, t.task_uuid, t.template_id, NULL::int, NULL::int, NULL::int, NULL::int,
              NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb;
  PERFORM tasker.on_unblocked(p_tasks, p_cause ->> 'operator', p_cause ->> 'reason');
END $$;

-- Cancel a task. p_operator: who asks, uid:0 pid:1234, or user:NAME. Status of the a row: cancelled | conflict (already finished) | not_found; begun: it is large, and api_task_cancel_rest
-- does it | busy: with another action (state) on a large task.
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
  ELSIF tasker.is_large(v_id) THEN
    r.meta := (SELECT jsonb_build_object('state', l.action) FROM tasker.long_actions l WHERE l.task_id = v_id);
    r.status := CASE WHEN r.meta IS NULL THEN 'begun' WHEN r.meta ->> 'state' = 'cancel' THEN 'begun' ELSE 'busy' END;
    IF r.meta IS NULL THEN
      PERFORM tasker.begin_long(ROW(gen_random_uuid(), p_node, substring(p_operator FROM '^uid:([0-9]+)')::bigint, substring(p_operator FROM '^user:(.+)$'), NULL, coalesce(p_reason, ''),
                                    substring(p_operator FROM ' pid:([0-9]+)$')::int, NULL)::tasker.actor, 'cancel', v_id);
    END IF;
    RETURN NEXT r;
    RETURN;
  END IF;
  RETURN QUERY SELECT * FROM tasker.end_tasks(p_node, ARRAY[v_id], 'cancelled', jsonb_build_object('event', 'cancel', 'reason', p_reason, 'operator', split_part(p_operator, ' ', 1)), 'task cancelled');
  INSERT INTO tasker.operator_actions (request_id, action, task_id, from_state, to_state, uid, user_name, pid, reason, node_no)
  VALUES (gen_random_uuid(), 'task.cancel', v_id, v_state::text, 'cancelled', substring(p_operator FROM '^uid:([0-9]+)')::bigint, substring(p_operator FROM '^user:(.+)$'), substring(p_operator FROM ' pid:([0-9]+)$')::int, coalesce(p_reason, ''), p_node);
  IF p_notify THEN
    PERFORM tasker.notify('tasker_cancel', p_uuid::text);
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
                      UNION ALL SELECT (x.task).state FROM tasker.archived_tasks x WHERE x.task_uuid = u.uuid LIMIT 1) t
$$;
