#!/usr/bin/env python3
"""Bits for each expert against one type a layer, at equal size, on a mixture with uneven routing.

usage: bench/expert_bits.py MODEL.gguf --calibration TEXT --text TEXT --work FOLDER
                            [--experts 8] [--noise 0.1] [--router 0.5] [--bits 5.5,4.5,3.5]
                            [--chunks 6] [--threads N] [--table OUT.md]

MODEL, shuffled and in float32 (bench/quantise.py, which shares the work folder), is upcycled to a
mixture of which every expert's weights are disturbed by --noise standard deviations of their own,
so that experts' rounding errors do not know of each other, and written in bfloat16: that is the
truth. The routers' rows are random, --router in standard deviation; hidden states have large means,
so some experts are chosen much more often than others. For each of --bits, `moxie quantize --bits`
writes it with a type for every expert, and with one for each layer (--stacked), from the same text
and importance; what both say about the other text is compared with the truth. Standard errors are
those of the mean over windows, of the quotient, too: both are compared window by window.
"""
import pathlib
import sys

import gguf
import numpy as np

from quantise import MOXIE, Runs, parser_of, prepare, run, run_moxie


def disturb(path, noise):
    """Adds normal noise to all experts' matrices of a float32 GGUF."""
    random = np.random.default_rng(1)
    for tensor in gguf.GGUFReader(path, "r+").tensors:
        if "_exps." not in tensor.name:
            continue
        for expert in tensor.data:
            deviation = np.float32(noise * expert.std())
            expert += deviation * random.standard_normal(expert.shape, dtype=np.float32)


def write_mixture(truth, out, args):
    made = out.with_suffix(".f32")
    run(MOXIE, "upcycle", truth, made, "--experts", args.experts, "--used", 2, "--noise",
        args.router, "--seed", 1)
    disturb(made, args.noise)
    run_moxie(args, "quantize", made, out, "--type", "bf16")
    made.unlink()


def loads_of(importance):
    """[layers, experts] shares of the calibration text's tokens."""
    counts = [np.array(t.data, np.float64).reshape(-1) for t in gguf.GGUFReader(importance).tensors
              if t.name.endswith("ffn_up_exps.weight.counts")]
    return np.stack([c / c.sum() for c in counts])


def mixture_of(args):
    """The work folder, the mixture and its importance, made where absent."""
    dense, _ = prepare(args)
    work = pathlib.Path(args.work) / f"experts-{args.experts}-{args.noise}-{args.router}"
    work.mkdir(exist_ok=True)
    truth, importance = work / "truth.gguf", work / "importance.gguf"
    if not truth.exists():
        write_mixture(dense, truth, args)
    if not importance.exists():
        run_moxie(args, "importance", truth, "--file", args.calibration, "--out", importance,
                  "--chunks", 32)
    return work, truth, importance


def at(runs, bits, *options):
    return runs.measure(" ".join((bits, *options)), lambda truth, importance, out: run_moxie(
        runs.args, "quantize", truth, out, "--bits", bits, "--file", runs.args.calibration,
        "--importance", importance, "--probes", truth.with_suffix(".probes"), *options))


def cell(measured):
    windows = measured["windows"]
    return f"{np.mean(windows):.4f} ± {np.std(windows, ddof=1) / np.sqrt(len(windows)):.4f}"


def quotient(own, stacked):
    """Of the means, with the standard error that leaving out each window in turn gives (jackknife)."""
    pairs = np.array([own["windows"], stacked["windows"]])
    count = pairs.shape[1]
    without = [(a := np.delete(pairs, i, axis=1).sum(axis=1))[0] / a[1] for i in range(count)]
    error = np.sqrt((count - 1) / count * np.sum((without - np.mean(without)) ** 2))
    return f"{own['divergence'] / stacked['divergence']:.1%} ± {error:.1%}"


def main():
    parser = parser_of(__doc__, "--calibration", "--text", "--work")
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--router", type=float, default=0.5)
    parser.add_argument("--bits", type=lambda text: text.split(","), default=["5.5", "4.5", "3.5"])
    parser.add_argument("--chunks", type=int, default=6)
    parser.add_argument("--table")
    args = parser.parse_args()
    work, truth, importance = mixture_of(args)
    loads = np.sort(loads_of(importance), axis=1)
    spread = loads[:, -1] / np.maximum(loads[:, 0], 1e-9)
    print("expert loads, least first, mean of layers:", np.round(loads.mean(axis=0), 3).tolist(),
          "greatest over least, median of layers:", f"{np.median(spread):.1f}", file=sys.stderr)
    runs = Runs(args, work, [(truth, importance)])
    lines = ["| bits a weight | MB | a type an expert | a type a layer | of it | expected |",
             "|---|---|---|---|---|---|"]
    for bits in args.bits:
        for options in ((), ("--stacked",)):
            at(runs, bits, *options)
        own, stacked = (runs.results[label]["1"] for label in (bits, f"{bits} --stacked"))
        lines.append(f"| {bits} | {own['bytes'] / 1e6:.1f}, {stacked['bytes'] / 1e6:.1f} | "
                     f"{cell(own)} | {cell(stacked)} | {quotient(own, stacked)} | "
                     f"{own['expected']:.4f}, {stacked['expected']:.4f} |")
        print(lines[-1], flush=True)
    if args.table:
        pathlib.Path(args.table).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
