"""What a module can do and cannot: the sandbox of taskerd.wasm, without a daemon."""
import os
import shutil
import subprocess
import tempfile
import threading
import unittest

import wasmtime

from taskerd.wasm import modules, wasi
from taskerd.wasm.sandbox import Limits, Sandbox, WasmError, WasmModule

EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples")
LIMITS = Limits(memory=4 << 20, seconds=60.0, output=100_000)
WASI = "wasi_snapshot_preview1"


def command(body, imports="", memory=1, data=""):
    """A WASI command of these instructions, with the functions it needs."""
    return wasmtime.wat2wasm(
        f'(module (import "{WASI}" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))'
        f'(import "{WASI}" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))'
        f'(import "{WASI}" "proc_exit" (func $exit (param i32))) {imports}'
        f'(memory (export "memory") {memory}) {data} (func (export "_start") {body}))'
    )


def writes(text, fd=1):
    """Instructions and data that write a text."""
    data = '(data (i32.const 64) "%s") (data (i32.const 0) "\\40\\00\\00\\00\\%02x\\%02x\\00\\00")' % (
        "".join("\\%02x" % b for b in text.encode()), len(text.encode()) & 255, len(text.encode()) >> 8)
    return f"(drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 32)))", data


def function(handle, extra=""):
    return wasmtime.wat2wasm(
        f'(module (memory (export "memory") 1) {extra} (func (export "tasker_alloc") (param i32) (result i32) (i32.const 1024))'
        f'(func (export "tasker_handle") (param i32 i32) (result i64) {handle}))'
    )


class Calls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sandbox = Sandbox(LIMITS)

    def call(self, code, data=b"{}", seconds=None, watch=None):
        return self.sandbox.call(WasmModule(code, LIMITS), data, seconds, watch)

    def result(self, code, **more):
        module = WasmModule(code, LIMITS)
        return modules.result_of(self.sandbox.call(module, b"{}", **more), is_command=module.is_command)

    def failed(self, code, kind, retryable, **more):
        result = self.result(code, **more)
        self.assertEqual((result.is_success, result.error_type, result.retryable), (False, kind, retryable), result)
        return result.error_message

    def tearDown(self):
        """Whatever happened, the next call in this sandbox is served."""
        body, data = writes('{"ok":true}')
        self.assertEqual(self.call(command(body, data=data)).output, b'{"ok":true}')


