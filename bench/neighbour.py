#!/usr/bin/env python3
"""Measures what is left of decoding while another process keeps one CPU busy, beside other engines.

usage: bench/neighbour.py MODEL.gguf [--peer NAME=PATH/TO/llama-bench ...] [--threads N] [--rounds 3]

All run on the same N CPUs; the neighbour is bound to the last of them. An engine whose threads wait
for each other by spinning falls far below half its speed, one that hands out work as threads come for
it does not. Prints a table of medians.
"""
import argparse
import os
import statistics
import subprocess
import sys

from against import cpu_name, engines_of, read_peer


def with_neighbour(cpu, work):
    command = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{cpu}])\nwhile True: pass"]
    neighbour = subprocess.Popen(command)
    try:
        return work()
    finally:
        neighbour.kill()
        neighbour.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--peer", action="append", default=[], type=read_peer, metavar="NAME=PATH")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--generate-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.prompt_tokens = 16
    cpus = sorted(os.sched_getaffinity(0))[:args.threads]
    os.sched_setaffinity(0, cpus)
    speeds = {name: ([], []) for name in engines_of(args)}
    for _ in range(args.rounds):
        for name, run in engines_of(args).items():
            decode = lambda: run(args.model, args)[1]
            speeds[name][0].append(decode())
            speeds[name][1].append(with_neighbour(cpus[-1], decode))
    print(f"{cpu_name()}, {args.threads} threads, decoded tokens/s, medians of {args.rounds} runs\n")
    print("| engine | quiet | one CPU busy | left |\n|---|---|---|---|")
    for name, (quiet, busy) in speeds.items():
        quiet, busy = statistics.median(quiet), statistics.median(busy)
        print(f"| {name} | {quiet:.1f} | {busy:.1f} | {100 * busy / quiet:.0f} % |")


if __name__ == "__main__":
    main()
