"""What an operator does wrong, or finds stuck: with a real daemon, what every command says of it, its exit code, and the command to try next."""
import json

from harness import step, template
from test_console import NOBODY, WHY, Console

GONE = "01890a5d-ac96-474b-8cce-b302000000ff"  # of version 4, as entries of the dead-letter log have


class Mistakes(Console):
	"""One task of each kind; nothing here changes one."""

	@classmethod
	def prepare(cls, stage):
		super().prepare(stage)
		stage.apply(stage.node, template("fine", [step("a")]))
		stage.apply(stage.node, template("broken", [step("a", "t.flaky", fails=99, kind="permanent"), step("b", after=["a"])]))
		stage.apply(stage.node, template("alone", [step("a", "t.nobody")]))
		stage.apply(stage.node, template("asleep", [step("a")], namespace="night"))
		stage.node.client.request("namespace.pause", {"namespace": "night", "reason": "the bank is being moved", "operator": "anna"})
		stage.made = {name: stage.create(stage.node, name) for name in ("fine", "broken", "alone")}
		stage.made["asleep"] = stage.create(stage.node, "asleep", namespace="night")
		stage.made["later"] = stage.create(stage.node, "fine", run_at="2099-01-01T00:00:00Z")
		for name in "fine", "broken":
			stage.finished(stage.node, stage.made[name])
		stage.node.client.request("task.action", {"task_uuid": stage.made["later"], "action": "pause", "reason": WHY})

	def words(self, text):
		return text.format(**self.shared.made, nobody=NOBODY, gone=GONE).split()

	def test_wrong_ids_and_states(self):
		for args, code, said, following in (
			("task get {nobody}", 4, "no task", "taskerctl task list"),
			("task history {nobody}", 4, "no task", "taskerctl task list"),
			("task wait {nobody}", 4, "no such task", "taskerctl task list"),
			("task watch {nobody}", 4, "no ", "taskerctl task list"),
			("task dump {nobody}", 4, "no task", "taskerctl task list"),
			("task cancel {nobody} -r x", 4, "no task", "taskerctl task list"),
			("task create t/nothing", 4, "nothing", "taskerctl template list"),
			("template show t/nothing", 4, "nothing", "taskerctl template list"),
			("generate types t/nothing -l python", 4, "nothing", "taskerctl template list"),
			("step get {fine} nothing", 4, "nothing", "taskerctl task get UUID"),
			("step history {fine} nothing", 4, "nothing", "taskerctl task get UUID"),
			("step reset {nobody} a -r x", 4, "no task", "taskerctl task get UUID"),
			("worker show {nobody}", 4, "no worker", "taskerctl worker list"),
			("worker drain nobody -r x", 4, "nobody", "taskerctl worker list"),
			("node show nowhere", 4, "nowhere", "taskerctl node list"),
			("namespace pause nowhere -r x", 4, "nowhere", "taskerctl namespace list"),
			("namespace retention nowhere", 4, "nowhere", "taskerctl namespace list"),
			("queue purge t t.unknown --dry-run", 4, "t.unknown", "taskerctl queue list"),
			("dlq show {gone}", 4, "no", "taskerctl dlq list"),
			("dlq redrive {fine} -r x", 4, "no", "taskerctl dlq list"),
			("token revoke nobody -r x", 4, "nobody", "taskerctl token list"),
			("task resume {fine} -r x", 5, "finished", "taskerctl task get {fine}"),
			("task pause {later} -r x", 5, "paused", "taskerctl task history {later}"),
			("task cancel {fine} -r x", 5, "finished", "taskerctl task get {fine}"),
			("task retry {asleep} -r x", 5, "", "taskerctl task get {asleep}"),
			("task resolve {alone} -r x", 5, "", "taskerctl task get {alone}"),
			("step reset {fine} a -r x", 5, "finished", "taskerctl step get {fine} a"),
			("step skip {broken} b -r x", 5, "", "taskerctl step get {broken} b"),
			("namespace pause night -r x", 5, "paused already", "taskerctl namespace list"),
			("namespace resume t -r x", 5, "not paused", "taskerctl namespace list"),
			("dlq add {broken}", 5, "", "taskerctl dlq show {broken}"),
			("step result {broken} a", 1, "it is error", "taskerctl step get "),
		):
			with self.subTest(args=args):
				self.ctl(*self.words(args), "--json", code=code)
				following = " ".join(self.words(following))
				self.assertIn(said, self.err.splitlines()[0])
				self.assertIn(following, self.err)
				answer = json.loads(self.out)
				error = (answer[0] if isinstance(answer, list) else answer)["error"]
				self.assertEqual(error["exit_code"], code)
				self.assertIn(following, error["hint"])

	def test_a_task_says_why_it_does_not_move(self):
		for task, words in {
			"broken": ("blocked_by_failures", "taskerctl task retry {broken} --reason TEXT"),
			"alone": ("no worker for  t.nobody", "taskerctl worker list"),
			"asleep": ("the namespace night is paused, since", "by anna (the bank is being moved)", "taskerctl namespace resume night --reason TEXT"),
			"later": ("it begins at 2099-01-01", "taskerctl task resume {later} --reason TEXT"),
		}.items():
			with self.subTest(task=task):
				self.ctl("task", "get", self.shared.made[task])
				for w in words:
					self.assertIn(w.format(**self.shared.made), self.out + self.err)
		self.ctl("task", "get", self.shared.made["fine"])
		self.assertEqual(self.err, "")

	def test_waiting_says_how_it_ended(self):
		self.ctl("task", "wait", self.shared.made["broken"], code=9)
		self.assertIn("taskerctl task get " + self.shared.made["broken"], self.err)
		self.assertEqual([t["exit_code"] for t in self.json("task", "wait", self.shared.made["fine"], self.shared.made["broken"], code=9)], [0, 9])
		self.ctl("task", "wait", self.shared.made["asleep"], "--timeout", "0", code=6)
		self.assertIn("taskerctl task get " + self.shared.made["asleep"], self.err)

	def test_status_names_them_all(self):
		found = self.json("status", code=1)["findings"]
		for what, following in ("paused", "taskerctl namespace resume night --reason TEXT"), ("no worker", "taskerctl worker list"), ("dead letters", "taskerctl dlq causes"), ("paused", "taskerctl task list --paused"):
			self.assertIn((what, following), [(f["what"], f["next"]) for f in found])

	def test_wide_columns_have_something_to_show(self):
		"""A column whose member has another name at the daemon would be empty for ever."""
		for args, columns in {
			"task list": {"FAILED": "1", "RUNNING": "0", "PRIORITY": "0", "CORRELATION": self.shared.made["broken"]},
			"task get {broken}": {"WAITED": None, "NODE": None, "WORKER": None, "LAST ERROR": "asked to fail for good"},
			"worker list": {"UID": None, "LANGUAGE": "python", "VERSION": None, "CREDITS": None},
			"node list": {"WORKERS": None, "SESSIONS": None, "GIVEN": None, "STORE": None, "STARTED": None},
			"namespace list": {"USER": None, "CHANGED": None, "CREATED": None},
			"queue list": {"QUEUED": None, "DONE": None},
			"dlq list": {"WAS": "blocked_by_failures", "CREATED": None, "FAILED STEPS": "a"},
			"template show t/broken": {"TYPE": "standard", "RETRYABLE": None},
			"step history {broken} a": {"WORKER": None, "ERROR TYPE": None},
			"analytics steps": {"RETRIED": None, "HANDLER": None, "RECORD P95": None},
		}.items():
			with self.subTest(args=args):
				self.ctl(*self.words(args), "--output", "wide")
				lines = self.out.splitlines()
				head = next(i for i, line in enumerate(lines) if all(c in line for c in columns))
				for column, wanted in columns.items():
					cells = [self.cell(lines[head], line, column) for line in lines[head + 1:]]
					self.assertTrue(any(c not in ("", "-") for c in cells), (column, self.out))
					if wanted:
						self.assertTrue(any(c == wanted for c in cells), (column, wanted, self.out))

	@staticmethod
	def cell(heading, line, column):
		"""What stands in a column: it begins or ends where its heading does, and two blanks are around it."""
		at = heading.index(column)
		begin = at if line[at - 2:at] == "  " and line[at:at + 1].strip() else line.rfind("  ", 0, at + len(column)) + 2
		end = line.find("  ", max(begin, at))
		return line[begin:end if end >= 0 else None].strip()
