"""Results of handlers, as the words that tests/sim/predict reads."""


def _decision(names):
	return {"decision_point_outcome": {"type": "create_steps", "step_names": names}}


def _batches(name, n):
	return {"batch_processing_outcome": {
		"type": "create_batches", "worker_template_name": name, "worker_count": n, "total_items": 10 * n,
		"cursor_configs": [{"batch_id": "%03d" % (k + 1), "start_cursor": 10 * k, "end_cursor": 10 * k + 10, "batch_size": 10} for k in range(n)]}}


def outcome(word, names):
	"""The result that a word stands for; `names` are those of the template's steps."""
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
