#!/usr/bin/python3
"""One task whose steps run in workers of different languages; contrib/quickstart starts it after the orders.

Each step is given the number of the step before, in whatever language that was, and returns one more. A language takes part if its runtime and
its client are there; what is left out is said, with the reason.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "order-fulfilment"))
sys.dont_write_bytecode = True

from run import PYTHON_CLIENT, Failed, Process, Stage  # noqa: E402
from taskerd import TaskerClient  # noqa: E402

NAMESPACE = "polyglot"


class Missing(Exception):
    """Why a language is left out."""


def tool(name, why):
    found = shutil.which(name)
    if not found:
        raise Missing(f"{why} is not installed")
    return found


def build(place, argv, cwd=None, env=None):
    """Run a command of a build; Missing with its last line if it fails."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([str(a) for a in argv], cwd=cwd or place, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise Missing(f"{Path(argv[0]).name} failed: {lines[-1] if lines else done.returncode}")


# ---- each language: (command line, environment) of its worker ----------------------------------------------------------


def python(stage):
    return [sys.executable, "-m", "taskerd", "worker", HERE / "worker.py", "--socket", stage.socket, "--name", "python"], {
        "PYTHONPATH": str(PYTHON_CLIENT), "PYTHONDONTWRITEBYTECODE": "1"}


