-- Workers and queues, for operators; and tasks made anew from what a dump holds of them.

-- Workers ----------------------------------------------------------------------------------------------------------------

-- What its node has told lately of what it does, and no more than so many of its handlers and of what it could not load: a frame holds all workers.
CREATE FUNCTION tasker.worker_object(w tasker.workers, p_most int DEFAULT NULL) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('worker_uuid', w.worker_uuid, 'node', n.node_name, 'name', w.name, 'pid', w.pid, 'uid', w.uid, 'unit', w.unit, 'client', w.client, 'language', w.language,
    'namespaces', to_jsonb(w.namespaces), 'handlers', to_jsonb(CASE WHEN p_most IS NULL THEN w.handlers ELSE w.handlers[1:p_most] END), 'max_concurrency', w.max_concurrency,
    'broken', CASE WHEN p_most IS NULL THEN w.broken ELSE jsonb_path_query_array(w.broken, '$[0 to $n]', jsonb_build_object('n', (p_most + 4) / 5 - 1)) END, 'draining', w.draining,
    'connected_at', tasker.rfc3339(w.connected_at))
    || CASE WHEN p_most IS NULL THEN '{}' ELSE jsonb_build_object('more_handlers', greatest(cardinality(w.handlers) - p_most, 0), 'more_broken', greatest(jsonb_array_length(w.broken) - (p_most + 4) / 5, 0)) END
    || coalesce((SELECT jsonb_build_object('open', l.f -> 0, 'done', l.f -> 1, 'rate', l.f -> 2) FROM (SELECT n.worker_load -> w.worker_uuid::text AS f) l WHERE l.f IS NOT NULL), '{}')
  FROM tasker.nodes n WHERE n.node_no = w.node_no
$$;

-- Not one that others have a part in.
CREATE FUNCTION tasker.worker_is_within(p jsonb, w tasker.workers) RETURNS boolean LANGUAGE sql STABLE AS
$$ SELECT p -> 'within' IS NULL OR w.namespaces <> '{}' AND to_jsonb(w.namespaces) <@ (p -> 'within') $$;

