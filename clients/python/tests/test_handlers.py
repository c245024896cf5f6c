"""What handler files use: the decorators, the base class, contexts, results, errors, the registry."""

import asyncio
import dataclasses
import os
import sys
import tempfile
import textwrap
import types
import unittest
import uuid
from unittest import mock

import support

import taskerd
import taskerd.errors as errors
import taskerd.types
from taskerd import (
    ErrorType,
    HandlerDefinition,
    HandlerRegistry,
    RegistryResolver,
    ResolverChain,
    ResolverNotFoundError,
    StepContext,
    StepHandler,
    StepHandlerResult,
    TemplatePath,
)
from taskerd._dependencies import Dependencies
from taskerd.errors import PermanentError, RetryableError
from taskerd.errors.error_classifier import ErrorClassifier
from taskerd.models import StepEvent
from taskerd.step_handler.functional import FunctionalHandler, depends_on, inputs, step_handler
from taskerd.testing import run_handler


def call(function, context):
    return function._handler_class().call(context)


class Names(unittest.TestCase):
    def test_import_paths(self):
        self.assertIs(taskerd.StepTimeoutError, errors.TimeoutError)
        self.assertIs(taskerd.StepValidationError, errors.ValidationError)
        self.assertIs(taskerd.types.StepContext, StepContext)
        self.assertIsInstance(taskerd.step_handler, types.ModuleType)
        self.assertFalse(issubclass(errors.PermanentError, taskerd.TaskerError))
        for name in taskerd.__all__:
            self.assertTrue(hasattr(taskerd, name), name)
        for module in ("types", "errors", "handler", "registry", "models", "client", "worker", "bootstrap",
                       "logging", "exceptions", "template_discovery", "step_handler.functional"):  # fmt: skip
            imported = __import__("taskerd." + module, fromlist=["*"])
            for name in imported.__all__:
                self.assertTrue(hasattr(imported, name), module + "." + name)


    def test_everything_for_functions_is_at_the_root_too(self):
        from taskerd import BatchConfig, Decision, decision_handler, inputs, step_handler

        @step_handler("root.f", version="1.1.0")
        @inputs("a")
        def f(a):
            return {"a": a}

        self.assertEqual(call(f, StepContext(input_data={"a": 2})).result, {"a": 2})
        self.assertEqual((f._handler_class.handler_name, f._handler_class.handler_version), ("root.f", "1.1.0"))
        self.assertIs(step_handler.functional.Decision, Decision)
        self.assertEqual((BatchConfig.__name__, decision_handler), ("BatchConfig", step_handler.decision_handler))


