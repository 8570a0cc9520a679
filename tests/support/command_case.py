"""What tests of the command line share: one run of the program, and what is expected of every run."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from python_support import MOXIE, PATIENCE_S, ROOT
from tiny_gguf import write_tiny_gguf

MODELS = ROOT / "tests/golden/models"
CACHE = tempfile.TemporaryDirectory()  # Not the user's, for what is measured here is measured in a crowd.


def run(*args, stdin=b"", **kwargs):
    return subprocess.run([MOXIE, *map(str, args)], input=stdin, capture_output=True, timeout=PATIENCE_S,
                          env=os.environ | {"XDG_CACHE_HOME": CACHE.name}, **kwargs)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.holder.name)
        cls.tiny = cls.folder / "tiny.gguf"
        write_tiny_gguf(cls.tiny)

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    def good(self, *args, **kwargs):
        result = run(*args, **kwargs)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, b"", "standard error stays empty where all is well")
        return result.stdout.decode()

    def bad(self, status, *args, **kwargs):
        """Runs what must fail, with nothing on standard output; returns its one line."""
        result = run(*args, **kwargs)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, b"")
        message = result.stderr.decode()
        self.assertEqual(message.count("\n"), 1, message)
        self.assertTrue(message.startswith(f"moxie {args[0]}: "), message)
        return message

    def ids_file(self, ids):
        path = self.folder / "ids.json"
        path.write_text(json.dumps(ids))
        return path
