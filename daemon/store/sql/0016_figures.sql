-- Figures for people: what the tasks are doing, and where their time goes. Each call looks at so many of the newest tasks and says at how many, so that its cost does not grow with the database.

CREATE FUNCTION tasker.api_stats(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_ids bigint[]; v_low bigint; v_seen bigint; v_tasks jsonb;
BEGIN
  SELECT w.o_ids, w.o_low, w.o_seen INTO v_ids, v_low, v_seen FROM tasker.walk_tasks(tasker.list_condition(p), 9223372036854775807, 100000, 100000) w;
  SELECT jsonb_build_object('states', coalesce(jsonb_object_agg(x.state, x.n), '{}'), 'paused', coalesce(sum(x.paused), 0), 'created_per_minute', coalesce(sum(x.created), 0), 'finished_per_minute', coalesce(sum(x.finished), 0),
                            'failed_per_minute', coalesce(sum(x.finished) FILTER (WHERE x.state NOT IN ('complete', 'resolved_manually')), 0), 'oldest_at', tasker.rfc3339(min(x.oldest)))
  INTO v_tasks
  FROM (SELECT t.state, count(*) AS n, count(*) FILTER (WHERE t.paused) AS paused, count(*) FILTER (WHERE t.created_at > now() - interval '1 minute') AS created,
               count(*) FILTER (WHERE t.finished_at > now() - interval '1 minute') AS finished, min(t.created_at) AS oldest
        FROM unnest(v_ids) AS i(id) CROSS JOIN LATERAL (SELECT y.state, y.paused, y.created_at, y.finished_at FROM tasker.tasks y WHERE y.task_id = i.id OFFSET 0) t GROUP BY t.state) x;
  RETURN jsonb_build_object('at', tasker.rfc3339(clock_timestamp()), 'tasks', v_tasks || jsonb_build_object('scanned', v_seen, 'whole', v_low IS NULL),
    'dlq_pending', (SELECT count(*) FROM tasker.dlq d JOIN tasker.tasks t USING (task_id) JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
                    WHERE d.status = 'pending' AND tasker.is_within(p, n.name) AND (p ->> 'namespace' IS NULL OR n.name = p ->> 'namespace')));
END $$;

CREATE FUNCTION tasker.ms_between(p_from timestamptz, p_to timestamptz) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT greatest(extract(epoch FROM p_to - p_from) * 1000, 0)::double precision $$;

-- {n, p50, p95, p99, max, mean} of numbers of milliseconds; NULLs are left out.
CREATE FUNCTION tasker.spread(p double precision[]) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN count(v) = 0 THEN 'null' ELSE jsonb_build_object('n', count(v), 'p50', round((percentile_cont(0.5) WITHIN GROUP (ORDER BY v))::numeric, 3), 'p95', round((percentile_cont(0.95) WITHIN GROUP (ORDER BY v))::numeric, 3),
    'p99', round((percentile_cont(0.99) WITHIN GROUP (ORDER BY v))::numeric, 3), 'max', round(max(v)::numeric, 3), 'mean', round(avg(v)::numeric, 3)) END
  FROM unnest(p) v WHERE v IS NOT NULL
$$;

-- Of each template: how its tasks ended, and how long those that are finished took from their creation (or the time they were to begin).
CREATE FUNCTION tasker.template_figures(p_ids bigint[]) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object('namespace', n.name, 'name', tp.name, 'version', tp.version, 'tasks', g.n, 'complete', g.complete, 'failed', g.failed, 'live', g.n - g.complete - g.failed - g.cancelled,
           'cancelled', g.cancelled, 'duration_ms', tasker.spread(g.took)) ORDER BY n.name, tp.name, tp.version_key, tp.prerelease), '[]')
  FROM (SELECT t.template_id, count(*) AS n, count(*) FILTER (WHERE t.state IN ('complete', 'resolved_manually')) AS complete, count(*) FILTER (WHERE t.state IN ('error', 'blocked_by_failures')) AS failed,
               count(*) FILTER (WHERE t.state = 'cancelled') AS cancelled, array_agg(tasker.ms_between(greatest(t.created_at, t.run_at), t.finished_at)) AS took
        FROM unnest(p_ids) AS i(id) CROSS JOIN LATERAL (SELECT x.* FROM tasker.tasks x WHERE x.task_id = i.id OFFSET 0) t GROUP BY t.template_id) g
  JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
$$;

