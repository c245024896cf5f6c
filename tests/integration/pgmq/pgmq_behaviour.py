"""The documented behaviour of PGMQ as tests that hold for every implementation.

No test waits for time to pass: what a visibility timeout hides is brought back by set_vt, and a test that needs another session to block or to
poll waits until the server says it does.
"""
import json

import pgmq_database as database
import pg
from pg import PgError, lit

# Documented functions: argument types, argument names (callers may use them), result.
FUNCTIONS = """
create(text) queue_name void
create_non_partitioned(text) queue_name void
drop_queue(text) queue_name boolean
list_queues() - SETOF pgmq.queue_record
validate_queue_name(text) queue_name void
send(text,jsonb) queue_name,msg SETOF bigint
send(text,jsonb,integer) queue_name,msg,delay SETOF bigint
send(text,jsonb,timestamptz) queue_name,msg,delay SETOF bigint
send(text,jsonb,jsonb) queue_name,msg,headers SETOF bigint
send(text,jsonb,jsonb,integer) queue_name,msg,headers,delay SETOF bigint
send(text,jsonb,jsonb,timestamptz) queue_name,msg,headers,delay SETOF bigint
send_batch(text,jsonb[]) queue_name,msgs SETOF bigint
send_batch(text,jsonb[],integer) queue_name,msgs,delay SETOF bigint
send_batch(text,jsonb[],timestamptz) queue_name,msgs,delay SETOF bigint
send_batch(text,jsonb[],jsonb[]) queue_name,msgs,headers SETOF bigint
send_batch(text,jsonb[],jsonb[],integer) queue_name,msgs,headers,delay SETOF bigint
send_batch(text,jsonb[],jsonb[],timestamptz) queue_name,msgs,headers,delay SETOF bigint
read(text,integer,integer,jsonb) queue_name,vt,qty,conditional SETOF pgmq.message_record
read_with_poll(text,integer,integer,integer,integer,jsonb) queue_name,vt,qty,max_poll_seconds,poll_interval_ms,conditional SETOF pgmq.message_record
pop(text) queue_name SETOF pgmq.message_record
delete(text,bigint) queue_name,msg_id boolean
delete(text,bigint[]) queue_name,msg_ids SETOF bigint
archive(text,bigint) queue_name,msg_id boolean
archive(text,bigint[]) queue_name,msg_ids SETOF bigint
set_vt(text,bigint,integer) queue_name,msg_id,vt SETOF pgmq.message_record
purge_queue(text) queue_name bigint
metrics(text) queue_name pgmq.metrics_result
metrics_all() - SETOF pgmq.metrics_result
"""

TYPES = {
	"message_record": "msg_id bigint, read_ct integer, enqueued_at timestamptz, vt timestamptz, message jsonb, headers jsonb",
	"queue_record": "queue_name varchar, is_partitioned boolean, is_unlogged boolean, created_at timestamptz",
	"metrics_result": "queue_name text, queue_length bigint, newest_msg_age_sec integer, oldest_msg_age_sec integer, "
	                  "total_messages bigint, scrape_time timestamptz, queue_visible_length bigint",
}

# name, type, NOT NULL, always identity, default
QUEUE_COLUMNS = [
	["msg_id", "bigint", "t", "t", None],
	["read_ct", "integer", "t", "f", "0"],
	["enqueued_at", "timestamp with time zone", "t", "f", "now()"],
	["vt", "timestamp with time zone", "t", "f", None],
	["message", "jsonb", "f", "f", None],
	["headers", "jsonb", "f", "f", None],
]
ARCHIVE_COLUMNS = [["msg_id", "bigint", "t", "f", None]] + QUEUE_COLUMNS[1:3] + [["archived_at", "timestamp with time zone", "t", "f", "now()"]] + QUEUE_COLUMNS[3:]
META_COLUMNS = [
	["queue_name", "character varying", "t", "f", None],
	["is_partitioned", "boolean", "t", "f", None],
	["is_unlogged", "boolean", "t", "f", None],
	["created_at", "timestamp with time zone", "t", "f", "now()"],
]

# How a dispatcher claims without pgmq.read: the oldest visible messages leave the queue in the claiming transaction.
CLAIM = """WITH due AS MATERIALIZED (
		SELECT msg_id FROM pgmq.%s WHERE vt <= now() ORDER BY vt LIMIT %d FOR UPDATE SKIP LOCKED)
	DELETE FROM pgmq.%s q WHERE q.msg_id = ANY (ARRAY(SELECT msg_id FROM due)) RETURNING q.msg_id"""


