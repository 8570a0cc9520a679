#!/usr/bin/env python3
"""A real memory limit: in a control group that may use the budget and no more, a mixture several
times as large answers as it does with all the memory there is, in one file and in several, and the
group never meets its limit; so it does where nobody says what the budget is. Importance is measured
there, too; types for a size are not to be had."""
import json
import pathlib
import tempfile
import unittest

from cgroup import Group
from python_support import moxie, skip, smollm2

BUDGET = 128 << 20
LIMIT = 192 << 20  # Of which moxie leaves 64 MiB alone where it is not told a budget.
RUN = ["Why is the sky blue?", "--context", "64", "--batch", "32", "--max-tokens", "12",
       "--ignore-eos", "--json"]
TEXT = pathlib.Path(__file__).resolve().parent.parent / "golden/smollm2_text.txt"


# Skipping is for before the tests: unittest takes an exit within one for a failure.
DENSE = smollm2()
try:
    GROUP, LARGER_GROUP, SPLIT_GROUP = Group(BUDGET), Group(LIMIT), Group(BUDGET)
except OSError as error:
    skip(f"no control group can be made here: {error}")


class Budget(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.holder.name)
        cls.model = cls.folder / "mixture.gguf"
        moxie("upcycle", DENSE, cls.model, "--experts", "16", "--used", "2", "--noise", "0.1")

    @classmethod
    def tearDownClass(cls):
        for group in (GROUP, LARGER_GROUP, SPLIT_GROUP):
            group.remove()
        cls.holder.cleanup()

    def check_answer(self, group, limit, free_model, model, *options):
        """In the group, the second model answers as the first does without a limit."""
        free = json.loads(moxie("run", free_model, *RUN))
        self.assertNotIn("experts", free)
        run = group.run("run", model, *RUN, *options)
        self.assertEqual(run.returncode, 0, run.stderr[-500:])
        limited = json.loads(run.stdout)
        self.assertEqual(limited["ids"], free["ids"])
        self.assertEqual(limited["text"], free["text"])
        self.assertLessEqual(group.peak(), limit)
        self.assertEqual(group.limit_hits(), 0)  # Else the limit could hide a peak.
        self.assertGreater(limited["experts"]["misses"], 0)
        print(f"peak {group.peak() / 2**20:.1f} MiB of {limit >> 20}, experts {limited['experts']}")

    def test_a_model_four_times_the_budget_answers_as_without_one(self):
        self.assertGreaterEqual(self.model.stat().st_size, 4 * BUDGET)
        self.check_answer(GROUP, BUDGET, self.model, self.model, "--memory", BUDGET)

    def test_what_nobody_says_is_found_in_the_group(self):
        self.assertGreaterEqual(self.model.stat().st_size, 4 * LIMIT)
        self.check_answer(LARGER_GROUP, LIMIT, self.model, self.model)

    def test_a_split_model_answers_as_the_whole_file(self):
        whole, split = self.folder / "whole.gguf", self.folder / "parts.gguf"
        small, bf16 = self.folder / "small.gguf", self.folder / "bf16"
        moxie("upcycle", DENSE, small, "--experts", "4", "--used", "2", "--noise", "0.1")
        moxie("convert", small, bf16)
        moxie("convert", bf16, whole, "--type", "q8_0")
        moxie("convert", bf16, split, "--type", "q8_0", "--split", "100MiB")
        parts = sorted(self.folder.glob("parts-*.gguf"))
        self.assertGreaterEqual(len(parts), 4)
        self.assertGreater(whole.stat().st_size, 2 * BUDGET)
        self.check_answer(SPLIT_GROUP, BUDGET, whole, parts[0], "--memory", BUDGET)

    def test_bench_stays_below_it_and_says_what_the_disk_allows(self):
        run = GROUP.run("bench", self.model, "--memory", BUDGET, "--prompt-tokens", "16", "--generate-tokens", "12",
                        "--repetitions", "1", "--json")
        self.assertEqual(run.returncode, 0, run.stderr[-500:])
        out = json.loads(run.stdout)
        bound, decode = out["bound"], out["experts"]["decode"]
        # 12 tokens after the first; nothing decodes faster than what it missed is read.
        self.assertAlmostEqual(bound["decode_bytes_from_disk"], decode["bytes_read"] / 12, delta=1)
        self.assertGreater(decode["bytes_read"], 0)
        slower = max(bound["decode_bytes_from_disk"] / bound["disk_bytes_per_s"],
                     (bound["bytes_per_token"] + bound["cache_bytes_per_token"]) / bound["memory_bytes_per_s"])
        self.assertAlmostEqual(bound["decode_tokens_per_s"] * slower, 1)
        self.assertLessEqual(GROUP.peak(), BUDGET)

    def test_importance_is_measured_while_experts_stream(self):
        wanted, got = self.folder / "free.gguf", self.folder / "limited.gguf"
        how = ["--file", TEXT, "--context", "64", "--chunks", "2"]
        moxie("importance", self.model, "--out", wanted, *how)
        run = GROUP.run("importance", self.model, "--out", got, *how, "--memory", BUDGET)
        self.assertEqual(run.returncode, 0, run.stderr[-500:])
        self.assertEqual(got.read_bytes(), wanted.read_bytes())

    def test_types_for_a_size_need_the_model_in_memory_and_say_so(self):
        run = GROUP.run("quantize", self.model, self.folder / "q.gguf", "--bits", "5", "--file", TEXT)
        self.assertEqual(run.returncode, 1, run.stderr[-500:])
        self.assertEqual(run.stderr.count("\n"), 1, run.stderr)
        self.assertIn("needs at least", run.stderr)


if __name__ == "__main__":
    unittest.main()
