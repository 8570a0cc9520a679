#!/usr/bin/env python3
"""OpenAI's routes, driven as a client would. What the model says is compared with what Hugging
Face's says (tests/golden/models/*/golden.json)."""
import json
import unittest

from server import GOLDEN, ServerCase

GREEDY = json.loads((GOLDEN / "mixtral/golden.json").read_text())["greedy"][0]


class Case(ServerCase):
    parallel = 3

    def text(self, ids):
        return self.server.post("/detokenize", {"tokens": ids})["prompt"]


class Completions(Case):
    ASK = {"prompt": GREEDY["prompt_ids"], "max_tokens": len(GREEDY["ids"]), "temperature": 0,
           "ignore_eos": True}

    def test_says_what_hugging_face_says(self):
        answer = self.server.post("/v1/completions", self.ASK)
        self.assertEqual(answer["object"], "text_completion")
        self.assertEqual(answer["model"], "mixtral")
        choice = answer["choices"][0]
        self.assertEqual(choice["text"], self.text(GREEDY["ids"]))
        self.assertEqual(choice["finish_reason"], "length")
        self.assertEqual(answer["usage"]["prompt_tokens"], len(GREEDY["prompt_ids"]))
        self.assertEqual(answer["usage"]["completion_tokens"], len(GREEDY["ids"]))

    def test_streams_the_same(self):
        chunks = self.server.stream("/v1/completions",
                                    dict(self.ASK, stream_options={"include_usage": True}))
        self.assertEqual("".join(c["choices"][0]["text"] for c in chunks if c["choices"]),
                         self.text(GREEDY["ids"]))
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], len(GREEDY["ids"]))
        reasons = [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]]
        self.assertEqual(reasons, [None] * (len(reasons) - 1) + ["length"])

    def test_prompts_of_every_kind_come_back_in_order(self):
        text = "The cat"
        ids = self.server.post("/tokenize", {"prompt": text})["tokens"]
        for prompt in (text, ids, [text, text], [ids, ids, [5]]):
            answer = self.server.post("/v1/completions", {"prompt": prompt, "max_tokens": 3,
                                                          "temperature": 0, "n": 2})
            count = 2 * (len(prompt) if prompt is not text and prompt is not ids else 1)
            self.assertEqual([c["index"] for c in answer["choices"]], list(range(count)))
            self.assertEqual(answer["choices"][0]["text"], answer["choices"][1]["text"])

    def test_a_seed_repeats_and_choices_differ(self):
        ask = {"prompt": "a", "max_tokens": 12, "seed": 3, "n": 2, "ignore_eos": True}
        first, again = (self.server.post("/v1/completions", ask) for _ in range(2))
        self.assertEqual(first["choices"], again["choices"])
        self.assertNotEqual(first["choices"][0]["text"], first["choices"][1]["text"])


    def test_best_of_sends_the_likeliest(self):
        ask = {"prompt": ["a", [5, 6]], "max_tokens": 6, "seed": 1, "ignore_eos": True, "logprobs": 0}
        every = self.server.post("/v1/completions", dict(ask, n=8))["choices"]
        best = self.server.post("/v1/completions", dict(ask, n=2, best_of=8))["choices"]
        self.assertEqual([c["index"] for c in best], [0, 1, 2, 3])
        mean = lambda c: sum(c["logprobs"]["token_logprobs"]) / 6
        for i in range(2):
            ranked = sorted(every[8 * i:8 * i + 8], key=mean, reverse=True)
            self.assertEqual([c["text"] for c in best[2 * i:2 * i + 2]],
                             [c["text"] for c in ranked[:2]])
        self.server.post("/v1/completions", dict(ask, n=2, best_of=1), 400)
        self.server.post("/v1/completions", dict(ask, best_of=2, stream=True), 400)


