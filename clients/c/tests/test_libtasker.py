"""libtasker: workers and clients in C against a daemon."""
import json
import os
import re
import signal
import subprocess

import behaviour
import harness
from harness import step, template, wait_for


class C:
	def argv(self):
		return [harness.program("clients", "c", "c_behaviour")]


class OneThread(C, behaviour.Behaviour):
	def test_a_step_finished_by_another_thread(self):
		task = self.run_one([step("s", "b.defer")])
		self.assertEqual(task.step("s").results, {"by": "another thread"})


class ManyThreads(C, behaviour.Behaviour):
	mode = ("--threads", "3")

	def test_a_step_finished_by_another_thread(self):
		tasks = [self.run_one([step("s", "b.defer")], name="d%d" % i) for i in range(20)]
		self.assertEqual([t.step("s").results for t in tasks], [{"by": "another thread"}] * 20)


class Threads(C, behaviour.Threads):
	pass


class Connection(C, behaviour.Connection):
	pass


class Replay(C, behaviour.Replay):
	pass


class Hostile(C, behaviour.Hostile):
	pass


class Processes(C, behaviour.Base):
	def test_a_crash_costs_its_attempt_and_is_mended(self):
		parent = self.start("--processes", "2", "--max-concurrency", "1", wait=False)
		wait_for(lambda: len(self.node.client.list_workers()) == 2, "two workers")
		task = self.run_one([step("dies", "b.crash", attempts=2, base_ms=1), *(step("s%d" % i, "b.echo") for i in range(20))])
		self.assertEqual((task.status, task.step("dies").attempts), ("complete", 2))
		wait_for(lambda: "ended by signal 11" in parent.log_text(), "the parent to see it")
		wait_for(lambda: len(self.node.client.list_workers()) == 2, "the other one to be there again")
		self.assertEqual(parent.stop(), 0, parent.last_words())


	def test_told_to_stop_by_its_parent_and_by_the_service_manager(self):
		"""Which tells all processes of a service: that is once, and what runs is finished."""
		parent = self.start("--processes", "2", "--threads", "1", wait=False)
		wait_for(lambda: len(self.node.client.list_workers()) == 2, "two workers")
		self.apply(self.node, template("waits", [step("s", "b.wait")]))
		task = self.create(self.node, "waits")
		self.daemon_says("waiting to be cancelled")
		busy = next(w["pid"] for w in self.node.client.list_workers() if w["open"])
		os.kill(busy, signal.SIGTERM)
		wait_for(lambda: [w["draining"] for w in self.node.client.list_workers() if w["pid"] == busy] == [True], "it to drain")
		parent.signal(signal.SIGTERM)
		wait_for(lambda: [w["pid"] for w in self.node.client.list_workers()] == [busy], "the idle one to have ended")
		self.node.client.cancel_task(task)
		self.assertEqual(parent.wait(), 0, parent.last_words())


