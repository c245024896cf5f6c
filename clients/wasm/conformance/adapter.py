"""The adapter of WASM handlers for protocol/conformance: one module under the names of all handlers, and the worker that runs it."""

import os
import shutil
import sys
import tempfile

from taskerd.__main__ import main as command_line

NAMES = (
    "echo value nothing fail error_retryable error_permanent retry_after flaky decision analyze batch aggregate event log sizes uuids nan infinite nul broken_text wide deep huge hang crash"
).split()


def modules(module, broken):
    """A directory with the module as every handler. It goes with the process."""
    where = tempfile.mkdtemp(prefix="conformance-wasm-")
    os.mkdir(os.path.join(where, "conf"))
    for name in NAMES:
        os.symlink(module, os.path.join(where, "conf", name + ".wasm"))
    if broken:
        with open(os.path.join(where, "broken.wasm"), "wb") as f:
            f.write(b"\0asm nonsense")
    return where


def main():
    module, command, *rest = sys.argv[1:]
    broken = "--broken" in rest
    where = modules(os.path.abspath(module), broken)
    try:
        options = ["wasm", "--dir", where, "--reload", "0"]
        if command == "replay":
            socket, step = rest[1], rest[2]
            return command_line([*options, "--socket", socket, "--replay", step])
        rest = [a for a in rest if a != "--broken"]
        at = rest.index("--concurrency")
        concurrency = rest[at + 1]
        del rest[at : at + 2]
        return command_line([*options, "--threads", concurrency, "--prefetch", "0", *rest])
    finally:
        shutil.rmtree(where, True)


if __name__ == "__main__":
    sys.exit(main())
