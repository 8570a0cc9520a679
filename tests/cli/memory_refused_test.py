#!/usr/bin/env python3
"""Memory, threads and io_uring that the system refuses, at any point of a command: one sentence and
exit status 1, or the right answer; never a signal, a command that hangs or another answer.
MOXIE_REFUSED_POINTS says how many points of each command are tried (0: all),
MOXIE_REFUSED_SEED which."""
import concurrent.futures
import json
import os
import pathlib
import random
import subprocess
import tempfile
import unittest

from python_support import MOXIE, PATIENCE_S, ROOT, moxie, skip

HOOK = pathlib.Path(os.environ.get("MOXIE_BUILD", ROOT / "build")) / "librefusing_memory.so"
POINTS = int(os.environ.get("MOXIE_REFUSED_POINTS", "40"))
MODEL = ROOT / "tests/golden/models/mixtral"
ANSWER = ["the", "--raw", "--ignore-eos", "--max-tokens", "8", "--json"]

if not HOOK.exists():
    skip(f"no {HOOK.name} in this build")


def call(args, cache=None, **refusals):
    settings = {f"MOXIE_REFUSE_{name}": str(value) for name, value in refusals.items()}
    return subprocess.run([MOXIE, *map(str, args)], capture_output=True, text=True, timeout=PATIENCE_S,
                          stdin=subprocess.DEVNULL,
                          env={**os.environ, "LD_PRELOAD": str(HOOK), **settings,
                               **({"XDG_CACHE_HOME": cache} if cache else {})})


def ids(out):
    return json.loads(out)["ids"]


def weights(out):
    return json.loads(out)["plans"][0]["memory"]["weights"]


class Refused(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.mixture = pathlib.Path(cls.holder.name) / "mixture.gguf"
        moxie("upcycle", ROOT / "tests/golden/models/qwen3", cls.mixture, "--experts", "64",
              "--used", "2", "--noise", "0.5")

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    def setUp(self):
        self.numbers = random.Random(int(os.environ.get("MOXIE_REFUSED_SEED", "1")))

    def count(self, args):
        """How many allocations a command makes."""
        with tempfile.NamedTemporaryFile() as log:
            self.assertEqual(call(args, LOG=log.name).returncode, 0)
            return int(log.read())

    def check(self, args, answer, refusals):
        """Makes the command once for each, and says how many of them were refused."""
        right = answer(moxie(*args))
        refused = 0
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for what, run in zip(refusals, pool.map(lambda r: call(args, **r), refusals)):
                with self.subTest(**what):
                    self.assertIn(run.returncode, (0, 1), run.stderr[-500:])
                    if run.returncode == 0:
                        self.assertEqual(answer(run.stdout), right)
                    else:
                        refused += 1
                        self.assertEqual(run.stderr.count("\n"), 1, run.stderr)
                        self.assertRegex(run.stderr, "^moxie")
        print(f"{args[0]}: {refused} of {len(refusals)} refused")
        return refused

    def points(self, args):
        """One allocation alone, and from one on all."""
        every = range(1, self.count(args) + 1)
        some = self.numbers.sample(every, min(POINTS or len(every), len(every)))
        return [{"FROM": point, **more} for point in some for more in ({"COUNT": 1}, {})]

    def streamed(self, threads=2):
        options = ["--threads", threads]
        plan = moxie("plan", self.mixture, *options, "--memory-only", "--json")
        args = ["run", self.mixture, *ANSWER, *options, "--memory",
                json.loads(plan)["plans"][0]["least_bytes"]]
        self.assertGreater(json.loads(moxie(*args))["experts"]["misses"], 8)
        return args

    def test_memory_of_a_model_in_memory(self):
        args = ["run", MODEL, *ANSWER, "--threads", "2"]
        self.assertGreater(self.check(args, ids, self.points(args)), POINTS)

    def test_memory_of_experts_on_disk(self):
        args = self.streamed()
        self.assertGreater(self.check(args, ids, self.points(args)), POINTS)

    def test_memory_of_a_plan(self):
        args = ["plan", MODEL, "--memory-only", "--json"]
        self.assertGreater(self.check(args, weights, self.points(args)), POINTS)

    def test_io_uring_at_the_start_and_midway_is_done_without(self):
        args = self.streamed()
        starts = [{"URING": start} for start in (0, 1, 2, 7, 20, 50)]
        self.assertEqual(self.check(args, ids, starts), 0)

    def test_doctor_says_how_files_are_read_and_why_not_better(self):
        for refusals, method in (({}, "io_uring"), ({"URING": 0}, "pread (io_uring: Operation not permitted)")):
            with tempfile.TemporaryDirectory() as cache, self.subTest(method=method):
                run = call(["doctor", "--json", "--folder", cache], cache=cache, **refusals)
                self.assertEqual(run.returncode, 0, run.stderr)
                disk, missing = (json.loads(run.stdout)[key] for key in ("disk", "missing"))
                if not refusals and disk["method"].startswith("pread"):
                    continue  # Refused here anyway.
                self.assertTrue(disk["method"].startswith(method + ", "), disk)
                said = [line for line in missing if "io_uring is refused" in line]
                self.assertEqual(len(said), len(refusals), missing)
                self.assertTrue(all(method in line for line in said), said)

    def test_threads_to_compute_and_to_read(self):
        args = self.streamed(threads=4)  # 3 to compute with, then 8 to read with.
        few = [{"THREAD": thread, "URING": start} for thread in range(1, 12) for start in (0, 1, 20)]
        self.assertEqual(self.check(args, ids, few), len(few))

    def test_io_uring_midway_and_then_memory(self):
        args = self.streamed()
        self.check(args, ids, [{"URING": self.numbers.randint(1, 40), **point}
                               for point in self.points(args)])


if __name__ == "__main__":
    unittest.main()
