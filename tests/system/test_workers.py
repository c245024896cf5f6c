"""Workers in each language as services, set up as their pages say: from the wheel, the gem, the npm tarball, and a C program made with libtasker-dev; and the Python and Ruby packages."""
import glob
import os
import re
import shutil
import subprocess
import unittest

import machine
import blocks

SHOP = "/srv/shop"
PYTHON = """
from taskerd.step_handler.functional import step_handler

@step_handler("py.greet")
def greet(context):
    return {"greeting": "Hello " + context.get_input("name")}
"""
JAVASCRIPT = """
import { defineHandler } from 'taskerd';
export const Greet = defineHandler('js.greet', { inputs: { name: 'name' } }, async ({ name }) => ({ greeting: `Hello ${name}` }));
"""
TEMPLATE = """
name: %s
namespace_name: hello
version: 1.0.0
steps:
  - {name: greet, handler: {callable: %s}}
"""


def page(language):
	with open(os.path.join(blocks.ROOT, "clients", language, "README.md"), encoding="utf-8") as f:
		return f.read()


def block(language, first, kind):
	"""The block of a page that begins with this line."""
	return re.search(r"^```%s\n(%s.*?)^```$" % (kind, re.escape(first)), page(language), re.M | re.S).group(1)


def package(pattern):
	found = glob.glob(os.path.join(os.environ["TASKERD_PACKAGES"], pattern))
	if not found:
		raise unittest.SkipTest("contrib/package has made no %s here" % pattern)
	return found[0]