class Functional(unittest.TestCase):
    def test_injection(self):
        @step_handler("f", version="2.0.0")
        @depends_on(cart="load_cart", missing="not_there")
        @depends_on(user="load_user")
        @inputs("currency")
        @inputs("absent")
        def f(cart, missing, user, currency, absent, context):
            return [cart, missing, user, currency, absent, context.get_input("currency")]

        context = StepContext(
            input_data={"currency": "EUR"},
            dependency_results={"load_cart": {"result": {"n": 1}}, "load_user": {"result": 7}},
        )
        self.assertEqual(call(f, context).result, {"result": [{"n": 1}, None, 7, "EUR", None, "EUR"]})
        self.assertEqual((f._handler_class.handler_name, f._handler_class.handler_version), ("f", "2.0.0"))
        self.assertTrue(issubclass(f._handler_class, FunctionalHandler))
        self.assertEqual(f(1, 2, 3, 4, 5, context)[0], 1)  # callable as written

    def test_a_failure_names_the_results_that_were_not_there(self):
        @step_handler("f")
        @depends_on(cart="cart", user="usr")
        def f(cart, user):
            return {"n": cart["n"] / user["n"]}

        @step_handler("g")
        @depends_on(user="usr")
        async def g(user):
            return {"n": user.n}

        @step_handler("h")
        @depends_on(cart="cart", user="usr")
        def h(cart, user):
            raise ValueError("no")

        context = StepContext(dependency_results={"cart": {"result": {"n": 1}}})
        self.assertEqual(call(f, context).error_message, "'NoneType' object is not subscriptable (no result of usr was there)")
        self.assertRegex(asyncio.run(call(g, context)).error_message, r"has no attribute 'n' \(no result of usr was there\)$")
        self.assertEqual(call(h, context).error_message, "no")
        context = StepContext(dependency_results={"cart": {"result": {}}, "usr": {"result": {"n": 1}}})
        self.assertEqual(call(f, context).error_message, "'n'")

    def test_context_is_passed_only_if_named(self):
        @step_handler("none")
        def none():
            return {"ok": True}

        @step_handler("private")
        def private(_context):
            return {"kind": type(_context).__name__}

        self.assertEqual(call(none, StepContext()).result, {"ok": True})
        self.assertEqual(call(private, StepContext()).result, {"kind": "StepContext"})

    def test_return_values(self):
        class Model:
            def model_dump(self, mode):
                return {"mode": mode}

        given = StepHandlerResult.failure("no")
        for value, want in [({"a": 1}, {"a": 1}), (None, {}), (5, {"result": 5}), (Model(), {"mode": "json"})]:
            function = step_handler("h")(lambda v=value: v)
            result = call(function, StepContext())
            self.assertTrue(result.is_success)
            self.assertEqual(result.result, want)
        self.assertIs(call(step_handler("h")(lambda: given), StepContext()), given)

    def test_exceptions(self):
        def failing(error):
            @step_handler("bad")
            def bad():
                raise error

            return call(bad, StepContext())

        r = failing(PermanentError("p", error_code="E1", metadata={"k": 1}, retryable=True))
        self.assertEqual((r.error_type, r.retryable, r.error_code), ("permanent_error", False, "E1"))
        self.assertEqual(r.metadata, {"k": 1, "error_code": "E1"})
        r = failing(errors.RateLimitError("slow", retry_after=7, context={"host": "h"}))
        self.assertEqual((r.error_type, r.retryable, r.retry_after), ("retryable_error", True, 7))
        self.assertEqual(r.metadata, {"host": "h", "retry_after": 7})
        r = failing(errors.TaskerError(message="t", retryable=False))
        self.assertEqual((r.error_type, r.retryable, r.error_message), ("handler_error", False, "t"))
        r = failing(KeyError("k"))
        self.assertEqual((r.error_type, r.retryable), ("handler_error", True))
        self.assertEqual(r.metadata["exception_type"], "KeyError")
        self.assertIn("in bad", r.metadata["traceback"])

    def test_a_parameter_that_the_function_lacks_is_a_retryable_error(self):
        @step_handler("odd")
        @inputs("a")
        def odd():
            pass

        self.assertEqual(call(odd, StepContext()).error_type, "handler_error")

    def test_async(self):
        @step_handler("later")
        @inputs("n")
        async def later(n):
            if n is None:
                raise PermanentError("no n")
            return {"n": n}

        self.assertEqual(asyncio.run(call(later, StepContext(input_data={"n": 3}))).result, {"n": 3})
        self.assertFalse(asyncio.run(call(later, StepContext())).retryable)

    def test_dataclass_models(self):
        @dataclasses.dataclass
        class Order:
            order_id: int
            note: str = "none"
            missing: int = dataclasses.field(default_factory=list)

        @dataclasses.dataclass
        class Cart:
            total: int

        @step_handler("typed")
        @depends_on(cart=("load_cart", Cart), raw=("scalar", Cart))
        @inputs(Order)
        def typed(inputs, cart, raw):
            return {"r": [inputs.order_id, inputs.note, inputs.missing, cart.total, raw]}

        context = StepContext(
            input_data={"order_id": 4, "other": 1},
            dependency_results={"load_cart": {"result": {"total": 9, "more": 1}}, "scalar": {"result": 5}},
        )
        self.assertEqual(call(typed, context).result, {"r": [4, "none", [], 9, 5]})
        only_cart = StepContext(dependency_results={"load_cart": {"result": {"total": 9}}})
        self.assertIsNone(call(typed, only_cart).result["r"][0])

    def test_models_with_model_validate(self):
        class Field:
            alias = None

            def __init__(self, required):
                self._required = required

            def is_required(self):
                return self._required

        class Model:
            model_fields = {"a": Field(True), "b": Field(False)}

            def __init__(self, data):
                self.data = data

            @classmethod
            def model_validate(cls, data):
                return cls(data)

        @step_handler("m")
        @depends_on(d=("dep", Model))
        @inputs(Model)
        def m(inputs, d):
            return {"inputs": inputs.data, "d": d.data}

        context = StepContext(input_data={"x": 1}, dependency_results={"dep": {"result": {"q": 1}}})
        self.assertEqual(call(m, context).result, {"inputs": {"a": None}, "d": {"q": 1}})

    def test_misuse_is_told_when_decorating(self):
        for make in (lambda: step_handler(lambda: 1), lambda: depends_on(a=3), lambda: inputs(3)):
            with self.assertRaises(TypeError):
                make()


    def test_arguments_that_do_not_fit_are_named(self):
        """A TypeError of the handler's own says what it says."""

        @dataclasses.dataclass
        class Order:
            items: int = 0

        @step_handler("misfit.model")
        @inputs(Order)
        def price(order):
            return {}

        @step_handler("misfit.missing")
        @depends_on(cart="load")
        async def total(cart, currency):
            return {}

        @step_handler("misfit.own")
        def own():
            return {"n": 1 + "1"}

        for function, said in ((price, "'order'. Its decorators give it: inputs; a model of @inputs comes as the argument 'inputs'"), (total, "'currency'. Its decorators give it: cart")):
            result = run_handler(function, {})
            self.assertEqual((result.is_success, result.retryable, result.error_type), (False, True, "handler_error"))
            self.assertIn(f"{function.__name__} ({__file__}:", result.error_message)
            self.assertTrue(result.error_message.endswith(said), result.error_message)
        result = run_handler(own, {})
        self.assertNotIn("decorators", result.error_message)


