#!/usr/bin/env python3
"""What `moxie plan` foresees beside what is then measured: reading a prompt, decoding, loading, and
the same with experts on disk.

usage: bench/plan.py MODEL.gguf... [--rounds 3] [--threads N] [--priority "chrt -f 10"]
                     [--kernels SET] [--without streamed|load] [--table OUT.md] [--json OUT.json]

The machine is measured first, as `moxie doctor` does. Then in each round every model is planned,
measured and planned again; where the two plans differ by more than a tenth the machine's speed
changed meanwhile, and the round does not count if others do. The table gives medians over the
rounds, and foreseen / measured speed, of seconds the other way round: above 1 the plan promises too
much. Before each load as much memory as it needs is touched and freed, since a virtual machine's
host takes free memory back within seconds (bench/memory.py). --priority is put before each command
that measures: where others use the machine, a real-time one leaves them out. The report is written
after every step.
"""
import argparse
import json
import os
import pathlib
import shlex
import statistics
import sys
import tempfile

from against import ROOT, cpu_name, run_json
from memory import drop_cached, make_ready

PROMPT, ANSWER, LONG_ANSWER = 512, 64, 256
CONTEXT = ["--context", PROMPT + LONG_ANSWER + 1]
STEADY = 1.1  # Two plans that differ by more saw the machine's speed change.


class Bench:
    def __init__(self, args):
        self.args, self.result = args, {}
        self.cache = tempfile.TemporaryDirectory()
        self.prefix = shlex.split(args.priority)
        folder = pathlib.Path(args.models[0]).resolve().parent
        self.doctor = self.moxie("doctor", "--folder", folder)

    def moxie(self, command, *options):
        return run_json([*self.prefix, self.args.moxie, command, *map(str, options), "--json"],
                        env=os.environ | {"XDG_CACHE_HOME": self.cache.name})

    def options(self, *more):
        return ["--threads", self.args.threads, "--kernels", self.args.kernels, *CONTEXT, *more]

    def plan(self, model, *more):
        return self.moxie("plan", model, *self.options("--type", "", *more))["plans"][0]

    def bench(self, model, *more, prompt=PROMPT, answer=ANSWER, repetitions=1):
        return self.moxie("bench", model, "--prompt-tokens", prompt, "--generate-tokens", answer,
                          "--repetitions", repetitions, *self.options(*more))

    def routing(self, model):
        """A trace of tokens that are drawn, as the bench draws them: that of random weights is far from
        even."""
        trace = pathlib.Path(self.cache.name) / (pathlib.Path(model).stem + ".json")
        if not trace.exists():
            self.moxie("run", model, "A", "--raw", "--ignore-eos", "--max-tokens", LONG_ANSWER, "--temperature", 1,
                       "--trace", trace, *self.options())
        return trace

    def compare(self, model, names, measure, *more, prepare=lambda: None, prefix=""):
        """Plans, measures and plans again; what was foreseen is the mean of both."""
        plans = [self.plan(model, *more)]
        prepare()
        report = measure()
        plans.append(self.plan(model, *more))
        for name, measured in names.items():
            before, after = (plan["speed"][name] ** (-1 if name.startswith("load") else 1) for plan in plans)
            speed = measured(report)
            pairs = self.result.setdefault(pathlib.Path(model).stem, {}).setdefault(prefix + name, [])
            pairs.append({"before": before, "after": after, "foreseen": (before * after) ** 0.5,
                          "measured": speed, "plan": plans[0], "bench": report})
        if self.args.json:
            pathlib.Path(self.args.json).write_text(json.dumps(
                {"doctor": self.doctor, "runs": self.result}, indent=1))

    def resident(self, model):
        names = ("prefill_tokens_per_s", "decode_tokens_per_s")
        self.compare(model, {name: lambda report, name=name: report[name] for name in names},
                     lambda: self.bench(model))

    def load(self, model, cached):
        def prepare():
            if cached:
                with open(model, "rb", buffering=0) as file:
                    while file.read(1 << 24):
                        pass
            else:
                drop_cached(model)
            make_ready(os.path.getsize(model) + (1 << 29))

        name = "load_cached_s" if cached else "load_s"
        self.compare(model, {name: lambda report: 1 / report["load_s"]},
                     lambda: self.bench(model, prompt=1, answer=1), prepare=prepare)

    def streamed(self, model):
        whole = self.plan(model, "--memory-only")
        if whole["experts"] == 0:
            return  # Dense.
        memory = (whole["least_bytes"] + whole["all_bytes"]) // 2
        options = ["--memory", memory]
        # The first prompt fills the cache; answers are long enough for that to matter little.
        for name, more in (("prefill_tokens_per_s", {"answer": 1, "repetitions": 3}),
                           ("decode_tokens_per_s", {"answer": LONG_ANSWER})):
            self.compare(model, {name: lambda report, name=name: report[name]},
                         lambda more=more: self.bench(model, *options, **more), *options,
                         "--routing", self.routing(model), prefix="streamed_",
                         prepare=lambda: drop_cached(model))

    def run(self):
        for number in range(self.args.rounds):
            for model in self.args.models:
                self.resident(model)
                if "load" not in self.args.without:
                    self.load(model, cached=True)
                    self.load(model, cached=False)
                if "streamed" not in self.args.without:
                    self.streamed(model)
                print(f"round {number + 1}: {model}", file=sys.stderr, flush=True)

    def table(self):
        rows = ["| model | | foreseen | measured | foreseen / measured | each round |", "|---|---|---|---|---|---|"]
        for model, kinds in self.result.items():
            for what, pairs in kinds.items():
                steady = [p for p in pairs if 1 / STEADY < p["before"] / p["after"] < STEADY]
                each = ", ".join(f"{p['foreseen'] / p['measured']:.2f}" + ("" if p in steady else " (unsteady)")
                                 for p in pairs)
                foreseen, measured = (statistics.median(p[name] for p in steady or pairs)
                                      for name in ("foreseen", "measured"))
                quotient = statistics.median(p["foreseen"] / p["measured"] for p in steady or pairs)
                seconds = what.startswith("load")
                shown = [f"{1 / v:.3f} s" if seconds else f"{v:.2f}" for v in (foreseen, measured)]
                name = what.removesuffix("_s").removesuffix("_tokens_per").replace("_", " ")
                rows.append(f"| {model} | {name} | {shown[0]} | {shown[1]} | {quotient:.2f} | {each} |")
        return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--moxie", default=os.environ.get("MOXIE", str(ROOT / "build/moxie")))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--kernels", default="auto")
    parser.add_argument("--priority", default="", help='such as "chrt -f 10" or "nice -n -20"')
    parser.add_argument("--without", action="append", default=[], choices=["streamed", "load"])
    parser.add_argument("--table")
    parser.add_argument("--json")
    args = parser.parse_args()
    bench = Bench(args)
    bench.run()
    table = "\n".join([f"{cpu_name()}, {args.threads} threads, {args.rounds} rounds", "", *bench.table()]) + "\n"
    print(table, end="")
    if args.table:
        pathlib.Path(args.table).write_text(table)


if __name__ == "__main__":
    main()
