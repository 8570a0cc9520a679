#!/usr/bin/env python3
"""Every way to ask the server for an answer of a form, in completions and chats; forms that are deep,
large or contradictory are refused, soon, and stall nobody."""
import json
import re
import tempfile
import threading
import time
import unittest

from server import Server, chat_model

SUM = 'root ::= num ("+" num){1,3}\nnum ::= [1-9] [0-9]{0,2}'
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["zebra", "ant"],
          "properties": {"zebra": {"enum": [1, 2]}, "ant": {"type": "boolean"}}}


def is_json(text):
    value = json.loads(text)
    return list(value) == ["zebra", "ant"] and value["zebra"] in (1, 2)  # In the schema's order.


FORMS = {
    "grammar": ({"grammar": SUM}, lambda t: re.fullmatch(r"[1-9]\d{0,2}(\+[1-9]\d{0,2}){1,3}", t)),
    "json_schema": ({"json_schema": SCHEMA}, is_json),
    "response_format": ({"response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "schema": SCHEMA}}}, is_json),
    "structured json": ({"structured_outputs": {"json": SCHEMA}}, is_json),
    "structured text": ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, is_json),
    "structured grammar": ({"structured_outputs": {"grammar": 'root ::= "a" | "bc"'}},
                           lambda t: t in ("a", "bc")),
    "structured regex": ({"structured_outputs": {"regex": "(ab|cd){2,5}[0-9]"}},
                         lambda t: re.fullmatch("(ab|cd){2,5}[0-9]", t)),
    "structured choice": ({"structured_outputs": {"choice": ["yes", "no", "maybe \"so\""]}},
                          lambda t: t in ("yes", "no", 'maybe "so"')),
}


class Forms(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.server = Server(chat_model(cls.holder.name), "--parallel", 4, context=512).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.holder.cleanup()

    def texts(self, fields):
        chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 400, **fields}
        for seed in range(3):
            answer = self.server.post("/v1/completions", {
                "prompt": "x", "max_tokens": 400, "seed": seed, **fields})["choices"][0]
            yield answer["text"], answer["finish_reason"]
            answer = self.server.post("/v1/chat/completions", dict(chat, seed=seed))["choices"][0]
            yield answer["message"]["content"], answer["finish_reason"]

    def test_answers_have_the_form(self):
        for name, (fields, right) in FORMS.items():
            for text, reason in self.texts(fields):
                with self.subTest(form=name, text=text):
                    self.assertEqual(reason, "stop")
                    self.assertTrue(right(text))

    def test_a_cut_answer_says_so_and_is_a_beginning(self):
        schema = {"type": "object", "required": ["s"], "properties": {
            "s": {"type": "string", "minLength": 90}}}
        answer = self.server.post("/v1/completions", {
            "prompt": "x", "max_tokens": 12, "json_schema": schema})["choices"][0]
        self.assertEqual(answer["finish_reason"], "length")
        self.assertRegex(answer["text"], r'^\s*{\s*"s"\s*:')

    def test_one_form_alone(self):
        refused = self.server.post("/v1/completions", {
            "prompt": "x", "grammar": SUM, "structured_outputs": {"regex": "a"}}, 400)
        self.assertEqual(refused["error"]["param"], "structured_outputs.regex")
        self.assertIn("grammar", refused["error"]["message"])

    def test_what_is_deep_large_or_wrong_is_refused_by_name_and_soon(self):
        deep_schema = {"type": "string"}
        for _ in range(12):
            deep_schema = {"type": "array", "items": {"anyOf": [deep_schema, {"type": "null"}]}}
        deep_text = '{"items":' * 60000 + "{}" + "}" * 60000
        cases = {
            "grammar": ("(" * 60000 + ")" * 60000, "root ::= " + "(" * 60000 + '"a"' + ")" * 60000,
                        "root ::= root", "root ::= a", 'root ::= "a"{999999}', 'root ::= "' + "a" * (2 << 20) + '"',
                        "", 5, 'root ::= [', "root ::= a\n" + "".join(
                            f"r{i} ::= r{i + 1}\n" for i in range(60000))),
            "json_schema": (deep_text, 5, "{", {"type": "strange"}, {"not": {}},
                            {"$ref": "#/nowhere"}, {"$ref": "https://evil.example/schema"},
                            {"type": "string", "pattern": "(" * 5000},
                            {"type": "string", "minLength": 1 << 60}),
            "structured_outputs.regex": ("(" * 9000 + ")" * 9000, "((a{1000}){1000}){1000}", "a**",
                                         "[", "(a)\\1", "x" * 20000, 5),
            "structured_outputs.choice": (["a"] * 10001, ["a", 5], ["a" * 5000], 7),
        }
        for field, values in cases.items():
            for value in values:
                with self.subTest(field=field, value=str(value)[:40]):
                    outer, _, inner = field.partition(".")
                    start = time.monotonic()
                    status, _, answer = self.server.request("POST", "/v1/completions", {
                        "prompt": "x", "max_tokens": 1, outer: {inner: value} if inner else value})
                    self.assertEqual(status, 400, answer)
                    self.assertTrue(answer["error"]["param"].startswith(outer), answer)
                    self.assertLess(len(answer["error"]["message"]), 600)
                    self.assertLess(time.monotonic() - start, 15)
        # Deep or long but within the limits: compiled, and kept to.
        for grammar in ('root ::= "a"{99999}{99999}', 'root ::= (("a"{1000}){1000}){1000}'):
            answer = self.server.post("/v1/completions", {"prompt": "x", "max_tokens": 3,
                                                          "grammar": grammar})
            self.assertRegex(answer["choices"][0]["text"], "^a+$")
        self.server.post("/v1/completions", {"prompt": "x", "max_tokens": 3,
                                             "json_schema": deep_schema})

    def test_bodies_that_take_quadratic_time_are_refused(self):
        body = '{"prompt":"x","a":{' + ",".join(f'"{i}":0' for i in range(300000)) + "}}"
        start = time.monotonic()
        status, _, answer = self.server.request("POST", "/v1/completions", body)
        self.assertEqual(status, 400)
        self.assertIn("too many members", answer["error"]["message"])
        self.assertLess(time.monotonic() - start, 15)

    def test_patterns_that_blow_up_elsewhere_take_linear_time_here(self):
        for pattern in ("(a+)+b", "(a|a)*b", "(a|aa)+c", "([a-zA-Z]+)*1"):
            start = time.monotonic()
            self.server.post("/v1/completions", {
                "prompt": "x", "max_tokens": 60, "structured_outputs": {"regex": pattern}})
            self.assertLess(time.monotonic() - start, 20, pattern)

    def test_a_grammar_too_ambiguous_to_follow_is_given_up_soon(self):
        body = {"prompt": "x", "max_tokens": 300, "ignore_eos": True,
                "grammar": "root ::= " + "a " * 24 + "\na ::= . a | . a a | . a a a | ."}
        start = time.monotonic()
        status, _, answer = self.server.request("POST", "/v1/completions", body)
        self.assertEqual(status, 400, answer)
        self.assertIn("too ambiguous", answer["error"]["message"])
        self.assertLess(time.monotonic() - start, 10)

    def test_different_grammars_without_end_take_bounded_memory(self):
        def ask(i):
            self.server.post("/v1/completions", {
                "prompt": "x", "max_tokens": 3,
                "grammar": f'root ::= "{i}" [a-z ]{{1,200}} "{i}"'})
        for i in range(40):
            ask(i)
        before = self.resident_bytes()
        threads = [threading.Thread(target=lambda k=k: [ask(1000 * k + i) for i in range(60)])
                   for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertLess(self.resident_bytes() - before, 64 << 20)

    def resident_bytes(self):
        with open(f"/proc/{self.server.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) << 10


if __name__ == "__main__":
    unittest.main()
