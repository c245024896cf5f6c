#!/usr/bin/python3
"""Build and run the test suites; tests/run is the way in.

A suite is a list of commands. Each leaves its output in build-test/logs and counts passed and failed tests; a command that
cannot be counted (a build that breaks, a crash, a timeout) is one failed test. Nothing is retried.
"""

import collections
import contextvars
import glob
import json
import os
import platform
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import leftovers

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build-test"
LOGS = OUT / "logs"
PYTHON = "/usr/bin/python3"
LIMIT = 2400  # seconds for one command that hangs; nothing fails because a machine is busy
WASMTIME = "wasmtime==50.0.1"
SCHEMATHESIS = "schemathesis==4.32.5"

LINKER = next(({"CC_LD": name} for name in ("lld-14", "lld") if shutil.which("ld." + name)), {})  # as clang knows it; gcc takes no linker with a version in its name
BUILDS = {  # name: (environment, options of meson setup)
    "gcc": ({"CC": "gcc"}, ["-Ddebug=false", "--prefix=/usr"]),  # as it is packed
    # By the other compiler, whose warnings are errors as well. Making it takes longer than running it: so without optimisation, with the lines of reports alone, and linked by what links
    # fastest: each of a hundred programs has a sanitizer's runtime in it.
    "asan": ({"CC": "clang-14" if shutil.which("clang-14") else "clang", **LINKER}, ["-Db_sanitize=address,undefined", "-Db_lundef=false", "-Doptimization=0", "-Dc_args=-g1"]),
    "tsan": ({"CC": "gcc"}, ["-Db_sanitize=thread", "-Db_lundef=false", "-Doptimization=0", "-Dc_args=-g1"]),
}
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=0:exitcode=66:second_deadlock_stack=1",
}
# What under a sanitizer runs each kind of request, row and frame once; tests/run asan-all runs the others too, which takes a quarter of an hour.
TSAN_TESTS = [f"test_{name}.py" for name in ("traces", "operators", "http", "http_auth", "handoff", "events", "drain", "watch", "retention", "dlq", "resume", "restart", "nodes")]  # of tsan-all
ASAN_TESTS = [f"test_{name}.py" for name in ("smoke", "cancel", "create", "dynamic", "events", "history", "http", "limits", "resume", "template", "watch", "workflow")]


class Tally:
    """What has passed and failed so far."""

    def __init__(self):
        self.passed, self.failed, self.skipped, self.failures = 0, 0, 0, []
        self.lock = threading.Lock()

    def add(self, title, passed, failures, skipped=0, log=None):
        with self.lock:
            self._add(title, passed, failures, skipped, log)

    def _add(self, title, passed, failures, skipped, log):
        self.passed += passed
        self.failed += len(failures)
        self.skipped += skipped
        self.failures += [f"{title}: {name}" + (f" (see {os.path.relpath(log, ROOT)})" if log else "") for name in failures]
        note = f", {len(failures)} failed" if failures else ""
        note += f", {skipped} skipped" if skipped else ""
        print(f"  {title}: {passed} passed{note}", flush=True)


tally = Tally()


current = contextvars.ContextVar("suite", default="")
spent = collections.Counter()  # seconds of processor, by suite
slots = threading.BoundedSemaphore((os.cpu_count() or 1) + 3)  # files of tests that run at a time: most of them wait most of the time


def side_by_side(width, function, *lists):
    """The results of a function, several calls at a time, for the suite that asks."""
    with ThreadPoolExecutor(width) as pool:
        return [f.result() for f in [pool.submit(contextvars.copy_context().run, function, *args) for args in zip(*lists)]]


