"""Handlers of the tests. Each execution first appends one line to the ledger; what a handler is to do stands in its step's initialization."""
import json
import os
import signal

from taskerd import PermanentError, RetryableError, StepHandlerResult
from taskerd.step_handler.functional import step_handler


def _append(name, text):
	fd = os.open(os.environ[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
	try:
		os.write(fd, text.encode())
	finally:
		os.close(fd)


def step_name(context):
	return context.task_sequence_step.workflow_step.name


def begin(context):
	"""The line in the ledger; the step's name."""
	name = step_name(context)
	_append("TASKERD_TEST_LEDGER", "%s %s %d %d\n" % (context.task_uuid, name, context.attempt, os.getpid()))
	return name


def note(context, event, **more):
	"""Something a test wants to know of."""
	_append("TASKERD_TEST_NOTES", json.dumps({"event": event, "task": str(context.task_uuid), "step": step_name(context), "attempt": context.attempt,
	                                          "pid": os.getpid(), **more}) + "\n")


def is_open(gate):
	return os.path.exists(os.path.join(os.environ["TASKERD_TEST_GATES"], gate))


@step_handler("t.ok")
def ok(context):
	"""Says who it is and what it was given."""
	name = begin(context)
	return {"step": name, "attempt": context.attempt, "n": context.get_input("n"), "who": os.environ.get("TASKERD_TEST_WHO"),
	        "from": {k: context.get_dependency_field(k, "step") for k in context.get_dependency_result_keys()}}


@step_handler("t.sum")
def total(context):
	"""One, plus the values of all ancestors, their last nine digits."""
	begin(context)
	keys = context.get_dependency_result_keys()
	return {"value": (1 + sum(context.get_dependency_field(k, "value") for k in keys)) % 10 ** 9, "ancestors": len(keys)}


@step_handler("t.echo")
def echo(context):
	begin(context)
	return dict(context.input_data)


@step_handler("t.big")
def big(context):
	"""A result of config `bytes` bytes, and how much came in."""
	begin(context)
	given = sum(len(context.get_dependency_field(k, "blob") or "") for k in context.get_dependency_result_keys())
	return {"blob": "x" * context.get_config("bytes"), "given": given}


@step_handler("t.flaky")
def flaky(context):
	"""Fails in the first `fails` attempts, in the way of `kind`."""
	name = begin(context)
	note(context, "flaky", retry_count=context.retry_count, last=context.is_last_retry())
	if context.attempt <= (context.get_config("fails") or 0):
		kind = context.get_config("kind") or "retryable"
		if kind == "permanent":
			raise PermanentError("asked to fail for good", error_code="ASKED")
		if kind == "exception":
			raise KeyError("asked for something that is not there")
		raise RetryableError("asked to fail", retry_after=context.get_config("retry_after"))
	return {"step": name, "attempt": context.attempt}


@step_handler("t.mended")
def mended(context):
	"""Fails, in the way of `kind`, until the gate is open: what an operator mends."""
	name = begin(context)
	if not is_open(context.get_config("gate")):
		return StepHandlerResult.failure("not mended yet", context.get_config("error_type") or "unmended", context.get_config("kind") == "retryable")
	return {"step": name, "attempt": context.attempt, "from": {k: context.get_dependency_result(k) for k in context.get_dependency_result_keys()}}


@step_handler("t.gated_failure")
def gated_failure(context):
	"""Waits at a gate, then fails in the way of `kind` unless `mended` is open."""
	name = begin(context)
	while not is_open(context.get_config("gate")):
		if context.cancel_event.wait(0.005):
			context.raise_if_cancelled()
	if not is_open(context.get_config("mended")):
		raise (RetryableError if context.get_config("kind") == "retryable" else PermanentError)("asked to fail")
	return {"step": name, "attempt": context.attempt}


@step_handler("t.gate")
def gate(context):
	"""Waits until the test opens the gate, or is cancelled."""
	name = begin(context)
	while not is_open(context.get_config("gate") or "gate"):
		if context.cancel_event.wait(0.005):
			note(context, "cancelled", reason=context.cancel_reason)
			context.raise_if_cancelled()
	return {"step": name, "attempt": context.attempt, "who": os.environ.get("TASKERD_TEST_WHO")}


@step_handler("t.late")
def late(context):
	"""Notes that it was cancelled, and all the same returns a result once the gate is open. Only the first attempt waits."""
	name = begin(context)
	if context.attempt == 1:
		context.cancel_event.wait(600)
		note(context, "cancelled", reason=context.cancel_reason)
		while not is_open(context.get_config("gate") or "gate"):
			context.cancel_event.clear()
			context.cancel_event.wait(0.005)
	return {"step": name, "attempt": context.attempt}


@step_handler("t.poison")
def poison(context):
	"""Takes the whole process with it: in every attempt, or in the first `deaths`."""
	name = begin(context)
	deaths = context.get_config("deaths")
	if deaths is None or context.attempt <= deaths:
		os.kill(os.getpid(), signal.SIGKILL)
	return {"step": name, "attempt": context.attempt}


@step_handler("t.progress")
def progress(context):
	"""Says how far it is, and writes to the daemon's log."""
	begin(context)
	context.heartbeat({"done": 1, "of": 2})
	context.log("info", "half of it", part="first")
	while not is_open("gate"):
		if context.cancel_event.wait(0.005):
			context.raise_if_cancelled()
	return {}
