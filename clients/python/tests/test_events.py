"""Domain events: publishers' hooks in the worker, subscribers, the client's calls."""

import asyncio
import logging
import threading
import unittest
import uuid

import support
import workers
from support import PATIENCE, wait_until

from taskerd import (
    AsyncTaskerClient,
    BasePublisher,
    BaseSubscriber,
    InProcessDomainEvent,
    InProcessDomainEventPoller,
    StepEventContext,
    TaskerClient,
)
from taskerd.domain_events import (
    DefaultPublisher,
    EventDeclaration,
    PublisherNotFoundError,
    PublisherRegistry,
    RegistryFrozenError,
    SubscriberRegistry,
)
from taskerd.domain_events.models import matches_pattern
from taskerd.errors import PermanentError
from taskerd.step_handler.functional import inputs, step_handler

TASK, STEP = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def wire_event(name="payment.charged", **payload):
    return {
        "event_id": str(uuid.UUID(int=3)),
        "event_name": name,
        "event_version": "1.0",
        "payload": {
            "payload": payload or {"amount": 5},
            "task_sequence_step": {"task": {"task_uuid": TASK}},
            "execution_result": {"success": True, "status": "success", "step_uuid": STEP, "attempt": 1},
        },
        "metadata": {
            "task_uuid": TASK, "step_uuid": STEP, "step_name": "charge", "namespace": "shop", "correlation_id": "c-1",
            "fired_at": "2026-01-02T03:04:05Z", "fired_by": "default", "shelf": 7,
        },
    }  # fmt: skip


def declared(name, condition="success", publisher="p", **more):
    return {"name": name, "condition": condition, "delivery_mode": "durable", "publisher": publisher, **more}


class Recorder(BasePublisher):
    """Does what the test says."""

    publisher_name = "p"

    def __init__(self, **does):
        self.does, self.seen = does, []

    def should_publish(self, ctx):
        return self.does.get("should", True)

    def transform_payload(self, ctx):
        if "fail" in self.does:
            raise ValueError(self.does["fail"])
        return {"n": ctx.result.get("n"), "step": ctx.step_name, "ns": ctx.namespace}

    def additional_metadata(self, ctx):
        return {"kind": "test"}

    def before_publish(self, event_name, payload, metadata):
        self.seen.append(("before", event_name, metadata["kind"]))
        return self.does.get("before", True)

    def after_publish(self, event_name, payload, metadata):
        self.seen.append(("after", event_name))

    def on_publish_error(self, event_name, error, payload):
        self.seen.append(("error", event_name, str(error)))


@step_handler("fire")
@inputs("n", "fails")
def fire(n, fails):
    if fails:
        raise PermanentError("no") if fails == "permanent" else ValueError("later")
    return {"n": n}


class Publishing(workers.WorkerCase):
    def setUp(self):
        super().setUp()
        logging.getLogger("taskerd").setLevel(logging.CRITICAL)
        self.addCleanup(logging.getLogger("taskerd").setLevel, logging.NOTSET)
        self.addCleanup(PublisherRegistry.reset_instance)

    def events(self, publisher, declarations, **changes):
        if publisher is not None:
            PublisherRegistry.instance().register(publisher)
        return self.run_one(fire, publishes_events=declarations, **changes).get("events")

    def test_hooks_make_the_payload(self):
        p = Recorder()
        (event,) = self.events(p, [declared("a.b")], context={"n": 4}, namespace="shop", step="charge")
        self.assertEqual((event["name"], event["payload"]), ("a.b", {"n": 4, "step": "charge", "ns": "shop"}))
        self.assertEqual((event["metadata"]["publisher"], event["metadata"]["kind"]), ("p", "test"))
        self.assertEqual(p.seen, [("before", "a.b", "test"), ("after", "a.b")])

    def test_what_nobody_here_publishes_is_left_to_the_daemon(self):
        self.assertIsNone(self.events(None, [declared("a")]))
        self.assertIsNone(self.events(Recorder(), [declared("a", publisher=None), declared("b", publisher="other")]))

    def test_suppression(self):
        self.assertEqual(self.events(Recorder(should=False), [declared("a")]), [{"name": "a", "skip": True}])
        self.assertEqual(self.events(Recorder(before=None), [declared("a")]), [{"name": "a", "skip": True}])

    def test_a_hook_that_fails_leaves_the_event_out_and_the_step_alone(self):
        p = Recorder(fail="broken")
        PublisherRegistry.instance().register(p)
        result = self.run_one(fire, publishes_events=[declared("a")], context={"n": 1})
        self.assertTrue(result["success"])
        self.assertEqual(result["events"], [{"name": "a", "failed": "broken"}])
        self.assertEqual(p.seen, [("error", "a", "broken")])

    def test_conditions(self):
        every = [declared(c, c) for c in ("success", "failure", "retryable_failure", "permanent_failure", "always")]

        class Errors(Recorder):
            def transform_payload(self, ctx):
                return {"error": ctx.result["error_type"]} if not ctx.success else {}

        def fired(**changes):
            found = self.events(Errors(), every, **changes)
            return [e["name"] for e in found]

        self.assertEqual(fired(context={"n": 1}), ["success", "always"])
        self.assertEqual(fired(context={"fails": "permanent"}), ["failure", "permanent_failure", "always"])
        self.assertEqual(fired(context={"fails": "x"}), ["failure", "retryable_failure", "always"])
        self.assertEqual(fired(context={"fails": "x"}, attempt=3), ["failure", "permanent_failure", "always"])

    def test_an_event_that_is_too_large_costs_only_itself(self):
        class Huge(Recorder):
            def transform_payload(self, ctx):
                return {"text": "x" * 5_000_000}

        PublisherRegistry.instance().register(Huge())
        result = self.run_one(fire, publishes_events=[declared("a")], context={"n": 1})
        self.assertEqual((result["success"], result["result"]), (True, {"n": 1}))
        self.assertEqual(result["events"], [{"name": "a", "failed": "too large to be sent with the result"}])


