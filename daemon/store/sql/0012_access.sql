-- What the daemon asks before it lets a peer that is restricted to some namespaces see or touch what it names.

-- The namespaces of tasks and of dead-letter entries, one for each that is named: null if there is no such.
CREATE FUNCTION tasker.api_namespaces_of(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('namespaces', coalesce(jsonb_agg(coalesce(
    (SELECT n.name FROM tasker.tasks t JOIN tasker.templates tp ON tp.template_id = t.template_id JOIN tasker.namespaces n ON n.namespace_id = tp.namespace_id WHERE t.task_uuid = k.task),
    (SELECT a.namespace FROM tasker.archived_tasks a WHERE a.task_uuid = k.task))), '[]'))
  FROM (SELECT x.u::uuid AS task FROM jsonb_array_elements_text(p -> 'tasks') AS x(u)
        UNION ALL
        SELECT (SELECT t.task_uuid FROM tasker.dlq d JOIN tasker.tasks t ON t.task_id = d.task_id WHERE d.dlq_uuid = x.u::uuid) FROM jsonb_array_elements_text(p -> 'entries') AS x(u)) k
$$;