def run(log, args, env=None, limit=LIMIT):
    """Run a command with its output in `log`; its status, or None after `limit` seconds. Its whole process group ends with it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with open(log, "ab") as out:
        out.write(f"$ {' '.join(map(str, args))}\n".encode())
        out.flush()
        child = subprocess.Popen(args, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                 env={**os.environ, **({"TMPDIR": place.of(current.get())} if place else {}), **(env or {})}, start_new_session=True)
        wait = os.pidfd_open(child.pid)
        in_time = select.select([wait], [], [], limit)[0]
        if not in_time:
            out.write(f"\nnot finished after {limit} s\n".encode())
            os.kill(child.pid, signal.SIGABRT)  # Python's faulthandler tells where it is
            select.select([wait], [], [], 10)
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(wait)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    spend(log, time.monotonic() - began, used.ru_utime + used.ru_stime)
    return child.returncode if in_time else None


def spend(log, seconds, processor):
    """Note what a command has cost."""
    with tally.lock, open(LOGS / "times", "a", encoding="utf-8") as times:
        spent[current.get()] += processor
        times.write(f"{processor:8.1f} s of processor in {seconds:6.1f} s: {current.get()} {log.relative_to(LOGS)}\n")


def tail(log, lines=25):
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join("    | " + line for line in text[-lines:]), flush=True)


place = None  # of what the suites put into files for a while
wanted = []  # suites of this run
building, built = collections.defaultdict(threading.Lock), {}


def build(name, *targets):
    """The build directory, or None if the build is broken (which is counted once)."""
    with building[name]:
        if name not in built:
            built[name] = build_now(name, targets)
        return built[name]


def build_now(name, targets):
    env, options = BUILDS[name]
    where, log = OUT / name, LOGS / f"build-{name}.log"
    log.unlink(missing_ok=True)
    status = 0
    if not (where / "build.ninja").exists():
        shutil.rmtree(where, ignore_errors=True)
        status = run(log, ["meson", "setup", where, "-Dtests=enabled", *options], env)
    if status == 0:
        wanted = [t for target in targets for t in ([target] if isinstance(target, str) else target(where))]
        status = run(log, ["ninja", "-C", where, *wanted], env)
    if status != 0:
        tail(log)
        tally.add(f"build with {name}", 0, ["the build"], log=log)
        return None
    return where


def introspect(where, what):
    return json.loads(subprocess.run(["meson", "introspect", what, where], stdout=subprocess.PIPE, check=True).stdout)


def programs_of(name):
    """What finds the programs of the unit tests of a suite in a build directory."""
    return lambda where: [os.path.relpath(t["cmd"][0], where) for t in introspect(where, "--tests") if any(s.endswith(":" + name) for s in t["suite"])]


def all_but_units(where):
    """What ninja makes when nothing is named, but for the programs of unit tests."""
    units = {t["cmd"][0] for t in introspect(where, "--tests")}
    names = [t["filename"][0] for t in introspect(where, "--targets") if t["build_by_default"]]
    return [os.path.relpath(name, where) for name in names if name not in units]


def count_junit(path):
    """(names passed, names failed, number skipped) of meson's report."""
    passed, failed, skipped = [], [], 0
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        cases = list(suite.iter("testcase"))
        for case in cases:
            name = f"{suite.get('name')}: {case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                failed.append(name)
            elif case.find("skipped") is not None:
                skipped += 1
            else:
                passed.append(name)
        # A program that crashed between its tests has an error of its own and no failed case.
        if int(suite.get("errors") or 0) and not any(c.find("failure") is not None or c.find("error") is not None for c in cases):
            failed.append(f"{suite.get('name')}: crashed")
    return passed, failed, skipped


def meson_tests(title, where, args=(), env=None, multiplier=10, prefix=()):
    log = LOGS / f"{title.replace(' ', '-')}.log"
    log.unlink(missing_ok=True)
    for old in glob.glob(str(where / "meson-logs" / "testlog*")):
        os.unlink(old)
    status = run(log, [*prefix, "meson", "test", "-C", where, "--no-rebuild", "--print-errorlogs", "--num-processes", "2",
                       "-t", str(multiplier), *args], {"CK_TIMEOUT_MULTIPLIER": str(3 * multiplier), **(env or {})}, LIMIT)
    report = where / "meson-logs" / "testlog.junit.xml"
    if not report.exists():
        tail(log)
        tally.add(title, 0, ["no report"], log=log)
        return
    passed, failed, skipped = count_junit(report)
    # The report tells nothing of a program that was ended: it has what it had passed until then.
    failed += sorted(set(re.findall(r"^ *\d+/\d+ (.*?) +TIMEOUT ", log.read_text(encoding="utf-8", errors="replace"), re.M)))
    if status != 0 and not failed:
        failed = [f"meson test ended with {status}"]
    if not passed and not failed:
        failed = ["no tests were found"]
    tally.add(title, len(passed), failed, skipped, log)
    if failed:
        tail(log, 40)


