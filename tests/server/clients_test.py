#!/usr/bin/env python3
"""The clients that people use, against the running server: the official openai and anthropic
packages and LangChain's OpenAI class, installed into a Python of their own where the registry can
be reached, and curl."""
import shutil
import subprocess
import tempfile
import unittest

from python_support import PATIENCE_S, enter_venv
from server import Server, chat_model

class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.server = Server(chat_model(cls.holder.name), "--parallel", 2, "--api-key", "secret",
                            context=512).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.holder.cleanup()

    ASK = [{"role": "user", "content": "Who?"}]

    def openai(self, key="secret"):
        import openai
        return openai.OpenAI(base_url=self.server.url + "/v1", api_key=key, max_retries=0)

    def test_openai(self):
        import openai
        client = self.openai()
        self.assertEqual([m.id for m in client.models.list()], ["mixtral"])
        ask = dict(model="mixtral", messages=self.ASK, max_tokens=8, temperature=0)
        whole = client.chat.completions.create(**ask).choices[0].message.content
        parts = client.chat.completions.create(stream=True, stream_options={"include_usage": True},
                                               **ask)
        chunks = list(parts)
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
                         whole)
        self.assertGreater(chunks[-1].usage.prompt_tokens, 0)
        text = client.completions.create(model="mixtral", prompt="a", max_tokens=3, logprobs=2)
        self.assertLessEqual(len(text.choices[0].logprobs.tokens), 3)
        with self.assertRaises(openai.AuthenticationError):
            self.openai("wrong").models.list()
        with self.assertRaises(openai.NotFoundError):
            client.completions.create(model="nope", prompt="a")
        with self.assertRaises(openai.BadRequestError) as refused:
            client.completions.create(model="mixtral", prompt="a", n=-1)
        self.assertEqual(refused.exception.param, "n")

    def test_openai_embeddings(self):
        import openai
        client = self.openai()
        # The client asks for base64 unless told otherwise.
        packed, plain = (client.embeddings.create(model="mixtral", input=["a", "b c"], **kind)
                         for kind in ({}, {"encoding_format": "float"}))
        for one, other in zip(packed.data, plain.data):
            self.assertEqual(len(one.embedding), len(other.embedding))
            for x, y in zip(one.embedding, other.embedding):
                self.assertAlmostEqual(x, y, delta=1e-6)
        with self.assertRaises(openai.BadRequestError):
            client.embeddings.create(model="mixtral", input="a", dimensions=7)

    def test_openai_responses(self):
        client = self.openai()
        ask = dict(model="mixtral", input="Who?", max_output_tokens=8, temperature=0)
        whole = client.responses.create(**ask)
        with client.responses.stream(**ask) as stream:
            text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        self.assertEqual(text, whole.output_text)
        called = client.responses.create(
            model="mixtral", input="Who?", tool_choice="required", parallel_tool_calls=False,
            tools=[{"type": "function", "name": "dial", "parameters": {
                "type": "object", "required": ["n"], "properties": {"n": {"enum": [1, 2]}}}}])
        (call,) = [item for item in called.output if item.type == "function_call"]
        self.assertEqual(call.name, "dial")
        self.assertIn(call.arguments, ('{"n":1}', '{"n":2}'))

    def test_openai_tools(self):
        tools = [{"type": "function", "function": {"name": "dial", "parameters": {
            "type": "object", "required": ["n"], "properties": {"n": {"enum": [1, 2]}}}}}]
        answer = self.openai().chat.completions.create(
            model="mixtral", messages=self.ASK, tools=tools, tool_choice="required",
            parallel_tool_calls=False)
        (call,) = answer.choices[0].message.tool_calls
        self.assertEqual(call.function.name, "dial")
        self.assertIn(call.function.arguments, ('{"n":1}', '{"n":2}'))

    def test_anthropic(self):
        import anthropic
        client = anthropic.Anthropic(base_url=self.server.url, api_key="secret", max_retries=0)
        ask = dict(model="mixtral", messages=self.ASK, max_tokens=8,
                   system=[{"type": "text", "text": "Be brief."}], extra_body={"temperature": 0})
        whole = client.messages.create(**ask)
        self.assertEqual(whole.type, "message")
        self.assertIn(whole.stop_reason, ("end_turn", "max_tokens"))
        with client.messages.stream(**ask) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(text, "".join(b.text for b in whole.content))
        self.assertEqual(final.usage.output_tokens, whole.usage.output_tokens)
        counted = client.messages.count_tokens(model="mixtral", messages=self.ASK)
        self.assertGreater(counted.input_tokens, 0)
        tools = [{"name": "dial", "description": "d", "input_schema": {
            "type": "object", "required": ["n"], "properties": {"n": {"enum": [1, 2]}}}}]
        called = client.messages.create(
            model="mixtral", messages=self.ASK, max_tokens=200, tools=tools,
            tool_choice={"type": "any", "disable_parallel_tool_use": True})
        self.assertEqual(called.stop_reason, "tool_use")
        use = called.content[-1]
        self.assertIn(use.input, ({"n": 1}, {"n": 2}))
        turn = [*self.ASK, {"role": "assistant", "content": [
            {"type": "tool_use", "id": use.id, "name": "dial", "input": use.input}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id,
                                          "content": "ok"}]}]
        client.messages.create(model="mixtral", messages=turn, max_tokens=4)
        with self.assertRaises(anthropic.BadRequestError):
            client.messages.create(model="mixtral", messages=[], max_tokens=4)

    def test_langchain(self):
        from langchain_openai import ChatOpenAI
        model = ChatOpenAI(base_url=self.server.url + "/v1", api_key="secret", model="mixtral",
                           temperature=0, max_tokens=6, max_retries=0)
        whole = model.invoke("Who?")
        self.assertEqual("".join(c.content for c in model.stream("Who?")), whole.content)

    def test_curl(self):
        if shutil.which("curl") is None:
            self.skipTest("no curl here")
        run = subprocess.run(
            ["curl", "-sSN", self.server.url + "/v1/chat/completions", "-H",
             "Authorization: Bearer secret", "-d",
             '{"messages":[{"role":"user","content":"hi"}],"max_tokens":3,"stream":true}'],
            capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        self.assertTrue(run.stdout.startswith("data: {"))
        self.assertTrue(run.stdout.endswith("data: [DONE]\n\n"))


if __name__ == "__main__":
    enter_venv("clients", "openai", "anthropic", "langchain-openai")
    unittest.main()
