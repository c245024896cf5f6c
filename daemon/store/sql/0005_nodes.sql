-- Nodes: life, and what becomes of what a node held. The rules of 0002_engine.sql hold.

-- Join, or come back as a new incarnation of the same node. The caller holds the node's advisory lock (class 0x7461736b) on this connection.
CREATE FUNCTION tasker.node_register(p_name text, p_host text, p_pid int, p_version text, p_ttl_ms int, p_secret bytea DEFAULT sha256(gen_random_uuid()::text::bytea))
RETURNS TABLE (node_no int, incarnation int, secret bytea) LANGUAGE sql AS $$
  SELECT tasker.notify('tasker_nodes', '');
  INSERT INTO tasker.nodes AS n (node_name, host, pid, version, secret, lease_until)
  VALUES (p_name, p_host, p_pid, p_version, p_secret, now() + p_ttl_ms * interval '1 millisecond')
  ON CONFLICT (node_name) DO UPDATE SET host = excluded.host, pid = excluded.pid, version = excluded.version, state = 'up',
    incarnation = n.incarnation + 1, started_at = now(), lease_until = excluded.lease_until
  RETURNING n.node_no, n.incarnation, n.secret
$$;

-- Prove life. `alive` false: another incarnation has taken the name. peers: other nodes with a running lease. had_lapsed: others had taken this node for dead.
CREATE FUNCTION tasker.node_heartbeat(p_node int, p_incarnation int, p_ttl_ms int, p_state text, p_info jsonb DEFAULT NULL, p_workers jsonb DEFAULT NULL)
RETURNS TABLE (alive boolean, peers int, had_lapsed boolean) LANGUAGE sql AS $$
  WITH o AS (SELECT n.state FROM tasker.nodes n WHERE n.node_no = p_node AND n.incarnation = p_incarnation FOR UPDATE),
  u AS (
    UPDATE tasker.nodes n SET lease_until = now() + p_ttl_ms * interval '1 millisecond', state = p_state, info = p_info, worker_load = p_workers
    FROM o WHERE n.node_no = p_node AND n.incarnation = p_incarnation RETURNING o.state)
  SELECT EXISTS (SELECT 1 FROM u),
         (SELECT count(*)::int FROM tasker.nodes n WHERE n.node_no <> p_node AND n.state <> 'down' AND n.lease_until > now()),
         EXISTS (SELECT 1 FROM u WHERE u.state = 'down')
$$;

-- Whether a worker that is connected to a live node, and was not told to finish, offers a handler.
CREATE FUNCTION tasker.is_offered(p_namespace text, p_callable text) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (
    SELECT 1 FROM tasker.workers w JOIN tasker.nodes n ON n.node_no = w.node_no AND n.state <> 'down' AND n.lease_until > now()
    WHERE w.disconnected_at IS NULL AND NOT w.draining AND p_callable = ANY (w.handlers) AND (w.namespaces = '{}' OR w.namespaces && ARRAY['*', p_namespace]))
$$;

-- Those of these handlers that steps wait for and nobody offers.
CREATE FUNCTION tasker.lacking_handlers(p_ids int[]) RETURNS SETOF int LANGUAGE plpgsql STABLE AS $$
DECLARE
  h record; v_waiting boolean;
BEGIN
  FOR h IN SELECT x.handler_id, x.queue_name FROM tasker.handlers x JOIN tasker.namespaces n USING (namespace_id) WHERE x.handler_id = ANY (p_ids) AND NOT tasker.is_offered(n.name, x.callable) LOOP
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM pgmq.%I q WHERE q.vt <= now())', 'q_' || h.queue_name) INTO v_waiting;
    IF v_waiting THEN
      RETURN NEXT h.handler_id;
    END IF;
  END LOOP;
END $$;

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
           NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, CASE WHEN t.traceparent IS NOT NULL THEN jsonb_build_object('traceparent', t.traceparent) END
    FROM unnest(c_t, c_s) AS c(task_id, step_no)
    CROSS JOIN LATERAL (SELECT x.step_no, x.template_no, x.attempts, x.fence, x.checkpoint FROM tasker.steps x WHERE x.task_id = c.task_id AND x.step_no = c.step_no OFFSET 0) s
    CROSS JOIN LATERAL (SELECT x.task_id, x.task_uuid, x.template_id, x.traceparent FROM tasker.tasks x WHERE x.task_id = c.task_id OFFSET 0) t
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
      RETURN QUERY SELECT * FROM tasker.settle(p_node, p_notify, v_t, '{"event": "node_lost"}');
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
