"""The adapter of the Python client for protocol/conformance."""

import argparse
import json
import logging
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from taskerd import BaseSubscriber, TaskerClient, Worker  # noqa: E402
from taskerd.__main__ import main as command_line  # noqa: E402
from taskerd.domain_events import InProcessDomainEventPoller, SubscriberRegistry  # noqa: E402
from taskerd.exceptions import TaskerdError, TaskerError  # noqa: E402
from taskerd.handler import HandlerRegistry  # noqa: E402


def subscribe(pattern, socket):
    """Note every event of a pattern."""
    from handlers import note

    class Noted(BaseSubscriber):
        @classmethod
        def subscribes_to(cls):
            return [pattern]

        def handle(self, event):
            note("event", name=event["event_name"], payload=event["business_payload"])

    SubscriberRegistry.instance().register(Noted)
    SubscriberRegistry.instance().start_all(InProcessDomainEventPoller.instance(socket))


def worker(args):
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    registry = HandlerRegistry.instance()
    for module in ["handlers", "broken"] if args.broken else ["handlers"]:
        registry.discover_handlers(module)
    if args.events:
        subscribe(args.events, args.socket)
    made = Worker(
        registry, socket=args.socket, name=args.name, threads=args.concurrency, prefetch=0, namespaces=args.namespace
    )
    try:
        return made.run()
    except TaskerError as exc:
        print(f"cannot serve: {exc}", file=sys.stderr)
        return 1


def create_task(client, name, **more):
    return {"task_uuid": client.create_task(name, **more).task_uuid}


def shown(task):
    return {k: getattr(task, k) for k in ("task_uuid", "name", "namespace", "status", "context")}


CALLS = {
    "create_task": create_task,
    "get_task": lambda client, task_uuid: shown(client.get_task(task_uuid)),
    "list_tasks": lambda client, **args: {"tasks": [shown(t) for t in client.list_tasks(**args).tasks]},
    "list_task_steps": lambda client, task_uuid: [
        {"name": s.name, "current_state": s.current_state} for s in client.list_task_steps(task_uuid)
    ],
    "wait_for_task": lambda client, task_uuid, timeout: shown(client.wait_for_task(task_uuid, timeout)),
    "cancel_task": lambda client, task_uuid: client.cancel_task(task_uuid),
    "health_check": lambda client: {"healthy": client.health_check().healthy},
    "request": lambda client, method, params: client.request(method, params),
}


def answer(call, socket):
    """One call of the client."""
    try:
        with TaskerClient(socket=call.get("socket", socket), connect_timeout=0) as client:
            return {"ok": CALLS[call["call"]](client, **call.get("args", {}))}
    except TaskerdError as exc:
        return {"error": {"code": exc.code, "message": str(exc), "retryable": exc.retryable}}


def client(args):
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), args.socket)), flush=True)
    return 0


def replay(args):
    return command_line(["replay", args.step, "handlers", "--socket", args.socket])


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    for function in (worker, client, replay):
        command = commands.add_parser(function.__name__)
        command.add_argument("--socket", required=True)
        command.set_defaults(function=function)
        if function is worker:
            command.add_argument("--name", required=True)
            command.add_argument("--concurrency", type=int, required=True)
            command.add_argument("--namespace", action="append")
            command.add_argument("--events")
            command.add_argument("--broken", action="store_true")
        elif function is replay:
            command.add_argument("step")
    args = parser.parse_args()
    return args.function(args)


if __name__ == "__main__":
    sys.exit(main())
