#!/usr/bin/env python3
"""Everything that threads of a server share, at once, for `./dev sanitize tsan` to look at: clients
that stream, leave, score, ask for counts, send what takes long to read and reload, on a model in
memory and one whose experts are read from disk. Answers are those of a client alone."""
import http.client
import json
import pathlib
import random
import subprocess
import tempfile
import threading
import unittest

from python_support import MOXIE
from server import Server, chat_model
from sparse_models import Shape, write_sparse_gguf

SHAPE = Shape(256, layers=3, heads=4, kv_heads=2, ffn=2048, experts=8, used=2)
CLIENTS = 6
ROUNDS = 6


def budget(model):
    """Room for about half of the experts, beside whatever else is served."""
    out = subprocess.run([MOXIE, "plan", model, "--json", "--memory-only", "--context", "128", "--parallel", "4",
                          "--threads", "2"], check=True, capture_output=True).stdout
    plan = json.loads(out)["plans"][0]
    return (plan["least_bytes"] + plan["all_bytes"]) // 2


class Threads(unittest.TestCase):
    def test_share_a_server(self):
        with tempfile.TemporaryDirectory() as folder:
            streamed = pathlib.Path(folder) / "streamed.gguf"
            write_sparse_gguf(streamed, "f16", SHAPE)
            resident = chat_model(folder)
            arguments = ("--name", f"streamed={streamed}", "--parallel", 4, "--memory", budget(streamed))
            with Server(*arguments, threads=2) as server:
                # The one that is served takes all of its budget, so there is no room for another.
                self.crowd(server, "streamed", reloaded=500)
                self.assertGreater(server.get("/moxie/stats")["models"][0]["expert_store"]["misses"], 0)
            with Server(resident, "--parallel", 4, threads=2) as server:
                self.crowd(server, "mixtral", reloaded=200)

    def crowd(self, server, model, reloaded):
        ask = {"model": model, "prompt": [5, 6, 7, 8], "max_tokens": 12, "temperature": 0, "ignore_eos": True}
        alone = server.post("/v1/completions", ask)["choices"][0]["text"]
        problems = []

        def client(number):
            numbers = random.Random(number)
            try:
                for _ in range(ROUNDS):
                    numbers.choice(steps)()
            except Exception as problem:  # Of another thread: told below.
                problems.append(problem)

        def answer():
            pieces = server.stream("/v1/completions", ask)
            text = "".join(piece["choices"][0]["text"] for piece in pieces if piece["choices"])
            self.assertEqual(text, alone)

        def leave():
            connection = server.connect()
            connection.request("POST", "/v1/completions", json.dumps(ask | {"max_tokens": 100, "stream": True}))
            try:
                connection.getresponse().read(1)
            except http.client.HTTPException:
                pass
            connection.close()

        def counts():
            for path in ("/moxie/stats", "/metrics", "/slots", "/health"):
                server.get(path)

        def score():
            server.post("/v1/completions", ask | {"echo": True, "logprobs": 1, "max_tokens": 1})

        def take_long():
            server.post("/tokenize", {"model": model, "prompt": "a text " * 3000})
            server.post("/v1/completions", ask | {"grammar": 'root ::= "a" | "b"', "ignore_eos": False})

        def reload():
            status, _, body = server.request("POST", "/moxie/reload", {"model": model})
            self.assertEqual(status, reloaded, body)
            if status == 500:
                self.assertIn("needs at least", body["error"]["message"])

        steps = (answer, answer, leave, counts, score, take_long)
        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        reload()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])
        answer()


if __name__ == "__main__":
    unittest.main()
