"""The commands of tests/bench work, at the smallest size; what they say of speed is nobody's business here."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent / "bench"
sys.path.insert(0, str(BENCH))

from measure import figures, languages, proc, reach  # noqa: E402
from peers import catalogue, cluster  # noqa: E402

BUILD = os.environ.get("TASKERD_BUILD")


def command(name, *args):
    """What the command writes as JSON."""
    with tempfile.TemporaryDirectory() as where:
        out = Path(where) / "out.json"
        r = subprocess.run([BENCH / name, "--build", BUILD, "--json", out, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=2000, check=False)
        if r.returncode != 0:
            raise AssertionError(f"{name} {args} ended with {r.returncode}:\n{r.stdout[-3000:]}")
        return json.loads(out.read_text(encoding="utf-8")), r.stdout


@unittest.skipUnless(BUILD, "TASKERD_BUILD does not name a build directory")
class Commands(unittest.TestCase):
    def test_reach(self):
        report, said = command("run", "--quick", "--tasks", "20", "--worker", "c", "--part", "bulk", "--part", "worker-killed", "--part", "daemon-killed")
        by_name = {line["what"]: line for line in report["reach"]}
        self.assertEqual(len(by_name), 7, list(by_name))
        self.assertEqual(by_name["daemon killed: attempts lost while the worker lives"]["reached"], True)
        self.assertGreater(report["floor"]["step_rows_per_s"], 0)
        self.assertGreater(report["results"][0]["cpu_us_per_step"]["postgres"], 0)
        for name in by_name:
            self.assertIn(name, said)

    def test_steady(self):
        report, _ = command("steady", "--minutes", "0.05", "--rate", "20")
        self.assertGreater(report["samples"][-1]["tasks"], 0)
        self.assertEqual(set(report["found"]), set(report["samples"][0]) - {"minutes", "other_cpus_busy"})

    def test_a_peer_that_cannot_be_installed_is_told(self):
        with tempfile.TemporaryDirectory() as where:
            with self.assertRaisesRegex(figures.Failure, "no-such-program is not there"):
                catalogue.once(Path(where) / "x", "x", lambda cwd: catalogue.call(["no-such-program", "install"], cwd))
            self.assertFalse((Path(where) / "x/.done").exists())

    def test_a_cluster_without_taskerd(self):
        with cluster.Cluster(Path(BUILD), Path("/var/tmp")) as place:
            self.assertEqual(place.sql("SELECT datname FROM pg_database WHERE datname = 'peer'"), [["peer"]])
            self.assertEqual(place.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'taskerd' AND pid <> pg_backend_pid()"), [["0"]])
            self.assertEqual(place.sql("SHOW fsync"), [["on"]])
            postmaster, where = place.postmaster, place.dir
        proc.wait_until(lambda: not os.path.exists(f"/proc/{postmaster}"), "init to collect the postmaster", [])
        self.assertFalse(where.exists())


class Figures(unittest.TestCase):
    def test_slope(self):
        self.assertEqual(figures.slope([(0, 1), (1, 3), (2, 5)]), (2, 3))
        self.assertEqual(figures.slope([(1, 4)]), (0, 4))

    def test_quantile_is_a_value_that_was_seen(self):
        self.assertEqual(figures.quantile([5, 1, 3], 0.5), 3)
        self.assertEqual(figures.quantile(list(range(100)), 0.99), 99)
        self.assertEqual(figures.quantile([7], 0.99), 7)

    def test_middle_and_bounds(self):
        runs = [{"a": 1, "b": {"c": 9}}, {"a": 3, "b": {"c": 7}}, {"a": 2, "b": {"c": 8}}]
        self.assertEqual(figures.middle(runs), {"a": 2, "b": {"c": 8}})
        self.assertEqual(figures.bounds(runs), {"a": [1, 3], "b": {"c": [7, 9]}})

    def test_goals_are_held_against_figures(self):
        fair = {"three_steps_per_s": 95, "ratio": 0.95, "smallest_share": 0.3, "largest_share": 0.4, "run_twice": 0}
        self.assertEqual([line.reached for line in reach.nodes(fair)], [True, True, True])
        self.assertEqual([line.reached for line in reach.nodes({**fair, "ratio": 0.94, "smallest_share": 0.1, "run_twice": 1})], [False, False, False])

    def test_peers_are_compared_with_the_best(self):
        results = [{"name": n, "kind": k, "steps_per_s": r} for n, k, r in (
            ("taskerd, c", "workflow", 150), ("taskerd, python", "workflow", 60), ("slow", "workflow", 5), ("best", "workflow", 10), ("graphile", "jobs", 151))]
        self.assertEqual([(line.what[-4:], line.reached) for line in reach.peers(results)], [("best", True), ("jobs", False)])
        self.assertEqual(list(reach.peers(results[2:])), [])

    def test_a_language_that_cannot_be_run_is_told(self):
        def no():
            raise figures.Failure("its compiler is not there")
        languages.LANGUAGES["none"] = languages.Language(lambda build, socket: [], None, no)
        self.addCleanup(languages.LANGUAGES.pop, "none")
        self.assertEqual(languages.languages(["c", "none"]), (["c"], {"none": "its compiler is not there"}))


if __name__ == "__main__":
    unittest.main()