class OwnLoop(C, behaviour.Base):
	def test_a_loop_of_the_programs_own(self):
		"""It turns when there is something to do, and not all the time."""
		self.apply(self.node, template("echo", [step("s", "b.echo")]))
		child = subprocess.Popen([harness.program("clients", "c", "c_loop"), self.node.socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
		try:
			tasks = self.create_many(self.node, "echo", 300)
			for task in tasks:
				self.assertEqual(self.finished(self.node, task).status, "complete")
			(row,) = self.node.client.list_workers()
			self.assertEqual([(b["name"], b["file"], b["line"], b["message"]) for b in row["broken"]], [("shop", "shop.so", 0, "no such file"), ("other", "", 7, "on purpose")])
			out = json.loads(child.communicate(timeout=harness.PATIENCE)[0])
		finally:
			child.kill()
			child.wait()
		self.assertEqual((out["rc"], out["recorded"], out["connects"]), (0, 300, 1))
		self.assertLess(out["turns"], 3000)


class Client(C, behaviour.Base):
	def test_every_call(self):
		self.apply(self.node, template("echo", [step("s", "b.echo")]))
		self.start()
		done = subprocess.run([harness.program("clients", "c", "c_client"), self.node.socket], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=harness.PATIENCE)
		self.assertEqual((done.returncode, done.stderr), (0, ""))
		got = {k: v for line in done.stdout.splitlines() for k, v in json.loads(line).items()}
		task, one = got.pop("task"), got.pop("step")
		self.assertEqual((task["state"], task["tags"], task["priority"], task["initiator"]), ("complete", ["one", "two"], 3, "test"))
		self.assertEqual((one["state"], one["result"]["context"], [a["outcome"] for a in one["history"]]), ("complete", {"a": [1, 2.5, "é"]}, ["success"]))
		self.assertEqual(got, {
			"created": [True, False, True], "settled": ["complete", True, True], "listed": 1, "unknown": [-121, "template_not_found"],
			"bad": [-22, "invalid_value", "context"], "nobody": [-121, "not_found"], "many": [11, 989, "template_not_found", "invalid_value", "context"],
			"event": [1, True, {"id": 7}], "cancelled": "cancelled"})


class Testing(C, behaviour.Base):
	def run_(self, *args, **env):
		env = {**os.environ, "TASKERD_PROGRAM": harness.taskerd_program(), "TMPDIR": self.place, **env}
		return subprocess.run([harness.program("clients", "c", "c_testing"), *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=harness.PATIENCE)

	def left(self):
		return [name for name in os.listdir(self.place) if name.startswith("taskerd-")]

	def test_a_step_that_is_made_up(self):
		done = self.run_("try")
		self.assertEqual((done.returncode, done.stdout), (0, "".join(line + "\n" for line in (
			'1 {"name":"step","attempt":1,"context":null,"limit":null,"load":null}',
			'1 {"name":"s","attempt":3,"context":7,"limit":9,"load":{"a":1}}',
			'0 {"message":"no","error_type":"E","retryable":false}',
			'1 {}',
			'-22 invalid_value', '-22 invalid_value'))), done.stderr)
		self.assertIn('step.heartbeat {', done.stderr)

	def test_a_workflow_that_fails_names_why(self):
		done = self.run_("run")
		self.assertEqual((done.returncode, done.stdout), (0, 'blocked_by_failures no\n-121 invalid_template\n-17 bad_call\n'), done.stderr)
		self.assertEqual(self.left(), [])

	def test_the_daemon_ends_with_the_program(self):
		done = self.run_("abort")
		self.assertEqual(done.returncode, -signal.SIGABRT)
		wait_for(lambda: self.left() == [], "the daemon's directory to be gone")

	def test_a_daemon_that_does_not_start(self):
		done = self.run_("start", TASKERD_PROGRAM="/nowhere/taskerd")
		self.assertEqual(done.returncode, 1)
		self.assertRegex(done.stdout, "^unreachable: taskerd has ended: .*/nowhere/taskerd: not found\n$")
		self.assertEqual(self.left(), [])


class Readme(C, behaviour.Base):
	"""Every program of the page is compiled as a reader would, and run."""

	def begin(self, name):
		super().begin(name)
		programs = []
		for page in ("clients/c/README.md", "man/libtasker.3.scd"):
			with open(os.path.join(harness.ROOT, page), encoding="utf-8") as f:
				programs += re.findall(r"^```(?:c)?\n/\* (\w+)\.c\b[^\n]* \*/\n(.*?)^```", f.read(), re.M | re.S)
		library = os.path.dirname(harness.program("clients", "c", "libtasker.so"))
		flags = sanitizer_flags(library)
		for program, text in programs:
			source = os.path.join(self.place, program + ".c")
			with open(source, "w", encoding="utf-8") as f:
				f.write(text)
			subprocess.run(["cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-I" + os.path.join(harness.ROOT, "clients", "c"), "-o", source[:-2], source,
			                "-L" + library, "-ltasker", "-Wl,-rpath," + library, *flags], check=True)
		self.programs = [p for p, _ in programs]

	def argv(self):
		return [os.path.join(self.place, self.program)]

	def test_programs(self):
		self.assertEqual(self.programs, ["worker", "shop", "client", "loop", "test_shop", "own_loop"])
		self.program = "worker"
		worker = self.start()
		self.apply(self.node, template("greeter", [step("greet", "hello.greet")], namespace="hello"))
		env = {**os.environ, "TASKERD_SOCKET": self.node.socket}
		out = subprocess.run([os.path.join(self.place, "client")], env=env, stdout=subprocess.PIPE, text=True, timeout=harness.PATIENCE, check=True).stdout
		self.assertEqual(out, 'complete: {"attempt":1,"greeting":"World"}\n')
		self.assertEqual(worker.stop(), 0)
		for program, result in (("loop", "{}"), ("own_loop", '{"greeting":"World"}')):
			loop = subprocess.Popen([os.path.join(self.place, program)], env=env, stdin=subprocess.PIPE)
			try:
				out = subprocess.run([os.path.join(self.place, "client")], env=env, stdout=subprocess.PIPE, text=True, timeout=harness.PATIENCE, check=True).stdout
				self.assertEqual(out, "complete: %s\n" % result)
				loop.stdin.close()
				self.assertEqual(loop.wait(harness.PATIENCE), 0)
			finally:
				loop.kill()
				loop.wait()

	def test_a_program_of_tests(self):
		env = {**os.environ, "TASKERD_PROGRAM": harness.taskerd_program(), "TMPDIR": self.place}
		done = subprocess.run([os.path.join(self.place, "test_shop")], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=harness.PATIENCE)
		self.assertEqual((done.returncode, done.stdout), (0, ""))
		self.assertEqual([name for name in os.listdir(self.place) if name.startswith("taskerd-")], [])

	def test_shop(self):
		self.program = "shop"
		self.start()
		typed = behaviour.typed
		steps = [step("charge", "shop.charge"), typed("decision", "ask", "shop.approval", after=["charge"]), step("manager_approval", "shop.charge", after=["ask"])]
		steps[0]["publishes_events"] = [behaviour.event("payment.charged")]
		task = self.run_one(steps, {"amount": 500})
		self.assertEqual((task.status, len(task.steps)), ("complete", 3))
		(message,) = self.node.client.consume_events("t", wait=harness.PATIENCE)
		self.assertEqual(message["event"]["payload"]["payload"], {"amount": 7})
		rows = [step("first", "shop.charge"), typed("batchable", "analyze", "rows.analyze", after=["first"]), typed("batch_worker", "work", "rows.work", after=["analyze"]),
		        typed("deferred_convergence", "sum", "rows.sum", after=["work"])]
		task = self.run_one(rows, {"rows": 2500}, name="rows")
		self.assertEqual((task.status, task.step("sum").results), ("complete", {"rows": 2500}))


def sanitizer_flags(library):
	"""What a sanitizer build of the library asks of those that link it."""
	symbols = subprocess.run(["nm", "-D", os.path.join(library, "libtasker.so")], stdout=subprocess.PIPE, text=True, check=True).stdout
	return ["-fsanitize=address,undefined"] if "__asan_init" in symbols else ["-fsanitize=thread"] if "__tsan_init" in symbols else []
