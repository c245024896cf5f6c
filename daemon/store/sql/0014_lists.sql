-- Looking for tasks, and acting on many that were found. No index covers a column that the hot path changes, so a list is a walk over the primary key, newest first, in chunks that grow and within a budget: what is common is found at
-- once, what is rare by a few calls. A correlation id has an index, tags and times of creation have one each that is asked when the walk does not find enough soon.

CREATE FUNCTION tasker.list_states(p jsonb) RETURNS tasker.task_state[] LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_texts text[] := ARRAY(SELECT p ->> 'state' WHERE p ->> 'state' IS NOT NULL
                          UNION ALL SELECT x FROM jsonb_array_elements_text(CASE jsonb_typeof(p -> 'states') WHEN 'array' THEN p -> 'states' ELSE '[]' END) x);
  v_text text;
BEGIN
  FOREACH v_text IN ARRAY v_texts LOOP
    IF v_text <> ALL (enum_range(NULL::tasker.task_state)::text[]) THEN
      RAISE EXCEPTION 'unknown state %: one of % is expected', quote_literal(left(v_text, 40)), array_to_string(enum_range(NULL::tasker.task_state), ', ')
        USING ERRCODE = 'TK400', COLUMN = CASE WHEN p ->> 'state' = v_text THEN 'state' ELSE 'states' END;
    END IF;
  END LOOP;
  RETURN nullif(v_texts, '{}')::tasker.task_state[];
END $$;

-- When something last happened to it, as in the task object.
CREATE FUNCTION tasker.updated_at(t tasker.tasks) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT greatest(t.created_at, t.finished_at, CASE WHEN t.finished_at IS NULL THEN
    (SELECT max(coalesce(s.finished_at, s.claimed_at)) FROM tasker.steps s WHERE s.task_id = t.task_id) END)
$$;

