-- Steps that results make: decisions name the branches that a task takes, batchables the batches that workers share.
--
-- Of a task's template steps some exist (they have a row in tasker.steps; a batch worker has one in tasker.batches and its instances in tasker.steps), some are
-- impossible (in tasks.impossible), and the others are possible: a result may still make them. Each pending step counts in pending_parents its parents that exist and are
-- unsatisfied (a batch worker once for each unsatisfied instance) and its possible parents once each, so that nothing runs before what may still come.

-- What registering a dynamic template works out once. The steps made with a task: those that no decision has a say in. A batch worker's instances come with the result of its
-- batchable, but what waits for them is made with the task. Numbers are topological, so one pass does.
CREATE FUNCTION tasker.register_dynamic(p_template int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  ts record;
  v_n int := (SELECT n_steps FROM tasker.templates WHERE template_id = p_template);
  v_type text[] := array_fill(''::text, ARRAY[v_n]);
  v_there boolean[] := array_fill(false, ARRAY[v_n]);
  v_depth int[] := array_fill(0, ARRAY[v_n]);
  v_no int; v_decisions int; v_others int; v_others_there int; v_deepest int;
BEGIN
  FOR ts IN SELECT s.step_no, s.step_type, s.parents FROM tasker.template_steps s WHERE s.template_id = p_template ORDER BY s.step_no LOOP
    v_decisions := 0; v_others := 0; v_others_there := 0; v_deepest := 0;
    v_no := ts.step_no + 1;
    v_type[v_no] := ts.step_type;
    FOR i IN 1 .. cardinality(ts.parents) LOOP
      v_deepest := greatest(v_deepest, v_depth[ts.parents[i] + 1]);
      IF v_type[ts.parents[i] + 1] = 'decision' THEN
        v_decisions := v_decisions + 1;
      ELSIF ts.step_type <> 'batch_worker' OR v_type[ts.parents[i] + 1] = 'batchable' THEN
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
