"""Who is measured, and how each is installed: by its ordinary client, by name and exact version, below a cache directory."""

import dataclasses
import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from measure.proc import Failure

DRIVERS = Path(__file__).resolve().parent / "drivers"
NODE = "22.23.3"  # what the peers in JavaScript want; taken from npm if the machine's own is older
NODE_MIN = (22, 18)
LIMIT = 600  # seconds for a step of an installation


@dataclasses.dataclass(frozen=True)
class Peer:
    name: str
    kind: str  # "workflow": four durable steps a unit; "jobs": a unit is a plain job
    version: str
    units: int  # of a bulk: some seconds of work
    driver: str
    npm: tuple = ()
    pip: tuple = ()
    prepare: tuple = ()  # a command in the database before the driver, with {venv} and {uri}
    postgres: bool = True


PEERS = {p.name: p for p in (
    Peer("dbos", "workflow", "5.3.0", 600, "dbos.mjs", npm=("@dbos-inc/dbos-sdk@5.3.0",)),
    Peer("absurd", "workflow", "0.5.0", 600, "absurd.mjs", npm=("absurd-sdk@0.5.0", "pg@8.23.1"), pip=("absurdctl==0.5.1",), prepare=("{venv}/bin/absurdctl", "init", "-d", "{uri}")),
    Peer("restate", "workflow", "1.7.12", 1000, "restate.mjs", npm=("@restatedev/restate-server@1.7.12", "@restatedev/restate-sdk@1.17.2"), postgres=False),
    Peer("graphile", "jobs", "0.18.0", 40000, "graphile.mjs", npm=("graphile-worker@0.18.0", "pg@8.23.1")),
    Peer("pgboss", "jobs", "12.38.0", 40000, "pgboss.mjs", npm=("pg-boss@12.38.0",)),
    Peer("procrastinate", "jobs", "3.10.0", 2000, "procrastinate_driver.py", pip=("procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9")),
    Peer("river", "jobs", "0.51.2", 30000, "river"),
)}


def call(args, cwd, **env):
    """Run a step of an installation; Failure with its last words."""
    try:
        r = subprocess.run([str(a) for a in args], cwd=cwd, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=LIMIT, env={**os.environ, **env})
    except FileNotFoundError:
        raise Failure(f"{args[0]} is not there") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{args[0]} has not finished after {LIMIT} s") from None
    if r.returncode != 0:
        raise Failure(f"{Path(args[0]).name} {args[1]} ended with {r.returncode}: {' / '.join(r.stdout.strip().splitlines()[-3:])}")


def once(where, what, work):
    """Do the work in an empty directory, unless it was finished there for the same `what` before."""
    stamp, text = where / ".done", hashlib.sha256(repr(what).encode()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="ascii") == text:
        return
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    work(where)
    stamp.write_text(text, encoding="ascii")


def npm(where, packages):
    """No scripts of packages are run: none is needed, and some of them call home."""
    wanted = dict(p.rsplit("@", 1) for p in packages)
    (where / "package.json").write_text(json.dumps({"name": "bench", "private": True, "type": "module", "dependencies": wanted}), encoding="utf-8")
    call(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"], where)


def venv(where, packages):
    call([sys.executable, "-m", "venv", where / "venv"], where)
    call([where / "venv/bin/pip", "install", "--disable-pip-version-check", "-q", *packages], where)


def go(where):
    for f in (DRIVERS / "river").iterdir():
        shutil.copy(f, where)
    call(["go", "build", "-o", "driver", "."], where, GOTOOLCHAIN="local", GOFLAGS="-mod=mod")


@functools.lru_cache(maxsize=None)
def node(cache):
    """A Node.js that is new enough."""
    own = shutil.which("node")
    if own:
        version = subprocess.run([own, "--version"], check=True, capture_output=True, text=True).stdout.strip().lstrip("v")
        if tuple(map(int, version.split(".")[:2])) >= NODE_MIN:
            return own
    arch = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    once(cache / "node", NODE, lambda where: npm(where, [f"node-linux-{arch}@{NODE}"]))
    return str(cache / f"node/node_modules/node-linux-{arch}/bin/node")


def install(peer, cache):
    """Make the peer ready below the cache; Failure says why that is not possible."""
    def work(where):
        if peer.npm:
            npm(where, peer.npm)
        if peer.pip:
            venv(where, peer.pip)
    where = cache / peer.name
    if peer.driver == "river":
        once(where, [f.read_text(encoding="utf-8") for f in sorted((DRIVERS / "river").iterdir())], go)
        return
    once(where, (peer.npm, peer.pip), work)
    if peer.npm:
        node(cache)
        for f in DRIVERS.glob("*.mjs"):  # beside the packages: that is where Node.js looks for them
            shutil.copy(f, where)


def command(peer, cache):
    """The command line of its driver."""
    if peer.driver == "river":
        return [cache / peer.name / "driver"]
    if peer.npm:
        return [node(cache), cache / peer.name / peer.driver]
    return [cache / peer.name / "venv/bin/python", DRIVERS / peer.driver]