-- Where tasks t with a correlation id are, as SQL; NULL: anywhere. Of a task that was given none it is its uuid: two look-ups that are merged, since a condition with OR has no index.
CREATE FUNCTION tasker.list_source(p_correlation text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN p_correlation IS NULL THEN 'tasker.tasks t'
    WHEN p_correlation ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
      format('(SELECT x.* FROM tasker.tasks x WHERE x.correlation_id = %1$L UNION ALL SELECT x.* FROM tasker.tasks x WHERE x.task_uuid = %1$L AND x.correlation_id IS NULL) t', p_correlation)
    ELSE format('(SELECT x.* FROM tasker.tasks x WHERE x.correlation_id = %L) t', p_correlation) END
$$;

-- The other conditions of task.list on a row t of tasker.tasks, as SQL. The cheap ones come first.
CREATE FUNCTION tasker.list_condition(p jsonb) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_all text[] := '{}';
  c_time CONSTANT text[] := ARRAY['created_after', 't.created_at >= %L', 'created_before', 't.created_at < %L', 'updated_after', 'tasker.updated_at(t) >= %L', 'updated_before', 'tasker.updated_at(t) < %L'];
BEGIN
  IF p ->> 'namespace' IS NOT NULL OR p ->> 'name' IS NOT NULL OR p ->> 'version' IS NOT NULL OR p -> 'within' IS NOT NULL THEN
    v_all := v_all || format('t.template_id = ANY (%L)', ARRAY(
      SELECT tp.template_id FROM tasker.templates tp JOIN tasker.namespaces n USING (namespace_id)
      WHERE (p ->> 'namespace' IS NULL OR n.name = p ->> 'namespace') AND (p ->> 'name' IS NULL OR tp.name = p ->> 'name') AND (p ->> 'version' IS NULL OR tp.version = p ->> 'version')
        AND tasker.is_within(p, n.name)));
  END IF;
  IF tasker.list_states(p) IS NOT NULL THEN
    v_all := v_all || format('t.state = ANY (%L)', tasker.list_states(p));
  END IF;
  IF p ->> 'paused' IS NOT NULL THEN
    v_all := v_all || CASE WHEN (p ->> 'paused')::boolean THEN 't.paused' ELSE 'NOT t.paused' END;
  END IF;
  IF p ->> 'priority_min' IS NOT NULL THEN
    v_all := v_all || format('t.priority >= %L', p ->> 'priority_min');
  END IF;
  IF p ->> 'priority_max' IS NOT NULL THEN
    v_all := v_all || format('t.priority <= %L', p ->> 'priority_max');
  END IF;
  IF p ->> 'initiator' IS NOT NULL THEN
    v_all := v_all || format('t.initiator = %L', p ->> 'initiator');
  END IF;
  IF p ->> 'source_system' IS NOT NULL THEN
    v_all := v_all || format('t.source_system = %L', p ->> 'source_system');
  END IF;
  IF p ->> 'tag' IS NOT NULL THEN
    v_all := v_all || format('t.tags @> %L', ARRAY[p ->> 'tag']);
  END IF;
  FOR i IN 1 .. cardinality(c_time) BY 2 LOOP
    IF p ->> c_time[i] IS NOT NULL THEN
      BEGIN
        v_all := v_all || format(c_time[i + 1], (p ->> c_time[i])::timestamptz);
      EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION '% is no time: %', c_time[i], quote_literal(left(p ->> c_time[i], 40)) USING ERRCODE = 'TK400', COLUMN = c_time[i];
      END;
    END IF;
  END LOOP;
  RETURN coalesce(nullif(array_to_string(v_all, ' AND '), ''), 'true');
END $$;

-- Ids below a cursor, newest first, at most p_most; o_seen: of so many tasks that were looked at, down to o_low (NULL: down to the first one).
CREATE FUNCTION tasker.walk_tasks(p_condition text, p_below bigint, p_most int, p_budget int, OUT o_ids bigint[], OUT o_low bigint, OUT o_seen bigint) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$ -- or without statistics a chunk might be sorted out of the whole table
DECLARE
  v_chunk int := least(1000, p_budget); v_ids bigint[]; v_n int; v_low bigint := p_below;
BEGIN
  o_ids := '{}';
  o_seen := 0;
  LOOP
    EXECUTE format('SELECT array_agg(x.task_id ORDER BY x.task_id DESC) FILTER (WHERE x.ok), count(*), min(x.task_id)
                    FROM (SELECT t.task_id, (%s) AS ok FROM tasker.tasks t WHERE t.task_id < $1 ORDER BY t.task_id DESC LIMIT $2) x', p_condition) INTO v_ids, v_n, o_low USING v_low, v_chunk;
    o_ids := o_ids || coalesce(v_ids, '{}');
    o_seen := o_seen + v_n;
    EXIT WHEN v_n < v_chunk OR cardinality(o_ids) >= p_most OR o_seen >= p_budget;
    v_low := o_low;
    v_chunk := least(v_chunk * 4, p_budget - o_seen);
  END LOOP;
  IF v_n < v_chunk THEN
    o_low := NULL;
  END IF;
  o_ids := o_ids[1:p_most];
END $$;

-- Ids below a cursor that fit, newest first, at most p_most; o_low: where to go on if there are not so many (NULL: at the end).
CREATE FUNCTION tasker.find_tasks(p jsonb, p_below bigint, p_most int, p_budget int, OUT o_ids bigint[], OUT o_low bigint) LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
DECLARE
  v_condition CONSTANT text := tasker.list_condition(p);
  v_indexed CONSTANT boolean := coalesce(p ->> 'tag', p ->> 'created_after', p ->> 'created_before') IS NOT NULL;
BEGIN
  IF p ->> 'correlation_id' IS NOT NULL THEN
    EXECUTE format('SELECT ARRAY(SELECT t.task_id FROM %s WHERE %s AND t.task_id < $1 ORDER BY t.task_id DESC LIMIT $2)', tasker.list_source(p ->> 'correlation_id'), v_condition)
      INTO o_ids USING p_below, p_most;
    RETURN;
  END IF;
  SELECT w.o_ids, w.o_low INTO o_ids, o_low FROM tasker.walk_tasks(v_condition, p_below, p_most, CASE WHEN v_indexed THEN 5000 ELSE p_budget END) w;
  IF v_indexed AND cardinality(o_ids) < p_most AND o_low IS NOT NULL THEN -- OFFSET 0: by its index, not by another walk
    EXECUTE format('SELECT ARRAY(SELECT x.task_id FROM (SELECT t.task_id FROM tasker.tasks t WHERE %s OFFSET 0) x WHERE x.task_id < $1 ORDER BY x.task_id DESC LIMIT $2)', v_condition)
      INTO o_ids USING p_below, p_most;
    o_low := NULL;
  END IF;
END $$;

-- A page by its number, for those who count pages: of the newest 100,000 that fit.
CREATE FUNCTION tasker.numbered_page(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_page CONSTANT int := (p ->> 'page')::int;
  v_limit CONSTANT int := coalesce((p ->> 'limit')::int, 25);
  v_ids bigint[]; v_low bigint; v_pages int;
BEGIN
  IF p ->> 'cursor' IS NOT NULL THEN
    RAISE EXCEPTION 'page and cursor do not go together' USING ERRCODE = 'TK400', COLUMN = 'page';
  END IF;
  SELECT f.o_ids, f.o_low INTO v_ids, v_low FROM tasker.find_tasks(p, 9223372036854775807, 100000, 200000) f;
  v_pages := ceil(cardinality(v_ids)::numeric / v_limit);
  RETURN jsonb_build_object(
    'tasks', coalesce((SELECT jsonb_agg(tasker.task_object(i, false) ORDER BY i DESC) FROM unnest(v_ids[(v_page - 1) * v_limit + 1 : v_page * v_limit]) AS i), '[]'),
    'next_cursor', CASE WHEN v_page < v_pages THEN v_ids[v_page * v_limit]::text END,
    'pagination', jsonb_build_object('page', v_page, 'per_page', v_limit, 'total_count', cardinality(v_ids), 'total_pages', v_pages, 'has_next', v_page < v_pages, 'has_previous', v_page > 1,
                                     'whole', v_low IS NULL AND cardinality(v_ids) < 100000));
END $$;

CREATE FUNCTION tasker.api_task_list(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_limit CONSTANT int := coalesce((p ->> 'limit')::int, 50);
  v_ids bigint[]; v_low bigint;
BEGIN
  IF p ->> 'page' IS NOT NULL THEN
    RETURN tasker.numbered_page(p);
  END IF;
  SELECT f.o_ids, f.o_low INTO v_ids, v_low FROM tasker.find_tasks(p, coalesce(tasker.read_cursor(p, '^[0-9]{1,18}$')::bigint, 9223372036854775807), v_limit + 1, 200000) f;
  RETURN jsonb_build_object(
    'tasks', coalesce((SELECT jsonb_agg(tasker.task_object(i, false) ORDER BY i DESC) FROM unnest(v_ids[1:v_limit]) AS i), '[]'),
    'next_cursor', CASE WHEN cardinality(v_ids) > v_limit THEN v_ids[v_limit] ELSE v_low END::text);
END $$;

-- Many at a time ---------------------------------------------------------------------------------------------------------

CREATE TYPE tasker.action_filter AS (
  source text, condition text,          -- where tasks t are to be found, and what they must fulfil, as SQL; see list_source, list_condition
  step text, step_state tasker.step_state, error_type text);

CREATE FUNCTION tasker.bad_filter(p_key text, p_what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'filter.% %', p_key, p_what USING ERRCODE = 'TK400', COLUMN = 'filter.' || p_key;
END $$;

CREATE FUNCTION tasker.read_filter(p jsonb, p_request jsonb) RETURNS tasker.action_filter LANGUAGE plpgsql STABLE AS $$
DECLARE
  f tasker.action_filter; v_key text; v_value jsonb; v_text text;
BEGIN
  p := jsonb_strip_nulls(p);
  FOR v_key, v_value IN SELECT * FROM jsonb_each(p) LOOP
    IF v_key <> ALL (ARRAY['namespace', 'name', 'version', 'state', 'tag', 'created_after', 'created_before', 'correlation_id', 'step', 'step_state', 'error_type', 'dlq', 'task_uuids', 'all']) THEN
      PERFORM tasker.bad_filter(left(v_key, 40), 'is not known');
    ELSIF v_key = 'all' THEN
      IF v_value <> 'true' THEN
        PERFORM tasker.bad_filter(v_key, 'must be true');
      END IF;
    ELSIF v_key = 'task_uuids' THEN
      IF jsonb_typeof(v_value) <> 'array' OR jsonb_array_length(v_value) NOT BETWEEN 1 AND 1000 THEN
        PERFORM tasker.bad_filter(v_key, 'must be an array of 1 to 1000 uuids');
      END IF;
    ELSIF jsonb_typeof(v_value) <> 'string' OR octet_length(v_value #>> '{}') NOT BETWEEN 1 AND 256 THEN
      PERFORM tasker.bad_filter(v_key, 'must be a string of 1 to 256 bytes');
    END IF;
  END LOOP;
  IF p = '{}' THEN
    RAISE EXCEPTION 'an empty filter means everything: name a condition, or say {"all": true}' USING ERRCODE = 'TK400', COLUMN = 'filter';
  END IF;
  f.step := p ->> 'step'; f.error_type := p ->> 'error_type';
  FOREACH v_key IN ARRAY ARRAY['state', 'step_state', 'dlq', 'created_after', 'created_before', 'task_uuids'] LOOP
    BEGIN
      v_text := p ->> v_key;
      CASE v_key
      WHEN 'state' THEN PERFORM v_text::tasker.task_state;
      WHEN 'step_state' THEN f.step_state := v_text::tasker.step_state;
      WHEN 'dlq' THEN PERFORM nullif(v_text, 'any')::tasker.dlq_reason;
      WHEN 'task_uuids' THEN
        IF p ? v_key THEN
          f.source := format('(SELECT i.* FROM unnest(%L::uuid[]) AS u(id) CROSS JOIN LATERAL (SELECT x.* FROM tasker.tasks x WHERE x.task_uuid = u.id OFFSET 0) i) t',
                             ARRAY(SELECT DISTINCT u::uuid FROM jsonb_array_elements_text(p -> v_key) u));
        END IF;
      ELSE PERFORM v_text::timestamptz;
      END CASE;
    EXCEPTION WHEN data_exception THEN
      PERFORM tasker.bad_filter(v_key, CASE v_key WHEN 'state' THEN 'is no state of tasks: ' || quote_literal(left(v_text, 40)) WHEN 'step_state' THEN 'is no state of steps: ' || quote_literal(left(v_text, 40))
        WHEN 'dlq' THEN format('is neither any nor a reason of dead letters (%s): %L', array_to_string(enum_range(NULL::tasker.dlq_reason), ', '), left(v_text, 40))
        WHEN 'task_uuids' THEN 'must be an array of 1 to 1000 uuids' ELSE 'is no time: ' || quote_literal(left(v_text, 40)) END);
    END;
  END LOOP;
  f.condition := tasker.list_condition(p || jsonb_strip_nulls(jsonb_build_object('within', p_request -> 'within')));
  IF p ? 'dlq' THEN
    f.condition := f.condition || format(' AND EXISTS (SELECT 1 FROM tasker.dlq d WHERE d.task_id = t.task_id AND d.status = ''pending'' AND %L IN (''any'', d.reason::text))', p ->> 'dlq');
  END IF;
  IF f.source IS NULL AND p ? 'dlq' AND NOT p ? 'correlation_id' THEN -- in the order of its index
    f.source := 'tasker.tasks t JOIN tasker.dlq o ON o.task_id = t.task_id AND o.status = ''pending''';
  ELSIF f.source IS NULL THEN
    f.source := tasker.list_source(p ->> 'correlation_id');
  ELSIF p ? 'correlation_id' THEN
    f.condition := f.condition || format(' AND coalesce(t.correlation_id, t.task_uuid::text) = %L', p ->> 'correlation_id');
  END IF;
  RETURN f;
END $$;

-- Tasks from a cursor on that a filter picks, by id. p_live: only tasks that are not finished; p_counted: only those in which something has failed, or was done by hand;
-- p_steps: only those of which some step fulfils all conditions on steps.
CREATE FUNCTION tasker.filtered_tasks(f tasker.action_filter, p_after bigint, p_limit int, p_live boolean, p_counted boolean, p_steps boolean) RETURNS SETOF bigint LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off AS $$ -- or without statistics all that is left might be sorted for each page
DECLARE
  v_where text := f.condition;
BEGIN
  IF p_counted OR f.error_type IS NOT NULL OR f.step_state IN ('error', 'waiting_for_retry', 'cancelled') THEN
    v_where := v_where || ' AND t.n_active IS NOT NULL';
  END IF;
  IF p_live THEN
    v_where := v_where || ' AND t.state NOT IN (''complete'', ''error'', ''cancelled'', ''resolved_manually'')';
  END IF;
  IF p_steps AND num_nonnulls(f.step, f.step_state, f.error_type) > 0 THEN
    v_where := v_where || ' AND EXISTS (SELECT 1 FROM tasker.filtered_steps($3, NULL, ARRAY[t.task_id], 0, -1, 1))';
  END IF;
  RETURN QUERY EXECUTE format('SELECT t.task_id FROM %s WHERE t.task_id > $1 AND %s ORDER BY t.task_id LIMIT $2', f.source, v_where) USING p_after, p_limit, f;
END $$;

-- Steps of these tasks, in their order, that a filter picks, from the one after (p_task, p_step) on. p_action: only those that it can be done to.
CREATE FUNCTION tasker.filtered_steps(f tasker.action_filter, p_action text, p_tasks bigint[], p_task bigint, p_step int, p_limit int) RETURNS TABLE (task_id bigint, step_no int) LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$ -- or all of a task's steps might be sorted for each page
  SELECT t.task_id, s.step_no
  FROM unnest(p_tasks) AS u(id)
  CROSS JOIN LATERAL (SELECT i.task_id, i.template_id, i.state FROM tasker.tasks i WHERE i.task_id = u.id OFFSET 0) t
  CROSS JOIN LATERAL (
    SELECT i.step_no FROM tasker.steps i
    WHERE i.task_id = t.task_id AND i.step_no > CASE WHEN t.task_id = p_task THEN p_step ELSE -1 END
      AND (f.step_state IS NULL OR i.state = f.step_state) AND (f.error_type IS NULL OR i.error ->> 'error_type' = f.error_type)
      AND (p_action IS NULL OR tasker.step_refusal(p_action, t.state, i) IS NULL)
      AND (f.step IS NULL OR EXISTS (SELECT 1 FROM tasker.template_steps ts WHERE ts.template_id = t.template_id AND ts.step_no = i.template_no AND f.step IN (ts.name, tasker.step_name(ts.name, i.step_no, i.template_no, i.inputs))))
    ORDER BY i.step_no OFFSET 0) s
  LIMIT p_limit
$$;

CREATE FUNCTION tasker.read_cursor(p jsonb, p_pattern text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF coalesce(p ->> 'cursor' !~ p_pattern, false) THEN
    RAISE EXCEPTION 'unknown cursor %', quote_literal(left(p ->> 'cursor', 40)) USING ERRCODE = 'TK400', COLUMN = 'cursor';
  END IF;
  RETURN p ->> 'cursor';
END $$;

-- A stretch of one of the large tasks of a request; when all are done, its answer, with the states that they are in now.
CREATE FUNCTION tasker.bulk_rest(p_request uuid) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_task bigint := (SELECT l.task_id FROM tasker.long_actions l WHERE (l.actor).request_id = p_request ORDER BY l.task_id LIMIT 1);
  v_answer jsonb;
BEGIN
  IF v_task IS NOT NULL THEN
    PERFORM tasker.go_on(v_task);
    RETURN '"again"';
  END IF;
  DELETE FROM tasker.long_answers x WHERE x.request_id = p_request RETURNING x.answer INTO v_answer;
  RETURN v_answer || CASE WHEN NOT v_answer ? 'items' THEN '{}' ELSE jsonb_build_object('items', (
    SELECT jsonb_agg(e.i || CASE WHEN e.i ->> 'outcome' = 'done' THEN jsonb_build_object('state', t.state) ELSE '{}' END ORDER BY e.ord)
    FROM jsonb_array_elements(v_answer -> 'items') WITH ORDINALITY AS e(i, ord) CROSS JOIN LATERAL (SELECT x.state FROM tasker.tasks x WHERE x.task_uuid = (e.i ->> 'task_uuid')::uuid OFFSET 0) t)) END;
END $$;

-- The answer of both: {dry_run, action, items: [{..., outcome: done | would_be_done | refused, state, message}], done, refused, next_cursor}. A dry run locks nothing.
CREATE FUNCTION tasker.api_task_bulk_action(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a CONSTANT tasker.actor := tasker.actor_of(p);
  f CONSTANT tasker.action_filter := tasker.read_filter(p -> 'filter', p);
  v_dry CONSTANT boolean := coalesce((p ->> 'dry_run')::boolean, false);
  v_limit int := coalesce((p ->> 'limit')::int, 500);
  v_ids bigint[]; v_more boolean; v_can bigint[]; v_large bigint[]; v_items jsonb; v_answer jsonb;
BEGIN
  PERFORM tasker.check_action(p ->> 'action', 'cancel', 'retry', 'resolve_manually', 'pause', 'resume');
  IF EXISTS (SELECT 1 FROM tasker.long_answers x WHERE x.request_id = a.request_id) THEN
    RETURN tasker.bulk_rest(a.request_id);
  ELSIF NOT v_dry AND EXISTS (SELECT 1 FROM tasker.operator_actions o WHERE o.request_id = a.request_id) THEN -- the answer was lost: say again what was done, which the filter may pick no more
    RETURN (
      SELECT jsonb_build_object('dry_run', false, 'action', p ->> 'action', 'done', count(*), 'refused', 0, 'next_cursor', max(o.task_id)::text,
        'items', jsonb_agg(jsonb_build_object('task_uuid', t.task_uuid, 'namespace', n.name, 'name', tp.name, 'state', t.state, 'outcome', 'done', 'message', NULL) ORDER BY t.task_id))
      FROM tasker.operator_actions o JOIN tasker.tasks t ON t.task_id = o.task_id JOIN tasker.templates tp ON tp.template_id = t.template_id JOIN tasker.namespaces n ON n.namespace_id = tp.namespace_id
      WHERE o.request_id = a.request_id AND o.step_no IS NULL);
  END IF;
  v_ids := ARRAY(SELECT * FROM tasker.filtered_tasks(f, coalesce(tasker.read_cursor(p, '^[0-9]{1,18}$')::bigint, 0), v_limit + 1, false, false, true));
  v_more := cardinality(v_ids) > v_limit;
  v_ids := v_ids[1:v_limit];
  IF NOT v_dry THEN
    v_limit := cardinality(v_ids);
    v_ids := tasker.as_many(v_ids);
    v_more := v_more OR cardinality(v_ids) < v_limit;
    v_limit := cardinality(v_ids);
    PERFORM 1 FROM (SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY (v_ids) ORDER BY t.task_id FOR NO KEY UPDATE) l;
  END IF;
  SELECT jsonb_agg(jsonb_build_object('id', t.task_id, 'task_uuid', t.task_uuid, 'namespace', n.name, 'name', tp.name, 'state', t.state, 'message', w.why,
           'outcome', CASE WHEN w.why IS NOT NULL THEN 'refused' WHEN v_dry THEN 'would_be_done' ELSE 'done' END) ORDER BY t.task_id),
         array_agg(t.task_id ORDER BY t.task_id) FILTER (WHERE w.why IS NULL)
  INTO v_items, v_can
  FROM tasker.tasks t
  JOIN tasker.templates tp ON tp.template_id = t.template_id JOIN tasker.namespaces n ON n.namespace_id = tp.namespace_id
  CROSS JOIN LATERAL (SELECT tasker.task_refusal(p ->> 'action', t) AS why) w
  WHERE t.task_id = ANY (v_ids);
  IF NOT v_dry AND v_can IS NOT NULL THEN
    v_large := ARRAY(SELECT u.id FROM unnest(v_can) AS u(id) WHERE tasker.is_large(u.id));
    PERFORM tasker.begin_long(a, p ->> 'action', u.id) FROM unnest(v_large) AS u(id);
    PERFORM tasker.act_on_tasks(a, p ->> 'action', ARRAY(SELECT u.id FROM unnest(v_can) AS u(id) WHERE u.id <> ALL (v_large)));
  END IF;
  v_answer := jsonb_build_object('dry_run', v_dry, 'action', p ->> 'action', 'done', CASE WHEN v_dry THEN 0 ELSE coalesce(cardinality(v_can), 0) END,
    'refused', coalesce(jsonb_array_length(v_items), 0) - coalesce(cardinality(v_can), 0), 'next_cursor', CASE WHEN v_more THEN v_ids[v_limit]::text END,
    'items', coalesce((SELECT jsonb_agg(i - 'id' || CASE WHEN i ->> 'outcome' = 'done' THEN jsonb_build_object('state', t.state) ELSE '{}' END ORDER BY ord)
                       FROM jsonb_array_elements(v_items) WITH ORDINALITY AS e(i, ord) JOIN tasker.tasks t ON t.task_id = (i ->> 'id')::bigint), '[]'));
  IF v_large <> '{}' THEN
    INSERT INTO tasker.long_answers (request_id, answer) VALUES (a.request_id, v_answer);
    RETURN '"again"';
  END IF;
  RETURN v_answer;
END $$;

-- Without a condition on the step's state: those that the action can be done to.
CREATE FUNCTION tasker.api_step_bulk_action(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  a CONSTANT tasker.actor := tasker.actor_of(p);
  f CONSTANT tasker.action_filter := tasker.read_filter(p -> 'filter', p);
  v_dry CONSTANT boolean := coalesce((p ->> 'dry_run')::boolean, false);
  v_limit CONSTANT int := coalesce((p ->> 'limit')::int, 500);
  v_task bigint := coalesce(split_part(tasker.read_cursor(p, '^[0-9]{1,18}/[0-9]{1,9}$'), '/', 1)::bigint, 0);
  v_step int := coalesce(split_part(p ->> 'cursor', '/', 2)::int, -1);
  v_t bigint[] := '{}'; v_s int[] := '{}'; c_t bigint[]; c_s int[]; v_batch bigint[]; v_items jsonb; v_more boolean := false; v_after bigint; v_repeat boolean; v_looked int := 0; v_next text;
BEGIN
  PERFORM tasker.check_step_action(p);
  v_repeat := EXISTS (SELECT 1 FROM tasker.operator_actions o WHERE o.request_id = a.request_id);
  v_after := v_task - 1; -- the cursor's own task may have more
  LOOP
    v_batch := ARRAY(SELECT * FROM tasker.filtered_tasks(f, v_after, 200, f.step_state IS NULL, p ->> 'action' = 'reset_for_retry', false));
    EXIT WHEN v_batch = '{}';
    v_after := v_batch[cardinality(v_batch)];
    SELECT v_t || coalesce(array_agg(x.task_id), '{}'), v_s || coalesce(array_agg(x.step_no), '{}') INTO v_t, v_s
    FROM tasker.filtered_steps(f, CASE WHEN f.step_state IS NULL THEN p ->> 'action' END, v_batch, v_task, v_step, v_limit + 1 - cardinality(v_t)) x;
    v_more := cardinality(v_t) > v_limit;
    EXIT WHEN v_more;
    v_looked := v_looked + cardinality(v_batch);
    IF v_looked >= 20000 THEN -- what is rare is found by a few calls
      v_next := v_after || '/999999999';
      EXIT;
    END IF;
  END LOOP;
  v_t := v_t[1:v_limit]; v_s := v_s[1:v_limit];
  IF v_more THEN
    v_next := v_t[v_limit] || '/' || v_s[v_limit];
  END IF;
  IF NOT v_dry THEN
    PERFORM 1 FROM (SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY (v_t) ORDER BY t.task_id FOR NO KEY UPDATE) l;
    PERFORM 1 FROM (SELECT s.step_no FROM unnest(v_t, v_s) AS k(t, n) CROSS JOIN LATERAL (SELECT i.* FROM tasker.steps i WHERE i.task_id = k.t AND i.step_no = k.n OFFSET 0) s ORDER BY s.task_id, s.step_no FOR NO KEY UPDATE OF s) l;
  END IF;
  SELECT jsonb_agg(jsonb_build_object('t', s.task_id, 's', s.step_no, 'task_uuid', t.task_uuid, 'step_uuid', tasker.step_uuid(t.task_uuid, s.step_no), 'step', tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs), 'state', s.state, 'message', w.why,
           'outcome', CASE WHEN w.why IS NOT NULL THEN 'refused' WHEN v_dry THEN 'would_be_done' ELSE 'done' END) ORDER BY s.task_id, s.step_no),
         array_agg(s.task_id ORDER BY s.task_id, s.step_no) FILTER (WHERE w.why IS NULL), array_agg(s.step_no ORDER BY s.task_id, s.step_no) FILTER (WHERE w.why IS NULL)
  INTO v_items, c_t, c_s
  FROM unnest(v_t, v_s) AS k(t, n)
  CROSS JOIN LATERAL (SELECT i.*, i AS whole FROM tasker.steps i WHERE i.task_id = k.t AND i.step_no = k.n OFFSET 0) s
  CROSS JOIN LATERAL (SELECT i.* FROM tasker.tasks i WHERE i.task_id = s.task_id OFFSET 0) t
  CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
  CROSS JOIN LATERAL (SELECT tasker.step_refusal(p ->> 'action', t.state, s.whole) AS why) w;
  IF v_repeat THEN -- the answer was lost: say again what was done
    RETURN jsonb_build_object('dry_run', false, 'action', p ->> 'action', 'refused', 0, 'next_cursor', v_next) || (
      SELECT jsonb_build_object('done', count(*), 'items', jsonb_agg(jsonb_build_object('task_uuid', t.task_uuid, 'step_uuid', tasker.step_uuid(t.task_uuid, o.step_no),
             'step', tasker.step_name(ts.name, s.step_no, s.template_no, s.inputs), 'state', o.to_state, 'outcome', 'done') ORDER BY o.action_id))
      FROM tasker.operator_actions o JOIN tasker.tasks t ON t.task_id = o.task_id CROSS JOIN LATERAL (SELECT i.* FROM tasker.steps i WHERE i.task_id = o.task_id AND i.step_no = o.step_no OFFSET 0) s
      CROSS JOIN LATERAL (SELECT i.* FROM tasker.template_steps i WHERE i.template_id = t.template_id AND i.step_no = s.template_no OFFSET 0) ts
      WHERE o.request_id = a.request_id);
  END IF;
  IF NOT v_dry AND c_t IS NOT NULL THEN
    PERFORM tasker.act_on_steps(a, p ->> 'action', c_t, c_s, p -> 'result');
  END IF;
  RETURN jsonb_build_object('dry_run', v_dry, 'action', p ->> 'action', 'done', CASE WHEN v_dry THEN 0 ELSE coalesce(cardinality(c_t), 0) END,
    'refused', coalesce(jsonb_array_length(v_items), 0) - coalesce(cardinality(c_t), 0), 'next_cursor', v_next,
    'items', coalesce((SELECT jsonb_agg(i - 't' - 's' || CASE WHEN i ->> 'outcome' = 'done' THEN jsonb_build_object('state', s.state) ELSE '{}' END ORDER BY ord)
                       FROM jsonb_array_elements(v_items) WITH ORDINALITY AS e(i, ord)
                       CROSS JOIN LATERAL (SELECT x.state FROM tasker.steps x WHERE x.task_id = (i ->> 't')::bigint AND x.step_no = (i ->> 's')::int OFFSET 0) s), '[]'));
END $$;
