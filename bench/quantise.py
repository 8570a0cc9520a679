#!/usr/bin/env python3
"""Quality of quantised files: divergence from the model before, by type and size.

usage: bench/quantise.py MODEL.gguf --calibration TEXT --text TEXT --work FOLDER
                         [--peer FOLDER/OF/llama.cpp/bin] [--types q4_k_m,...] [--sizes q2_k,...]
                         [--weigh plain,importance] [--chunks 3] [--shuffles 2] [--threads N]
                         [--table OUT.md] [--plot OUT.svg]

The truth is MODEL in float32 with its channels shuffled: the same function, but no longer made of
the blocks that a quantised MODEL was made of, which would come back for nothing in its own type. It
is quantised by moxie, with and without the importance of the calibration text, and by the peer's
llama-quantize with the same importance; what each says about the other text is compared with the
truth as `moxie perplexity --against` does, but the truth is run only once: the mean
Kullback-Leibler divergence of the next-token probabilities in the second halves of windows of 512
tokens. What an encoder's errors do to a model is partly chance: with other shuffles of the same
model divergences differ by some 7 %. So each type is measured with --shuffles of them, --chunks
windows each, all of them different. Results are kept in the work folder, so that a run that was
broken off goes on where it was. mxfp4 is that type for all matrices: the mixes of that name give it
to experts only. Where the peer refuses to write a type, its place in the table stays empty.
"""
import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
MOXIE = ROOT / "build/moxie"
TYPES = ("q8_0 q6_k q5_k_m q5_k_s q5_1 q5_0 q4_k_m q4_k_s q4_1 q4_0 iq4_nl iq4_xs q3_k_l q3_k_m "
         "q3_k_s q2_k q2_k_s mxfp4").split()
