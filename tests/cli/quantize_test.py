#!/usr/bin/env python3
"""moxie quantize, end to end: statuses, messages, and what an interruption leaves."""
import pathlib
import signal
import subprocess
import tempfile
import unittest

from convert_test import MODELS, write_sparse_mixtral
from python_support import MOXIE, PATIENCE_S, wait_for


def quantize(*args, **kwargs):
    return subprocess.run([MOXIE, "quantize", *map(str, args)], capture_output=True, text=True,
                          timeout=600, **kwargs)


class Quantize(unittest.TestCase):
    def setUp(self):
        self.holder = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.holder.name)
        self.addCleanup(self.holder.cleanup)

    def bad(self, status, *args):
        result = quantize(*args)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertTrue(result.stderr.startswith("moxie quantize: "), result.stderr)
        return result.stderr

    def test_bad_usage_is_2_and_bad_input_1(self):
        model, out = MODELS / "mixtral", self.folder / "o.gguf"
        self.assertIn("q9_z", self.bad(1, model, out, "--type", "q9_z"))
        self.bad(2, model, out)
        self.bad(2, model, out, "--type", "q4_0", "--size", "1GiB")
        self.bad(2, model, out, "--size", "1GiB")
        self.bad(2, model, out, "--size", "large", "--file", __file__)
        self.bad(1, self.folder / "no.gguf", out, "--type", "q4_0")
        self.bad(1, model, out, "--type", "q4_0", "--importance", __file__)
        self.bad(1, model, out, "--type", "q4_0", "--memory", "100")
        self.bad(1, model, out, "--bits", "3", "--file", self.folder / "no.txt")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_prints_the_choices_for_a_size(self):
        result = quantize(MODELS / "olmoe", self.folder / "o.gguf", "--bits", "9", "--file",
                          MODELS.parent / "smollm2_text.txt")
        self.assertEqual((result.returncode, result.stdout), (0, ""), result.stderr)
        self.assertIn("layer", result.stderr)
        self.assertIn("nats a token is expected", result.stderr)

    def test_interrupted_leaves_nothing(self):
        write_sparse_mixtral(self.folder / "large")
        process = subprocess.Popen([MOXIE, "quantize", self.folder / "large",
                                    self.folder / "o.gguf", "--type", "q8_0"],
                                   stderr=subprocess.PIPE)
        wait_for(lambda: list(self.folder.glob(".*.partial")) or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
        self.assertEqual((process.returncode, errors), (130, b""))
        self.assertEqual([path.name for path in self.folder.iterdir()], ["large"])


if __name__ == "__main__":
    unittest.main()
