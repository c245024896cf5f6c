-- Hand the queues of taskerd's own pgmq schema over to the PGMQ extension, keeping every message, its id and its state.
-- With taskerd stopped, as the owner of schema pgmq, in one transaction:
--
--   1. ALTER SCHEMA pgmq RENAME TO pgmq_before;
--   2. CREATE EXTENSION pgmq;  (or load its SQL file)
--   3. this file
--
-- Rows are copied by column name into tables that the extension makes, so it does not matter which columns its version adds.

DO $move$
DECLARE
	columns constant text := 'msg_id, read_ct, enqueued_at, vt, message, headers';
	queue text;
	next_id bigint;
BEGIN
	IF to_regprocedure('pgmq.taskerd_implementation()') IS NOT NULL THEN
		RAISE EXCEPTION 'schema pgmq is still taskerd''s own: rename it to pgmq_before and create the extension first';
	ELSIF to_regprocedure('pgmq_before.taskerd_implementation()') IS NULL THEN
		RAISE EXCEPTION 'schema pgmq_before is not taskerd''s own';
	END IF;
	FOR queue IN SELECT queue_name FROM pgmq_before.meta ORDER BY created_at, queue_name LOOP
		PERFORM pgmq.create(queue);
		EXECUTE format('INSERT INTO pgmq.%1$I (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM pgmq_before.%1$I',
		               'q_' || lower(queue), columns);
		EXECUTE format('INSERT INTO pgmq.%1$I (%2$s, archived_at) SELECT %2$s, archived_at FROM pgmq_before.%1$I',
		               'a_' || lower(queue), columns);
		EXECUTE format('SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END FROM %s',
		               pg_get_serial_sequence(format('pgmq_before.%I', 'q_' || lower(queue)), 'msg_id')) INTO next_id;
		PERFORM setval(pg_get_serial_sequence(format('pgmq.%I', 'q_' || lower(queue)), 'msg_id'), next_id, false);
	END LOOP;
	DROP SCHEMA pgmq_before CASCADE;
END
$move$;