class Results(unittest.TestCase):
    def test_factories(self):
        r = StepHandlerResult.success({"a": 1}, {"m": 2})
        self.assertTrue(r.is_success and r.is_success_result() and not r.is_failure_result())
        self.assertEqual((r.result, r.metadata), ({"a": 1}, {"m": 2}))
        self.assertTrue(callable(r.success))
        r = StepHandlerResult.failure("m", ErrorType.TIMEOUT, False, {"k": 1}, "C")
        self.assertEqual(
            (r.is_success, r.error_message, r.error_type, r.retryable, r.metadata, r.error_code),
            (False, "m", "timeout", False, {"k": 1}, "C"),
        )
        self.assertIs(type(r.error_type), str)
        self.assertEqual(StepHandlerResult.failure("m").error_type, "handler_error")
        self.assertTrue(StepHandlerResult.failure("m").retryable)
        self.assertEqual(StepHandlerResult(success=True, result={}).to_dict()["success"], True)
        with self.assertRaises(ValueError):
            StepHandlerResult.success([1])

    def test_error_type(self):
        self.assertEqual(ErrorType.PERMANENT_ERROR, "permanent_error")
        self.assertEqual(str(ErrorType.HANDLER_ERROR), "handler_error")
        self.assertTrue(ErrorType.is_standard("timeout") and not ErrorType.is_standard("x"))
        self.assertTrue(ErrorType.is_typically_retryable("retryable_error"))
        self.assertFalse(ErrorType.is_typically_retryable(ErrorType.PERMANENT_ERROR))

    def test_base_class(self):
        class H(StepHandler):
            handler_name = "h"

            def call(self, context):
                return self.success()

        h = H()
        self.assertEqual((h.name, h.version, h.capabilities, h.config_schema()), ("h", "1.0.0", ["process"], None))
        self.assertEqual(h.call(None).result, {})
        self.assertEqual(h.failure("x").error_type, "handler_error")
        with self.assertRaises(TypeError):
            StepHandler()


