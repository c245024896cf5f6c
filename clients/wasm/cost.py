"""What a module costs: python clients/wasm/cost.py FILE.wasm [INPUT]. Needs wasmtime, and clients/python/src on PYTHONPATH."""
import json
import sys
import time

from taskerd.wasm.sandbox import Limits, Sandbox, WasmModule


def timed(function):
    began = time.perf_counter()
    value = function()
    return value, (time.perf_counter() - began) * 1e3


def main():
    with open(sys.argv[1], "rb") as f:
        code = f.read()
    data = (sys.argv[2] if len(sys.argv) > 2 else '{"context":{"name":"World","numbers":[1,2,3]}}').encode()
    module, compiling = timed(lambda: WasmModule(code, Limits()))
    sandbox, making = timed(lambda: Sandbox(Limits()))
    outcome, first = timed(lambda: sandbox.call(module, data))
    calls = sorted(timed(lambda: sandbox.call(module, data))[1] for _ in range(2000))
    print(json.dumps({
        "outcome": outcome.kind, "output": outcome.output.decode("utf-8", "replace")[:200], "compile_ms": round(compiling, 3), "sandbox_ms": round(making, 3),
        "first_call_ms": round(first, 3), "call_ms_p50": round(calls[1000], 3), "call_ms_p99": round(calls[1980], 3), "call_ms_min": round(calls[0], 3)}, indent=1))


if __name__ == "__main__":
    main()
