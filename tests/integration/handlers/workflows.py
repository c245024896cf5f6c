"""One handler for random workflows: what it does stands in the task's context, by step and attempt. An epoch begins when the test has done what operators do."""
import os

from flows import begin, is_open
from taskerd import PermanentError, RetryableError
from taskerd.step_handler.functional import step_handler
from taskerd.types import StepHandlerResult


def _decision(names):
	return {"decision_point_outcome": {"type": "create_steps", "step_names": names}}


def _batches(name, n):
	return {"batch_processing_outcome": {
		"type": "create_batches", "worker_template_name": name, "worker_count": n, "total_items": 10 * n,
		"cursor_configs": [{"batch_id": "%03d" % (k + 1), "start_cursor": 10 * k, "end_cursor": 10 * k + 10, "batch_size": 10} for k in range(n)]}}


def _outcome(word, names):
	"""The result that a response stands for."""
	kind, *args = word.split(":")
	if kind == "names":
		return _decision([names[int(no)] for no in args[0].split(",")])
	if kind == "none":
		return {"decision_point_outcome": {"type": "no_branches"}}
	if kind == "batches":
		return _batches(names[int(args[0])], int(args[1]))
	if kind == "nobatches":
		return {"batch_processing_outcome": {"type": "no_batches", **({"worker_template_name": names[int(args[0])]} if args[0] != "-1" else {})}}
	if kind == "bad":
		return {**_decision(["nobody"]), **_batches("nobody", 1)}
	return {"said": word}


@step_handler("t.play")
def play(context):
	name = begin(context)
	epoch = "1" if is_open("epoch-%s" % context.task_uuid) else "0"
	words = context.get_input("do")[epoch].get(name, ["ok"])
	word = words[min(context.attempt, len(words)) - 1]
	if word == "retry":
		raise RetryableError("asked to fail")
	if word == "delay":
		raise RetryableError("asked to fail", retry_after=0.02)
	if word == "perm":
		raise PermanentError("asked to fail for good")
	if word == "yield" and not context.has_checkpoint():
		return StepHandlerResult.success({"type": "checkpoint_yield", "cursor": 5, "items_processed": 5, "accumulated_results": {"pid": os.getpid()}},
		                                 metadata={"checkpoint_yield": True, "batch_worker": True})
	return _outcome(word, context.get_input("names"))