class Errors(unittest.TestCase):
    def test_attributes(self):
        e = errors.ServiceUnavailableError(message="m", error_code="C", retry_after=3, metadata={"a": 1}, context={"b": 2})
        self.assertEqual((str(e), e.error_code, e.retry_after, e.retryable), ("m", "C", 3, True))
        self.assertEqual(e.metadata, {"a": 1, "b": 2, "error_code": "C", "retry_after": 3})
        self.assertEqual(e.to_dict()["error_type"], "ServiceUnavailableError")
        for cls in (errors.TimeoutError, errors.NetworkError, errors.RateLimitError, errors.ResourceContentionError):
            self.assertTrue(issubclass(cls, RetryableError) and cls("x").retryable)
        for cls in (errors.ValidationError, errors.NotFoundError, errors.AuthenticationError,
                    errors.AuthorizationError, errors.ConfigurationError, errors.BusinessLogicError):  # fmt: skip
            self.assertTrue(issubclass(cls, PermanentError) and not cls("x").retryable)

    def test_classifier(self):
        self.assertIsInstance(errors.get_classifier(), ErrorClassifier)
        for error in (ValueError(), KeyError(), TypeError(), AttributeError(), PermanentError("x")):
            self.assertTrue(errors.is_permanent(error), error)
        for error in (OSError(), ConnectionError(), TimeoutError(), Exception(), RetryableError("x")):
            self.assertTrue(errors.is_retryable(error), error)
        forced = ValueError()
        forced.retryable = True
        self.assertEqual(
            errors.get_classifier().classify(forced),
            {"error_type": "ValueError", "retryable": True, "classification": "retryable"},
        )


WIRE = support.step(
    "billing.charge",
    5,
    attempt=2,
    step="charge_001",
    template_step="charge",
    handler={"callable": "billing.charge", "method": "pay", "initialization": {"unit": "EUR"}},
    context={"order_id": 7, "note": None},
    dependencies={"a": {"result": {"x": 1}}, "b_1": 5, "b_2": None},
    checkpoint={"cursor": 50, "items_processed": 49, "accumulated_results": {"sum": 3}},
    parent_correlation_id="req-76",
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)


class Host:
    """Answers for dependencies that were left out."""

    def __init__(self, rest):
        self.rest, self.asked = rest, []

    def fetch_dependencies(self, step_uuid, names):
        self.asked.append(names)
        return Dependencies({k: v for k, v in self.rest.items() if names is None or k in names}, {})


