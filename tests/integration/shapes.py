"""What the tests of PROTOCOL.md share: the shapes of answers, the vectors, values that are deep."""
import json
import os
import re

import harness

VECTORS = os.path.join(harness.ROOT, "protocol", "vectors")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")
NOBODY = "01900000-0000-7000-8000-000000000000"  # a task that is not there
TASK = ({"task_uuid": str, "namespace": str, "name": str, "version": str, "state": str, "status": str, "created_at": str, "updated_at": str, "context": dict,
         "priority": int, "paused": bool, "correlation_id": str, "total_steps": int, "pending_steps": int, "in_progress_steps": int, "completed_steps": int, "failed_steps": int,
         "ready_steps": int, "completion_percentage": (int, float), "execution_status": str},
        {"finished_at": str, "run_at": str, "initiator": str, "source_system": str, "reason": str, "tags": list, "parent_correlation_id": str, "missing_handlers": list,
         "steps": list, "waiting_steps": int, "traceparent": str})
STEP_ROW = ({"step_uuid": str, "name": str, "state": str, "attempts": int, "max_attempts": int, "depends_on": list, "handler": str},
            {"ready_at": str, "started_at": str, "finished_at": str, "retry_at": str, "result": object, "error": object})


def vectors(name):
	with open(os.path.join(VECTORS, name + ".json"), encoding="utf-8") as f:
		return json.load(f)


def nested(depth, inside=1):
	"""Maps and arrays in turn, `depth` of them."""
	for i in range(depth):
		inside = [inside] if i % 2 else {"d": inside}
	return inside