-- Of each step of each template: attempts by outcome, how long they waited for a worker, ran, and took to be recorded; and what its failures were, the most frequent first.
CREATE FUNCTION tasker.step_figures(p_ids bigint[]) RETURNS jsonb LANGUAGE sql STABLE AS $$
  WITH a AS MATERIALIZED (
    SELECT t.template_id, s.template_no, x.outcome, x.attempt, coalesce(x.error ->> 'error_type', x.error ->> 'error_code', x.outcome::text) AS error_type, x.error ->> 'message' AS message,
           tasker.ms_between(x.ready_at, x.claimed_at) AS waited, coalesce(x.execution_ms, tasker.ms_between(x.claimed_at, x.finished_at))::double precision AS ran, tasker.ms_between(x.finished_at, x.recorded_at) AS recorded
    FROM unnest(p_ids) AS i(id)
    CROSS JOIN LATERAL (SELECT y.task_id, y.template_id FROM tasker.tasks y WHERE y.task_id = i.id OFFSET 0) t
    CROSS JOIN LATERAL (SELECT y.* FROM tasker.step_attempts y WHERE y.task_id = t.task_id AND y.outcome <> 'released' OFFSET 0) x
    CROSS JOIN LATERAL (SELECT y.template_no FROM tasker.steps y WHERE y.task_id = t.task_id AND y.step_no = x.step_no OFFSET 0) s),
  e AS (SELECT c.template_id, c.template_no, jsonb_agg(jsonb_build_object('error_type', c.error_type, 'n', c.n, 'message', left(c.message, 200)) ORDER BY c.n DESC, c.error_type) FILTER (WHERE c.rank <= 5) AS errors
        FROM (SELECT a.template_id, a.template_no, a.error_type, count(*) AS n, max(a.message) AS message, row_number() OVER (PARTITION BY a.template_id, a.template_no ORDER BY count(*) DESC, a.error_type) AS rank
              FROM a WHERE a.outcome NOT IN ('success', 'cancelled') GROUP BY 1, 2, 3) c GROUP BY 1, 2),
  g AS (SELECT a.template_id, a.template_no, count(*) AS attempts, count(*) FILTER (WHERE a.outcome = 'success') AS succeeded, count(*) FILTER (WHERE a.outcome NOT IN ('success', 'cancelled')) AS failed,
               count(*) FILTER (WHERE a.attempt > 1) AS retried, count(*) FILTER (WHERE a.outcome = 'timeout') AS timeouts, count(*) FILTER (WHERE a.outcome = 'worker_lost') AS lost,
               array_agg(a.waited) AS waited, array_agg(a.ran) AS ran, array_agg(a.recorded) AS recorded FROM a GROUP BY 1, 2)
  SELECT coalesce(jsonb_agg(jsonb_build_object('namespace', n.name, 'name', tp.name, 'version', tp.version, 'step', ts.name, 'handler', ts.handler ->> 'callable', 'attempts', g.attempts, 'succeeded', g.succeeded,
           'failed', g.failed, 'retried', g.retried, 'timeouts', g.timeouts, 'workers_lost', g.lost, 'failure_rate', round(g.failed::numeric / g.attempts, 4), 'errors', coalesce(e.errors, '[]'),
           'wait_ms', tasker.spread(g.waited), 'run_ms', tasker.spread(g.ran), 'record_ms', tasker.spread(g.recorded)) ORDER BY n.name, tp.name, tp.version_key, tp.prerelease, ts.step_no), '[]')
  FROM g
  JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
  CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = g.template_id AND i.step_no = g.template_no OFFSET 0) ts
  LEFT JOIN e ON e.template_id = g.template_id AND e.template_no = g.template_no
$$;

CREATE FUNCTION tasker.slowest_tasks(p_ids bigint[], p_limit int) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object('task_uuid', k.task_uuid, 'namespace', n.name, 'name', tp.name, 'version', tp.version, 'state', k.state, 'created_at', tasker.rfc3339(k.created_at),
           'finished_at', tasker.rfc3339(k.finished_at), 'duration_ms', round(k.took::numeric, 3)) ORDER BY k.took DESC, k.task_id), '[]')
  FROM (SELECT t.task_id, t.task_uuid, t.template_id, t.state, t.created_at, t.finished_at, tasker.ms_between(greatest(t.created_at, t.run_at), coalesce(t.finished_at, now())) AS took
        FROM unnest(p_ids) AS i(id) CROSS JOIN LATERAL (SELECT x.* FROM tasker.tasks x WHERE x.task_id = i.id OFFSET 0) t
        ORDER BY took DESC, t.task_id LIMIT p_limit) k
  JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
$$;

-- Over the newest tasks that fit, created in a range of time.
CREATE FUNCTION tasker.api_analytics(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE SET work_mem = '64MB' AS $$
DECLARE
  v_most CONSTANT int := coalesce((p ->> 'max_tasks')::int, 20000);
  v_found record;
  v_steps jsonb;
BEGIN
  SELECT f.* INTO v_found FROM tasker.find_tasks(p, 9223372036854775807, v_most + 1, 500000) f;
  v_steps := tasker.step_figures(v_found.o_ids[1:v_most]);
  RETURN jsonb_build_object(
    'scanned', jsonb_build_object('tasks', least(cardinality(v_found.o_ids), v_most), 'attempts', coalesce((SELECT sum((s ->> 'attempts')::bigint) FROM jsonb_array_elements(v_steps) s), 0), 'max_tasks', v_most,
      'whole', cardinality(v_found.o_ids) <= v_most AND v_found.o_low IS NULL,
      'from', (SELECT tasker.rfc3339(t.created_at) FROM tasker.tasks t WHERE t.task_id = v_found.o_ids[least(cardinality(v_found.o_ids), v_most)]),
      'to', (SELECT tasker.rfc3339(t.created_at) FROM tasker.tasks t WHERE t.task_id = v_found.o_ids[1])),
    'templates', tasker.template_figures(v_found.o_ids[1:v_most]), 'steps', v_steps, 'slowest', tasker.slowest_tasks(v_found.o_ids[1:v_most], coalesce((p ->> 'limit')::int, 20)));
END $$;