def reason_of(words):
    """The last line of a traceback that names an exception, shortened: what is seen of a failure where its log is not kept."""
    named = re.findall(r"^[A-Za-z_][\w.]*(?:Error|Exception|Exit|Expired|Interrupt|Warning)\b.*$", words, re.M)
    return named[-1][:400] if named else "?"


def python_module(log, directory, env, module, limit, interpreter=PYTHON):
    """One unittest run over one file of tests: (how many passed, names of the failed, how many were skipped)."""
    log.unlink(missing_ok=True)
    with slots:
        status = run(log, [interpreter, "-X", "faulthandler", "-m", "unittest", "discover", "-v", "-s", directory, "-t", directory, "-p", module], env, limit)
    text = log.read_text(encoding="utf-8", errors="replace")
    ran = re.search(r"^Ran (\d+) tests? in", text, re.M)
    ends = re.findall(r"^(?:OK|FAILED)(?: \((.*)\))?$", text, re.M)
    if not ran or not ends:
        return 0, [f"{module} crashed" if status is not None else f"{module} not finished in time"], 0
    counts = {k: int(v) for k, v in re.findall(r"([a-z][a-z ]*)=(\d+)", ends[-1])}
    bad = [f"{name}: {reason_of(words)}" for name, words in re.findall(r"^={70}\n(?:FAIL|ERROR): (.*)\n((?:(?!={70}$).*\n)*)", text, re.M)]
    failed = counts.get("failures", 0) + counts.get("errors", 0) + counts.get("unexpected successes", 0)
    bad = (bad + ["?"] * failed)[:failed] if failed else [] if status == 0 else [f"unittest ended with {status}"]
    skipped = counts.get("skipped", 0)
    return max(int(ran[1]) - failed - skipped, 0), bad, skipped


def python_tests(title, directory, env=None, patterns=("test*.py",), limit=LIMIT, interpreter=PYTHON):
    """The files of tests directly in `directory`, several at a time (most of them wait most of the time), the longest first."""
    name = re.sub(r"[^a-z0-9]+", "-", title)
    files = sorted({f for pattern in patterns for f in (ROOT / directory).glob(pattern)}, key=lambda f: -f.stat().st_size)
    logs = [LOGS / name / f"{f.stem}.log" for f in files]
    results = side_by_side((os.cpu_count() or 1) + 2, lambda f, log: python_module(log, directory, env, f.name, limit, interpreter), files, logs)
    failed = [f"{test} (see {os.path.relpath(log, ROOT)})" for (_, bad, _), log in zip(results, logs) for test in bad]
    tally.add(title, sum(r[0] for r in results), failed or ([] if files else ["no tests were found"]), sum(r[2] for r in results))
    for (_, bad, _), log in zip(results, logs):
        if bad:
            tail(log, 60)


def test_dirs(top, patterns):
    """Directories below `top` with such files in them."""
    return sorted({str(p.parent) for pattern in patterns for p in (ROOT / top).glob(f"**/{pattern}")})


def daemon_tests(title, top, where, env=None, patterns=("test*.py",), limit=LIMIT):
    """The Python suites below `top` against the programs in `where`."""
    path = os.pathsep.join([str(ROOT / "clients/python/src"), str(ROOT / "tests/integration")])
    for d in test_dirs(top, patterns):
        name = os.path.relpath(d, ROOT / top)
        python_tests(title if name == "." else f"{title} {name}", d,
                     {"TASKERD_BUILD": str(where), "PYTHONPATH": path, **(env or {})},
                     patterns, limit)


def sanitizer_env(where):
    """Reports also go to files, so that none is lost with a process that a test killed or did not look at."""
    reports = where / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir()
    reports.chmod(0o777)  # some tests change their user
    env = {k: f"{v}:log_path={reports / k.split('_')[0].lower()}" for k, v in SANITIZERS.items()}
    return {**env, "TASKERD_TEST_PATIENCE": "900"}  # seconds; they make everything several times slower


