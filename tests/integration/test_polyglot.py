"""The demonstration of contrib/polyglot: one task, its steps in workers of different languages."""
import os
import shutil
import sys
import types
import unittest
from pathlib import Path

import harness
from harness import ROOT, program

sys.path.insert(0, os.path.join(ROOT, "contrib", "polyglot"))
import polyglot as run  # noqa: E402

#: Building these takes long: they take part if that was done before, or with TASKERD_LONG=1.
SLOW = {"typescript": ("typescript", "dist", "cli.js"), "rust": ("rust", "target", "debug", "worker-rust")}


class Polyglot(harness.Case):
	def stage(self, node):
		"""What the demonstration needs of its own stage."""
		build = os.environ.get("TASKERD_BUILD")
		made = types.SimpleNamespace(build=Path(build).resolve(), socket=node.socket, dir=Path(self.place), workers=[])
		self.addCleanup(lambda: [w.stop() for w in made.workers])
		return made

	def languages(self, build):
		package = os.environ.get("TASKERD_TYPESCRIPT") or os.path.join(ROOT, "build-test", "typescript")
		place = build / "polyglot" / "typescript"
		if os.path.exists(os.path.join(package, "dist", "cli.js")) and not place.exists():
			place.parent.mkdir(exist_ok=True)
			place.symlink_to(package)
		return {name: command for name, command in run.LANGUAGES.items() if os.environ.get("TASKERD_LONG") or self.is_ready(name, build)}

	@staticmethod
	def is_ready(name, build):
		"""Nothing has to be built or installed that takes long."""
		if name == "wasm":
			return shutil.which("clang-14") and os.path.exists(os.path.join(ROOT, "build-test", "wasm-venv", "bin", "python"))
		return name not in SLOW or (build / "polyglot").joinpath(*SLOW[name]).exists()

	def test_each_language_hands_on_to_the_next(self):
		program("clients", "c", "libtasker.so.0")
		node = self.daemon(self.database())
		stage = self.stage(node)
		chosen = self.languages(stage.build)
		every, run.LANGUAGES = run.LANGUAGES, chosen
		self.addCleanup(setattr, run, "LANGUAGES", every)
		left_out = run.start_workers(stage)
		done = run.run_task(stage, node.client)
		names = [w.name for w in stage.workers]
		self.assertEqual([s.name for s in done.steps], ["begin", *names, "end"])
		self.assertEqual(len(done.step("end").results["languages"]), len(names))
		self.assertEqual(sorted([*names, *left_out]), sorted(chosen))
		self.assertLessEqual({"python", "c"}, set(names), left_out)
		self.assertEqual("ruby" in names, bool(shutil.which("ruby")) and "ruby" not in left_out)
		self.doctor(node)

	def test_a_language_that_is_not_there_is_left_out_with_the_reason(self):
		node = self.daemon(self.database())
		stage = self.stage(node)
		path, os.environ["PATH"] = os.environ["PATH"], "/nonexistent"
		try:
			left_out = run.start_workers(stage)
		finally:
			os.environ["PATH"] = path
		self.assertEqual([w.name for w in stage.workers], ["python"])
		self.assertEqual((left_out["ruby"], left_out["c"]), ("Ruby is not installed", "a C compiler is not installed"))
		self.assertEqual(run.run_task(stage, node.client).step("end").results, {"languages": ["Python"]})


if __name__ == "__main__":
	unittest.main()
