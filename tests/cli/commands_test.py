#!/usr/bin/env python3
"""The command line, end to end: exit statuses, messages, formats of output, and equal results where
they are promised. Models: the project's golden folders, and a tiny GGUF made here."""
import array
import ast
import fcntl
import json
import os
import pathlib
import signal
import struct
import subprocess
import termios
import unittest

from command_case import MODELS, Case, run
from python_support import MOXIE, PATIENCE_S, wait_for
from tiny_gguf import write_tiny_gguf


def read_npy(path):
    """Shape and values of a little-endian float32 .npy (NumPy's format 1.0)."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00"
    (length,) = struct.unpack("<H", data[8:10])
    header = ast.literal_eval(data[10:10 + length].decode())
    assert header["descr"] == "<f4" and not header["fortran_order"]
    assert (10 + length) % 64 == 0
    values = array.array("f")
    values.frombytes(data[10 + length:])
    return header["shape"], values


def unread_bytes(pipe):
    return array.array("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


def cpu_s(process):
    """The time that a process has computed."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


class Usage(Case):
    def test_wrong_usage_is_2_and_one_line(self):
        for args in (["run"], ["run", "m", "p", "more"], ["run", "m", "--no-such"],
                     ["run", "m", "--temperature", "-1"], ["run", "m", "--top-p", "1.5"],
                     ["run", "m", "--temperature", "nan"], ["run", "m", "--typical-p", "0"],
                     ["run", "m", "--repeat-penalty", "0"], ["run", "m", "--logit-bias", "x=1"],
                     ["run", "m", "--threads", "0"], ["run", "m", "--memory", "12 apples"],
                     ["run", "m", "--kv-type", "q4_0"], ["run", "m", "--kernels", "sse9"],
                     ["run", "m", "--max-tokens", "-5"], ["run", "m", "--context", "0"],
                     ["logits", "m"], ["perplexity", "m"], ["completion", "tcsh"]):
            with self.subTest(args=args):
                self.bad(2, *args)

    def test_an_unknown_command_is_named(self):
        result = run("frobnicate")
        self.assertEqual(result.returncode, 2)
        self.assertIn(b"frobnicate", result.stderr)

    def test_help_lists_every_command_and_option(self):
        text = self.good("--help")
        for command in ("run", "chat", "tokenize", "detokenize", "logits", "perplexity", "inspect",
                        "upcycle", "doctor"):
            self.assertIn(f"\n  {command} ", text)
        text = self.good("run", "--help")
        for option in ("--threads", "--context", "--memory", "--kv-type", "--kernels",
                       "--batch-invariant", "--lora", "--json", "--raw", "--temperature", "--top-k",
                       "--top-p", "--min-p", "--typical-p", "--repeat-penalty",
                       "--presence-penalty", "--frequency-penalty", "--logit-bias", "--stop",
                       "--seed", "--max-tokens"):
            self.assertIn(f"  {option}", text)

    def test_manual_and_completions_come_from_the_same_declarations(self):
        self.assertIn("\\-\\-typical\\-p", self.good("man", "run"))
        for shell in ("bash", "zsh", "fish"):
            script = self.good("completion", shell)
            for word in ("tokenize", "typical-p", "avx512"):
                self.assertIn(word, script)
        checked = subprocess.run(["bash", "-n"], input=self.good("completion", "bash").encode())
        self.assertEqual(checked.returncode, 0)


