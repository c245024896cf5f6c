"""A handler that only some workers have."""
from flows import begin
from taskerd.step_handler.functional import step_handler


@step_handler("rank.a")
def rank(context):
	begin(context)
	return {}
