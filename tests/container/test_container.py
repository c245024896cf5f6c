"""The container file and the page about it: what docs/operations.md says of containers is run by podman, and the image is what it says.

The base image is not downloaded: debootstrap makes a tree of the same release, which stands under its name in a store of this test. Containers have no network here,
runc, and limits that a sandbox allows: containers.conf below says so, the commands are those of the page.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "docs"))

import blocks  # noqa: E402
import shell  # noqa: E402

BASE = "docker.io/library/debian:12-slim"
PAGE = "docs/operations.md"
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "%s/store"\nrunroot = "/run/taskerd-container"\n'
CONTAINERS = '[containers]\nnetns = "none"\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'


class Container(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.place = os.environ.get("TASKERD_CONTAINER")
		if not cls.place or not shutil.which("podman"):
			raise unittest.SkipTest("needs podman and packages: tests/container/run")
		os.makedirs(cls.place, exist_ok=True)
		for name, text in (("storage.conf", STORAGE % cls.place), ("containers.conf", CONTAINERS)):
			with open(os.path.join(cls.place, name), "w", encoding="utf-8") as f:
				f.write(text)
		cls.shell = shell.Shell(cls.place, {"PATH": os.environ["PATH"], "HOME": cls.place, "LC_ALL": "C.UTF-8", "BUILDAH_ISOLATION": "chroot",
		                                    "CONTAINERS_STORAGE_CONF": cls.place + "/storage.conf", "CONTAINERS_CONF": cls.place + "/containers.conf"})
		cls.addClassCleanup(cls.shell.close)
		cls.addClassCleanup(cls.shell.run, "podman rm --force --volumes taskerd; podman volume prune --force")
		cls.base()
		cls.must("rm -rf clone && mkdir clone && cd clone && ln -s %s/contrib contrib && ln -s %s build-packages" % (ROOT, os.environ["TASKERD_PACKAGES"]))

	@classmethod
	def must(cls, command):
		status, output = cls.shell.run(command)
		if status:
			raise AssertionError("%s ended with %d:\n%s" % (command, status, output[-4000:]))
		return output

	@classmethod
	def base(cls):
		"""The base image, made once."""
		if cls.shell.run("podman image exists " + BASE)[0] == 0:
			return
		cls.must("rm -rf tree && debootstrap --variant=minbase bookworm tree >debootstrap.log")
		shutil.copytree("/etc/apt", cls.place + "/tree/etc/apt", dirs_exist_ok=True, symlinks=True)  # the archive that this host uses
		cls.must("tar -C tree -c . | podman import - %s && rm -rf tree" % BASE)

	def run_one(self, command):
		"""Run it, and wait as a reader does until a container that was started is healthy."""
		status, output = self.shell.run(command)
		if status == 0 and re.match(r"podman (run|start|restart) ", command):
			self.shell.run("until podman healthcheck run taskerd >health.log 2>&1; do sleep 0.1; done")
		return status, output

	def test_1_the_page(self):
		found = [b for b in blocks.read(PAGE)[0] if "container" in b.words]
		self.assertTrue(found)
		shell.follow(found, self.run_one, None)

	def test_2_the_image(self):
		image = json.loads(self.must("podman image inspect taskerd"))[0]["Config"]
		self.assertEqual((image["User"], image["StopSignal"], image["Entrypoint"]), ("taskerd", "SIGTERM", ["/usr/sbin/taskerd"]))
		self.assertEqual(set(image["Volumes"]), {"/var/lib/taskerd", "/run/taskerd"})

	def test_3_it_is_not_root_and_holds_no_more_than_it_needs(self):
		self.assertEqual(self.must("podman exec taskerd id -u").strip(), "990")
		self.assertEqual(self.must("podman exec taskerd sh -c 'ls -d /etc/postgresql/*/main /packages 2>/dev/null || true'").strip(), "")

	def test_4_the_signal_stops_it_in_order_and_its_data_stay(self):
		self.must("podman exec taskerd taskerctl namespace list")
		self.must("podman stop --time 60 taskerd")
		self.assertEqual(self.must("podman inspect --format '{{.State.ExitCode}}' taskerd").strip(), "0")
		self.assertNotEqual(self.shell.run("podman healthcheck run taskerd")[0], 0)
		self.run_one("podman start taskerd")
		self.assertIn("database up", " ".join(self.must("podman logs taskerd 2>&1").split()))


if __name__ == "__main__":
	unittest.main()
