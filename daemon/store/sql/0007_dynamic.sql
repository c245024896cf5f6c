-- Steps that results make: decisions name the branches that a task takes, batchables the batches that workers share.
--
-- Of a task's template steps some exist (they have a row in tasker.steps; a batch worker has one in tasker.batches and its instances in tasker.steps), some are
-- impossible (in tasks.impossible), and the others are possible: a result may still make them. Each pending step counts in pending_parents its parents that exist and are
-- unsatisfied (a batch worker once for each unsatisfied instance) and its possible parents once each, so that nothing runs before what may still come.

-- What registering a dynamic template works out once. The steps made with a task: those that no decision has a say in. A batch worker's instances come with the result of its
-- batchable, but what waits for them is made with the task, unless the batchable may yet choose another worker. Numbers are topological, so one pass does.
CREATE FUNCTION tasker.register_dynamic(p_template int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  ts record;
  v_n int := (SELECT n_steps FROM tasker.templates WHERE template_id = p_template);
  v_type text[] := array_fill(''::text, ARRAY[v_n]);
  v_there boolean[] := array_fill(false, ARRAY[v_n]);
  v_depth int[] := array_fill(0, ARRAY[v_n]);
  v_no int; v_decisions int; v_others int; v_others_there int; v_deepest int;
BEGIN
  UPDATE tasker.template_steps s SET sure_after = ARRAY(
    SELECT b.step_no FROM tasker.template_steps b
    WHERE b.template_id = p_template AND b.step_no = ANY (s.parents) AND b.step_type = 'batchable'
      AND 1 = (SELECT count(*) FROM tasker.template_steps w WHERE w.template_id = p_template AND w.step_no = ANY (b.children) AND w.step_type = 'batch_worker'))
  WHERE s.template_id = p_template AND s.step_type = 'batch_worker';
  FOR ts IN SELECT s.step_no, s.step_type, s.parents, s.sure_after FROM tasker.template_steps s WHERE s.template_id = p_template ORDER BY s.step_no LOOP
    v_decisions := 0; v_others := 0; v_others_there := 0; v_deepest := 0;
    v_no := ts.step_no + 1;
    v_type[v_no] := ts.step_type;
    FOR i IN 1 .. cardinality(ts.parents) LOOP
      v_deepest := greatest(v_deepest, v_depth[ts.parents[i] + 1]);
      IF v_type[ts.parents[i] + 1] = 'decision' THEN
        v_decisions := v_decisions + 1;
      ELSIF ts.step_type <> 'batch_worker' OR ts.parents[i] = ANY (ts.sure_after) THEN
        v_others := v_others + 1;
        v_others_there := v_others_there + v_there[ts.parents[i] + 1]::int;
      END IF;
    END LOOP;
    v_depth[v_no] := v_deepest + (ts.step_type = 'decision')::int;
    v_there[v_no] := CASE
      WHEN ts.parents = '{}' THEN true
      WHEN ts.step_type = 'batch_worker' THEN v_others_there > 0
      WHEN ts.step_type <> 'deferred_convergence' THEN v_decisions = 0 AND v_others_there = v_others
      WHEN v_others > 0 THEN v_others_there > 0
      ELSE EXISTS (SELECT 1 FROM unnest(ts.parents) AS x(no) WHERE v_there[x.no + 1]) END;
  END LOOP;
  UPDATE tasker.template_steps s SET
    initial = v_there[s.step_no + 1] AND s.step_type <> 'batch_worker',
    decision_depth = v_depth[s.step_no + 1],
    worker_ancestors = (SELECT array_agg(a.no ORDER BY a.no) FROM unnest(s.ancestors) AS a(no) WHERE v_type[a.no + 1] = 'batch_worker'),
    batch_config = CASE WHEN s.step_type = 'batch_worker' THEN (
      SELECT coalesce(jsonb_object_agg(k.key, k.value ORDER BY k.own), '{}') FROM (
        SELECT e.key, e.value, b.step_no = s.step_no AS own
        FROM tasker.template_steps b CROSS JOIN LATERAL jsonb_each(b.batch_config) AS e(key, value)
        WHERE b.template_id = p_template AND (b.step_no = s.step_no OR (b.step_no = ANY (s.parents) AND b.step_type = 'batchable')) AND e.value <> 'null') k)
      ELSE s.batch_config END
  WHERE s.template_id = p_template;
  UPDATE tasker.templates t SET
    n_sinks = (SELECT count(*) FROM tasker.template_steps s WHERE s.template_id = p_template AND s.initial),
    start_active = (SELECT count(*) FROM tasker.template_steps s WHERE s.template_id = p_template AND s.parents = '{}')
  WHERE t.template_id = p_template;
END $$;

-- Step `p_no` of a task, or if that is a batch worker its instances.
CREATE FUNCTION tasker.steps_of(p_task bigint, p_no int) RETURNS SETOF int LANGUAGE sql STABLE ROWS 10 AS
$$ SELECT p_no UNION ALL SELECT i.no FROM tasker.instances(p_task, p_no) AS i(no) $$;

-- How many of a template step's parents it has to wait for.
CREATE FUNCTION tasker.open_parents(p_task bigint, p_parents int[], p_impossible int[]) RETURNS int LANGUAGE sql STABLE AS $$
  SELECT coalesce(sum(CASE
           WHEN p.no = ANY (p_impossible) THEN 0
           WHEN b.task_id IS NOT NULL THEN (SELECT count(*) FROM tasker.instances(p_task, p.no) AS i(no)
             CROSS JOIN LATERAL (SELECT x.state, x.result FROM tasker.steps x WHERE x.task_id = p_task AND x.step_no = i.no OFFSET 0) w WHERE NOT tasker.satisfied(w.state, w.result))
           WHEN tasker.satisfied(s.state, s.result) THEN 0
           ELSE 1 END), 0)::int
  FROM unnest(p_parents) AS p(no)
  LEFT JOIN LATERAL (SELECT x.task_id FROM tasker.batches x WHERE x.task_id = p_task AND x.template_no = p.no OFFSET 0) b ON true
  LEFT JOIN LATERAL (SELECT x.state, x.result FROM tasker.steps x WHERE x.task_id = p_task AND x.step_no = p.no OFFSET 0) s ON true
$$;

-- After step p_no has decided (p_named: the steps it chose), settle what has become of the steps after it: which exist now, which are impossible. p_decided: deciding steps
-- that are about to become satisfied, p_no among them. One pass over its descendants in topological order, by these rules:
--   named by the decision: exists; impossible parents are dropped, the decision stands for them.
--   other children of decisions: impossible, unless a decision that may still name them is open.
--   deferred_convergence: exists as soon as one parent that is no decision does; impossible when all of those are. Without such parents, decisions are taken for them.
--   batch_worker: as good as there when a batchable is that has no other; else when one chooses it; impossible when no batchable is left that may use it.
--   others: impossible when a parent is; exist when all parents do.
-- Status of template step no in v_status[no + 1]: 0 possible, 1 exists, 2 impossible.
CREATE FUNCTION tasker.propagate(p_task bigint, p_template int, p_no int, p_named int[], p_decided int[]) RETURNS SETOF tasker.effect LANGUAGE plpgsql AS $$
DECLARE
  v_n int := (SELECT n_steps FROM tasker.templates WHERE template_id = p_template);
  v_status int[] := array_fill(0, ARRAY[v_n]);
  v_type text[] := array_fill(NULL::text, ARRAY[v_n]);
  v_there boolean[] := array_fill(false, ARRAY[v_n]);    -- exists, or is a batch worker that is sure to get instances
  v_decided boolean[] := array_fill(false, ARRAY[v_n]);
  v_fresh boolean[] := array_fill(false, ARRAY[v_n]);    -- impossible since just now
  v_was int[]; v_make int[] := '{}'; v_gone int[] := '{}';
  ts record; v_p int; k int; v_status_now int;
  n_decisions int; n_undecided int; n_decisions_there int; n_others int; n_others_there int; n_others_gone int; n_fresh int; n_gone int;
  n_batchables int; n_batchables_open int; n_batchables_there int;
BEGIN
  SELECT t.impossible INTO v_was FROM tasker.tasks t WHERE t.task_id = p_task;
  FOREACH k IN ARRAY coalesce(v_was, '{}') LOOP
    v_status[k + 1] := 2;
  END LOOP;
  -- What the rules look at: the descendants, their parents, and of batch workers among those the parents as well.
  FOR ts IN
    WITH RECURSIVE region(no) AS (
      SELECT p_no
      UNION
      SELECT c.no FROM region CROSS JOIN LATERAL (SELECT unnest(x.children) AS no FROM tasker.template_steps x WHERE x.template_id = p_template AND x.step_no = region.no OFFSET 0) c),
    around(no) AS (
      SELECT no FROM region
      UNION
      SELECT c.no FROM region CROSS JOIN LATERAL (SELECT unnest(x.parents) AS no FROM tasker.template_steps x WHERE x.template_id = p_template AND x.step_no = region.no OFFSET 0) c),
    wide(no) AS (
      SELECT no FROM around
      UNION
      SELECT c.no FROM around CROSS JOIN LATERAL (SELECT unnest(x.parents) AS no FROM tasker.template_steps x WHERE x.template_id = p_template AND x.step_no = around.no AND x.step_type = 'batch_worker' OFFSET 0) c)
    SELECT w.no, x.step_type, x.parents, x.sure_after, s.state, s.result, b.task_id IS NOT NULL AS batched
    FROM wide w
    CROSS JOIN LATERAL (SELECT y.step_type, y.parents, y.sure_after FROM tasker.template_steps y WHERE y.template_id = p_template AND y.step_no = w.no OFFSET 0) x
    LEFT JOIN LATERAL (SELECT y.state, y.result FROM tasker.steps y WHERE y.task_id = p_task AND y.step_no = w.no OFFSET 0) s ON true
    LEFT JOIN LATERAL (SELECT y.task_id FROM tasker.batches y WHERE y.task_id = p_task AND y.template_no = w.no OFFSET 0) b ON true
    ORDER BY w.no
  LOOP
    k := ts.no + 1;
    v_type[k] := ts.step_type;
    IF ts.state IS NOT NULL OR ts.batched THEN
      v_status[k] := 1;
      v_there[k] := true;
      v_decided[k] := ts.no = ANY (p_decided) OR coalesce(tasker.satisfied(ts.state, ts.result), false);
    ELSIF ts.step_type = 'batch_worker' AND v_status[k] = 0 THEN
      FOREACH v_p IN ARRAY ts.sure_after LOOP
        v_there[k] := v_there[k] OR v_status[v_p + 1] = 1;
      END LOOP;
    END IF;
  END LOOP;

  FOR ts IN
    WITH RECURSIVE region(no) AS (
      SELECT c.no FROM (SELECT unnest(x.children) AS no FROM tasker.template_steps x WHERE x.template_id = p_template AND x.step_no = p_no) c
      UNION
      SELECT c.no FROM region CROSS JOIN LATERAL (SELECT unnest(x.children) AS no FROM tasker.template_steps x WHERE x.template_id = p_template AND x.step_no = region.no OFFSET 0) c)
    SELECT r.no, x.step_type, x.parents, x.sure_after FROM region r
    CROSS JOIN LATERAL (SELECT y.step_type, y.parents, y.sure_after FROM tasker.template_steps y WHERE y.template_id = p_template AND y.step_no = r.no OFFSET 0) x
    ORDER BY r.no
  LOOP
    k := ts.no + 1;
    CONTINUE WHEN v_status[k] = 2;
    n_decisions := 0; n_undecided := 0; n_decisions_there := 0; n_others := 0; n_others_there := 0; n_others_gone := 0; n_fresh := 0; n_gone := 0;
    n_batchables := 0; n_batchables_open := 0; n_batchables_there := 0;
    FOREACH v_p IN ARRAY ts.parents LOOP
      v_p := v_p + 1;
      n_fresh := n_fresh + v_fresh[v_p]::int;
      n_gone := n_gone + (v_status[v_p] = 2)::int;
      IF v_type[v_p] = 'decision' THEN
        n_decisions := n_decisions + 1;
        n_decisions_there := n_decisions_there + v_there[v_p]::int;
        n_undecided := n_undecided + (v_status[v_p] <> 2 AND NOT v_decided[v_p])::int;
      ELSE
        n_others := n_others + 1;
        n_others_there := n_others_there + v_there[v_p]::int;
        n_others_gone := n_others_gone + (v_status[v_p] = 2)::int;
        IF v_type[v_p] = 'batchable' THEN
          n_batchables := n_batchables + 1;
          n_batchables_there := n_batchables_there + (v_there[v_p] AND coalesce(v_p - 1 = ANY (ts.sure_after), false))::int;
          n_batchables_open := n_batchables_open + (v_status[v_p] <> 2 AND NOT v_decided[v_p])::int;
        END IF;
      END IF;
    END LOOP;
    IF v_status[k] = 1 THEN
      IF n_fresh > 0 THEN
        RETURN QUERY SELECT NULL::int, NULL::text, p_task, p_template, s.no, n_fresh FROM tasker.steps_of(p_task, ts.no) AS s(no);
      END IF;
      CONTINUE;
    END IF;
    v_status_now := CASE
      WHEN ts.no = ANY (p_named) THEN 1
      WHEN ts.step_type = 'batch_worker' THEN CASE WHEN n_batchables_open = 0 THEN 2 ELSE 0 END
      WHEN ts.step_type <> 'deferred_convergence' AND n_decisions > 0 THEN CASE WHEN n_undecided = 0 THEN 2 ELSE 0 END
      WHEN ts.step_type <> 'deferred_convergence' THEN CASE WHEN n_gone > 0 THEN 2 WHEN n_others_there = n_others THEN 1 ELSE 0 END
      WHEN n_others > 0 THEN CASE WHEN n_others_there > 0 THEN 1 WHEN n_others_gone = n_others THEN 2 ELSE 0 END
      ELSE CASE WHEN n_decisions_there > 0 THEN 1 WHEN n_gone = n_decisions THEN 2 ELSE 0 END END;
    v_status[k] := v_status_now;
    IF v_status_now = 1 THEN
      v_there[k] := true;
      v_make := v_make || ts.no;
    ELSIF v_status_now = 2 THEN
      v_there[k] := false;
      v_fresh[k] := true;
      v_gone := v_gone || ts.no;
    ELSIF ts.step_type = 'batch_worker' THEN
      v_there[k] := n_batchables_there > 0;
    END IF;
  END LOOP;

  IF v_make = '{}' AND v_gone = '{}' THEN
    RETURN;
  END IF;
  UPDATE tasker.tasks t SET open_sinks = t.open_sinks + cardinality(v_make), impossible = nullif(coalesce(t.impossible, '{}') || v_gone, '{}') WHERE t.task_id = p_task;
  INSERT INTO tasker.steps (task_id, step_no, template_no, state, pending_parents)
  SELECT p_task, m.no, m.no, 'pending', 0 FROM unnest(v_make) AS m(no) ORDER BY m.no;
  -- One that has nothing to wait for is counted down like the others, so that it is made ready in the one place.
  FOR ts IN
    SELECT m.no, tasker.open_parents(p_task, x.parents, ARRAY(SELECT q.no FROM unnest(x.parents) AS q(no) WHERE v_status[q.no + 1] = 2)) AS open FROM unnest(v_make) AS m(no)
    CROSS JOIN LATERAL (SELECT y.parents FROM tasker.template_steps y WHERE y.template_id = p_template AND y.step_no = m.no OFFSET 0) x
  LOOP
    UPDATE tasker.steps s SET pending_parents = greatest(ts.open, 1) WHERE s.task_id = p_task AND s.step_no = ts.no;
    IF ts.open = 0 THEN
      RETURN QUERY SELECT NULL::int, NULL::text, p_task, p_template, ts.no, 1;
    END IF;
  END LOOP;
END $$;

-- Apply a decision's outcome, {"type": "create_steps", "step_names": [...]} or {"type": "no_branches"} under decision_point_outcome of its result.
CREATE FUNCTION tasker.decide(p_task bigint, p_template int, p_no int, p_result jsonb, p_decided int[]) RETURNS SETOF tasker.effect LANGUAGE plpgsql AS $$
DECLARE
  v_out jsonb := CASE WHEN jsonb_typeof(p_result) = 'object' THEN p_result -> 'decision_point_outcome' END;
  v_max int := coalesce(current_setting('tasker.max_branches', true), '100')::int;
  v_depth int; v_named int[] := '{}'; v_problem text;
  n record;
BEGIN
  SELECT ts.decision_depth INTO v_depth FROM tasker.template_steps ts WHERE ts.template_id = p_template AND ts.step_no = p_no;
  v_problem := CASE
    WHEN v_out IS NULL THEN 'the result of a decision needs a decision_point_outcome at its top level'
    WHEN jsonb_typeof(v_out) <> 'object' OR v_out ->> 'type' IS NULL OR v_out ->> 'type' NOT IN ('create_steps', 'no_branches')
      THEN format('decision_point_outcome.type is %s, expected create_steps or no_branches', coalesce(left((v_out -> 'type')::text, 80), 'missing'))
    WHEN v_out ->> 'type' = 'no_branches' THEN NULL
    WHEN v_depth > 20 THEN format('this decision is number %s of decisions after each other, at most 20 are allowed', v_depth)
    WHEN coalesce(jsonb_typeof(v_out -> 'step_names'), '') <> 'array' THEN 'decision_point_outcome.step_names must be an array of step names'
    WHEN jsonb_array_length(v_out -> 'step_names') > v_max
      THEN format('decision_point_outcome.step_names has %s names, at most %s are allowed', jsonb_array_length(v_out -> 'step_names'), v_max) END;
  IF v_problem IS NULL AND v_out ->> 'type' = 'create_steps' THEN
    FOR n IN
      SELECT j.value #>> '{}' AS name, jsonb_typeof(j.value) AS kind, ts.step_no, ts.step_type, p_no = ANY (ts.parents) AS child, s.step_no IS NOT NULL AS there
      FROM jsonb_array_elements(v_out -> 'step_names') WITH ORDINALITY AS j(value, ord)
      LEFT JOIN LATERAL (SELECT x.step_no, x.step_type, x.parents FROM tasker.template_steps x WHERE x.template_id = p_template AND x.name = j.value #>> '{}' OFFSET 0) ts ON true
      LEFT JOIN LATERAL (SELECT x.step_no FROM tasker.steps x WHERE x.task_id = p_task AND x.step_no = ts.step_no OFFSET 0) s ON true
      ORDER BY j.ord
    LOOP
      v_problem := CASE
        WHEN n.kind <> 'string' THEN 'decision_point_outcome.step_names must be an array of step names'
        WHEN n.step_no IS NULL THEN format('the decision names %s, which is no step of the template', quote_literal(left(n.name, 128)))
        WHEN NOT n.child THEN format('the decision names %s, which does not depend on it', quote_literal(n.name))
        WHEN n.step_type = 'batch_worker' THEN format('the decision names %s, which is a batch_worker: its batchable makes it', quote_literal(n.name))
        WHEN n.there AND n.step_type <> 'deferred_convergence' THEN format('the decision names %s, which exists already', quote_literal(n.name)) END;
      EXIT WHEN v_problem IS NOT NULL;
      v_named := v_named || n.step_no;
    END LOOP;
  END IF;
  IF v_problem IS NOT NULL THEN
    RETURN QUERY SELECT NULL::int, v_problem, p_task, p_template, p_no, 0;
    RETURN;
  END IF;
  RETURN QUERY SELECT * FROM tasker.propagate(p_task, p_template, p_no, v_named, p_decided);
END $$;

-- The worker template steps that a batchable's outcome is for; problem set if that is not clear.
CREATE FUNCTION tasker.batch_targets(p_task bigint, p_template int, p_no int, p_out jsonb, p_all boolean, OUT problem text, OUT workers int[]) LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_name text; v_children int[]; v_used int;
BEGIN
  SELECT coalesce(p_out ->> 'worker_template_name', ts.batch_config ->> 'worker_template', ts.handler #>> '{initialization,worker_template_name}'), ts.children
  INTO v_name, v_children FROM tasker.template_steps ts WHERE ts.template_id = p_template AND ts.step_no = p_no;
  SELECT array_agg(x.step_no ORDER BY x.step_no) INTO workers FROM tasker.template_steps x
  WHERE x.template_id = p_template AND x.step_no = ANY (v_children) AND x.step_type = 'batch_worker' AND (v_name IS NULL OR x.name = v_name);
  IF workers IS NULL AND v_name IS NOT NULL THEN
    problem := format('worker template %s %s', quote_literal(left(v_name, 128)), coalesce((
      SELECT CASE WHEN x.step_type <> 'batch_worker' THEN format('is a step of type %s, not batch_worker', x.step_type) ELSE 'does not depend on this step' END
      FROM tasker.template_steps x WHERE x.template_id = p_template AND x.name = v_name), 'is no step of the template'));
  ELSIF workers IS NULL THEN
    problem := 'no batch_worker depends on this step';
  ELSIF cardinality(workers) > 1 AND NOT p_all THEN
    problem := 'several batch_worker steps depend on this step: worker_template_name must name one';
  ELSE
    SELECT b.template_no INTO v_used FROM tasker.batches b WHERE b.task_id = p_task AND b.template_no = ANY (workers) LIMIT 1;
    IF FOUND THEN
      problem := format('worker template %s has its workers already', (SELECT quote_literal(x.name) FROM tasker.template_steps x WHERE x.template_id = p_template AND x.step_no = v_used));
    END IF;
  END IF;
END $$;

-- What is wrong with the cursors of a batch, or NULL.
CREATE FUNCTION tasker.cursor_problem(p_configs jsonb) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  c record; v_id text; v_begins bigint; v_ends bigint; -- the range before
  v_integer CONSTANT text := '^-?[0-9]{1,18}$';
BEGIN
  FOR c IN
    SELECT j.ord - 1 AS i, j.value, j.value ->> 'batch_id' AS id, count(*) OVER (PARTITION BY j.value ->> 'batch_id') AS n
    FROM jsonb_array_elements(p_configs) WITH ORDINALITY AS j(value, ord) ORDER BY j.ord
  LOOP
    IF jsonb_typeof(c.value) <> 'object' THEN
      RETURN format('cursor_configs[%s] is not a map', c.i);
    ELSIF c.id IS NULL OR c.id !~ '^[A-Za-z0-9_-]{1,64}$' THEN
      RETURN format('cursor_configs[%s].batch_id is %s, expected 1 to 64 letters, digits, _ or -', c.i, coalesce(left((c.value -> 'batch_id')::text, 80), 'missing'));
    ELSIF c.n > 1 THEN
      RETURN format('cursor_configs[%s].batch_id is %s, which another has too', c.i, quote_literal(c.id));
    END IF;
  END LOOP;
  FOR c IN
    SELECT j.value ->> 'batch_id' AS id, (j.value ->> 'start_cursor')::bigint AS begins, (j.value ->> 'end_cursor')::bigint AS ends
    FROM jsonb_array_elements(p_configs) AS j(value)
    WHERE jsonb_typeof(j.value -> 'start_cursor') = 'number' AND j.value ->> 'start_cursor' ~ v_integer
      AND jsonb_typeof(j.value -> 'end_cursor') = 'number' AND j.value ->> 'end_cursor' ~ v_integer
    ORDER BY 2, 3
  LOOP
    IF c.ends < c.begins THEN
      RETURN format('batch %s begins at %s and ends before that, at %s', quote_literal(c.id), c.begins, c.ends);
    ELSIF c.ends > c.begins THEN
      IF c.begins < v_ends THEN
        RETURN format('batches %s (%s to %s) and %s (%s to %s) overlap', quote_literal(v_id), v_begins, v_ends, quote_literal(c.id), c.begins, c.ends);
      END IF;
      v_id := c.id; v_begins := c.begins; v_ends := c.ends;
    END IF;
  END LOOP;
  RETURN NULL;
END $$;

-- Make a batch worker's instances. p_configs: the cursors, checked.
CREATE FUNCTION tasker.make_instances(p_task bigint, p_template int, p_worker int, p_configs jsonb, p_no_op boolean, p_meta jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_n int := jsonb_array_length(p_configs);
  v_stride int := (SELECT n_steps FROM tasker.templates WHERE template_id = p_template);
  v_open int; v_released int; v_inputs jsonb; v_parallel int; v_strategy text;
  w record;
BEGIN
  SELECT ts.name, ts.parents, ts.children, coalesce(ts.batch_config, '{}') AS config, CASE WHEN jsonb_typeof(ts.handler -> 'initialization') = 'object' THEN ts.handler -> 'initialization' ELSE '{}' END AS init INTO w
  FROM tasker.template_steps ts WHERE ts.template_id = p_template AND ts.step_no = p_worker;
  v_parallel := (w.config ->> 'parallelism')::int;
  v_strategy := coalesce(w.config ->> 'failure_strategy', 'isolate');
  v_released := least(v_n, coalesce(v_parallel, v_n));
  v_open := tasker.open_parents(p_task, w.parents, (SELECT t.impossible FROM tasker.tasks t WHERE t.task_id = p_task));
  v_inputs := w.init || jsonb_build_object('is_no_op', p_no_op, 'template_step_name', w.name, '__template_step_name', w.name, 'batch_metadata',
    CASE WHEN jsonb_typeof(p_meta) = 'object' THEN p_meta ELSE '{}' END || w.config - 'worker_template' || jsonb_build_object('failure_strategy', v_strategy, 'total_batches', v_n));
  INSERT INTO tasker.batches (task_id, template_no, stride, n_workers, n_released, n_inside, parallelism, failure_strategy)
  VALUES (p_task, p_worker, v_stride, v_n, v_released, v_released, v_parallel, v_strategy);
  INSERT INTO tasker.steps (task_id, step_no, template_no, state, pending_parents, inputs)
  SELECT p_task, p_worker + j.ord::int * v_stride, p_worker, 'pending', v_open + (j.ord > v_released)::int, v_inputs || jsonb_build_object('cursor', j.value)
  FROM jsonb_array_elements(p_configs) WITH ORDINALITY AS j(value, ord) ORDER BY j.ord;
  UPDATE tasker.tasks t SET open_sinks = t.open_sinks + v_n WHERE t.task_id = p_task;
  -- What waited for the worker step waits for each of its instances.
  UPDATE tasker.steps s SET pending_parents = s.pending_parents + v_n - 1
  FROM (SELECT x.c FROM unnest(w.children) AS c(no) CROSS JOIN LATERAL tasker.steps_of(p_task, c.no) AS i(no)
        CROSS JOIN LATERAL (SELECT y.ctid AS c FROM tasker.steps y WHERE y.task_id = p_task AND y.step_no = i.no AND y.state = 'pending' OFFSET 0) x) k
  WHERE s.ctid = k.c AND v_n > 1;
END $$;

-- A whole number, however it is written; else NULL.
CREATE FUNCTION tasker.whole_number(p jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN jsonb_typeof(p) = 'number' THEN (SELECT x::bigint FROM (SELECT (p #>> '{}')::numeric AS x OFFSET 0) n WHERE abs(x) < 1e18 AND x = trunc(x)) END $$;

-- The cursors of an outcome with batches. In place of cursor_configs, which list each, there may be cursor_bounds (from each to the next) or total_items, in parts of batch_size (or
-- p_size, the template's) or in worker_count parts: so that very many can be said in few words.
CREATE FUNCTION tasker.batch_cursors(p_out jsonb, p_size int, OUT problem text, OUT configs jsonb) LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_total bigint := tasker.whole_number(p_out -> 'total_items');
  v_workers bigint := tasker.whole_number(p_out -> 'worker_count');
  v_listed text := coalesce(nullif(jsonb_typeof(p_out -> 'cursor_configs'), 'null'), 'none');
  v_bounds text := coalesce(nullif(jsonb_typeof(p_out -> 'cursor_bounds'), 'null'), 'none');
  v_sized boolean := coalesce(jsonb_typeof(p_out -> 'batch_size'), 'null') <> 'null';
  v_size bigint; n bigint;
BEGIN
  IF v_listed = 'array' THEN
    n := jsonb_array_length(p_out -> 'cursor_configs');
  ELSIF v_listed <> 'none' THEN
    problem := 'batch_processing_outcome.cursor_configs must be an array';
  ELSIF v_bounds = 'array' THEN
    n := greatest(jsonb_array_length(p_out -> 'cursor_bounds') - 1, 0);
  ELSIF v_bounds <> 'none' THEN
    problem := 'batch_processing_outcome.cursor_bounds must be an array';
  ELSIF v_total IS NULL OR v_total < 0 THEN
    problem := 'batch_processing_outcome needs cursor_configs or cursor_bounds (arrays), or total_items (a whole number) with batch_size or worker_count';
  ELSE
    v_size := CASE WHEN v_sized THEN tasker.whole_number(p_out -> 'batch_size') WHEN v_workers > 0 THEN greatest((v_total + v_workers - 1) / v_workers, 1) ELSE p_size END;
    IF v_size > 0 THEN
      n := (v_total + v_size - 1) / v_size;
      v_workers := CASE WHEN v_sized THEN v_workers ELSE n END;
    ELSE
      problem := format('batch_size is %s, expected a whole number from 1, or worker_count', coalesce(left((p_out -> 'batch_size')::text, 80), 'missing'));
    END IF;
  END IF;
  problem := coalesce(problem, CASE
    WHEN coalesce(jsonb_typeof(p_out -> 'worker_count'), 'null') <> 'null' AND v_workers IS DISTINCT FROM n THEN format('worker_count is %s, but there are %s cursors', left((p_out -> 'worker_count')::text, 80), n)
    WHEN n > 100000 THEN format('%s workers, at most 100000 are allowed', n) END);
  IF problem IS NULL THEN
    configs := coalesce(CASE
      WHEN v_listed = 'array' THEN p_out -> 'cursor_configs'
      WHEN v_bounds = 'array' THEN (
        SELECT jsonb_agg(jsonb_build_object('start_cursor', b.begins, 'end_cursor', b.ends) ORDER BY b.ord)
        FROM (SELECT j.ord, j.value AS begins, lead(j.value) OVER (ORDER BY j.ord) AS ends FROM jsonb_array_elements(p_out -> 'cursor_bounds') WITH ORDINALITY AS j(value, ord)) b WHERE b.ord <= n)
      ELSE (SELECT jsonb_agg(jsonb_build_object('start_cursor', k * v_size, 'end_cursor', least((k + 1) * v_size, v_total)) ORDER BY k) FROM generate_series(0, n - 1) AS k) END, '[]');
  END IF;
END $$;

-- Apply a batchable's outcome: {"type": "create_batches", "worker_template_name", "worker_count", "cursor_configs": [{"batch_id", "start_cursor", "end_cursor", "batch_size"}, ...]}
-- or {"type": "no_batches"} under batch_processing_outcome of its result. No batches: one worker that has nothing to do, so that what waits for the workers goes on.
CREATE FUNCTION tasker.make_batch(p_task bigint, p_template int, p_no int, p_result jsonb, p_decided int[]) RETURNS SETOF tasker.effect LANGUAGE plpgsql AS $$
DECLARE
  v_out jsonb := CASE WHEN jsonb_typeof(p_result) = 'object' THEN p_result -> 'batch_processing_outcome' END;
  v_stride int := (SELECT n_steps FROM tasker.templates WHERE template_id = p_template);
  v_configs jsonb; v_none boolean; v_problem text; v_workers int[]; v_n int; v_meta jsonb; w int;
BEGIN
  v_problem := CASE
    WHEN v_out IS NULL THEN 'the result of a batchable step needs a batch_processing_outcome at its top level'
    WHEN jsonb_typeof(v_out) <> 'object' OR v_out ->> 'type' IS NULL OR v_out ->> 'type' NOT IN ('create_batches', 'no_batches')
      THEN format('batch_processing_outcome.type is %s, expected create_batches or no_batches', coalesce(left((v_out -> 'type')::text, 80), 'missing')) END;
  IF v_problem IS NULL AND v_out ->> 'type' = 'create_batches' THEN
    SELECT c.problem, c.configs INTO v_problem, v_configs
    FROM tasker.batch_cursors(v_out, (SELECT (ts.batch_config ->> 'batch_size')::int FROM tasker.template_steps ts WHERE ts.template_id = p_template AND ts.step_no = p_no)) c;
    IF jsonb_array_length(v_configs) > (16777214 - v_stride) / v_stride THEN
      v_problem := format('%s workers are too many for a template of %s steps', jsonb_array_length(v_configs), v_stride);
    END IF;
  END IF;
  v_none := v_problem IS NULL AND (v_configs IS NULL OR v_configs = '[]');
  IF v_problem IS NULL THEN
    SELECT t.problem, t.workers INTO v_problem, v_workers FROM tasker.batch_targets(p_task, p_template, p_no, v_out, v_none) t;
  END IF;
  IF v_problem IS NULL AND NOT v_none THEN
    -- Workers are numbered if they have no names.
    SELECT jsonb_agg(CASE WHEN jsonb_typeof(j.value) <> 'object' THEN j.value
                          ELSE CASE WHEN jsonb_typeof(j.value -> 'start_cursor') = 'number' AND jsonb_typeof(j.value -> 'end_cursor') = 'number'
                                 AND abs((j.value ->> 'end_cursor')::numeric - (j.value ->> 'start_cursor')::numeric) < 9223372036854775808 -- more is no number of items
                                 THEN jsonb_build_object('batch_size', (j.value ->> 'end_cursor')::numeric - (j.value ->> 'start_cursor')::numeric) ELSE '{}' END
                               || j.value || jsonb_build_object('batch_id', coalesce(j.value ->> 'batch_id', lpad(j.ord::text, greatest(3, length(j.ord::text)), '0'))) END ORDER BY j.ord)
    INTO v_configs FROM jsonb_array_elements(v_configs) WITH ORDINALITY AS j(value, ord);
    v_problem := tasker.cursor_problem(v_configs);
  END IF;
  IF v_problem IS NOT NULL THEN
    RETURN QUERY SELECT NULL::int, v_problem, p_task, p_template, p_no, 0;
    RETURN;
  END IF;
  v_configs := CASE WHEN v_none THEN '[{"batch_id": "000", "start_cursor": 0, "end_cursor": 0, "batch_size": 0}]' ELSE v_configs END;
  v_meta := coalesce(p_result -> 'batch_metadata', v_out -> 'batch_metadata');
  FOREACH w IN ARRAY v_workers LOOP
    PERFORM tasker.make_instances(p_task, p_template, w, v_configs, v_none, v_meta);
  END LOOP;
  RETURN QUERY SELECT * FROM tasker.propagate(p_task, p_template, p_no, '{}', p_decided);
END $$;

-- Apply the outcomes of the deciding steps among results that are about to be recorded. The caller holds the tasks' row locks.
CREATE FUNCTION tasker.apply_outcomes(p_task bigint[], p_step int[], p_fence int[], p_outcome tasker.attempt_outcome[], p_result jsonb[]) RETURNS SETOF tasker.effect LANGUAGE plpgsql AS $$
DECLARE
  d record; e tasker.effect;
  v_task bigint; v_decided int[]; v_refused boolean;
BEGIN
  FOR d IN
    SELECT u.ord::int AS idx, u.task_id, s.template_no AS no, t.template_id, ts.step_type, u.result
    FROM unnest(p_task, p_step, p_fence, p_outcome, p_result) WITH ORDINALITY AS u(task_id, step_no, fence, outcome, result, ord)
    CROSS JOIN LATERAL (SELECT x.template_id FROM tasker.tasks x WHERE x.task_id = u.task_id AND x.n_active IS NOT NULL OFFSET 0) t
    CROSS JOIN LATERAL (SELECT x.template_no FROM tasker.steps x WHERE x.task_id = u.task_id AND x.step_no = u.step_no AND x.state = 'in_progress' AND x.fence = u.fence OFFSET 0) s
    CROSS JOIN LATERAL (SELECT x.step_type FROM tasker.template_steps x WHERE x.template_id = t.template_id AND x.step_no = s.template_no AND x.step_type IN ('decision', 'batchable') OFFSET 0) ts
    WHERE u.outcome = 'success'
    ORDER BY u.task_id, u.ord
  LOOP
    IF v_task IS DISTINCT FROM d.task_id THEN
      v_task := d.task_id;
      v_decided := '{}';
    END IF;
    v_decided := v_decided || d.no;
    v_refused := false;
    FOR e IN
      SELECT x.* FROM tasker.decide(d.task_id, d.template_id, d.no, d.result, v_decided) x WHERE d.step_type = 'decision'
      UNION ALL
      SELECT x.* FROM tasker.make_batch(d.task_id, d.template_id, d.no, d.result, v_decided) x WHERE d.step_type = 'batchable'
    LOOP
      e.idx := d.idx;
      v_refused := e.problem IS NOT NULL;
      IF v_refused THEN
        e.problem := (jsonb_build_object('message', e.problem, 'retryable', false,
                       'error_type', CASE d.step_type WHEN 'decision' THEN 'InvalidDecisionOutcome' ELSE 'InvalidBatchOutcome' END)
          || CASE WHEN tasker.names_cycle(d.template_id, d.no, d.result) THEN '{"error_code": "dependency_cycle"}'::jsonb ELSE '{}' END)::text;
      END IF;
      RETURN NEXT e;
    END LOOP;
    IF v_refused THEN
      v_decided := v_decided[1:cardinality(v_decided) - 1];
    END IF;
  END LOOP;
END $$;

-- Instances of batches that had been let through the gate have ended, one way or another (or, not p_ended, come back): let as many others through, those that come back first.
-- The caller holds the tasks' row locks.
CREATE FUNCTION tasker.batch_progress(p_task bigint[], p_step int[], p_ended boolean DEFAULT true) RETURNS SETOF tasker.effect LANGUAGE plpgsql AS $$
DECLARE
  g record; v_free int; v_next int[]; v_back int; v_at int; v_no int;
BEGIN
  FOR g IN
    SELECT b.*, e.n, t.template_id FROM (
      SELECT u.task_id, s.template_no, CASE WHEN p_ended THEN count(*) ELSE 0 END::int AS n
      FROM unnest(p_task, p_step) AS u(task_id, step_no)
      CROSS JOIN LATERAL (SELECT x.template_no FROM tasker.steps x WHERE x.task_id = u.task_id AND x.step_no = u.step_no AND x.step_no <> x.template_no OFFSET 0) s
      GROUP BY u.task_id, s.template_no) e
    CROSS JOIN LATERAL (SELECT x.* FROM tasker.batches x WHERE x.task_id = e.task_id AND x.template_no = e.template_no AND x.parallelism IS NOT NULL OFFSET 0) b
    CROSS JOIN LATERAL (SELECT x.template_id FROM tasker.tasks x WHERE x.task_id = e.task_id OFFSET 0) t
    ORDER BY b.task_id, b.template_no
  LOOP
    v_free := g.parallelism - g.n_inside + g.n;
    v_next := '{}';
    IF g.n_returned > 0 AND v_free > 0 THEN
      WITH d AS (DELETE FROM tasker.batch_returns r WHERE r.ctid = ANY (ARRAY(
                   SELECT x.ctid FROM tasker.batch_returns x WHERE x.task_id = g.task_id AND x.template_no = g.template_no ORDER BY x.turn LIMIT v_free)) RETURNING r.turn, r.step_no)
      SELECT coalesce(array_agg(d.step_no ORDER BY d.turn), '{}') INTO v_next FROM d;
    END IF;
    v_back := cardinality(v_next);
    v_free := v_free - v_back;
    -- Some that wait at the gate may have been ended by hand. One by one: a query would look at all that wait.
    v_at := g.n_released;
    WHILE v_free > 0 AND v_at < g.n_workers LOOP
      v_at := v_at + 1;
      v_no := g.template_no + v_at * g.stride;
      IF EXISTS (SELECT 1 FROM tasker.steps x WHERE x.task_id = g.task_id AND x.step_no = v_no AND x.state = 'pending') THEN
        v_next := v_next || v_no;
        v_free := v_free - 1;
      END IF;
    END LOOP;
    UPDATE tasker.batches b SET
      n_inside = g.n_inside - g.n + cardinality(v_next),
      n_returned = g.n_returned - v_back,
      n_released = v_at
    WHERE b.task_id = g.task_id AND b.template_no = g.template_no;
    RETURN QUERY SELECT NULL::int, NULL::text, g.task_id, g.template_id, x.no, 1 FROM unnest(v_next) AS x(no);
  END LOOP;
END $$;

-- What waits for these steps has one parent less to wait for: the children, of batch workers each instance.
CREATE FUNCTION tasker.effects_on_children(p_task bigint[], p_step int[]) RETURNS SETOF tasker.effect LANGUAGE sql STABLE AS $$
  SELECT NULL::int, NULL::text, e.task_id, t.template_id, i.no, count(*)::int
  FROM unnest(p_task, p_step) AS e(task_id, step_no)
  CROSS JOIN LATERAL (SELECT x.template_id FROM tasker.tasks x WHERE x.task_id = e.task_id OFFSET 0) t
  CROSS JOIN LATERAL (SELECT x.template_no FROM tasker.steps x WHERE x.task_id = e.task_id AND x.step_no = e.step_no OFFSET 0) s
  CROSS JOIN LATERAL (SELECT unnest(x.children) AS no FROM tasker.template_steps x WHERE x.template_id = t.template_id AND x.step_no = s.template_no OFFSET 0) c
  CROSS JOIN LATERAL tasker.steps_of(e.task_id, c.no) AS i(no)
  GROUP BY e.task_id, t.template_id, i.no
$$;

-- Take effects in: pending steps count down, and what is ready is enqueued. The caller holds the tasks' row locks. q rows.
CREATE FUNCTION tasker.count_down(p_notify boolean, p_effects tasker.effect[]) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  e_t bigint[]; e_s int[]; e_h int[]; e_f int[];
BEGIN
  WITH g AS (
    SELECT e.task_id, e.template_id, e.step_no, sum(e.n)::int AS n FROM unnest(p_effects) AS e GROUP BY e.task_id, e.template_id, e.step_no),
  k AS (
    SELECT g.n, s.c, ts.handler_id FROM g
    CROSS JOIN LATERAL (SELECT x.ctid AS c, x.template_no FROM tasker.steps x WHERE x.task_id = g.task_id AND x.step_no = g.step_no AND x.state = 'pending' OFFSET 0) s
    CROSS JOIN LATERAL (SELECT x.handler_id FROM tasker.template_steps x WHERE x.template_id = g.template_id AND x.step_no = s.template_no OFFSET 0) ts),
  u AS (
    UPDATE tasker.steps s SET
      pending_parents = s.pending_parents - k.n,
      state = CASE WHEN s.pending_parents = k.n THEN 'enqueued' ELSE 'pending' END::tasker.step_state,
      ready_at = CASE WHEN s.pending_parents = k.n THEN clock_timestamp() END
    FROM k WHERE s.ctid = k.c
    RETURNING s.task_id, s.step_no, s.fence, s.state, k.handler_id)
  SELECT array_agg(task_id), array_agg(step_no), array_agg(handler_id), array_agg(fence) INTO e_t, e_s, e_h, e_f
  FROM (SELECT * FROM u WHERE state = 'enqueued' ORDER BY task_id, step_no) x;
  IF e_t IS NULL THEN
    RETURN;
  END IF;
  PERFORM tasker.count_active(e_t, '{}');
  RETURN QUERY SELECT * FROM tasker.enqueue(e_t, e_s, e_f, e_h, array_fill(NULL::timestamptz, ARRAY[cardinality(e_t)]), p_notify);
END $$;

-- One instance has failed for good in a batch that fails fast: the others end as cancelled. x rows: running ones to be told.
CREATE FUNCTION tasker.batch_abort(p_node int, p_notify boolean, p_task bigint, p_template_no int) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
  v_active int; v_waiting int; v_uuid uuid := (SELECT t.task_uuid FROM tasker.tasks t WHERE t.task_id = p_task);
  x_s int[]; x_a int[]; x_f int[];
BEGIN
  -- A claim under way is waited for, and then seen: a statement that waits itself would find the new row, but not be able to update it by its ctid.
  PERFORM 1 FROM tasker.instances(p_task, p_template_no) AS i(no)
  CROSS JOIN LATERAL (SELECT 1 FROM tasker.steps x WHERE x.task_id = p_task AND x.step_no = i.no AND x.state IN ('pending', 'enqueued', 'waiting_for_retry', 'in_progress') OFFSET 0 FOR NO KEY UPDATE) s;
  WITH was AS MATERIALIZED (
    SELECT s.* FROM tasker.instances(p_task, p_template_no) AS i(no)
    CROSS JOIN LATERAL (SELECT x.ctid AS c, x.step_no, x.state, x.attempts, x.fence, x.node_no, x.ready_at, x.claimed_at FROM tasker.steps x
                        WHERE x.task_id = p_task AND x.step_no = i.no AND x.state IN ('pending', 'enqueued', 'waiting_for_retry', 'in_progress') OFFSET 0) s),
  u AS (UPDATE tasker.steps s SET state = 'cancelled', node_no = NULL, finished_at = v_now, retry_at = NULL FROM was WHERE s.ctid = was.c),
  a AS (INSERT INTO tasker.step_attempts (task_id, step_no, attempt, fence, outcome, node_no, ready_at, claimed_at, finished_at, recorded_at, error)
        SELECT p_task, w.step_no, w.attempts, w.fence, 'cancelled', w.node_no, w.ready_at, w.claimed_at, v_now, v_now, '{"message": "another worker of the batch has failed"}'
        FROM was w WHERE w.state = 'in_progress')
  SELECT count(*) FILTER (WHERE w.state IN ('enqueued', 'in_progress')), count(*) FILTER (WHERE w.state = 'waiting_for_retry'),
         array_agg(w.step_no) FILTER (WHERE w.state = 'in_progress'), array_agg(w.attempts) FILTER (WHERE w.state = 'in_progress'), array_agg(w.fence) FILTER (WHERE w.state = 'in_progress')
  INTO v_active, v_waiting, x_s, x_a, x_f FROM was w;
  UPDATE tasker.tasks t SET n_active = t.n_active - v_active, n_waiting = t.n_waiting - v_waiting WHERE t.task_id = p_task;
  UPDATE tasker.batches b SET n_inside = 0, n_returned = 0 WHERE b.task_id = p_task AND b.template_no = p_template_no;
  DELETE FROM tasker.batch_returns r WHERE r.task_id = p_task AND r.template_no = p_template_no;
  IF p_notify THEN
    PERFORM tasker.notify('tasker_cancel', tasker.step_uuid(v_uuid, e.s)::text) FROM unnest(x_s) AS e(s);
  END IF;
  RETURN QUERY SELECT 'x'::"char", NULL::int, NULL::text, p_task, v_uuid, NULL::int, e.s, e.a, e.f, NULL::int, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::jsonb
               FROM unnest(x_s, x_a, x_f) AS e(s, a, f);
END $$;

-- Steps that have just ended in error (counted in n_failed), among them batch worker instances: do what their batches' failure_strategy says. The caller holds the tasks' row locks.
CREATE FUNCTION tasker.batch_failures(p_node int, p_notify boolean, p_task bigint[], p_step int[]) RETURNS SETOF tasker.hot_row LANGUAGE plpgsql AS $$
DECLARE
  v_tolerated_t bigint[]; v_tolerated_s int[]; v_abort_t bigint[]; v_abort_n int[];
  v_effects tasker.effect[];
BEGIN
  SELECT array_agg(e.task_id) FILTER (WHERE b.failure_strategy = 'continue_on_failure'), array_agg(e.step_no) FILTER (WHERE b.failure_strategy = 'continue_on_failure'),
         array_agg(e.task_id) FILTER (WHERE b.failure_strategy = 'fail_fast'), array_agg(s.template_no) FILTER (WHERE b.failure_strategy = 'fail_fast')
  INTO v_tolerated_t, v_tolerated_s, v_abort_t, v_abort_n
  FROM unnest(p_task, p_step) AS e(task_id, step_no)
  CROSS JOIN LATERAL (SELECT x.template_no FROM tasker.steps x WHERE x.task_id = e.task_id AND x.step_no = e.step_no AND x.template_no <> x.step_no OFFSET 0) s
  CROSS JOIN LATERAL (SELECT x.failure_strategy FROM tasker.batches x WHERE x.task_id = e.task_id AND x.template_no = s.template_no OFFSET 0) b;
  SELECT array_agg(e) INTO v_effects FROM tasker.batch_progress(p_task, p_step) e;
  IF v_tolerated_t IS NOT NULL THEN
    UPDATE tasker.steps s SET result = jsonb_build_object('error', s.error), result_bytes = length(s.error::text) + 12
    FROM (SELECT x.c FROM unnest(v_tolerated_t, v_tolerated_s) AS e(task_id, step_no)
          CROSS JOIN LATERAL (SELECT y.ctid AS c FROM tasker.steps y WHERE y.task_id = e.task_id AND y.step_no = e.step_no OFFSET 0) x) k
    WHERE s.ctid = k.c;
    UPDATE tasker.tasks t SET open_sinks = t.open_sinks - k.n, n_failed = t.n_failed - k.n
    FROM (SELECT g.n, z.c FROM (SELECT x AS task_id, count(*)::int AS n FROM unnest(v_tolerated_t) AS x GROUP BY x) g
          CROSS JOIN LATERAL (SELECT y.ctid AS c FROM tasker.tasks y WHERE y.task_id = g.task_id OFFSET 0) z) k
    WHERE t.ctid = k.c;
    SELECT v_effects || array_agg(e) INTO v_effects FROM tasker.effects_on_children(v_tolerated_t, v_tolerated_s) e;
  END IF;
  FOR i IN 1 .. coalesce(cardinality(v_abort_t), 0) LOOP
    RETURN QUERY SELECT * FROM tasker.batch_abort(p_node, p_notify, v_abort_t[i], v_abort_n[i]);
  END LOOP;
  IF v_effects IS NOT NULL THEN
    RETURN QUERY SELECT * FROM tasker.count_down(p_notify, v_effects);
  END IF;
END $$;

-- Checkpoints -------------------------------------------------------------------------------------------------------------

-- A step's checkpoint after another one: what was said, when, the last ten cursors, and how often the step was given back at one.
CREATE FUNCTION tasker.next_checkpoint(p_old jsonb, p_new jsonb, p_yields int) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT p_new || jsonb_build_object('timestamp', k.at, 'yields', coalesce((p_old ->> 'yields')::int, 0) + p_yields, 'history', (
    SELECT jsonb_agg(h.value ORDER BY h.ord)
    FROM (SELECT x.value, x.ord FROM jsonb_array_elements(coalesce(p_old -> 'history', '[]') || jsonb_build_array(
            CASE WHEN octet_length((p_new -> 'cursor')::text) <= 1024 THEN jsonb_build_object('cursor', p_new -> 'cursor') ELSE '{}' END || jsonb_build_object('timestamp', k.at)))
            WITH ORDINALITY AS x(value, ord) ORDER BY x.ord DESC LIMIT 10) h))
  FROM (SELECT tasker.rfc3339(clock_timestamp()) AS at) k
$$;

-- Of attempts that are about to be given back. A released attempt's result is its checkpoint; one that was given back unused has none.
CREATE FUNCTION tasker.store_checkpoints(p_task bigint[], p_step int[], p_fence int[], p_outcome tasker.attempt_outcome[], p_checkpoint jsonb[]) RETURNS void LANGUAGE sql AS $$
  UPDATE tasker.steps s SET checkpoint = tasker.next_checkpoint(s.checkpoint, k.checkpoint, 1)
  FROM (SELECT u.checkpoint, x.c FROM unnest(p_task, p_step, p_fence, p_outcome, p_checkpoint) AS u(task_id, step_no, fence, outcome, checkpoint)
        CROSS JOIN LATERAL (SELECT y.ctid AS c FROM tasker.steps y WHERE y.task_id = u.task_id AND y.step_no = u.step_no AND y.state = 'in_progress' AND y.fence = u.fence OFFSET 0) x
        WHERE u.outcome = 'released' AND u.checkpoint IS NOT NULL) k
  WHERE s.ctid = k.c
$$;

-- Of an attempt that goes on. No state changes, so the step's row lock is enough.
CREATE FUNCTION tasker.api_step_checkpoint(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  UPDATE tasker.steps s SET checkpoint = tasker.next_checkpoint(s.checkpoint, p -> 'checkpoint', 0)
  WHERE s.task_id = tasker.task_id_of(p ->> 'task_uuid') AND s.step_no = (p ->> 'step_no')::int AND s.state = 'in_progress' AND s.fence = (p ->> 'fence')::int;
  RETURN jsonb_build_object('status', CASE WHEN FOUND THEN 'recorded' ELSE 'stale' END);
END $$;

-- Doctor ------------------------------------------------------------------------------------------------------------------

-- What pending_parents of a batch worker's pending instance has besides its parents: one, if it is not yet let through the gate.
CREATE FUNCTION tasker.behind_gate(p_task bigint, p_template_no int, p_step int) RETURNS int LANGUAGE sql STABLE AS $$
  SELECT count(*)::int FROM tasker.batches b WHERE b.task_id = p_task AND b.template_no = p_template_no
    AND (p_step > b.template_no + b.n_released * b.stride OR EXISTS (SELECT 1 FROM tasker.batch_returns r WHERE r.task_id = p_task AND r.step_no = p_step))
$$;

CREATE FUNCTION tasker.dynamic_checks() RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
  c_live CONSTANT text := $q$ t.state NOT IN ('complete', 'error', 'cancelled', 'resolved_manually') $q$;
BEGIN
  RETURN jsonb_build_array(
    tasker.doctor_check('made_or_impossible', 'of a complete task every template step was made or is impossible, and no step is both',
      $q$ SELECT t.task_uuid, ts.name FROM tasker.tasks t JOIN tasker.templates tp USING (template_id) JOIN tasker.template_steps ts USING (template_id)
          CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM tasker.steps s WHERE s.task_id = t.task_id AND s.step_no = ts.step_no)
                                  OR EXISTS (SELECT 1 FROM tasker.batches b WHERE b.task_id = t.task_id AND b.template_no = ts.step_no) AS made, coalesce(ts.step_no = ANY (t.impossible), false) AS gone) k
          WHERE tp.dynamic AND (k.made AND k.gone OR t.state = 'complete' AND NOT k.made AND NOT k.gone) $q$),
    tasker.doctor_check('batches_are_whole', 'a batch has all its workers, and there are no others',
      $q$ SELECT t.task_uuid, s.template_no, s.n, b.n_workers FROM (
            SELECT x.task_id, x.template_no, count(*) AS n, max(x.step_no) AS last FROM tasker.steps x WHERE x.step_no <> x.template_no GROUP BY x.task_id, x.template_no) s
          FULL JOIN tasker.batches b ON b.task_id = s.task_id AND b.template_no = s.template_no
          JOIN tasker.tasks t ON t.task_id = coalesce(s.task_id, b.task_id)
          WHERE s.n IS DISTINCT FROM b.n_workers OR s.last <> b.template_no + b.n_workers * b.stride $q$),
    tasker.doctor_check('gates_let_through', 'a batch with parallelism has as many workers inside as it counts, not more than allowed, and none waits while there is room',
      'SELECT t.task_uuid, b.template_no, b.parallelism, b.n_inside, k.inside, k.waiting FROM tasker.batches b JOIN tasker.tasks t USING (task_id)
       CROSS JOIN LATERAL (
         SELECT count(*) FILTER (WHERE i.inside) AS inside, count(*) FILTER (WHERE NOT i.inside) AS waiting
         FROM (SELECT s.state <> ''pending'' OR (s.step_no <= b.template_no + b.n_released * b.stride AND NOT EXISTS (SELECT 1 FROM tasker.batch_returns r WHERE r.task_id = b.task_id AND r.step_no = s.step_no)) AS inside
               FROM tasker.steps s WHERE s.task_id = b.task_id AND s.template_no = b.template_no AND s.state IN (''pending'', ''enqueued'', ''in_progress'', ''waiting_for_retry'')) i) k
       WHERE b.parallelism IS NOT NULL AND ' || c_live || $q$ AND NOT EXISTS (SELECT 1 FROM tasker.long_actions l WHERE l.task_id = b.task_id AND l.action IN ('cancel', 'resolve_manually')) AND (k.inside > b.parallelism OR k.waiting > 0 AND k.inside < b.parallelism
         OR k.inside <> b.n_inside OR b.n_returned <> (SELECT count(*) FROM tasker.batch_returns r WHERE r.task_id = b.task_id AND r.template_no = b.template_no)) $q$));
END $$;
