"""One handler for random workflows: what it does stands in the task's context, by step and attempt. An epoch begins when the test has done what operators do."""
import os

from flows import begin, is_open
from outcomes import outcome
from taskerd import PermanentError, RetryableError
from taskerd.step_handler.functional import step_handler
from taskerd.types import StepHandlerResult


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
	return outcome(word, context.get_input("names"))
