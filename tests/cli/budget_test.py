#!/usr/bin/env python3
"""A real memory limit: in a control group that may use the budget and no more, a mixture several
times as large answers as it does with all the memory there is, and the group's own peak stays
below the budget."""
import json
import pathlib
import tempfile
import unittest

from cgroup import Group
from python_support import moxie, skip, smollm2

BUDGET = 128 << 20
RUN = ["Why is the sky blue?", "--context", "64", "--batch", "32", "--max-tokens", "12",
       "--ignore-eos", "--json"]


# Skipping is for before the tests: unittest takes an exit within one for a failure.
DENSE = smollm2()
try:
    # A little above the budget: at the budget itself the group could hide a peak.
    GROUP = Group(BUDGET + (8 << 20))
except OSError as error:
    skip(f"no control group can be made here: {error}")


class Budget(unittest.TestCase):
    def test_a_model_four_times_the_budget_answers_as_without_one(self):
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / "mixture.gguf"
            moxie("upcycle", DENSE, model, "--experts", "16", "--used", "2", "--noise", "0.1")
            self.assertGreaterEqual(model.stat().st_size, 4 * BUDGET)
            free = json.loads(moxie("run", model, *RUN))
            self.assertNotIn("experts", free)
            try:
                run = GROUP.run("run", model, *RUN, "--memory", BUDGET)
                peak = GROUP.peak()
            finally:
                GROUP.remove()
            self.assertEqual(run.returncode, 0, run.stderr[-500:])
            limited = json.loads(run.stdout)
            self.assertEqual(limited["ids"], free["ids"])
            self.assertEqual(limited["text"], free["text"])
            self.assertLessEqual(peak, BUDGET)
            self.assertGreater(limited["experts"]["misses"], 0)
            print(f"peak {peak / 2**20:.1f} MiB of {BUDGET >> 20}, experts {limited['experts']}")


if __name__ == "__main__":
    unittest.main()
