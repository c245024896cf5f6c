-- Steps on their way: claims, results, what a result does to other steps and to its task. The rules of 0002_engine.sql hold.

-- The usual case in single-row statements: one success, in a task that counts nothing, of a step all of whose children have no other parent (the caller knows: templates never
-- change). Its children become ready: p_take are claimed for the calling node (attempt 1, fence 1), p_queue go to the queues of p_handlers; NULL where there are none. 0: not such a case
-- (the attempt is not current, the task counts); nothing is changed, and record_results does it. SQLSTATE TK002: likewise. 1: recorded; 2: and the task is complete. One number,
-- because a row costs a function scan. Few expressions, because each of them is made ready anew in every transaction.
CREATE FUNCTION tasker.record_one(
  p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean, p_take int[], p_queue int[], p_handlers int[],
  p_task bigint, p_step int, p_fence int, p_result jsonb, p_bytes int, p_meta jsonb, p_exec_ms real, p_worker uuid, p_finished timestamptz) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
  v_locked CONSTANT boolean := pg_advisory_xact_lock_shared(x'7461736c'::int, p_node) IS NULL; -- as in hot_begin
  v_now timestamptz; -- taken under the task's lock, so that a task's times are in the order of what happened
  v_active int; v_attempts int; v_ready timestamptz; v_claimed timestamptz; v_child int; v_complete boolean;
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

  IF p_take IS NULL AND p_queue IS NULL THEN
    UPDATE tasker.tasks t SET
      open_sinks = t.open_sinks - 1,
      state = CASE WHEN t.open_sinks = 1 THEN 'complete' ELSE t.state END,
      finished_at = CASE WHEN t.open_sinks = 1 THEN v_now END,
      finished_by_node = CASE WHEN t.open_sinks = 1 THEN p_node END
    WHERE t.task_id = p_task AND t.state NOT IN ('complete', 'error', 'cancelled', 'resolved_manually')
    RETURNING t.open_sinks = 0 INTO v_complete;
    IF v_complete AND p_notify THEN
      PERFORM tasker.notify('tasker_settled', (SELECT t.task_uuid::text FROM tasker.tasks t WHERE t.task_id = p_task));
    END IF;
    RETURN CASE WHEN v_complete THEN 2 ELSE 1 END;
  END IF;
  IF p_take IS NOT NULL THEN
    FOREACH v_child IN ARRAY p_take LOOP
      UPDATE tasker.steps s SET state = 'in_progress', pending_parents = 0, attempts = 1, fence = 1, node_no = p_node, ready_at = v_now, claimed_at = v_now
      WHERE s.task_id = p_task AND s.step_no = v_child AND s.state = 'pending' AND s.fence = 0;
      IF NOT FOUND THEN
        RAISE EXCEPTION 'step % of task id % is not as its template made it', v_child, p_task USING ERRCODE = 'TK002';
      END IF;
    END LOOP;
    UPDATE tasker.node_claims n SET seq = p_seq, task_ids = array_fill(p_task, ARRAY[cardinality(p_take)]), step_nos = p_take, fences = array_fill(1, ARRAY[cardinality(p_take)])
    WHERE n.node_no = p_node AND n.slot = p_slot AND n.seq < p_seq;
    IF NOT FOUND THEN
      PERFORM tasker.note_claims(p_node, p_incarnation, p_slot, p_seq, array_fill(p_task, ARRAY[cardinality(p_take)]), p_take, array_fill(1, ARRAY[cardinality(p_take)]));
    END IF;
  END IF;
  IF p_queue IS NOT NULL THEN
    FOREACH v_child IN ARRAY p_queue LOOP
      UPDATE tasker.steps s SET state = 'enqueued', pending_parents = 0, ready_at = v_now
      WHERE s.task_id = p_task AND s.step_no = v_child AND s.state = 'pending' AND s.fence = 0;
      IF NOT FOUND THEN
        RAISE EXCEPTION 'step % of task id % is not as its template made it', v_child, p_task USING ERRCODE = 'TK002';
      END IF;
    END LOOP;
    PERFORM tasker.enqueue(array_fill(p_task, ARRAY[cardinality(p_queue)]), p_queue, array_fill(0, ARRAY[cardinality(p_queue)]), p_handlers,
                           array_fill(NULL::timestamptz, ARRAY[cardinality(p_queue)]), p_notify);
  END IF;
  RETURN 1;
END $$;

