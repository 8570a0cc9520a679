#!/usr/bin/env python3
"""The real lm-evaluation-harness against the server, without any other tokenizer than the server's.
Its tasks are made of the golden sequences, so that Hugging Face's logits (and greedy answers) for
these say what every number must be."""
import json
import math
import os
import pathlib
import shutil
import tempfile
import unittest

from npy import read_npy
from python_support import ROOT, enter_venv
from server import GOLDEN, Server

MODELS = ("mixtral", "qwen3moe")

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{target}}}}"
metric_list: [{{metric: {metric}}}]
{more}
"""


class Golden:
    """What Hugging Face says of one model's sequences."""

    def __init__(self, name):
        self.folder = GOLDEN / name
        self.json = json.loads((self.folder / "golden.json").read_text())

    def sequences(self):
        for sequence in self.json["sequences"]:
            (rows, vocab), logits = read_npy(self.folder / sequence["logits"])
            scores = []
            for t in range(rows - 1):
                row = logits[t * vocab:(t + 1) * vocab]
                top = max(row)
                total = math.log(sum(math.exp(x - top) for x in row)) + top
                chosen = row[sequence["ids"][t + 1]]
                scores.append((chosen - total, chosen == top))
            yield sequence["ids"], scores


class Harness(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        os.environ.update(HF_HOME=holder.name, HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1",
                          OPENAI_API_KEY="none")

    def serve(self, name, **options):
        path = self.folder / name
        shutil.copytree(GOLDEN / name, path)
        # A conversation's text is the prompt itself, so that golden answers hold for chats too.
        (path / "chat_template.jinja").write_text("{{ messages[0].content }}")
        return Server(path, "--parallel", 4, **options)

    def evaluate(self, server, route, task, **model):
        """The samples of one task, in the order of its documents."""
        import lm_eval
        from lm_eval.tasks import TaskManager
        kind = "local-chat-completions" if "chat" in route else "local-completions"
        results = lm_eval.simple_evaluate(
            model=kind, tasks=[task], log_samples=True, bootstrap_iters=0,
            apply_chat_template="chat" in route,
            model_args=dict({"max_length": 128}, model=server.get("/v1/models")["data"][0]["id"],
                            base_url=server.url + route, max_retries=1, **model),
            # Looking through the harness's own tasks takes it ten seconds.
            task_manager=TaskManager(include_path=str(self.folder), include_defaults=False))
        samples = results["samples"][task]
        return sorted(samples, key=lambda sample: sample["doc_id"])

    def write_task(self, name, kind, metric, documents, more=""):
        data = self.folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(document) + "\n" for document in documents))
        (self.folder / f"{name}.yaml").write_text(
            TASK.format(name=name, file=data, kind=kind, metric=metric, more=more))

    def splits(self, server, golden):
        """(context, continuation, log-likelihood, greedy): wherever the texts of a sequence's two
        parts are encoded as its ids, and neither begins or ends with a space, which the harness
        moves."""
        encode = lambda text: server.post("/tokenize", {"prompt": text, "add_special_tokens": False})[
            "tokens"]
        decode = lambda ids: server.post("/detokenize", {"tokens": ids})["prompt"]
        for ids, scores in golden.sequences():
            whole = decode(ids)
            if encode(whole) != ids:
                continue
            for at in range(1, len(ids)):
                context = decode(ids[:at])
                if not whole.startswith(context) or encode(context) != ids[:at]:
                    continue
                rest = whole[len(context):]
                if context != context.rstrip() or not rest.strip():
                    continue
                tail = scores[at - 1:]
                yield context, rest, sum(s for s, _ in tail), all(g for _, g in tail)

    def test_log_likelihoods_and_greedy_flags(self):
        for name in MODELS:
            with self.subTest(model=name), self.serve(name) as server:
                splits = list(self.splits(server, Golden(name)))
                self.assertGreater(len(splits), 5)
                self.write_task(f"pairs_{name}", "loglikelihood", "acc", [
                    {"context": context, "target": rest} for context, rest, _, _ in splits],
                    'target_delimiter: ""')
                for backend in (dict(), dict(batch_size=7), dict(num_concurrent=4)):
                    samples = self.evaluate(server, "/v1/completions", f"pairs_{name}",
                                            tokenizer_backend="remote", **backend)
                    self.assertEqual(len(samples), len(splits))
                    for sample, (_, _, want, greedy) in zip(samples, splits):
                        ((got, is_greedy),) = sample["filtered_resps"]
                        self.assertAlmostEqual(float(got), want, delta=1e-3)
                        self.assertEqual(str(is_greedy), str(greedy))

    def reference_data(self):
        """The folder of published tasks, and what Hugging Face's models say of them."""
        data = pathlib.Path(os.environ.get("MOXIE_SHARED", ROOT.parent / "shared")) / "data"
        if not data.is_dir():
            self.skipTest(f"no tasks at {data}")
        return data, json.loads((ROOT / "tests/golden/evaluation.json").read_text())

    def lines(self, path, numbers):
        lines = path.read_text().splitlines()
        return [json.loads(lines[number]) for number in numbers]

    def test_piqa(self):
        data, wants = self.reference_data()
        for name in MODELS:
            want = wants[name]["piqa"]
            with self.subTest(model=name), self.serve(name, context=1024) as server:
                problems = self.lines(data / "piqa.valid.jsonl", [number for number, _ in want])
                self.write_task(f"piqa_{name}", "multiple_choice", "acc", [
                    {"context": f"Question: {p['goal']}\nAnswer:", "target": 0,
                     "choices": [p["sol1"], p["sol2"]]} for p in problems],
                    'doc_to_choice: choices')
                samples = self.evaluate(server, "/v1/completions", f"piqa_{name}", max_length=1024,
                                        tokenizer_backend="remote", num_concurrent=4)
                for sample, (_, scores) in zip(samples, want, strict=True):
                    for (got, is_greedy), (score, greedy) in zip(sample["filtered_resps"], scores,
                                                                 strict=True):
                        self.assertAlmostEqual(float(got), score, delta=1e-3)
                        self.assertEqual(str(is_greedy), str(greedy))

    def test_gsm8k(self):
        data, wants = self.reference_data()
        for name in MODELS:
            want = wants[name]["gsm8k"]
            with self.subTest(model=name), self.serve(name, context=1024) as server:
                problems = self.lines(data / "gsm8k.test.jsonl", [number for number, _ in want])
                self.write_task(f"gsm8k_{name}", "generate_until", "exact_match", [
                    {"context": f"Question: {p['question']}\nAnswer:", "target": ""}
                    for p in problems], "generation_kwargs: {until: [], max_gen_toks: "
                    f"{max(len(ids) for _, ids in want)}, do_sample: false}}")
                decode = lambda ids: server.post("/detokenize", {"tokens": ids})["prompt"]
                stops = json.loads((GOLDEN / name / "generation_config.json").read_text())[
                    "eos_token_id"]
                stops = stops if isinstance(stops, list) else [stops]
                for route, backend in (("/v1/completions", "remote"), ("/v1/chat/completions", None)):
                    samples = self.evaluate(server, route, f"gsm8k_{name}", max_length=1024,
                                            eos_string="</never>", tokenizer_backend=backend)
                    for sample, (_, ids) in zip(samples, want, strict=True):
                        end = next((i for i, t in enumerate(ids) if t in stops), None)
                        self.assertEqual(sample["filtered_resps"][0].strip(),
                                         decode(ids[:end]).strip(), route)

    def test_rolling_log_likelihood(self):
        with self.serve("mixtral") as server:
            documents, wants = [], []
            for ids, scores in Golden("mixtral").sequences():
                text = server.post("/detokenize", {"tokens": ids[1:]})["prompt"]
                back = server.post("/tokenize", {"prompt": text, "add_special_tokens": False})
                if ids[0] == 0 and back["tokens"] == ids[1:] and ids[1:]:
                    documents.append({"context": "", "target": text})
                    wants.append(sum(score for score, _ in scores))
            self.assertTrue(documents)
            self.write_task("rolling", "loglikelihood_rolling", "word_perplexity", documents)
            samples = self.evaluate(server, "/v1/completions", "rolling", tokenizer_backend="remote",
                                    custom_prefix_token_id=0)
            for sample, want in zip(samples, wants):
                self.assertAlmostEqual(float(sample["filtered_resps"][0]), want, delta=1e-3)

    def test_generation_in_completions_and_chats(self):
        for name in MODELS:
            with self.subTest(model=name), self.serve(name) as server:
                decode = lambda ids: server.post("/detokenize", {"tokens": ids})["prompt"]
                stops = json.loads((GOLDEN / name / "generation_config.json").read_text())
                stops = stops["eos_token_id"] if isinstance(stops["eos_token_id"], list) else [
                    stops["eos_token_id"]]
                documents, wants = [], []
                for greedy in Golden(name).json["greedy"]:
                    context = decode(greedy["prompt_ids"])
                    back = server.post("/tokenize", {"prompt": context, "add_special_tokens": False})
                    if back["tokens"] != greedy["prompt_ids"]:
                        continue
                    end = next((i for i, t in enumerate(greedy["ids"]) if t in stops), None)
                    documents.append({"context": context, "target": ""})
                    wants.append(decode(greedy["ids"][:end]))
                self.assertTrue(documents)
                length = len(Golden(name).json["greedy"][0]["ids"])
                self.write_task(f"say_{name}", "generate_until", "exact_match", documents,
                                f"generation_kwargs: {{until: [], max_gen_toks: {length}, "
                                "do_sample: false}")
                for route, backend in (("/v1/completions", "remote"), ("/v1/chat/completions", None)):
                    samples = self.evaluate(server, route, f"say_{name}", eos_string="</never>",
                                            tokenizer_backend=backend)
                    for sample, want in zip(samples, wants, strict=True):
                        self.assertEqual(sample["filtered_resps"][0].strip(), want.strip(), route)


if __name__ == "__main__":
    enter_venv("lm-eval", "lm-eval[api]==0.4.13")
    unittest.main()
