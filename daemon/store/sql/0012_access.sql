-- Who may do what: peers of the daemon, and roles of the database.

-- What the daemon asks before it lets a peer that is restricted to some namespaces see or touch what it names.

-- The namespaces of tasks and of dead-letter entries, one for each that is named: null if there is no such.
CREATE FUNCTION tasker.api_namespaces_of(p jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('namespaces', coalesce(jsonb_agg(coalesce(
    (SELECT n.name FROM tasker.tasks t JOIN tasker.templates tp ON tp.template_id = t.template_id JOIN tasker.namespaces n ON n.namespace_id = tp.namespace_id WHERE t.task_uuid = k.task),
    (SELECT n.name FROM tasker.archived_tasks a JOIN tasker.templates tp ON tp.template_id = (a.task).template_id JOIN tasker.namespaces n ON n.namespace_id = tp.namespace_id WHERE a.task_uuid = k.task))), '[]'))
  FROM (SELECT x.u::uuid AS task FROM jsonb_array_elements_text(p -> 'tasks') AS x(u)
        UNION ALL
        SELECT (SELECT t.task_uuid FROM tasker.dlq d JOIN tasker.tasks t ON t.task_id = d.task_id WHERE d.dlq_uuid = x.u::uuid) FROM jsonb_array_elements_text(p -> 'entries') AS x(u)) k
$$;

-- Roles ------------------------------------------------------------------------------------------------------------------

-- Give a role what one of three needs, and no more: 'daemon' runs taskerd without owning anything; 'submitter' makes tasks by SQL; 'reader' looks at the views. To be called by the
-- owner (who has run taskerd --migrate), again at any time; docs/security.md says what each can and cannot do. A role that is not there is made, without a login of its own.
CREATE FUNCTION tasker.grant_role(p_kind text, p_role name) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_statement text;
  v_statements text[] := CASE p_kind
    WHEN 'daemon' THEN ARRAY[
      'GRANT USAGE ON SCHEMA tasker, pgmq TO %1$I',
      'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tasker, pgmq TO %1$I',
      'GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA tasker, pgmq TO %1$I',
      'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tasker, pgmq TO %1$I',
      'REVOKE EXECUTE ON FUNCTION tasker.grant_role FROM %1$I',
      'REVOKE INSERT, UPDATE, DELETE ON tasker.schema_migrations, tasker.channels FROM %1$I',
      'REVOKE UPDATE ON tasker.operator_actions, tasker.task_transitions, tasker.step_attempts FROM %1$I', -- what has happened has happened
      'ALTER DEFAULT PRIVILEGES IN SCHEMA tasker, pgmq GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %1$I',
      'ALTER DEFAULT PRIVILEGES IN SCHEMA tasker, pgmq GRANT USAGE, SELECT ON SEQUENCES TO %1$I',
      'ALTER DEFAULT PRIVILEGES IN SCHEMA tasker, pgmq GRANT EXECUTE ON FUNCTIONS TO %1$I']
    WHEN 'submitter' THEN ARRAY[
      'GRANT USAGE ON SCHEMA tasker TO %1$I',
      'GRANT EXECUTE ON FUNCTION tasker.create_task, tasker.submit_task TO %1$I']
    WHEN 'reader' THEN ARRAY[
      'GRANT USAGE ON SCHEMA tasker_views, tasker TO %1$I',
      'GRANT SELECT ON ALL TABLES IN SCHEMA tasker_views TO %1$I',
      'GRANT SELECT ON tasker.task_history, tasker.step_history TO %1$I',
      'GRANT EXECUTE ON FUNCTION tasker.step_uuid, tasker.step_name, tasker.derived_uuid, tasker.born_as TO %1$I']
    END;
BEGIN
  IF v_statements IS NULL THEN
    RAISE EXCEPTION 'there is no kind of role %', quote_literal(p_kind) USING ERRCODE = 'TK400', HINT = 'There are daemon, submitter and reader.';
  ELSIF NOT EXISTS (SELECT 1 FROM pg_namespace n WHERE n.nspname = 'tasker' AND pg_has_role(n.nspowner, 'USAGE')) THEN
    RAISE EXCEPTION 'only the owner of the schema tasker can grant its roles' USING ERRCODE = '42501', HINT = 'Connect as the role that ran taskerd --migrate.';
  ELSIF NOT EXISTS (SELECT 1 FROM pg_roles r WHERE r.rolname = p_role) THEN
    EXECUTE format('CREATE ROLE %I NOLOGIN', p_role);
  END IF;
  FOREACH v_statement IN ARRAY v_statements LOOP
    EXECUTE format(v_statement, p_role);
  END LOOP;
END $$;