-- The same for a batch: successes of steps all of whose children have no other parent. The caller has laid out what follows from them: children to be claimed for the calling
-- node (p_take_*, attempt 1, fence 1), children for their queues (p_queue_*), and of items whose steps have no children the tasks and positions (p_sink_*); NULL where there are none.
-- refused: positions of items whose tasks count, of which nothing has been changed: record_results does them. settled: one position for each task that is complete now.
-- SQLSTATE TK002: one of them is not such a case, nothing is changed. Arrays are read by subscript: a set of rows for each array costs more than the writing of an attempt.
CREATE FUNCTION tasker.record_many(
  p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean,
  p_task bigint[], p_step int[], p_fence int[], p_result jsonb[], p_bytes int[], p_meta jsonb[], p_exec_ms real[], p_worker uuid[], p_finished timestamptz[],
  p_take_task bigint[], p_take_step int[], p_queue_task bigint[], p_queue_step int[], p_queue_handler int[], p_sink_task bigint[], p_sink_item int[],
  OUT refused int[], OUT settled int[])
LANGUAGE plpgsql AS $$
DECLARE
  v_locked CONSTANT boolean := pg_advisory_xact_lock_shared(x'7461736c'::int, p_node) IS NULL; -- as in hot_begin
  v_now timestamptz; -- taken under the tasks' locks
  v_counted bigint[]; v_uuids uuid[]; v_done int; v_more int := 0;
