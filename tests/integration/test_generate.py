"""taskerctl generate: what it writes is compiled or loaded in each language, holds what the schemas say, and a scaffold's own test passes."""
import ast
import glob
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import harness
from harness import ROOT, program, taskerd_program

TEMPLATE = os.path.join(harness.HANDLERS, "generate.yaml")
PACKAGE = os.environ.get("TASKERD_TYPESCRIPT") or os.path.join(ROOT, "build-test", "typescript")  # the TypeScript client, built
RUST = {"CARGO_TARGET_DIR": os.path.join(ROOT, "build-test", "rust-target")}  # has the same crates, built for the Rust client
ADDRESS = {"street": "s", "geo": {"lat": 1.5}}
WHOLE = {"order_id": 7, "lines": [{"sku": "a", "count": 2, "price": 1.5}, {"sku": "b", "count": 1}], "class": "gold", "x-y": True, "x_y": "other", "2nd": 2.0, "self": "me", "type": "t",
         "from_dict": "f", "ship_to": ADDRESS, "bill_to": {"street": "b"}, "tags": ["x"], "counts": {"a": 1}, "places": {"home": ADDRESS}, "anything": [1, {"a": None}], "camelCase": 3,
         "tree": {"name": "r", "children": [{"name": "c", "next": {"name": "n"}}]}, "matrix": [[1.0, 2.0], []]}
LEAST = {k: WHOLE[k] for k in ("order_id", "lines", "class", "x-y", "ship_to")}


def needs(tool):
	if not shutil.which(tool):
		raise unittest.SkipTest("%s is not installed" % tool)
	return tool


class Case(unittest.TestCase):
	longMessage = True

	def setUp(self):
		self.ctl = program("clients", "taskerctl", "taskerctl")
		self.place = tempfile.mkdtemp(prefix="tsk-gen-")
		self.addCleanup(shutil.rmtree, self.place, True)

	def run_(self, *argv, cwd=None, status=0, stdin=None, **env):
		done = subprocess.run([str(a) for a in argv], cwd=cwd or self.place, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=2000, check=False,
		                      env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "TASKERD_PROGRAM": taskerd_program(), "TASKERCTL": self.ctl, **env})
		self.assertEqual(done.returncode, status, "%s\n%s\n%s" % (argv, done.stdout[-3000:], done.stderr[-3000:]))
		return done

	def types(self, language, name, *options):
		"""The path of a file of types."""
		path = os.path.join(self.place, name)
		self.run_(self.ctl, "generate", "types", TEMPLATE, "--language", language, "--output", path, *options)
		return path

	def scaffold(self, language):
		path = os.path.join(self.place, language)
		self.run_(self.ctl, "generate", "scaffold", "-q", TEMPLATE, "--language", language, "--output", path)
		return path


