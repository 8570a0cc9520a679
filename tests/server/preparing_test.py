#!/usr/bin/env python3
"""Calls that take long to read: a large grammar, schema, text or conversation. Streams and requests
of others go on meanwhile, whoever leaves is not answered, and what waits to be read is bounded."""
import json
import re
import socket
import sys
import tempfile
import threading
import time
import unittest

from python_support import PATIENCE_S, wait_for
from server import Server, chat_model

CONTEXT = 1 << 16
NAMES = [f"p{i}" for i in range(4000)]
GRAMMAR = "root ::= " + " | ".join(f'"{i}" [a-z]{{{i % 90}}}' for i in range(3000))
MOST_WAITING = 512  # Before more are refused.


def completion(**form):
    return "/v1/completions", {"prompt": "x", "max_tokens": 1, **form}


def grammar(turn):
    return completion(grammar=GRAMMAR + f' | "turn {turn}"')  # Those read before are kept.


def schema(turn):
    return completion(json_schema={
        "type": "object", "required": NAMES, "additionalProperties": False, "title": f"turn {turn}",
        "properties": {name: {"type": "string", "maxLength": 15} for name in NAMES}})


def text(turn):
    return "/tokenize", {"prompt": "the cat sat on the mat " * (100000 << min(turn, 3))}


class Preparing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.server = Server(chat_model(cls.holder.name), "--parallel", 4, "--log", "none",
                            context=CONTEXT).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.holder.cleanup()

    def send(self, path, body):
        """A client whose request is sent."""
        return self.send_data(self.data(path, body))

    def data(self, path, body):
        data = json.dumps(body).encode()
        return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (
            path.encode(), len(data)) + data

    def send_data(self, data):
        client = socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_S)
        client.sendall(data)
        return client

    def gauge(self, name):
        return int(re.search(f"^{name} (\\d+)$", self.server.get("/metrics").decode(), re.M)[1])

    def wait(self, condition):
        wait_for(condition, poll_s=0.002)

    def stats(self):
        return self.server.get("/moxie/stats")["models"][0]

    def test_a_stream_goes_on_while_others_are_read(self):
        stream = self.send("/v1/completions", {"prompt": [5], "max_tokens": CONTEXT - 9, "stream": True,
                                               "ignore_eos": True})
        arrivals, done = [], threading.Event()

        def goes_on(name, data):
            """Whether the stream never pauses for long while this call is read."""
            start = time.monotonic()
            with self.send_data(data) as client:
                answer = client.recv(65536)
            end = time.monotonic()
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
            self.wait(lambda: arrivals[-1] > end)
            heard = [at for at in arrivals if at >= start]
            longest = max(b - a for a, b in zip([start, *heard], heard))
            print(f"{name}: answered after {end - start:.3f} s, the stream's longest pause "
                  f"{longest:.3f} s", file=sys.stderr)
            return longest < (end - start) / 3

        def read():
            while not done.is_set() and stream.recv(65536):
                arrivals.append(time.monotonic())

        reader = threading.Thread(target=read)
        reader.start()
        try:
            self.wait(lambda: arrivals)
            for large in (grammar, schema, text):
                with self.subTest(large=large.__name__):
                    # A busy machine may pause a stream, too, but not whenever something is read.
                    self.assertTrue(any(goes_on(large.__name__, self.data(*large(turn)))
                                        for turn in range(5)))
        finally:
            done.set()
            reader.join()
            stream.close()

    def test_who_leaves_while_being_read_is_not_answered(self):
        left = tries = 0
        while left < 3:
            tries += 1
            self.assertLess(tries, 100)
            before = self.settled()
            path, body = grammar(f"of one who leaves, {tries}")
            with self.send(path, dict(body, max_tokens=CONTEXT - 9, ignore_eos=True)):
                self.wait(lambda: self.preparing() or self.began(before))
            in_time = self.preparing()  # Else this test was too slow, as on a busy machine: again.
            after = self.settled()
            if in_time:
                left += 1
                self.assertEqual(after["prompt_tokens"], before["prompt_tokens"])
                self.assertEqual(after["generated_tokens"], before["generated_tokens"])

    def began(self, before):
        stats = self.stats()
        return stats["running"] or stats["prompt_tokens"] != before["prompt_tokens"]

    def preparing(self):
        return self.gauge("moxie_requests_preparing")

    def settled(self):
        self.wait(lambda: self.preparing() == 0)
        self.wait(lambda: (stats := self.stats())["running"] == stats["waiting"] == 0)
        return self.stats()

    def test_what_waits_to_be_read_is_bounded(self):
        for turn in range(1, 6):
            busy = [self.send(*text(turn)) for _ in range(8)]
            more = [self.send("/tokenize", {"prompt": "a"}) for _ in range(MOST_WAITING + 8)]
            answers = [client.recv(65536) for client in (*more, *busy)]
            for client in (*more, *busy):
                client.close()
            self.settled()
            self.assertLessEqual({answer[9:12] for answer in answers}, {b"200", b"429"})
            refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 429 ")]
            self.assertLessEqual(len(refused), len(answers) - MOST_WAITING)
            if refused:  # Else the long ones were read before all were sent.
                self.assertIn(b"queue_full", refused[0])
                return
        self.fail("none was refused")


if __name__ == "__main__":
    unittest.main()