class Commands(Calls):
    def test_output(self):
        body, data = writes('{"n":7}')
        self.assertEqual(self.result(command(body, data=data)).result, {"n": 7})
        self.assertEqual(self.result(command("")).result, {}, "nothing written is {}")
        body, data = writes("[1]")
        self.assertEqual(self.result(command(body, data=data)).result, {"result": [1]})

    def test_input_is_read(self):
        """Reads its input to where it writes from."""
        data = '(data (i32.const 0) "\\40\\00\\00\\00\\00\\01\\00\\00")'
        body = ("(drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32))) (i32.store (i32.const 4) (i32.load (i32.const 32)))"
                "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))")
        self.assertEqual(self.call(command(body, data=data), b'{"a":1}').output, b'{"a":1}')

    def test_checkpoint_yield(self):
        body, data = writes('{"type":"checkpoint_yield","cursor":4,"items_processed":4}')
        result = self.result(command(body, data=data))
        self.assertEqual((result.result["cursor"], result.metadata["checkpoint_yield"]), (4, True))

    def test_a_checkpoint_yield_of_no_number(self):
        body, data = writes('{"type":"checkpoint_yield","cursor":7,"items_processed":"x"}')
        self.assertIn("items_processed", self.failed(command(body, data=data), "invalid_output", False))

    def test_exits(self):
        self.assertTrue(self.result(command("(call $exit (i32.const 0))")).is_success)
        self.assertIn("status 1", self.failed(command("(call $exit (i32.const 1))"), "handler_error", True))
        self.failed(command("(call $exit (i32.const 2))"), "handler_error", False)
        body, data = writes("first\nout of cheese\n", fd=2)
        self.assertEqual(self.failed(command(body + "(call $exit (i32.const 77))", data=data), "handler_error", True), "out of cheese")

    def test_an_exit_with_the_fields_of_an_error(self):
        body, data = writes('{"message":"no","error_type":"Shop","error_code":"E1","retryable":false,"retry_after":7}')
        result = self.result(command(body + "(call $exit (i32.const 1))", data=data))
        self.assertEqual((result.error_message, result.error_type, result.error_code, result.retryable), ("no", "Shop", "E1", False))

    def test_garbage(self):
        for text in ("no json", '{"a":', '{"a":1} x', "NaN", '{"x":Infinity}'):
            body, data = writes(text)
            self.failed(command(body, data=data), "invalid_output", False)

    def test_traps(self):
        self.assertIn("unreachable", self.failed(command("unreachable"), "wasm_trap", True))
        self.failed(command("(drop (i32.load (i32.const 0x7fffffff)))"), "wasm_trap", True)
        self.failed(command("(call $f)", imports="", data="(func $f (call $f))"), "wasm_trap", True)
        self.failed(command("(drop (i32.div_s (i32.const 1) (i32.const 0)))"), "wasm_trap", True)

    def test_a_loop_ends_in_time(self):
        self.failed(command("(loop $l (br $l))"), "timeout", True, seconds=0.05)

    def test_interrupted_from_another_thread(self):
        outcome = self.call(command("(loop $l (br $l))"), watch=lambda sandbox: threading.Thread(target=sandbox.interrupt, args=("cancelled",)).start())
        self.assertEqual(outcome.kind, "cancelled")

    def test_an_interruption_that_comes_too_late_hits_nobody(self):
        self.sandbox.interrupt("cancelled")
        self.assertTrue(self.result(command("")).is_success)

    def test_memory_has_a_limit(self):
        """Growing is refused, and the module sees that."""
        grow = "(if (i32.ne (memory.grow (i32.const 1000)) (i32.const -1)) (then (call $exit (i32.const 0))) (else unreachable))"
        self.failed(command(grow), "wasm_trap", True)
        self.failed(command("", memory=1000), "wasm_limit", False)

    def test_output_has_a_limit(self):
        body, data = writes("x" * 1000)
        self.failed(command(f"(loop $l {body} (br $l))", data=data), "timeout", True, seconds=0.2)
        module = command(f"(loop $l (br_if $l (i32.eqz (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))))) unreachable", data=data)
        self.failed(module, "result_too_large", False)
        self.failed(command(f"{body * 101} (i32.store8 (i32.const 4) (i32.const 1)) {body}", data=data), "result_too_large", False)

    def test_bad_addresses(self):
        self.failed(command("(drop (call $fd_write (i32.const 1) (i32.const 0x7ffffff0) (i32.const 1) (i32.const 32)))"), "wasm_trap", True)
        self.failed(command("(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 32)))"), "wasm_trap", True)