class Types(Case):
	def load(self, path, name):
		spec = importlib.util.spec_from_file_location(name, path)
		module = sys.modules[name] = importlib.util.module_from_spec(spec)
		self.addCleanup(sys.modules.pop, name)
		spec.loader.exec_module(module)
		return module

	def test_python_dataclasses(self):
		made = self.load(self.types("python", "gen_dc.py"), "gen_dc")
		for value in WHOLE, LEAST:
			read = made.OrderFulfilmentInput.from_dict(value)
			self.assertEqual(read.to_dict(), value)
		self.assertEqual((read.class_, read.lines[0].sku, read.ship_to.geo.lat), ("gold", "a", 1.5))
		with self.assertRaises(KeyError):
			made.OrderFulfilmentInput.from_dict({})

	def test_pydantic(self):
		path = self.types("python", "gen_pd.py", "--style", "pydantic")
		with open(path, encoding="utf-8") as f:
			compile(f.read(), path, "exec")
		if not importlib.util.find_spec("pydantic"):
			self.skipTest("pydantic is not installed; the file was compiled")
		made = self.load(path, "gen_pd").OrderFulfilmentInput
		for value in WHOLE, LEAST:
			self.assertEqual(made.model_validate(value).model_dump(by_alias=True, exclude_unset=True), value)
		with self.assertRaises(ValueError):
			made.model_validate({**LEAST, "class": "lead"})

	def test_ruby(self):
		ruby = needs("ruby")
		path = self.types("ruby", "gen_types.rb")
		script = "require 'json'; require %r; v = JSON.parse(STDIN.read); puts JSON.dump(v.map { |x| OrderFulfilmentTypes::OrderFulfilmentInput.from_h(x).to_data })" % path
		done = self.run_(ruby, "-W", "-e", script, stdin=json.dumps([WHOLE, LEAST]))
		self.assertEqual((json.loads(done.stdout), done.stderr), ([WHOLE, LEAST], ""))
		self.run_(ruby, "-e", "require %r; OrderFulfilmentTypes::Address.from_h({})" % path, status=1)
		for style in "data", "dry":
			self.run_(ruby, "-wc", self.types("ruby", style + ".rb", "--style", style))

	def test_typescript(self):
		tsc = os.path.join(PACKAGE, "node_modules", ".bin", "tsc")
		if not os.path.exists(tsc):
			self.skipTest("the TypeScript client is not built")
		self.types("typescript", "gen_types.ts")
		self.types("typescript", "gen_zod.ts", "--style", "zod")
		with open(os.path.join(self.place, "zod.d.ts"), "w", encoding="utf-8") as f:
			f.write("declare module 'zod' { export namespace z { type infer<T> = any; type ZodType<T> = any; } export const z: any; }\n")
		with open(os.path.join(self.place, "use.ts"), "w", encoding="utf-8") as f:
			f.write("import type { OrderFulfilmentInput } from './gen_types.js';\nexport const whole: OrderFulfilmentInput = %s;\nexport const least: OrderFulfilmentInput = %s;\n"
			        "// @ts-expect-error: not one of the words\nexport const wrong: OrderFulfilmentInput = { ...least, class: 'lead' };\n" % (json.dumps(WHOLE), json.dumps(LEAST)))
		self.run_(tsc, "--noEmit", "--strict", "--module", "nodenext", "--types", "", "zod.d.ts", "gen_types.ts", "gen_zod.ts", "use.ts")

	def test_rust(self):
		cargo = needs("cargo")
		os.makedirs(os.path.join(self.place, "src"))
		self.types("rust", "src/gen_types.rs")
		with open(os.path.join(self.place, "Cargo.toml"), "w", encoding="utf-8") as f:
			f.write('[package]\nname = "gen"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n%s[profile.release]\nopt-level = 2\n' % self.crates())
		with open(os.path.join(self.place, "src", "main.rs"), "w", encoding="utf-8") as f:
			f.write('mod gen_types;\nfn main() {\n    let all: Vec<gen_types::OrderFulfilmentInput> = serde_json::from_reader(std::io::stdin()).unwrap();\n    println!("{}", serde_json::to_string(&all).unwrap());\n}\n')
		done = self.run_(cargo, "run", "--quiet", "--release", stdin=json.dumps([WHOLE, LEAST]), **RUST)
		self.assertEqual(json.loads(done.stdout), [WHOLE, LEAST])

	@staticmethod
	def crates():
		"""What the Rust client's own tests depend on, with the same features: it is built already, and serde's macros would be once more for any other set."""
		client = os.path.join(ROOT, "clients", "rust")
		with open(os.path.join(client, "Cargo.toml"), encoding="utf-8") as f:
			tested = re.search(r"^\[dev-dependencies\]\n(.*?\n)\n", f.read(), re.M | re.S).group(1)
		return tested + 'taskerd = { path = %s, features = ["tokio"] }\n' % json.dumps(client)

	def test_c(self):
		"""The scaffold's handlers read the context by it; here only that each compiler takes it without a warning."""
		self.types("c", "gen_types.h")
		with open(os.path.join(self.place, "use.c"), "w", encoding="utf-8") as f:
			f.write('#include "gen_types.h"\nint main(void)\n{\n\tstruct order_fulfilment_input in;\n\tint rc = order_fulfilment_input_read(&in, NULL);\n\torder_fulfilment_input_done(&in);\n'
			        '\treturn rc == -EINVAL ? 0 : 1;\n}\n')
		library = os.path.dirname(program("clients", "c", "libtasker.so.0"))
		for compiler in "gcc", "clang-14":
			if shutil.which(compiler):
				self.run_(compiler, "-std=c11", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-missing-field-initializers", "-Werror", "-I", os.path.join(ROOT, "clients", "c"), "use.c",
				          "-o", "use", "-L" + library, "-ltasker", "-Wl,-rpath," + library)
				self.run_("./use")

	def test_what_cannot_be_done(self):
		for options, what in ((["-l", "cobol"], "python, ruby"), ([], "which language"), (["-l", "python", "--style", "zod"], "dataclass, pydantic")):
			self.assertIn(what, self.run_(self.ctl, "generate", "types", TEMPLATE, *options, status=2).stderr)
		self.assertIn("no such file", self.run_(self.ctl, "generate", "types", "nothing.yaml", "-l", "c", status=1).stderr.lower())
		self.assertIn("no valid template", self.run_(self.ctl, "generate", "types", "-", "-l", "c", status=1, stdin="name: 7").stderr)
		self.assertIn("no step nope", self.run_(self.ctl, "generate", "handler", TEMPLATE, "-l", "c", "--step", "nope", status=1).stderr)
		path = self.types("c", "there.h")
		self.assertIn("--force", self.run_(self.ctl, "generate", "types", TEMPLATE, "-l", "c", "-o", path, status=1).stderr)
		self.run_(self.ctl, "generate", "types", TEMPLATE, "-l", "c", "-o", path, "--force")

	def test_a_template_without_schemas(self):
		source = json.dumps({"name": "bare", "namespace_name": "t", "version": "1.0.0", "steps": [{"name": "a", "handler": {"callable": "h"}}]})
		for language in "python", "ruby", "typescript", "rust", "c":
			self.assertIn("no types", self.run_(self.ctl, "generate", "types", "-", "-l", language, stdin=source).stderr)
		out = self.run_(self.ctl, "generate", "handler", "-", "-l", "python", "--step", "a", stdin=source).stdout
		self.assertIn('@step_handler("h")\ndef a(context):', out)

	def test_batches(self):
		"""A step after a batch takes the results of all its workers, whose names begin with the name that the template has."""
		steps = [{"name": "cut", "type": "batchable", "batch_config": {"batch_size": 5, "worker_template": "pick"}, "handler": {"callable": "cut"}},
		         {"name": "pick", "type": "batch_worker", "dependencies": ["cut"], "handler": {"callable": "pick"}},
		         {"name": "other", "handler": {"callable": "other"}},
		         {"name": "sum", "type": "deferred_convergence", "dependencies": ["pick", "other"], "handler": {"callable": "sum"}}]
		source = json.dumps({"name": "picking", "namespace_name": "t", "version": "1.0.0", "steps": steps})
		for language, all_of_it, one in (("python", 'pick = context.get_all_dependency_results("pick")', '@depends_on(other="other")'),
		                                 ("ruby", "_pick = context.get_all_dependency_results('pick')", "depends_on: { other: 'other' }"),
		                                 ("typescript", 'const pick = context.getAllDependencyResults("pick");', 'depends: { other: "other" }'),
		                                 ("rust", 'let _pick = step.batch_totals("pick")?;', 'let _other = step.dependency("other").ok();')):
			out = self.run_(self.ctl, "generate", "handler", "-", "-l", language, "--step", "sum", stdin=source).stdout
			self.assertIn(all_of_it, out)
			self.assertIn(one, out)
		path = os.path.join(self.place, "batch")
		self.run_(self.ctl, "generate", "scaffold", "-q", "-", "--language", "python", "--output", path, stdin=source)
		self.run_(harness.PYTHON, "-B", "-m", "unittest", cwd=path, PYTHONPATH=harness.PYTHON_CLIENT)

	def test_names_that_are_code(self):
		"""A name may hold whatever fits on one line. Nothing of it leaves the comment or the word that it stands in."""
		name = '"""+__import__("os").mkdir("own")+"""*/ #{`touch own`} $(touch own) \'; touch own; \' ??/ \u2028 \u202e end'
		source = json.dumps({"name": name, "namespace_name": "t", "version": "1.0.0", "input_schema": {"type": "object", "properties": {"a": {"type": "string", "description": name}}},
		                     "steps": [{"name": name, "description": name, "handler": {"callable": name}}]})
		for language in "python", "ruby", "typescript", "rust", "c":
			path = os.path.join(self.place, language)
			self.run_(self.ctl, "generate", "scaffold", "-q", "-", "--language", language, "--output", path, stdin=source)
			for place, _, files in os.walk(path):
				for file in files:
					with open(os.path.join(place, file), encoding="utf-8") as f:
						text = f.read()
					if file.endswith(".py"):
						self.harmless_python(text)
					elif not file.endswith(".json"):
						self.assertFalse(set(re.sub("\".*\"|'.*'", "", text)) & {"\u2028", "\u202e"}, file)
		self.run_("gcc", "-fsyntax-only", "-w", "-std=gnu11", "-I" + os.path.join(ROOT, "clients", "c"), *glob.glob(os.path.join(self.place, "c", "*.c")))
		self.harmless_shell(os.path.join(self.place, "c"), "t/%s@1.0.0" % name)
		self.assertFalse([place for place, dirs, files in os.walk(self.place) if "own" in dirs + files])

	def harmless_python(self, text):
		"""Nothing but the text's own imports calls __import__."""
		called = {n.func.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
		self.assertNotIn("__import__", called)

	def harmless_shell(self, place, which):
		"""The script of the project's test asks for the task by its whole name, with programs that only write down what they are told."""
		noted = os.path.join(self.place, "noted")
		stub = os.path.join(self.place, "stub")
		with open(stub, "w", encoding="utf-8") as f:
			f.write("#!/bin/sh\nfor word; do :; done\nprintf '%%s\\n' \"$word\" >>%s\n" % noted)
		os.chmod(stub, 0o755)
		temporary = os.path.join(self.place, "temporary")
		os.mkdir(temporary)
		subprocess.run(["sh", "./test.sh"], cwd=place, env={**os.environ, "TASKERD_PROGRAM": stub, "TASKERCTL": stub, "TMPDIR": temporary}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300, check=False)
		with open(noted, encoding="utf-8") as f:
			self.assertIn(which, f.read().split("\n"))
		self.assertEqual(os.listdir(temporary), [], "the daemon ended by itself: its directory goes all the same")


class Scaffolds(Case):
	"""Each project's own test, which runs the whole workflow against a taskerd of its own."""

	def test_what_is_published_nowhere(self):
		"""Whoever follows a project's README gets the client from taskerd's source, not what a registry has under that name."""
		for language in "python", "ruby", "typescript", "rust":
			path = self.scaffold(language)
			with open(os.path.join(path, "README.md"), encoding="utf-8") as f:
				self.assertRegex(f.read(), r"(pip|gem|npm) install /path/to/|cargo add --path /path/to/")
			for manifest in glob.glob(path + "/Cargo.toml") + glob.glob(path + "/package.json"):
				with open(manifest, encoding="utf-8") as f:
					self.assertNotRegex(f.read(), r"taskerd\W+[\d^]")

	def test_publishers(self):
		"""One for each name that an event has, where a worker registers them."""
		for language, file, one in (("python", "order_fulfilment_handlers.py", "register(ShopDonePublisher())"), ("ruby", "order_fulfilment_handlers.rb", "register(ShopDonePublisher.new)"),
		                            ("typescript", "order_fulfilment_handlers.ts", "register(new ShopDonePublisher())"), ("rust", "src/main.rs", '.publisher("Shop::Done",')):
			with self.subTest(language), open(os.path.join(self.scaffold(language), file), encoding="utf-8") as f:
				text = f.read()
				self.assertEqual((text.count(one), text.count("Shop::Done")), (1, 1), text)

	def test_python(self):
		self.run_(harness.PYTHON, "-B", "-m", "unittest", cwd=self.scaffold("python"), PYTHONPATH=harness.PYTHON_CLIENT)

	def test_ruby(self):
		if not os.path.exists(os.path.join(ROOT, "clients", "ruby", "lib", "taskerd", "testing.rb")):
			self.skipTest("the Ruby client has no helper for tests")
		self.run_(needs("ruby"), "test_order_fulfilment.rb", cwd=self.scaffold("ruby"), RUBYLIB=os.path.join(ROOT, "clients", "ruby", "lib"))

	def test_c(self):
		path, library = self.scaffold("c"), os.path.dirname(program("clients", "c", "libtasker.so.0"))
		self.run_("make", "-s", "order_fulfilment_handlers", cwd=path, CFLAGS="-I%s -Werror" % os.path.join(ROOT, "clients", "c"), LDLIBS="-L%s -ltasker -Wl,-rpath,%s" % (library, library),
		          PKG_CONFIG="true")
		self.run_("sh", "./test.sh", cwd=path)

	@unittest.skipUnless(os.environ.get("TASKERD_LONG"), "builds the Rust client: TASKERD_LONG=1 runs it")
	def test_rust(self):
		path = self.scaffold("rust")
		crate = os.path.join(ROOT, "clients", "rust")
		self.run_(needs("cargo"), "add", "--quiet", "--path", crate, cwd=path, **RUST)
		self.run_(needs("cargo"), "build", "--quiet", cwd=path, **RUST)
		self.run_("sh", "./test.sh", cwd=path, **RUST)

	def test_typescript(self):
		tsc = os.path.join(PACKAGE, "node_modules", ".bin", "tsc")
		if not os.path.exists(tsc):
			self.skipTest("the TypeScript client is not built")
		path = self.scaffold("typescript")
		os.makedirs(os.path.join(path, "node_modules"))
		os.symlink(PACKAGE, os.path.join(path, "node_modules", "taskerd"))
		os.symlink(os.path.join(PACKAGE, "node_modules", "@types"), os.path.join(path, "node_modules", "@types"))
		self.run_(tsc, cwd=path)
		self.run_(needs("node"), "--test", "dist/", cwd=path)


if __name__ == "__main__":
	unittest.main()
