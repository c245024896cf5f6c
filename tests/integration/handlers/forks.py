"""A handler that leaves a child behind, which holds every descriptor of its worker."""
import os
import signal

from flows import begin, note
from taskerd.step_handler.functional import step_handler


@step_handler("fork.a")
def fork(context):
	begin(context)
	if context.attempt == 1:
		held = [os.dup(int(fd)) for fd in os.listdir("/proc/self/fd") if _is_socket(fd)]  # copies that the library knows nothing of
		child = os.fork()
		if child == 0:
			while True:
				signal.pause()
		note(context, "child", child=child, held=len(held))
		context.cancel_event.wait(600)
	return {}


def _is_socket(fd):
	try:
		return os.readlink("/proc/self/fd/" + fd).startswith("socket:")
	except OSError:
		return False