class NothingElse(Calls):
    """No files, no environment, no clock, no randomness, nothing that is left from the call before."""

    def answers(self, name, params, args, results="(result i32)"):
        """The number a WASI function gives, as the exit status."""
        imports = f'(import "{WASI}" "{name}" (func $f (param {params}) {results}))'
        return self.call(command(f"(call $exit (call $f {args}))", imports=imports)).status

    def test_no_files(self):
        zero, wide = "(i32.const 0)", "(i64.const 0)"
        self.assertEqual(self.answers("fd_prestat_get", "i32 i32", "(i32.const 3) (i32.const 0)"), 8)
        self.assertEqual(self.answers("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32", f"(i32.const 3) {zero * 4} {wide * 2} {zero * 2}"), 8)
        self.assertEqual(self.answers("fd_read", "i32 i32 i32 i32", "(i32.const 5) (i32.const 0) (i32.const 1) (i32.const 32)"), 8)
        self.assertEqual(self.answers("sock_send", "i32 i32 i32 i32 i32", f"(i32.const 3) {zero * 4}"), 8)

    def test_no_environment(self):
        imports = f'(import "{WASI}" "environ_sizes_get" (func $f (param i32 i32) (result i32)))'
        body = "(drop (call $f (i32.const 32) (i32.const 36))) (call $exit (i32.add (i32.load (i32.const 32)) (i32.load (i32.const 36))))"
        self.assertEqual(self.call(command(body, imports=imports)).status, 0)

    def test_no_clock(self):
        imports = f'(import "{WASI}" "clock_time_get" (func $f (param i32 i64 i32) (result i32)))'
        body = "(drop (call $f (i32.const 0) (i64.const 0) (i32.const 32))) (call $exit (i32.wrap_i64 (i64.load (i32.const 32))))"
        self.assertEqual(self.call(command(body, imports=imports)).status, 0)

    def test_random_numbers_are_the_same_again(self):
        imports = f'(import "{WASI}" "random_get" (func $f (param i32 i32) (result i32)))'
        code = command("(drop (call $f (i32.const 32) (i32.const 4))) (call $exit (i32.load (i32.const 32)))", imports=imports)
        self.assertEqual(self.call(code).status, self.call(code).status)

    def test_a_fresh_instance_each_time(self):
        """It would exit with how often it was called."""
        code = command("(global.set $n (i32.add (global.get $n) (i32.const 1))) (i32.store (i32.const 8) (global.get $n)) (call $exit (global.get $n))",
                       data="(global $n (mut i32) (i32.const 0))")
        module = WasmModule(code, LIMITS)
        self.assertEqual([self.sandbox.call(module, b"").status for _ in range(3)], [1, 1, 1])

    def test_modules_that_ask_for_more_are_refused(self):
        for text in ('(module (import "env" "system" (func)) (func (export "_start")))', '(module (import "wasi_snapshot_preview1" "fd_evil" (func)) (func (export "_start")))'):
            with self.assertRaisesRegex(WasmError, "env.system|fd_evil"):
                WasmModule(bytes(wasmtime.wat2wasm(text)), LIMITS)
        for code in (b"", b"\0asm", b"\0asm\1\0\0\0garbage", bytes(wasmtime.wat2wasm("(module)"))):
            with self.assertRaises(WasmError):
                WasmModule(code, LIMITS)


    def test_exports_and_imports_of_other_types(self):
        """They are refused when the module is loaded, not in every step."""
        there = '(memory (export "memory") 1) (func (export "tasker_handle") (param i32 i32) (result i64) (i64.const 0))'
        for text, said in (
            (f'{there} (func (export "tasker_alloc") (param i32 i32) (result i32) (i32.const 0))', r"exports tasker_alloc as function\(i32, i32\) -> i32: it must be function\(i32\) -> i32"),
            ('(memory 1) (export "_start" (memory 0))', r"exports _start as memory: it must be function\(\)"),
            (f'(import "{WASI}" "fd_write" (func (param i32) (result i32))) (func (export "_start"))', r"imports .*fd_write as function\(i32\) -> i32: it is function\(i32, i32, i32, i32\) -> i32"),
            ('(import "taskerd" "checkpoint" (memory 1)) (func (export "_start"))', r"imports taskerd.checkpoint as memory"),
        ):
            with self.subTest(text), self.assertRaisesRegex(WasmError, said):
                WasmModule(bytes(wasmtime.wat2wasm(f"(module {text})")), LIMITS)

    def test_what_is_not_kept_is_not_copied(self):
        """Buffers of one call may all be the same memory: what is read of them is bounded, the bytes that count as written are not."""
        read = []

        class Memory:
            def data_len(self, caller):
                return 1 << 32

            def read(self, caller, start, end):
                read.append(end - start)
                return bytes(end - start)

            def write(self, caller, data, at):
                pass

        for fd, most in ((1, 100), (2, 50)):
            read.clear()
            io, guest = wasi.IO(b"", 100, 50), wasi.Guest({"memory": Memory()})
            guest.vectors = lambda at, n: [(0, 1 << 31)] * n
            wasi._fd_write(io, guest, fd, 0, 1000, 0)
            self.assertLessEqual(sum(read), most + 1)
            self.assertEqual(io.overflow, fd == 1)


