"""Handlers as they are written for the reference, classes and functions, with nothing but the package's name replaced. They keep no ledger."""
import logging
import os
import signal
import threading

from taskerd import (
	BasePublisher,
	BaseSubscriber,
	DecisionPointOutcome,
	ErrorType,
	PermanentError,
	RetryableError,
	StepContext,
	StepHandler,
	StepHandlerResult,
)
from taskerd.batch_processing import Batchable
from taskerd.domain_events import PublisherRegistry, SubscriberRegistry
from taskerd.step_handler import DecisionHandler
from taskerd.step_handler.functional import (
	BatchConfig,
	Decision,
	batch_analyzer,
	batch_worker,
	decision_handler,
	depends_on,
	inputs,
	step_handler,
)
from taskerd.types import BatchWorkerOutcome

logger = logging.getLogger("shop")


class Validate(StepHandler):
	handler_name = "approval.validate"
	handler_version = "1.0.0"

	def call(self, context: StepContext) -> StepHandlerResult:
		amount = context.get_input("amount")
		if amount is None:
			return self.failure(message="no amount", error_type=ErrorType.VALIDATION_ERROR, retryable=False, error_code="NO_AMOUNT")
		logger.info("amount %s", amount)
		return StepHandlerResult.success({"amount": amount, "requester": context.get_input_or("requester", "nobody")}, metadata={"checked": True})


class Route(DecisionHandler):
	handler_name = "approval.route"

	def call(self, context):
		amount = context.get_dependency_field("validate", "amount")
		if amount == 0:
			return self.skip_branches("nothing to approve")
		names = ["auto"] if amount < 1000 else ["manager", "finance"]
		return self.decision_success_with_outcome(DecisionPointOutcome.create_steps(names, routing_context={"amount": amount}))


@decision_handler("approval.route_dsl")
@depends_on(checked="validate")
def route_dsl(checked, context):
	if checked["amount"] == 0:
		return Decision.skip("nothing to approve")
	return Decision.route(["auto"] if checked["amount"] < 1000 else ["manager", "finance"], amount=checked["amount"])


@step_handler("approval.approve")
@inputs("requester")
def approve(requester, context):
	return {"approved": context.task_sequence_step.workflow_step.name, "for": requester, "amount": context.get_dependency_field("validate", "amount")}


class Finish(StepHandler):
	handler_name = "approval.finish"

	def call(self, context):
		branches = {n: context.get_dependency_result(n) for n in ("auto", "manager", "finance")}
		return self.success({"via": sorted(n for n, r in branches.items() if r)})


class Analyze(StepHandler, Batchable):
	handler_name = "rows.analyze"

	def call(self, context):
		rows = context.get_input("rows")
		if not rows:
			return self.no_batches_outcome(reason="no rows", metadata={"rows": 0})
		configs = self.create_cursor_ranges(rows, context.step_config.get("batch_size", 10))
		return self.batch_analyzer_success(cursor_configs=configs, total_items=rows, worker_template_name="work", batch_metadata={"unit": "row"})


@batch_analyzer("rows.analyze_dsl", worker_template="work")
@inputs("rows")
def analyze_dsl(rows):
	return BatchConfig(total_items=rows or 0, batch_size=10, metadata={"unit": "row"})


class Work(Batchable, StepHandler):
	"""Adds up its range with a checkpoint every `every` rows. Dies before row `die`, once."""

	handler_name = "rows.work"

	def call(self, context):
		no_op = self.handle_no_op_worker(context)
		if no_op:
			return no_op
		batch = self.get_batch_context(context)
		assert self.get_batch_worker_inputs(context).cursor.batch_id == batch.batch_id
		done = batch.checkpoint_items_processed
		at, end = batch.start_cursor + done, batch.end_cursor
		total = (context.accumulated_results or {}).get("total", 0)
		upto = min(end, at + (context.get_config("every") or end))
		for row in range(at, upto):
			die_once(context, row)
			total += row
			done += 1
		if upto < end:
			return self.checkpoint_yield(cursor=upto, items_processed=done, accumulated_results={"total": total, "resumed": context.is_retry()})
		outcome = self.create_worker_outcome(items_processed=done, results=[{"total": total, "from": at, "retry": context.retry_count}], last_cursor=upto)
		assert isinstance(outcome, BatchWorkerOutcome)
		return self.batch_worker_success(outcome)