class BadInput(Case):
    def test_a_missing_model(self):
        for command in (["run"], ["tokenize"], ["inspect"]):
            message = self.bad(1, *command, self.folder / "none.gguf", *([] if command == ["inspect"] else ["x"]))
            self.assertIn("none.gguf", message)

    def test_a_file_that_is_no_model(self):
        path = self.folder / "bad.gguf"
        for content in (b"", b"GGUF", b"not a model at all", b"GGUF" + b"\xff" * 60):
            path.write_bytes(content)
            self.assertIn("bad.gguf", self.bad(1, "run", path, "x"))

    def test_bad_ids(self):
        for text in ("", "{}", "[1, 2", "[1.5]", '["a"]', "[-1]", "[4294967296]", "[" * 100000):
            path = self.folder / "ids.json"
            path.write_text(text)
            message = self.bad(1, "logits", self.tiny, "--ids-file", path, "--out", self.folder / "o.npy")
            self.assertIn("ids.json", message)
        self.bad(1, "logits", self.tiny, "--ids-file", self.ids_file([]), "--out", self.folder / "o.npy")
        self.bad(1, "logits", self.tiny, "--ids-file", self.ids_file([1, 99999]), "--out", self.folder / "o.npy")
        self.assertEqual(list(self.folder.glob("o.npy*")), [], "no half files are left")

    def test_a_budget_that_is_too_small(self):
        self.assertIn("MiB", self.bad(1, "run", self.tiny, "x", "--memory", "4k"))
        self.good("run", self.tiny, "x", "--memory", "8GiB", "--max-tokens", "1")

    def test_a_prompt_longer_than_the_context(self):
        self.assertIn("context", self.bad(1, "run", self.tiny, "--raw", "x" * 99, "--context", "50"))

    def test_a_bias_outside_the_vocabulary(self):
        self.bad(1, "run", self.tiny, "x", "--logit-bias", "99999=1")

    def test_an_adapter_that_is_none(self):
        self.bad(1, "run", self.tiny, "x", "--lora", self.folder)

    def test_outputs_that_cannot_be_written(self):
        self.bad(1, "logits", self.tiny, "--ids-file", self.ids_file([1]), "--out", "/no/such/o.npy")
        self.bad(1, "upcycle", self.tiny, "/no/such/o.gguf")

    def test_a_broken_template_is_met_only_by_who_needs_it(self):
        path = self.folder / "template.gguf"
        write_tiny_gguf(path, template="{% for %}")
        self.assertIn("template", self.bad(1, "run", path, "x"))
        self.good("run", path, "--raw", "x", "--max-tokens", "2")


class Tokens(Case):
    def test_a_line_for_each_token(self):
        lines = self.good("tokenize", self.tiny, "ab b\n").splitlines()
        self.assertEqual(lines, ["259\tab", "35\tĠ", "101\tb", "13\tĊ"])

    def test_json_and_back(self):
        text = "Grüße, 世界! \U0001f469\u200d\U0001f680\r\n\t"
        ids = json.loads(self.good("tokenize", self.tiny, text, "--json"))
        path = self.ids_file(ids)
        self.assertEqual(run("detokenize", self.tiny, "--ids-file", path).stdout, text.encode())

    def test_special_tokens(self):
        self.assertEqual(json.loads(self.good("tokenize", self.tiny, "<|im_end|>", "--json")), [2])
        plain = json.loads(self.good("tokenize", self.tiny, "<|im_end|>", "--json", "--no-special"))
        self.assertEqual(len(plain), 10)

    def test_any_bytes_from_a_file_or_standard_input(self):
        content = bytes(range(256))
        path = self.folder / "bytes.bin"
        path.write_bytes(content)
        ids = self.good("tokenize", self.tiny, "--file", path, "--json")
        self.assertEqual(self.good("tokenize", self.tiny, "--json", stdin=content), ids)
        back = run("detokenize", self.tiny, "--ids-file", self.ids_file(json.loads(ids)))
        self.assertEqual(back.stdout.decode(), content.decode(errors="replace"))


class Logits(Case):
    def test_golden_models(self):
        for name in ("mixtral", "mistral-window", "llama3-rope", "qwen3moe", "gptoss", "deepseekv3"):
            golden = json.loads((MODELS / name / "golden.json").read_text())
            for sequence in golden["sequences"]:
                with self.subTest(model=name, sequence=sequence["name"]):
                    out, routing = self.folder / "o.npy", self.folder / "o.json"
                    self.good("logits", MODELS / name, "--ids-file", self.ids_file(sequence["ids"]),
                              "--out", out, "--routing", routing, "--kernels", "scalar")
                    shape, got = read_npy(out)
                    want_shape, want = read_npy(MODELS / name / sequence["logits"])
                    self.assertEqual(shape, want_shape)
                    largest = max(map(abs, want))
                    self.assertLess(max(abs(a - b) for a, b in zip(got, want)), 2e-4 * largest)
                    layers = json.loads(routing.read_text())["layers"]
                    self.assertEqual(len(layers), len(golden.get("moe_layers", layers)))
                    for layer in layers:
                        self.assertEqual(len(layer["experts"]), shape[0])
                        self.assertEqual([len(e) for e in layer["experts"]],
                                         [len(w) for w in layer["weights"]])


