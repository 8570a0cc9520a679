#!/usr/bin/env python3
"""Many clients that come, leave, send nonsense and hit limits, for a while:

  MOXIE=build/moxie PYTHONPATH=tests/support tests/server/soak_test.py [--seconds 600]

Afterwards nothing may be stuck or kept: no slot, no connection, no memory, and answers are right."""
import argparse
import json
import random
import socket
import sys
import tempfile
import threading
import time
import unittest

from python_support import PATIENCE_S, wait_for
from server import GOLDEN, Server, chat_model

PARALLEL = 4
CLIENTS = 12
seconds = 8.0

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {
    "type": "object", "required": ["n"], "properties": {"n": {"enum": [1, 2, 3]}}}}}]


def ask(dice):
    """A path and a body, usually right."""
    prompt = [dice.randrange(3, 300) for _ in range(dice.choice((1, 3, 40, 400)))]
    fields = {"max_tokens": dice.choice((0, 1, 5, 60, 2000)), "stream": dice.random() < 0.7,
              "seed": dice.randrange(9), "user": str(dice.randrange(4)), "ignore_eos": True,
              "priority": dice.randrange(-1, 2)}
    chat = dict(fields, messages=[{"role": "user", "content": "x" * dice.randrange(1, 200)}])
    return dice.choice((
        ("/v1/completions", dict(fields, prompt=prompt)),
        ("/v1/completions", dict(fields, prompt=[prompt] * 5, n=2)),
        ("/v1/completions", dict(fields, prompt=prompt, echo=True, logprobs=2, stream=False)),
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", dict(chat, tools=TOOLS, tool_choice="required")),
        ("/v1/chat/completions", dict(chat, response_format={"type": "json_object"})),
        ("/v1/responses", {"input": "x", "max_output_tokens": 9, "stream": fields["stream"]}),
        ("/v1/messages", dict(chat, max_tokens=7)),
        ("/v1/embeddings", {"input": [prompt, prompt[:2]]}),
        ("/v1/completions", dict(fields, prompt=prompt, grammar="root ::= " + " | ".join(
            f'"{dice.randrange(9999)}" [a-z]{{1,9}}' for _ in range(dice.choice((1, 30, 600)))))),
        ("/tokenize", {"prompt": "x" * dice.choice((50, 5000, 500000))}),
        ("/v1/completions", dict(fields, prompt=prompt, n=-1)),
        ("/v1/completions", dict(fields, prompt=[5] * 100000)),
        ("/v1/completions", {"prompt": ["a"] * 300}),
    ))


def malformed(dice):
    good = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
    return dice.choice((
        b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", dice.randbytes(200), good,
        good + b"Content-Length: 100\r\n\r\n{", good + b"Content-Length: 3\r\n\r\n{]]",
        good + b"Content-Length: 99999999999\r\n\r\n", good + b"X: " + b"y" * 70000 + b"\r\n\r\n",
        good + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        good + b"Content-Length: 60000\r\n\r\n" + b"[" * 60000,
        b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n"))


class Client(threading.Thread):
    def __init__(self, port, seed, until):
        super().__init__()
        self.port, self.dice, self.until = port, random.Random(seed), until
        self.statuses = {}
        self.problem = None

    def run(self):
        try:
            while time.monotonic() < self.until:
                self.once()
        except Exception as problem:  # Whatever it is, the test must hear of it.
            self.problem = problem

    def once(self):
        dice = self.dice
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as client:
            if dice.random() < 0.2:
                client.sendall(malformed(dice))
                client.settimeout(dice.choice((0.001, 0.05)))
            else:
                path, body = ask(dice)
                data = json.dumps(body).encode()
                client.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                               b"Content-Length: %d\r\n\r\n" % (path.encode(), len(data)) + data)
            leave = dice.random() < 0.4
            if leave and dice.random() < 0.5:
                return time.sleep(dice.random() * 0.02)
            answer = b""
            try:
                while chunk := client.recv(4096):
                    answer += chunk
                    if leave and dice.random() < 0.3:
                        return
            except (socket.timeout, ConnectionResetError):
                return
            status = answer[9:12].decode(errors="replace")
            self.statuses[status] = self.statuses.get(status, 0) + 1


def resident_bytes(process):
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) << 10


class Soak(unittest.TestCase):
    def batter(self, server, until, seed):
        clients = [Client(server.port, seed + i, until) for i in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        statuses = {}
        for client in clients:
            self.assertIsNone(client.problem)
            for status, count in client.statuses.items():
                statuses[status] = statuses.get(status, 0) + count
        return statuses

    def settle(self, server):
        """Waits until the server has noticed that all have gone."""
        def settled():
            stats = server.get("/moxie/stats")["models"][0]
            text = server.get("/metrics").decode()
            return (stats["running"] == stats["waiting"] == 0 and "\nmoxie_requests_preparing 0\n" in text
                    and "\nmoxie_http_connections 1\n" in text)
        wait_for(settled, poll_s=0.05)

    def test_nothing_is_stuck_or_kept(self):
        golden = json.loads((GOLDEN / "mixtral/golden.json").read_text())["greedy"][0]
        with tempfile.TemporaryDirectory() as folder, \
                Server(chat_model(folder), "--parallel", PARALLEL, "--log", "none",
                       context=4096) as server:
            self.batter(server, time.monotonic() + min(60, seconds / 2), 0)
            self.settle(server)
            before = resident_bytes(server.process)
            statuses = self.batter(server, time.monotonic() + seconds, 1000)
            self.settle(server)
            grown = resident_bytes(server.process) - before
            print("answers by status:", dict(sorted(statuses.items())),
                  f"grown by {grown >> 10} KiB", file=sys.stderr)
            self.assertGreater(statuses["200"], 0)
            self.assertFalse([status for status in statuses if status.startswith("5")], statuses)
            self.assertLess(grown, 48 << 20)
            self.assertEqual([s["is_processing"] for s in server.get("/slots")], [False] * PARALLEL)
            answer = server.post("/v1/completions", {
                "prompt": golden["prompt_ids"], "max_tokens": len(golden["ids"]), "temperature": 0,
                "ignore_eos": True})
            self.assertEqual(answer["choices"][0]["text"],
                             server.post("/detokenize", {"tokens": golden["ids"]})["prompt"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=seconds)
    options, rest = parser.parse_known_args()
    seconds = options.seconds
    unittest.main(argv=[sys.argv[0], *rest])