@batch_worker("rows.work_dsl")
def work_dsl(batch_context, context):
	if context.step_inputs["is_no_op"]:
		return {"items_processed": 0, "results": []}
	rows = range(batch_context.start_cursor, batch_context.end_cursor)
	return {"items_processed": len(rows), "results": [{"total": sum(rows)}]}


class Sum(StepHandler, Batchable):
	handler_name = "rows.sum"

	def call(self, context):
		scenario = self.detect_aggregation_scenario(context.dependency_results, "analyze", "work_")
		return self.aggregate_batch_worker_results(scenario, {"total": 0}, lambda found: {
			"total": sum(r["results"][0]["total"] for r in found.values()), "rows": self.aggregate_worker_results(list(found.values()))["total_processed"]})


@step_handler("rows.save")
def save(context):
	if context.has_checkpoint():
		return {"resumed": context.checkpoint_items_processed, "seen": context.accumulated_results}
	context.save_checkpoint("row-3", 3, {"sum": 6})
	raise RetryableError("once", retry_after=0.01)


def die_once(context, row):
	if row != context.get_config("die"):
		return
	mark = os.path.join(os.environ["TASKERD_TEST_GATES"], "died-%d" % row)
	if not os.path.exists(mark):
		with open(mark, "wb"):
			pass
		os.kill(os.getpid(), signal.SIGKILL)


class Payments(StepHandler):
	"""Several operations in one class; the template's `method` says which."""

	handler_name = "payments"

	def call(self, context):
		raise PermanentError("the template names no method")

	def charge(self, context):
		if context.get_input("decline"):
			raise PermanentError(message="declined", error_code="DECLINED")
		return {"charged": context.get_input("amount"), "currency": context.step_config["currency"]}

	async def refund(self, context):
		if not context.is_retry():
			raise RetryableError("bank is busy", retry_after=0.01)
		return {"refunded": context.get_dependency_field("charge", "charged"), "attempt": context.retry_count + 1}


class ChargedPublisher(BasePublisher):
	publisher_name = "payments.charged"

	def should_publish(self, ctx):
		return ctx.result["charged"] != 13

	def transform_payload(self, ctx):
		return {"amount": ctx.result["charged"], "step": ctx.step_name}

	def additional_metadata(self, ctx):
		return {"shop": "north"}


class Watcher(BaseSubscriber):
	@classmethod
	def subscribes_to(cls):
		return ["payment.*"]

	def handle(self, event):
		with open(os.path.join(os.environ["TASKERD_TEST_GATES"], "event-%s" % event["event_name"]), "w", encoding="utf-8") as f:
			f.write("%s %s" % (event["payload"]["payload"]["amount"], event["metadata"]["step_name"]))


PublisherRegistry.instance().register(ChargedPublisher())
SubscriberRegistry.instance().register(Watcher)


@step_handler("hang")
def hang(context):
	"""Does not hear that it is cancelled."""
	context.log("warn", "hanging")
	threading.Event().wait()


@step_handler("odd")
@inputs("kind")
def odd(kind):
	"""What cannot be stored."""
	if kind == "cycle":
		value = {}
		value["self"] = value
		return value
	if kind == "exit":
		raise SystemExit(3)
	return {"nan": {"x": float("nan")}, "object": {"x": object()}, "huge": {"x": "y" * 3_000_000}, "int": {"x": 1 << 80}, "fine": {"x": 1}}[kind]
