-- Queues: taskerd's own implementation of the PGMQ functions, for servers without the PGMQ extension.
--
-- It owns schema pgmq when nothing else does. Signatures, types and table layout are those that PGMQ documents, so a caller cannot
-- tell the two apart and the extension can take the tables over later. taskerd recognises its own by
-- pgmq.taskerd_implementation(), which is the version of this file.
--
-- Run it in one transaction, as any role that may create schemas in the database. It may be run again: an older version of
-- itself is brought up to date, a newer one is refused, and a schema pgmq that somebody else filled is never touched.
--
-- Moving to the extension, with taskerd stopped: tests/integration/pgmq/move_to_extension.sql, which a test runs.
--
-- Rules kept below: a function runs with its caller's rights; every name is schema-qualified, so the caller's search_path does not
-- matter; a queue's table name reaches dynamic SQL only through pgmq.taskerd_table() and %I.

DO $install$
DECLARE
	schema_oid oid;
	schema_is_mine boolean;
	found_version integer;
BEGIN
	PERFORM pg_advisory_xact_lock(hashtextextended('pgmq.taskerd_install', 0));
	SELECT n.oid INTO schema_oid FROM pg_namespace n WHERE n.nspname = 'pgmq';
	IF schema_oid IS NULL THEN
		CREATE SCHEMA pgmq;
	ELSIF to_regprocedure('pgmq.taskerd_implementation()') IS NOT NULL THEN
		SELECT pgmq.taskerd_implementation() INTO found_version;
		IF found_version > 1 THEN
			RAISE EXCEPTION 'schema pgmq holds version % of taskerd''s queues, this file is version 1', found_version
				USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run a newer taskerd.';
		END IF;
	ELSIF EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = schema_oid)
	      OR EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = schema_oid)
	      OR EXISTS (SELECT FROM pg_type t WHERE t.typnamespace = schema_oid) THEN
		RAISE EXCEPTION 'schema pgmq exists and is not taskerd''s'
			USING ERRCODE = 'duplicate_schema', HINT = 'taskerd uses a PGMQ that is already there and never changes it.';
	END IF;

	-- A database administrator may have made the (empty) schema for us: then it is not ours to comment on.
	SELECT pg_has_role(n.nspowner, 'USAGE') INTO schema_is_mine FROM pg_namespace n WHERE n.nspname = 'pgmq';
	IF schema_is_mine THEN
		COMMENT ON SCHEMA pgmq IS 'taskerd: own implementation of the PGMQ queue functions, version 1';
	END IF;

	IF to_regtype('pgmq.message_record') IS NULL THEN
		CREATE TYPE pgmq.message_record AS (
			msg_id bigint,
			read_ct integer,
			enqueued_at timestamptz,
			vt timestamptz,
			message jsonb,
			headers jsonb
		);
		CREATE TYPE pgmq.queue_record AS (
			queue_name varchar,
			is_partitioned boolean,
			is_unlogged boolean,
			created_at timestamptz
		);
		CREATE TYPE pgmq.metrics_result AS (
			queue_name text,
			queue_length bigint,
			newest_msg_age_sec integer,
			oldest_msg_age_sec integer,
			total_messages bigint,
			scrape_time timestamptz,
			queue_visible_length bigint
		);
		CREATE TABLE pgmq.meta (
			queue_name varchar NOT NULL UNIQUE,
			is_partitioned boolean NOT NULL,
			is_unlogged boolean NOT NULL,
			created_at timestamptz NOT NULL DEFAULT now()
		);
	END IF;
END
$install$;

CREATE OR REPLACE FUNCTION pgmq.taskerd_implementation() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 1 $$;
COMMENT ON FUNCTION pgmq.taskerd_implementation() IS 'Marks schema pgmq as taskerd''s own; the value is its version.';

-- The limit is in bytes: 47 is what the longest name derived from a queue's ("archived_at_idx_" and the like) leaves of
-- PostgreSQL's 63, and a longer one would be cut silently and could meet another queue's.
CREATE OR REPLACE FUNCTION pgmq.validate_queue_name(queue_name text) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
	IF queue_name IS NULL OR queue_name = '' THEN
		RAISE EXCEPTION 'queue name is empty' USING ERRCODE = 'invalid_name';
	ELSIF octet_length(queue_name) > 47 THEN
		RAISE EXCEPTION 'queue name is too long: % bytes, at most 47', octet_length(queue_name) USING ERRCODE = 'invalid_name';
	ELSIF queue_name ~ E'[[:cntrl:]$;"''\\\\]|--' THEN
		RAISE EXCEPTION 'queue name contains a quote, backslash, dollar sign, semicolon, double dash or control character'
			USING ERRCODE = 'invalid_name';
	END IF;
END
$$;

