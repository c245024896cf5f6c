-- What people do by hand. Every action is one transaction: it locks the tasks, looks at the states they are in, changes what may be changed, notes who did it and why,
-- re-evaluates the tasks (settle), and tells the nodes by NOTIFY what became ready, what settled and which running attempts are over. An action that the state does not
-- allow changes nothing and is the error TK409, which names the state: of two operators at once the second finds what the first has done.

-- Of a request's parameters; "by" is the daemon's own addition.
CREATE FUNCTION tasker.actor_of(p jsonb) RETURNS tasker.actor LANGUAGE sql STABLE AS $$
  SELECT ROW(coalesce((p -> 'by' ->> 'request')::uuid, gen_random_uuid()), (SELECT n.node_no FROM tasker.nodes n WHERE n.node_name = p -> 'by' ->> 'node'),
             (p -> 'by' ->> 'uid')::bigint, p -> 'by' ->> 'user', p ->> 'operator', p ->> 'reason', (p -> 'by' ->> 'pid')::int, p -> 'metadata')::tasker.actor
$$;

-- What was done by hand besides actions on tasks, steps and namespaces, once for each request.
CREATE FUNCTION tasker.note_action(a tasker.actor, p_action text, p_task bigint, p_namespace int, p_from text, p_to text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tasker.operator_actions (request_id, action, task_id, namespace_id, from_state, to_state, uid, user_name, pid, operator, reason, node_no)
  SELECT a.request_id, p_action, p_task, p_namespace, p_from, p_to, a.uid, a.user_name, a.pid, a.operator, coalesce(a.reason, ''), a.node_no
  WHERE NOT EXISTS (SELECT 1 FROM tasker.operator_actions o WHERE o.request_id = a.request_id)
$$;

-- As it stands in task_transitions.cause.
CREATE FUNCTION tasker.cause_of(p_action text, a tasker.actor) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_strip_nulls(jsonb_build_object('event', p_action, 'reason', a.reason, 'operator', coalesce(a.operator, a.user_name, 'uid:' || a.uid), 'uid', a.uid, 'user', a.user_name))
$$;

-- Why a large task cannot be acted on now.
CREATE FUNCTION tasker.busy_with(p_task bigint) RETURNS text LANGUAGE sql STABLE AS
$$ SELECT format('the task is large, and an action on it is under way: %s', l.action) FROM tasker.long_actions l WHERE l.task_id = p_task $$;

-- Steps ------------------------------------------------------------------------------------------------------------------

-- Why an action cannot be done to a step; NULL if it can.
CREATE FUNCTION tasker.step_refusal(p_action text, p_task tasker.task_state, s tasker.steps) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN p_task = 'error' THEN 'the task is finished: error; task retry resets it with all its failed steps'
    WHEN p_task IN ('complete', 'cancelled', 'resolved_manually') THEN format('the task is finished: %s', p_task)
    WHEN EXISTS (SELECT 1 FROM tasker.long_actions l WHERE l.task_id = s.task_id) THEN tasker.busy_with(s.task_id)
    WHEN s.state = 'error' AND s.result IS NOT NULL THEN 'the step is in error, and its batch has gone on without it'
    WHEN p_action = 'reset_for_retry' THEN CASE WHEN s.state NOT IN ('error', 'waiting_for_retry', 'cancelled') THEN
      format('the step is %s: only one that is in error, cancelled or waiting_for_retry can be reset', s.state) END
    WHEN s.state IN ('complete', 'cancelled', 'resolved_manually') THEN format('the step is finished: %s', s.state)
    -- Else the task could complete while what it passes over still runs.
    WHEN s.pending_parents > 0 THEN format('the step is %s: it waits for others, end those first', s.state) END
$$;

-- Decisions and batchables among steps that are to be satisfied: what they choose is made. Without a result they choose nothing.
CREATE FUNCTION tasker.decide_by_hand(p_tasks bigint[], p_steps int[], p_result jsonb) RETURNS SETOF tasker.effect LANGUAGE plpgsql AS $$
DECLARE
  d record; e tasker.effect;
BEGIN
  FOR d IN
    SELECT t.task_id, t.template_id, ts.step_no, ts.step_type, ts.name
    FROM unnest(p_tasks, p_steps) AS k(task_id, step_no) CROSS JOIN LATERAL (SELECT i.* FROM tasker.tasks i WHERE i.task_id = k.task_id OFFSET 0) t
    CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = k.step_no OFFSET 0) ts
    WHERE ts.step_type IN ('decision', 'batchable') ORDER BY t.task_id, ts.step_no
  LOOP
    FOR e IN
      SELECT x.* FROM tasker.decide(d.task_id, d.template_id, d.step_no, coalesce(p_result, '{"decision_point_outcome": {"type": "no_branches"}}'), ARRAY[d.step_no]) x WHERE d.step_type = 'decision'
      UNION ALL
      SELECT x.* FROM tasker.make_batch(d.task_id, d.template_id, d.step_no, coalesce(p_result, '{"batch_processing_outcome": {"type": "no_batches"}}'), ARRAY[d.step_no]) x WHERE d.step_type = 'batchable'
    LOOP
      IF e.problem IS NOT NULL THEN
        RAISE EXCEPTION 'step %: %', d.name, e.problem USING ERRCODE = 'TK400', COLUMN = 'result';
      END IF;
      RETURN NEXT e;
    END LOOP;
  END LOOP;
END $$;

