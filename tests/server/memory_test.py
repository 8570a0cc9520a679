#!/usr/bin/env python3
"""Memory that the system refuses while the server answers: whoever it was for gets one error in JSON,
or the right answer; others and whoever comes later lose nothing. MOXIE_REFUSED_POINTS says how many
points of each request are tried (0: all), MOXIE_REFUSED_SEED which."""
import contextlib
import json
import mmap
import os
import pathlib
import random
import struct
import tempfile
import threading
import unittest

from python_support import ROOT, skip
from server import Server, chat_model

HOOK = pathlib.Path(os.environ.get("MOXIE_BUILD", ROOT / "build")) / "librefusing_memory.so"
POINTS = int(os.environ.get("MOXIE_REFUSED_POINTS", "150"))

if not HOOK.exists():
    skip(f"no {HOOK.name} in this build")

PROMPT = {"prompt": "the quick brown", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "temperature": 0}
REQUESTS = {
    "completion": ("/v1/completions", PROMPT),
    "scored": ("/v1/completions", {**PROMPT, "echo": True, "logprobs": 2}),
    "several": ("/v1/completions", {**PROMPT, "prompt": ["the quick", "a lazy dog"]}),
    "stream": ("/v1/completions", {**PROMPT, "stream": True}),
    "chat": ("/v1/chat/completions", {**CHAT, "logprobs": True}),
    "regex": ("/v1/completions", {**PROMPT, "structured_outputs": {"regex": "[a-z ]{4,9}"}}),
    "chat stream": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "message": ("/v1/messages", CHAT),
    "response stream": ("/v1/responses", {"input": "hello", "max_output_tokens": 8, "temperature": 0, "stream": True}),
    "embedding": ("/v1/embeddings", {"input": "the quick brown"}),
    "tokens": ("/tokenize", {"prompt": "the quick brown"}),
}


class Refusals:
    """What the preloaded library shares: how many allocations there were, which fail."""

    def __init__(self, folder):
        path = pathlib.Path(folder) / "refusals"
        path.write_bytes(struct.pack("4q", 0, -1, -1, 0))
        self.environment = {"LD_PRELOAD": str(HOOK), "MOXIE_REFUSE_SHARED": str(path)}
        with open(path, "r+b") as file:
            self.shared = mmap.mmap(file.fileno(), 32)

    def count(self):
        return struct.unpack_from("q", self.shared, 0)[0]

    def refuse(self, point, count, least_bytes=0):
        """So many allocations from so many ahead on, but for smaller ones."""
        first = self.count() + point
        struct.pack_into("3q", self.shared, 8, first, first + count - 1, least_bytes)

    def stop(self):
        struct.pack_into("3q", self.shared, 8, -1, -1, 0)


def essence(kind, body):
    """What must be the same in every answer: all but its id and when it was given."""
    if isinstance(body, dict):
        return {key: essence(kind, value) for key, value in body.items()
                if key not in ("id", "item_id", "created", "created_at", "usage", "timings", "obfuscation")}
    return [essence(kind, value) for value in body] if isinstance(body, list) else body


class MemoryRefused(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.refusals = Refusals(cls.holder.name)
        cls.server = Server(chat_model(cls.holder.name), "--parallel", "3",
                            environment=cls.refusals.environment).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.refusals.stop()
        cls.server.__exit__(None, None, None)
        cls.holder.cleanup()

    def ask(self, name):
        """Status, and the answer or the events of a stream."""
        path, body = REQUESTS[name]
        status, headers, answer = self.server.request("POST", path, body)
        if isinstance(answer, dict):
            return status, answer
        self.assertIn("text/event-stream", headers["Content-Type"])
        events = [line[6:] for line in answer.decode().splitlines() if line.startswith("data: ")]
        return status, [json.loads(event) for event in events if event != "[DONE]"]

    def error_of(self, answer):
        """The error of an answer or at the end of a stream, or None."""
        last = answer[-1] if isinstance(answer, list) else answer
        if last.get("type") == "response.failed":
            last = last["response"]
        return last.get("error")

    def check(self, name, refusals):
        numbers = random.Random(int(os.environ.get("MOXIE_REFUSED_SEED", "1")))
        self.assertEqual(self.ask(name)[0], 200)
        right = essence(name, self.ask(name)[1])
        before = self.refusals.count()
        self.assertEqual(essence(name, self.ask(name)[1]), right)
        every = range(1, self.refusals.count() - before + 1)
        errors, unread = 0, 0
        for point in sorted(numbers.sample(every, min(POINTS or len(every), len(every)))):
            for refused in refusals:
                with self.subTest(point=point, **refused):
                    self.refusals.refuse(point, **refused)
                    try:
                        status, answer = self.ask(name)
                    except (BrokenPipeError, ConnectionResetError):
                        unread += 1  # The last answer's end may have taken some of the points before.
                        continue
                    finally:
                        self.refusals.stop()
                    error = self.error_of(answer)
                    if error is None:
                        self.assertEqual(status, 200, answer)
                        self.assertEqual(essence(name, answer), right)
                    else:
                        errors += 1
                        self.assertIn("the system has not the memory", error["message"])
                        self.assertIn(status, (200, 503) if isinstance(answer, list) else (503,))
                    status, answer = self.ask(name)
                    self.assertEqual((status, essence(name, answer)), (200, right))
        self.assertLess(unread, 10 * len(refusals))  # So many does reading a request take.
        print(f"{name}: {errors} errors at {len(every)} points")
        return errors

    def test_every_request(self):
        # Any one, and for a while all but small ones, which find room in the reserve once it is given
        # back; a vector's JSON is not small.
        errors = 0
        for name in REQUESTS:
            least = 2048 if name == "embedding" else 1024
            errors += self.check(name, ({"count": 1}, {"count": 300, "least_bytes": least}))
        self.assertGreater(errors, len(REQUESTS) * 5)
        self.check_nothing_is_left()

    def check_nothing_is_left(self):
        """No request stays behind, nor its place in a queue."""
        for line in self.metrics().decode().splitlines():
            if line.startswith(("moxie_requests_running", "moxie_requests_waiting", "moxie_requests_preparing")):
                self.assertEqual(float(line.split()[-1]), 0, line)

    def metrics(self):
        return self.server.request("GET", "/metrics")[2]

    def test_two_at_once(self):
        """Answers beside those that end for want of memory are as they would be alone."""
        body = {**PROMPT, "prompt": "another", "max_tokens": 60}
        right = self.server.post("/v1/completions", body)["choices"]
        ended, others = threading.Event(), []

        def go_on():
            while not ended.is_set():
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # As above.
                    others.append(self.server.request("POST", "/v1/completions", body))

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            for point in range(200, 1400, 7):
                self.refusals.refuse(point, 200, 2048)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.ask("completion")
                self.refusals.stop()  # The others' may fail as well: an allocation is nobody's.
        finally:
            ended.set()
            thread.join()
        for status, _, answer in others:
            if status == 200:
                self.assertEqual(answer["choices"], right)
            else:
                self.assertIn("the system has not the memory", answer["error"]["message"])
        self.assertGreater(sum(status == 200 for status, _, _ in others), 10)
        self.check_nothing_is_left()


if __name__ == "__main__":
    unittest.main()
