#!/usr/bin/env python3
"""Several models and names in one server, what is being computed, and reading a model again."""
import json
import pathlib
import shutil
import socket
import tempfile
import unittest

from python_support import PATIENCE_S, wait_for
from server import GOLDEN, Server

GREEDY = {name: json.loads((GOLDEN / name / "golden.json").read_text())["greedy"][0]
          for name in ("mixtral", "qwen3moe")}
LONG = 1 << 16


def greedy(server, model, of):
    """Whether `model` says what Hugging Face's model `of` says."""
    golden = GREEDY[of]
    answer = server.post("/v1/completions", {
        "model": model, "prompt": golden["prompt_ids"], "max_tokens": len(golden["ids"]),
        "temperature": 0, "ignore_eos": True})
    text = server.post("/detokenize", {"model": model, "tokens": golden["ids"]})["prompt"]
    return answer["choices"][0]["text"] == text


class Names(unittest.TestCase):
    def test_models_and_further_names(self):
        with Server(GOLDEN / "mixtral", GOLDEN / "qwen3moe", "--name", f"q={GOLDEN / 'qwen3moe'}",
                    "--alias", "gpt-4", "--alias", "default") as server:
            self.assertEqual({m["id"] for m in server.get("/v1/models")["data"]},
                             {"mixtral", "qwen3moe", "q", "gpt-4", "default"})
            for model, of in (("mixtral", "mixtral"), ("gpt-4", "mixtral"), ("qwen3moe", "qwen3moe"),
                              ("q", "qwen3moe"), ("default", "mixtral")):
                self.assertTrue(greedy(server, model, of), model)
            # Names of one model share it.
            self.assertEqual(len(server.get("/slots")), 2 * 4)


class Reload(unittest.TestCase):
    def open_stream(self, server, tokens=3000):
        body = json.dumps({"prompt": [5], "max_tokens": tokens, "ignore_eos": True, "stream": True,
                           "temperature": 0}).encode()
        client = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.assertIn(b" 200 ", client.recv(4096))
        return client

    def rest(self, client):
        text = b""
        while chunk := client.recv(65536):
            text += chunk
        client.close()
        return text

    def test_streams_end_on_the_old_model_and_requests_go_to_the_new(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "m"
            shutil.copytree(GOLDEN / "mixtral", path)
            with Server(path, "--alias", "other", "--parallel", 2, context=LONG) as server:
                self.assertTrue(greedy(server, "m", "mixtral"))
                client = self.open_stream(server)
                shutil.rmtree(path)
                shutil.copytree(GOLDEN / "qwen3moe", path)
                self.assertEqual(server.post("/moxie/reload", {"model": "m"})["model"], "m")
                self.assertTrue(greedy(server, "other", "qwen3moe"))
                self.assertTrue(greedy(server, "m", "qwen3moe"))
                text = self.rest(client)
                self.assertIn(b"data: [DONE]", text)
                self.assertEqual(text.count(b'"finish_reason":"length"'), 1)
                # One that cannot be opened changes nothing.
                (path / "config.json").write_text("{}")
                server.post("/moxie/reload", {}, 409)
                self.assertTrue(greedy(server, "m", "qwen3moe"))
                server.post("/moxie/reload", {"model": "nope"}, 404)

    def test_the_end_of_the_server_ends_old_models_too(self):
        with Server(GOLDEN / "mixtral", "--parallel", 1, context=LONG) as server:
            client = self.open_stream(server)
            server.post("/moxie/reload", {})
            client.close()

    def test_needs_the_key(self):
        with Server(GOLDEN / "mixtral", "--api-key", "k") as server:
            self.assertEqual(server.request("POST", "/moxie/reload", {})[0], 401)


class Slots(unittest.TestCase):
    def test_show_what_is_computed(self):
        with Server(GOLDEN / "mixtral", "--parallel", 2, context=LONG) as server:
            self.assertEqual([s["is_processing"] for s in server.get("/slots")], [False, False])
            client = Reload.open_stream(self, server, LONG - 9)
            processing = lambda: [s for s in server.get("/slots") if s["is_processing"]]
            # A stream's head comes before its first token.
            wait_for(lambda: any(s["generated_tokens"] > 0 for s in processing()))
            busy = processing()
            self.assertEqual(len(busy), 1)
            self.assertEqual((busy[0]["prompt_tokens"], busy[0]["prompt_done"]), (1, 1))
            self.assertGreater(busy[0]["generated_tokens"], 0)
            self.assertNotIn("prompt", busy[0])
            client.close()
            wait_for(lambda: not processing())


if __name__ == "__main__":
    unittest.main()