-- Steps that are satisfied otherwise than by a recorded result: count down their children and what their tasks wait for, take in p_effects, and enqueue what has become
-- ready. The caller holds the row locks of the tasks, which count, and calls settle().
CREATE FUNCTION tasker.satisfy(p_notify boolean, p_tasks bigint[], p_steps int[], p_effects tasker.effect[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE tasker.tasks t SET open_sinks = t.open_sinks - g.n
  FROM (SELECT k.task_id, count(*)::int AS n
        FROM unnest(p_tasks, p_steps) AS k(task_id, step_no)
        CROSS JOIN LATERAL (SELECT i.* FROM tasker.tasks i WHERE i.task_id = k.task_id OFFSET 0) x
        CROSS JOIN LATERAL (SELECT i.* FROM tasker.steps i WHERE i.task_id = k.task_id AND i.step_no = k.step_no OFFSET 0) s
        CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = x.template_id AND i.step_no = s.template_no AND i.counts OFFSET 0) ts
        GROUP BY k.task_id) g
  WHERE t.task_id = g.task_id;
  PERFORM tasker.count_down(p_notify, coalesce(p_effects, '{}') || ARRAY(SELECT e FROM tasker.effects_on_children(p_tasks, p_steps) e));
  PERFORM tasker.hold_back(p_tasks);
END $$;

-- Batch workers that had ended go back behind the gate of their batch, if it has one.
CREATE FUNCTION tasker.return_to_batch(p_notify boolean, p_tasks bigint[], p_steps int[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  r_t bigint[]; r_s int[];
BEGIN
  WITH k AS (
    SELECT s.c, s.task_id, s.step_no, b.template_no, ts.parents, t.impossible, s.step_no <= b.template_no + b.n_released * b.stride
             AND NOT EXISTS (SELECT 1 FROM tasker.batch_returns r WHERE r.task_id = s.task_id AND r.step_no = s.step_no) AS was_inside
    FROM unnest(p_tasks, p_steps) AS u(task_id, step_no)
    CROSS JOIN LATERAL (SELECT i.ctid AS c, i.task_id, i.step_no, i.template_no FROM tasker.steps i WHERE i.task_id = u.task_id AND i.step_no = u.step_no AND i.step_no <> i.template_no OFFSET 0) s
    CROSS JOIN LATERAL (SELECT i.* FROM tasker.batches i WHERE i.task_id = s.task_id AND i.template_no = s.template_no AND i.parallelism IS NOT NULL OFFSET 0) b
    CROSS JOIN LATERAL (SELECT i.* FROM tasker.tasks i WHERE i.task_id = s.task_id OFFSET 0) t
    CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts),
  q AS (
    INSERT INTO tasker.batch_returns (task_id, step_no, template_no)
    SELECT k.task_id, k.step_no, k.template_no FROM k WHERE k.was_inside ORDER BY k.task_id, k.step_no),
  g AS (
    UPDATE tasker.batches b SET n_returned = b.n_returned + x.n
    FROM (SELECT k.task_id, k.template_no, count(*)::int AS n FROM k WHERE k.was_inside GROUP BY k.task_id, k.template_no) x
    WHERE b.task_id = x.task_id AND b.template_no = x.template_no),
  o AS MATERIALIZED ( -- once for each batch, not for each of its instances
    SELECT x.task_id, x.template_no, 1 + tasker.open_parents(x.task_id, x.parents, x.impossible) AS n
    FROM (SELECT DISTINCT ON (k.task_id, k.template_no) k.task_id, k.template_no, k.parents, k.impossible FROM k WHERE k.was_inside) x),
  w AS (
    UPDATE tasker.steps s SET pending_parents = k.n
    FROM (SELECT k.c, o.n FROM o JOIN k ON k.task_id = o.task_id AND k.template_no = o.template_no WHERE k.was_inside) k WHERE s.ctid = k.c)
  SELECT array_agg(k.task_id), array_agg(k.step_no) INTO r_t, r_s FROM k;
  IF r_t IS NOT NULL THEN
    PERFORM tasker.count_down(p_notify, ARRAY(SELECT e FROM tasker.batch_progress(r_t, r_s, false) e));
    PERFORM tasker.hold_back(r_t);
  END IF;
END $$;

-- Do it, to steps that allow it: the caller holds the row locks of the tasks and of the steps. Settles the tasks.
CREATE FUNCTION tasker.act_on_steps(a tasker.actor, p_action text, p_tasks bigint[], p_steps int[], p_result jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_reset CONSTANT boolean := p_action = 'reset_for_retry';
  v_end CONSTANT tasker.step_state := CASE WHEN p_action = 'complete_manually' THEN 'complete' ELSE 'resolved_manually' END;
  u_t bigint[]; u_s int[]; u_f int[]; u_h int[]; u_now tasker.step_state[];
  u_was tasker.step_state[]; v_ended uuid[]; v_effects tasker.effect[];
BEGIN
  PERFORM tasker.begin_counting(p_tasks);
  IF NOT v_reset THEN
    v_effects := ARRAY(SELECT e FROM tasker.decide_by_hand(p_tasks, p_steps, p_result) e);
  END IF;
  WITH was AS MATERIALIZED (
    SELECT s.c, s.task_id, s.step_no, s.state, s.attempts, s.fence, s.node_no, s.ready_at, s.claimed_at, s.pending_parents, t.paused, t.task_uuid, ts.handler_id,
           s.state IN ('error', 'cancelled') AND EXISTS (SELECT 1 FROM tasker.batches b WHERE b.task_id = s.task_id AND b.template_no = s.template_no AND s.step_no <> s.template_no AND b.parallelism IS NOT NULL) AS gated
    FROM unnest(p_tasks, p_steps) AS k(task_id, step_no)
    CROSS JOIN LATERAL (SELECT i.ctid AS c, i.* FROM tasker.steps i WHERE i.task_id = k.task_id AND i.step_no = k.step_no OFFSET 0) s
    CROSS JOIN LATERAL (SELECT i.* FROM tasker.tasks i WHERE i.task_id = s.task_id OFFSET 0) t
    CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
    FOR NO KEY UPDATE OF s),
  u AS (
    UPDATE tasker.steps s SET
      state = CASE WHEN NOT v_reset THEN v_end WHEN was.pending_parents > 0 OR was.paused OR was.gated THEN 'pending' ELSE 'enqueued' END,
      attempts = CASE WHEN v_reset THEN 0 ELSE s.attempts END,
      fence = s.fence + (v_reset AND was.pending_parents = 0)::int, -- what waits for others has no message
      node_no = NULL, retry_at = NULL,
      ready_at = CASE WHEN v_reset AND was.pending_parents = 0 THEN clock_timestamp() ELSE s.ready_at END,
      finished_at = CASE WHEN v_reset THEN NULL ELSE clock_timestamp() END,
      result = CASE WHEN p_action = 'complete_manually' THEN p_result ELSE s.result END,
      result_bytes = CASE WHEN p_action = 'complete_manually' THEN octet_length(p_result::text) ELSE s.result_bytes END,
      error = CASE WHEN p_action = 'complete_manually' THEN NULL ELSE s.error END
    FROM was WHERE s.ctid = was.c
    RETURNING s.task_id, s.step_no, s.fence, s.state AS now, was.state AS was, was.attempts AS used, was.handler_id, was.task_uuid),
  ended AS (
    INSERT INTO tasker.step_attempts (task_id, step_no, attempt, fence, outcome, node_no, ready_at, claimed_at, finished_at, recorded_at, error)
    SELECT w.task_id, w.step_no, w.attempts, w.fence, 'cancelled', w.node_no, w.ready_at, w.claimed_at, clock_timestamp(), clock_timestamp(),
           jsonb_build_object('message', 'ended by hand: ' || p_action, 'reason', a.reason)
    FROM was w WHERE w.state = 'in_progress'),
  noted AS (
    INSERT INTO tasker.operator_actions (request_id, action, task_id, step_no, from_state, to_state, attempts_before, uid, user_name, pid, operator, reason, node_no, metadata)
    SELECT a.request_id, 'step.' || p_action, u.task_id, u.step_no, u.was, u.now, CASE WHEN v_reset THEN u.used END, a.uid, a.user_name, a.pid, a.operator, a.reason, a.node_no, a.metadata FROM u ORDER BY u.task_id, u.step_no),
  counted AS (
    UPDATE tasker.tasks t SET n_active = t.n_active + g.active, n_waiting = t.n_waiting - g.waiting, n_failed = t.n_failed - g.failed
    FROM (SELECT u.task_id, (count(*) FILTER (WHERE u.now = 'enqueued') - count(*) FILTER (WHERE u.was IN ('enqueued', 'in_progress')))::int AS active,
                 count(*) FILTER (WHERE u.was = 'waiting_for_retry')::int AS waiting, count(*) FILTER (WHERE u.was = 'error')::int AS failed FROM u GROUP BY u.task_id) g
    WHERE t.task_id = g.task_id)
  SELECT array_agg(u.task_id), array_agg(u.step_no), array_agg(u.fence), array_agg(u.handler_id), array_agg(u.now),
         array_agg(u.was), array_agg(tasker.step_uuid(u.task_uuid, u.step_no)) FILTER (WHERE u.was = 'in_progress')
  INTO u_t, u_s, u_f, u_h, u_now, u_was, v_ended FROM u;
  IF u_t IS NULL THEN
    RETURN;
  ELSIF v_reset THEN
    PERFORM tasker.enqueue(array_agg(x.t), array_agg(x.s), array_agg(x.f), array_agg(x.h), array_agg(NULL::timestamptz), true)
    FROM unnest(u_t, u_s, u_f, u_h, u_now) AS x(t, s, f, h, now) WHERE x.now = 'enqueued' HAVING count(*) > 0;
    PERFORM tasker.return_to_batch(true, array_agg(x.t), array_agg(x.s)) FROM unnest(u_t, u_s, u_was) AS x(t, s, was) WHERE x.was IN ('error', 'cancelled') HAVING count(*) > 0;
  ELSE
    PERFORM tasker.satisfy(true, u_t, u_s, v_effects || ARRAY(
      SELECT e FROM (SELECT array_agg(x.t) AS t, array_agg(x.s) AS s FROM unnest(u_t, u_s, u_was) AS x(t, s, was) WHERE x.was <> 'error') l CROSS JOIN LATERAL tasker.batch_progress(l.t, l.s) e));
  END IF;
  PERFORM tasker.settle(a.node_no, true, u_t, tasker.cause_of('step.' || p_action, a));
  PERFORM tasker.notify_uuids('tasker_cancel', v_ended);
END $$;

-- Tasks ------------------------------------------------------------------------------------------------------------------

-- Why an action cannot be done to a task; NULL if it can.
CREATE FUNCTION tasker.task_refusal(p_action text, t tasker.tasks) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN t.state IN ('complete', 'cancelled', 'resolved_manually') OR (t.state = 'error' AND p_action <> 'retry') THEN format('the task is finished: %s', t.state)
    WHEN EXISTS (SELECT 1 FROM tasker.long_actions l WHERE l.task_id = t.task_id) THEN tasker.busy_with(t.task_id)
    WHEN p_action = 'pause' AND t.paused THEN format('the task is paused already (%s)', t.state)
    WHEN p_action = 'resume' AND NOT t.paused THEN format('the task is not paused (%s)', t.state)
    WHEN p_action = 'resolve_manually' AND t.state <> 'blocked_by_failures' THEN format('the task is %s: only one that is blocked_by_failures can be resolved', t.state)
    WHEN p_action = 'retry' AND t.state <> 'error' AND t.n_failed = 0
      AND NOT EXISTS (SELECT 1 FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state = 'cancelled') THEN format('the task is %s: no step has failed', t.state) END
$$;

-- Take finished tasks in error up again. Without steps: they never began, and do so now.
CREATE FUNCTION tasker.reopen_tasks(a tasker.actor, p_tasks bigint[], p_cause jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  n_t bigint[]; n_p int[];
BEGIN
  UPDATE tasker.batches b SET n_inside = 0 FROM tasker.tasks t WHERE b.task_id = ANY (p_tasks) AND t.task_id = b.task_id AND t.state = 'error';
  WITH u AS (
    UPDATE tasker.tasks t SET finished_at = NULL, finished_by_node = NULL,
      state = CASE WHEN EXISTS (SELECT 1 FROM tasker.steps s WHERE s.task_id = t.task_id) THEN 'steps_in_process' ELSE 'pending' END::tasker.task_state,
      n_active = (SELECT count(*) FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state IN ('enqueued', 'in_progress')),
      n_waiting = (SELECT count(*) FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state = 'waiting_for_retry'),
      n_failed = (SELECT count(*) FROM tasker.steps s WHERE s.task_id = t.task_id AND s.state = 'error' AND s.result IS NULL)
    WHERE t.task_id = ANY (p_tasks) AND t.state = 'error' RETURNING t.task_id, t.state, t.priority),
  h AS (INSERT INTO tasker.task_transitions (task_id, from_state, to_state, at, node_no, cause)
        SELECT u.task_id, 'error', u.state, clock_timestamp(), a.node_no, p_cause FROM u)
  SELECT array_agg(u.task_id) FILTER (WHERE u.state = 'pending'), array_agg(u.priority::int) FILTER (WHERE u.state = 'pending') INTO n_t, n_p FROM u;
  PERFORM tasker.arm_deadlines(p_tasks);
  IF n_t IS NOT NULL THEN
    UPDATE tasker.tasks t SET n_active = tp.start_active FROM tasker.templates tp WHERE t.task_id = ANY (n_t) AND tp.template_id = t.template_id;
    PERFORM tasker.enqueue_starts(n_t, n_p, array_fill(now(), ARRAY[cardinality(n_t)]), true);
  END IF;
END $$;

-- Put the ready steps (in a range of numbers) of tasks that are paused no more back into their queues.
CREATE FUNCTION tasker.let_go(p_tasks bigint[], p_from int DEFAULT 0, p_to int DEFAULT 2147483647) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  e_t bigint[]; e_s int[]; e_f int[]; e_h int[]; e_at timestamptz[];
BEGIN
  WITH u AS (
    UPDATE tasker.steps s SET state = CASE WHEN s.retry_at > clock_timestamp() THEN 'waiting_for_retry' ELSE 'enqueued' END::tasker.step_state,
           retry_at = CASE WHEN s.retry_at > clock_timestamp() THEN s.retry_at END
    FROM (SELECT x.c, ts.handler_id FROM unnest(p_tasks) AS u(id)
          CROSS JOIN LATERAL (SELECT i.template_id FROM tasker.tasks i WHERE i.task_id = u.id OFFSET 0) t
          CROSS JOIN LATERAL (SELECT i.ctid AS c, i.template_no FROM tasker.steps i WHERE i.task_id = u.id AND i.step_no BETWEEN p_from AND p_to AND i.state = 'pending' AND i.pending_parents = 0 OFFSET 0) x
          CROSS JOIN LATERAL (SELECT i.handler_id FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = x.template_no OFFSET 0) ts) k
    WHERE s.ctid = k.c
    RETURNING s.task_id, s.step_no, s.fence, k.handler_id, s.retry_at),
  counted AS (
    UPDATE tasker.tasks t SET n_active = t.n_active + g.active, n_waiting = t.n_waiting + g.waiting
    FROM (SELECT u.task_id, count(*) FILTER (WHERE u.retry_at IS NULL)::int AS active, count(u.retry_at)::int AS waiting FROM u GROUP BY u.task_id) g
    WHERE t.task_id = g.task_id)
  SELECT array_agg(u.task_id), array_agg(u.step_no), array_agg(u.fence), array_agg(u.handler_id), array_agg(u.retry_at) INTO e_t, e_s, e_f, e_h, e_at FROM u;
  IF e_t IS NOT NULL THEN
    PERFORM tasker.enqueue(e_t, e_s, e_f, e_h, e_at, true);
  END IF;
END $$;

-- Do it, to tasks that allow it: the caller holds their row locks. p_was: the states they were in, by id, if that has changed.
CREATE FUNCTION tasker.act_on_tasks(a tasker.actor, p_action text, p_tasks bigint[], p_was jsonb DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_cause CONSTANT jsonb := tasker.cause_of('task.' || p_action, a);
  v_ended uuid[]; v_settled uuid[]; v_t bigint[]; v_s int[];
  v_was jsonb := coalesce(p_was, (SELECT jsonb_object_agg(t.task_id, t.state) FROM tasker.tasks t WHERE t.task_id = ANY (p_tasks)));
BEGIN
  CASE p_action
  WHEN 'cancel', 'resolve_manually' THEN
    SELECT array_agg(tasker.step_uuid(r.task_uuid, r.step_no)) FILTER (WHERE r.kind = 'x'), array_agg(r.task_uuid) FILTER (WHERE r.kind = 's') INTO v_ended, v_settled
    FROM tasker.end_tasks(a.node_no, p_tasks, CASE WHEN p_action = 'cancel' THEN 'cancelled' ELSE 'resolved_manually' END::tasker.task_state, v_cause,
                          CASE WHEN p_action = 'cancel' THEN 'task cancelled' ELSE 'task resolved by hand' END) r;
  WHEN 'pause' THEN
    PERFORM tasker.begin_counting(ARRAY(SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY (p_tasks) AND t.state <> 'pending'));
    UPDATE tasker.tasks SET paused = true WHERE task_id = ANY (p_tasks);
    PERFORM tasker.hold_back(p_tasks);
  WHEN 'resume' THEN
    UPDATE tasker.tasks SET paused = false WHERE task_id = ANY (p_tasks);
    PERFORM tasker.let_go(p_tasks);
    PERFORM tasker.enqueue_starts(array_agg(t.task_id), array_agg(t.priority::int), array_agg(greatest(t.run_at, now())), true)
    FROM tasker.tasks t WHERE t.task_id = ANY (p_tasks) AND t.state = 'pending' HAVING count(*) > 0;
    PERFORM tasker.settle(a.node_no, true, p_tasks, v_cause);
  WHEN 'retry' THEN
    SELECT array_agg(s.task_id), array_agg(s.step_no) INTO v_t, v_s
    FROM (SELECT s.task_id, s.step_no FROM tasker.steps s
          WHERE s.task_id = ANY (p_tasks) AND (s.state = 'cancelled' OR s.state = 'error' AND s.result IS NULL) ORDER BY 1, 2) s;
    PERFORM tasker.close_entries(a, p_tasks);
    PERFORM tasker.reopen_tasks(a, p_tasks, v_cause);
    PERFORM tasker.act_on_steps(a, 'reset_for_retry', v_t, v_s, NULL);
  END CASE;
  INSERT INTO tasker.operator_actions (request_id, action, task_id, from_state, to_state, uid, user_name, pid, operator, reason, node_no)
  SELECT a.request_id, 'task.' || p_action, t.task_id, v_was ->> t.task_id::text, t.state, a.uid, a.user_name, a.pid, a.operator, a.reason, a.node_no
  FROM tasker.tasks t WHERE t.task_id = ANY (p_tasks) ORDER BY t.task_id;
  PERFORM tasker.notify_uuids('tasker_cancel', v_ended);
  PERFORM tasker.notify_uuids('tasker_settled', v_settled);
END $$;

-- Large tasks ------------------------------------------------------------------------------------------------------------

-- What is done to very many steps would hold the task's row for seconds, and so would whoever waits for it hold up what else is in his batch. So it is done in stretches, each a transaction.
-- Meanwhile the task is one that could be found so at any time: paused (also while it is cancelled, or before it is resumed), with some of its steps cancelled, reset or let go, and its
-- counters right. The caller of the request repeats it until it is done ('"again"'); if nobody does, the keeper of any node goes on.
CREATE FUNCTION tasker.n_steps_of(p_task bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT tp.n_steps + coalesce((SELECT sum(b.n_workers) FROM tasker.batches b WHERE b.task_id = t.task_id), 0)
  FROM tasker.tasks t CROSS JOIN LATERAL (SELECT x.n_steps FROM tasker.templates x WHERE x.template_id = t.template_id OFFSET 0) tp WHERE t.task_id = p_task
$$;

CREATE FUNCTION tasker.is_large(p_task bigint) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT tasker.n_steps_of(p_task) > 2000 $$;

-- The first of many tasks (p_ids is in the order in which they are acted on) that one transaction may do something to: not more than some 5000 steps, but one task. Large ones do not
-- count, they are done in stretches of their own.
CREATE FUNCTION tasker.as_many(p_ids bigint[]) RETURNS bigint[] LANGUAGE sql STABLE AS $$
  SELECT coalesce(array_agg(x.id ORDER BY x.ord) FILTER (WHERE x.before <= 5000 - x.n OR x.before = 0), '{}')
  FROM (
    SELECT k.id, k.ord, k.n, sum(k.n) OVER (ORDER BY k.ord) - k.n AS before
    FROM (SELECT u.id, u.ord, CASE WHEN s.n > 2000 THEN 0 ELSE s.n END AS n FROM unnest(p_ids) WITH ORDINALITY AS u(id, ord) CROSS JOIN LATERAL (SELECT tasker.n_steps_of(u.id) AS n OFFSET 0) s) k) x
$$;

-- The caller holds the task's row lock, here and below.
CREATE FUNCTION tasker.begin_long(a tasker.actor, p_action text, p_task bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO tasker.long_actions (task_id, action, actor, from_state) SELECT t.task_id, p_action, a, t.state FROM tasker.tasks t WHERE t.task_id = p_task;
  IF p_action = 'retry' THEN
    PERFORM tasker.close_entries(a, ARRAY[p_task]);
    PERFORM tasker.reopen_tasks(a, ARRAY[p_task], tasker.cause_of('task.retry', a));
  ELSIF p_action <> 'resume' THEN
    PERFORM tasker.begin_counting(ARRAY[p_task]);
    UPDATE tasker.tasks SET paused = true WHERE task_id = p_task;
  END IF;
END $$;

-- The first p_most steps after a stretch that an action is for.
CREATE FUNCTION tasker.steps_ahead(l tasker.long_actions, p_most int) RETURNS int[] LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
  SELECT ARRAY(
    SELECT s.step_no FROM tasker.steps s
    WHERE s.task_id = l.task_id AND s.step_no > l.at_step AND CASE l.action
      WHEN 'pause' THEN s.state IN ('enqueued', 'waiting_for_retry')
      WHEN 'resume' THEN s.state = 'pending' AND s.pending_parents = 0
      WHEN 'retry' THEN s.state = 'cancelled' OR s.state = 'error' AND s.result IS NULL
      ELSE s.state NOT IN ('complete', 'cancelled', 'resolved_manually') AND (s.state <> 'error' OR l.action = 'cancel' AND s.result IS NULL) END
    ORDER BY s.step_no LIMIT p_most)
$$;

-- One stretch. Whether that was the last one, which does what is left and what the action does to the task itself.
CREATE FUNCTION tasker.go_on(p_task bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  c_finished CONSTANT tasker.task_state[] := '{complete,error,cancelled,resolved_manually}';
  v_state tasker.task_state; l tasker.long_actions; v_most int; v_steps int[]; v_to int;
BEGIN
  SELECT t.state INTO v_state FROM tasker.tasks t WHERE t.task_id = p_task FOR NO KEY UPDATE;
  SELECT x.* INTO l FROM tasker.long_actions x WHERE x.task_id = p_task;
  IF l.task_id IS NULL THEN
    RETURN true;
  END IF;
  v_most := CASE l.action WHEN 'retry' THEN 300 ELSE 1000 END;
  v_steps := tasker.steps_ahead(l, v_most);
  v_to := v_steps[v_most];
  IF v_state = ANY (c_finished) OR v_to IS NULL THEN
    DELETE FROM tasker.long_actions WHERE task_id = p_task;
    IF v_state <> ALL (c_finished) THEN -- else it has come to its end by itself
      PERFORM tasker.act_on_tasks(l.actor, l.action, ARRAY[p_task], jsonb_build_object(p_task, l.from_state));
    END IF;
    RETURN true;
  END IF;
  CASE l.action
  WHEN 'pause' THEN PERFORM tasker.hold_back(ARRAY[p_task], v_steps[1], v_to);
  WHEN 'resume' THEN PERFORM tasker.let_go(ARRAY[p_task], v_steps[1], v_to);
  WHEN 'retry' THEN PERFORM tasker.act_on_steps(l.actor, 'reset_for_retry', array_fill(p_task, ARRAY[v_most]), v_steps, NULL);
  ELSE PERFORM tasker.notify_uuids('tasker_cancel', array_agg(tasker.step_uuid(r.task_uuid, r.step_no)))
    FROM tasker.cancel_steps(ARRAY[p_task], CASE WHEN l.action = 'cancel' THEN 'cancelled' ELSE 'resolved_manually' END::tasker.task_state, tasker.cause_of('task.' || l.action, l.actor),
                             CASE WHEN l.action = 'cancel' THEN 'task cancelled' ELSE 'task resolved by hand' END, v_steps[1], v_to) r;
  END CASE;
  UPDATE tasker.long_actions SET at_step = v_to, at = clock_timestamp() WHERE task_id = p_task;
  RETURN false;
END $$;

-- For the keepers: a stretch of an action that nobody has gone on with for a while. Returns whether it was the last one, and whether there was one.
CREATE FUNCTION tasker.go_on_for_others(p_node int, p_after_ms int, OUT did int, OUT more boolean) LANGUAGE plpgsql AS $$
DECLARE
  v_task bigint;
BEGIN
  SELECT l.task_id INTO v_task FROM tasker.long_actions l
  WHERE l.keeper = p_node OR l.at < clock_timestamp() - p_after_ms * interval '1 millisecond' ORDER BY l.at LIMIT 1;
  more := v_task IS NOT NULL;
  did := (more AND tasker.go_on(v_task))::int;
  UPDATE tasker.long_actions l SET keeper = p_node WHERE l.task_id = v_task AND l.keeper IS DISTINCT FROM p_node;
  DELETE FROM tasker.long_answers x WHERE x.at < now() - interval '1 day';
END $$;

-- Requests ---------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tasker.check_action(p_action text, VARIADIC p_known text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF p_action <> ALL (p_known) THEN
    RAISE EXCEPTION 'unknown action %: one of % is expected', quote_literal(left(p_action, 40)), array_to_string(p_known, ', ') USING ERRCODE = 'TK400', COLUMN = 'action';
  END IF;
END $$;

CREATE FUNCTION tasker.api_task_action(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a CONSTANT tasker.actor := tasker.actor_of(p);
  v_id CONSTANT bigint := tasker.task_id_of(p ->> 'task_uuid');
  v_task tasker.tasks; v_why text;
BEGIN
  PERFORM tasker.check_action(p ->> 'action', 'cancel', 'retry', 'resolve_manually', 'pause', 'resume');
  SELECT t.* INTO v_task FROM tasker.tasks t WHERE t.task_id = v_id FOR NO KEY UPDATE;
  IF EXISTS (SELECT 1 FROM tasker.long_actions l WHERE l.task_id = v_id AND (l.actor).request_id = a.request_id) THEN
    IF NOT tasker.go_on(v_id) THEN
      RETURN '"again"';
    END IF;
  ELSIF NOT EXISTS (SELECT 1 FROM tasker.operator_actions o WHERE o.request_id = a.request_id) THEN
    v_why := tasker.task_refusal(p ->> 'action', v_task);
    IF v_why IS NOT NULL THEN
      RAISE EXCEPTION 'task %: %', v_task.task_uuid, v_why USING ERRCODE = 'TK409';
    ELSIF tasker.is_large(v_id) THEN
      PERFORM tasker.begin_long(a, p ->> 'action', v_id);
      RETURN '"again"';
    END IF;
    PERFORM tasker.act_on_tasks(a, p ->> 'action', ARRAY[v_id]);
  END IF;
  RETURN tasker.with_missing_handlers(tasker.task_after(v_id));
END $$;

-- A cancel that cancel_task has begun.
CREATE FUNCTION tasker.api_task_cancel_rest(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_id CONSTANT bigint := tasker.task_id_of(p ->> 'task_uuid');
BEGIN
  IF NOT tasker.go_on(v_id) THEN
    RETURN '"again"';
  END IF;
  RETURN tasker.task_after(v_id);
END $$;

-- The number of a step with this name, or uuid; NULL if the task has none. Workers of a batch are looked for only if the name may be one's, and first where numbered ones are.
CREATE FUNCTION tasker.find_step(p_task bigint, p_name text) RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_template int := (SELECT t.template_id FROM tasker.tasks t WHERE t.task_id = p_task);
  v_no int; v_id text; b record;
BEGIN
  SELECT s.step_no INTO v_no FROM tasker.template_steps ts JOIN tasker.steps s ON s.task_id = p_task AND s.step_no = ts.step_no WHERE ts.template_id = v_template AND ts.name = p_name;
  IF FOUND THEN
    RETURN v_no;
  END IF;
  FOR b IN
    SELECT x.template_no, x.stride, x.n_workers, ts.name FROM tasker.batches x CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = v_template AND i.step_no = x.template_no OFFSET 0) ts
    WHERE x.task_id = p_task AND starts_with(p_name, ts.name || '_')
  LOOP
    v_id := substr(p_name, length(b.name) + 2);
    IF v_id ~ '^[0-9]{1,6}$' AND v_id::int BETWEEN 1 AND b.n_workers THEN
      v_no := b.template_no + v_id::int * b.stride;
      IF (SELECT s.inputs #>> '{cursor,batch_id}' FROM tasker.steps s WHERE s.task_id = p_task AND s.step_no = v_no) = v_id THEN
        RETURN v_no;
      END IF;
    END IF;
    SELECT s.step_no INTO v_no FROM tasker.steps s WHERE s.task_id = p_task AND s.template_no = b.template_no AND s.inputs #>> '{cursor,batch_id}' = v_id LIMIT 1;
    IF FOUND THEN
      RETURN v_no;
    END IF;
  END LOOP;
  SELECT s.step_no INTO v_no FROM tasker.tasks t JOIN tasker.steps s ON s.task_id = t.task_id
  WHERE t.task_id = p_task AND p_name ~ '^[0-9a-f-]{30}[0-9a-f]{6}$' AND left(t.task_uuid::text, 30) = left(p_name, 30) AND s.step_no = ('x00' || right(p_name, 6))::bit(32)::int - 1;
  RETURN v_no;
END $$;

-- A step by its own uuid, or by its task's and its name. TK404 if there is none.
CREATE FUNCTION tasker.step_of(p jsonb, OUT task_id bigint, OUT step_no int) LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_hex text := replace(p ->> 'step_uuid', '-', '');
BEGIN
  IF p ->> 'step_uuid' IS NOT NULL THEN
    SELECT s.task_id, s.step_no INTO task_id, step_no
    FROM tasker.tasks t JOIN tasker.steps s ON s.task_id = t.task_id
    WHERE t.task_uuid = (left(v_hex, 26) || '000000')::uuid AND s.step_no = ('x' || right(v_hex, 6))::bit(24)::int - 1;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'no step %', p ->> 'step_uuid' USING ERRCODE = 'TK404', COLUMN = 'step_uuid';
    END IF;
    RETURN;
  ELSIF p ->> 'task_uuid' IS NULL OR p ->> 'step' IS NULL THEN
    RAISE EXCEPTION 'which step? step_uuid, or task_uuid and step, is expected' USING ERRCODE = 'TK400', COLUMN = 'step_uuid';
  END IF;
  task_id := tasker.task_id_of(p ->> 'task_uuid');
  step_no := tasker.find_step(step_of.task_id, p ->> 'step');
  IF step_no IS NULL THEN
    RAISE EXCEPTION 'task % has no step %', p ->> 'task_uuid', quote_literal(left(p ->> 'step', 100)) USING ERRCODE = 'TK404', COLUMN = 'step';
  END IF;
END $$;

CREATE FUNCTION tasker.step_object(p_task bigint, p_step int) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('task_uuid', t.task_uuid, 'task_state', t.state, 'task_paused', t.paused,
    'step_uuid', tasker.step_uuid(t.task_uuid, s.step_no), 'name', tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs), 'type', ts.step_type, 'state', s.state, 'attempts', s.attempts, 'max_attempts', ts.max_attempts,
    'pending_parents', s.pending_parents,
    'depends_on', tasker.step_names(t.template_id, ts.parents),
    'handler', ts.handler ->> 'callable', 'ready_at', tasker.rfc3339(s.ready_at), 'started_at', tasker.rfc3339(s.claimed_at), 'finished_at', tasker.rfc3339(s.finished_at),
    'retry_at', tasker.rfc3339(s.retry_at), 'node', n.node_name, 'inputs', s.inputs, 'checkpoint', s.checkpoint, 'result', s.result, 'error', s.error)
  FROM tasker.steps s
  JOIN tasker.tasks t ON t.task_id = s.task_id
  CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
  LEFT JOIN tasker.nodes n ON n.node_no = s.node_no
  WHERE s.task_id = p_task AND s.step_no = p_step
$$;

CREATE FUNCTION tasker.api_step_get(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  k record := tasker.step_of(p);
BEGIN
  RETURN tasker.step_object(k.task_id, k.step_no)
    || CASE WHEN (p ->> 'readiness')::boolean THEN (SELECT r.facts FROM tasker.readiness(k.task_id, k.step_no, k.step_no) r) ELSE '{}' END
    || CASE WHEN (p ->> 'history')::boolean THEN jsonb_build_object(
    'actions', tasker.actions_of(k.task_id, k.step_no),
    'history', coalesce((SELECT jsonb_agg(jsonb_build_object('attempt', a.attempt, 'outcome', a.outcome, 'node', n.node_name, 'worker_uuid', a.worker_uuid,
       'ready_at', tasker.rfc3339(a.ready_at), 'started_at', tasker.rfc3339(a.claimed_at), 'finished_at', tasker.rfc3339(a.finished_at), 'recorded_at', tasker.rfc3339(a.recorded_at),
       'execution_ms', a.execution_ms, 'error', a.error, 'metadata', a.metadata) ORDER BY a.fence)
     FROM tasker.step_attempts a LEFT JOIN tasker.nodes n ON n.node_no = a.node_no WHERE a.task_id = k.task_id AND a.step_no = k.step_no), '[]')) ELSE '{}' END;
END $$;

-- A step as step.execute would bring it now (without a claim), and what became of it. Results of ancestors beyond half a MiB are left for step.dependencies.
CREATE FUNCTION tasker.api_step_replay(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  k record := tasker.step_of(p);
  v jsonb; v_deps jsonb;
BEGIN
  SELECT jsonb_build_object('recorded', jsonb_build_object('state', s.state, 'attempts', s.attempts, 'result', s.result, 'error', s.error),
    'step', jsonb_build_object('step_uuid', tasker.step_uuid(t.task_uuid, s.step_no), 'task_uuid', t.task_uuid, 'attempt', greatest(s.attempts, 1), 'max_attempts', ts.max_attempts,
      'retryable', ts.retryable, 'namespace', n.name, 'template', tp.name, 'version', tp.version, 'step', tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs),
      'template_step', ts.name, 'handler', ts.handler, 'context', t.context, 'inputs', s.inputs, 'checkpoint', s.checkpoint, 'priority', t.priority,
      'correlation_id', coalesce(t.correlation_id, t.task_uuid::text), 'parent_correlation_id', t.parent_correlation_id, 'traceparent', t.traceparent, 'tracestate', t.tracestate))
  INTO v
  FROM tasker.steps s
  JOIN tasker.tasks t ON t.task_id = s.task_id
  CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
  JOIN tasker.templates tp ON tp.template_id = t.template_id
  JOIN tasker.namespaces n ON n.namespace_id = tp.namespace_id
  WHERE s.task_id = k.task_id AND s.step_no = k.step_no;
  v_deps := tasker.api_step_dependencies(jsonb_build_object('task_uuid', v #> '{step,task_uuid}', 'step_no', k.step_no, 'max_bytes', 524288));
  RETURN jsonb_set(v, '{step}', (v -> 'step') || jsonb_build_object('dependencies', v_deps -> 'dependencies', 'dependency_steps', v_deps -> 'dependency_steps', 'dependencies_partial', v_deps ->> 'next_cursor' IS NOT NULL));
END $$;

CREATE FUNCTION tasker.check_step_action(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM tasker.check_action(p ->> 'action', 'reset_for_retry', 'resolve_manually', 'complete_manually', 'skip');
  IF (p ->> 'action' = 'complete_manually') <> (p ? 'result') THEN
    RAISE EXCEPTION '%', CASE WHEN p ? 'result' THEN 'result is for complete_manually only' ELSE 'complete_manually needs the result of the step' END
      USING ERRCODE = 'TK400', COLUMN = 'result';
  ELSIF p ->> 'action' <> 'complete_manually' AND p ? 'metadata' THEN
    RAISE EXCEPTION 'metadata is for complete_manually only' USING ERRCODE = 'TK400', COLUMN = 'metadata';
  END IF;
END $$;

CREATE FUNCTION tasker.api_step_action(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a CONSTANT tasker.actor := tasker.actor_of(p);
  k record := tasker.step_of(p);
  v_task tasker.task_state; v_step tasker.steps; v_why text;
BEGIN
  PERFORM tasker.check_step_action(p);
  SELECT t.state INTO v_task FROM tasker.tasks t WHERE t.task_id = k.task_id FOR NO KEY UPDATE;
  SELECT s.* INTO v_step FROM tasker.steps s WHERE s.task_id = k.task_id AND s.step_no = k.step_no FOR NO KEY UPDATE;
  IF NOT EXISTS (SELECT 1 FROM tasker.operator_actions o WHERE o.request_id = a.request_id) THEN
    v_why := tasker.step_refusal(p ->> 'action', v_task, v_step);
    IF v_why IS NOT NULL THEN
      RAISE EXCEPTION 'step %: %', tasker.step_object(k.task_id, k.step_no) ->> 'name', v_why USING ERRCODE = 'TK409';
    END IF;
    PERFORM tasker.act_on_steps(a, p ->> 'action', ARRAY[k.task_id], ARRAY[k.step_no], p -> 'result');
  END IF;
  RETURN tasker.step_object(k.task_id, k.step_no);
END $$;

-- Namespaces -------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tasker.namespace_object(p_id int) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('namespace', n.name, 'paused', n.paused, 'created_at', tasker.rfc3339(n.created_at),
    'templates', (SELECT count(*) FROM tasker.templates t WHERE t.namespace_id = n.namespace_id), 'handlers', (SELECT count(*) FROM tasker.handlers h WHERE h.namespace_id = n.namespace_id))
    || CASE WHEN o.action_id IS NULL THEN '{}' ELSE jsonb_build_object('changed_at', tasker.rfc3339(o.at), 'reason', o.reason, 'operator', o.operator, 'uid', o.uid, 'user', o.user_name) END
  FROM tasker.namespaces n
  LEFT JOIN LATERAL (SELECT x.* FROM tasker.operator_actions x WHERE x.namespace_id = n.namespace_id AND x.action IN ('namespace.pause', 'namespace.resume') ORDER BY x.action_id DESC LIMIT 1) o ON true
  WHERE n.namespace_id = p_id
$$;

CREATE FUNCTION tasker.api_namespace_list(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT jsonb_build_object('namespaces', coalesce(jsonb_agg(tasker.namespace_object(n.namespace_id) ORDER BY n.name), '[]')) FROM tasker.namespaces n WHERE tasker.is_within(p, n.name) $$;

-- Nodes learn by the notification; what they have claimed by then runs.
CREATE FUNCTION tasker.set_namespace_paused(p jsonb, p_paused boolean) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a CONSTANT tasker.actor := tasker.actor_of(p);
  v_id int; v_now boolean;
BEGIN
  SELECT n.namespace_id, n.paused INTO v_id, v_now FROM tasker.namespaces n WHERE n.name = p ->> 'namespace' FOR NO KEY UPDATE;
  IF v_id IS NULL THEN
    RAISE EXCEPTION 'no namespace %', quote_literal(p ->> 'namespace') USING ERRCODE = 'TK404', COLUMN = 'namespace';
  ELSIF EXISTS (SELECT 1 FROM tasker.operator_actions o WHERE o.request_id = a.request_id) THEN
    RETURN tasker.namespace_object(v_id);
  ELSIF v_now = p_paused THEN
    RAISE EXCEPTION 'namespace % is % already', p ->> 'namespace', CASE WHEN p_paused THEN 'paused' ELSE 'not paused' END USING ERRCODE = 'TK409';
  END IF;
  UPDATE tasker.namespaces SET paused = p_paused WHERE namespace_id = v_id;
  INSERT INTO tasker.operator_actions (request_id, action, namespace_id, from_state, to_state, uid, user_name, pid, operator, reason, node_no)
  VALUES (a.request_id, CASE WHEN p_paused THEN 'namespace.pause' ELSE 'namespace.resume' END, v_id, CASE WHEN v_now THEN 'paused' ELSE 'running' END,
          CASE WHEN p_paused THEN 'paused' ELSE 'running' END, a.uid, a.user_name, a.pid, a.operator, a.reason, a.node_no);
  PERFORM tasker.notify('tasker_templates', '');
  RETURN tasker.namespace_object(v_id);
END $$;

CREATE FUNCTION tasker.api_namespace_pause(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT tasker.set_namespace_paused(p, true) $$;
CREATE FUNCTION tasker.api_namespace_resume(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT tasker.set_namespace_paused(p, false) $$;

-- For SQL callers --------------------------------------------------------------------------------------------------------

-- Make a task in the caller's own transaction: it exists if and only if that commits, and then a daemon takes it up at once. A role needs USAGE on the schema and EXECUTE
-- on this function (or on create_task), nothing else. Errors: TK404 no such template, TK409 the identity is taken by other content, TK400 an argument is wrong.
CREATE FUNCTION tasker.submit_task(
  name text, namespace text DEFAULT 'default', version text DEFAULT NULL, context jsonb DEFAULT '{}', idempotency_key text DEFAULT NULL, priority int DEFAULT 0,
  tags text[] DEFAULT NULL, run_at timestamptz DEFAULT NULL, initiator text DEFAULT NULL, source_system text DEFAULT NULL, reason text DEFAULT NULL,
  correlation_id text DEFAULT NULL, parent_correlation_id text DEFAULT NULL, traceparent text DEFAULT NULL, tracestate text DEFAULT NULL,
  OUT task_uuid uuid, OUT created boolean, OUT state text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_opts jsonb; v_field record; v_made record;
BEGIN
  priority := coalesce(priority, 0);
  context := coalesce(context, '{}');
  FOR v_field IN SELECT * FROM (VALUES ('name', name, 1, 255), ('namespace', namespace, 1, 29), ('version', version, 1, 64), ('idempotency_key', idempotency_key, 1, 256),
      ('initiator', initiator, 0, 128), ('source_system', source_system, 0, 128), ('reason', reason, 0, 128), ('correlation_id', correlation_id, 1, 256),
      ('parent_correlation_id', parent_correlation_id, 1, 256), ('traceparent', traceparent, 1, 256), ('tracestate', tracestate, 1, 512)) AS f(key, value, least, most) LOOP
    IF v_field.value IS NULL AND v_field.key IN ('name', 'namespace') OR octet_length(v_field.value) NOT BETWEEN v_field.least AND v_field.most THEN
      RAISE EXCEPTION '% must be of % to % bytes', v_field.key, v_field.least, v_field.most USING ERRCODE = 'TK400', COLUMN = v_field.key, HINT = 'Nothing is cut: shorten it.';
    END IF;
  END LOOP;
  IF jsonb_typeof(context) <> 'object' THEN
    RAISE EXCEPTION 'context must be an object, it is %', CASE jsonb_typeof(context) WHEN 'array' THEN 'an array' ELSE 'a ' || jsonb_typeof(context) END
      USING ERRCODE = 'TK400', COLUMN = 'context', HINT = 'Put the value under a key: jsonb_build_object(''value'', ...).';
  ELSIF octet_length(context::text) > 1048576 THEN
    RAISE EXCEPTION 'context is of % bytes, at most 1048576 are allowed', octet_length(context::text)
      USING ERRCODE = 'TK400', COLUMN = 'context', HINT = 'Store what is large elsewhere, and its key here.';
  ELSIF jsonb_path_exists(context, 'strict $.**{24} ? (@.type() == "object" || @.type() == "array")') THEN
    RAISE EXCEPTION 'context is nested more than 24 deep' USING ERRCODE = 'TK400', COLUMN = 'context', HINT = 'Handlers are reached by frames of limited depth.';
  ELSIF tasker.beyond_double(context) THEN
    RAISE EXCEPTION 'context has a number outside the range of a double' USING ERRCODE = 'TK400', COLUMN = 'context', HINT = 'Send it as a string.';
  ELSIF priority NOT BETWEEN -100 AND 100 THEN
    RAISE EXCEPTION 'priority must be from -100 to 100, it is %', priority USING ERRCODE = 'TK400', COLUMN = 'priority', HINT = 'Higher goes first; 0 is the default.';
  ELSIF cardinality(tags) > 100 OR array_ndims(tags) > 1 OR array_position(tags, NULL) IS NOT NULL OR EXISTS (SELECT 1 FROM unnest(tags) AS x(tag) WHERE octet_length(x.tag) > 256) THEN
    RAISE EXCEPTION 'tags must be at most 100 texts of at most 256 bytes' USING ERRCODE = 'TK400', COLUMN = 'tags', HINT = 'One dimension, no NULL.';
  ELSIF NOT isfinite(run_at) OR run_at >= '10000-01-01 00:00:00+00' THEN -- RFC 3339 ends there
    RAISE EXCEPTION 'run_at must be finite and before the year 10000' USING ERRCODE = 'TK400', COLUMN = 'run_at', HINT = 'NULL means now.';
  END IF;
  v_opts := nullif(jsonb_strip_nulls(jsonb_build_object('idempotency_key', idempotency_key, 'priority', nullif(priority, 0), 'tags', to_jsonb(tags), 'run_at', run_at, 'initiator', initiator,
    'source_system', source_system, 'reason', reason, 'correlation_id', correlation_id, 'parent_correlation_id', parent_correlation_id, 'traceparent', traceparent, 'tracestate', tracestate)), '{}');
  IF octet_length(v_opts::text) > 1048576 THEN
    RAISE EXCEPTION 'what goes with the context is larger than 1048576 bytes' USING ERRCODE = 'TK400', COLUMN = 'tags', HINT = 'Shorten the tags.';
  END IF;
  LOOP
    SELECT r.status, r.task_uuid, r.meta ->> 'state' AS state INTO v_made
    FROM tasker.create_tasks(NULL, NULL, NULL, NULL, true, '{}', '{}', 0, ARRAY[tasker.new_task_uuid()], ARRAY[namespace], ARRAY[name], ARRAY[version], ARRAY[context], ARRAY[v_opts]) r
    WHERE r.kind = 'a';
    EXIT WHEN v_made.status <> 'unchecked'; -- else the template was replaced meanwhile
  END LOOP;
  CASE v_made.status
  WHEN 'created', 'exists' THEN
    task_uuid := v_made.task_uuid;
    created := v_made.status = 'created';
    state := v_made.state;
  WHEN 'template_not_found' THEN
    RAISE EXCEPTION 'no template %', concat(namespace, '/', name, ' version ' || version)
      USING ERRCODE = 'TK404', HINT = 'Register it with: taskerctl template apply FILE';
  WHEN 'key_required' THEN
    RAISE EXCEPTION 'template %/% needs an idempotency_key', namespace, name
      USING ERRCODE = 'TK400', COLUMN = 'idempotency_key', HINT = 'Its identity_strategy is caller_provided.';
  ELSE
    RAISE EXCEPTION 'a task with this identity exists with another template or context'
      USING ERRCODE = 'TK409', HINT = 'Give other content another idempotency_key.';
  END CASE;
END $$;

-- The same, returning only the uuid.
CREATE FUNCTION tasker.create_task(
  name text, namespace text DEFAULT 'default', version text DEFAULT NULL, context jsonb DEFAULT '{}', idempotency_key text DEFAULT NULL, priority int DEFAULT 0,
  tags text[] DEFAULT NULL, run_at timestamptz DEFAULT NULL, initiator text DEFAULT NULL, source_system text DEFAULT NULL, reason text DEFAULT NULL,
  correlation_id text DEFAULT NULL, parent_correlation_id text DEFAULT NULL, traceparent text DEFAULT NULL, tracestate text DEFAULT NULL)
RETURNS uuid LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT s.task_uuid FROM tasker.submit_task($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) s
$$;
