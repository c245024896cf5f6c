"""The handlers of protocol/conformance/README.md."""

import functools
import json
import logging
import os
import signal
import time

from taskerd import (
    BasePublisher,
    Batchable,
    PermanentError,
    RetryableError,
    StepHandler,
    StepHandlerResult,
)
from taskerd.domain_events import PublisherRegistry
from taskerd.step_handler.functional import BatchConfig, Decision, batch_analyzer, decision_handler, step_handler

_log = logging.getLogger("conf")


def note(event, **more):
    """A line in the ledger."""
    line = json.dumps({"event": event, **more, "pid": os.getpid()}) + "\n"
    fd = os.open(os.environ["CONFORMANCE_LEDGER"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def begin(name, context, event="begin"):
    """A handler begins."""
    note(event, handler=name, step_uuid=str(context.step_uuid), attempt=context.attempt)


def gate(name):
    """The file of a gate."""
    return os.path.join(os.environ["CONFORMANCE_GATES"], name)


def handler(name, decorator=step_handler):
    """A function of (context, config) as the handler `name`."""

    def decorate(function):
        @decorator(name)
        def call(context):
            begin(name, context)
            return function(context, context.step_config)

        return call

    return decorate


@handler("conf.echo")
def echo(context, config):
    return {
        "context": context.input_data,
        "config": config,
        "inputs": context.step_inputs,
        "results": {k: context.get_dependency_result(k) for k in context.get_dependency_result_keys()},
        "attempt": context.retry_count + 1,
        "max_attempts": context.max_retries,
        "task_uuid": str(context.task_uuid),
        "step_uuid": str(context.step_uuid),
    }


@handler("conf.value")
def value(context, config):
    return config.get("value")


@step_handler("conf.nothing")
def nothing():
    pass


@handler("conf.fail")
def fail(context, config):
    return StepHandlerResult.failure(
        config["message"],
        config["error_type"],
        retryable=config["retryable"],
        error_code=config.get("error_code"),
    )


@handler("conf.error_retryable")
def error_retryable(context, config):
    raise RetryableError(config["message"])


@handler("conf.error_permanent")
def error_permanent(context, config):
    raise PermanentError(config["message"], error_code=config.get("error_code"))


@handler("conf.raise")
def raise_(context, config):
    raise ValueError(config["message"])


@handler("conf.retry_after")
def retry_after(context, config):
    if context.attempt == 1:
        raise RetryableError("later", retry_after=config["seconds"])
    return {"attempt": context.attempt}


@handler("conf.flaky")
def flaky(context, config):
    if context.attempt <= config["failures"]:
        raise ValueError("not yet")
    return {"attempt": context.attempt}


@handler("conf.wait")
def wait(context, config):
    while not os.path.exists(gate(config["gate"])):
        context.raise_if_cancelled()
        time.sleep(0.01)
    return {"waited": True}


@handler("conf.open")
def open_(context, config):
    open(gate(config["gate"]), "wb").close()
    return {"opened": config["gate"]}


@handler("conf.sleep_until_cancelled")
def sleep_until_cancelled(context, config):
    context.cancel_event.wait()
    begin("conf.sleep_until_cancelled", context, "cancelled")


@handler("conf.hang")
def hang(context, config):
    while True:
        time.sleep(3600)


class Checkpoint(StepHandler, Batchable):
    handler_name = "conf.checkpoint"

    def call(self, context):
        begin(self.handler_name, context)
        total, every = context.get_config("total"), context.get_config("every")
        upto = min((context.checkpoint_cursor or 0) + every, total)
        visits = (context.accumulated_results or {}).get("visits", 0) + 1
        if upto < total:
            return self.checkpoint_yield(upto, upto, {"visits": visits})
        return self.success({"items": total, "visits": visits})


@handler("conf.save")
def save(context, config):
    start = context.checkpoint_cursor or 0
    for upto in range(start + config["every"], config["total"], config["every"]):
        context.save_checkpoint(upto, upto, None)
        if context.attempt == 1:
            raise ValueError("after the first checkpoint")
    return {"items": config["total"], "from": start}


@handler("conf.decision", decision_handler)
def decision(context, config):
    return Decision.route(config["steps"]) if config.get("steps") else Decision.skip("none")


@handler("conf.analyze", functools.partial(batch_analyzer, worker_template="work"))
def analyze(context, config):
    return BatchConfig(total_items=config["total"], batch_size=config["size"])


class Batch(StepHandler, Batchable):
    handler_name = "conf.batch"

    def call(self, context):
        begin(self.handler_name, context)
        no_op = self.handle_no_op_worker(context)
        if no_op:
            return no_op
        batch = self.get_batch_context(context)
        return self.success(
            {
                "items_processed": batch.end_cursor - batch.start_cursor,
                "start": batch.start_cursor,
                "end": batch.end_cursor,
            }
        )


class Aggregate(StepHandler, Batchable):
    handler_name = "conf.aggregate"

    def call(self, context):
        begin(self.handler_name, context)
        scenario = self.detect_aggregation_scenario(
            context.dependency_results, context.get_config("analyze"), context.get_config("prefix")
        )
        return self.aggregate_batch_worker_results(
            scenario,
            {"total": 0},
            lambda found: {"total": sum(r["items_processed"] for r in found.values())},
        )


@handler("conf.event")
def event(context, config):
    return {"amount": config["amount"]}


@handler("conf.log")
def log(context, config):
    _log.log(logging.getLevelName(config["level"].upper()), "%s", config["message"])
    return {"logged": True}


@handler("conf.progress")
def progress(context, config):
    context.heartbeat({"n": config["n"]})
    return {"n": config["n"]}


class Methods(StepHandler):
    handler_name = "conf.methods"

    def call(self, context):
        begin(self.handler_name, context)
        return {"method": "call"}

    def other(self, context):
        """The method a template may ask for."""
        begin(self.handler_name, context)
        return {"method": "other"}


@handler("conf.sizes")
def sizes(context, config):
    return {k: len(context.get_dependency_field(k, "blob")) for k in context.get_dependency_result_keys()}


@handler("conf.uuids")
def uuids(context, config):
    return {name: context.dependency_results[name]["step_uuid"] for name in config["names"]}


@handler("conf.unserialisable")
def unserialisable(context, config):
    return {"value": note}


@handler("conf.nan")
def nan(context, config):
    return {"value": float("nan")}


@handler("conf.infinite")
def infinite(context, config):
    return {"value": float("inf")}


@handler("conf.nul")
def nul(context, config):
    return {"value": "a\0b"}


@handler("conf.broken_text")
def broken_text(context, config):
    text = "broken: \ud800"
    if config["in"] == "error":
        raise ValueError(text)
    if config["in"] == "log":
        _log.warning(text)
        return {"logged": True}
    return {"value": text}


@handler("conf.cyclic")
def cyclic(context, config):
    made = {}
    made["self"] = made
    return made


@handler("conf.deep")
def deep(context, config):
    made = None
    for _ in range(config["depth"]):
        made = [made]
    return {"value": made}


@handler("conf.wide")
def wide(context, config):
    return {"value": 9007199254740993}


@handler("conf.huge")
def huge(context, config):
    return {"blob": "x" * config["bytes"]}


@handler("conf.crash")
def crash(context, config):
    if context.attempt <= config["attempts"]:
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)
    return {"survived": True}


@handler("conf.exit")
def exit_(context, config):
    if context.attempt <= config["attempts"]:
        os._exit(3)
    return {"survived": True}


@handler("conf.garbage_stdout")
def garbage_stdout(context, config):
    for descriptor in (1, 2):
        os.write(descriptor, os.urandom(config["bytes"]))
    return {"printed": config["bytes"]}


class Publisher(BasePublisher):
    publisher_name = "conf.publisher"

    def should_publish(self, ctx):
        return ctx.result["amount"] >= 0

    def transform_payload(self, ctx):
        if ctx.result["amount"] == 13:
            raise ValueError("13 brings bad luck")
        return {"amount": ctx.result["amount"], "by": "conf.publisher"}

    def additional_metadata(self, ctx):
        return {"note": "conf"}


PublisherRegistry.instance().register(Publisher())