-- The table of a queue: 'q' for its messages, 'a' for its archive.
CREATE OR REPLACE FUNCTION pgmq.taskerd_table(queue_name text, prefix text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
	PERFORM pgmq.validate_queue_name(queue_name);
	RETURN prefix || '_' || lower(queue_name);
END
$$;

-- Held to the end of the transaction by whoever makes or drops the queue.
CREATE OR REPLACE FUNCTION pgmq.taskerd_lock_queue(queue_name text) RETURNS void
LANGUAGE sql VOLATILE AS $$
	SELECT pg_advisory_xact_lock(hashtextextended('pgmq.queue.' || lower(queue_name), 0))
$$;

CREATE OR REPLACE FUNCTION pgmq.taskerd_has_queue(queue_name text) RETURNS boolean
LANGUAGE sql STABLE AS $$
	SELECT EXISTS (SELECT FROM pgmq.meta m WHERE lower(m.queue_name) = lower($1))
	       AND to_regclass(format('pgmq.%I', pgmq.taskerd_table($1, 'q'))) IS NOT NULL
	       AND to_regclass(format('pgmq.%I', pgmq.taskerd_table($1, 'a'))) IS NOT NULL
$$;

-- Storage of a queue table. Rows live briefly and claims walk the vt index from its old end, so dead entries there are what makes a
-- queue slow: vacuum after a fixed number of them, at full speed. No truncation of the emptied tail, which would lock claims out
-- each time the queue drains. No fillfactor: the only updates change vt, which is indexed, so none could be HOT.
CREATE OR REPLACE FUNCTION pgmq.create_non_partitioned(queue_name text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	queue_table text := pgmq.taskerd_table(queue_name, 'q');
	archive_table text := pgmq.taskerd_table(queue_name, 'a');
BEGIN
	IF pgmq.taskerd_has_queue(queue_name) THEN
		RETURN;
	END IF;
	PERFORM pgmq.taskerd_lock_queue(queue_name);
	IF to_regclass(format('pgmq.%I', queue_table)) IS NULL THEN
		EXECUTE format($ddl$
			CREATE TABLE pgmq.%I (
				msg_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
				read_ct integer NOT NULL DEFAULT 0,
				enqueued_at timestamptz NOT NULL DEFAULT now(),
				vt timestamptz NOT NULL,
				message jsonb,
				headers jsonb
			) WITH (
				autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
				autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000,
				autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
			)$ddl$, queue_table);
		EXECUTE format('CREATE INDEX %I ON pgmq.%I (vt)', queue_table || '_vt_idx', queue_table);
	END IF;
	IF to_regclass(format('pgmq.%I', archive_table)) IS NULL THEN
		EXECUTE format($ddl$
			CREATE TABLE pgmq.%I (
				msg_id bigint PRIMARY KEY,
				read_ct integer NOT NULL DEFAULT 0,
				enqueued_at timestamptz NOT NULL DEFAULT now(),
				archived_at timestamptz NOT NULL DEFAULT now(),
				vt timestamptz NOT NULL,
				message jsonb,
				headers jsonb
			)$ddl$, archive_table);
		EXECUTE format('CREATE INDEX %I ON pgmq.%I (archived_at)', 'archived_at_idx_' || queue_name, archive_table);
	END IF;
	INSERT INTO pgmq.meta (queue_name, is_partitioned, is_unlogged)
	SELECT create_non_partitioned.queue_name, false, false
	WHERE NOT EXISTS (SELECT FROM pgmq.meta m WHERE lower(m.queue_name) = lower(create_non_partitioned.queue_name));
END
$$;

CREATE OR REPLACE FUNCTION pgmq.create(queue_name text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pgmq.create_non_partitioned(queue_name);
END
$$;

-- False if there was no such queue.
CREATE OR REPLACE FUNCTION pgmq.drop_queue(queue_name text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	tables text[] := ARRAY[pgmq.taskerd_table(queue_name, 'q'), pgmq.taskerd_table(queue_name, 'a')];
	name text;
BEGIN
	PERFORM pgmq.taskerd_lock_queue(queue_name);
	DELETE FROM pgmq.meta m WHERE lower(m.queue_name) = lower(drop_queue.queue_name);
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	FOREACH name IN ARRAY tables LOOP
		IF to_regclass(format('pgmq.%I', name)) IS NOT NULL THEN
			EXECUTE format('DROP TABLE pgmq.%I', name);
		END IF;
	END LOOP;
	RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION pgmq.list_queues() RETURNS SETOF pgmq.queue_record
LANGUAGE sql STABLE AS $$
	SELECT m.queue_name, m.is_partitioned, m.is_unlogged, m.created_at FROM pgmq.meta m ORDER BY m.created_at, m.queue_name
$$;

-- Sending. The overloads with headers and an absolute time do the work; the others compute the time and call them.

CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay timestamptz) RETURNS SETOF bigint
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('INSERT INTO pgmq.%I (vt, message, headers) VALUES ($1, $2, $3) RETURNING msg_id',
	                            pgmq.taskerd_table(queue_name, 'q'))
	             USING delay, msg, headers;
END
$$;

CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb) RETURNS SETOF bigint
LANGUAGE sql AS $$ SELECT pgmq.send($1, $2, NULL::jsonb, clock_timestamp()) $$;

CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb) RETURNS SETOF bigint
LANGUAGE sql AS $$ SELECT pgmq.send($1, $2, $3, clock_timestamp()) $$;

CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb, delay integer) RETURNS SETOF bigint
LANGUAGE sql AS $$ SELECT pgmq.send($1, $2, NULL::jsonb, clock_timestamp() + make_interval(secs => $3)) $$;

CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb, delay timestamptz) RETURNS SETOF bigint
LANGUAGE sql AS $$ SELECT pgmq.send($1, $2, NULL::jsonb, $3) $$;

CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay integer) RETURNS SETOF bigint
LANGUAGE sql AS $$ SELECT pgmq.send($1, $2, $3, clock_timestamp() + make_interval(secs => $4)) $$;

-- One statement for the whole batch; ids rise in the order of the array. Headers, when given, go with the messages one to one. An
-- empty batch is refused because the extension refuses it: a caller that sends one must not find out on the day it moves there.
CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay timestamptz) RETURNS SETOF bigint
LANGUAGE plpgsql AS $$
BEGIN
	IF coalesce(cardinality(msgs), 0) = 0 THEN
		RAISE EXCEPTION 'send_batch: no messages' USING ERRCODE = 'invalid_parameter_value';
	ELSIF cardinality(headers) <> cardinality(msgs) THEN
		RAISE EXCEPTION 'send_batch: % messages, but % headers', cardinality(msgs), cardinality(headers)
			USING ERRCODE = 'array_subscript_error';
	END IF;
	RETURN QUERY EXECUTE format('INSERT INTO pgmq.%I (vt, message, headers) '
	                            'SELECT $1, b.message, b.headers FROM unnest($2, $3) AS b (message, headers) RETURNING msg_id',
	                            pgmq.taskerd_table(queue_name, 'q'))
	             USING delay, msgs, headers;
END
$$;

CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[]) RETURNS SETOF bigint
LANGUAGE sql AS $$ SELECT pgmq.send_batch($1, $2, NULL::jsonb[], clock_timestamp()) $$;

CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[]) RETURNS SETOF bigint
LANGUAGE sql AS $$ SELECT pgmq.send_batch($1, $2, $3, clock_timestamp()) $$;

CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay integer) RETURNS SETOF bigint
LANGUAGE sql AS $$ SELECT pgmq.send_batch($1, $2, NULL::jsonb[], clock_timestamp() + make_interval(secs => $3)) $$;

CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay timestamptz) RETURNS SETOF bigint
LANGUAGE sql AS $$ SELECT pgmq.send_batch($1, $2, NULL::jsonb[], $3) $$;

CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay integer) RETURNS SETOF bigint
LANGUAGE sql AS $$ SELECT pgmq.send_batch($1, $2, $3, clock_timestamp() + make_interval(secs => $4)) $$;

-- Taking the time once, as a parameter, lets the planner use the vt index when nearly everything is in flight. The ids go to the
-- UPDATE as an array, not as a join: a queue that was analyzed while empty makes the planner expect one row, join by walking the
-- whole table for each id, and take seconds. The filter is left out for {}, which contains-tests only objects: a message may be any
-- JSON value.
CREATE OR REPLACE FUNCTION pgmq.read(queue_name text, vt integer, qty integer, conditional jsonb DEFAULT '{}')
RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format($sql$
		WITH due AS (
			SELECT m.msg_id FROM pgmq.%1$I m WHERE m.vt <= $1 %2$s
			ORDER BY m.msg_id LIMIT $2 FOR UPDATE SKIP LOCKED
		), taken AS (
			UPDATE pgmq.%1$I m SET vt = clock_timestamp() + make_interval(secs => $3), read_ct = m.read_ct + 1
			WHERE m.msg_id = ANY (ARRAY(SELECT due.msg_id FROM due))
			RETURNING m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers
		)
		SELECT * FROM taken ORDER BY msg_id$sql$,
		pgmq.taskerd_table(queue_name, 'q'),
		CASE WHEN conditional <> '{}' THEN 'AND m.message @> $4' END)
		USING clock_timestamp(), qty, vt, conditional;
END
$$;

-- Holds a snapshot while it waits, which keeps vacuum from cleaning anything newer: for people and small tools.
CREATE OR REPLACE FUNCTION pgmq.read_with_poll(queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
                                               poll_interval_ms integer DEFAULT 100, conditional jsonb DEFAULT '{}')
RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql AS $$
DECLARE
	give_up timestamptz := clock_timestamp() + make_interval(secs => max_poll_seconds);
BEGIN
	LOOP
		RETURN QUERY SELECT * FROM pgmq.read(queue_name, read_with_poll.vt, qty, conditional);
		IF FOUND OR clock_timestamp() >= give_up THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(least(poll_interval_ms / 1000.0, extract(epoch FROM give_up - clock_timestamp())));
	END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION pgmq.pop(queue_name text) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format($sql$
		WITH due AS (
			SELECT m.msg_id FROM pgmq.%1$I m WHERE m.vt <= $1
			ORDER BY m.msg_id LIMIT 1 FOR UPDATE SKIP LOCKED
		)
		DELETE FROM pgmq.%1$I m WHERE m.msg_id = (SELECT due.msg_id FROM due)
		RETURNING m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers$sql$,
		pgmq.taskerd_table(queue_name, 'q'))
		USING clock_timestamp();
END
$$;

CREATE OR REPLACE FUNCTION pgmq.delete(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('DELETE FROM pgmq.%I WHERE msg_id = ANY ($1) RETURNING msg_id',
	                            pgmq.taskerd_table(queue_name, 'q'))
	             USING msg_ids;
END
$$;

CREATE OR REPLACE FUNCTION pgmq.delete(queue_name text, msg_id bigint) RETURNS boolean
LANGUAGE sql AS $$ SELECT EXISTS (SELECT FROM pgmq.delete($1, ARRAY[$2])) $$;

CREATE OR REPLACE FUNCTION pgmq.archive(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format($sql$
		WITH done AS (
			DELETE FROM pgmq.%I WHERE msg_id = ANY ($1)
			RETURNING msg_id, read_ct, enqueued_at, vt, message, headers
		)
		INSERT INTO pgmq.%I (msg_id, read_ct, enqueued_at, vt, message, headers) SELECT * FROM done
		RETURNING msg_id$sql$,
		pgmq.taskerd_table(queue_name, 'q'), pgmq.taskerd_table(queue_name, 'a'))
		USING msg_ids;
END
$$;

CREATE OR REPLACE FUNCTION pgmq.archive(queue_name text, msg_id bigint) RETURNS boolean
LANGUAGE sql AS $$ SELECT EXISTS (SELECT FROM pgmq.archive($1, ARRAY[$2])) $$;

CREATE OR REPLACE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt integer) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('UPDATE pgmq.%I SET vt = clock_timestamp() + make_interval(secs => $2) WHERE msg_id = $1 '
	                            'RETURNING msg_id, read_ct, enqueued_at, vt, message, headers',
	                            pgmq.taskerd_table(queue_name, 'q'))
	             USING msg_id, vt;
END
$$;

-- TRUNCATE rather than DELETE: it leaves nothing for later claims to walk over. Ids go on where they were.
CREATE OR REPLACE FUNCTION pgmq.purge_queue(queue_name text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
	queue_table text := pgmq.taskerd_table(queue_name, 'q');
	purged bigint;
BEGIN
	EXECUTE format('LOCK TABLE pgmq.%I IN ACCESS EXCLUSIVE MODE', queue_table);
	EXECUTE format('SELECT count(*) FROM pgmq.%I', queue_table) INTO purged;
	EXECUTE format('TRUNCATE TABLE pgmq.%I', queue_table);
	RETURN purged;
END
$$;

-- Reads the whole queue. Ages are NULL when it is empty; total_messages counts every id ever given out.
CREATE OR REPLACE FUNCTION pgmq.metrics(queue_name text) RETURNS pgmq.metrics_result
LANGUAGE plpgsql AS $$
DECLARE
	queue_table text := pgmq.taskerd_table(queue_name, 'q');
	result pgmq.metrics_result;
BEGIN
	EXECUTE format($sql$
		SELECT $1, count(*), trunc(extract(epoch FROM $2 - max(m.enqueued_at)))::integer,
		       trunc(extract(epoch FROM $2 - min(m.enqueued_at)))::integer,
		       (SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM %2$s s),
		       $2, count(*) FILTER (WHERE m.vt <= $2)
		FROM pgmq.%1$I m$sql$,
		queue_table, pg_get_serial_sequence(format('pgmq.%I', queue_table), 'msg_id'))
		INTO result USING queue_name, clock_timestamp();
	RETURN result;
END
$$;

CREATE OR REPLACE FUNCTION pgmq.metrics_all() RETURNS SETOF pgmq.metrics_result
LANGUAGE sql AS $$
	SELECT r.* FROM pgmq.list_queues() q, LATERAL pgmq.metrics(q.queue_name) r
$$;
