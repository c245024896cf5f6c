-- What a scrape of the metrics asks the database for.

-- How many messages of a queue of steps, or of starts, are ready and how many for later, and for how many seconds the first has been ready. Beyond 10,000 messages, of which
-- those that are ready come first, what follows is not looked at: their number is the planner's estimate then. (A message that is for now has been moved a day or more into the
-- past, by its priority: ready_vt.)
CREATE FUNCTION tasker.queue_depth(p_queue text, OUT ready bigint, OUT delayed bigint, OUT oldest double precision) LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_total bigint;
BEGIN
  EXECUTE format($q$
    SELECT count(*) FILTER (WHERE m.vt <= now()), count(*) FILTER (WHERE m.vt > now()),
           extract(epoch FROM now() - min(CASE WHEN m.vt > now() - interval '12 hours' THEN m.vt ELSE m.vt + (101 + coalesce(tasker.whole(m.message, 'p'), 0)) * interval '24 hours' END)
                                      FILTER (WHERE m.vt <= now() AND isfinite(m.vt)))
    FROM (SELECT q.vt, q.message FROM pgmq.%I q ORDER BY q.vt LIMIT 10000) m $q$, 'q_' || p_queue) INTO ready, delayed, oldest;
  oldest := greatest(oldest, 0);
  IF ready + delayed < 10000 THEN
    RETURN;
  END IF;
  SELECT greatest(10000, c.reltuples::bigint) INTO v_total FROM pg_catalog.pg_class c WHERE c.oid = format('pgmq.%I', 'q_' || p_queue)::regclass;
  IF delayed = 0 THEN
    ready := v_total;
  ELSE
    delayed := v_total - ready;
  END IF;
END $$;

-- The same of a queue of domain events; they are in order of arrival.
CREATE FUNCTION tasker.event_depth(p_queue text, OUT messages bigint, OUT oldest double precision) LANGUAGE plpgsql STABLE AS $$
BEGIN
  EXECUTE format('SELECT count(*), extract(epoch FROM now() - min(m.enqueued_at) FILTER (WHERE isfinite(m.enqueued_at))) FROM (SELECT q.enqueued_at FROM pgmq.%I q ORDER BY q.msg_id LIMIT 10000) m',
                 'q_' || p_queue) INTO messages, oldest;
  IF messages = 10000 THEN
    SELECT greatest(10000, c.reltuples::bigint) INTO messages FROM pg_catalog.pg_class c WHERE c.oid = format('pgmq.%I', 'q_' || p_queue)::regclass;
  END IF;
END $$;

-- What only the database knows and a scrape of the metrics wants to: bounded in what it reads, and in what it says. The first p.namespaces namespaces by name are told apart.
CREATE FUNCTION tasker.api_metrics(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  WITH ns AS (
    SELECT n.namespace_id, n.event_queue, n.paused, CASE WHEN row_number() OVER (ORDER BY n.namespace_id) <= (p ->> 'namespaces')::int THEN n.name ELSE 'other' END AS name
    FROM tasker.namespaces n),
  steps AS (
    SELECT ns.name, sum(d.ready) AS ready, sum(d.delayed) AS delayed, max(d.oldest) AS oldest
    FROM ns JOIN tasker.handlers h USING (namespace_id) CROSS JOIN LATERAL tasker.queue_depth(h.queue_name) d GROUP BY ns.name),
  events AS (
    SELECT ns.name, sum(d.messages) AS messages, max(d.oldest) AS oldest
    FROM ns CROSS JOIN LATERAL tasker.event_depth(ns.event_queue) d WHERE tasker.event_table(ns.event_queue) IS NOT NULL GROUP BY ns.name),
  dead AS (
    SELECT coalesce(ns.name, 'other') AS name, d.reason, count(*) AS n, extract(epoch FROM now() - min(d.created_at)) AS oldest
    FROM (SELECT x.task_id, x.reason, x.created_at FROM tasker.dlq x WHERE x.status = 'pending' LIMIT 10000) d
    CROSS JOIN LATERAL (SELECT x.template_id FROM tasker.tasks x WHERE x.task_id = d.task_id OFFSET 0) t
    CROSS JOIN LATERAL (SELECT x.namespace_id FROM tasker.templates x WHERE x.template_id = t.template_id OFFSET 0) tp
    LEFT JOIN ns ON ns.namespace_id = tp.namespace_id GROUP BY 1, 2),
  alive AS (
    SELECT CASE WHEN n.state <> 'down' AND n.lease_until < now() THEN 'expired' ELSE n.state END AS state, count(*) AS n FROM tasker.nodes n GROUP BY 1)
  SELECT jsonb_build_object(
    'namespaces', (SELECT coalesce(jsonb_agg(jsonb_build_object('namespace', g.name, 'paused', g.paused, 'ready', coalesce(steps.ready, 0), 'delayed', coalesce(steps.delayed, 0),
                     'oldest', coalesce(steps.oldest, 0), 'events', coalesce(events.messages, 0), 'events_oldest', coalesce(events.oldest, 0)) ORDER BY g.name), '[]')
                   FROM (SELECT ns.name, bool_or(ns.paused) AS paused FROM ns GROUP BY ns.name) g LEFT JOIN steps USING (name) LEFT JOIN events USING (name)),
    'dlq', (SELECT coalesce(jsonb_agg(jsonb_build_object('namespace', dead.name, 'reason', dead.reason, 'entries', dead.n, 'oldest', dead.oldest) ORDER BY dead.name, dead.reason), '[]') FROM dead),
    'nodes', (SELECT jsonb_agg(jsonb_build_object('state', s.state, 'nodes', coalesce(alive.n, 0)) ORDER BY s.state) FROM unnest('{up,draining,expired,down}'::text[]) AS s(state) LEFT JOIN alive USING (state)),
    'starts', (SELECT jsonb_build_array(jsonb_build_object('due', d.ready, 'scheduled', d.delayed, 'oldest', coalesce(d.oldest, 0))) FROM tasker.queue_depth('orchestration_task_requests') d))
$$;
