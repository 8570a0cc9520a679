#!/usr/bin/env python3
"""Requests whose fields are out of range, of the wrong kind or without measure: refused by name, in
every protocol."""
import unittest

from server import ServerCase


class Fields(ServerCase):
    def refused(self, path, body, param=None, status=400):
        got, _, answer = self.server.request("POST", path, body)
        self.assertEqual(got, status, (body, answer))
        self.assertEqual(set(answer["error"]), {"message", "type", "param", "code"})
        if param is not None:
            self.assertEqual(answer["error"]["param"], param, answer)
        return answer["error"]["message"]

    def test_numbers_out_of_range_are_refused_by_name(self):
        for field, values in {
                "n": (-1, 0, 17, 1e30, "2", 1.5), "max_tokens": (-1, 1 << 40, -1e30, "x", [1]),
                "temperature": (-0.1, 1e9, "hot"), "top_p": (-1, 1.01), "min_p": (2,),
                "top_k": (-2, 1 << 40), "presence_penalty": (3,), "frequency_penalty": (-2.5,),
                "repeat_penalty": (0, -1), "logprobs": (-1, 21, 1 << 70),
                "seed": (1.5, "a", 1e30, 1 << 63, float(1 << 63), -1e19),
                "stop": (["x"] * 17, 5, ["a", 1], "y" * 300), "echo": ("yes",), "stream": (1,),
                "logit_bias": ({"-1": 1}, {"x": 1}, {"1": 101}, {"1": "a"}, [1],
                               {"99999999999": 1}, {str(i): 0 for i in range(1025)}),
                "best_of": (0, 17, "x"), "priority": (1.5, 1001, -1001, 1e30, "high"),
                "suffix": ("x",), "prompt": (7, {}, [1.5], [[1], "a"], [[[1]]]),
        }.items():
            for value in values:
                if field == "prompt" and value == [[1], "a"]:
                    continue  # A mixture of both is understood.
                with self.subTest(field=field, value=str(value)[:60]):
                    self.refused("/v1/completions", {"prompt": "a", "max_tokens": 1,
                                                     field: value}, field)

    def test_numbers_out_of_range_are_refused_in_every_protocol(self):
        chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
        huge = (-1, 1 << 40, 1e30, -1e30, 1.5, "x", [1])
        cases = {
            "/v1/chat/completions": (dict(chat, logprobs=True), {
                "n": (0, 17, *huge), "max_tokens": huge, "max_completion_tokens": huge,
                "top_logprobs": (21, 1 << 70, *huge), "seed": (1 << 63, 1e30),
                "logprobs": (1, "yes"), "priority": (1001, -1e30), "stop": (["x"] * 17, [7]),
                "logit_bias": ({"-1": 1}, {"1": -101}, {"99999999999": 1})}),
            "/v1/responses": ({"input": "a", "max_output_tokens": 1}, {
                "max_output_tokens": huge, "temperature": (-1, 1e9), "top_p": (1.5,)}),
            "/v1/messages": (chat, {
                "max_tokens": (0, *huge), "temperature": (-1,), "top_k": (-2, 1 << 40),
                "stop_sequences": (["x"] * 17, ["y" * 300], [5])}),
            "/v1/embeddings": ({"input": "a"}, {"dimensions": huge, "input": ([333], [-5])}),
        }
        for path, (good, fields) in cases.items():
            self.server.post(path, good)
            for field, values in fields.items():
                for value in values:
                    with self.subTest(path=path, field=field, value=str(value)[:60]):
                        status, _, answer = self.server.request("POST", path,
                                                                dict(good, **{field: value}))
                        self.assertEqual(status, 400, answer)
                        if field != "input":
                            self.assertTrue(answer["error"]["message"].startswith(field), answer)

    def test_what_other_servers_obey_is_ignored(self):
        for field in ("n_discard", "n_keep", "n_predict", "n_ctx", "id_slot"):
            for value in (-1, 1 << 62, -(1 << 62), 1e300, "x"):
                self.server.post("/v1/completions", {"prompt": "a", "max_tokens": 1, field: value})

    def test_ids_and_lengths_beyond_the_model(self):
        self.assertIn("vocabulary", self.refused("/v1/completions", {"prompt": [333]}))
        self.assertIn("vocabulary", self.refused("/v1/completions", {"prompt": [-5]}))
        self.assertIn("vocabulary", self.refused("/v1/completions", {"prompt": [1 << 62]}))
        self.assertIn("context", self.refused("/v1/completions", {"prompt": [5] * 128}))
        self.assertIn("no tokens", self.refused("/v1/completions", {"prompt": []}))
        self.refused("/v1/completions", {"prompt": "a", "logit_bias": {"400": 1}})
        self.refused("/v1/completions", {"prompt": [[5]] * 257}, "prompt")
        self.refused("/v1/completions", {}, "prompt")

    def test_bodies_that_are_no_requests(self):
        for body in ("", "null", "[]", "{", "{}x", "\xff", '"a"', b"\xff\xfe", '{"prompt":"\\ud800"}',
                     "[" * 60000, '{"a":' * 60000 + "1" + "}" * 60000):
            with self.subTest(body=str(body)[:20]):
                self.refused("/v1/completions", body)
        self.assertIn("64 deep", self.refused(
            "/v1/completions", '{"prompt":' + "[" * 60000 + "]" * 60000 + "}"))

    def test_messages(self):
        for messages in ([], [5], [{}], [{"role": "king", "content": "x"}],
                         [{"role": "user", "content": 5}],
                         [{"role": "user", "content": [{"type": "image_url"}]}]):
            with self.subTest(messages=messages):
                self.refused("/v1/chat/completions", {"messages": messages})
        self.refused("/v1/chat/completions", {}, "messages")
        self.refused("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}],
                                              "top_logprobs": 3}, "top_logprobs")

    def test_routes(self):
        self.refused("/v1/nope", {}, status=404)
        status, headers, _ = self.server.request("GET", "/v1/completions")
        self.assertEqual((status, headers["Allow"]), (405, "POST"))


if __name__ == "__main__":
    unittest.main()
