"""The SQL under test: taskerd's own, and PGMQ's from its crate, or from the file that TASKERD_TEST_PGMQ_SQL names."""
import glob
import os
import shutil
import subprocess
import tarfile
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
OURS_SQL = os.path.join(HERE, "..", "..", "..", "daemon", "store", "sql", "pgmq.sql")
CRATE_VERSION = "0.33.0"  # the last release; it carries PGMQ 1.11.0
CRATE_SQL = "pgmq-%s/src/install/embedded/sql/pgmq.sql" % CRATE_VERSION


def read_file(path):
	with open(path, encoding="utf-8") as f:
		return f.read()


def fetch_crate_sql():
	"""The text of PGMQ's SQL from the crate. Raises SkipTest with the reason if it cannot be had."""
	build = os.environ.get("TASKERD_BUILD") or (os.getcwd() if os.path.isdir("meson-private") else None)
	cached = build and os.path.join(build, "pgmq-crate-%s.sql" % CRATE_VERSION)
	if cached and os.path.exists(cached):
		return read_file(cached)
	cargo = shutil.which("cargo")
	if cargo is None:
		raise unittest.SkipTest("PGMQ's own SQL comes in a crate, and there is no cargo")
	with tempfile.TemporaryDirectory() as empty:  # outside any crate, whose settings would count
		try:
			done = subprocess.run([cargo, "info", "--quiet", "pgmq@" + CRATE_VERSION], cwd=empty, stdin=subprocess.DEVNULL,
			                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=120)
		except subprocess.TimeoutExpired:
			raise unittest.SkipTest("cargo did not fetch the crate pgmq within 120 s") from None
	home = os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")
	crates = glob.glob(os.path.join(home, "registry", "cache", "*", "pgmq-%s.crate" % CRATE_VERSION))
	if not crates:
		raise unittest.SkipTest("cargo cannot fetch the crate pgmq: " + (done.stderr.strip().splitlines() or ["no reason given"])[-1])
	with tarfile.open(crates[0]) as crate:
		text = crate.extractfile(CRATE_SQL).read().decode()
	if cached:
		with open(cached + ".part", "w", encoding="utf-8") as f:
			f.write(text)
		os.replace(cached + ".part", cached)
	return text


def real_sql():
	"""PGMQ's SQL as a plain file makes it: with the schema that CREATE EXTENSION would make."""
	named = os.environ.get("TASKERD_TEST_PGMQ_SQL")
	text = read_file(named) if named else fetch_crate_sql()
	return "CREATE SCHEMA IF NOT EXISTS pgmq;\n" + text
