#!/usr/bin/env python3
"""A model's file that is cut short while it is opened or read: one sentence and exit status 1, or
the right answer; never a signal and never another answer. Under a budget and without one."""
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

from python_support import MOXIE, PATIENCE_S, ROOT, moxie


class Changes(unittest.TestCase):
    def test_a_file_cut_short_at_any_time_is_an_error_or_no_matter(self):
        numbers = random.Random(1)
        with tempfile.TemporaryDirectory() as holder:
            whole, file = (pathlib.Path(holder) / name for name in ("whole.gguf", "model.gguf"))
            moxie("upcycle", ROOT / "tests/golden/models/qwen3", whole, "--experts", "64", "--used",
                  "2", "--noise", "0.5")
            arguments = ["run", file, "the", "--raw", "--ignore-eos", "--max-tokens", "300", "--json"]
            shutil.copy(whole, file)
            right, span = None, 60.0
            for _ in range(3):
                begin = time.monotonic()
                right = json.loads(moxie(*arguments))["ids"]
                span = min(span, time.monotonic() - begin)  # The machine may have been busy.
            least = json.loads(moxie("plan", file, "--memory-only", "--json"))["plans"][0]["least_bytes"]
            self.assertIn("experts", json.loads(moxie(*arguments, "--memory", least)))  # On disk.
            ends = {0: 0, 1: 0}
            for turn in range(60):
                shutil.copy(whole, file)
                budget = ["--memory", str(least)] if turn % 2 else []
                run = subprocess.Popen([MOXIE, *map(str, arguments + budget)], text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                cut = numbers.choice([0, 4096, whole.stat().st_size // 2, whole.stat().st_size - 1])
                timer = threading.Timer(numbers.random() * span, os.truncate, (file, cut))
                timer.start()
                out, err = run.communicate(timeout=PATIENCE_S)
                timer.join()
                self.assertIn(run.returncode, ends, err)
                ends[run.returncode] += 1
                if run.returncode == 0:
                    self.assertEqual(json.loads(out)["ids"], right)
                else:
                    self.assertEqual(err.count("\n"), 1, err)
                    self.assertRegex(err, "^moxie")
            print(f"{ends[0]} answers, {ends[1]} errors")
            self.assertGreater(ends[1], 0)


if __name__ == "__main__":
    unittest.main()