def sanitizer_reports(title, where):
    found = sorted((where / "reports").glob("*"))
    for path in found[:3]:
        print(f"    | {path}")
        tail(path)
    tally.add(f"{title} reports", 0 if found else 1, [f"{p.name}" for p in found])


# ---- suites ------------------------------------------------------------------------------------------------------------


def gcc():
    """What is shipped, which most suites run. Unit tests that run under ASan, which sees more, are neither made nor run here."""
    return build("gcc", *([all_but_units] if asan in wanted else []))


def unit():
    where = gcc()
    if where:
        meson_tests("unit", where, ["--suite", "lint", "--suite", "no-sanitizer"] if asan in wanted else [])


def asan(patterns=ASAN_TESTS):
    where = build("asan")
    if where:
        env = sanitizer_env(where)
        # One process for all tests of a program: one for each would cost as much as all that they do, and look for leaks two thousand times.
        meson_tests("asan unit", where, ["--no-suite", "lint", "--no-suite", "no-sanitizer"], {**env, "CK_FORK": "no"}, 20)
        daemon_tests("asan integration", "tests/integration", where, env, patterns)
        sanitizer_reports("asan", where)


def faults_asan():
    """The fault campaign under ASan and UBSan, for ten minutes."""
    where, log = build("asan"), LOGS / "faults-asan.log"
    if where:
        log.unlink(missing_ok=True)
        status = run(log, [ROOT / "tests/faults/run", "--minutes", "10"], {**sanitizer_env(where), "TASKERD_BUILD": str(where)}, 3600)
        tally.add("faults asan", int(status == 0), [] if status == 0 else ["losses"], log=log)
        sanitizer_reports("faults asan", where)


def asan_all():
    asan(["test*.py"])


def tsan(patterns=("test_smoke.py",), fault_patterns=()):
    """What has threads: a program without them has no races to be found."""
    where = build("tsan", "daemon/taskerd", "tests/bench/bench_worker", *(["clients/taskerctl/taskerctl"] if fault_patterns else []), programs_of("threads"))
    if not where:
        return
    # The runtime of gcc 12 cannot place its shadow memory under the address randomisation of newer kernels.
    prefix = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    env = sanitizer_env(where)
    meson_tests("tsan unit", where, ["--suite", "threads"], {**env, "CK_FORK": "no"}, 20, prefix)
    daemon_tests("tsan integration", "tests/integration", where, {**env, "TASKERD_RUN_PREFIX": " ".join(prefix)}, patterns)
    if fault_patterns:
        daemon_tests("tsan faults", "tests/faults", where, {**env, "TASKERD_RUN_PREFIX": " ".join(prefix)}, fault_patterns)
    sanitizer_reports("tsan", where)


def tsan_all():
    tsan(["test_smoke.py", *TSAN_TESTS], ["test_frozen.py"])


def python():
    python_tests("python client", "clients/python/tests",
                 {"PYTHONPATH": str(ROOT / "clients/python/src")})


def ruby():
    """The Ruby client's own tests, against a daemon they play and a real one."""
    where, log = gcc(), LOGS / "ruby.log"
    if not where:
        return
    log.unlink(missing_ok=True)
    status = run(log, ["ruby", "-w", "clients/ruby/test/all.rb", "--verbose"], {"TASKERD_BUILD": str(where)})
    text = log.read_text(encoding="utf-8", errors="replace")
    counts = re.findall(r"^(\d+) runs, \d+ assertions, (\d+) failures, (\d+) errors, (\d+) skips$", text, re.M)
    if status is None or not counts:
        tail(log)
        tally.add("ruby client", 0, ["crashed" if status is not None else "not finished in time"], log=log)
        return
    runs, failures, errors, skips = map(int, counts[-1])
    bad = re.findall(r"^(\w+#\w+)(?: = [\d.]+ s = [FE]| \[.*\]:)$", text, re.M)
    bad = (sorted(set(bad)) + ["?"] * (failures + errors))[:failures + errors]
    tally.add("ruby client", runs - failures - errors - skips, bad or ([] if status == 0 else [f"minitest ended with {status}"]), skips, log)
    if bad:
        tail(log, 60)