-- The workers of a node that no longer proves life are lost with it, whether or not somebody has noted that yet.
CREATE FUNCTION tasker.api_worker_list(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('workers', coalesce(jsonb_agg(tasker.worker_object(x.w, greatest(1, least(50, 20000 / x.all_of_them)::int)) ORDER BY x.node_name, (x.w).connected_at), '[]'))
  FROM (SELECT w, n.node_name, count(*) OVER () AS all_of_them FROM tasker.workers w JOIN tasker.nodes n ON n.node_no = w.node_no AND n.state <> 'down' AND n.lease_until > now()
        WHERE w.disconnected_at IS NULL AND tasker.worker_is_within(p, w)) x
$$;

CREATE FUNCTION tasker.connected_worker(p jsonb) RETURNS tasker.workers LANGUAGE plpgsql STABLE AS $$
DECLARE
  w tasker.workers; n tasker.nodes;
BEGIN
  SELECT x.* INTO w FROM tasker.workers x WHERE x.worker_uuid = (p ->> 'worker_uuid')::uuid AND tasker.worker_is_within(p, x);
  IF w.worker_uuid IS NULL THEN
    RAISE EXCEPTION 'no worker %', p ->> 'worker_uuid' USING ERRCODE = 'TK404', COLUMN = 'worker_uuid';
  ELSIF w.disconnected_at IS NOT NULL THEN
    RAISE EXCEPTION 'worker % has disconnected at %', p ->> 'worker_uuid', tasker.rfc3339(w.disconnected_at) USING ERRCODE = 'TK409';
  END IF;
  SELECT x.* INTO n FROM tasker.nodes x WHERE x.node_no = w.node_no AND (x.state = 'down' OR x.lease_until <= now());
  IF n.node_no IS NOT NULL THEN
    RAISE EXCEPTION 'worker % is lost: its node % has proved life until %', p ->> 'worker_uuid', n.node_name, tasker.rfc3339(n.lease_until) USING ERRCODE = 'TK409';
  END IF;
  RETURN w;
END $$;

CREATE FUNCTION tasker.api_worker_get(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT tasker.worker_object(tasker.connected_worker(p)) $$;

-- Its node hears of it by the notification.
CREATE FUNCTION tasker.api_worker_drain(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a CONSTANT tasker.actor := tasker.actor_of(p);
  w CONSTANT tasker.workers := tasker.connected_worker(p);
  v_now tasker.workers;
BEGIN
  PERFORM tasker.note_action(a, 'worker.drain', NULL, NULL, w.name, w.worker_uuid::text);
  UPDATE tasker.workers x SET draining = true WHERE x.worker_uuid = w.worker_uuid RETURNING x.* INTO v_now;
  PERFORM tasker.notify('tasker_drain', w.worker_uuid::text);
  RETURN tasker.worker_object(v_now);
END $$;

-- Queues -----------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tasker.api_queue_list(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  q record; v jsonb[] := '{}'; m record; -- an array grows in place, where a list of JSON would be copied for each of thousands
BEGIN
  FOR q IN SELECT n.name AS ns, n.paused, h.callable, h.queue_name, h.handler_id,
             (SELECT jsonb_agg(jsonb_build_object('node', nd.node_name, 'workers', x.f -> 0, 'done', x.f -> 1, 'rate', x.f -> 2) ORDER BY nd.node_name)
              FROM tasker.nodes nd CROSS JOIN LATERAL (SELECT nd.info -> 'handlers' -> h.handler_id::text AS f) x WHERE nd.state <> 'down' AND nd.lease_until > now() AND x.f IS NOT NULL) AS nodes
           FROM tasker.handlers h JOIN tasker.namespaces n USING (namespace_id)
           WHERE tasker.is_within(p, n.name) AND (p ->> 'namespace' IS NULL OR n.name = p ->> 'namespace') ORDER BY n.name, h.callable LOOP
    EXECUTE format('SELECT count(*) FILTER (WHERE vt <= now()) AS ready, count(*) FILTER (WHERE vt > now()) AS delayed,
                           round(extract(epoch FROM now() - min(enqueued_at) FILTER (WHERE vt <= now() AND isfinite(enqueued_at))) * 1000) AS oldest_ms,
                           round(extract(epoch FROM min(vt) FILTER (WHERE vt > now()) - now()) * 1000) AS next_ms,
                           coalesce(pg_sequence_last_value(pg_get_serial_sequence(%L, ''msg_id'')), 0) AS queued FROM pgmq.%I', 'pgmq.' || quote_ident('q_' || q.queue_name), 'q_' || q.queue_name) INTO m;
    v := array_append(v, jsonb_build_object('namespace', q.ns, 'handler', q.callable, 'queue', q.queue_name, 'handler_id', q.handler_id, 'ready', m.ready, 'delayed', m.delayed, 'oldest_ms', m.oldest_ms,
                                 'next_ms', m.next_ms, 'queued', m.queued, 'paused', q.paused, 'nodes', coalesce(q.nodes, '[]')));
  END LOOP;
  RETURN jsonb_build_object('queues', to_jsonb(v));
END $$;

-- Messages of a queue that no step waits for any more (or that were never one's): they are in the way of nobody but those who count.
CREATE FUNCTION tasker.useless_messages(p_table text, p_ids bigint[]) RETURNS bigint[] LANGUAGE plpgsql STABLE AS $$
DECLARE
  v bigint[];
BEGIN
  EXECUTE format('SELECT array_agg(q.msg_id) FROM pgmq.%I q WHERE q.msg_id = ANY ($1) AND NOT EXISTS (
    SELECT 1 FROM tasker.steps s WHERE s.task_id = tasker.whole(q.message, ''t'') AND s.step_no = tasker.whole(q.message, ''s'') AND s.fence = tasker.whole(q.message, ''f'')
      AND s.state IN (''enqueued'', ''waiting_for_retry''))', p_table) INTO v USING p_ids;
  RETURN coalesce(v, '{}');
END $$;

-- Throw away what waits in a queue: the tasks whose steps wait there are cancelled, so that nothing is left behind that nobody will move. One transaction over at most limit messages, and so
-- many tasks; large ones are cancelled in stretches, and their messages go with the next call. Call again while more is true. What a worker is claiming at this moment runs, and its task is
-- left alone unless another of its steps waits here.
CREATE FUNCTION tasker.api_queue_purge(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a CONSTANT tasker.actor := tasker.actor_of(p);
  v_dry CONSTANT boolean := coalesce((p ->> 'dry_run')::boolean, false);
  v_limit CONSTANT int := coalesce((p ->> 'limit')::int, 500);
  v_repeat CONSTANT boolean := NOT v_dry AND EXISTS (SELECT 1 FROM tasker.operator_actions o WHERE o.request_id = a.request_id); -- the answer was lost: the next call goes on
  v_rest boolean := false;
  v_ns int; v_table text; v_ids bigint[]; v_tasks bigint[]; v_all bigint[]; v_large bigint[] := '{}'; v_gone bigint[] := '{}'; v_left bigint; v_answer jsonb;
BEGIN
  IF EXISTS (SELECT 1 FROM tasker.long_answers x WHERE x.request_id = a.request_id) THEN
    RETURN tasker.bulk_rest(a.request_id);
  END IF;
  SELECT h.namespace_id, 'q_' || h.queue_name INTO v_ns, v_table FROM tasker.handlers h JOIN tasker.namespaces n USING (namespace_id) WHERE n.name = p ->> 'namespace' AND h.callable = p ->> 'handler';
  IF v_table IS NULL THEN
    RAISE EXCEPTION 'no queue of handler % in namespace %', quote_literal(left(p ->> 'handler', 100)), p ->> 'namespace' USING ERRCODE = 'TK404', COLUMN = 'handler';
  END IF;
  EXECUTE format('SELECT array_agg(x.msg_id) FROM (SELECT q.msg_id FROM pgmq.%I q ORDER BY q.msg_id LIMIT $1 %s) x', v_table, CASE WHEN NOT v_dry THEN 'FOR UPDATE SKIP LOCKED' END) INTO v_ids USING v_limit;
  EXECUTE format('SELECT array_agg(DISTINCT t.task_id ORDER BY t.task_id) FROM pgmq.%I q JOIN tasker.tasks t ON t.task_id = tasker.whole(q.message, ''t'')
    JOIN tasker.steps s ON s.task_id = t.task_id AND s.step_no = tasker.whole(q.message, ''s'') AND s.fence = tasker.whole(q.message, ''f'') AND s.state IN (''enqueued'', ''waiting_for_retry'')
    WHERE q.msg_id = ANY ($1) AND tasker.task_refusal(''cancel'', t) IS NULL', v_table) INTO v_all USING v_ids;
  v_tasks := coalesce(v_all, '{}');
  IF NOT v_dry AND v_ids IS NOT NULL AND NOT v_repeat THEN
    v_tasks := tasker.as_many(v_tasks);
    PERFORM 1 FROM (SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY (v_tasks) ORDER BY t.task_id FOR NO KEY UPDATE) l;
    v_tasks := ARRAY(SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY (v_tasks) AND tasker.task_refusal('cancel', t) IS NULL ORDER BY t.task_id);
    v_large := ARRAY(SELECT u.id FROM unnest(v_tasks) AS u(id) WHERE tasker.is_large(u.id));
    INSERT INTO tasker.operator_actions (request_id, action, namespace_id, from_state, to_state, uid, user_name, pid, operator, reason, node_no)
    VALUES (a.request_id, 'queue.purge', v_ns, p ->> 'handler', concat(cardinality(v_ids), ' messages, ', cardinality(v_tasks), ' tasks'), a.uid, a.user_name, a.pid, a.operator, a.reason, a.node_no);
    PERFORM tasker.begin_long(a, 'cancel', u.id) FROM unnest(v_large) AS u(id);
    IF cardinality(v_tasks) > cardinality(v_large) THEN
      PERFORM tasker.act_on_tasks(a, 'cancel', ARRAY(SELECT u.id FROM unnest(v_tasks) AS u(id) WHERE u.id <> ALL (v_large)));
    END IF;
    v_rest := v_large <> '{}' OR cardinality(v_tasks) < cardinality(v_all);
    v_gone := tasker.useless_messages(v_table, v_ids);
    EXECUTE format('DELETE FROM pgmq.%I q WHERE q.msg_id = ANY ($1)', v_table) USING v_gone;
  ELSIF NOT v_dry THEN
    v_tasks := '{}';
  END IF;
  EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM pgmq.%I q LIMIT 100001) x', v_table) INTO v_left;
  v_answer := jsonb_build_object('dry_run', v_dry, 'namespace', p ->> 'namespace', 'handler', p ->> 'handler', 'messages', CASE WHEN v_dry THEN coalesce(cardinality(v_ids), 0) ELSE cardinality(v_gone) END,
    'tasks', cardinality(v_tasks), 'task_uuids', to_jsonb(ARRAY(SELECT t.task_uuid FROM tasker.tasks t WHERE t.task_id = ANY (v_tasks) ORDER BY t.task_id)), 'left', v_left,
    'more', CASE WHEN v_dry THEN v_left > v_limit ELSE v_left > 0 AND (v_repeat OR v_rest OR coalesce(cardinality(v_ids), 0) = v_limit AND v_gone <> '{}') END);
  IF v_large <> '{}' THEN
    INSERT INTO tasker.long_answers (request_id, answer) VALUES (a.request_id, v_answer);
    RETURN '"again"';
  END IF;
  RETURN v_answer;
END $$;

-- Replaying ----------------------------------------------------------------------------------------------------------------

-- A task as task.create makes it, but begun and paused at once: nothing runs before its steps are as they are wanted (step.action), and someone resumes it.
CREATE FUNCTION tasker.api_task_restore(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a CONSTANT tasker.actor := tasker.actor_of(p);
  v_id bigint; v_template int; v_uuid uuid; v_marks jsonb; k record;
BEGIN
  SELECT t.task_uuid INTO v_uuid FROM tasker.operator_actions o JOIN tasker.tasks t USING (task_id) WHERE o.request_id = a.request_id AND o.action = 'task.restore';
  IF v_uuid IS NOT NULL THEN -- the answer was lost
    RETURN tasker.task_after(tasker.task_id_of(v_uuid::text));
  END IF;
  SELECT coalesce(jsonb_object_agg(h.queue_name, coalesce(tasker.last_message(h.queue_name), 0)), '{}') INTO v_marks
  FROM tasker.handlers h JOIN tasker.namespaces n USING (namespace_id) WHERE n.name = p ->> 'namespace';
  SELECT s.task_uuid INTO v_uuid FROM tasker.submit_task(p ->> 'name', p ->> 'namespace', p ->> 'version', p -> 'context', priority => coalesce((p ->> 'priority')::int, 0),
    tags => CASE WHEN jsonb_typeof(p -> 'tags') = 'array' THEN ARRAY(SELECT jsonb_array_elements_text(p -> 'tags')) END, run_at => clock_timestamp() + interval '1 day',
    source_system => 'taskerd restore', reason => left(p ->> 'reason', 60), correlation_id => p ->> 'correlation_id', idempotency_key => 'restore:' || a.request_id) s;
  SELECT t.task_id, t.template_id INTO v_id, v_template FROM tasker.tasks t WHERE t.task_uuid = v_uuid FOR NO KEY UPDATE;
  DELETE FROM pgmq.q_orchestration_task_requests q WHERE tasker.whole(q.message, 't') = v_id;
  UPDATE tasker.tasks SET run_at = now(), created_by_node = a.node_no WHERE task_id = v_id;
  PERFORM tasker.start_now(NULL, NULL, NULL, NULL, false, '{}', '{}', 0, ARRAY[v_id], ARRAY[v_template]);
  INSERT INTO tasker.operator_actions (request_id, action, task_id, to_state, uid, user_name, pid, operator, reason, node_no)
  SELECT a.request_id, 'task.restore', t.task_id, t.state, a.uid, a.user_name, a.pid, a.operator, a.reason, a.node_no FROM tasker.tasks t WHERE t.task_id = v_id;
  IF (SELECT t.state <> 'complete' FROM tasker.tasks t WHERE t.task_id = v_id) THEN
    PERFORM tasker.act_on_tasks(a, 'pause', ARRAY[v_id]);
  END IF;
  FOR k IN SELECT m.key AS name, m.value::bigint AS mark FROM jsonb_each_text(v_marks) m LOOP -- what was queued before it was paused
    EXECUTE format('DELETE FROM pgmq.%I q WHERE q.msg_id > $1 AND tasker.whole(q.message, ''t'') = $2', 'q_' || k.name) USING k.mark, v_id;
  END LOOP;
  RETURN tasker.task_after(v_id);
END $$;

CREATE FUNCTION tasker.last_message(p_queue text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
  v bigint;
BEGIN
  EXECUTE format('SELECT max(q.msg_id) FROM pgmq.%I q', 'q_' || p_queue) INTO v;
  RETURN v;
END $$;
