-- Domain events: what steps declare is published in the transaction that records the end of an attempt. Durable events are messages of the namespace's queue; fast ones come back to
-- the caller as rows, which it pushes after its commit, and go to other nodes by NOTIFY.

CREATE FUNCTION tasker.new_uuid() RETURNS uuid LANGUAGE sql VOLATILE AS -- UUIDv7
$$ SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(g, 14))::uuid FROM replace(gen_random_uuid()::text, '-', '') AS g $$;

-- The table of a queue, or NULL.
CREATE FUNCTION tasker.event_table(p_queue text) RETURNS regclass LANGUAGE sql STABLE AS
$$ SELECT to_regclass('pgmq.' || quote_ident('q_' || p_queue)) $$;

-- The queue of a namespace, made if it is not there. Two namespaces whose names differ only in case do not share one.
CREATE FUNCTION tasker.event_queue(p_ns int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_name text; v_queue text;
BEGIN
  SELECT n.name, n.event_queue INTO v_name, v_queue FROM tasker.namespaces n WHERE n.namespace_id = p_ns;
  IF v_queue IS NULL THEN
    PERFORM pg_advisory_xact_lock(x'7461736d'::int, 0);
    v_queue := lower(v_name) || '_domain_events';
    UPDATE tasker.namespaces n SET event_queue = CASE WHEN EXISTS (SELECT 1 FROM tasker.namespaces x WHERE x.event_queue = v_queue AND x.namespace_id <> p_ns)
                                                 THEN left(lower(v_name), 22) || '_' || p_ns || '_domain_events' ELSE v_queue END
    WHERE n.namespace_id = p_ns RETURNING n.event_queue INTO v_queue;
  END IF;
  IF tasker.event_table(v_queue) IS NULL THEN
    PERFORM tasker.make_queue(v_queue);
  END IF;
  RETURN v_queue;
END $$;

-- Tell other nodes. What is longer than a notification may be goes in pieces, in order; at most 1 MiB. "e NODE ID PART PARTS TEXT" and "q NODE NAMESPACE": a queue has messages.
CREATE FUNCTION tasker.notify_event(p_node int, p_event jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_text text := p_event::text;
  v_chars int := CASE WHEN octet_length(v_text) = length(v_text) THEN 7600 ELSE 1900 END;
  v_parts int := (length(v_text) + v_chars - 1) / v_chars;
BEGIN
  IF octet_length(v_text) > 1048576 THEN
    RETURN;
  END IF;
  FOR i IN 1 .. v_parts LOOP
    PERFORM tasker.notify('tasker_events', format('e %s %s %s %s %s', p_node, p_event ->> 'event_id', i, v_parts, substr(v_text, (i - 1) * v_chars + 1, v_chars)));
  END LOOP;
END $$;

-- Whether the end of an attempt meets the condition of a declaration. p_final: the step has failed with it.
CREATE FUNCTION tasker.event_fires(p_condition text, p_outcome tasker.attempt_outcome, p_final boolean) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT p_outcome NOT IN ('released', 'cancelled') AND CASE p_condition WHEN 'success' THEN p_outcome = 'success' WHEN 'failure' THEN p_outcome <> 'success'
     WHEN 'retryable_failure' THEN p_outcome <> 'success' AND NOT p_final WHEN 'permanent_failure' THEN p_outcome <> 'success' AND p_final ELSE true END $$;

-- The messages of one namespace into its queue. Returns their ids.
CREATE FUNCTION tasker.send_events(p_ns int, p_events jsonb[], p_headers jsonb[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  v_queue text;
BEGIN
  SELECT n.event_queue INTO v_queue FROM tasker.namespaces n WHERE n.namespace_id = p_ns;
  IF v_queue IS NULL OR tasker.event_table(v_queue) IS NULL THEN
    v_queue := tasker.event_queue(p_ns);
  END IF;
  RETURN ARRAY(SELECT pgmq.send_batch(v_queue, p_events, p_headers));
END $$;

-- Publish what the ends of attempts that this transaction has recorded call for. Arrays are parallel. p_events: what the daemon knows of each, or NULL (then for all the defaults
-- hold): {"ok": the result was sent as a success, "said": [the worker's words: {name, payload, metadata, skip}], "refused": [numbers of declarations whose payload does not fit]};
-- its words do not count if the database has found the success to be none. An item that is NULL, in an array that is not, declares nothing.
-- e rows: status is the namespace; context is a fast event to be pushed, or NULL: idx events were put into the queue.
CREATE FUNCTION tasker.publish_events(p_node int, p_notify boolean, p_task bigint[], p_step int[], p_fence int[], p_events jsonb[])
RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_ns int[]; v_names text[]; v_modes text[]; v_events jsonb[]; v_headers jsonb[];
  q record;
  r tasker.hot_row;
BEGIN
  -- An attempt's row of this very transaction: what was recorded before (a duplicate) publishes nothing.
  SELECT array_agg(n.namespace_id ORDER BY i.ord, d.no), array_agg(n.name ORDER BY i.ord, d.no), array_agg(d.decl ->> 'delivery_mode' ORDER BY i.ord, d.no),
         array_agg(jsonb_build_object('event_id', tasker.new_uuid(), 'event_name', d.decl ->> 'name', 'event_version', '1.0',
           'payload', jsonb_build_object(
             'task_sequence_step', jsonb_build_object(
               'task', jsonb_build_object('task_uuid', t.task_uuid, 'namespace', n.name, 'name', tp.name, 'version', tp.version),
               'workflow_step', jsonb_build_object('step_uuid', tasker.step_uuid(t.task_uuid, i.step_no), 'name', s.name, 'template_step_name', ts.name, 'attempts', a.attempt, 'max_attempts', ts.max_attempts)),
             'execution_result', jsonb_strip_nulls(jsonb_build_object('success', a.outcome = 'success', 'status', a.outcome, 'step_uuid', tasker.step_uuid(t.task_uuid, i.step_no), 'attempt', a.attempt,
                                                                      'execution_ms', a.execution_ms, 'worker_uuid', a.worker_uuid))
               || CASE WHEN a.outcome = 'success' THEN '{}' ELSE jsonb_build_object('error', a.error) END,
             'payload', CASE WHEN w.word ? 'payload' THEN w.word -> 'payload' WHEN a.outcome = 'success' THEN coalesce(s.result, 'null') ELSE coalesce(a.error, 'null') END),
           'metadata', coalesce(w.word -> 'metadata', '{}') || jsonb_build_object('task_uuid', t.task_uuid, 'step_uuid', tasker.step_uuid(t.task_uuid, i.step_no), 'step_name', s.name, 'namespace', n.name,
             'correlation_id', coalesce(t.correlation_id, t.task_uuid::text), 'fired_at', tasker.rfc3339(a.recorded_at), 'fired_by', CASE WHEN w.word IS NOT NULL THEN coalesce(d.decl ->> 'publisher', 'worker') ELSE 'default' END)) ORDER BY i.ord, d.no),
         array_agg(jsonb_build_object('t', i.task_id, 's', i.step_no, 'f', i.fence, 'n', d.no) ORDER BY i.ord, d.no)
  INTO v_ns, v_names, v_modes, v_events, v_headers
  FROM unnest(p_task, p_step, p_fence, coalesce(p_events, array_fill('{}'::jsonb, ARRAY[cardinality(p_task)]))) WITH ORDINALITY AS i(task_id, step_no, fence, known, ord)
  CROSS JOIN LATERAL (SELECT x.template_id, x.task_uuid, x.correlation_id FROM tasker.tasks x WHERE x.task_id = i.task_id OFFSET 0) t
  CROSS JOIN LATERAL (SELECT x.state, x.result, x.template_no, x.inputs FROM tasker.steps x WHERE x.task_id = i.task_id AND x.step_no = i.step_no OFFSET 0) z
  CROSS JOIN LATERAL (SELECT x.name, x.max_attempts, x.events FROM tasker.template_steps x WHERE x.template_id = t.template_id AND x.step_no = z.template_no AND x.events IS NOT NULL OFFSET 0) ts
  CROSS JOIN LATERAL (SELECT z.state, z.result, tasker.step_name(ts.name, i.step_no, z.template_no, z.inputs) AS name) s
  CROSS JOIN LATERAL (SELECT x.outcome, x.attempt, x.execution_ms, x.worker_uuid, x.error, x.recorded_at FROM tasker.step_attempts x
                      WHERE x.task_id = i.task_id AND x.step_no = i.step_no AND x.fence = i.fence AND x.xmin = pg_current_xact_id()::xid OFFSET 0) a
  CROSS JOIN LATERAL (SELECT x.name, x.version, x.namespace_id FROM tasker.templates x WHERE x.template_id = t.template_id OFFSET 0) tp
  CROSS JOIN LATERAL (SELECT x.namespace_id, x.name FROM tasker.namespaces x WHERE x.namespace_id = tp.namespace_id OFFSET 0) n
  CROSS JOIN LATERAL jsonb_array_elements(ts.events) WITH ORDINALITY AS d(decl, no)
  CROSS JOIN LATERAL (SELECT CASE WHEN (i.known ->> 'ok')::boolean IS NOT DISTINCT FROM (a.outcome = 'success') THEN i.known ELSE '{}' END AS known) k
  LEFT JOIN LATERAL (SELECT e.word FROM jsonb_array_elements(k.known -> 'said') WITH ORDINALITY AS e(word, place) WHERE e.word ->> 'name' = d.decl ->> 'name' ORDER BY e.place LIMIT 1) w ON true
  WHERE i.known IS NOT NULL AND tasker.event_fires(d.decl ->> 'condition', a.outcome, s.state = 'error')
    AND NOT coalesce((w.word ->> 'skip')::boolean, false) AND NOT coalesce(k.known -> 'refused' @> to_jsonb(d.no - 1), false);
  IF v_ns IS NULL THEN
    RETURN;
  END IF;
  r.kind := 'e';
  FOR q IN
    SELECT e.ns, e.name, array_agg(e.event ORDER BY e.ord) AS events, array_agg(e.header ORDER BY e.ord) AS headers
    FROM unnest(v_ns, v_names, v_modes, v_events, v_headers) WITH ORDINALITY AS e(ns, name, mode, event, header, ord) WHERE e.mode <> 'fast' GROUP BY e.ns, e.name
  LOOP
    PERFORM tasker.send_events(q.ns, q.events, q.headers);
    r.status := q.name; r.idx := cardinality(q.events);
    RETURN NEXT r;
    IF p_notify THEN
      PERFORM tasker.notify('tasker_events', format('q %s %s', p_node, q.name));
    END IF;
  END LOOP;
  FOR i IN 1 .. cardinality(v_ns) LOOP
    CONTINUE WHEN v_modes[i] = 'durable';
    r.status := v_names[i]; r.idx := 1; r.context := v_events[i];
    RETURN NEXT r;
    IF p_notify THEN
      PERFORM tasker.notify_event(p_node, v_events[i]);
    END IF;
  END LOOP;
END $$;

-- Requests ----------------------------------------------------------------------------------------------------------------

-- The namespace a request is about.
CREATE FUNCTION tasker.event_namespace(p jsonb) RETURNS tasker.namespaces LANGUAGE plpgsql STABLE AS $$
DECLARE
  v tasker.namespaces;
BEGIN
  SELECT n.* INTO v FROM tasker.namespaces n WHERE n.name = coalesce(p ->> 'namespace', 'default');
  IF v.namespace_id IS NULL THEN
    RAISE EXCEPTION 'no template of namespace % was ever registered', coalesce(p ->> 'namespace', 'default') USING ERRCODE = 'TK404', COLUMN = 'namespace';
  END IF;
  RETURN v;
END $$;

-- An event of a client. The answer holds it, for the node to push.
CREATE FUNCTION tasker.api_event_publish(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_ns tasker.namespaces := tasker.event_namespace(p);
  v_mode text := coalesce(p ->> 'delivery_mode', 'durable');
  v_node int := (SELECT n.node_no FROM tasker.nodes n WHERE n.node_name = p ->> 'node');
  v_event jsonb; v_msg bigint;
BEGIN
  v_event := jsonb_build_object('event_id', p ->> 'event_id', 'event_name', p ->> 'name', 'event_version', '1.0', 'payload', jsonb_build_object('payload', p -> 'payload'),
    'metadata', coalesce(p -> 'metadata', '{}') || jsonb_build_object('namespace', v_ns.name, 'correlation_id', coalesce(p ->> 'correlation_id', p ->> 'event_id'),
                                                                     'fired_at', tasker.rfc3339(clock_timestamp()), 'fired_by', p ->> 'fired_by'));
  IF v_mode <> 'fast' THEN
    v_msg := (tasker.send_events(v_ns.namespace_id, ARRAY[v_event], ARRAY['{}'::jsonb]))[1];
    PERFORM tasker.notify('tasker_events', format('q %s %s', v_node, v_ns.name));
  END IF;
  IF v_mode <> 'durable' THEN
    PERFORM tasker.notify_event(v_node, v_event);
  END IF;
  RETURN jsonb_strip_nulls(jsonb_build_object('event_id', p ->> 'event_id', 'msg_id', v_msg, 'namespace', v_ns.name)) || CASE WHEN v_mode <> 'durable' THEN jsonb_build_object('event', v_event) ELSE '{}' END;
END $$;

-- Messages that are visible, oldest first; each is then invisible for a while. next_ms: none, but one will be in that time.
CREATE FUNCTION tasker.api_event_consume(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_ns tasker.namespaces := tasker.event_namespace(p);
  v_table text := 'q_' || v_ns.event_queue;
  v_like text[] := CASE WHEN p ? 'patterns' THEN ARRAY(
    SELECT replace(replace(replace(replace(x, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%') FROM jsonb_array_elements_text(p -> 'patterns') AS x) END;
  v_now timestamptz := clock_timestamp();
  v_messages jsonb; v_next timestamptz;
BEGIN
  IF tasker.event_table(v_ns.event_queue) IS NULL THEN
    RETURN '{"messages": []}';
  END IF;
  EXECUTE format($q$
    WITH due AS MATERIALIZED (
      SELECT m.msg_id, octet_length(m.message::text) + 256 AS bytes FROM pgmq.%1$I m
      WHERE m.vt <= $1 AND ($2 IS NULL OR m.message ->> 'event_name' LIKE ANY ($2)) ORDER BY m.msg_id LIMIT $3 FOR UPDATE SKIP LOCKED),
    fit AS (SELECT d.msg_id, sum(d.bytes) OVER (ORDER BY d.msg_id) AS bytes, row_number() OVER (ORDER BY d.msg_id) AS n FROM due d),
    taken AS (
      UPDATE pgmq.%1$I m SET vt = clock_timestamp() + $4 * interval '1 millisecond', read_ct = m.read_ct + 1
      WHERE m.msg_id = ANY (ARRAY(SELECT f.msg_id FROM fit f WHERE f.bytes <= $5 OR f.n = 1))
      RETURNING m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message)
    SELECT jsonb_agg(jsonb_build_object('msg_id', k.msg_id, 'read_count', k.read_ct, 'enqueued_at', tasker.rfc3339(k.enqueued_at), 'visible_at', tasker.rfc3339(k.vt), 'event', CASE WHEN NOT tasker.beyond_double(k.message) THEN k.message END) ORDER BY k.msg_id)
    FROM taken k$q$, v_table) INTO v_messages USING v_now, v_like, coalesce((p ->> 'max')::int, 1), coalesce((p ->> 'visibility_ms')::int, 30000), (p ->> 'max_bytes')::bigint;
  IF v_messages IS NULL THEN
    EXECUTE format('SELECT m.vt FROM pgmq.%I m WHERE m.vt > $1 AND m.vt < $1 + interval ''100 days'' ORDER BY m.vt LIMIT 1', v_table) INTO v_next USING v_now;
  END IF;
  RETURN jsonb_build_object('messages', coalesce(v_messages, '[]'), 'next_ms', CASE WHEN v_next IS NOT NULL THEN least(ceil(extract(epoch FROM v_next - v_now) * 1000), 2147483647)::int END);
END $$;

-- What a request names of a queue: {"ids", "read_counts"}. The statement's $1 is one message id, $2 its read count or NULL, $3 the visibility. Returns what was done and what was not there.
CREATE FUNCTION tasker.event_each(p jsonb, p_statement text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_ns tasker.namespaces := tasker.event_namespace(p);
  v_ids bigint[] := ARRAY(SELECT x::bigint FROM jsonb_array_elements_text(p -> 'ids') AS x);
  v_counts bigint[] := CASE WHEN p ? 'read_counts' THEN ARRAY(SELECT x::bigint FROM jsonb_array_elements_text(p -> 'read_counts') AS x) END;
  v_done bigint[] := '{}';
BEGIN
  IF cardinality(v_counts) <> cardinality(v_ids) THEN
    RAISE EXCEPTION 'read_counts must have as many elements as ids' USING ERRCODE = 'TK400', COLUMN = 'read_counts';
  END IF;
  IF tasker.event_table(v_ns.event_queue) IS NOT NULL THEN
    EXECUTE format(p_statement, 'q_' || v_ns.event_queue) INTO v_done USING v_ids, v_counts, coalesce((p ->> 'visibility_ms')::int, 0);
  END IF;
  IF (p ->> 'visibility_ms')::int = 0 AND cardinality(v_done) > 0 THEN
    PERFORM tasker.notify('tasker_events', format('q 0 %s', v_ns.name));
  END IF;
  RETURN jsonb_build_object('done', coalesce(cardinality(v_done), 0), 'missing', to_jsonb(ARRAY(SELECT DISTINCT x FROM unnest(v_ids) AS x WHERE x <> ALL (coalesce(v_done, '{}')) ORDER BY x)));
END $$;

CREATE FUNCTION tasker.api_event_ack(p jsonb) RETURNS jsonb LANGUAGE sql AS $$
  SELECT tasker.event_each(p, 'WITH d AS (DELETE FROM pgmq.%I m WHERE m.msg_id = ANY ($1) AND ($2 IS NULL OR m.read_ct = $2[array_position($1, m.msg_id)]) RETURNING m.msg_id)
                               SELECT array_agg(d.msg_id) FROM d')
$$;

CREATE FUNCTION tasker.api_event_extend(p jsonb) RETURNS jsonb LANGUAGE sql AS $$
  SELECT tasker.event_each(p, 'WITH d AS (UPDATE pgmq.%I m SET vt = clock_timestamp() + $3 * interval ''1 millisecond''
                                          WHERE m.msg_id = ANY ($1) AND ($2 IS NULL OR m.read_ct = $2[array_position($1, m.msg_id)]) RETURNING m.msg_id)
                               SELECT array_agg(d.msg_id) FROM d')
$$;

CREATE FUNCTION tasker.api_event_list(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  q record; v jsonb := '[]'; v_n bigint; v_ready bigint; v_oldest double precision;
BEGIN
  FOR q IN SELECT n.name, n.event_queue FROM tasker.namespaces n WHERE tasker.event_table(n.event_queue) IS NOT NULL AND tasker.is_within(p, n.name) ORDER BY n.name LOOP
    EXECUTE format('SELECT count(*), count(*) FILTER (WHERE m.vt <= now()), extract(epoch FROM now() - min(m.enqueued_at) FILTER (WHERE isfinite(m.enqueued_at))) * 1000 FROM pgmq.%I m', 'q_' || q.event_queue) INTO v_n, v_ready, v_oldest;
    v := v || jsonb_build_object('namespace', q.name, 'queue', q.event_queue, 'messages', v_n, 'ready', v_ready, 'oldest_ms', round(v_oldest)::bigint,
                                 'published', (SELECT m.total_messages FROM pgmq.metrics(q.event_queue) m));
  END LOOP;
  RETURN jsonb_build_object('queues', v);
END $$;

-- Doctor ------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tasker.event_checks() RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_sent text := (SELECT string_agg(format('SELECT %L AS namespace, m.msg_id, tasker.whole(m.headers, ''t'') AS task_id, tasker.whole(m.headers, ''s'') AS step_no, tasker.whole(m.headers, ''f'') AS fence,
                                            tasker.whole(m.headers, ''n'') AS no FROM pgmq.%I m WHERE m.headers ? ''f''', n.name, 'q_' || n.event_queue), ' UNION ALL ')
                  FROM tasker.namespaces n WHERE tasker.event_table(n.event_queue) IS NOT NULL);
BEGIN
  v_sent := coalesce(v_sent, 'SELECT NULL::text AS namespace, NULL::bigint AS msg_id, NULL::bigint AS task_id, NULL::bigint AS step_no, NULL::bigint AS fence, NULL::bigint AS no WHERE false');
  RETURN jsonb_build_array(
    tasker.doctor_check('event_queues_exist', 'a namespace whose templates publish events has a queue for them',
      $q$ SELECT DISTINCT n.name FROM tasker.template_steps ts JOIN tasker.templates t USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
          WHERE ts.events IS NOT NULL AND tasker.event_table(n.event_queue) IS NULL $q$),
    tasker.doctor_check('events_were_recorded', 'a queued event of a step belongs to the recorded end of an attempt, and is there once',
      'SELECT e.namespace, min(e.msg_id) AS msg_id, count(*) AS times FROM (' || v_sent || $q$ ) e JOIN tasker.tasks t ON t.task_id = e.task_id
          GROUP BY e.namespace, e.task_id, e.step_no, e.fence, e.no
          HAVING count(*) > 1 OR NOT EXISTS (SELECT 1 FROM tasker.step_attempts a WHERE a.task_id = e.task_id AND a.step_no = e.step_no AND a.fence = e.fence AND a.outcome NOT IN ('released', 'cancelled')) $q$));
END $$;