class Directory(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.modules = modules.Modules(self.place.name, LIMITS)

    def path(self, name):
        return os.path.join(self.place.name, name)

    def put(self, name):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as f:
            f.write(command(""))

    def test_what_is_no_file(self):
        os.mkdir(self.path("dir.wasm"))
        os.mkfifo(self.path("pipe.wasm"))
        os.symlink("nowhere", self.path("link.wasm"))
        self.modules.scan()
        self.assertEqual(self.modules.broken, {self.path("dir.wasm"): "no file", self.path("pipe.wasm"): "no file"})

    def test_two_files_of_one_name(self):
        self.put("a.b.wasm")
        self.put("a/b.wasm")
        self.modules.scan()
        (left_out,) = self.modules.broken
        self.assertIn("is the handler a.b already", self.modules.broken[left_out])
        for _ in range(2):
            os.unlink((set(map(str, self.modules._stamps))).pop())
            self.modules.scan()
            self.assertEqual((self.modules.names(), self.modules.broken), (["a.b"] if os.path.exists(left_out) else [], {}))

    def test_what_was_broken_and_is_gone(self):
        with open(self.path("x.wasm"), "wb") as f:
            f.write(b"no module")
        self.modules.scan()
        self.assertEqual(self.modules.broken, {self.path("x.wasm"): "no WebAssembly module"})
        os.unlink(self.path("x.wasm"))
        self.modules.scan()
        self.assertEqual(self.modules.broken, {})


class Functions(Calls):
    def answer(self, text):
        data = "".join("\\%02x" % b for b in text.encode())
        return function(f"(i64.or (i64.shl (i64.const 64) (i64.const 32)) (i64.const {len(text.encode())}))", f'(data (i32.const 64) "{data}")')

    def test_answers(self):
        self.assertEqual(self.result(self.answer('{"result":{"n":1}}')).result, {"n": 1})
        self.assertEqual(self.failed(self.answer('{"error":{"message":"no","retryable":false}}'), "handler_error", False), "no")
        self.failed(self.answer('{"n":1}'), "invalid_output", False)
        self.failed(self.answer("x"), "invalid_output", False)

    def test_bad_places(self):
        self.failed(function("(i64.const 0x7fffffff00000010)"), "wasm_trap", True)
        self.failed(function("(i64.const 0x00000000ffffffff)"), "result_too_large", False)
        self.failed(function("unreachable"), "wasm_trap", True)
        self.failed(function("(loop $l (br $l)) (i64.const 0)"), "timeout", True, seconds=0.05)


class Examples(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.mkdtemp(prefix="wasm-")
        self.addCleanup(shutil.rmtree, self.place, True)
        self.out = os.path.join(self.place, "out.wasm")

    def run_example(self, data):
        with open(self.out, "rb") as f:
            module = WasmModule(f.read(), Limits())
        return modules.result_of(Sandbox(Limits()).call(module, data), is_command=module.is_command)

    def test_c(self):
        if not shutil.which("clang-14") or not os.path.exists("/usr/lib/wasm32-wasi/libc.a"):
            self.skipTest("clang-14, lld-14, wasi-libc and libclang-rt-14-dev-wasm32 make it")
        subprocess.run(["clang-14", "--target=wasm32-wasi", "-O2", "-Wall", "-Werror", "-o", self.out, os.path.join(EXAMPLES, "greet.c")], check=True)
        self.assertEqual(self.run_example(b'{"context":{"name":"Ann"}}').result, {"greeting": "Hello, Ann"})
        bad = self.run_example(b'{"context":{}}')
        self.assertEqual((bad.error_code, bad.retryable), ("NO_NAME", False))

    def test_rust(self):
        rustc = "/usr/bin/rustc"
        if not os.path.exists(rustc) or subprocess.run([rustc, "--print", "target-libdir", "--target", "wasm32-unknown-unknown"], stdout=subprocess.PIPE, text=True,
                                                       check=False).stdout.strip() in ("", None):
            self.skipTest("rustc and libstd-rust-dev-wasm32 make it")
        subprocess.run([rustc, "--target", "wasm32-unknown-unknown", "-O", "--crate-type", "cdylib", "-o", self.out, os.path.join(EXAMPLES, "sum.rs")], check=True)
        self.assertEqual(self.run_example(b'{"context":{"numbers":[1,2,39]}}').result, {"sum": 42})
        self.assertFalse(self.run_example(b"{}").retryable)


if __name__ == "__main__":
    unittest.main()