BEGIN
  SELECT array_agg(l.task_id) FILTER (WHERE l.n_active IS NOT NULL) INTO v_counted
  FROM (SELECT t.task_id, t.n_active FROM tasker.tasks t WHERE t.task_id = ANY (p_task) ORDER BY t.task_id FOR NO KEY UPDATE) l;
  v_now := clock_timestamp();
  IF v_counted IS NOT NULL THEN
    refused := ARRAY(SELECT i FROM generate_subscripts(p_task, 1) AS i WHERE p_task[i] = ANY (v_counted));
    SELECT array_agg(p_task[i]), array_agg(p_step[i]), array_agg(p_fence[i]), array_agg(p_result[i]), array_agg(p_bytes[i]), array_agg(p_meta[i]), array_agg(p_exec_ms[i]), array_agg(p_worker[i]), array_agg(p_finished[i])
    INTO p_task, p_step, p_fence, p_result, p_bytes, p_meta, p_exec_ms, p_worker, p_finished FROM generate_subscripts(p_task, 1) AS i WHERE i <> ALL (refused);
    IF p_task IS NULL THEN
      RETURN;
    END IF;
    SELECT array_agg(p_take_task[i]), array_agg(p_take_step[i]) INTO p_take_task, p_take_step
    FROM generate_subscripts(p_take_task, 1) AS i WHERE p_take_task[i] <> ALL (v_counted);
    SELECT array_agg(p_queue_task[i]), array_agg(p_queue_step[i]), array_agg(p_queue_handler[i]) INTO p_queue_task, p_queue_step, p_queue_handler
    FROM generate_subscripts(p_queue_task, 1) AS i WHERE p_queue_task[i] <> ALL (v_counted);
    SELECT array_agg(p_sink_task[i]), array_agg(p_sink_item[i]) INTO p_sink_task, p_sink_item
    FROM generate_subscripts(p_sink_task, 1) AS i WHERE p_sink_task[i] <> ALL (v_counted);
  END IF;

  WITH u AS (
    UPDATE tasker.steps s SET state = 'complete', result = p_result[k.i], result_bytes = p_bytes[k.i], error = NULL, finished_at = v_now
    FROM (SELECT i, x.c FROM generate_subscripts(p_task, 1) AS i
          CROSS JOIN LATERAL (SELECT y.ctid AS c FROM tasker.steps y WHERE y.task_id = p_task[i] AND y.step_no = p_step[i] AND y.state = 'in_progress' AND y.fence = p_fence[i] OFFSET 0) x) k
    WHERE s.ctid = k.c
    RETURNING k.i, s.attempts, s.ready_at, s.claimed_at)
  INSERT INTO tasker.step_attempts (task_id, step_no, attempt, fence, outcome, node_no, worker_uuid, ready_at, claimed_at, finished_at, recorded_at, execution_ms, metadata)
  SELECT p_task[u.i], p_step[u.i], u.attempts, p_fence[u.i], 'success', p_node, p_worker[u.i], u.ready_at, u.claimed_at, p_finished[u.i], v_now, p_exec_ms[u.i], p_meta[u.i] FROM u;
  GET DIAGNOSTICS v_done = ROW_COUNT;
  v_done := v_done - cardinality(p_task);

  IF p_take_task IS NOT NULL THEN
    UPDATE tasker.steps s SET state = 'in_progress', pending_parents = 0, attempts = 1, fence = 1, node_no = p_node, ready_at = v_now, claimed_at = v_now
    FROM (SELECT x.c FROM generate_subscripts(p_take_task, 1) AS i
          CROSS JOIN LATERAL (SELECT y.ctid AS c FROM tasker.steps y WHERE y.task_id = p_take_task[i] AND y.step_no = p_take_step[i] AND y.state = 'pending' AND y.fence = 0 OFFSET 0) x) k
    WHERE s.ctid = k.c;
    GET DIAGNOSTICS v_more = ROW_COUNT;
    v_done := v_done + v_more - cardinality(p_take_task);
    PERFORM tasker.note_claims(p_node, p_incarnation, p_slot, p_seq, p_take_task, p_take_step, array_fill(1, ARRAY[cardinality(p_take_task)]));
  END IF;
  IF p_queue_task IS NOT NULL THEN
    UPDATE tasker.steps s SET state = 'enqueued', pending_parents = 0, ready_at = v_now
    FROM (SELECT x.c FROM generate_subscripts(p_queue_task, 1) AS i
          CROSS JOIN LATERAL (SELECT y.ctid AS c FROM tasker.steps y WHERE y.task_id = p_queue_task[i] AND y.step_no = p_queue_step[i] AND y.state = 'pending' AND y.fence = 0 OFFSET 0) x) k
    WHERE s.ctid = k.c;
    GET DIAGNOSTICS v_more = ROW_COUNT;
    v_done := v_done + v_more - cardinality(p_queue_task);
    PERFORM tasker.enqueue(p_queue_task, p_queue_step, array_fill(0, ARRAY[cardinality(p_queue_task)]), p_queue_handler,
                           array_fill(NULL::timestamptz, ARRAY[cardinality(p_queue_task)]), p_notify);
  END IF;
  IF v_done <> 0 THEN
    RAISE EXCEPTION 'a step is not as its template made it, or an attempt is not current' USING ERRCODE = 'TK002';
  END IF;

  IF p_sink_task IS NOT NULL THEN
    WITH u AS (
      UPDATE tasker.tasks t SET
        open_sinks = t.open_sinks - k.n,
        state = CASE WHEN t.open_sinks = k.n THEN 'complete' ELSE t.state END,
        finished_at = CASE WHEN t.open_sinks = k.n THEN v_now END,
        finished_by_node = CASE WHEN t.open_sinks = k.n THEN p_node END
      FROM (SELECT g.n, g.item, x.c
            FROM (SELECT p_sink_task[i] AS task_id, count(*)::int AS n, max(p_sink_item[i]) AS item FROM generate_subscripts(p_sink_task, 1) AS i GROUP BY p_sink_task[i]) g
            CROSS JOIN LATERAL (SELECT y.ctid AS c FROM tasker.tasks y WHERE y.task_id = g.task_id OFFSET 0) x) k
      WHERE t.ctid = k.c
      RETURNING k.item, t.task_uuid, t.open_sinks)
    SELECT array_agg(u.item), array_agg(u.task_uuid) INTO settled, v_uuids FROM u WHERE u.open_sinks = 0;
    IF p_notify AND v_uuids IS NOT NULL THEN
      PERFORM tasker.notify_uuids('tasker_settled', v_uuids);
    END IF;
  END IF;
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
  v_late boolean; v_waiting boolean;
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
    -- By vt, not msg_id: the index skips what is not yet due. First, what has become due takes the place of its priority. Queues are walked in any order, so no claim may wait
    -- for another's rows.
    EXECUTE format('SELECT true FROM pgmq.%I q WHERE q.vt > $1 - interval ''12 hours'' AND q.vt <= $1 LIMIT 1', 'q_' || v_queue) INTO v_late USING v_now;
    IF v_late THEN
      EXECUTE format('UPDATE pgmq.%1$I q SET vt = tasker.ready_vt(q.vt, coalesce((q.message ->> ''p'')::int, 0))
                      WHERE q.msg_id = ANY (ARRAY(SELECT x.msg_id FROM pgmq.%1$I x WHERE x.vt > $1 - interval ''12 hours'' AND x.vt <= $1 FOR UPDATE SKIP LOCKED))',
                     'q_' || v_queue) USING v_now;
    END IF;
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
        r.idx := tasker.until(v_due);
        RETURN NEXT r;
      END IF;
    END IF;
  END LOOP;
  IF cardinality(m_t) = 0 THEN
    RETURN;
  END IF;

  -- A step coming out of a backoff changes its task's counters: task rows first. It has been claimed before, so its fence is not 0.
  IF m_f <> array_fill(0, ARRAY[cardinality(m_f)]) THEN
    SELECT bool_or(true) INTO v_waiting FROM (
      SELECT 1 FROM tasker.tasks t
      WHERE t.task_id = ANY (ARRAY(
        SELECT s.task_id FROM unnest(m_t, m_s) AS m(task_id, step_no)
        CROSS JOIN LATERAL (SELECT z.task_id FROM tasker.steps z WHERE z.task_id = m.task_id AND z.step_no = m.step_no AND z.state = 'waiting_for_retry' OFFSET 0) s))
      ORDER BY t.task_id FOR NO KEY UPDATE) x;
  END IF;
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
    FROM (SELECT m_f[m.no] AS fence, z.c FROM generate_subscripts(m_t, 1) AS m(no)
          CROSS JOIN LATERAL (SELECT x.ctid AS c FROM tasker.steps x WHERE x.task_id = m_t[m.no] AND x.step_no = m_s[m.no] OFFSET 0) z
          ORDER BY m_t[m.no], m_s[m.no]) k
    WHERE s.ctid = k.c AND s.fence = k.fence AND s.state IN ('enqueued', 'waiting_for_retry')
    RETURNING s.task_id, s.step_no, s.attempts, s.fence)
  SELECT array_agg(task_id), array_agg(step_no), array_agg(attempts), array_agg(fence) INTO c_t, c_s, c_a, c_f FROM u;
  IF c_t IS NOT NULL THEN
    PERFORM tasker.note_claims(p_node, p_incarnation, p_slot, p_seq, c_t, c_s, c_f);
    RETURN QUERY SELECT * FROM tasker.claimed_rows(c_t, c_s, c_a, c_f);
  END IF;
