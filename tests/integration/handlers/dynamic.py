"""Handlers of dynamic workflows. What a handler returns stands in its step's initialization, so that the template tells the story."""
import os
import signal

from flows import *  # noqa: F401,F403
from flows import begin, is_open, note, step_name
from taskerd import PermanentError, StepHandlerResult
from taskerd.step_handler.functional import step_handler


@step_handler("d.say")
def say(context):
	"""Returns config `result`; waits for the gate of config `gate` before."""
	name = begin(context)
	wait_for_gate(context)
	return context.get_config("result") or {"step": name}


@step_handler("d.saw")
def saw(context):
	"""What came before it."""
	begin(context)
	return {"saw": {k: context.get_dependency_result(k) for k in sorted(context.get_dependency_result_keys())}}


@step_handler("d.asks")
def asks(context):
	"""How many batches its batchable made: more than is sent along."""
	begin(context)
	return {"of": len(context.get_dependency_result("split")["batch_processing_outcome"]["cursor_configs"])}


@step_handler("d.work")
def work(context):
	"""A batch worker: adds up its range. Fails in batches of config `bad`, in all attempts; waits in those of config `slow`."""
	name = begin(context)
	inputs = context.step_inputs
	cursor = inputs["cursor"]
	if cursor["batch_id"] in (context.get_config("slow") or [cursor["batch_id"]]):
		wait_for_gate(context)
	if cursor["batch_id"] in (context.get_config("bad") or []):
		raise PermanentError("cannot weigh %s" % cursor["batch_id"])
	note(context, "worked", inputs=inputs)
	return {"step": name, "sum": sum(range(cursor["start_cursor"], cursor["end_cursor"])), "no_op": inputs["is_no_op"]}


def wait_for_gate(context):
	gate = context.get_config("gate")
	while gate and not is_open(gate):
		if context.cancel_event.wait(0.005):
			note(context, "cancelled", reason=context.cancel_reason)
			context.raise_if_cancelled()


def process_range(context, every, die_at=()):
	"""Adds up a range, with a checkpoint after `every` items by giving the step back; dies at some items, once each."""
	begin(context)
	cursor = context.step_inputs["cursor"]
	at = context.checkpoint_cursor if context.has_checkpoint() else cursor["start_cursor"]
	total = (context.accumulated_results or {}).get("total", 0)
	note(context, "from", at=at, total=total, checkpoint=context.checkpoint)
	for i in range(at, cursor["end_cursor"]):
		if i in die_at and not is_open("died-%d" % i):
			with open(os.path.join(os.environ["TASKERD_TEST_GATES"], "died-%d" % i), "w", encoding="ascii"):
				pass
			os.kill(os.getpid(), signal.SIGKILL)
		total += i
		if (i + 1) % every == 0 and i + 1 < cursor["end_cursor"]:
			return {"yield": True, "cursor": i + 1, "items": i + 1 - cursor["start_cursor"], "total": total}
	return {"step": step_name(context), "total": total}


@step_handler("d.range")
def add_up_range(context):
	"""Like d.work, with a checkpoint every config `every` items, and dying once at each of config `die_at`."""
	done = process_range(context, context.get_config("every"), context.get_config("die_at") or ())
	if done.pop("yield", False):
		return StepHandlerResult.checkpoint_yield(done["cursor"], done["items"], {"total": done["total"]})
	return done
