#!/usr/bin/env python3
"""How speed grows with prompts, contexts and experts, beside this machine's bound and other engines.

usage: bench/scaling.py MODEL.gguf... [--peer NAME=PATH/TO/llama-bench ...] [--threads N] [--rounds 3]
                        [--prompts 128,512,2048,8192] [--contexts 0,4096,16384,32768] [--kernels SET]
                        [--sequences 1,2,4,8,16,32] [--kv-type f16] [--table OUT.md]

For each model a row a prompt length (prefill), a context (decode after so many tokens) and a number
of sequences (decoded at once, counted together, after 16 tokens each), medians of alternating runs.
Models of other expert counts or windows are given as files of their own. A peer that lacks
llama-bench's -d has no figures for decoding after a context, and none has for sequences. The bound
of prefill is what the kernels reach in cache over the weights' operations, that of decode the
memory's bandwidth over the weights' bytes: neither counts attention, which is why shares fall with
the context. Of sequences there is none: it depends on which experts they share.
"""
import argparse
import os
import pathlib
import statistics
import subprocess

from against import ROOT, cpu_name, read_peer, run_json


def run_moxie(model, prompt, context, sequences, args):
    out = run_json([str(ROOT / "build/moxie"), "bench", model, "--prompt-tokens", str(prompt or 1),
                    "--decode-context", str(max(1, context)), "--generate-tokens", str(args.generate_tokens),
                    "--sequences", str(sequences), "--repetitions", "1", "--threads", str(args.threads), "--kv-type", args.kv_type,
                    "--kernels", args.kernels, "--json"])
    phase = "prefill" if prompt else "decode"
    bound = out.get("bound", {}).get(f"{phase}_tokens_per_s", float("nan"))  # None of sequences.
    return out[f"{phase}_tokens_per_s"], bound


def run_peer(path, model, prompt, context, sequences, args):
    """Tokens/s, or nan where the program cannot."""
    if sequences > 1:
        return float("nan")
    work = ["-p", str(prompt), "-n", "0"] if prompt else ["-p", "0", "-n", str(args.generate_tokens)]
    if context:
        if " -d," not in subprocess.run([path, "--help"], capture_output=True, text=True).stdout:
            return float("nan")
        work += ["-d", str(context)]
    out = run_json([path, "-m", model, *work, "-t", str(args.threads), "-r", "1", "-ctk", args.kv_type, "-ctv",
                    args.kv_type, "-fa", "1", "-o", "json"])
    return out[-1]["avg_ts"]


def row(model, work, args, prompt=0, context=0, sequences=1):
    speeds = {name: [] for name in ["moxie", *(name for name, _ in args.peer)]}
    bounds = []
    for _ in range(args.rounds):
        speed, bound = run_moxie(model, prompt, context, sequences, args)
        speeds["moxie"].append(speed)
        bounds.append(bound)
        for name, path in args.peer:
            speeds[name].append(run_peer(path, model, prompt, context, sequences, args))
    medians = [statistics.median(values) for values in speeds.values()]
    share = 100 * medians[0] / statistics.median(bounds)
    cells = [f"{value:.1f}" if value == value else "–" for value in medians]
    cells.append(f"{share:.0f} %" if share == share else "–")
    return f"| {pathlib.Path(model).stem} | {work} | " + " | ".join(cells) + " |"


def numbers(text):
    return [int(part) for part in text.split(",") if part]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--peer", action="append", default=[], type=read_peer, metavar="NAME=PATH")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--generate-tokens", type=int, default=32)
    parser.add_argument("--prompts", type=numbers, default=[128, 512, 2048, 8192])
    parser.add_argument("--contexts", type=numbers, default=[0, 4096, 16384, 32768])
    parser.add_argument("--sequences", type=numbers, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--kernels", default="auto")
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--table")
    args = parser.parse_args()
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True,
                            text=True).stdout.strip()
    lines = [f"{cpu_name()}, {args.threads} threads, kernels {args.kernels}, {args.kv_type} cache, commit "
             f"{commit}, medians of {args.rounds} runs, tokens/s", "",
             "| model | work | moxie | " + "".join(f"{name} | " for name, _ in args.peer) + "share of bound |",
             "|---|---|---|" + "---|" * (len(args.peer) + 1)]
    print("\n".join(lines), flush=True)
    for model in args.models:
        works = [(f"prefill {prompt}", {"prompt": prompt}) for prompt in args.prompts]
        works += [(f"decode at {context}", {"context": context}) for context in args.contexts]
        works += [(f"decode {n} at once", {"context": 16, "sequences": n}) for n in args.sequences]
        for work, sizes in works:
            lines.append(row(model, work, args, **sizes))
            print(lines[-1], flush=True)
    if args.table:
        pathlib.Path(args.table).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
