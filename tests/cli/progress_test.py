#!/usr/bin/env python3
"""What is shown while a model is loaded and a prompt is read: share, size, rate and time left, on a
terminal of its own (a pty) and there alone. By what stands there, not by when."""
import json
import os
import pathlib
import pty
import re
import subprocess
import tempfile
import unittest

from python_support import MOXIE, PATIENCE_S, moxie
from sparse_models import Shape, write_sparse_gguf

MIB = 1 << 20
READ = 16 * MIB  # Loading tells after each read of as many bytes.
SHAPE = Shape(512, layers=8, heads=4, kv_heads=2, ffn=2048)
PROMPT, BATCH = 61, 8
ANSWER = ("--ignore-eos", "--max-tokens", 2, "--logit-bias", "66=100")  # The letter A.
RUN = ("--raw", *ANSWER, "--context", 80, "--batch", BATCH, "--threads", 1)
CLEAR = "\r\x1b[K"
BAR = r"(?P<label>[a-z ]+) (?P<full>█*)(?P<empty>·*) +(?P<percent>\d+) % "
LOADING = re.compile(BAR + r"of (?P<size>[\d.]+) MiB, (?P<rate>[\d.]+) GB/s, (?P<left>\d+) s left")
READING = re.compile(BAR + r"of (?P<size>\d+) tokens, (?P<rate>\d+) tokens/s, (?P<left>\d+) s left")


def run(*arguments, terminal=None):
    """Standard output and error; the one that `terminal` names is a terminal."""
    ours, theirs = pty.openpty()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        files = {"stdout": out, "stderr": err}
        streams = files if terminal is None else files | {terminal: theirs}
        program = subprocess.Popen([MOXIE, *map(str, arguments)], stdin=subprocess.DEVNULL,
                                   env=os.environ | {"TERM": "xterm"}, **streams)
        os.close(theirs)
        seen = read_all(ours)
        os.close(ours)
        status = program.wait(timeout=PATIENCE_S)
        for file in files.values():
            file.seek(0)
        texts = [(seen if name == terminal else file.read()).decode() for name, file in files.items()]
    if status != 0:
        raise AssertionError(f"exit status {status}: {texts}")
    return tuple(texts)


def read_all(terminal):
    """What a terminal gets until no program has it open any more."""
    data = b""
    while True:
        try:
            data += os.read(terminal, 1 << 16)
        except OSError:
            return data


def frames(text, label):
    """What the bar with this label showed, one after another."""
    return [part for part in text.split(CLEAR) if part.startswith(label)]


class Progress(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.model = pathlib.Path(cls.holder.name) / "model.gguf"
        write_sparse_gguf(cls.model, "f16", SHAPE)
        plan = json.loads(moxie("plan", cls.model, "--memory-only", "--json"))["plans"][0]
        cls.bytes = plan["memory"]["weights"]
        # Every byte of the prompt is a token of its own.
        cls.arguments = ("run", cls.model, "a" * PROMPT, *RUN)
        cls.out, cls.seen = run(*cls.arguments, terminal="stderr")

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    def check(self, found, remaining, rate_step, unit):
        """The bar is as long as its share says, and what remains takes the time left at the rate:
        each figure was rounded."""
        percent, rate, left = (float(found[name]) for name in ("percent", "rate", "left"))
        self.assertEqual(len(found["full"]), int(percent) * 32 // 100)
        self.assertEqual(len(found["full"]) + len(found["empty"]), 32)
        least, most = (remaining / (unit * max(rate + half, 1e-9))
                       for half in (rate_step / 2, -rate_step / 2))
        self.assertTrue(least - 0.5 <= left <= most + 0.5, found.string)

    def test_loading_shows_bytes_rate_and_time_left(self):
        shown = frames(self.seen, "loading")
        reads = self.bytes // READ
        self.assertGreaterEqual(reads, 3)
        # Reads end in any order, and the last one of all takes the bar away. A read may be the
        # short one at the end, and one per cent is told once.
        self.assertEqual(len(shown), reads)
        last = self.bytes - reads * READ
        before = -1
        for i, frame in enumerate(shown, 1):
            found = LOADING.fullmatch(frame)
            self.assertIsNotNone(found, frame)
            self.assertEqual(float(found["size"]), round(self.bytes / MIB, 1))
            done = [bytes for bytes in (i * READ, (i - 1) * READ + last)
                    if bytes * 100 // self.bytes == int(found["percent"])]
            self.assertTrue(done, frame)
            self.check(found, self.bytes - done[0], 0.1, 1e9)
            self.assertGreater(int(found["percent"]), before)
            before = int(found["percent"])

    def test_a_long_prompt_shows_tokens_rate_and_time_left(self):
        shown = frames(self.seen, "reading the prompt")
        passes = list(range(BATCH, PROMPT, BATCH))
        self.assertEqual(len(shown), len(passes))
        for frame, done in zip(shown, passes):
            found = READING.fullmatch(frame)
            self.assertIsNotNone(found, frame)
            self.assertEqual(int(found["size"]), PROMPT)
            self.assertEqual(int(found["percent"]), 100 * done // PROMPT)
            self.check(found, PROMPT - done, 1, 1)

    def test_both_are_gone_before_anything_else_is_shown(self):
        bars = [found.end() for found in re.finditer(r"\d s left", self.seen)]
        for end in bars:
            self.assertTrue(self.seen[end:].startswith(CLEAR), self.seen)
        self.assertTrue(self.seen[bars[-1] + len(CLEAR):].startswith("\x1b[2m\r\n"), self.seen)  # The table.
        self.assertEqual(self.out, "AA\n")

    def test_a_pipe_gets_nothing_of_it(self):
        self.assertEqual(run(*self.arguments), ("AA\n", ""))
        self.assertEqual(run(*self.arguments, terminal="stdout"), ("AA\r\n", ""))


if __name__ == "__main__":
    unittest.main()
