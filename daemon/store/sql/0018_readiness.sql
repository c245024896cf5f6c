-- What is asked for over HTTP by those who come from the reference: how far steps are from running, a task as it is drawn, who produced what, and two more views of the figures. Each costs when it
-- is asked for, and looks at a bounded number of rows.

-- How far the steps p_from .. p_to of a task are from running. Parents are those there are: of a step that a batch feeds, all of its workers.
CREATE FUNCTION tasker.readiness(p_task bigint, p_from int, p_to int) RETURNS TABLE (step_no int, facts jsonb) LANGUAGE sql STABLE SET enable_hashjoin = on AS $$
  WITH s AS MATERIALIZED (SELECT x.step_no, x.template_no, x.state, x.pending_parents, x.attempts, x.ready_at, x.claimed_at, x.finished_at, x.retry_at FROM tasker.step_rows(p_task) x),
  w AS MATERIALIZED (
    SELECT s.*, ts.parents, ts.retryable, ts.max_attempts, t.created_at
    FROM tasker.task_rows(p_task) t CROSS JOIN s CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
    WHERE s.step_no BETWEEN p_from AND p_to),
  edges AS MATERIALIZED (
    SELECT e.child, count(*) AS total, count(*) FILTER (WHERE s.state IN ('complete', 'resolved_manually')) AS done
    FROM (SELECT w.step_no AS child, p.no FROM w CROSS JOIN LATERAL unnest(w.parents) AS p(no)) e JOIN s ON s.template_no = e.no GROUP BY e.child)
  SELECT w.step_no, jsonb_build_object('retryable', w.retryable, 'dependencies_satisfied', w.pending_parents = 0, 'retry_eligible', w.state <> 'error' AND (w.attempts = 0 OR w.retryable AND w.attempts < w.max_attempts),
    'ready_for_execution', w.state = 'enqueued' OR w.state = 'waiting_for_retry' AND w.retry_at <= now(), 'total_parents', coalesce(e.total, 0), 'completed_parents', coalesce(e.done, 0),
    'last_failure_at', tasker.rfc3339(coalesce(a.failed_at, CASE WHEN w.state = 'error' THEN w.finished_at END)),
    'backoff_request_seconds', CASE WHEN w.state = 'waiting_for_retry' THEN ceil(extract(epoch FROM w.retry_at - w.claimed_at))::int END,
    'created_at', tasker.rfc3339(w.created_at), 'updated_at', tasker.rfc3339(greatest(w.created_at, w.ready_at, w.claimed_at, w.finished_at)), 'metadata', a.metadata)
  FROM w LEFT JOIN edges e ON e.child = w.step_no
  LEFT JOIN LATERAL (
    SELECT max(x.recorded_at) FILTER (WHERE x.outcome NOT IN ('success', 'released', 'cancelled')) AS failed_at, (array_agg(x.metadata ORDER BY x.fence DESC))[1] AS metadata
    FROM tasker.step_attempts x WHERE x.task_id = p_task AND x.step_no = w.step_no) a ON w.attempts > 0
$$;