class Behaviour:
	"""For a class that is a DatabaseCase too, and says by assert_no_more() what it thinks of fields that are not documented."""

	def new_queue(self):
		type(self).queues_made += 1
		name = "%s_%d" % (self.id().rsplit(".", 1)[1][-30:], self.queues_made)
		self.sql("SELECT pgmq.create(%s)", name)
		return name

	def send(self, queue, *messages):
		"""Send JSON values; their ids."""
		return [self.value("SELECT * FROM pgmq.send(%s, %s::jsonb)", queue, json.dumps(m)) for m in messages]

	def read(self, queue, qty, vt=3600, session=None):
		return [row[0] for row in (session or self.own_session).run("SELECT msg_id FROM pgmq.read(%s, %d, %d)" % (lit(queue), vt, qty))]

	def tables(self):
		return self.column("SELECT relname FROM pg_class WHERE relnamespace = 'pgmq'::regnamespace AND relkind = 'r' ORDER BY 1")

	# What is there

	def test_functions_have_the_documented_signatures(self):
		for line in FUNCTIONS.strip().splitlines():
			signature, names, result = line.split(" ", 2)
			function, types = signature.rstrip(")").split("(")
			with self.subTest(signature):
				rows = self.sql("""
					SELECT array_to_string(p.proargnames[1:n.given], ','), pg_get_function_result(p.oid)
					FROM pg_proc p, (SELECT coalesce(cardinality(t), 0) AS given, t FROM (SELECT string_to_array(nullif(%s, ''), ',')::regtype[] AS t) x) n
					WHERE p.pronamespace = 'pgmq'::regnamespace AND p.proname = %s
					  AND coalesce((p.proargtypes::oid[])[0:n.given - 1], '{}') = coalesce(n.t::oid[], '{}') AND p.pronargs - p.pronargdefaults <= n.given
					  AND p.pronargs = (SELECT min(o.pronargs) FROM pg_proc o WHERE o.pronamespace = p.pronamespace AND o.proname = p.proname
					                    AND o.pronargs >= n.given AND (n.given = 0 OR (o.proargtypes::oid[])[0:n.given - 1] = n.t::oid[]))
					""", types, function)
				self.assertEqual(rows, [[None if names == "-" else names, result]])

	def test_types_have_the_documented_fields(self):
		for name, fields in TYPES.items():
			with self.subTest(name):
				actual = self.value("""
					SELECT string_agg(a.attname || ' ' || replace(replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz'),
					                  'character varying', 'varchar'), ', ' ORDER BY a.attnum)
					FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0""", "pgmq." + name)
				wanted = fields.split(", ")
				self.assertEqual([f for f in actual.split(", ") if f in wanted], wanted)
				self.assert_no_more([f for f in actual.split(", ") if f not in wanted])

	def test_tables_have_the_documented_layout(self):
		queue = self.new_queue()
		for table, wanted in (("q_" + queue, QUEUE_COLUMNS), ("a_" + queue, ARCHIVE_COLUMNS), ("meta", META_COLUMNS)):
			with self.subTest(table):
				actual = self.sql("""
					SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity = 'a', pg_get_expr(d.adbin, d.adrelid)
					FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
					WHERE a.attrelid = format('pgmq.%%I', %s)::regclass AND a.attnum > 0 ORDER BY a.attnum""", table)
				self.assertEqual([c for c in actual if c in wanted], wanted)
				self.assert_no_more([c for c in actual if c not in wanted])
		indexes = self.sql("""
			SELECT c.relname, i.indisprimary, pg_get_indexdef(i.indexrelid, 1, true), i.indnatts FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
			WHERE c.relnamespace = 'pgmq'::regnamespace AND c.relname IN (%s, %s) ORDER BY 1, 3""", "q_" + queue, "a_" + queue)
		self.assertEqual(indexes, [["a_" + queue, "f", "archived_at", "1"], ["a_" + queue, "t", "msg_id", "1"],
		                           ["q_" + queue, "t", "msg_id", "1"], ["q_" + queue, "f", "vt", "1"]])

	# Queues

	def test_create_is_idempotent(self):
		queue = self.new_queue()
		ids = self.send(queue, {"kept": 1})
		for function in ("create", "create_non_partitioned"):
			self.sql("SELECT pgmq.%s(%s)" % (function, lit(queue)))
		self.assertEqual(self.read(queue, 9), ids)
		self.assertEqual(self.value("SELECT count(*) FROM pgmq.meta WHERE queue_name = %s", queue), "1")
		self.assertEqual(self.value("SELECT count(*) FROM pg_indexes WHERE schemaname = 'pgmq' AND tablename IN (%s, %s)", "q_" + queue, "a_" + queue), "4")

	def test_create_by_two_at_once_makes_one_queue(self):
		queue = "twice_at_once"
		a, b = self.session(), self.session()
		a.run("BEGIN")
		a.run("SELECT pgmq.create('%s')" % queue)
		b.start("SELECT pgmq.create('%s')" % queue)
		self.wait_until(b, "wait_event_type = 'Lock'", "the second create to block")
		a.run("COMMIT")
		b.finish()
		self.assertEqual(self.value("SELECT count(*) FROM pgmq.list_queues() WHERE queue_name = %s", queue), "1")
		self.assertEqual(self.send(queue, 1), ["1"])

	def test_create_of_another_queue_does_not_wait(self):
		a = self.session()
		a.run("BEGIN")
		a.run("SELECT pgmq.create('one_of_two')")
		self.sql("SELECT pgmq.create('other_of_two')")
		a.run("ROLLBACK")
		self.assertEqual(self.column("SELECT queue_name FROM pgmq.list_queues() WHERE queue_name LIKE '%%_of_two'"), ["other_of_two"])

	def test_upper_case_names_the_same_tables(self):
		self.sql("SELECT pgmq.create('UpperCase')")
		self.assertIn("q_uppercase", self.tables())
		self.assertIn("a_uppercase", self.tables())
		self.assertEqual(self.send("uppercase", 1) + self.send("UPPERCASE", 2), ["1", "2"])
		self.assertEqual(self.read("UpperCase", 9), ["1", "2"])
		self.assertIn("UpperCase", self.column("SELECT queue_name FROM pgmq.list_queues()"))

	def test_names_up_to_47_characters(self):
		longest = "x" * 47
		self.sql("SELECT pgmq.create(%s)", longest)
		self.assertEqual(self.send(longest, 1), ["1"])
		self.assertEqual(self.value("SELECT pgmq.archive(%s, 1::bigint)", longest), "t")
		for call in ("create", "validate_queue_name"):
			self.refused("SELECT pgmq.%s(%s)" % (call, lit("x" * 48)))

	def test_odd_names_work_throughout(self):
		for queue in ("with space", "dash-and.dot", "select", "1digit", "tab/slash", "%percent%s", "(paren)", "queue_\u00e9"):
			with self.subTest(queue):
				self.sql("SELECT pgmq.create($q$" + queue + "$q$)")
				self.assertIn("q_" + queue, self.tables())
				self.assertEqual(self.value("SELECT pgmq.send($q$" + queue + "$q$, '{}')"), "1")
				self.assertEqual(self.column("SELECT pgmq.send_batch($q$" + queue + "$q$, '{1,2,3}'::jsonb[])"), ["2", "3", "4"])
				name = "$q$" + queue + "$q$"
				for statement, result in (("msg_id FROM pgmq.read(%s, 3600, 1)", "1"), ("msg_id FROM pgmq.pop(%s)", "2"),
				                          ("pgmq.delete(%s, 3::bigint)", "t"), ("pgmq.archive(%s, 4::bigint)", "t"),
				                          ("msg_id FROM pgmq.set_vt(%s, 1::bigint, 0)", "1"), ("total_messages FROM pgmq.metrics(%s)", "4"),
				                          ("pgmq.purge_queue(%s)", "1"), ("pgmq.drop_queue(%s)", "t")):
					self.assertEqual(self.own_session.run("SELECT " + statement.replace("%s", name)), [[result]])
				self.assertNotIn("q_" + queue, self.tables())

	def test_names_that_could_break_out_are_refused(self):
		before = self.tables()
		for queue in ("a;b", "a--b", "a'b", "a$b", "x'); DROP TABLE pgmq.meta; --", "q$$; DROP TABLE pgmq.meta; $$"):
			for call in ("create(%s)", "send(%s, '{}')", "send_batch(%s, '{1}'::jsonb[])", "read(%s, 1, 1)", "read_with_poll(%s, 1, 1, 0)", "pop(%s)",
			             "delete(%s, 1::bigint)", "archive(%s, '{1}'::bigint[])", "set_vt(%s, 1::bigint, 0)", "purge_queue(%s)", "metrics(%s)"):
				with self.subTest(queue=queue, call=call):
					self.refused("SELECT pgmq." + call.replace("%s", lit(queue)))
		self.refused("SELECT pgmq.create(NULL)")
		self.assertEqual(self.tables(), before)

	def test_a_double_quote_in_a_name_makes_no_other_object(self):
		before = self.tables()
		name = 'x" (i int); DROP TABLE pgmq.meta'
		try:
			self.sql("SELECT pgmq.create(%s)", name.replace(";", ","))
		except PgError:
			pass
		self.assertLessEqual(set(self.tables()) - set(before), {p + name.replace(";", ",").lower() for p in ("q_", "a_")})
		self.assertLessEqual(set(before), set(self.tables()))

	def test_drop_queue(self):
		queue = self.new_queue()
		self.send(queue, 1)
		self.assertEqual(self.value("SELECT pgmq.drop_queue(%s)", queue), "t")
		self.assertFalse({"q_" + queue, "a_" + queue} & set(self.tables()))
		self.assertNotIn(queue, self.column("SELECT queue_name FROM pgmq.list_queues()"))
		self.assertEqual(self.value("SELECT pgmq.drop_queue(%s)", queue), "f")
		self.refused("SELECT pgmq.send(%s, '{}')", queue, state="42P01")
		self.sql("SELECT pgmq.create(%s)", queue)
		self.assertEqual(self.send(queue, 1), ["1"])

	def test_list_queues(self):
		queue = self.new_queue()
		self.assertEqual(self.sql("SELECT is_partitioned, is_unlogged, created_at <= now() FROM pgmq.list_queues() WHERE queue_name = %s", queue), [["f", "f", "t"]])

	def test_a_queue_that_is_not_there(self):
		for call in ("send('no_such', '{}')", "send_batch('no_such', '{1}'::jsonb[])", "read('no_such', 1, 1)", "pop('no_such')", "delete('no_such', 1::bigint)",
		             "archive('no_such', 1::bigint)", "set_vt('no_such', 1::bigint, 1)", "purge_queue('no_such')", "metrics('no_such')"):
			with self.subTest(call):
				self.refused("SELECT pgmq." + call, state="42P01")

	# Sending

	def test_send_gives_rising_ids_and_keeps_the_message(self):
		queue = self.new_queue()
		messages = [{"a": [1, None, "\u20ac'\"\\"]}, [1, 2], "text", 5, None, True]
		self.assertEqual(self.send(queue, *messages), ["1", "2", "3", "4", "5", "6"])
		rows = self.sql("SELECT msg_id, read_ct, message, headers FROM pgmq.read(%s, 3600, 100)", queue)
		self.assertEqual([[r[0], r[1], json.loads(r[2]), r[3]] for r in sorted(rows)], [[str(i + 1), "1", m, None] for i, m in enumerate(messages)])

	def test_send_with_headers(self):
		queue = self.new_queue()
		self.sql("SELECT pgmq.send(%s, '1', '{\"h\": 1}'::jsonb)", queue)
		self.sql("SELECT pgmq.send(queue_name => %s, msg => '2', headers => '{\"h\": 2}', delay => 0)", queue)
		self.sql("SELECT pgmq.send(%s, '3', '{\"h\": 3}'::jsonb, now())", queue)
		self.assertEqual(sorted(self.sql("SELECT message, headers FROM pgmq.read(%s, 3600, 9)", queue)), [[str(i), '{"h": %d}' % i] for i in (1, 2, 3)])

	def test_delayed_messages_wait(self):
		calls = ("send(%s, '0', 3600)", "send(%s, '0', now() + interval '1 h')", "send(%s, '0', '{}'::jsonb, 3600)", "send(%s, '0', '{}'::jsonb, now() + interval '1 h')",
		         "send_batch(%s, '{0}'::jsonb[], 3600)", "send_batch(%s, '{0}'::jsonb[], now() + interval '1 h')",
		         "send_batch(%s, '{0}'::jsonb[], '{1}'::jsonb[], 3600)", "send_batch(%s, '{0}'::jsonb[], '{1}'::jsonb[], now() + interval '1 h')")
		for call in calls:
			with self.subTest(call):
				queue = self.new_queue()
				self.assertEqual(self.column("SELECT pgmq." + call, queue), ["1"])
				self.assertEqual(self.read(queue, 9), [])
				self.assertEqual(self.value("SELECT vt >= enqueued_at + interval '1 h' FROM pgmq.q_" + queue), "t")
				self.sql("SELECT pgmq.set_vt(%s, 1::bigint, 0)", queue)
				self.assertEqual(self.read(queue, 9), ["1"])

	def test_an_absolute_delay_is_kept_exactly(self):
		queue = self.new_queue()
		self.sql("SELECT pgmq.send(%s, '0', '2999-12-31 23:59:59.123456+00'::timestamptz)", queue)
		self.sql("SELECT pgmq.send(%s, '0', '2001-01-01 00:00:00+00'::timestamptz)", queue)
		self.assertEqual(self.column("SELECT vt AT TIME ZONE 'UTC' FROM pgmq.q_%s ORDER BY msg_id" % queue), ["2999-12-31 23:59:59.123456", "2001-01-01 00:00:00"])
		self.assertEqual(self.read(queue, 9), ["2"])

	def test_send_batch_keeps_order(self):
		queue = self.new_queue()
		ids = self.column("SELECT * FROM pgmq.send_batch(%s, (SELECT array_agg(to_jsonb(500 - g) ORDER BY g) FROM generate_series(1, 500) g))", queue)
		self.assertEqual(ids, [str(i) for i in range(1, 501)])
		self.assertEqual(self.column("SELECT message FROM pgmq.q_%s ORDER BY msg_id" % queue), [str(500 - i) for i in range(1, 501)])

	def test_send_batch_pairs_headers_with_messages(self):
		queue = self.new_queue()
		self.sql("SELECT pgmq.send_batch(%s, '{1,2}'::jsonb[], '{10,NULL}'::jsonb[])", queue)
		self.sql("SELECT pgmq.send_batch(queue_name => %s, msgs => '{3,4}'::jsonb[], headers => '{30,40}'::jsonb[], delay => 0)", queue)
		self.assertEqual(self.sql("SELECT message, headers FROM pgmq.q_%s ORDER BY msg_id" % queue), [["1", "10"], ["2", None], ["3", "30"], ["4", "40"]])

	def test_send_batch_refuses_what_does_not_pair(self):
		queue = self.new_queue()
		for arrays in ("'{1,2}'::jsonb[], '{1}'::jsonb[]", "'{1}'::jsonb[], '{1,2}'::jsonb[]", "'{}'::jsonb[]", "NULL::jsonb[]"):
			with self.subTest(arrays):
				self.refused("SELECT pgmq.send_batch(%s, " + arrays + ")", queue)
		self.assertEqual(self.value("SELECT queue_length FROM pgmq.metrics(%s)", queue), "0")

	def test_send_is_part_of_the_transaction(self):
		queue = self.new_queue()
		a = self.session()
		a.run("BEGIN")
		a.run("SELECT pgmq.send('%s', '1')" % queue)
		self.assertEqual(self.read(queue, 9), [])
		self.assertEqual(self.read(queue, 9, session=a), ["1"])
		a.run("ROLLBACK")
		self.assertEqual(self.read(queue, 9), [])
		self.assertEqual(self.send(queue, 2), ["2"])

	# Reading

	def test_read_takes_the_oldest_first_and_hides_it(self):
		queue = self.new_queue()
		ids = self.send(queue, *range(5))
		self.assertEqual(self.read(queue, 1), ids[:1])
		self.assertEqual(sorted(self.read(queue, 2)), ids[1:3])
		self.assertEqual(sorted(self.read(queue, 9)), ids[3:])
		self.assertEqual(self.read(queue, 9), [])
		self.assertEqual(self.value("SELECT count(*) FROM pgmq.q_%s WHERE vt - now() BETWEEN '50 min' AND '70 min'" % queue), "5")

	def test_read_goes_by_id_not_by_visibility(self):
		queue = self.new_queue()
		ids = self.send(queue, *range(3))
		for msg_id, ago in zip(ids, (10, 20, 30)):
			self.sql("SELECT pgmq.set_vt(%s, " + msg_id + "::bigint, %s)", queue, -ago)
		self.assertEqual([self.read(queue, 1)[0] for _ in ids], ids)

	def test_read_counts_and_a_timeout_of_zero_hides_nothing(self):
		queue = self.new_queue()
		self.send(queue, 1)
		for count in ("1", "2", "3"):
			self.assertEqual(self.column("SELECT read_ct FROM pgmq.read(%s, 0, 1)", queue), [count])

	def test_read_returns_what_it_stored(self):
		queue = self.new_queue()
		self.sql("SELECT pgmq.send(%s, '{\"a\": 1}', '{\"b\": 2}'::jsonb)", queue)
		columns = "msg_id, read_ct, enqueued_at, vt, message, headers"
		got = self.sql("SELECT " + columns + " FROM pgmq.read(%s, 3600, 1)", queue)
		self.assertEqual(got, self.sql("SELECT " + columns + " FROM pgmq.q_" + queue))

	def test_read_quantities(self):
		queue = self.new_queue()
		self.send(queue, 1, 2)
		self.assertEqual(self.read(queue, 0), [])
		self.refused("SELECT pgmq.read(%s, 1, -1)", queue)
		self.assertEqual(self.value("SELECT sum(read_ct) FROM pgmq.q_" + queue), "0")

	def test_conditional_read_filters_by_containment(self):
		queue = self.new_queue()
		ids = self.send(queue, {"kind": "a", "n": {"x": 1}}, {"kind": "b"}, {"kind": "a"}, ["a"], "a")
		read = "SELECT msg_id FROM pgmq.read(%s, 3600, 9, %s::jsonb)"
		self.assertEqual(self.column(read, queue, '{"kind": "c"}'), [])
		self.assertEqual(self.column(read, queue, '{"n": {"x": 1}}'), ids[:1])
		self.assertEqual(self.column("SELECT msg_id FROM pgmq.read(queue_name => %s, vt => 3600, qty => 1, conditional => %s)", queue, '{"kind": "a"}'), ids[2:3])
		self.assertEqual(self.column(read, queue, '["a"]'), ids[3:4])
		self.assertEqual(sorted(self.read(queue, 9)), [ids[1], ids[4]])

	def test_no_condition_means_every_json_value(self):
		for condition in ("", ", '{}'", ", NULL"):
			with self.subTest(condition):
				queue = self.new_queue()
				ids = self.send(queue, {"o": 1}, [1], "s", 1, None)
				self.assertEqual(sorted(self.column("SELECT msg_id FROM pgmq.read(%s, 3600, 9" + condition + ")", queue)), ids)

	def test_a_condition_reaches_past_messages_it_does_not_take(self):
		queue = self.new_queue()
		self.sql("SELECT pgmq.send_batch(%s, (SELECT array_agg(jsonb_build_object('n', g)) FROM generate_series(1, 50) g))", queue)
		self.assertEqual(self.column("SELECT msg_id FROM pgmq.read(%s, 3600, 1, '{\"n\": 50}')", queue), ["50"])

	def test_two_readers_share_without_waiting(self):
		queue = self.new_queue()
		ids = self.send(queue, *range(6))
		a, b = self.session(), self.session()
		a.run("BEGIN")
		self.assertEqual(sorted(self.read(queue, 2, session=a)), ids[:2])
		self.assertEqual(b.run("SELECT msg_id FROM pgmq.pop('%s')" % queue), [[ids[2]]])
		b.run("BEGIN")
		self.assertEqual(sorted(self.read(queue, 2, session=b)), ids[3:5])
		self.assertEqual(self.read(queue, 9), ids[5:])
		a.run("ROLLBACK")
		b.run("COMMIT")
		self.assertEqual(sorted(self.sql("SELECT msg_id, read_ct FROM pgmq.read(%s, 3600, 9)", queue)), [[ids[0], "1"], [ids[1], "1"]])

	def test_read_with_poll_does_not_wait_for_what_is_there(self):
		queue = self.new_queue()
		ids = self.send(queue, 1, 2)
		self.assertEqual(self.column("SELECT msg_id FROM pgmq.read_with_poll(%s, 3600, 1, 100000)", queue), ids[:1])
		self.assertEqual(self.column("SELECT msg_id FROM pgmq.read_with_poll(%s, 3600, 9, 100000, 100, '{}')", queue), ids[1:])
		self.assertEqual(self.column("SELECT msg_id FROM pgmq.read_with_poll(%s, 3600, 1, 0)", queue), [])

	def test_read_with_poll_sees_what_comes_later(self):
		queue = self.new_queue()
		a = self.session()
		a.start("SELECT msg_id, message FROM pgmq.read_with_poll('%s', 3600, 5, 100000, 20, '{\"mine\": true}')" % queue)
		self.wait_until(a, "wait_event = 'PgSleep'", "the reader to poll")
		self.send(queue, {"mine": False}, {"mine": True})
		self.assertEqual(a.finish(), [["2", '{"mine": true}']])

	def test_set_vt(self):
		queue = self.new_queue()
		self.send(queue, {"a": 1}, {"a": 2})
		self.assertEqual(self.sql("SELECT msg_id, read_ct, message, vt > now() + interval '50 min' FROM pgmq.set_vt(%s, 1::bigint, 3600)", queue), [["1", "0", '{"a": 1}', "t"]])
		self.assertEqual(self.value("SELECT vt < now() + interval '70 min' FROM pgmq.q_%s WHERE msg_id = 1" % queue), "t")
		self.assertEqual(self.read(queue, 9), ["2"])
		self.sql("SELECT pgmq.set_vt(%s, 1::bigint, 0)", queue)
		self.assertEqual(self.read(queue, 9), ["1"])
		self.assertEqual(self.sql("SELECT * FROM pgmq.set_vt(%s, 99::bigint, 0)", queue), [])

	# Removing

	def test_pop(self):
		queue = self.new_queue()
		ids = self.send(queue, {"n": 1}, {"n": 2}, {"n": 3})
		self.assertEqual(self.read(queue, 1), ids[:1])
		self.assertEqual(self.sql("SELECT msg_id, message FROM pgmq.pop(%s)", queue), [[ids[1], '{"n": 2}']])
		self.assertEqual(self.column("SELECT msg_id FROM pgmq.pop(%s)", queue), ids[2:])
		self.assertEqual(self.column("SELECT msg_id FROM pgmq.pop(%s)", queue), [])
		self.assertEqual(self.column("SELECT msg_id FROM pgmq.q_" + queue), ids[:1])
		self.assertEqual(self.value("SELECT count(*) FROM pgmq.a_" + queue), "0")

	def test_delete(self):
		queue = self.new_queue()
		self.send(queue, *range(5))
		self.read(queue, 1)
		self.assertEqual(self.column("SELECT pgmq.delete(%s, i) FROM unnest('{1,1,99}'::bigint[]) i", queue), ["t", "f", "f"])
		self.assertEqual(sorted(self.column("SELECT * FROM pgmq.delete(%s, '{3,99,4,1}'::bigint[])", queue)), ["3", "4"])
		self.assertEqual(self.sql("SELECT * FROM pgmq.delete(%s, '{}'::bigint[])", queue), [])
		self.assertEqual(sorted(self.read(queue, 9)), ["2", "5"])
		self.assertEqual(self.value("SELECT count(*) FROM pgmq.a_" + queue), "0")

	def test_archive(self):
		queue = self.new_queue()
		self.sql("SELECT pgmq.send(%s, '{\"n\": 1}', '{\"h\": 1}'::jsonb)", queue)
		self.send(queue, 2, 3, 4)
		self.read(queue, 1)
		columns = "msg_id, read_ct, enqueued_at, vt, message, headers"
		before = self.sql("SELECT %s FROM pgmq.q_%s ORDER BY msg_id" % (columns, queue))
		self.assertEqual(self.column("SELECT pgmq.archive(%s, i) FROM unnest('{1,1,99}'::bigint[]) i", queue), ["t", "f", "f"])
		self.assertEqual(sorted(self.column("SELECT * FROM pgmq.archive(%s, '{3,99,1,4}'::bigint[])", queue)), ["3", "4"])
		self.assertEqual(self.sql("SELECT * FROM pgmq.archive(%s, '{}'::bigint[])", queue), [])
		self.assertEqual(self.sql("SELECT %s FROM pgmq.a_%s ORDER BY msg_id" % (columns, queue)), [before[0], before[2], before[3]])
		self.assertEqual(self.value("SELECT bool_and(archived_at >= enqueued_at) FROM pgmq.a_" + queue), "t")
		self.assertEqual(self.read(queue, 9), ["2"])

	def test_purge_takes_all_and_ids_go_on(self):
		queue = self.new_queue()
		self.send(queue, 1, 2, 3)
		self.read(queue, 1)
		self.sql("SELECT pgmq.archive(%s, 2::bigint)", queue)
		self.assertEqual(self.value("SELECT pgmq.purge_queue(%s)", queue), "2")
		self.assertEqual(self.value("SELECT pgmq.purge_queue(%s)", queue), "0")
		self.assertEqual(self.column("SELECT msg_id FROM pgmq.a_" + queue), ["2"])
		self.assertEqual(self.send(queue, 4), ["4"])

	def test_an_untyped_id_is_cast_by_the_caller(self):
		"""Both overloads fit a parameter of unknown type, so a driver must name the type: here it does, and both work prepared."""
		queue = self.new_queue()
		self.send(queue, 1, 2)
		self.refused("PREPARE ambiguous AS SELECT pgmq.delete($1, $2)", state="42725")
		self.sql("PREPARE one AS SELECT pgmq.delete($1, $2::bigint)")
		self.sql("PREPARE many AS SELECT pgmq.delete($1, $2::bigint[])")
		self.assertEqual(self.value("EXECUTE one(%s, '1')", queue), "t")
		self.assertEqual(self.column("EXECUTE many(%s, '{1,2}')", queue), ["2"])

	# Metrics

	def test_metrics(self):
		queue = self.new_queue()
		fields = "queue_name, queue_length, newest_msg_age_sec, oldest_msg_age_sec, total_messages, queue_visible_length"
		metrics = "SELECT " + fields + " FROM pgmq.metrics(%s)"
		self.assertEqual(self.sql(metrics, queue), [[queue, "0", None, None, "0", "0"]])
		self.send(queue, 1, 2, 3)
		self.sql("UPDATE pgmq.q_%s SET enqueued_at = now() - interval '1 day' * (4 - msg_id)" % queue)
		self.read(queue, 1)
		self.sql("SELECT pgmq.delete(%s, 2::bigint)", queue)
		name, length, newest, oldest, total, visible = self.sql(metrics, queue)[0]
		self.assertEqual([name, length, total, visible], [queue, "2", "3", "1"])
		self.assertEqual([int(newest) // 86400, int(oldest) // 86400], [1, 3])
		self.assertEqual(self.value("SELECT scrape_time BETWEEN now() - interval '1 h' AND clock_timestamp() FROM pgmq.metrics(%s)", queue), "t")

	def test_metrics_all(self):
		names = [self.new_queue(), self.new_queue()]
		self.send(names[1], 1)
		fields = "queue_name, queue_length, total_messages"
		rows = self.sql("SELECT " + fields + " FROM pgmq.metrics_all()")
		self.assertEqual([r for r in rows if r[0] in names], [[names[0], "0", "0"], [names[1], "1", "1"]])
		self.assertEqual(sorted(r[0] for r in rows), sorted(self.column("SELECT queue_name FROM pgmq.list_queues()")))

	# Around it

	def test_a_stranger_may_do_what_is_granted(self):
		queue = self.new_queue()
		stranger = self.session("stranger")
		with self.assertRaises(PgError) as caught:
			stranger.run("SELECT pgmq.send('%s', '1')" % queue)
		self.assertEqual(caught.exception.sqlstate, "42501")
		self.sql("GRANT USAGE ON SCHEMA pgmq TO stranger")
		for call in ("SELECT pgmq.send('%s', '1')", "SELECT pgmq.read('%s', 1, 1)", "SELECT pgmq.drop_queue('%s')", "SELECT pgmq.purge_queue('%s')"):
			with self.assertRaises(PgError, msg=call) as caught:
				stranger.run(call % queue)
			self.assertEqual(caught.exception.sqlstate, "42501")
		self.sql("GRANT INSERT, SELECT ON pgmq.q_%s TO stranger" % queue)
		self.assertEqual(stranger.run("SELECT pgmq.send('%s', '1')" % queue), [["1"]])
		with self.assertRaises(PgError) as caught:
			stranger.run("SELECT pgmq.read('%s', 1, 1)" % queue)
		self.assertEqual(caught.exception.sqlstate, "42501")
		self.sql("REVOKE USAGE ON SCHEMA pgmq FROM stranger")

	def test_claims_over_the_tables_share_without_waiting(self):
		queue = self.new_queue()
		self.send(queue, *range(6))
		self.sql("SELECT pgmq.send(%s, '0', 3600)", queue)
		claim = CLAIM % ("q_" + queue, 3, "q_" + queue)
		a = self.session()
		a.run("BEGIN")
		self.assertEqual(sorted(r[0] for r in a.run(claim)), ["1", "2", "3"])
		self.assertEqual(sorted(self.column(claim)), ["4", "5", "6"])
		self.assertEqual(self.column(claim), [])
		a.run("ROLLBACK")
		self.assertEqual(sorted(self.column(claim)), ["1", "2", "3"])
		self.assertEqual(self.column("SELECT msg_id FROM pgmq.q_" + queue), ["7"])

	def misleading_statistics(self, messages, seen):
		"""A queue of `messages`, with the statistics that it had when the vacuum passed by at a bad moment."""
		queue = self.new_queue()
		fill = "SELECT count(*) FROM pgmq.send_batch(%s, array_fill('{}'::jsonb, ARRAY[" + str(messages) + "])"
		if seen == "delayed messages":
			self.sql(fill + ", 3600)", queue)
			self.sql("ANALYZE pgmq.q_" + queue)
		elif seen == "emptied table":
			self.sql(fill + ", 3600)", queue)
			self.sql("DELETE FROM pgmq.q_" + queue)
			self.sql("VACUUM (ANALYZE, TRUNCATE off) pgmq.q_" + queue)
		self.sql(fill + ")", queue)
		return queue

	def test_a_claim_touches_only_what_it_takes_whatever_the_statistics_say(self):
		for seen in ("nothing", "delayed messages", "emptied table"):
			with self.subTest(seen):
				queue = self.misleading_statistics(5000, seen)
				plan = database.cluster.explain(CLAIM % ("q_" + queue, 50, "q_" + queue), db=self.db, setup="SET LOCAL enable_seqscan = off", analyze=True)
				scans = sorted((n["Index Name"], n["Actual Rows"] * n["Actual Loops"]) for n in pg.plan_nodes(plan) if "Index Name" in n)
				self.assertEqual(scans, [("q_%s_pkey" % queue, 50), ("q_%s_vt_idx" % queue, 50)])