class Context(unittest.TestCase):
    def wire(self, host=None, **changes):
        return StepContext._from_step({**WIRE, **changes}, host, 0.0)

    def test_fields(self):
        c = self.wire()
        self.assertEqual(c.step_uuid, uuid.UUID(int=5))
        self.assertEqual(c.task_uuid, uuid.UUID(int=1000))
        self.assertEqual(c.correlation_id, uuid.UUID(int=1000))
        self.assertEqual(self.wire(correlation_id="req-77").correlation_id, "req-77")
        self.assertEqual(c.handler_name, "billing.charge")
        self.assertEqual((c.input_data, c.step_config), ({"order_id": 7, "note": None}, {"unit": "EUR"}))
        self.assertEqual(c.step_inputs, {"unit": "EUR"})
        self.assertEqual(self.wire(inputs={"cursor": 1}).step_inputs, {"cursor": 1})
        self.assertEqual((c.get_input("order_id"), c.get_input("nope"), c.get_config("unit")), (7, None, "EUR"))
        self.assertEqual((c.get_input_or("note", 3), c.get_input_or("order_id", 3)), (3, 7))
        with self.assertRaises(AttributeError):
            c.nonsense

    def test_dependencies(self):
        c = self.wire()
        self.assertEqual(c.get_dependency_result("a"), {"result": {"x": 1}})  # unwrapped exactly once
        self.assertEqual(c.get_dependency_field("a", "result", "x"), 1)
        self.assertIsNone(c.get_dependency_field("a", "result", "x", "deeper"))
        self.assertIsNone(c.get_dependency_field("b_1", "x"))
        self.assertIsNone(c.get_dependency_result("nope"))
        self.assertEqual(c.get_dependency_result_keys(), ["a", "b_1", "b_2"])
        self.assertEqual(c.get_all_dependency_results("b_"), [5])
        self.assertEqual(c.dependency_results["b_1"]["result"], 5)

    def test_dependencies_left_out_are_fetched_once(self):
        host = Host({"big": {"n": 1}, "huge": {"n": 2}})
        c = self.wire(host, dependencies_partial=True)
        self.assertEqual(c.get_dependency_result("b_1"), 5)
        self.assertEqual(host.asked, [])
        self.assertEqual(c.get_dependency_field("big", "n"), 1)
        self.assertIsNone(c.get_dependency_result("nope"))
        self.assertIsNone(c.get_dependency_result("nope"))
        self.assertEqual(host.asked, [["big"], ["nope"]])
        self.assertIn("huge", c.dependency_results)
        self.assertIn("huge", c.get_dependency_result_keys())
        self.assertEqual(host.asked, [["big"], ["nope"], None])

    def test_attempts(self):
        c = self.wire()
        self.assertEqual((c.retry_count, c.max_retries, c.attempt), (1, 3, 2))
        self.assertTrue(c.is_retry() and not c.is_last_retry())
        self.assertTrue(self.wire(attempt=3).is_last_retry())
        self.assertFalse(self.wire(attempt=1).is_retry())

    def test_checkpoint(self):
        c = self.wire()
        self.assertTrue(c.has_checkpoint())
        self.assertEqual((c.checkpoint_cursor, c.checkpoint_items_processed, c.accumulated_results), (50, 49, {"sum": 3}))
        c = self.wire(checkpoint=None)
        self.assertFalse(c.has_checkpoint())
        self.assertEqual((c.checkpoint, c.checkpoint_cursor, c.checkpoint_items_processed), (None, None, 0))

    def test_raw_data(self):
        c = self.wire()
        e = c.event
        self.assertIsInstance(e, StepEvent)
        self.assertEqual((e.trace_id, e.span_id), ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"))
        self.assertEqual(e.parent_correlation_id, "req-76")
        self.assertEqual(e.task_sequence_step["workflow_step"]["checkpoint"]["cursor"], 50)
        w = c.task_sequence_step
        self.assertEqual(w.task.context, {"order_id": 7, "note": None})
        self.assertEqual((w.task.namespace_name, w.task.task_name, w.task.task_version), ("default", "t", "1.0.0"))
        self.assertEqual((w.workflow_step.name, w.workflow_step.template_step_name), ("charge_001", "charge"))
        self.assertEqual((w.workflow_step.attempts, w.workflow_step.max_attempts), (1, 3))
        self.assertEqual(w.step_definition.handler.callable, "billing.charge")
        self.assertEqual(w.step_definition.handler.handler_method, "pay")
        self.assertEqual(w.get_task_field("order_id"), 7)
        self.assertEqual(w.get_dependency_result("b_1"), 5)
        self.assertEqual(w.dependency_results.get_result("b_1")["result"], 5)
        self.assertIn("a", w.dependency_results)
        self.assertEqual(sorted(w.dependency_results), ["a", "b_1", "b_2"])

    def test_made_by_keyword_and_from_an_event(self):
        c = StepContext()
        self.assertEqual((c.input_data, c.get_dependency_result("x"), c.retry_count, c.max_retries), ({}, None, 0, 3))
        self.assertEqual((c.cancelled, c.remaining_seconds, c.has_checkpoint()), (False, None, False))
        c.heartbeat({"p": 1})  # nobody listens
        again = StepContext.from_ffi_event(self.wire().event, "name")
        self.assertEqual((again.handler_name, again.get_input("order_id"), again.retry_count), ("name", 7, 1))
        self.assertEqual(again.get_dependency_result("b_1"), 5)
        self.assertEqual(again.checkpoint_cursor, 50)
        self.assertEqual(again.step_uuid, uuid.UUID(int=5))

    def test_cancelling(self):
        c = self.wire()
        event = c.cancel_event
        c.raise_if_cancelled()
        c._cancel("timeout")
        self.assertTrue(c.cancelled and event.is_set())
        self.assertEqual(c.cancel_reason, "timeout")
        with self.assertRaises(errors.StepCancelledError):
            c.raise_if_cancelled()
        late = self.wire()
        late._cancel("stale")
        self.assertTrue(late.cancel_event.is_set())


class Plain(StepHandler):
    handler_name = "plain"

    def call(self, context):
        return self.success({"by": "call"})

    def other(self, context):
        return self.success({"by": "other"})


class Configured(StepHandler):
    handler_name = "configured"

    def __init__(self, config):
        self.config = config

    def call(self, context):
        return self.success(self.config)


class Registry(unittest.TestCase):
    def setUp(self):
        self.registry = HandlerRegistry()

    def test_registering(self):
        r = self.registry
        r.register("a", Plain)
        self.assertTrue(r.is_registered("a"))
        self.assertIsInstance(r.resolve("a"), Plain)
        self.assertIsNot(r.resolve("a"), r.resolve("a"))
        self.assertIs(r.get_handler_class("a"), Plain)
        self.assertEqual((r.list_handlers(), r.handler_count()), (["a"], 1))
        self.assertTrue(r.unregister("a"))
        self.assertFalse(r.unregister("a"))
        self.assertIsNone(r.resolve("a"))
        for wrong in (Plain(), "x", dict, lambda: Plain()):
            with self.assertRaises(ValueError):
                r.register("a", wrong)
        r.register("a", Plain)
        r.clear()
        self.assertEqual(r.handler_count(), 0)

    def test_method_dispatch(self):
        self.registry.register("plain", Plain)
        found = self.registry.resolve({"callable": "plain", "method": "other"})
        self.assertEqual(found.call(None).result, {"by": "other"})
        self.assertIsInstance(found.unwrap(), Plain)
        self.assertIsNone(self.registry.resolve({"callable": "plain", "method": "nope"}))
        self.assertIsInstance(self.registry.resolve({"callable": "plain", "method": "call"}), Plain)

    def test_class_lookup(self):
        path = __name__ + ".Plain"
        self.assertIsInstance(self.registry.resolve(path), Plain)
        self.assertIsNone(self.registry.resolve(__name__ + ".Missing"))
        self.assertIsNone(self.registry.resolve("no.such.module.Thing"))
        self.assertIsNone(self.registry.resolve("os.path"))
        self.registry.register("plain", Plain)
        self.assertEqual(self.registry.offered(), ["plain", path])
        wanted = [__name__ + ".Configured", "unknown.thing"]
        self.assertIn(wanted[0], self.registry.offered(wanted))
        self.assertNotIn(wanted[1], self.registry.offered(wanted))

    def test_constructor_with_config(self):
        self.registry.register("c", Configured)
        definition = HandlerDefinition("c", initialization={"k": 1})
        self.assertEqual(self.registry.resolve(definition).call(None).result, {"k": 1})

    def test_resolver_hints_and_own_resolvers(self):
        class Prefixed(RegistryResolver):
            _name = "prefixed"
            _priority = 5
            prefix = "pre."

            def resolve_handler(self, definition, config=None):
                return Configured({"from": definition.callable})

        chain = self.registry.resolver_chain
        self.registry.register("pre.x", Plain)
        self.assertIsInstance(self.registry.resolve("pre.x"), Plain)
        chain.add_resolver(Prefixed())
        self.assertEqual(chain.list_resolvers(), ["prefixed", "explicit_mapping", "class_lookup"])
        self.assertIsNone(self.registry.entry("pre.x"))  # the short way is closed
        self.assertIsInstance(self.registry.resolve("pre.x"), Configured)
        hinted = {"callable": "pre.x", "resolver": "explicit_mapping"}
        self.assertIsInstance(self.registry.resolve(hinted), Plain)
        self.assertIsNone(self.registry.resolve({"callable": "pre.x", "resolver": "nope"}))
        with self.assertRaises(ResolverNotFoundError):
            chain.resolve(HandlerDefinition("pre.x", resolver="nope"))
        self.assertTrue(chain.remove_resolver("prefixed"))
        self.assertIs(self.registry.entry("pre.x"), Plain)

    def test_pattern_and_entries_of_all_kinds(self):
        class Patterned(RegistryResolver):
            pattern = r"^v\d+\."

            def resolve_handler(self, definition, config=None):
                return Plain()

        chain = ResolverChain.default()
        chain.add_resolver(Patterned())
        self.assertTrue(chain.can_resolve(HandlerDefinition("v2.x")))
        self.assertFalse(chain.can_resolve(HandlerDefinition("x.v2.")))
        one = Plain()
        chain.register("one", one)
        chain.register("made", lambda: Plain())
        self.assertIs(chain.resolve(HandlerDefinition("one")), one)
        self.assertIsInstance(chain.resolve(HandlerDefinition("made")), Plain)
        self.assertEqual(chain.registered_callables(), ["made", "one"])
        self.assertEqual([i["priority"] for i in chain.chain_info()], [10, 50, 100])

    def test_definition(self):
        d = HandlerDefinition.from_dict({"callable": "c", "method": "m", "resolver": "r", "initialization": {"a": 1}})
        self.assertEqual((d.effective_method(), d.uses_method_dispatch(), d.has_resolver_hint()), ("m", True, True))
        d = HandlerDefinition.from_callable("c")
        self.assertEqual((d.effective_method(), d.uses_method_dispatch(), d.has_resolver_hint()), ("call", False, False))
        wrapper = taskerd.HandlerWrapper({"callable": "c", "method": "m"})
        self.assertEqual(HandlerDefinition.of(wrapper).effective_method(), "m")

    def test_singleton(self):
        HandlerRegistry.reset_instance()
        self.addCleanup(HandlerRegistry.reset_instance)
        self.assertIs(HandlerRegistry.instance(), HandlerRegistry.instance(skip_bootstrap=True))
        HandlerRegistry.reset_instance()
        with mock.patch.dict(os.environ, TASKER_ENV="test"):
            self.assertIn("plain", HandlerRegistry.instance().list_handlers())


@unittest.skipUnless(sys.version_info >= (3, 11), "groups came with Python 3.11")
class Groups(unittest.TestCase):
    def test_the_only_error_of_a_task_group(self):
        async def refuse():
            raise PermanentError("no", error_code="NO")

        @step_handler("grouped")
        async def grouped():
            async with asyncio.TaskGroup() as group:
                group.create_task(refuse())

        result = run_handler(grouped, {})
        self.assertEqual((result.error_type, result.retryable, result.error_message), ("permanent_error", False, "no"))


class ResultsAsModels(unittest.TestCase):
    def test_methods_of_pydantic(self):
        result = StepHandlerResult.success({"id": uuid.UUID(int=1)}, {"n": 1})
        self.assertEqual(result.model_dump(include={"success", "metadata"}), {"success": True, "metadata": {"n": 1}})
        self.assertNotIn("error_code", result.model_dump(exclude_none=True))
        text = result.model_dump_json(exclude_none=True)
        self.assertEqual(text, '{"success":true,"result":{"id":"00000000-0000-0000-0000-000000000001"},"retryable":true,"metadata":{"n":1}}')
        again = StepHandlerResult.model_validate_json(text)
        self.assertEqual((again.is_success, again.metadata), (True, {"n": 1}))
        changed = result.model_copy(update={"retryable": False}, deep=True)
        changed.metadata["n"] = 2
        self.assertEqual((result.retryable, result.metadata, changed.retryable), (True, {"n": 1}, False))

    def test_of_other_models_too(self):
        error = taskerd.types.StepError("timeout", "late")
        self.assertEqual(taskerd.types.StepError.model_validate_json(error.model_dump_json(exclude={"metadata"})), error)


class Discovery(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.addCleanup(setattr, sys, "path", list(sys.path))
        self.addCleanup(self.forget, set(sys.modules))

    def forget(self, before):
        for name in set(sys.modules) - before:
            if name.startswith(("shop_", "lone_")):
                del sys.modules[name]

    def write(self, name, text):
        path = os.path.join(self.directory.name, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(textwrap.dedent(text))
        return path

    def tree(self, package):
        self.write(package + "/base.py", "import taskerd\nclass Base(taskerd.StepHandler):\n    pass\n")
        self.write(
            package + "/deep/more.py",
            """
            from ..base import Base
            from taskerd.step_handler.functional import step_handler

            class Concrete(Base):
                handler_name = "deep.concrete"
                def call(self, context):
                    return self.success()

            class Nameless(Base):
                def call(self, context):
                    return self.success()

            @step_handler("deep.function")
            def function():
                return {}
            """,
        )
        self.write(package + "/__main__.py", "raise SystemExit('imported')")

    def test_a_directory_without_init(self):
        self.tree("shop_a")
        registry = HandlerRegistry()
        count = registry.discover_handlers(os.path.join(self.directory.name, "shop_a"))
        self.assertEqual((count, registry.list_handlers()), (2, ["deep.concrete", "deep.function"]))
        self.assertEqual(
            registry.offered(),
            ["deep.concrete", "deep.function", "shop_a.deep.more.Concrete", "shop_a.deep.more.Nameless"],
        )
        self.assertEqual(registry.resolve("shop_a.deep.more.Nameless").name, "Nameless")

    def test_a_package_by_name_and_as_a_module(self):
        self.tree("shop_b")
        self.write("shop_b/__init__.py", "")
        sys.path.insert(0, self.directory.name)
        registry = HandlerRegistry()
        self.assertEqual(registry.discover_handlers("shop_b"), 2)
        self.assertEqual(HandlerRegistry().discover_handlers(sys.modules["shop_b"]), 2)
        base = sys.modules["shop_b.base"].Base
        self.assertEqual(HandlerRegistry().discover_handlers("shop_b", base), 1)

    def test_a_file(self):
        path = self.write(
            "lone_file.py",
            """
            from taskerd.step_handler.functional import step_handler
            class Proxy:
                def __getattr__(self, name):
                    raise RuntimeError("not yet")
            proxy = Proxy()
            @step_handler("lone")
            def lone():
                return {}
            """,
        )
        registry = HandlerRegistry()
        self.assertEqual(registry.discover_handlers(path), 1)
        with self.assertRaises(ImportError):
            registry.discover_handlers(os.path.join(self.directory.name, "nope.py"))
        with self.assertRaises(ImportError):
            registry.discover_handlers("no_such_module_at_all")

    def orders(self, place, name):
        self.write(f"{place}/shop_c/{name}.py", """
            from taskerd.step_handler.functional import step_handler
            from .common import NAME
            @step_handler(NAME)
            def orders():
                return {"from": NAME}
            """)  # fmt: skip
        self.write(f"{place}/shop_c/common.py", f"NAME = '{place}.{name}'")
        return os.path.join(self.directory.name, place, "shop_c")

    def test_directories_of_one_name(self):
        registry = HandlerRegistry()
        for place in (self.orders("one", "orders"), self.orders("two", "orders"), self.orders("two", "orders")):
            self.assertEqual(registry.discover_handlers(place), 1)
        self.assertEqual(registry.list_handlers(), ["one.orders", "two.orders"])
        self.assertEqual(run_handler(registry.resolve("two.orders"), {}).result, {"from": "two.orders"})

    def test_directories_that_are_one_package(self):
        self.write("one/shop_d/first.py", "from taskerd import StepHandler\nclass A(StepHandler):\n    def call(self, context): return {}\n")
        self.write("two/shop_d/second.py", "from .first import A\nclass B(A): pass\n")
        registry = HandlerRegistry()
        for place in ("one", "two"):
            registry.discover_handlers(os.path.join(self.directory.name, place, "shop_d"))
        self.assertEqual(registry.resolve("shop_d.second.B").name, "B")

    def test_a_file_called_like_a_module_of_python(self):
        path = self.write("queue.py", "from taskerd.step_handler.functional import step_handler\n@step_handler('q')\ndef q(): return {}\n")
        import queue

        self.assertEqual(HandlerRegistry().discover_handlers(path), 1)
        self.assertIs(sys.modules["queue"], queue)

    def test_template_path(self):
        one = self.write("t/config/tasks/a/one.yaml", "name: one")
        two = self.write("t/config/tasks/two.json", "{}")
        self.write("t/config/tasks/readme.txt", "")
        root = os.path.join(self.directory.name, "t")
        tasks = os.path.join(root, "config", "tasks")
        with mock.patch.dict(os.environ, TASKER_TEMPLATE_PATH=tasks):
            self.assertEqual(str(TemplatePath.find()), tasks)
        with mock.patch.dict(os.environ, TASKER_TEMPLATE_PATH=root + "/nope"):
            with self.assertRaises(FileNotFoundError):
                TemplatePath.find()
        with mock.patch.dict(os.environ, WORKSPACE_PATH=root):
            os.environ.pop("TASKER_TEMPLATE_PATH", None)
            self.assertEqual(str(TemplatePath.find()), tasks)
        self.assertEqual([str(p) for p in TemplatePath.files(tasks)], [one, two])
        self.assertEqual([str(p) for p in TemplatePath.files(one)], [one])


class Logging(unittest.TestCase):
    def test_lines(self):
        with self.assertLogs("taskerd.app", level="INFO") as caught:
            taskerd.log_info("hello", {"n": 1})
            taskerd.log_error("bad", taskerd.LogContext(step_uuid=uuid.UUID(int=1), operation="x"))
            taskerd.log_debug("unseen")
        self.assertEqual([r.getMessage() for r in caught.records][0], "hello n=1")
        self.assertEqual(caught.records[1].fields, {"step_uuid": str(uuid.UUID(int=1)), "operation": "x"})
        self.assertEqual(len(caught.records), 2)
        self.assertEqual(caught.records[0].funcName, "test_lines")


if __name__ == "__main__":
    unittest.main()
