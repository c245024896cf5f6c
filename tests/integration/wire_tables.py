"""The tables of PROTOCOL.md: which fields of which types each message of the daemon has. What is not so raises Breach."""
from wire_codec import Breach


def need(where, map_, required, optional=None):
	"""Hold a map to its fields: {name: type or tuple of types}. Unknown fields would be legal, but this version has none to send."""
	if not isinstance(map_, dict):
		raise Breach("%s is not a map: %r" % (where, map_))
	for name, kind in required.items():
		if map_.get(name) is None and kind is not object:
			raise Breach("%s has no %s: %r" % (where, name, map_))
	known = {**required, **(optional or {})}
	for name, v in map_.items():
		if name not in known:
			raise Breach("%s has a field that the protocol does not name: %s" % (where, name))
		if v is not None and known[name] is not object and (not isinstance(v, known[name]) or (isinstance(v, bool) and known[name] is int)):
			raise Breach("%s.%s is %r" % (where, name, v))
	return map_


ERROR = {"code": str, "message": str}, {"path": str, "details": dict, "retry_after_ms": int}
CODES = {"protocol_error", "unsupported_version", "unknown_method", "bad_request", "invalid_value", "too_large", "not_found", "template_not_found",
         "invalid_template", "conflict", "permission_denied", "overloaded", "database_unavailable", "shutting_down", "internal"}
STEP = ({"step_uuid": str, "task_uuid": str, "attempt": int, "max_attempts": int, "retryable": bool, "claim": bytes, "namespace": str, "template": str,
         "version": str, "step": str, "handler": dict, "context": dict},
        {"template_step": str, "inputs": dict, "dependencies": dict, "dependency_steps": list, "dependencies_partial": bool, "checkpoint": object, "timeout_ms": int, "priority": int,
         "correlation_id": str, "parent_correlation_id": str, "traceparent": str, "tracestate": str, "publishes_events": list})
DECLARED_EVENT = {"name": str, "condition": str, "delivery_mode": str}, {"publisher": str}
DOMAIN_EVENT = {"event_id": str, "event_name": str, "event_version": str, "payload": dict, "metadata": dict}, {}
ACK = {"step_uuid": str, "attempt": int, "status": str}, {"message": str}
STATUSES = {"recorded", "duplicate", "stale", "rejected", "not_claimed"}
EVENT = {"kind": str, "state": str}, {"at": str, "step": str, "step_uuid": str, "attempt": int, "worker_uuid": str, "outcome": str, "error": object,
                                      "progress": object}


def check_error(e):
	need("error", e, *ERROR)
	if e["code"] not in CODES:
		raise Breach("unknown code %s" % e["code"])
	if ("retry_after_ms" in e) != (e["code"] in ("overloaded", "database_unavailable")):
		raise Breach("retry_after_ms in %r" % e)


def _check_list(params, name, fields):
	need(name, params, {name: list})
	if not params[name]:
		raise Breach("no %s" % name)
	for item in params[name]:
		need(name, item, *fields)
	return params[name]


def check_event(event):
	"""Hold a domain event to section 10."""
	need("event", event, *DOMAIN_EVENT)
	metadata = event["metadata"]
	for name in ("namespace", "correlation_id", "fired_at", "fired_by"):
		if not isinstance(metadata.get(name), str):
			raise Breach("metadata.%s of %r" % (name, event))
	if "payload" not in event["payload"]:
		raise Breach("no payload in %r" % event)
	if "task_uuid" in metadata:
		need("payload", event["payload"], {"payload": object, "task_sequence_step": dict, "execution_result": dict})
		whose = event["payload"]["task_sequence_step"]
		need("task", whose["task"], {"task_uuid": str, "namespace": str, "name": str, "version": str})
		need("workflow_step", whose["workflow_step"], {"step_uuid": str, "name": str, "template_step_name": str, "attempts": int, "max_attempts": int})
		need("execution_result", event["payload"]["execution_result"], {"success": bool, "status": str, "step_uuid": str, "attempt": int},
		     {"execution_ms": (int, float), "worker_uuid": str, "error": object})
	return event


def check_notification(method, params):
	"""Hold what the daemon sends to the tables of the protocol."""
	if method == "error":
		check_error(params)
	elif method == "step.execute":
		for step in _check_list(params, "steps", STEP):
			need("handler", step["handler"], {"callable": str}, {"method": str, "resolver": str, "initialization": dict})
			for event in step.get("publishes_events", ()):
				need("publishes_events", event, *DECLARED_EVENT)
			if len(step["claim"]) != 16 or step["attempt"] < 1:
				raise Breach("claim or attempt of %r" % step)
	elif method == "result.ack":
		for ack in _check_list(params, "acks", ACK):
			if ack["status"] not in STATUSES:
				raise Breach("status %s" % ack["status"])
	elif method == "step.cancel":
		need(method, params, {"step_uuid": str, "attempt": int, "reason": str})
		if params["reason"] not in ("timeout", "task_cancelled", "stale", "batch_failed", "access_withdrawn", "shutdown"):
			raise Breach("reason %s" % params["reason"])
	elif method == "task.event":
		need(method, params, {"task_uuid": str, "events": list}, {"complete_until": str})
		for event in params["events"]:
			need("event", event, *EVENT)
			if event["kind"] not in ("task", "step"):
				raise Breach("kind of %r" % event)
	elif method == "event.message":
		need(method, params, {"events": list, "lost": int})
		if not params["events"] and not params["lost"]:
			raise Breach("an event.message about nothing")
		for event in params["events"]:
			check_event(event)
	elif method == "server.draining":
		need(method, params, {"deadline_ms": int})
	else:
		raise Breach("unknown notification %s" % method)


def check_envelope(m):
	if not isinstance(m, list) or not m or m[0] not in (1, 2) or len(m) != (4 if m[0] == 1 else 3):
		raise Breach("not an envelope for a client: %r" % (m,))
	if m[0] == 2:
		if not isinstance(m[1], str) or not isinstance(m[2], dict):
			raise Breach("not a notification: %r" % (m,))
		check_notification(m[1], m[2])
		return
	if not isinstance(m[1], int) or not 0 <= m[1] < 2 ** 32 or (m[2] is None) == (m[3] is None):
		raise Breach("not a response: %r" % (m,))
	if m[2] is not None:
		check_error(m[2])
