"""Handlers that nobody else has: what waited for them goes on."""
from taskerd.step_handler.functional import step_handler

late_comer = step_handler("t.late_comer")(lambda context: {"late": True})
w_a = step_handler("w.a")(lambda context: {})
w_b = step_handler("w.b")(lambda context: {})
