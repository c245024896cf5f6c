-- Looking for tasks. No index covers a column that the hot path changes, so a list is a walk over the primary key, newest first, in chunks that grow and within a budget: what is common is found at
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

CREATE FUNCTION tasker.api_task_list(p jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_limit CONSTANT int := coalesce((p ->> 'limit')::int, 50);
  v_ids bigint[]; v_low bigint;
BEGIN
  SELECT f.o_ids, f.o_low INTO v_ids, v_low FROM tasker.find_tasks(p, coalesce(tasker.read_cursor(p, '^[0-9]{1,18}$')::bigint, 9223372036854775807), v_limit + 1, 200000) f;
  RETURN jsonb_build_object(
    'tasks', coalesce((SELECT jsonb_agg(tasker.task_object(i, false) ORDER BY i DESC) FROM unnest(v_ids[1:v_limit]) AS i), '[]'),
    'next_cursor', CASE WHEN cardinality(v_ids) > v_limit THEN v_ids[v_limit] ELSE v_low END::text);
END $$;