class Publisher(unittest.TestCase):
    def test_publish_by_hand(self):
        ctx = StepEventContext(task_uuid=TASK, step_uuid=STEP, step_name="s", namespace="n", result={"n": 1})
        p = Recorder()
        self.assertTrue(p.publish(ctx, "x"))
        self.assertFalse(Recorder(should=False).publish(ctx))
        self.assertFalse(Recorder(fail="f").publish(ctx, "x"))
        self.assertEqual(ctx.step_result.result, {"n": 1})

    def test_registry(self):
        registry = PublisherRegistry()
        p = Recorder()
        registry.register(p)
        self.assertIs(registry.get("p"), p)
        self.assertIsNone(registry.get("q"))
        self.assertIsInstance(registry.get_or_default("q"), DefaultPublisher)
        with self.assertRaises(PublisherNotFoundError):
            registry.get_strict("q")
        self.assertEqual(registry.validate_required(["p", "q", "default"]), ["q"])
        registry.freeze()
        with self.assertRaises(RegistryFrozenError):
            registry.register(p)
        registry.reset()
        self.assertEqual(registry.list_publishers(), [])
        self.assertIs(PublisherRegistry.instance(), PublisherRegistry.instance())
        self.addCleanup(PublisherRegistry.reset_instance)

    def test_declarations(self):
        self.assertEqual(EventDeclaration.from_dict({"name": "a", "more": 1}).delivery_mode, "durable")


class Mail(BaseSubscriber):
    def __init__(self):
        super().__init__()
        self.seen, self.errors, self.got = [], [], threading.Event()

    @classmethod
    def subscribes_to(cls):
        return ["payment.*", "stock.low"]

    def before_handle(self, event):
        return event["event_name"] != "payment.ignored"

    def handle(self, event):
        self.seen.append(event)
        self.got.set()
        if event["event_name"] == "payment.bad":
            raise ValueError("bad")

    def on_handle_error(self, event, error):
        self.errors.append(str(error))


