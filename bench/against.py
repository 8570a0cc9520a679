#!/usr/bin/env python3
"""Measures moxie beside other engines on the same file, in one run.

usage: bench/against.py MODEL.gguf... --peer NAME=PATH/TO/llama-bench [--peer ...]
                        [--prompt-tokens 512] [--generate-tokens 64] [--threads N] [--rounds 5]
                        [--table OUT.md] [--plot OUT.svg]

A peer is any program with llama-bench's options and JSON output. In each round every engine runs once,
in turn, so that a machine whose speed drifts is fair to all; the table gives medians over the rounds
and the ratio to the best peer. Leave the machine alone meanwhile.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run_json(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: exit status {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def run_moxie(model, args):
    out = run_json([str(ROOT / "build/moxie"), "bench", model, "--prompt-tokens", str(args.prompt_tokens),
                    "--generate-tokens", str(args.generate_tokens), "--repetitions", "1",
                    "--decode-context", "1",  # llama-bench decodes after nothing, too.
                    "--threads", str(args.threads), "--json"])
    return out["prefill_tokens_per_s"], out["decode_tokens_per_s"]


def run_peer(path, model, args):
    out = run_json([path, "-m", model, "-p", str(args.prompt_tokens), "-n", str(args.generate_tokens),
                    "-t", str(args.threads), "-r", "1", "-o", "json"])
    speed = {("prefill" if row["n_prompt"] else "decode"): row["avg_ts"] for row in out}
    return speed["prefill"], speed["decode"]


def read_peer(text):
    """NAME=PATH as a pair; for argparse."""
    name, _, path = text.partition("=")
    if not pathlib.Path(path).exists():
        raise argparse.ArgumentTypeError(f"{text}: no program there")
    return name, path


def engines_of(args):
    """name -> function of a model and the arguments that gives (prefill, decode)."""
    peers = {name: lambda model, a, path=path: run_peer(path, model, a) for name, path in args.peer}
    return {"moxie": run_moxie, **peers}


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def measure(model, engines, args):
    """engine -> (prefill, decode) medians."""
    speeds = {name: [] for name in engines}
    for round_number in range(args.rounds):
        for name, run in engines.items():
            if sys.stderr.isatty():
                print(f"\r{pathlib.Path(model).name}: round {round_number + 1}/{args.rounds} {name}    ",
                      end="", file=sys.stderr)
            speeds[name].append(run(model, args))
    return {name: tuple(statistics.median(column) for column in zip(*rows))
            for name, rows in speeds.items()}


def write_table(results, args):
    peers = [name for name in next(iter(results.values())) if name != "moxie"]
    lines = [f"{cpu_name()}, {args.threads} threads, prompt {args.prompt_tokens}, generated "
             f"{args.generate_tokens}, medians of {args.rounds} alternating runs, tokens/s", "",
             "| model | work | " + " | ".join(["moxie", *peers]) + " | moxie / best peer |",
             "|---|---|" + "---|" * (len(peers) + 2)]
    for model, speeds in results.items():
        for work, index in (("prefill", 0), ("decode", 1)):
            best = max((speeds[p][index] for p in peers), default=float("nan"))
            lines.append(f"| {model} | {work} | " +
                         " | ".join(f"{speeds[n][index]:.1f}" for n in ["moxie", *peers]) +
                         f" | {speeds['moxie'][index] / best:.2f} |")
    return "\n".join(lines) + "\n"


def write_plot(results, path):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, 2, figsize=(10, 1.5 + 0.8 * len(results)), layout="constrained")
    for axis, (work, index) in zip(axes, (("prefill", 0), ("decode", 1))):
        names = list(next(iter(results.values())))
        for place, name in enumerate(names):
            axis.barh([i + 0.8 * place / len(names) for i in range(len(results))],
                      [speeds[name][index] for speeds in results.values()], 0.8 / len(names), label=name)
        axis.set_yticks([i + 0.4 - 0.4 / len(names) for i in range(len(results))], list(results))
        axis.set_xlabel(f"{work}, tokens/s")
        axis.legend()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--peer", action="append", default=[], type=read_peer, metavar="NAME=PATH")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--generate-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--table")
    parser.add_argument("--plot")
    args = parser.parse_args()
    engines = engines_of(args)
    results = {pathlib.Path(m).name: measure(m, engines, args) for m in args.models}
    table = write_table(results, args)
    print(table, end="")
    if args.table:
        pathlib.Path(args.table).write_text(table)
    if args.plot:
        write_plot(results, args.plot)


if __name__ == "__main__":
    main()