JS_RUNTIMES = {  # how to run a compiled test with it, and what its closing lines say
    "node": (["{node}", "--test", "--test-reporter=tap"], r"^# pass (\d+)", r"^\s*not ok \d+ - (.*)$"),
    "bun": (["{bin}/bun", "test", "--timeout", "1000000"], r"^\s*(\d+) pass", r"^\(fail\) (.*)$"),
    "deno": (["{bin}/deno", "test", "-A", "--no-check", "--quiet"], r"\| (?:\d+ passed )?\(?(\d+) steps\)?|(\d+) passed", r"^(.*) \.\.\. FAILED"),
}


def typescript_package(log):
    """The package, built in a directory of its own with what its tests need; None if that fails."""
    package = OUT / "typescript"
    for name in ("src", "test", "conformance", "dist", "test-dist"):
        shutil.rmtree(package / name, ignore_errors=True)
    shutil.copytree(ROOT / "clients/typescript", package, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "dist", "test-dist"))
    commands = [["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], ["npm", "run", "--silent", "build:test"]]
    if subprocess.run(["node", "-e", "process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)"], check=False).returncode != 0:
        commands.insert(1, ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--no-package-lock", "node@22.12.0"])
    for command in commands:
        if run(log, ["env", "-C", package, *command]) != 0:
            tail(log)
            tally.add("typescript client", 0, ["the build"], log=log)
            return None
        own = package / "node_modules" / "taskerd"  # the name by which handlers import it
        if not own.exists():
            own.symlink_to(package)
    return package


def typescript():
    """The TypeScript client's own tests on each runtime, against a daemon they play and a real one."""
    where, log = gcc(), LOGS / "typescript.log"
    log.unlink(missing_ok=True)
    package = where and typescript_package(log)
    if not package:
        return
    tests = sorted(map(str, (package / "test-dist").glob("*.test.js")))
    bin_dir = package / "node_modules" / ".bin"
    node = bin_dir / "node" if (bin_dir / "node").exists() else "node"
    env = {"TASKERD_BUILD": str(where), "TASKERD_ROOT": str(ROOT), "TASKERD_TYPESCRIPT": str(package), "NO_COLOR": "1"}
    for runtime, (command, passed, failed) in JS_RUNTIMES.items():
        log = LOGS / f"typescript-{runtime}.log"
        log.unlink(missing_ok=True)
        words = [word.format(node=node, bin=bin_dir) for word in command]
        status = run(log, ["env", "-C", package, *words, *tests], {**env, "TASKERD_RUNTIME": runtime})
        text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace"))
        counts = [next(n for n in groups if n) if isinstance(groups, tuple) else groups for groups in re.findall(passed, text, re.M)]
        bad = [] if status == 0 and counts else re.findall(failed, text, re.M)[:20] or [f"ended with {status}"]
        tally.add(f"typescript client on {runtime}", int(counts[-1]) if counts else 0, bad, log=log)
        if bad:
            tail(log, 60)


def integration():
    where = gcc()
    if where:
        daemon_tests("integration", "tests/integration", where)


def docs():
    """README.md and the pages of docs/, as a reader follows them."""
    where = gcc()
    if where:
        daemon_tests("docs", "tests/docs", where)


def conformance():
    """Every client that is built or installed against the scenarios of protocol/conformance."""
    where = gcc()
    if not where:
        return
    log = LOGS / "conformance.log"
    log.unlink(missing_ok=True)
    status = run(log, [ROOT / "protocol/conformance/run", "--client", "all", "--build", where])
    text = log.read_text(encoding="utf-8", errors="replace")
    counts = re.findall(r"^(\d+) passed, (\d+) failed$", text, re.M)
    bad = re.findall(r"^(\S+ \S+): FAIL", text, re.M)
    if not counts or status not in (0, 1) or (status == 1 and not bad):
        bad = bad or [f"ended with {status}"]
    tally.add("conformance", int(counts[-1][0]) if counts else 0, bad, log=log)
    if bad:
        tail(log, 60)


def c():
    where = gcc()
    if where:
        daemon_tests("libtasker", "clients/c/tests", where)


CARGO = shutil.which("cargo") or os.path.expanduser("~/.cargo/bin/cargo")
RUST_TARGET = OUT / "rust-target"
RUST_OLDEST = (1, 85)


def cargo_version():
    """As numbers; None without cargo."""
    try:
        said = subprocess.run([CARGO, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return tuple(int(n) for n in said.split()[1].split(".")[:2])


def rust():
    """The crate's tests, those of its pages, and its linter; the examples are built for the conformance suite and the benchmark."""
    found = cargo_version()
    if not found or found < RUST_OLDEST:
        skip("rust", f"cargo {'.'.join(map(str, RUST_OLDEST))} or newer is not here, but {found}: install rustup, or cargo-web")
        return
    log = LOGS / "rust.log"
    log.unlink(missing_ok=True)
    where = gcc()
    env = {"CARGO_TARGET_DIR": str(RUST_TARGET), "CARGO_TERM_COLOR": "never", **({"TASKERD_PROGRAM": str(where / "daemon/taskerd")} if where else {})}
    manifest = ["--manifest-path", ROOT / "clients/rust/Cargo.toml", "--release", "--all-features"]
    status = run(log, [CARGO, "test", *manifest], env)
    counts = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", log.read_text(errors="replace"), re.M)
    bad = re.findall(r"^test (.*) \.\.\. FAILED$", log.read_text(errors="replace"), re.M)
    bad = bad or ([] if status == 0 and counts else [f"cargo test ended with {status}"])
    tally.add("rust", sum(int(c[0]) for c in counts), bad, sum(int(c[2]) for c in counts), log)
    lint = run(log, [CARGO, "clippy", *manifest, "--all-targets", "--", "-D", "warnings"], env)
    tally.add("rust clippy", int(lint == 0), [] if lint == 0 else ["warnings"], log=log)
    if bad or lint:
        tail(log, 60)
    if where and not bad:
        daemon_tests("rust examples", "clients/rust/daemon", where)


def virtualenv(suite, package, module):
    """The interpreter of a virtual environment that has the package; None if it cannot be had (which is counted)."""
    venv, log = OUT / f"{suite}-venv", LOGS / f"{suite}-venv.log"
    log.unlink(missing_ok=True)
    status = 0
    if not (venv / "bin/python").exists():
        status = run(log, [PYTHON, "-m", "venv", "--without-pip", "--system-site-packages", venv])
    if status == 0 and run(log, [venv / "bin/python", "-c", f"import {module}"]) != 0:  # the system's pip, since one of its own takes longer to make than all that it installs
        status = run(log, [PYTHON, "-m", "pip", "--python", venv / "bin/python", "install", "--quiet", "--no-compile", package])
    if status == 0:
        return venv / "bin/python"
    tail(log)
    tally.add(suite, 0, [f"no {module}"], log=log)
    return None


def in_virtualenv(suite, tests, package, module):
    where = gcc()
    interpreter = where and virtualenv(suite, package, module)
    if not interpreter:
        return
    path = os.pathsep.join(str(ROOT / d) for d in ("clients/python/src", "tests/integration", tests))
    python_tests(suite, tests, {"TASKERD_BUILD": str(where), "PYTHONPATH": path}, interpreter=interpreter)


def wasm():
    """WASM handlers, in a virtual environment that has wasmtime."""
    in_virtualenv("wasm", "clients/wasm/tests", WASMTIME, "wasmtime")


def web():
    """The OpenAPI document against the daemon, in a virtual environment that has schemathesis."""
    in_virtualenv("web", "tests/web", SCHEMATHESIS, "schemathesis")


def faults():
    where = gcc()
    if where:
        daemon_tests("faults", "tests/faults", where)


def skip(title, why):
    print(f"  skipped: {title}: {why}", flush=True)
    tally.add(title, 0, [], 1)


PACKAGERS = ("dpkg-buildpackage", "dh", "fakeroot", "lintian", "mmdebstrap")


def packages():
    """The Debian packages: of the programs that all suites test, and gone through in a fresh Debian."""
    where, system = gcc(), OUT / "system"
    missing = [p for p in PACKAGERS if not shutil.which(p, path="/usr/sbin:/usr/bin:/sbin:/bin")]
    if missing or os.geteuid() != 0:
        skip("packages", f"{missing[0]} is not here: contrib/setup system" if missing else "a tree of Debian is made and entered as root")
        return
    if not where:
        return
    shutil.rmtree(system / "packages", ignore_errors=True)
    logs = [LOGS / "packages-build.log", LOGS / "packages-tree.log"]
    commands = [[ROOT / "contrib/package", system / "packages"], [PYTHON, ROOT / "tests/system/machine.py", system / "base"]]
    env = {"TASKERD_TEST_SETUP": "no", "TASKERD_NO_NPM": "1", "TASKERD_PACK": str(where), "DEB_BUILD_OPTIONS": "noautodbgsym"}
    made, tree = side_by_side(2, lambda log, command: run(log, command, env), logs, commands)
    if made != 0:
        tail(logs[0], 40)
        tally.add("packages", 0, ["the build"], log=logs[0])
    elif tree != 0 and re.search("Failed to fetch|Could not resolve", logs[1].read_text(encoding="utf-8", errors="replace")):
        tail(logs[1], 5)
        skip("packages", "the archive of Debian cannot be reached")
    elif tree != 0:
        tail(logs[1])
        tally.add("packages", 0, ["the tree"], log=logs[1])
    else:
        env = {"TASKERD_SYSTEM": str(system), "TASKERD_PACKAGES": str(system / "packages"), "TASKERD_TEST_RESTARTS": "2"}
        python_tests("packages", "tests/system", env, ["test_packages.py", "test_session.py"])


SUITES = {f.__name__: f for f in (
    unit,
    rust, typescript, wasm, integration, asan,
    packages, faults, conformance, python, ruby, c, web, docs, tsan,
)}
WIDTH = 3  # suites that run beside each other: each waits some of its time
AFTER = {"conformance": ("rust", "typescript", "wasm")}  # which make the clients for it
LONG_SUITES = {"asan-all": asan_all, "tsan-all": tsan_all, "faults-asan": faults_asan}  # by name only


def run_suite(name, before):
    """One suite, when those that it needs are over."""
    for other in before:
        other.result()
    current.set(name)
    start = time.monotonic()
    print(f"{name}:", flush=True)
    try:
        {**SUITES, **LONG_SUITES}[name]()
    except Exception:  # pylint: disable=broad-except
        tally.add(name, 0, [traceback.format_exc()])
    print(f"  {name}: {time.monotonic() - start:.0f} s, {spent[name]:.0f} s of processor", flush=True)


def prepare():
    """A new record of times; what other versions of PostgreSQL and Python have left is removed. The bytecode of Python is kept beside the builds: half of
    what a process in Python costs is its compilation. Rust is not optimised: that takes longer than it saves."""
    global place  # pylint: disable=global-statement
    place = leftovers.Place()
    for old in (*OUT.glob("initdb*"), OUT / "bytecode", LOGS):
        shutil.rmtree(old, ignore_errors=True)
    LOGS.mkdir(parents=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(OUT / "bytecode")
    os.environ["TASKERD_TEST_RUN"] = place.run
    os.environ["TASKERD_TEST_INITDB"] = str(OUT / "initdb")
    os.environ.update(CARGO_PROFILE_RELEASE_OPT_LEVEL="0", CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS="true", CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS="true")


def main():
    names = sys.argv[1:] or ["all"]
    unknown = [n for n in names if n not in ("all", *SUITES, *LONG_SUITES)]
    if unknown:
        print(f"no such suite: {', '.join(unknown)}; there are {', '.join((*SUITES, *LONG_SUITES))} and all", file=sys.stderr)
        return 2
    began = time.monotonic()
    prepare()
    chosen = [name for name in (*SUITES, *LONG_SUITES) if name in names or "all" in names and name in SUITES]
    wanted.extend(SUITES[name] for name in chosen if name in SUITES)
    with ThreadPoolExecutor(WIDTH) as pool:
        running = {}
        for name in chosen:
            running[name] = pool.submit(contextvars.Context().run, run_suite, name, [running[n] for n in AFTER.get(name, ()) if n in running])
    left = place.left()
    if left:
        tally.add("nothing is left behind", 0, left)
    for failure in tally.failures:
        print(f"FAILED {failure}")
    print(f"{tally.skipped} skipped; {time.monotonic() - began:.0f} s, {sum(spent.values()):.0f} s of processor; logs in {os.path.relpath(LOGS, ROOT)}")
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(leftovers.watched(main))