class Workers(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.m = machine.make("workers")
		cls.addClassCleanup(cls.m.close)
		cls.m.install("libtasker0", "libtasker-dev", "taskerd", "taskerctl", "python3-taskerd", "ruby-taskerd")
		cls.m.boot()
		cls.m.sh("systemctl", "enable", "--now", "taskerd.socket", "taskerd.service")
		cls.m.sh("useradd", "--system", "--no-create-home", "shop")
		cls.m.wait(lambda: "up," in cls.m.sh("taskerctl", "version", status=None), "the database")

	def run(self, result=None):
		bad = len(result.failures) + len(result.errors)
		super().run(result)
		if len(result.failures) + len(result.errors) > bad:
			print(self.m.sh("journalctl", "--no-pager", "-n", "60", status=None))

	def give(self, path, inside):
		"""A file of this host, to the machine."""
		os.makedirs(os.path.dirname(self.m.path(inside)), exist_ok=True)
		shutil.copy(path, self.m.path(inside))

	def template(self, name, handler, place="/root"):
		self.m.write("%s/%s.yaml" % (place, name), TEMPLATE % (name, handler))
		if place == "/root":
			self.m.sh("taskerctl", "template", "apply", "/root/%s.yaml" % name)

	def serve(self, unit, handler):
		self.m.sh("systemctl", "daemon-reload")
		self.m.sh("systemctl", "enable", "--now", unit)
		self.m.wait(lambda: handler in self.m.sh("taskerctl", "worker", "list"), unit)

	def works(self, unit, name):
		"""A task of it completes; the worker stops in order."""
		self.assertIn("complete", self.m.sh("taskerctl", "task", "create", "hello/" + name, "--context", '{"name": "Ada"}', "--wait", "--timeout", "60s"))
		self.assertNotEqual(self.m.sh("stat", "-c", "%u", "/proc/" + self.m.sh("systemctl", "show", "-p", "MainPID", "--value", unit).strip()).strip(), "0")
		self.m.sh("systemctl", "disable", "--now", unit)
		self.assertEqual(self.m.sh("systemctl", "show", "-p", "Result", "--value", unit).strip(), "success")

	def test_python_in_a_virtual_environment(self):
		wheel = package("taskerd-*.whl")
		self.give(wheel, "/root/" + os.path.basename(wheel))
		self.m.sh("python3", "-m", "venv", "--system-site-packages", SHOP + "/venv")
		self.m.sh(SHOP + "/venv/bin/pip", "install", "--no-index", "--no-deps", "--ignore-installed", "/root/" + os.path.basename(wheel))
		self.m.write(SHOP + "/shop.py", PYTHON)
		self.template("py", "py.greet", SHOP + "/templates")
		env = re.search(r"^As a service, `(\S+)` for.*?\n\n((?:    .*\n)+)", page("python"), re.M)
		self.m.write(env.group(1), re.sub("^    ", "", env.group(2), flags=re.M))
		self.serve("taskerd-worker@shop", "py.greet")
		self.works("taskerd-worker@shop", "py")

	def test_python_of_debian(self):
		self.m.write("/srv/deb/hello.py", PYTHON.replace("py.greet", "deb.greet"))
		self.template("deb", "deb.greet")
		self.m.write("/etc/taskerd/workers/deb.env", "COMMAND=/usr/bin/python3 -m taskerd worker /srv/deb/hello.py\n")
		self.serve("taskerd-worker@deb", "deb.greet")
		self.works("taskerd-worker@deb", "deb")

	def test_ruby_gem(self):
		gem = package("taskerd-*.gem")
		self.give(gem, "/root/taskerd.gem")
		self.m.sh("gem", "install", "--local", "--no-document", "/root/taskerd.gem")
		self.m.write(SHOP + "/app/handlers/greet.rb", block("ruby", "# greet.rb", "ruby"))
		self.template("greet", "greet", SHOP + "/config/tasks")
		self.m.write(re.search(r"^As a service, `(/etc/systemd\S+)`:$", page("ruby"), re.M).group(1), block("ruby", "[Unit]", "ini"))
		self.serve("shop-worker", "greet")
		self.works("shop-worker", "greet")

	def test_ruby_of_debian(self):
		self.m.write("/srv/rb/greet.rb", block("ruby", "# greet.rb", "ruby").replace('"greet"', '"rb.greet"'))
		self.template("rb", "rb.greet")
		self.m.write("/etc/taskerd/workers/rb.env", "COMMAND=/usr/bin/taskerd-ruby-worker /srv/rb/greet.rb\n")
		self.serve("taskerd-worker@rb", "rb.greet")
		self.works("taskerd-worker@rb", "rb")

	def test_c(self):
		self.m.write("/root/worker.c", block("c", "/* worker.c */", "c"))
		self.m.sh("sh", "-ec", "cd /root; " + re.search(r"^    (cc -o worker .*)$", page("c"), re.M).group(1) + "; install worker /usr/local/bin/worker")
		self.template("c", "hello.greet")
		self.m.write("/etc/systemd/system/c-worker.service", block("c", "[Service]", "ini") + "DynamicUser=yes\n[Install]\nWantedBy=multi-user.target\n")
		self.serve("c-worker", "hello.greet")
		self.works("c-worker", "c")

	def test_rust_is_deployed_as_c_is(self):
		"""Its program has the same options (clients/rust/daemon/test_rust.py runs it with them), so its unit is the same."""
		self.assertEqual(block("rust", "[Service]", "ini"), block("c", "[Service]", "ini"))

	def test_typescript_from_the_tarball(self):
		tarball, node = package("taskerd-*.tgz"), shutil.which("node")
		project = os.path.join(os.environ["TASKERD_SYSTEM"], "project")
		shutil.rmtree(project, ignore_errors=True)
		os.makedirs(project)
		with open(os.path.join(project, "package.json"), "w", encoding="utf-8") as f:
			f.write('{"name": "shop", "type": "module", "private": true}')
		subprocess.run(["npm", "install", "--no-audit", "--no-fund", tarball], cwd=project, check=True, stdout=subprocess.DEVNULL)
		shutil.copytree(project, self.m.path(SHOP), dirs_exist_ok=True, symlinks=True)
		self.give(node, "/usr/bin/node")
		if self.m.sh("node", "-p", "parseInt(process.versions.node) >= 20", status=None).strip() != "true":
			self.skipTest("%s does not run in the machine, or is older than 20" % node)
		self.m.write(SHOP + "/handlers/hello.mjs", JAVASCRIPT)
		self.template("js", "js.greet")
		self.m.write("/etc/taskerd/workers/js.env", re.search(r"^    (COMMAND=.*)$", page("typescript"), re.M).group(1) + "\n")
		self.serve("taskerd-worker@js", "js.greet")
		self.works("taskerd-worker@js", "js")


if __name__ == "__main__":
	unittest.main()
