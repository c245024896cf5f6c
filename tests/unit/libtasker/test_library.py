"""libtasker as others get it: what it exports is what its header declares and its manual page names; the header is C99 and C++; an installed copy is found by
pkg-config and used from both.

usage: test_library.py LIBRARY BUILD_DIR SOURCE_ROOT"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(sys.argv[3]) / "tests" / "unit" / "taskerctl"))
import tap  # noqa: E402

LIBRARY, BUILD, ROOT = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
C99 = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
PROGRAM = """#include <tasker.h>
#include <stdio.h>
static enum tasker_verdict noop(void *arg, tasker_step *s) { (void)arg; (void)s; return TASKER_DONE; }
int main(void)
{
	struct tasker_error err;
	tasker_worker *w;
	if (tasker_worker_new(&w, 0, &err) < 0 || tasker_worker_add(w, "x", noop, 0) < 0)
		return 1;
	tasker_worker_free(w);
	puts(tasker_version());
	return 0;
}
"""


def run(*args, **more):
	done = subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **more)
	if done.returncode:
		raise AssertionError(f"{args}: {done.stdout}")
	return done.stdout


def without_comments(text):
	return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


class Interface(unittest.TestCase):
	header = without_comments((ROOT / "clients/c/tasker.h").read_text())

	def declared(self):
		return {n for n in re.findall(r"\b(tasker_\w+)\((?!\*)", self.header) if not n.endswith("_fn")}

	def test_exports_are_what_the_header_declares(self):
		rows = run("nm", "-D", "--defined-only", LIBRARY).splitlines()
		exported = {r.split()[-1].split("@")[0] for r in rows if r.split()[-2] in "TDBRVW"}
		self.assertGreater(len(exported), 90)
		self.assertEqual(exported, self.declared())
		self.assertTrue(all(r.split()[-1].endswith("@@LIBTASKER_0") for r in rows if r.split()[-2] == "T"), rows)

	def test_the_map_names_them(self):
		named = set(re.findall(r"^\t(tasker_\w+);$", (ROOT / "clients/c/libtasker.map").read_text(), re.M))
		self.assertEqual(named, self.declared())

	def test_the_manual_page_names_them(self):
		named = set(re.findall(r"\btasker_\w+", (ROOT / "man/libtasker.3.scd").read_text())) - {"tasker_program", "tasker_options", "tasker_error", "tasker_value", "tasker_step", "tasker_verdict", "tasker_worker", "tasker_worker_options", "tasker_handler_fn"}
		self.assertEqual(named, self.declared())

	def test_each_has_a_manual_page(self):
		with tempfile.TemporaryDirectory() as place:
			run(sys.executable, ROOT / "man/functions.py", ROOT / "clients/c/tasker.h", place)
			pages = {path.stem: path.read_text() for path in pathlib.Path(place).iterdir()}
			self.assertEqual(set(pages), self.declared())
			self.assertEqual([name for name, page in pages.items() if "See libtasker(3)." in page], [], "functions without a word in tasker.h")
			self.assertIn("struct tasker_failure {", pages["tasker_step_fail"])
			if shutil.which("mandoc") and shutil.which("groff"):
				run("sh", ROOT / "man/lint.sh", *sorted(pathlib.Path(place).iterdir()))

	def test_it_needs_msgpack_alone(self):
		needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", LIBRARY))
		self.assertEqual([n for n in needed if not n.startswith(("libc.", "libmsgpack", "ld-linux", "libasan", "libubsan", "libtsan"))], [])
		self.assertEqual(re.findall(r"SONAME.*\[(.*)\]", run("readelf", "-d", LIBRARY)), ["libtasker.so.0"])


class Installed(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.place = pathlib.Path(tempfile.mkdtemp(prefix="libtasker-"))
		cls.addClassCleanup(shutil.rmtree, cls.place, True)
		prefix = next(o for o in __import__("json").loads(run("meson", "introspect", "--buildoptions", BUILD)) if o["name"] == "prefix")["value"]
		run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", cls.place)
		root = cls.place / prefix.lstrip("/")
		cls.pc = next(root.rglob("libtasker.pc"))
		env = {**os.environ, "PKG_CONFIG_PATH": str(cls.pc.parent)}
		cls.flags = run("pkg-config", "--define-variable=prefix=" + str(root), "--cflags", "--libs", "libtasker", env=env).split()
		cls.libs = str(next(root.rglob("libtasker.so")).parent)

	def compile(self, *command, text, suffix):
		source = self.place / ("program" + suffix)
		source.write_text(text)
		run(*command, "-o", self.place / "program", source, *self.flags)
		self.assertEqual(run(self.place / "program", env={**os.environ, "LD_LIBRARY_PATH": self.libs}).strip(), run("pkg-config", "--modversion", self.pc).strip())

	def sanitizers(self):
		flags = run("nm", "-D", LIBRARY)
		return ["-fsanitize=address,undefined"] if "__asan_init" in flags else ["-fsanitize=thread"] if "__tsan_init" in flags else []

	def test_from_c(self):
		self.compile("gcc", *C99, *self.sanitizers(), text=PROGRAM, suffix=".c")

	def test_from_cpp(self):
		if not shutil.which("g++"):
			self.skipTest("no g++")
		self.compile("g++", "-std=c++17", "-pedantic", "-Wall", "-Wextra", "-Werror", *self.sanitizers(), text=PROGRAM, suffix=".cpp")

	def test_the_manual_page_is_installed(self):
		if shutil.which("scdoc"):
			self.assertTrue(list(self.place.rglob("libtasker.3*")))
		self.assertTrue(list(self.place.rglob("man3/tasker_step_retry.3")))


if __name__ == "__main__":
	sys.exit(tap.main(sys.modules[__name__]))
