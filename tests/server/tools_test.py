#!/usr/bin/env python3
"""Constrained chats: whatever a model with random weights says, formats hold and calls are whole."""
import json
import pathlib
import re
import shutil
import tempfile
import unittest

from server import GOLDEN, TEMPLATE, Server

TOOLS = [{"type": "function", "function": {
    "name": "weather", "parameters": {"type": "object", "required": ["city", "days"], "properties": {
        "city": {"enum": ["Rome", "Oslo"]}, "days": {"enum": [1, 2, 3]}}}}}]
MARKS = {"mistral": "[TOOL_CALLS]", "hermes": "<tool_call>", "llama": "<|python_tag|>",
         "generic": ""}


class Tools(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        names = []
        for name, mark in MARKS.items():
            path = pathlib.Path(cls.holder.name) / name
            shutil.copytree(GOLDEN / "mixtral", path)
            template = re.sub(r"<tool_call>.*</tool_call>", "", TEMPLATE)
            (path / "chat_template.jinja").write_text(template + "{# " + mark + " #}")
            names += ["--name", f"{name}={path}"]
        cls.server = Server(*names, context=512).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.holder.cleanup()

    def ask(self, model, **fields):
        return dict({"model": model, "messages": [{"role": "user", "content": "Weather?"}],
                     "tools": TOOLS, "seed": 5, "max_tokens": 300}, **fields)

    def check(self, call):
        self.assertEqual(call["type"], "function")
        self.assertRegex(call["id"], "^[A-Za-z0-9]{9}$")
        self.assertEqual(call["function"]["name"], "weather")
        arguments = json.loads(call["function"]["arguments"])
        self.assertIn(arguments["city"], ("Rome", "Oslo"))
        self.assertIn(arguments["days"], (1, 2, 3))

    def test_a_required_call_is_made_in_every_format(self):
        for model in MARKS:
            for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
                with self.subTest(model=model, choice=choice):
                    ask = self.ask(model, tool_choice=choice, parallel_tool_calls=False)
                    answer = self.server.post("/v1/chat/completions", ask)["choices"][0]
                    self.assertEqual(answer["finish_reason"], "tool_calls")
                    self.assertIsNone(answer["message"]["content"])
                    (call,) = answer["message"]["tool_calls"]
                    self.check(call)
                    deltas = [c["choices"][0]["delta"] for c in
                              self.server.stream("/v1/chat/completions", ask)]
                    parts = [c for d in deltas for c in d.get("tool_calls", [])]
                    self.assertEqual({c["index"] for c in parts}, {0})
                    self.assertEqual(parts[0]["function"]["name"], "weather")
                    self.assertRegex(parts[0]["id"], "^[A-Za-z0-9]{9}$")
                    self.assertFalse(any("name" in c["function"] for c in parts[1:]))
                    # This vocabulary has few long tokens: arguments come in many parts.
                    self.assertGreater(len(parts), 5)
                    self.assertEqual("".join(c["function"]["arguments"] for c in parts),
                                     call["function"]["arguments"])
                    self.assertEqual("".join(d.get("content") or "" for d in deltas), "")

    def test_several_calls_and_one_cut_short(self):
        for model in ("mistral", "hermes", "generic"):
            ask = self.ask(model, tool_choice="required", max_tokens=200)
            for seed in range(40):
                whole = self.server.post("/v1/chat/completions", dict(ask, seed=seed))["choices"][0]
                calls = whole["message"]["tool_calls"]
                if len(calls) > 1:
                    break
            self.assertGreater(len(calls), 1, model)
            for call in calls if whole["finish_reason"] == "tool_calls" else calls[:-1]:
                self.check(call)
            chunks = self.server.stream("/v1/chat/completions", dict(ask, seed=seed))
            parts = [p for c in chunks for p in c["choices"][0]["delta"].get("tool_calls", [])]
            for i, call in enumerate(calls):
                mine = [p["function"] for p in parts if p["index"] == i]
                self.assertEqual(mine[0]["name"], call["function"]["name"])
                self.assertEqual("".join(p["arguments"] for p in mine),
                                 call["function"]["arguments"])
            short = self.server.post("/v1/chat/completions", dict(
                ask, seed=seed, max_tokens=60))["choices"][0]
            if "tool_calls" in short["message"]:
                self.assertEqual(short["finish_reason"], "length")
                last = short["message"]["tool_calls"][-1]["function"]["arguments"]
                index = len(short["message"]["tool_calls"]) - 1
                self.assertTrue(calls[index]["function"]["arguments"].startswith(last))

    def test_none_calls_nothing(self):
        answer = self.server.post("/v1/chat/completions",
                                  self.ask("hermes", tool_choice="none", max_tokens=8))
        self.assertNotIn("tool_calls", answer["choices"][0]["message"])

    def test_what_is_wrong_is_refused(self):
        for fields in ({"tools": [5]}, {"tools": "x"}, {"tool_choice": "some"}, {"tool_choice": 7},
                       {"tools": [], "tool_choice": "required"},
                       {"tools": [TOOLS[0]] * 129},
                       {"tool_choice": {"type": "function", "function": {"name": "nope"}}}):
            with self.subTest(fields=str(fields)[:60]):
                self.server.post("/v1/chat/completions", self.ask("hermes", **fields), 400)

    def test_formats_of_answers_hold(self):
        schema = {"type": "object", "required": ["n"], "properties": {"n": {"enum": [1, 22, 333]}},
                  "additionalProperties": False}
        ask = self.ask("generic", response_format={
            "type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
        del ask["tools"]
        for seed in range(3):
            choice = self.server.post("/v1/chat/completions", dict(ask, seed=seed))["choices"][0]
            self.assertEqual(choice["finish_reason"], "stop")
            self.assertIn(json.loads(choice["message"]["content"])["n"], (1, 22, 333))
        for wrong in ({"type": "xml"}, {}, {"type": "json_schema"},
                      {"type": "json_schema", "json_schema": {"schema": {"type": "nope"}}}):
            self.server.post("/v1/chat/completions", dict(ask, response_format=wrong), 400)


    def test_schemas_are_kept_compiled_but_not_without_end(self):
        ask = self.ask("generic", max_tokens=40, temperature=0)
        del ask["tools"]
        for i in list(range(40)) + [0, 39]:
            schema = {"type": "object", "required": [f"k{i}"], "additionalProperties": False,
                      "properties": {f"k{i}": {"enum": [i]}}}
            answer = self.server.post("/v1/chat/completions", dict(ask, response_format={
                "type": "json_schema", "json_schema": {"schema": schema}}))["choices"][0]
            if answer["finish_reason"] == "stop":
                self.assertEqual(json.loads(answer["message"]["content"]), {f"k{i}": i})


class Metrics(unittest.TestCase):
    def test_are_prometheus_text(self):
        with Server(GOLDEN / "mixtral") as server:
            server.post("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 4,
                                            "ignore_eos": True})
            text = server.get("/metrics").decode()
        values = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                match = re.fullmatch(r'([a-z_]+(?:\{[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*\})?) (\S+)',
                                     line)
                self.assertIsNotNone(match, line)
                values[match[1]] = float(match[2])
        self.assertEqual(values['moxie_prompt_tokens_total{model="mixtral"}'], 3)
        self.assertEqual(values['moxie_generated_tokens_total{model="mixtral"}'], 4)
        self.assertGreater(values['moxie_forward_seconds_total{model="mixtral"}'], 0)
        self.assertGreater(values['moxie_decode_bound_tokens_per_second{model="mixtral"}'], 0)
        self.assertEqual(values["moxie_time_to_first_token_seconds_count"], 1)
        self.assertEqual(values["moxie_inter_token_seconds_count"], 3)
        self.assertEqual(values['moxie_inter_token_seconds_bucket{le="+Inf"}'], 3)
        self.assertEqual(sum(v for k, v in values.items() if "expert_tokens" in k and
                             'layer="0"' in k), 2 * 6)


if __name__ == "__main__":
    unittest.main()
