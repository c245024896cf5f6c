"""The handler of the Python worker in a benchmark: it does nothing, so that what a run takes is the engine's and the client's time."""

from taskerd.step_handler.functional import step_handler


@step_handler("bench.noop")
def noop(context):
    return {}