class Run(Case):
    def answer(self, *args, **kwargs):
        return json.loads(self.good("run", self.tiny, "--json", "--ignore-eos", *args, **kwargs))

    def test_json(self):
        answer = self.answer("hello", "--max-tokens", "5")
        self.assertEqual(len(answer["ids"]), 5)
        self.assertEqual(answer["finish_reason"], "length")
        self.assertEqual(set(answer["timings"]), {"load_s", "prefill_s", "prefill_tokens_per_s",
                                                  "decode_s", "decode_tokens_per_s"})
        self.assertGreater(answer["peak_memory_bytes"], 0)
        self.assertNotIn("routing", answer)
        template = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
        ids = json.loads(self.good("tokenize", self.tiny, template, "--json"))
        self.assertEqual(answer["prompt_tokens"], len(ids))
        raw = self.answer(template, "--raw", "--max-tokens", "5")
        self.assertEqual(raw["ids"], answer["ids"])

    def test_constrained_answers(self):
        schema = self.folder / "schema.json"
        schema.write_text('{"type": "object", "properties": {"n": {"type": "integer", "maximum": 99,'
                          '"minimum": 10}}, "required": ["n"], "additionalProperties": false}')
        grammar = self.folder / "grammar.gbnf"
        grammar.write_text('root ::= "<" [a-c]{3} ">"')
        hot = ("--temperature", "2", "--max-tokens", "200")
        for seed in "1", "2", "3":
            given = (*hot, "--seed", seed)
            for source in schema, schema.read_text():
                answer = self.answer("hello", "--json-schema", source, *given)
                self.assertEqual(answer["finish_reason"], "stop")
                self.assertIn(json.loads(answer["text"])["n"], range(10, 100))
            self.assertRegex(self.answer("x", "--grammar", grammar, *given)["text"], "^<[abc]{3}>$")
            self.assertRegex(self.answer("x", "--regex", "[0-9]{4}-[xy]", *given)["text"],
                             "^[0-9]{4}-[xy]$")
            self.assertIn(self.answer("x", "--choice", "yes", "--choice", "no", *given)["text"],
                          ("yes", "no"))
        cut = self.answer("x", "--json-schema", schema, "--max-tokens", "2", "--temperature", "2")
        self.assertEqual(cut["finish_reason"], "length")
        self.assertIn("left recursion", self.bad(1, "run", self.tiny, "x", "--grammar",
                                                 self.grammar_file("root ::= root")))
        self.bad(1, "run", self.tiny, "x", "--json-schema", "/no/such.json")
        self.bad(2, "run", self.tiny, "x", "--regex", "a", "--choice", "b")

    def grammar_file(self, text):
        path = self.folder / "other.gbnf"
        path.write_text(text)
        return path

    def test_the_stream_is_the_text(self):
        text = self.answer("hello", "--max-tokens", "30")["text"]
        streamed = self.good("run", self.tiny, "--ignore-eos", "hello", "--max-tokens", "30")
        self.assertEqual(streamed.rstrip("\n"), text.rstrip("\n"))

    def test_standard_input(self):
        self.assertEqual(self.answer("--max-tokens", "6", stdin=b"hello\n")["ids"],
                         self.answer("hello", "--max-tokens", "6")["ids"])

    def test_golden_greedy_ids(self):
        for name in ("mixtral", "qwen2moe"):
            golden = json.loads((MODELS / name / "golden.json").read_text())
            for greedy in golden["greedy"]:
                if "prompt" not in greedy:
                    continue
                out = json.loads(self.good("run", MODELS / name, "--raw", "--json", "--ignore-eos",
                                           greedy["prompt"], "--max-tokens", len(greedy["ids"])))
                self.assertEqual(out["ids"], greedy["ids"])

    def test_seeds_and_threads(self):
        sampled = ["hello", "--max-tokens", "40", "--temperature", "1.5"]
        one = self.answer(*sampled, "--seed", "3", "--threads", "1")["ids"]
        self.assertEqual(self.answer(*sampled, "--seed", "3", "--threads", "4")["ids"], one)
        self.assertNotEqual(self.answer(*sampled, "--seed", "4")["ids"], one)

    def test_stop_and_bias(self):
        full = self.answer("hello", "--max-tokens", "30")
        stop = full["text"][2:4]
        cut = self.answer("hello", "--max-tokens", "30", "--stop", stop)
        self.assertEqual(cut["text"], full["text"][:full["text"].index(stop)])
        self.assertEqual(cut["finish_reason"], "stop")
        first = full["ids"][0]
        self.assertNotEqual(self.answer("hello", "--max-tokens", "1", "--logit-bias",
                                        f"{first}=-inf")["ids"], [first])

    def test_ctrl_c_keeps_what_was_said(self):
        process = subprocess.Popen([MOXIE, "run", self.tiny, "hello", "--ignore-eos", "--context",
                                    "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        begun = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest, error = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(error, b"")
        self.assertTrue(begun + rest)

    def test_ctrl_c_with_json_prints_the_object(self):
        theirs, ours = os.pipe()
        os.write(ours, b"hello")
        process = subprocess.Popen([MOXIE, "run", self.tiny, "--ignore-eos", "--context", "100000",
                                    "--json"], stdin=theirs, stdout=subprocess.PIPE)
        os.close(ours)
        wait_for(lambda: unread_bytes(theirs) == 0)
        os.close(theirs)
        begun = cpu_s(process)
        wait_for(lambda: cpu_s(process) > begun + 0.1)  # It has the prompt, so it answers.
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(json.loads(out)["finish_reason"], "cancelled")


class Mixture(Case):
    def upcycle(self, *options):
        out = self.folder / "mixture.gguf"
        self.good("upcycle", self.tiny, out, *options)
        return out

    def logits(self, model, *options):
        out = self.folder / "o.npy"
        self.good("logits", model, "--ids-file", self.ids_file(list(range(0, 250, 7))), "--out", out,
                  "--kernels", "scalar", *options)
        return read_npy(out)[1]

    def test_without_noise_it_is_the_dense_model_to_the_last_bit(self):
        self.assertEqual(self.logits(self.upcycle()), self.logits(self.tiny))

    def test_with_noise_it_is_so_up_to_rounding_and_spreads(self):
        mixture = self.upcycle("--experts", "5", "--used", "3", "--noise", "0.3", "--seed", "9")
        routing = self.folder / "routing.json"
        got, want = self.logits(mixture, "--routing", routing), self.logits(self.tiny)
        largest = max(map(abs, want))
        self.assertLess(max(abs(a - b) for a, b in zip(got, want)), 1e-5 * largest)
        for layer in json.loads(routing.read_text())["layers"]:
            self.assertEqual({e for token in layer["experts"] for e in token}, set(range(5)))

    def test_routing_shares(self):
        answer = json.loads(self.good("run", self.upcycle("--noise", "1"), "hello", "--json",
                                      "--max-tokens", "4", "--ignore-eos"))
        self.assertEqual(len(answer["routing"]), 2)
        for layer in answer["routing"]:
            self.assertEqual(len(layer), 8)
            self.assertAlmostEqual(sum(layer), 2)

    def test_inspect(self):
        dense = json.loads(self.good("inspect", self.tiny, "--json"))
        mixture = json.loads(self.good("inspect", self.upcycle(), "--json", "--tensors"))
        self.assertEqual((mixture["experts"], mixture["experts_per_token"]), (8, 2))
        ffn, router = 3 * 64 * 32, 8 * 32
        self.assertEqual(mixture["parameters"]["total"],
                         dense["parameters"]["total"] + 2 * (7 * ffn + router))
        self.assertEqual(mixture["parameters"]["active"],
                         dense["parameters"]["total"] + 2 * (ffn + router))
        shapes = {t["name"]: t["shape"] for t in mixture["tensors"]}
        self.assertEqual(shapes["blk.1.ffn_down_exps.weight"], [8, 32, 64])

    def test_a_folder_becomes_one_too(self):
        for name in ("mistral-window", "llama3-rope", "qwen3"):
            out = self.folder / "mixture.gguf"
            self.good("upcycle", MODELS / name, out, "--experts", "3")
            self.assertEqual(self.logits(out), self.logits(MODELS / name))

    def test_what_cannot_be_one_is_refused(self):
        self.bad(1, "upcycle", MODELS / "qwen2", self.folder / "twice.gguf")
        self.bad(1, "upcycle", self.upcycle(), self.folder / "twice.gguf")
        self.bad(1, "upcycle", MODELS / "mixtral", self.folder / "twice.gguf")
        self.bad(1, "upcycle", self.tiny, self.folder / "o.gguf", "--experts", "2", "--used", "3")


class Perplexity(Case):
    def test_equals_what_the_logits_say(self):
        import math
        text = "".join(chr(97 + i * i % 23) for i in range(200))
        path = self.folder / "text.txt"
        path.write_text(text)
        out = json.loads(self.good("perplexity", self.tiny, "--file", path, "--context", "32",
                                   "--chunks", "3", "--json", "--kernels", "scalar"))
        ids = json.loads(self.good("tokenize", self.tiny, text, "--json", "--no-special"))
        losses = []
        for window in range(3):
            part = ids[window * 32:window * 32 + 32]
            self.good("logits", self.tiny, "--ids-file", self.ids_file(part), "--out",
                      self.folder / "o.npy", "--kernels", "scalar")
            (_, vocab), values = read_npy(self.folder / "o.npy")
            for t in range(16, 31):
                row = values[t * vocab:(t + 1) * vocab]
                losses.append(math.log(sum(map(math.exp, row))) - row[part[t + 1]])
        mean = sum(losses) / len(losses)
        deviation = math.sqrt(sum(l * l for l in losses) / len(losses) - mean * mean)
        self.assertEqual(out["tokens"], len(losses))
        self.assertAlmostEqual(out["perplexity"] / math.exp(mean), 1, 9)
        self.assertAlmostEqual(out["stderr"] / (math.exp(mean) * deviation / math.sqrt(len(losses) - 1)), 1, 6)

    def test_a_short_text_is_refused(self):
        path = self.folder / "short.txt"
        path.write_text("too short")
        self.assertIn("short.txt", self.bad(1, "perplexity", self.tiny, "--file", path))


class Chat(Case):
    def test_a_conversation_from_a_script(self):
        saved = self.folder / "talk.json"
        script = (f"/system Be brief.\nhello\nand now?\n/save {saved}\n/clear\n/load {saved}\n"
                  "/stats\n/nonsense\n/quit\nnever\n")
        result = run("chat", self.tiny, "--max-tokens", "4", "--ignore-eos", stdin=script.encode())
        self.assertEqual(result.returncode, 0)
        talk = json.loads(saved.read_text())
        self.assertEqual(talk["system"], "Be brief.")
        self.assertEqual([m["role"] for m in talk["messages"]], ["user", "assistant"] * 2)
        self.assertIn(b"nonsense", result.stderr)
        self.assertIn(b"of them known", result.stderr)
        said = "".join(m["content"] for m in talk["messages"] if m["role"] == "assistant")
        self.assertEqual(result.stdout.decode().replace("\n", ""), said.replace("\n", ""))

    def test_a_foreign_file_is_not_loaded(self):
        bad = self.folder / "bad.json"
        for content in ("[]", "{}", '{"system": 1, "messages": []}', '{"system": "", "messages": [1]}', "[" * 100000):
            bad.write_text(content)
            result = run("chat", self.tiny, stdin=f"/load {bad}\n".encode())
            self.assertEqual(result.returncode, 0)
            self.assertIn(b"bad.json", result.stderr)

    def test_a_model_without_a_template_is_refused(self):
        path = self.folder / "plain.gguf"
        write_tiny_gguf(path, template=None)
        self.assertIn("template", self.bad(1, "chat", path))


if __name__ == "__main__":
    unittest.main()
