#!/usr/bin/env python3
"""A real memory limit: a model ten times as large is converted, both ways, and quantised."""
import pathlib
import subprocess
import tempfile
import unittest

from cgroup import Group
from convert_test import write_sparse_mixtral
from python_support import MOXIE, skip

LIMIT = 48 << 20

# Skipping is for before the tests: unittest takes an exit within one for a failure.
try:
    GROUP = Group(LIMIT)
except OSError as error:
    skip(f"no control group can be made here: {error}")


class MemoryLimit(unittest.TestCase):
    @classmethod
    def tearDownClass(cls):
        GROUP.remove()

    def test_ten_times_the_memory(self):
        with tempfile.TemporaryDirectory() as holder:
            folder = pathlib.Path(holder)
            size = write_sparse_mixtral(folder / "large", layers=3)
            self.assertGreater(size, 10 * LIMIT)
            steps = (("convert", "large", "m.gguf"), ("convert", "m.gguf", "back"),
                     ("convert", "large", "q.gguf", "--type", "q8_0"),
                     ("quantize", "large", "a.gguf", "--type", "q8_0"),
                     ("quantize", "a.gguf", "b.gguf", "--type", "q4_k_m"))
            for command, source, out, *options in steps:
                with self.subTest(command=command, out=out):
                    run = subprocess.run([MOXIE, command, folder / source, folder / out, "--memory",
                                          "8MiB", *options], capture_output=True, text=True,
                                         timeout=600, preexec_fn=GROUP.enter)
                    self.assertEqual(run.returncode, 0, run.stderr)
            shards = (folder / "back/model.safetensors").stat().st_size
            self.assertGreater(shards, 10 * LIMIT)


if __name__ == "__main__":
    unittest.main()