def ruby(stage):
    program = tool("ruby", "Ruby")
    probe = subprocess.run([program, "-e", "require 'msgpack'"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if probe.returncode != 0:
        raise Missing("the gem msgpack (ruby-msgpack) is not installed")
    return [program, ROOT / "clients/ruby/exe/taskerd-ruby-worker", HERE / "worker.rb", "--socket", stage.socket, "--name", "ruby"], {}


def typescript(stage):
    node, npm = tool("node", "Node"), tool("npm", "npm")
    package = stage.build / "polyglot" / "typescript"
    cli = package / "dist" / "cli.js"
    if not cli.exists():
        package.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(ROOT / "clients/typescript", package, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "dist"))
        # What compiles and bundles it, and lets Node read TypeScript; the other runtimes of its tests are not needed here.
        wanted = json.loads((package / "package.json").read_text(encoding="utf-8"))
        names = ["esbuild", "typescript", "@types/node", "@msgpack/msgpack", "@swc/wasm-typescript"]
        given = {**wanted.get("dependencies", {}), **wanted.get("devDependencies", {}), **wanted.get("optionalDependencies", {})}
        wanted.update({"devDependencies": {n: given[n] for n in names if n in given}, "optionalDependencies": {}})
        (package / "package.json").write_text(json.dumps(wanted), encoding="utf-8")
        build(package, [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"])
        build(package, [npm, "run", "--silent", "build"])
    return [node, cli, "worker", HERE / "worker.ts", "--socket", stage.socket, "--name", "typescript"], {}


def c(stage):
    compiler, library, place = tool("cc", "a C compiler"), stage.build / "clients" / "c", stage.build / "polyglot"
    build(place, [compiler, "-O2", "-I", ROOT / "clients" / "c", "-o", place / "worker-c", HERE / "worker.c", "-L", library, "-ltasker", f"-Wl,-rpath,{library}"])
    return [place / "worker-c", "--socket", stage.socket, "--name", "c"], {}


CARGO = """[package]
name = "worker-rust"
version = "0.1.0"
edition = "2021"

[[bin]]
name = "worker-rust"
path = %s

[dependencies]
taskerd = { path = %s }
serde_json = "1"

[workspace]
"""


def rust(stage):
    crate, place = ROOT / "clients" / "rust", stage.build / "polyglot" / "rust"
    if not (crate / "Cargo.toml").exists():
        raise Missing("there is no Rust client in this tree")
    cargo, rustc = tool("cargo", "Rust"), tool("rustc", "Rust")
    version = subprocess.run([rustc, "--version"], stdout=subprocess.PIPE, text=True, check=False).stdout.split()[1]
    place.mkdir(parents=True, exist_ok=True)
    (place / "Cargo.toml").write_text(CARGO % (json.dumps(str(HERE / "worker.rs")), json.dumps(str(crate))), encoding="utf-8")
    build(place, [cargo, "build", "--quiet"], env={"RUSTC_VERSION": version})
    return [place / "target" / "debug" / "worker-rust", "--socket", stage.socket, "--name", "rust"], {}


def wasmtime(stage):
    """A Python that has wasmtime: this one, that of the tests, or a virtual environment made for the purpose."""
    venv = stage.build / "polyglot" / "wasm-venv"
    for python in (sys.executable, ROOT / "build-test" / "wasm-venv" / "bin" / "python", venv / "bin" / "python"):
        if Path(python).exists() and subprocess.run([str(python), "-c", "import wasmtime, msgpack"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return python
    build(venv.parent, [sys.executable, "-m", "venv", "--system-site-packages", venv])
    build(venv.parent, [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "wasmtime"])
    return venv / "bin" / "python"


def wasm(stage):
    compiler = tool("clang-14", "clang-14, which makes WebAssembly of C,")
    place = stage.build / "polyglot" / "wasm"
    module = place / "polyglot" / "wasm.wasm"  # the handler polyglot.wasm
    module.parent.mkdir(parents=True, exist_ok=True)
    build(place, [compiler, "--target=wasm32-wasi", "-O2", "-o", module, HERE / "worker_wasm.c"])
    return [wasmtime(stage), "-m", "taskerd", "wasm", "--dir", place, "--socket", stage.socket, "--name", "wasm"], {
        "PYTHONPATH": str(PYTHON_CLIENT), "PYTHONDONTWRITEBYTECODE": "1"}


LANGUAGES = {"python": python, "ruby": ruby, "typescript": typescript, "c": c, "rust": rust, "wasm": wasm}


# ---- the workflow ------------------------------------------------------------------------------------------------------


def step(name, after):
    return {"name": name, "handler": {"callable": f"polyglot.{name}", "initialization": {"after": after}}, "dependencies": [after] if after else []}


def template(languages):
    """A chain of the languages, between a beginning and an end."""
    names = ["begin", *languages, "end"]
    steps = [step(name, names[i - 1] if i else None) for i, name in enumerate(names)]
    return json.dumps({"name": "polyglot", "namespace_name": NAMESPACE, "version": "1.0.0", "steps": steps})


def start_workers(stage):
    """Start a worker for each language that is there; what is left out, with the reason."""
    left_out = {}
    for name, command in LANGUAGES.items():
        try:
            argv, env = command(stage)
        except Missing as why:
            left_out[name] = str(why)
            continue
        worker = Process(name, [str(a) for a in argv], stage.dir, env)
        stage.workers.append(worker)
    return left_out


def check_workers(stage):
    dead = [w for w in stage.workers if not w.alive()]
    if dead:
        raise Failed(f"the {dead[0].name} worker ended:\n{dead[0].last_words()}")


def run_task(stage, client):
    languages = [w.name for w in stage.workers]
    client.apply_template(template(languages))
    task = client.create_task("polyglot", namespace=NAMESPACE, context={"name": "world"})
    for _ in range(120):
        check_workers(stage)
        if client.wait(task.task_uuid, 0.5).settled:
            break
    done = client.get_task(task.task_uuid)
    if done.status != "complete":
        raise Failed("the task is %s: %s" % (done.status, {s.name: s.error or s.state for s in done.steps if s.state != "complete"}))
    return done


def demonstrate(stage):
    stage.start_daemon()
    left_out = start_workers(stage)
    with TaskerClient(socket=str(stage.socket)) as client:
        done = run_task(stage, client)
        workers = {w["name"]: w["pid"] for w in client.list_workers()}
    print("\nOne task, its steps in workers of different languages:\n")
    for s in done.steps:
        if "language" in (s.results or {}):
            print("  %-12s %d -> %d   %s, pid %s" % (s.results["language"], s.results["n"] - 1, s.results["n"], s.results["runtime"], workers.get(s.name, "?")))
    for name, why in left_out.items():
        print("  %-12s left out: %s" % (name, why))
    return done.step("end").results["languages"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--build", default=str(ROOT / "build"), help="build directory (%(default)s)")
    args = parser.parse_args()
    args.threads, args.keep = 1, False
    stage = Stage(args)
    try:
        demonstrate(stage)
        return 0
    except Failed as exc:
        print(f"\nquickstart: {exc}", file=sys.stderr)
        return 1
    finally:
        stage.close()


if __name__ == "__main__":
    sys.exit(main())