class Chat(Case):
    ASK = {"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 6, "temperature": 0,
           "ignore_eos": True}

    def test_answers_as_the_rendered_prompt_is_continued(self):
        answer = self.server.post("/v1/chat/completions", self.ASK)
        ids = self.server.post("/tokenize", {"prompt": "<user>Who?\n<assistant>",
                                             "add_special_tokens": False})["tokens"]
        plain = self.server.post("/v1/completions", {"prompt": ids, "max_tokens": 6,
                                                     "temperature": 0, "ignore_eos": True})
        self.assertEqual(answer["choices"][0]["message"],
                         {"role": "assistant", "content": plain["choices"][0]["text"]})
        self.assertEqual(answer["usage"]["prompt_tokens"], len(ids))

    def test_streams_the_same(self):
        answer = self.server.post("/v1/chat/completions", self.ASK)
        chunks = self.server.stream("/v1/chat/completions", self.ASK)
        self.assertEqual(chunks[0]["choices"][0]["delta"]["role"], "assistant")
        self.assertEqual("".join(c["choices"][0]["delta"].get("content", "") for c in chunks),
                         answer["choices"][0]["message"]["content"])

    def test_logprobs_have_the_tokens_bytes(self):
        ask = dict(self.ASK, logprobs=True, top_logprobs=2)
        entries = self.server.post("/v1/chat/completions", ask)["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(entries), 6)
        for entry in entries:
            self.assertEqual(entry["top_logprobs"][0]["logprob"], entry["logprob"])
            self.assertEqual(len(entry["top_logprobs"]), 2)
            self.assertTrue(all(0 <= b < 256 for b in entry["bytes"]))

    def test_parts_and_the_newer_role_are_understood(self):
        parts = [{"role": "developer", "content": "Be brief."},
                 {"role": "user", "content": [{"type": "text", "text": "Wh"},
                                              {"type": "text", "text": "o?"}]}]
        plain = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
        first, second = (self.server.post("/v1/chat/completions", dict(self.ASK, messages=m))
                         for m in (parts, plain))
        self.assertEqual(first["choices"], second["choices"])


class Responses(Case):
    ASK = {"input": "Who?", "max_output_tokens": 6, "temperature": 0, "ignore_eos": True}

    def test_says_what_a_chat_says(self):
        chat = self.server.post("/v1/chat/completions", {**Chat.ASK})
        answer = self.server.post("/v1/responses", self.ASK)
        self.assertEqual(answer["object"], "response")
        self.assertEqual(answer["status"], "incomplete")
        self.assertEqual(answer["incomplete_details"], {"reason": "max_output_tokens"})
        (item,) = answer["output"]
        self.assertEqual((item["type"], item["role"], item["status"]),
                         ("message", "assistant", "incomplete"))
        self.assertEqual(item["content"][0]["text"], chat["choices"][0]["message"]["content"])
        self.assertEqual(answer["usage"]["input_tokens"], chat["usage"]["prompt_tokens"])
        self.assertEqual(answer["usage"]["output_tokens"], 6)

    def test_streams_the_same_with_numbered_events(self):
        whole = self.server.post("/v1/responses", self.ASK)
        events = self.server.events("/v1/responses", dict(self.ASK, stream=True))
        self.assertEqual([data["sequence_number"] for _, data in events], list(range(len(events))))
        self.assertTrue(all(name == data["type"] for name, data in events))
        names = [name for name, _ in events]
        self.assertEqual(names[:4], ["response.created", "response.in_progress",
                                     "response.output_item.added", "response.content_part.added"])
        self.assertEqual(names[-4:], ["response.output_text.done", "response.content_part.done",
                                      "response.output_item.done", "response.incomplete"])
        text = "".join(d["delta"] for n, d in events if n == "response.output_text.delta")
        self.assertEqual(text, whole["output"][0]["content"][0]["text"])
        final = events[-1][1]["response"]
        self.assertEqual(final["output"][0]["content"], whole["output"][0]["content"])

    def test_items_of_a_conversation_are_messages(self):
        items = [{"type": "message", "role": "user",
                  "content": [{"type": "input_text", "text": "Weather?"}]},
                 {"type": "function_call", "call_id": "c1", "name": "weather",
                  "arguments": '{"city":"Rome"}'},
                 {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
                 {"role": "user", "content": "And?"}]
        messages = [{"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Weather?"},
                    {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {
                        "name": "weather", "arguments": '{"city":"Rome"}'}}]},
                    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
                    {"role": "user", "content": "And?"}]
        chat = self.server.post("/v1/chat/completions", dict(Chat.ASK, messages=messages))
        answer = self.server.post("/v1/responses", dict(self.ASK, input=items,
                                                        instructions="Be brief."))
        self.assertEqual(answer["output"][0]["content"][0]["text"],
                         chat["choices"][0]["message"]["content"])
        self.assertEqual(answer["usage"]["input_tokens"], chat["usage"]["prompt_tokens"])

    def test_refuses_what_it_cannot_do(self):
        for fields, param in (({"previous_response_id": "resp_1"}, "previous_response_id"),
                              ({"input": 5}, "input"), ({"input": [5]}, "input"),
                              ({"background": True}, "background"),
                              ({"input": [{"type": "item_reference"}]}, "input[].type"),
                              ({"tools": [{"type": "web_search"}]}, "tools")):
            error = self.server.post("/v1/responses", dict(self.ASK, **fields), 400)["error"]
            self.assertEqual(error["param"], param)


class Models(Case):
    def test_lists_the_model(self):
        listed = self.server.get("/v1/models")["data"]
        self.assertEqual([m["id"] for m in listed], ["mixtral"])
        self.assertEqual(self.server.get("/v1/models/mixtral"), listed[0])
        self.assertEqual(self.server.get("/health"), {"status": "ok"})
        error = self.server.post("/v1/completions", {"model": "x", "prompt": "a"}, 404)["error"]
        self.assertEqual(error["code"], "model_not_found")


if __name__ == "__main__":
    unittest.main()
