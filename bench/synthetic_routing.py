#!/usr/bin/env python3
"""Writes a routing of Mixtral's shape whose tokens repeat experts as often as the paper says.

usage: bench/synthetic_routing.py OUT.json [--tokens 400] [--layers 32] [--experts 8] [--used 2]
                                  [--repeat SHARE] [--skew S] [--seed N]

Mixtral (arXiv:2401.04088, table 5) counts how often consecutive tokens share one of their two experts:
46 % if routing were independent, measured 46 to 49 % in the first layer, 61 to 67 % in the 15th and
51 to 58 % in the last. --repeat is the probability with which each choice of the token before is kept;
what consecutive tokens share is printed. --skew draws experts with weights exp(S * normal) a layer
instead of equal ones. The file is one that `moxie bench --replay` reads.
"""
import argparse
import json
import math
import pathlib
import random


def choices_of_layer(args, rng):
    weights = [math.exp(args.skew * rng.gauss(0, 1)) for _ in range(args.experts)]
    tokens, last = [], []
    for _ in range(args.tokens):
        now = [expert for expert in last if rng.random() < args.repeat]
        while len(now) < args.used:
            expert = rng.choices(range(args.experts), weights)[0]
            if expert not in now:
                now.append(expert)
        tokens.append(now)
        last = now
    return tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    for name, value in (("tokens", 400), ("layers", 32), ("experts", 8), ("used", 2), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeat", type=float, default=0.0)
    parser.add_argument("--skew", type=float, default=0.0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    layers = [choices_of_layer(args, rng) for _ in range(args.layers)]
    pairs = [set(a) & set(b) for layer in layers for a, b in zip(layer, layer[1:])]
    print(f"{100 * sum(map(bool, pairs)) / len(pairs):.1f} % of consecutive tokens share an expert")
    args.out.write_text(json.dumps({"expert_count": args.experts,
                                    "layers": [{"experts": layer} for layer in layers]}))


if __name__ == "__main__":
    main()
