"""The OpenAPI document is held against the daemon: schemathesis makes requests from it, good and bad ones, and every answer must be one that
the document knows. Run in a virtual environment that has schemathesis: tests/run web."""
import os
import subprocess
import sys
import unittest

import harness
import web
from harness import step, template

# Answered when something happens, or never.
WAITING = r"/wait$|/events/stream$|^/v1/tasks/\{task_uuid\}/events$|/consume$"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,negative_data_rejection,unsupported_method"
CONFIG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "schemathesis.toml")
EXAMPLES = os.environ.get("TASKERD_TEST_EXAMPLES", "2")  # made up for each operation, besides those that its limits ask for


class Document(harness.Case):
	def test_what_the_document_says_is_so(self):
		program = os.path.join(os.path.dirname(sys.executable), "schemathesis")
		if not os.access(program, os.X_OK):
			self.skipTest("schemathesis is not installed")
		node = self.daemon(self.database(), http_listen="0", http_anonymous_role="admin")
		self.apply(node, template("pair", [step("a", "t.nobody"), step("b", "t.nobody", after=["a"])]))
		self.create(node, "pair")
		url = "http://127.0.0.1:%d" % web.ports(node)[0]
		run = subprocess.run([program, "--config-file", CONFIG, "run", url + "/openapi.json", "--checks", CHECKS, "--exclude-path-regex", WAITING, "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES,
		                      "--mode", "all", "--seed", "1", "--generation-database", "none", "--continue-on-failure", "--no-color"], cwd=self.place, capture_output=True, text=True, timeout=2000, check=False)
		self.assertEqual(run.returncode, 0, run.stdout[-20000:] + run.stderr[-2000:])
		self.assertTrue(node.process.alive())
		self.assertEqual(self.web_of(node).get("/health/ready").status, 200)

	def web_of(self, node):
		w = web.Web(web.ports(node)[0])
		self.addCleanup(w.close)
		return w


if __name__ == "__main__":
	unittest.main()