PURE = {"mxfp4": "MXFP4_MOE"}  # Types for all matrices, and the peer's names for them.
SIZES = ["q4_k_m", "q3_k_m", "q2_k"]
WINDOW = 512


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} {command[1]}: exit status {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def run_moxie(args, *words):
    """A command that takes --threads."""
    return run(MOXIE, *words, *(["--threads", args.threads] if args.threads else []))


def shuffled(name, data, shapes, orders):
    """A tensor of the llama architecture with the channels that it shares with others reordered."""
    dim, ffn, heads, values = (orders[k] for k in ("dim", "ffn", "heads", "values"))
    layer = int(name.split(".")[1]) if name.startswith("blk.") else 0
    kind = name.split(".")[-2]
    if kind in ("token_embd", "output", "attn_k"):
        return data[:, dim]
    if kind.endswith("norm"):
        return data[dim]
    if kind in ("ffn_gate", "ffn_up"):
        return data[ffn[layer]][:, dim]
    if kind == "ffn_down":
        return data[dim][:, ffn[layer]]
    if kind == "attn_q":
        return data[heads[layer]][:, dim]
    if kind == "attn_v":
        return data[values[layer]][:, dim]
    if kind == "attn_output":
        width, kv = shapes["head"], shapes["kv"]
        group = data.shape[1] // width // kv
        columns = [head // width // group * width for head in heads[layer]]  # first of its values
        place = np.arange(data.shape[1]) % width
        inner = values[layer][np.array(columns) + place] % width
        return data[dim][:, heads[layer] // width * width + inner]
    sys.exit(f"{name}: only models of the llama architecture without biases are known here")


def write_truth(source, out, seed):
    """Writes `source`, a float32 GGUF, with all channels in another order."""
    import gguf
    reader = gguf.GGUFReader(source)
    tensors = {t.name: np.array(t.data).reshape(t.shape[::-1].tolist()) for t in reader.tensors}
    keys = {name.rsplit(".", 1)[-1]: field for name, field in reader.fields.items()
            if name.startswith("llama.")}
    heads, kv = (int(keys[k].contents()) for k in ("head_count", "head_count_kv"))
    dim = tensors["output_norm.weight"].shape[0]
    layers, width = int(keys["block_count"].contents()), dim // heads
    ffn = tensors["blk.0.ffn_up.weight"].shape[0]
    random = np.random.default_rng(seed)

    def rows(order):  # whole heads
        return np.concatenate([np.arange(h * width, (h + 1) * width) for h in order])

    group = heads // kv
    orders = {
        "dim": random.permutation(dim),
        "ffn": [random.permutation(ffn) for _ in range(layers)],
        "heads": [rows(np.concatenate([g * group + random.permutation(group) for g in range(kv)]))
                  for _ in range(layers)],
        "values": [np.concatenate([g * width + random.permutation(width) for g in range(kv)])
                   for _ in range(layers)]}
    with open(source, "rb") as file:
        bytes_ = bytearray(file.read())
    for tensor in reader.tensors:
        data = shuffled(tensor.name, tensors[tensor.name], {"head": width, "kv": kv}, orders)
        at = tensor.data_offset
        bytes_[at:at + data.nbytes] = np.ascontiguousarray(data, dtype=np.float32).tobytes()
    pathlib.Path(out).write_bytes(bytes_)


def log_probabilities(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True, dtype=np.float64)).astype(np.float32)


class Comparison:
    """What models say about the second halves of a text's windows, beside what the truth says."""

    def __init__(self, args, truth, work):
        self.ids = json.loads(run(MOXIE, "tokenize", truth, "--file", args.text, "--json"))
        self.start = json.loads(run(MOXIE, "tokenize", truth, "", "--json"))  # BOS or nothing
        self.args = args
        self.work = work
        self.model = truth

    def window(self, i):
        return self.start + self.ids[i * WINDOW + len(self.start):(i + 1) * WINDOW]

    def truth(self, i):
        kept = self.work / f"truth-window-{i}.npy"
        if not kept.exists():
            np.save(kept, self.said(self.model, i))
        return np.load(kept, mmap_mode="r")

    def said(self, model, i):
        """The log-probabilities of what follows each token from the middle on, but for the last."""
        ids, out = self.work / "ids.json", self.work / "logits.npy"
        ids.write_text(json.dumps(self.window(i)))
        run_moxie(self.args, "logits", model, "--ids-file", ids, "--out", out)
        logs = log_probabilities(np.load(out)[WINDOW // 2:-1])
        out.unlink()
        return logs

    def measure(self, model, chosen):
        """[windows, tokens] each token's divergence and loss, in those of the windows."""
        divergences, losses = [], []
        for i in chosen:
            truth, logs = self.truth(i), self.said(model, i)
            divergences.append(np.sum(np.exp(truth) * (truth - logs), axis=-1, dtype=np.float64))
            losses.append(-logs[np.arange(len(logs)), self.window(i)[WINDOW // 2 + 1:]])
        return np.stack(divergences), np.stack(losses)


def prepare(args, seed=1):
    """The truth and the importance of the calibration text in the work folder, made where absent."""
    work = pathlib.Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    truth, importance = work / f"truth-{seed}.gguf", work / f"importance-{seed}.gguf"
    if not truth.exists():
        plain = work / "plain.gguf"
        run_moxie(args, "quantize", args.model, plain, "--type", "f32")
        write_truth(plain, truth, seed)
        plain.unlink()
    if not importance.exists():
        run_moxie(args, "importance", truth, "--file", args.calibration, "--out", importance,
                  "--chunks", 32)
    return truth, importance


def expected_of(path):
    """The divergence that a file for a size is expected to have, or None."""
    import gguf
    kept = gguf.GGUFReader(path).fields.get("moxie.quantize.choices")
    return kept and sum(float(line.split()[-1]) for line in kept.contents().splitlines())


def mean_of(shuffles):
    """Of what was measured with each shuffle, or None where nothing can be."""
    if not all(shuffles):
        return None
    count = len(shuffles)
    return {"bytes": shuffles[0]["bytes"],
            "divergence": sum(s["divergence"] for s in shuffles) / count,
            "divergence_stderr": float(np.sqrt(sum(s["variance"] for s in shuffles))) / count,
            "perplexity": float(np.exp(sum(s["loss"] for s in shuffles) / count))}


class Runs:
    """Measurements by label and shuffle, made once."""

    def __init__(self, args, work, truths):
        """`truths`: pairs of a model and its importance, all of them the same function."""
        self.args = args
        self.truths = truths
        self.work = work
        self.kept = work / "results.json"
        self.results = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        self.comparison = Comparison(args, truths[0][0], work)

    def measure(self, label, make):
        """make(truth, importance, out) writes the file to be measured, or says that it cannot."""
        shuffles = self.results.setdefault(label, {})
        for i, (truth, importance) in enumerate(self.truths):
            if str(i + 1) in shuffles:
                continue
            out = self.work / "model.gguf"
            shuffles[str(i + 1)] = None
            if make(truth, importance, out) is not None:
                chosen = range(i * self.args.chunks, (i + 1) * self.args.chunks)
                divergences, losses = self.comparison.measure(out, chosen)
                shuffles[str(i + 1)] = {
                    "bytes": out.stat().st_size, "divergence": float(divergences.mean()),
                    "windows": divergences.mean(axis=1).tolist(),
                    "variance": float(divergences.var(ddof=1) / divergences.size),
                    "loss": float(losses.mean(dtype=np.float64)), "expected": expected_of(out)}
                out.unlink()
            self.kept.write_text(json.dumps(self.results, indent=1))
            print(label, i + 1, shuffles[str(i + 1)], file=sys.stderr, flush=True)
        return mean_of([shuffles[str(i + 1)] for i in range(len(self.truths))])

    def ours(self, kind, weighed):
        return self.measure(
            f"moxie {kind}{' importance' if weighed else ''}", lambda truth, importance, out:
            run_moxie(self.args, "quantize", truth, out, "--type", kind,
                      *(["--tensor-type", f"*={kind}"] if kind in PURE else []),
                      *(["--importance", importance] if weighed else [])))

    def peers(self, kind, weighed):
        def make(truth, importance, out):
            command = [pathlib.Path(self.args.peer) / "llama-quantize",
                       *(["--imatrix", importance] if weighed else []),
                       *(["--pure"] if kind in PURE else []), truth, out,
                       PURE.get(kind, kind.upper()), self.args.threads or ""]
            done = subprocess.run([str(c) for c in command if c != ""], capture_output=True, text=True)
            if done.returncode == 0:
                return out
            reason = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
            print(f"llama-quantize does not write {kind}: {reason}", file=sys.stderr)
            out.unlink(missing_ok=True)
            return None
        return self.measure(f"peer {kind}{' importance' if weighed else ''}", make)

    def sized(self, kind, size):
        return self.measure(f"size {kind}", lambda truth, importance, out: run_moxie(
            self.args, "quantize", truth, out, "--size", size, "--file", self.args.calibration,
            "--importance", importance, "--probes", truth.with_suffix(".probes")))


def table_of(runs, args):
    programs = {"moxie": runs.ours, **({"llama-quantize": runs.peers} if args.peer else {})}
    columns = [(name, measure, weigh) for name, measure in programs.items() for weigh in args.weigh]
    lines = ["| type | MiB | " + " | ".join(f"{n}, {w}" for n, _, w in columns) + " |",
             "|---|---|" + "---|" * len(columns)]

    def add(kind, size, cells):
        lines.append(f"| {kind} | {size / 2**20:.1f} | " +
                     " | ".join(f"{c['divergence']:.4f}, {c['perplexity']:.2f}" if c else ""
                                for c in cells) + " |")

    for kind in args.types:
        cells = [measure(kind, weigh == "importance") for _, measure, weigh in columns]
        add(kind, cells[0]["bytes"], cells)
    for kind in args.sizes if args.peer else []:
        peers = {weigh: runs.peers(kind, weigh == "importance") for weigh in args.weigh}
        own = runs.sized(kind, peers[args.weigh[0]]["bytes"])
        add(f"`--size` of {kind}", own["bytes"],
            [peers[w] if n != "moxie" else own if w == "importance" else None
             for n, _, w in columns])
    return "\n".join(lines) + "\n"


def write_plot(runs, path):
    results = {label: mean_of(list(shuffles.values())) for label, shuffles in runs.results.items()}
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axis = plt.subplots(figsize=(8, 6), layout="constrained")
    series = {"llama-quantize": ("peer", False, "o", "tab:gray"),
              "llama-quantize, importance": ("peer", True, "s", "tab:orange"),
              "moxie": ("moxie", False, "o", "tab:blue"),
              "moxie, importance": ("moxie", True, "s", "tab:green"),
              "moxie --size": ("size", False, "*", "tab:red")}
    for name, (start, importance, marker, colour) in series.items():
        points = [(row["bytes"] / 2**20, row["divergence"], label.split()[1])
                  for label, row in results.items()
                  if row and label.startswith(start) and label.endswith(" importance") == importance]
        if not points:
            continue
        axis.scatter(*list(zip(*points))[:2], marker=marker, color=colour, label=name)
        for x, y, kind in points if name == "moxie, importance" else []:
            axis.annotate(kind, (x, y), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axis.set(yscale="log", xlabel="file, MiB", ylabel="divergence from float32, nats a token")
    axis.legend()
    axis.grid(alpha=0.3)
    figure.savefig(path)


def parser_of(documentation, *required):
    """A parser that takes a model and the options without which there is nothing to measure."""
    parser = argparse.ArgumentParser(description=documentation.splitlines()[0])
    parser.add_argument("model")
    for option in required:
        parser.add_argument(option, required=True)
    parser.add_argument("--threads", type=int)
    return parser


def words(text):
    return [word for word in text.split(",") if word]


def main():
    parser = parser_of(__doc__, "--calibration", "--text", "--work")
    parser.add_argument("--peer")
    parser.add_argument("--types", type=words, default=TYPES)
    parser.add_argument("--sizes", type=words, default=SIZES)
    parser.add_argument("--weigh", type=words, default=["plain", "importance"])
    parser.add_argument("--chunks", type=int, default=3)
    parser.add_argument("--shuffles", type=int, default=2)
    parser.add_argument("--table")
    parser.add_argument("--plot")
    args = parser.parse_args()
    truths = [prepare(args, seed) for seed in range(1, args.shuffles + 1)]
    runs = Runs(args, pathlib.Path(args.work), truths)
    table = table_of(runs, args)
    print(table, end="")
    if args.table:
        pathlib.Path(args.table).write_text(table)
    if args.plot:
        write_plot(runs, args.plot)


if __name__ == "__main__":
    main()