class Subscribing(support.TestCase):
    def test_patterns(self):
        for pattern, name, fits in [("*", "a", True), ("payment.*", "payment.card.declined", True), ("payment.*", "payment", False),
                                    ("a.b", "a.b", True), ("a.b", "a.bc", False), ("*.low", "stock.low", True), ("a+", "aa", False)]:  # fmt: skip
            self.assertEqual(matches_pattern(pattern, name), fits, (pattern, name))
        self.assertTrue(Mail().matches("stock.low"))

    def test_events_reach_subscribers(self):
        def script(daemon):
            conn = daemon.accept()
            conn.hello()
            ident, params = conn.expect("event.subscribe")
            self.assertEqual(params, {"patterns": ["payment.*", "stock.low"], "namespaces": ["*"]})
            conn.answer(ident, {"patterns": params["patterns"]})
            names = ("payment.ignored", "payment.bad", "order.new", "payment.charged")
            conn.send([2, "event.message", {"events": [wire_event(n) for n in names], "lost": 2}])
            ident, params = conn.expect("event.subscribe")
            self.assertEqual(params["patterns"], ["late"])
            conn.answer(ident, {"patterns": []})
            conn.expect("goodbye")

        self.daemon.play(script)
        poller = InProcessDomainEventPoller(socket=self.daemon.path)
        mail, late = Mail(), []
        mail.start(poller)
        self.assertTrue(mail.active)
        poller.start(PATIENCE)
        wait_until(lambda: len(mail.seen) == 2)
        self.assertEqual([e["event_name"] for e in mail.seen], ["payment.bad", "payment.charged"])
        self.assertEqual(mail.errors, ["bad"])
        event = mail.seen[1]
        self.assertEqual(event["metadata"]["task_uuid"], uuid.UUID(TASK))
        self.assertEqual((event["metadata"]["shelf"], event["event_id"]), (7, uuid.UUID(int=3)))
        self.assertEqual(event["payload"]["payload"], {"amount": 5})
        self.assertEqual((event["payload"]["amount"], event["business_payload"]["amount"]), (5, 5))
        self.assertEqual(event["payload"].get("nothing", 1), 1)
        self.assertTrue(event["execution_result"]["success"])
        self.assertEqual(poller.lost, 2)
        poller.on_event(late.append, ["late"])
        mail.stop()
        poller.stop()
        self.assertFalse(mail.active or poller.is_running)
        self.daemon.finish()

    def test_a_lost_connection_is_made_again(self):
        stop = threading.Event()

        def script(daemon):
            for number in (1, 2):
                conn = daemon.accept()
                conn.hello()
                ident, _ = conn.expect("event.subscribe")
                conn.answer(ident, {"patterns": ["*"]})
                conn.send([2, "event.message", {"events": [wire_event("n%d" % number)], "lost": 0}])
                if number == 1:
                    conn.close()
            stop.wait(PATIENCE)

        self.daemon.play(script)
        with TaskerClient(socket=self.daemon.path) as client, client.subscribe_events("*") as stream:
            self.assertEqual([stream.next(PATIENCE).event_name, stream.next(PATIENCE).event_name], ["n1", "n2"])
            self.assertIsNone(stream.next(0))
            stop.set()
        self.daemon.finish()

    def test_registry_and_a_poller_of_another_kind(self):
        class Bare:
            def on_event(self, listener):
                self.listener = listener

        poller = Bare()
        registry = SubscriberRegistry()
        registry.register(Mail)
        registry.register(Mail)
        self.assertEqual(registry.count(), 1)
        (mail,) = registry.start_all(poller)
        poller.listener(InProcessDomainEvent.from_wire(wire_event()))
        poller.listener(wire_event("order.new"))
        self.assertEqual(len(mail.seen), 1)
        self.assertEqual(registry.stats()["active_subscribers"], 1)
        registry.stop_all()
        poller.listener(wire_event())
        self.assertEqual(len(mail.seen), 1)
        registry.reset()
        self.assertEqual(registry.count(), 0)

    def test_subscribers_without_super_init(self):
        class Own(Mail):
            def __init__(self):
                self.seen, self.errors, self.got = [], [], threading.Event()

        poller = InProcessDomainEventPoller(socket="/nowhere")
        own = Own()
        own.start(poller)
        poller.dispatch(InProcessDomainEvent.from_wire(wire_event()))
        self.assertEqual(len(own.seen), 1)


class Calls(support.TestCase):
    ANSWERS = {
        "event.publish": lambda p: {"event_id": "e", "msg_id": 1, "seen": p},
        "event.consume": lambda p: {"messages": [{"msg_id": 4, "read_count": 2, "event": wire_event()}], "seen": p},
        "event.ack": lambda p: {"done": 1, "missing": [], "seen": p},
        "event.extend": lambda p: {"done": 1, "missing": [], "seen": p},
        "event.list": lambda p: {"queues": [{"namespace": "shop"}]},
    }

    def serve(self, daemon):
        conn = daemon.accept()
        conn.hello()
        conn.serve_requests(self.ANSWERS)

    def test_blocking(self):
        self.daemon.play(self.serve)
        with TaskerClient(socket=self.daemon.path) as client:
            self.assertEqual(client.publish_event("a", {"n": 1}, namespace="shop", delivery_mode="fast")["seen"],
                             {"name": "a", "payload": {"n": 1}, "namespace": "shop", "delivery_mode": "fast"})  # fmt: skip
            messages = client.consume_events("shop", limit=5, wait=1.5, patterns=["a*"])
            self.assertEqual(messages[0]["msg_id"], 4)
            self.assertEqual(client.ack_events(messages, "shop")["seen"], {"namespace": "shop", "ids": [4], "read_counts": [2]})
            self.assertEqual(client.extend_events([4], 2)["seen"], {"ids": [4], "visibility_ms": 2000})
            self.assertEqual(client.list_event_queues(), [{"namespace": "shop"}])
        self.daemon.finish()

    def test_asyncio(self):
        self.daemon.play(self.serve)

        async def main():
            async with AsyncTaskerClient(socket=self.daemon.path) as client:
                await client.publish_event("a")
                messages = await client.consume_events("shop")
                self.assertEqual((await client.ack_events(messages))["done"], 1)
                self.assertEqual((await client.extend_events(messages, 0))["done"], 1)
                self.assertEqual(await client.list_event_queues(), [{"namespace": "shop"}])

        asyncio.run(main())
        self.daemon.finish()


if __name__ == "__main__":
    unittest.main()