-- A task object whose steps have their readiness, and nothing of what handlers were given and gave if p_bare.
CREATE FUNCTION tasker.with_readiness(p_id bigint, p_task jsonb, p_bare boolean) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_facts jsonb[];
BEGIN
  IF jsonb_array_length(p_task -> 'steps') > 0 THEN
    SELECT array_agg(r.facts ORDER BY r.step_no) INTO v_facts FROM tasker.readiness(p_id, tasker.step_no_in(p_task #>> '{steps,0,step_uuid}'), tasker.step_no_in(p_task #>> '{steps,-1,step_uuid}')) r;
  END IF;
  IF NOT p_task ? 'steps' THEN -- archived without them
    RETURN p_task;
  END IF;
  RETURN p_task || jsonb_build_object('steps', coalesce((
    SELECT jsonb_agg(CASE WHEN p_bare THEN e.item - '{result,inputs,checkpoint,error}'::text[] || jsonb_build_object('error_message', left(e.item #>> '{error,message}', 200)) || (v_facts[e.ord] - 'metadata')
                          ELSE e.item || v_facts[e.ord] END ORDER BY e.ord)
    FROM jsonb_array_elements(p_task -> 'steps') WITH ORDINALITY AS e(item, ord)), '[]'));
END $$;

-- task.summary: a task to be drawn, without payloads. {"task_uuid", "limit", "cursor"}
CREATE FUNCTION tasker.api_task_summary(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_task jsonb := tasker.api_task_get(jsonb_build_object('limit', 1000) || p || '{"lenient": true}');
  a record := tasker.archived_task(p ->> 'task_uuid');
  v_id bigint := coalesce(a.task_id, (SELECT t.task_id FROM tasker.tasks t WHERE t.task_uuid = (p ->> 'task_uuid')::uuid));
  v_template jsonb := tasker.api_template_get(v_task);
BEGIN
  v_task := tasker.with_readiness(v_id, v_task, true);
  RETURN jsonb_build_object('task', v_task - '{context,steps,next_cursor,request}'::text[],
    'template', v_template - '{definition,steps}'::text[] || jsonb_build_object('description', v_template #> '{definition,description}', 'steps', (
      SELECT coalesce(jsonb_agg(jsonb_build_object('name', s -> 'name', 'type', s -> 'type', 'depends_on', s -> 'depends_on', 'handler', s #> '{handler,callable}', 'retryable', s -> 'retryable',
                                                   'max_attempts', s -> 'max_attempts', 'timeout_ms', s -> 'timeout_ms') ORDER BY (s ->> 'no')::int), '[]') FROM jsonb_array_elements(v_template -> 'steps') s)),
    'steps', v_task -> 'steps', 'next_cursor', v_task -> 'next_cursor',
    'dlq', (SELECT tasker.dlq_object(d, false) FROM tasker.dlq d WHERE d.task_id = v_id ORDER BY d.dlq_id DESC LIMIT 1));
END $$;

-- step.audit: who produced which result, the newest first. {"task_uuid" and "step", or "step_uuid"; "limit", "cursor"}
CREATE FUNCTION tasker.api_step_audit(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  k record := tasker.step_of(p);
  v_limit CONSTANT int := coalesce((p ->> 'limit')::int, 100);
  v_below CONSTANT int := tasker.read_cursor(p, '^[0-9]{1,9}$')::int;
  v_rows jsonb; v_n int; v_last int;
BEGIN
  SELECT jsonb_agg(x.row ORDER BY x.fence DESC) FILTER (WHERE x.k <= v_limit), count(*), min(x.fence) FILTER (WHERE x.k <= v_limit) INTO v_rows, v_n, v_last
  FROM (
    SELECT a.fence, row_number() OVER (ORDER BY a.fence DESC) AS k, jsonb_build_object(
      'audit_uuid', tasker.derived_uuid('audit', t.task_uuid::text, a.step_no::text, a.fence::text), 'workflow_step_uuid', tasker.step_uuid(t.task_uuid, a.step_no),
      'transition_uuid', tasker.derived_uuid('step transition', t.task_uuid::text, a.step_no::text, h.sort_key::text), 'task_uuid', t.task_uuid, 'recorded_at', tasker.rfc3339(a.recorded_at),
      'worker_uuid', a.worker_uuid, 'node', nd.node_name, 'correlation_id', coalesce(t.correlation_id, t.task_uuid::text), 'success', a.outcome = 'success', 'execution_time_ms', round(a.execution_ms)::bigint,
      'result', CASE WHEN a.outcome = 'success' AND a.fence = s.fence THEN s.result END, 'error', a.error, 'metadata', a.metadata, 'attempt', a.attempt, 'outcome', a.outcome,
      'step_name', tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs), 'from_state', 'in_progress', 'to_state', h.state) AS row
    FROM tasker.steps s JOIN tasker.tasks t ON t.task_id = s.task_id
    CROSS JOIN LATERAL (SELECT i.name FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
    JOIN tasker.step_attempts a ON a.task_id = s.task_id AND a.step_no = s.step_no
    LEFT JOIN tasker.nodes nd ON nd.node_no = a.node_no
    LEFT JOIN (SELECT x.fence, x.event, x.state, row_number() OVER (ORDER BY x.fence, x.rank, x.at) AS sort_key FROM tasker.step_history x WHERE x.task_id = k.task_id AND x.step_no = k.step_no) h
      ON h.fence = a.fence AND h.event = 'recorded'
    WHERE s.task_id = k.task_id AND s.step_no = k.step_no AND a.outcome <> 'released' AND (v_below IS NULL OR a.fence < v_below)
    ORDER BY a.fence DESC LIMIT v_limit + 1) x;
  RETURN jsonb_build_object('audit', coalesce(v_rows, '[]'), 'next_cursor', CASE WHEN v_n > v_limit THEN v_last::text END);
END $$;

-- Figures ----------------------------------------------------------------------------------------------------------------

-- analytics.performance: {"hours", "namespace"}. Counts of the newest 100,000 tasks; rates and means of those of them that were created in the last hours.
CREATE FUNCTION tasker.api_analytics_performance(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE SET work_mem = '64MB' AS $$
DECLARE
  v_hours CONSTANT int := coalesce(nullif((p ->> 'hours')::int, 0), 24);
  v_from CONSTANT timestamptz := now() - make_interval(hours => v_hours);
  w record; c record; a record;
BEGIN
  SELECT x.* INTO w FROM tasker.walk_tasks(tasker.list_condition(p), 9223372036854775807, 100000, 100000) x;
  SELECT count(*) AS total, count(*) FILTER (WHERE t.state IN ('complete', 'resolved_manually')) AS completed, count(*) FILTER (WHERE t.state IN ('error', 'blocked_by_failures')) AS failed,
         count(*) FILTER (WHERE t.state NOT IN ('complete', 'resolved_manually', 'error', 'cancelled', 'blocked_by_failures')) AS active,
         count(*) FILTER (WHERE t.finished_at >= v_from) AS finished, avg(tasker.ms_between(greatest(t.created_at, t.run_at), t.finished_at)) FILTER (WHERE t.finished_at >= v_from) AS task_ms,
         (array_agg(t.task_id ORDER BY t.task_id DESC) FILTER (WHERE t.created_at >= v_from))[1:20000] AS recent
  INTO c FROM unnest(w.o_ids) AS i(id) CROSS JOIN LATERAL (SELECT y.* FROM tasker.tasks y WHERE y.task_id = i.id OFFSET 0) t;
  SELECT count(*) AS steps, avg(coalesce(x.execution_ms, tasker.ms_between(x.claimed_at, x.finished_at))) AS step_ms INTO a
  FROM unnest(c.recent) AS i(id) CROSS JOIN LATERAL (SELECT y.* FROM tasker.step_attempts y WHERE y.task_id = i.id AND y.outcome = 'success' OFFSET 0) x;
  RETURN jsonb_build_object('total_tasks', c.total, 'active_tasks', c.active, 'completed_tasks', c.completed, 'failed_tasks', c.failed,
    'completion_rate', round(100.0 * c.completed / greatest(c.total, 1), 2), 'error_rate', round(100.0 * c.failed / greatest(c.total, 1), 2),
    'average_task_duration_seconds', round(coalesce(c.task_ms, 0)::numeric / 1000, 3), 'average_step_duration_seconds', round(coalesce(a.step_ms, 0)::numeric / 1000, 3),
    'tasks_per_hour', round(c.finished::numeric / v_hours, 3), 'steps_per_hour', round(a.steps::numeric / v_hours, 3),
    'system_health_score', round(CASE WHEN c.completed + c.failed = 0 THEN 100 ELSE 100.0 * c.completed / (c.completed + c.failed) END, 2),
    'analysis_period_start', tasker.rfc3339(v_from), 'calculated_at', tasker.rfc3339(now()), 'whole', w.o_low IS NULL AND coalesce(cardinality(c.recent), 0) < 20000);
END $$;

-- What of the newest 20,000 tasks took longest, by step and by template, where there are as many runs as asked for.
CREATE FUNCTION tasker.slow_steps(p_ids bigint[], p_least int, p_limit int) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object('namespace_name', n.name, 'task_name', tp.name, 'version', tp.version, 'step_name', ts.name, 'average_duration_seconds', round(g.mean::numeric / 1000, 3),
           'max_duration_seconds', round(g.most::numeric / 1000, 3), 'execution_count', g.n, 'error_count', g.errors, 'error_rate', round(100.0 * g.errors / g.n, 2), 'last_executed_at', tasker.rfc3339(g.last))
           ORDER BY g.mean DESC, g.template_id, g.template_no), '[]')
  FROM (SELECT t.template_id, s.template_no, avg(m.ms) AS mean, max(m.ms) AS most, count(*) AS n, count(*) FILTER (WHERE x.outcome <> 'success') AS errors, max(x.claimed_at) AS last
        FROM unnest(p_ids) AS i(id)
        CROSS JOIN LATERAL (SELECT y.task_id, y.template_id FROM tasker.tasks y WHERE y.task_id = i.id OFFSET 0) t
        CROSS JOIN LATERAL (SELECT y.* FROM tasker.step_attempts y WHERE y.task_id = t.task_id AND y.outcome NOT IN ('released', 'cancelled') OFFSET 0) x
        CROSS JOIN LATERAL (SELECT y.template_no FROM tasker.steps y WHERE y.task_id = t.task_id AND y.step_no = x.step_no OFFSET 0) s
        CROSS JOIN LATERAL (SELECT coalesce(x.execution_ms, tasker.ms_between(x.claimed_at, x.finished_at)) AS ms) m
        GROUP BY 1, 2 HAVING count(*) >= p_least ORDER BY 3 DESC, 1, 2 LIMIT p_limit) g
  JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
  CROSS JOIN LATERAL (SELECT i.name FROM tasker.template_steps i WHERE i.template_id = g.template_id AND i.step_no = g.template_no OFFSET 0) ts
$$;

CREATE FUNCTION tasker.slow_templates(p_ids bigint[], p_least int, p_limit int) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object('namespace_name', n.name, 'task_name', tp.name, 'version', tp.version, 'average_duration_seconds', round(g.mean::numeric / 1000, 3),
           'max_duration_seconds', round(g.most::numeric / 1000, 3), 'execution_count', g.n, 'average_step_count', tp.n_steps, 'error_count', g.errors, 'error_rate', round(100.0 * g.errors / g.n, 2),
           'last_executed_at', tasker.rfc3339(g.last)) ORDER BY g.mean DESC, g.template_id), '[]')
  FROM (SELECT t.template_id, avg(m.ms) AS mean, max(m.ms) AS most, count(*) AS n, count(*) FILTER (WHERE t.state IN ('error', 'blocked_by_failures')) AS errors, max(t.created_at) AS last
        FROM unnest(p_ids) AS i(id) CROSS JOIN LATERAL (SELECT y.* FROM tasker.tasks y WHERE y.task_id = i.id OFFSET 0) t
        CROSS JOIN LATERAL (SELECT tasker.ms_between(greatest(t.created_at, t.run_at), coalesce(t.finished_at, now())) AS ms) m
        WHERE t.state <> 'pending' GROUP BY 1 HAVING count(*) >= p_least ORDER BY 2 DESC, 1 LIMIT p_limit) g
  JOIN tasker.templates tp USING (template_id) JOIN tasker.namespaces n USING (namespace_id)
$$;

-- How many tasks are in which state, as {"pending_tasks": 3, ...}.
CREATE FUNCTION tasker.count_states(p_ids bigint[]) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_object_agg(e.state || '_tasks', coalesce(g.n, 0)) || jsonb_build_object('total_tasks', cardinality(p_ids))
  FROM unnest(enum_range(NULL::tasker.task_state)) AS e(state)
  LEFT JOIN (SELECT t.state, count(*) AS n FROM unnest(p_ids) AS i(id) CROSS JOIN LATERAL (SELECT y.state FROM tasker.tasks y WHERE y.task_id = i.id OFFSET 0) t GROUP BY t.state) g ON g.state = e.state
$$;

-- analytics.bottlenecks: {"limit", "min_executions", "namespace"}
CREATE FUNCTION tasker.api_analytics_bottlenecks(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE SET work_mem = '64MB' AS $$
DECLARE
  v_limit CONSTANT int := coalesce((p ->> 'limit')::int, 10);
  v_least CONSTANT int := coalesce((p ->> 'min_executions')::int, 5);
  v_ids bigint[]; v_low bigint; v_steps jsonb; v_tasks jsonb; v_used numeric; v_worst jsonb;
BEGIN
  SELECT f.o_ids, f.o_low INTO v_ids, v_low FROM tasker.find_tasks(p - 'limit', 9223372036854775807, 20000, 500000) f;
  v_steps := tasker.slow_steps(v_ids, v_least, v_limit);
  v_tasks := tasker.slow_templates(v_ids, v_least, v_limit);
  SELECT round(count(*)::numeric / current_setting('max_connections')::int, 4) INTO v_used FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend';
  SELECT s INTO v_worst FROM jsonb_array_elements(v_steps) s WHERE (s ->> 'error_rate')::numeric > 20 ORDER BY (s ->> 'error_rate')::numeric DESC LIMIT 1;
  RETURN jsonb_build_object('slow_steps', v_steps, 'slow_tasks', v_tasks,
    'resource_utilization', jsonb_build_object('database_pool_utilization', v_used, 'system_health', tasker.count_states(v_ids)),
    'recommendations', to_jsonb(array_remove(ARRAY[
      CASE WHEN v_worst IS NOT NULL THEN format('step %s of %s/%s fails in %s %% of its attempts', v_worst ->> 'step_name', v_worst ->> 'namespace_name', v_worst ->> 'task_name', v_worst ->> 'error_rate') END,
      CASE WHEN v_used > 0.8 THEN format('%s %% of the connections that the database server allows are in use', round(100 * v_used)) END,
      CASE WHEN (v_steps #>> '{0,average_duration_seconds}')::numeric > 30 THEN format('step %s of %s/%s runs for %s s on average', v_steps #>> '{0,step_name}', v_steps #>> '{0,namespace_name}', v_steps #>> '{0,task_name}',
                                                                                       v_steps #>> '{0,average_duration_seconds}') END], NULL)),
    'scanned', jsonb_build_object('tasks', cardinality(v_ids), 'whole', v_low IS NULL AND cardinality(v_ids) < 20000));
END $$;