END $$;

-- Messages that the engine has not written, which claim() and start_tasks() stumble over, go to the archives of their queues. For when one of the two has failed; returns how many.
CREATE FUNCTION tasker.set_foreign_aside() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_queue text; v_ids bigint[]; v_n bigint := 0;
BEGIN
  FOR v_queue IN SELECT h.queue_name FROM tasker.handlers h UNION ALL SELECT 'orchestration_task_requests' LOOP
    EXECUTE format($q$SELECT array_agg(m.msg_id) FROM (
                      SELECT q.msg_id FROM pgmq.%I q WHERE EXISTS (
                        SELECT 1 FROM (VALUES ('t', NULL), ('s', 2147483647), ('f', 2147483647), ('p', 100)) AS k(key, most)
                        WHERE q.message ->> k.key IS NOT NULL AND coalesce(tasker.whole(q.message, k.key) NOT BETWEEN -k.most AND k.most, tasker.whole(q.message, k.key) IS NULL))
                      FOR UPDATE SKIP LOCKED) m$q$, 'q_' || v_queue) INTO v_ids;
    IF v_ids IS NOT NULL THEN
      PERFORM pgmq.archive(v_queue, v_ids);
      v_n := v_n + cardinality(v_ids);
    END IF;
  END LOOP;
  RETURN v_n;
END $$;

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
  PERFORM tasker.begin_counting(ARRAY(
    SELECT u.task_id FROM unnest(p_task, p_step, p_fence) AS u(task_id, step_no, fence)
    CROSS JOIN LATERAL (SELECT 1 FROM tasker.steps x WHERE x.task_id = u.task_id AND x.step_no = u.step_no AND x.state = 'in_progress' AND x.fence = u.fence OFFSET 0) s));

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

-- Put tasks with counters (n_active set) into the state that the counters say. s rows for those that have settled, and a word to the other nodes. The caller holds the row locks.
CREATE FUNCTION tasker.settle(p_node int, p_notify boolean, p_tasks bigint[], p_cause jsonb) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  u_t bigint[]; u_u uuid[]; u_m int[]; u_old tasker.task_state[]; u_new tasker.task_state[];
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
    RETURNING t.task_id, t.task_uuid, t.template_id, w.old, w.new),
  h AS (
    INSERT INTO tasker.task_transitions (task_id, from_state, to_state, at, node_no, cause)
    SELECT u.task_id, u.old, u.new, clock_timestamp(), p_node, p_cause FROM u WHERE u.new <> 'complete')
  SELECT array_agg(u.task_id), array_agg(u.task_uuid), array_agg(u.template_id), array_agg(u.old), array_agg(u.new) INTO u_t, u_u, u_m, u_old, u_new FROM u;
  IF 'blocked_by_failures' = ANY (u_new) THEN
    PERFORM tasker.on_blocked((SELECT array_agg(x.t) FROM unnest(u_t, u_new) AS x(t, new) WHERE x.new = 'blocked_by_failures'));
  END IF;
  IF 'blocked_by_failures' = ANY (u_old) THEN
    PERFORM tasker.on_unblocked((SELECT array_agg(x.t) FROM unnest(u_t, u_old) AS x(t, old) WHERE x.old = 'blocked_by_failures'), p_cause ->> 'operator', p_cause ->> 'reason');
  END IF;
  IF p_notify THEN
    PERFORM tasker.notify_uuids('tasker_settled', ARRAY(SELECT x.u FROM unnest(u_u, u_new) AS x(u, new) WHERE x.new IN ('complete', 'blocked_by_failures')));
  END IF;
  RETURN QUERY
    SELECT 's'::"char", NULL::int, x.new::text, x.t, x.u, x.m, NULL::int, NULL::int, NULL::int, NULL::int,
           NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
    FROM unnest(u_t, u_u, u_m, u_new) AS x(t, u, m, new) WHERE x.new IN ('complete', 'blocked_by_failures');
