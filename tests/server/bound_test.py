#!/usr/bin/env python3
"""Decoding's bound of a model whose experts are read from disk: by the figures that moxie doctor
keeps of the machine, which are made up here, and by the share of experts that is in memory."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import server
from python_support import MOXIE, ROOT
from server import Server
from sparse_models import Shape, write_sparse_gguf

HOOK = pathlib.Path(os.environ.get("MOXIE_BUILD", ROOT / "build")) / "libcounting_maps.so"
SHAPE = Shape(256, layers=4, heads=4, kv_heads=2, ffn=512, experts=8, used=2)
RUN = ("--context", "128", "--threads", "1")
BYTES_PER_TOKEN = 2 * (SHAPE.vocab * SHAPE.dim + SHAPE.layers * SHAPE.dim * (
    2 * SHAPE.dim + 2 * SHAPE.kv + SHAPE.used * 3 * SHAPE.ffn)) + 4 * SHAPE.layers * SHAPE.experts * SHAPE.dim


class Bound(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.model = pathlib.Path(cls.holder.name) / "sparse.gguf"
        write_sparse_gguf(cls.model, "f16", SHAPE)
        whole = cls.plan()
        cls.memory = (whole["least_bytes"] + whole["all_bytes"]) // 2
        cls.moxie("doctor", "--json", "--folder", cls.holder.name)
        cls.machine = pathlib.Path(server.CACHE.name) / "moxie/machine.json"
        cls.found = json.loads(cls.machine.read_text())

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    @staticmethod
    def moxie(*arguments):
        return subprocess.run([MOXIE, *map(str, arguments)], check=True, capture_output=True,
                              env={"XDG_CACHE_HOME": server.CACHE.name}).stdout

    @classmethod
    def plan(cls, *options):
        out = cls.moxie("plan", cls.model, "--json", "--memory-only", "--parallel", "1", *RUN, *options)
        return json.loads(out)["plans"][0]

    def stats(self, **figures):
        """Of a server where the doctor is made to have found `figures`, before and after an answer."""
        self.machine.write_text(json.dumps(self.found | figures))
        with Server(self.model, "--parallel", 1, "--memory", self.memory) as running:
            before = running.get("/moxie/stats")["models"][0]
            running.post("/v1/completions", {"prompt": [5, 6, 7], "max_tokens": 20, "ignore_eos": True})
            return before, running.get("/moxie/stats")["models"][0]

    def test_a_slow_disk_is_the_bound(self):
        before, after = self.stats(disk_bytes_per_s=1e6)
        plan = self.plan("--memory", self.memory)
        self.assertTrue(plan["streamed"])
        asked = SHAPE.layers * SHAPE.used
        expert = 3 * 2 * SHAPE.dim * SHAPE.ffn
        missing = asked * (plan["experts"] - plan["expert_slots"]) / plan["experts"]
        # A slot or two may differ from one process to the next, and whole pages are read.
        planned = before["disk_bytes_per_token"]
        self.assertGreater(planned, (missing - 2 * asked / plan["experts"]) * expert)
        self.assertLess(planned, (missing + 2 * asked / plan["experts"]) * (expert + 3 * 2 * 4096))
        for model in (before, after):
            self.assertEqual(model["decode_bound_by"], "disk")
            self.assertAlmostEqual(model["decode_bound_tokens_per_s"] * model["disk_bytes_per_token"], 1e6,
                                   delta=1)
        # What the answer missed takes the plan's place: whole experts of 19 tokens.
        missed = after["disk_bytes_per_token"] * 19 / (expert + 3 * 4096)
        self.assertNotEqual(after["disk_bytes_per_token"], planned)
        self.assertLessEqual(missed, after["expert_store"]["misses"])

    def test_memory_is_the_bound_beside_a_fast_disk(self):
        before, _ = self.stats(disk_bytes_per_s=1e15)
        self.assertEqual(before["decode_bound_by"], "memory")
        self.assertEqual(before["bytes_per_token"], BYTES_PER_TOKEN)
        # No memory reads less than 100 MB/s, and none more than 10 TB/s.
        rate = before["decode_bound_tokens_per_s"] * BYTES_PER_TOKEN
        self.assertTrue(1e8 < rate < 1e13, rate)

    def test_the_head_is_read_once(self):
        """Planning, which says whether the disk matters, describing and opening share it."""
        if not HOOK.exists():
            self.skipTest(f"no {HOOK.name} in this build")
        maps = pathlib.Path(self.holder.name) / "maps"
        hook = {"LD_PRELOAD": str(HOOK), "MOXIE_COUNTED_FILE": str(self.model), "MOXIE_COUNTED_LOG": str(maps)}
        self.machine.write_text(json.dumps(self.found))
        for memory in ("auto", self.memory):
            maps.write_bytes(b"")
            with Server(self.model, "--parallel", 1, "--memory", memory, environment=hook) as running:
                self.assertEqual("expert_store" in running.get("/moxie/stats")["models"][0], memory != "auto")
                self.assertEqual(maps.stat().st_size, 1)
                if memory == "auto":  # Else there is no room for both.
                    running.post("/moxie/reload", {})
                    self.assertEqual(maps.stat().st_size, 2)

    def test_says_nothing_by_the_figures_of_another_disk(self):
        for figures in ({"folder": "/proc"}, {"disk_bytes_per_s": 0}):
            before, after = self.stats(**figures)
            for model in (before, after):
                self.assertNotIn("decode_bound_tokens_per_s", model)
                self.assertIn("expert_store", model)


if __name__ == "__main__":
    unittest.main()
