#!/usr/bin/env python3
"""Writes evaluation.json: what Hugging Face's models say of the first short problems of PIQA and
GSM8K in the folder of data beside the checkout, in the way of lm-evaluation-harness. Only numbers
and token ids are kept here.

  make_evaluation.py SHARED_DATA_FOLDER      (needs torch and transformers)"""
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ("mixtral", "qwen3moe")
COUNT, MOST_TOKENS, ANSWER_TOKENS = 12, 250, 12


def problems(path, fits):
    """(line number, problem) of the first that fit."""
    found = []
    with open(path) as lines:
        for number, line in enumerate(lines):
            problem = json.loads(line)
            if len(found) < COUNT and fits(problem):
                found.append((number, problem))
    return found


def score(model, encode, context, continuation):
    """Log-likelihood of a continuation, and whether each of its tokens is the likeliest."""
    context_ids, ids = encode(context), encode(context + continuation)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    total, greedy = 0.0, True
    for at in range(len(context_ids), len(ids)):
        row = logits[at - 1]
        total += (row[ids[at]] - torch.logsumexp(row, 0)).item()
        greedy = greedy and row.argmax().item() == ids[at]
    return [total, greedy]


def main():
    torch.set_num_threads(1)
    data = pathlib.Path(sys.argv[1])
    result = {}
    for name in MODELS:
        folder = HERE / "models" / name
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                     attn_implementation="eager",
                                                     experts_implementation="eager").eval()
        encode = lambda text: tokenizer.encode(text, add_special_tokens=False)
        piqa = [[number, [score(model, encode, f"Question: {p['goal']}\nAnswer:", " " + p[solution])
                          for solution in ("sol1", "sol2")]]
                for number, p in problems(data / "piqa.valid.jsonl", lambda p: len(encode(
                    "".join(p.values()))) < MOST_TOKENS)]
        gsm8k = []
        for number, p in problems(data / "gsm8k.test.jsonl",
                                  lambda p: len(encode(p["question"])) < 2 * MOST_TOKENS):
            ids = torch.tensor([encode(f"Question: {p['question']}\nAnswer:")])
            with torch.no_grad():
                answer = model.generate(ids, do_sample=False, max_new_tokens=ANSWER_TOKENS,
                                        attention_mask=torch.ones_like(ids), pad_token_id=0)
            gsm8k.append([number, answer[0, ids.shape[1]:].tolist()])
        result[name] = {"piqa": piqa, "gsm8k": gsm8k}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(kinds)}" for name, kinds in result.items())
    (HERE / "evaluation.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