END $$;

-- From now on these tasks count what can move them. The caller holds the row locks.
CREATE FUNCTION tasker.begin_counting(p_tasks bigint[]) RETURNS void LANGUAGE sql AS $$
  UPDATE tasker.tasks t SET n_active = (SELECT count(*) FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state IN ('enqueued', 'in_progress'))
  WHERE t.task_id = ANY (p_tasks) AND t.n_active IS NULL
$$;

-- Take the steps of paused tasks (others are passed over) out of their queues: what was enqueued or waits for a retry is pending again, and its message has an old
-- fence. Without a range of step numbers: all steps, but of tasks for which a long action does so (or not) in stretches, none. The caller holds the row locks.
CREATE FUNCTION tasker.hold_back(p_tasks bigint[], p_from int DEFAULT NULL, p_to int DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
  WITH was AS MATERIALIZED (
    SELECT s.ctid AS c, s.task_id, s.state FROM tasker.steps s
    WHERE s.task_id = ANY (ARRAY(SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY (p_tasks) AND t.paused
                                 AND (p_from IS NOT NULL OR NOT EXISTS (SELECT 1 FROM tasker.long_actions l WHERE l.task_id = t.task_id))))
      AND s.step_no BETWEEN coalesce(p_from, 0) AND coalesce(p_to, 2147483647) AND s.state IN ('enqueued', 'waiting_for_retry') FOR NO KEY UPDATE),
  u AS (UPDATE tasker.steps s SET state = 'pending', fence = s.fence + 1 FROM was WHERE s.ctid = was.c RETURNING was.task_id, was.state)
  UPDATE tasker.tasks t SET n_active = t.n_active - g.active, n_waiting = t.n_waiting - g.waiting
  FROM (SELECT u.task_id, count(*) FILTER (WHERE u.state = 'enqueued')::int AS active, count(*) FILTER (WHERE u.state <> 'enqueued')::int AS waiting FROM u GROUP BY u.task_id) g
  WHERE t.task_id = g.task_id
$$;

-- Successes: their steps become complete. Parallel arrays of what has been recorded; o_sinks: the tasks of those that count. p_now is taken under the tasks' row locks.
CREATE FUNCTION tasker.complete_steps(
  p_node int, p_now timestamptz, p_task bigint[], p_step int[], p_fence int[], p_outcome tasker.attempt_outcome[], p_result jsonb[], p_bytes int[], p_meta jsonb[],
  p_exec_ms real[], p_worker uuid[], p_finished timestamptz[],
  OUT o_i int[], OUT o_t bigint[], OUT o_s int[], OUT o_n int[], OUT o_tpl int[], OUT o_sinks bigint[], OUT has_children boolean)
LANGUAGE plpgsql AS $$
BEGIN
  WITH r AS MATERIALIZED (
    SELECT u.ord, p_result[u.ord] AS result, p_bytes[u.ord] AS bytes, p_meta[u.ord] AS meta, p_exec_ms[u.ord] AS exec_ms, p_worker[u.ord] AS worker, p_finished[u.ord] AS finished,
           s.c, t.template_id, s.template_no, ts.counts, ts.parent
    FROM generate_subscripts(p_task, 1) AS u(ord)
    CROSS JOIN LATERAL (SELECT x.ctid AS c, x.template_no FROM tasker.steps x
                        WHERE x.task_id = p_task[u.ord] AND x.step_no = p_step[u.ord] AND x.state = 'in_progress' AND x.fence = p_fence[u.ord] OFFSET 0) s
    CROSS JOIN LATERAL (SELECT x.template_id FROM tasker.tasks x WHERE x.task_id = p_task[u.ord] OFFSET 0) t
    CROSS JOIN LATERAL (SELECT x.counts, x.children <> '{}' AS parent FROM tasker.template_steps x WHERE x.template_id = t.template_id AND x.step_no = s.template_no OFFSET 0) ts
    WHERE p_outcome[u.ord] = 'success'),
  u AS (
    UPDATE tasker.steps s SET state = 'complete', result = r.result, result_bytes = r.bytes, error = NULL, finished_at = p_now
    FROM r WHERE s.ctid = r.c
    RETURNING r.ord, s.task_id, s.step_no, s.attempts, s.fence, s.ready_at, s.claimed_at, r.meta, r.exec_ms, r.worker, r.finished, r.template_id, r.template_no, r.counts, r.parent),
  a AS (
    INSERT INTO tasker.step_attempts (task_id, step_no, attempt, fence, outcome, node_no, worker_uuid, ready_at, claimed_at, finished_at, recorded_at, execution_ms, metadata)
    SELECT u.task_id, u.step_no, u.attempts, u.fence, 'success', p_node, u.worker, u.ready_at, u.claimed_at, u.finished, p_now, u.exec_ms, u.meta
    FROM u)
  SELECT array_agg(u.ord), array_agg(u.task_id), array_agg(u.step_no), array_agg(u.template_no), array_agg(u.template_id), array_agg(u.task_id) FILTER (WHERE u.counts), bool_or(u.parent)
  INTO o_i, o_t, o_s, o_n, o_tpl, o_sinks, has_children FROM u;
END $$;

-- What waited for these steps (parallel arrays, with the template steps that they are of) counts down, and what p_effects name besides. What becomes ready is claimed for the
-- calling node within the credits (c_*; see tasker.create_tasks) or is to be put into its queue (e_*), in tasks of p_paused all of it. p_counted: some of the tasks may have batches.
-- c_k: the step's p_known, see tasker.hold.
CREATE FUNCTION tasker.next_steps(
  p_node int, p_now timestamptz, p_handler int[], p_quota int[], p_cap int, p_counted boolean, p_paused bigint[], p_task bigint[], p_no int[], p_template int[], p_known int[],
  p_effects tasker.effect[],
  OUT c_t bigint[], OUT c_s int[], OUT c_a int[], OUT c_f int[], OUT c_k int[], OUT e_t bigint[], OUT e_s int[], OUT e_h int[], OUT e_f int[])
LANGUAGE plpgsql AS $$
BEGIN
  WITH ch AS (
    SELECT o.task_id, o.tpl, ch.step_no, 1 AS n, o.known
    FROM unnest(p_task, p_no, p_template, p_known) AS o(task_id, template_no, tpl, known)
    CROSS JOIN LATERAL (SELECT unnest(x.children) AS step_no FROM tasker.template_steps x WHERE x.template_id = o.tpl AND x.step_no = o.template_no OFFSET 0) ch),
  all_ch AS (
    SELECT ch.* FROM ch
    UNION ALL
    SELECT ch.task_id, ch.tpl, i.no, ch.n, NULL FROM ch CROSS JOIN LATERAL tasker.instances(ch.task_id, ch.step_no) AS i(no) WHERE p_counted
    UNION ALL
    SELECT x.task_id, x.template_id, x.step_no, x.n, NULL FROM unnest(p_effects) AS x),
  k AS (
    SELECT c.task_id, c.tpl, c.step_no, sum(c.n)::int AS n, max(c.known) AS known FROM all_ch c GROUP BY c.task_id, c.tpl, c.step_no),
  want AS (
    SELECT k.task_id, k.step_no, k.n, k.known, ts.handler_id, s.c, s.pending_parents = k.n AS ready,
           s.pending_parents = k.n AND of.quota IS NOT NULL AND (p_paused IS NULL OR k.task_id <> ALL (p_paused))
             AND row_number() OVER (PARTITION BY s.pending_parents = k.n AND (p_paused IS NULL OR k.task_id <> ALL (p_paused)), ts.handler_id ORDER BY k.task_id, k.step_no) <= of.quota AS in_quota
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
      ready_at = CASE WHEN c.ready THEN p_now END,
      claimed_at = CASE WHEN c.take THEN p_now END
    FROM capped c WHERE s.ctid = c.c
    RETURNING s.task_id, s.step_no, s.attempts, s.fence, CASE WHEN s.attempts = 1 THEN c.known END AS known, c.handler_id, c.ready, c.take)
  SELECT array_agg(task_id) FILTER (WHERE take), array_agg(step_no) FILTER (WHERE take),
         array_agg(attempts) FILTER (WHERE take), array_agg(fence) FILTER (WHERE take), array_agg(known) FILTER (WHERE take),
         array_agg(task_id) FILTER (WHERE NOT take), array_agg(step_no) FILTER (WHERE NOT take),
         array_agg(handler_id) FILTER (WHERE NOT take), array_agg(fence) FILTER (WHERE NOT take)
  INTO c_t, c_s, c_a, c_f, c_k, e_t, e_s, e_h, e_f
  FROM u WHERE ready;
END $$;

-- Steps that count have been satisfied, one for each time that their task is in p_tasks: a task is complete when all of them are. s rows.
CREATE FUNCTION tasker.close_sinks(p_node int, p_now timestamptz, p_notify boolean, p_tasks bigint[]) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  d_t bigint[]; d_u uuid[]; d_m int[];
BEGIN
  WITH k AS (
    SELECT o.task_id, count(*)::int AS n FROM unnest(p_tasks) AS o(task_id) GROUP BY o.task_id),
  z AS (
    SELECT k.n, t.c FROM k
    CROSS JOIN LATERAL (SELECT x.ctid AS c FROM tasker.tasks x WHERE x.task_id = k.task_id AND x.state NOT IN ('complete', 'error', 'cancelled', 'resolved_manually') OFFSET 0) t),
  u AS (
    UPDATE tasker.tasks t SET
      open_sinks = t.open_sinks - z.n,
      state = CASE WHEN t.open_sinks = z.n THEN 'complete' ELSE t.state END,
      finished_at = CASE WHEN t.open_sinks = z.n THEN p_now END,
      finished_by_node = CASE WHEN t.open_sinks = z.n THEN p_node END
    FROM z WHERE t.ctid = z.c
    RETURNING t.task_id, t.task_uuid, t.template_id, t.open_sinks)
  SELECT array_agg(u.task_id), array_agg(u.task_uuid), array_agg(u.template_id) INTO d_t, d_u, d_m FROM u WHERE u.open_sinks = 0;
  RETURN QUERY SELECT * FROM tasker.tell_settled(p_notify, 'complete', d_t, d_u, d_m);
END $$;

-- Steps of these tasks have become active (p_more), or no longer are; a task is there once for each step. Those that do not count are passed over.
CREATE FUNCTION tasker.count_active(p_more bigint[], p_less bigint[]) RETURNS void LANGUAGE sql AS $$
  UPDATE tasker.tasks t SET n_active = t.n_active + k.n
  FROM (SELECT g.n, z.c
        FROM (SELECT x.task_id, sum(x.n)::int AS n FROM (SELECT unnest(p_more) AS task_id, 1 AS n UNION ALL SELECT unnest(p_less), -1) x GROUP BY x.task_id) g
        CROSS JOIN LATERAL (SELECT y.ctid AS c FROM tasker.tasks y WHERE y.task_id = g.task_id AND y.n_active IS NOT NULL OFFSET 0) z
        WHERE g.n <> 0) k
  WHERE t.ctid = k.c
$$;

-- Record a batch of results. Arrays are parallel, one item for each result; see tasker.end_attempts for those that are not a success.
-- a rows for all but recorded successes: status retrying | failed | released for what this call changed, duplicate | stale for what it did not.
-- p_events (NULL: no step of the batch declares any): see publish_events, as for e rows.
-- p_inherits: the steps that this one makes ready have no other parent, and the caller has at hand what they are given: short c rows, see tasker.hold; idx is the item.
-- s rows: tasks that settled (status is the state). c rows: steps that became ready and were claimed within the offered credits. q rows: queues that got messages.
CREATE FUNCTION tasker.record_results(
  p_node int, p_incarnation int, p_slot int, p_seq bigint, p_notify boolean,
  p_handler int[], p_quota int[], p_cap int,
  p_task bigint[], p_step int[], p_fence int[], p_outcome tasker.attempt_outcome[], p_retry boolean[], p_delay_ms bigint[],
  p_result jsonb[], p_error jsonb[], p_meta jsonb[], p_exec_ms real[], p_worker uuid[], p_finished timestamptz[], p_bytes int[] DEFAULT NULL,
  p_events jsonb[] DEFAULT NULL, p_inherits boolean[] DEFAULT NULL)
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_now timestamptz; -- taken under the task locks, so that a task's times are in the order of what happened
  v_counted boolean; v_paused bigint[]; v_applied int := 0; v_aborted boolean := false; v_refused int[];
  done record; next record; f_i int[];
  c_t bigint[]; c_s int[]; c_a int[]; c_f int[]; c_k int[]; e_t bigint[];
  v_effect tasker.effect; v_effects tasker.effect[] := '{}'; -- on steps besides the children
  v_row tasker.hot_row;
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
        v_refused := v_refused || v_effect.idx;
      ELSE
        v_effects := v_effects || v_effect;
      END IF;
    END LOOP;
  END IF;

  done := tasker.complete_steps(p_node, v_now, p_task, p_step, p_fence, p_outcome, p_result, p_bytes, p_meta, p_exec_ms, p_worker, p_finished);
  IF done.o_t IS NOT NULL THEN
    v_applied := cardinality(done.o_t);
    IF v_counted AND done.o_s <> done.o_n THEN
      v_effects := v_effects || ARRAY(SELECT e FROM tasker.batch_progress(done.o_t, done.o_s) e);
    END IF;
    IF done.has_children OR v_effects <> '{}' THEN
      next := tasker.next_steps(p_node, v_now, p_handler, p_quota, p_cap, v_counted, v_paused, done.o_t, done.o_n, done.o_tpl,
                                ARRAY(SELECT CASE WHEN p_inherits[x.i] THEN x.i END FROM unnest(done.o_i) AS x(i)), v_effects);
      c_t := next.c_t; c_s := next.c_s; c_a := next.c_a; c_f := next.c_f; c_k := next.c_k; e_t := next.e_t;
      IF e_t IS NOT NULL THEN
        RETURN QUERY SELECT * FROM tasker.enqueue(e_t, next.e_s, next.e_f, next.e_h, array_fill(NULL::timestamptz, ARRAY[cardinality(e_t)]), p_notify);
      END IF;
    END IF;
    IF done.o_sinks IS NOT NULL THEN
      RETURN QUERY SELECT * FROM tasker.close_sinks(p_node, v_now, p_notify, done.o_sinks);
    END IF;
    IF v_counted THEN
      PERFORM tasker.count_active(c_t || e_t, done.o_t);
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
        f_i := f_i || v_row.idx;
        v_applied := v_applied + 1;
      END IF;
      v_aborted := v_aborted OR v_row.kind = 'x';
      RETURN NEXT v_row;
      IF v_row.idx = ANY (v_refused) AND v_row.kind = 'a' THEN
        v_row.kind := 'w';
        v_row.status := p_error[v_row.idx] ->> 'message';
        RETURN NEXT v_row;
      END IF;
    END LOOP;
    v_counted := true;
  END IF;
  IF v_aborted AND c_t IS NOT NULL THEN
    -- A batch that failed fast may have taken back what had just been handed over.
    SELECT array_agg(c.t), array_agg(c.s), array_agg(c.a), array_agg(c.f), array_agg(c.k) INTO c_t, c_s, c_a, c_f, c_k
    FROM unnest(c_t, c_s, c_a, c_f, c_k) AS c(t, s, a, f, k)
    CROSS JOIN LATERAL (SELECT 1 FROM tasker.steps x WHERE x.task_id = c.t AND x.step_no = c.s AND x.fence = c.f AND x.state = 'in_progress' OFFSET 0) k;
  END IF;
  IF v_paused IS NOT NULL THEN
    PERFORM tasker.hold_back(v_paused);
  END IF;
  IF v_counted THEN
    RETURN QUERY SELECT * FROM tasker.settle(p_node, p_notify, p_task, '{"event": "results"}');
  END IF;

  -- What did not apply: say whether this very attempt was recorded before.
  IF v_applied < cardinality(p_task) THEN
    RETURN QUERY
      SELECT 'a'::"char", x.i,
             CASE WHEN EXISTS (SELECT 1 FROM tasker.step_attempts a WHERE a.task_id = p_task[x.i] AND a.step_no = p_step[x.i] AND a.fence = p_fence[x.i]
                               AND a.outcome IN ('success', 'handler_error', 'permanent_error', 'invalid_result')) THEN 'duplicate' ELSE 'stale' END,
             p_task[x.i], NULL::uuid, NULL::int, p_step[x.i], NULL::int, p_fence[x.i], NULL::int, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
      FROM generate_subscripts(p_task, 1) AS x(i)
      WHERE x.i <> ALL (coalesce(done.o_i, '{}') || coalesce(f_i, '{}'));
  END IF;
  IF c_t IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.hold(p_node, p_incarnation, p_slot, p_seq, c_t, c_s, c_a, c_f, c_k);
  END IF;
  IF p_events IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.publish_events(p_node, p_notify, p_task, p_step, p_fence, p_events);
  END IF;
END $$;
