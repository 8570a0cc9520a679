#!/usr/bin/env python3
"""What lm-evaluation-harness asks of /v1/completions (its local-completions: ids, echo, logprobs 1,
max_tokens 1), against the logits that Hugging Face computed for the golden models."""
import base64
import json
import math
import struct
import unittest

from npy import read_npy
from server import GOLDEN, Server

MODELS = ("mixtral", "qwen3moe", "deepseekv3", "gptoss", "mistral-window")


def expected(name, sequence):
    """Log-probability of each next token, and whether it is the likeliest."""
    (rows, vocab), logits = read_npy(GOLDEN / name / sequence["logits"])
    ids = sequence["ids"]
    scores = []
    for t in range(rows - 1):
        row = logits[t * vocab:(t + 1) * vocab]
        top = max(row)
        total = math.log(sum(math.exp(x - top) for x in row)) + top
        scores.append((row[ids[t + 1]] - total, row[ids[t + 1]] == top))
    return scores


class Scoring(unittest.TestCase):
    def test_prompts_have_hugging_faces_log_probabilities(self):
        for name in MODELS:
            golden = json.loads((GOLDEN / name / "golden.json").read_text())["sequences"]
            with self.subTest(model=name), Server(GOLDEN / name, "--parallel", 2) as server:
                self.check(server, name, golden)

    def check(self, server, name, golden):
        answer = server.post("/v1/completions", {
            "model": name, "prompt": [s["ids"] for s in golden], "max_tokens": 1, "logprobs": 1,
            "echo": True, "temperature": 0, "seed": 1234})
        self.assertEqual([c["index"] for c in answer["choices"]], list(range(len(golden))))
        for sequence, choice in zip(golden, answer["choices"]):
            logprobs = choice["logprobs"]
            values, tops = logprobs["token_logprobs"], logprobs["top_logprobs"]
            self.assertEqual(len(values), len(sequence["ids"]) + 1)
            self.assertEqual({len(x) for x in logprobs.values()}, {len(values)})
            self.assertIsNone(values[0])
            self.assertIsNone(tops[0])
            for (want, greedy), value, top in zip(expected(name, sequence), values[1:], tops[1:]):
                self.assertAlmostEqual(value, want, delta=1e-3)
                # The harness's test of greediness is exact equality.
                self.assertEqual(value == max(top.values()), greedy)

    def test_max_tokens_0_scores_alone(self):
        golden = json.loads((GOLDEN / "mixtral/golden.json").read_text())["sequences"][1]
        with Server(GOLDEN / "mixtral") as server:
            choice = server.post("/v1/completions", {"prompt": golden["ids"], "max_tokens": 0,
                                                     "logprobs": 0, "echo": True})["choices"][0]
            self.assertEqual(len(choice["logprobs"]["token_logprobs"]), len(golden["ids"]))
            self.assertEqual(choice["finish_reason"], "length")
            server.post("/v1/completions", {"prompt": "a", "logprobs": 0, "echo": True,
                                            "stream": True}, 400)


class Embeddings(unittest.TestCase):
    def test_are_hugging_faces_hidden_states_pooled(self):
        for name in MODELS:
            golden = json.loads((GOLDEN / name / "golden.json").read_text())["sequences"]
            sequence = next(s for s in golden if "hidden" in s)
            (layers, tokens, dim), states = read_npy(GOLDEN / name / sequence["hidden"])
            rows = [states[((layers - 1) * tokens + t) * dim:][:dim] for t in range(tokens)]
            mean = [sum(column) / tokens for column in zip(*rows)]
            with self.subTest(model=name), Server(GOLDEN / name) as server:
                for pooling, want in (("mean", mean), ("last", rows[-1])):
                    length = math.sqrt(sum(x * x for x in want))
                    answer = server.post("/v1/embeddings", {
                        "input": [sequence["ids"], sequence["ids"]], "pooling": pooling})
                    self.assertEqual(answer["usage"]["prompt_tokens"], 2 * tokens)
                    first, second = (data["embedding"] for data in answer["data"])
                    self.assertEqual(first, second)
                    for got, x in zip(first, want, strict=True):
                        self.assertAlmostEqual(got, x / length, delta=1e-4)
                    packed = server.post("/v1/embeddings", {
                        "input": sequence["ids"], "pooling": pooling,
                        "encoding_format": "base64"})["data"][0]["embedding"]
                    numbers = struct.unpack(f"<{dim}f", base64.b64decode(packed))
                    for got, x in zip(first, numbers, strict=True):
                        self.assertAlmostEqual(got, x, delta=1e-7)
                for wrong in ({"input": []}, {}, {"input": "a", "pooling": "max"},
                              {"input": "a", "encoding_format": "hex"},
                              {"input": "a", "dimensions": dim + 1}):
                    server.post("/v1/embeddings", wrong, 400)


class Routing(unittest.TestCase):
    def test_a_streams_experts_are_hugging_faces(self):
        """The first token of an answer was chosen by the pass over the prompt's last token."""
        golden = json.loads((GOLDEN / "mixtral/golden.json").read_text())["sequences"][1]
        (layers, tokens, used), experts = read_npy(GOLDEN / "mixtral" / golden["experts"])
        _, weights = read_npy(GOLDEN / "mixtral" / golden["expert_weights"])
        import pathlib
        import shutil
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "m"
            shutil.copytree(GOLDEN / "mixtral", path)
            # The conversation's text is the prompt itself; special tokens are read from text.
            (path / "chat_template.jinja").write_text("{{ messages[0].content }}")
            with Server(path) as server:
                text = server.post("/detokenize", {"tokens": golden["ids"]})["prompt"]
                ids = server.post("/tokenize", {"prompt": text,
                                                "add_special_tokens": False})["tokens"]
                self.assertEqual(ids, golden["ids"])
                chunks = server.stream("/v1/chat/completions", {
                    "messages": [{"role": "user", "content": text}], "max_tokens": 2,
                    "temperature": 0, "ignore_eos": True, "routing": True})
                stats = server.get("/moxie/stats")["models"][0]
        routed = [c["moxie"] for c in chunks if "moxie" in c]
        timings = routed.pop()["timings"]
        self.assertGreater(timings["prefill_s"], 0)
        self.assertAlmostEqual(timings["decode_tokens_per_s"] * timings["decode_s"], 1)
        self.assertEqual(len(routed), 2)
        self.assertEqual(routed[0]["layers"], list(range(layers)))
        self.assertNotIn("layers", routed[1])
        for layer in range(layers):
            at = (layer * tokens + tokens - 1) * used
            self.assertEqual(routed[0]["experts"][layer], list(experts[at:at + used]))
            for got, want in zip(routed[0]["weights"][layer], weights[at:at + used]):
                self.assertAlmostEqual(got, want, delta=1e-3)
        # All of the prompt and the first token of the answer went through the model.
        for layer in stats["routing"]:
            self.assertAlmostEqual(sum(layer["shares"]), used)
        self.assertEqual(stats["prompt_tokens"], tokens)
        self.assertEqual(stats["generated_tokens"], 2)


if __name__ == "__main__":
    unittest.main()
