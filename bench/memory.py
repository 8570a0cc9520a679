#!/usr/bin/env python3
"""Models larger than memory, and loading, beside what the disk gives in the same minutes.

usage: bench/memory.py MODEL.gguf [--work decode|sequences|prefill|load] [--budgets 12GiB,8GiB,4GiB]
                       [--peer NAME=PATH/TO/llama-bench ...] [--rounds 2] [--threads N]
                       [--prompt-tokens 128] [--generate-tokens 64] [--peer-tokens 8]
                       [--table OUT.md] [--json OUT.json]

  decode     tokens generated after a prompt, in each budget, one program after another
  sequences  eight answers at once, and one
  prefill    a prompt of 2,048 tokens beside the slower of disk (what it read, at fio's rate) and kernels
  load       a model that fits in memory: from a cold page cache beside fio's sequential reads, from
             a warm one beside a copy of as many bytes in memory

Each program runs in a control group (v1 or v2) of exactly the budget, with nothing of the file in
the page cache, and fio reads the same file past it before and after: with several sizes and depths,
of which the one with the best mean over all samples counts, into registered buffers of huge pages as
moxie does (small pages cut what the disk is asked for into small pieces, which took a third of the
rate). Tokens are random and differ. A virtual machine's host takes free memory back within seconds,
and giving it again can take longer than reading; so before each load as much memory as it needs is
touched and freed. The report is written after every step. Wants root, for groups, and fio; leave the
machine alone meanwhile.
"""
import argparse
import contextlib
import json
import mmap
import os
import pathlib
import statistics
import subprocess
import sys
import time

from against import ROOT, cpu_name, read_peer, run_json

sys.path.insert(0, str(ROOT / "tests/support"))
from cgroup import Group  # noqa: E402

RANDOM_READS = [("512k", 256), ("1m", 64), ("1m", 256), ("4m", 64), ("16m", 64)]
SEQUENTIAL_READS = [("1m", 64), ("1m", 256), ("4m", 64)]


def bytes_of(text):
    units = {"KiB": 10, "MiB": 20, "GiB": 30}
    try:
        return int(float(text[:-3]) * (1 << units[text[-3:]]))
    except (KeyError, ValueError):
        sys.exit(f"memory.py: a budget is like 12GiB, not {text}")


def drop_cached(path):
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Disk:
    """fio's rates of one file, sampled between runs."""

    def __init__(self, path, pattern, kinds, seconds):
        self.path, self.pattern, self.seconds = path, pattern, seconds
        self.rates = {kind: [] for kind in kinds}

    def sample(self):
        for (size, depth), rates in self.rates.items():
            out = run_json(["fio", "--name=read", f"--filename={self.path}", "--readonly",
                            f"--rw={self.pattern}", "--direct=1", "--ioengine=io_uring", f"--bs={size}",
                            f"--iodepth={depth}", f"--runtime={self.seconds}", "--time_based",
                            "--norandommap", "--fixedbufs=1", "--registerfiles=1",
                            "--output-format=json"],
                           env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})
            rates.append(out["jobs"][0]["read"]["bw_bytes"])

    def best(self):
        """The best kind, and its mean over the samples."""
        kind, rates = max(self.rates.items(), key=lambda item: statistics.mean(item[1]))
        return f"{kind[0]} x {kind[1]}", statistics.mean(rates)

    def to_json(self):
        kind, rate = self.best()
        return {"best": kind, "bytes_per_s": rate,
                "samples": {f"{size} x {depth}": rates for (size, depth), rates in self.rates.items()}}


@contextlib.contextmanager
def group_of(budget):
    group = Group(budget)
    try:
        yield group
    finally:
        group.remove()


def run_moxie(args, budget, **options):
    """`moxie bench`'s report of one run in a group of its own, and the group's peak."""
    command = [args.moxie, "bench", args.model, "--threads", str(args.threads), "--repetitions", "1",
               "--json"]
    for name, value in options.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    drop_cached(args.model)
    with group_of(budget) as group:
        out = run_json([*command, "--memory", str(budget)], preexec_fn=group.enter)
        return {**out, "group_peak_bytes": group.peak()}


def run_peer(path, args, budget):
    """Tokens/s of a program with llama-bench's options, mapped; none where it was killed."""
    usage = subprocess.run([path, "--help"], capture_output=True, text=True).stdout
    prompt, generate = str(args.prompt_tokens), str(args.peer_tokens)
    command = [path, "-m", args.model, "-p", "0", "-t", str(args.threads), "-r", "1", "-o", "json"]
    # After a prompt, where the program can time that; they differ in how.
    if " -d," in usage:
        command += ["-n", generate, "-d", prompt]
    elif " -gp " in usage:
        command += ["-n", "0", "-gp", f"{prompt},{generate}"]
    else:
        command += ["-n", generate]
    drop_cached(args.model)
    with group_of(budget) as group:
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=group.enter)
        if done.returncode != 0:
            return {"error": f"exit status {done.returncode}: {done.stderr.strip()[-200:]}"}
        return {"decode_tokens_per_s": json.loads(done.stdout)[-1]["avg_ts"],
                "group_peak_bytes": group.peak()}


def expert_bytes(args):
    """What reading one expert takes."""
    plan = run_json([args.moxie, "plan", args.model, "--memory", args.budgets[0], "--memory-only", "--json"])
    return plan["plans"][0]["expert_bytes"]


def decoding(args, report, sequences=1):
    """What the table tells of one of moxie's reports."""
    decode = report["experts"]["decode"]
    return {"tokens_per_s": report["decode_tokens_per_s"],
            "tokens": sequences * args.generate_tokens,
            "bytes_read": decode["bytes_read"],
            "missed_bytes": decode["misses"] * args.expert_bytes,
            "bytes_per_s": decode["bytes_per_s"],
            "wait_s": decode["wait_s"],
            "found": decode["hits"] / max(decode["hits"] + decode["misses"], 1),
            "group_peak_bytes": report["group_peak_bytes"]}


def median_of(runs, key):
    values = [run[key] for run in runs if key in run]
    return statistics.median(values) if values else float("nan")


def decode(args):
    result, lines = args.result, [
        "| group | tokens/s | found | read | fio | share | read / missed | group's peak | " +
        "".join(f"{name} | " for name, _ in args.peer), "|---|---|---|---|---|---|---|---|" +
        "---|" * len(args.peer)]
    for budget in args.budgets:
        disk = Disk(args.model, "randread", RANDOM_READS, args.fio_seconds)
        runs = {"moxie": [], **{name: [] for name, _ in args.peer}}
        result[budget] = runs
        for _ in range(args.rounds):
            disk.sample()
            report = run_moxie(args, bytes_of(budget), prompt_tokens=args.prompt_tokens,
                               generate_tokens=args.generate_tokens)
            runs["moxie"].append(decoding(args, report))
            disk.sample()
            save(args)
            for name, path in args.peer:
                runs[name].append(run_peer(path, args, bytes_of(budget)))
                save(args)
            runs["fio"] = disk.to_json()
        _, fio = disk.best()
        mine = runs["moxie"]
        read = median_of(mine, "bytes_per_s")
        cells = [budget, f"{median_of(mine, 'tokens_per_s'):.3f}", f"{100 * median_of(mine, 'found'):.0f} %",
                 f"{read / 1e9:.2f} GB/s", f"{fio / 1e9:.2f} GB/s", f"{100 * read / fio:.0f} %",
                 f"{sum(r['bytes_read'] for r in mine) / sum(r['missed_bytes'] for r in mine):.4f}",
                 f"{max(r['group_peak_bytes'] for r in mine) / (1 << 20):,.0f} MiB"]
        cells += [f"{median_of(runs[name], 'decode_tokens_per_s'):.3f}" for name, _ in args.peer]
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def sequences(args):
    result, lines = args.result, ["| group | one, tokens/s | eight, tokens/s | ratio |", "|---|---|---|---|"]
    for budget in args.budgets:
        runs = {1: [], 8: []}
        result[budget] = {"one": runs[1], "eight": runs[8]}
        for _ in range(args.rounds):
            for count, reports in runs.items():
                report = run_moxie(args, bytes_of(budget), prompt_tokens=args.prompt_tokens,
                                   generate_tokens=args.generate_tokens, sequences=count)
                reports.append(decoding(args, report, count))
                save(args)
        one, eight = (median_of(reports, "tokens_per_s") for reports in runs.values())
        lines.append(f"| {budget} | {one:.3f} | {eight:.3f} | {eight / one:.2f} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def prefill(args):
    tokens = 2048
    result, lines = args.result, ["| group | tokens/s | read | fio | kernels | bound | share |",
                         "|---|---|---|---|---|---|---|"]
    for budget in args.budgets:
        disk = Disk(args.model, "randread", RANDOM_READS, args.fio_seconds)
        reports = []
        result[budget] = {"moxie": reports}
        for _ in range(args.rounds):
            disk.sample()
            reports.append(run_moxie(args, bytes_of(budget), prompt_tokens=tokens, generate_tokens=1))
            save(args)
        disk.sample()
        _, fio = disk.best()
        read = statistics.median(r["experts"]["prefill"]["bytes_read"] for r in reports)
        kernels = statistics.median(r["bound"]["prefill_tokens_per_s"] for r in reports)
        speed = median_of(reports, "prefill_tokens_per_s")
        bound = min(kernels, tokens / (read / fio))
        result[budget]["fio"] = disk.to_json()
        lines.append(f"| {budget} | {speed:.2f} | {read / (1 << 30):.2f} GiB | {fio / 1e9:.2f} GB/s | "
                     f"{kernels:.2f} | {bound:.2f} | {100 * speed / bound:.0f} % |")
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def fresh_memory(size):
    """Memory of huge pages, as moxie's and fio's."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def make_ready(size):
    """Has the host give so much memory, which is free for whoever comes next: seconds that took."""
    start = time.monotonic()
    memory = fresh_memory(size)
    for at in range(0, size, 4096):
        memory[at] = 1
    memory.close()
    return time.monotonic() - start


def copy_seconds(size):
    """One thread's copy of as many bytes into memory that was not touched before, as a load is."""
    source = fresh_memory(size)
    for at in range(0, size, 4096):
        source[at] = 1
    make_ready(size)
    target = fresh_memory(size)
    start = time.monotonic()
    memoryview(target)[:] = memoryview(source)
    return time.monotonic() - start


def load(args):
    size = os.path.getsize(args.model)
    room = size + (1 << 29)  # The rest of the process, too.
    disk = Disk(args.model, "read", SEQUENTIAL_READS, args.fio_seconds)
    cold, warm, copies, ready = [], [], [], []
    args.result.update(bytes=size, cold_s=cold, warm_s=warm, copy_s=copies, ready_s=ready)
    command = [args.moxie, "bench", args.model, "--threads", str(args.threads), "--repetitions", "1",
               "--prompt-tokens", "1", "--generate-tokens", "1", "--kernels", args.kernels, "--json"]
    for _ in range(args.rounds):
        disk.sample()
        drop_cached(args.model)
        ready.append(make_ready(room))
        cold.append(run_json(command)["load_s"])
        disk.sample()
        with open(args.model, "rb", buffering=0) as file:
            while file.read(1 << 24):
                pass
        make_ready(room)
        warm.append(run_json(command)["load_s"])
        copies.append(copy_seconds(size))
        args.result["fio"] = disk.to_json()
        save(args)
    _, fio = disk.best()
    rates = {name: size / statistics.median(seconds) for name, seconds in
             (("cold", cold), ("warm", warm), ("copy", copies))}
    lines = ["| load | moxie | beside | share |", "|---|---|---|---|",
             f"| cold | {rates['cold'] / 1e9:.2f} GB/s | fio, sequential: {fio / 1e9:.2f} GB/s | "
             f"{100 * rates['cold'] / fio:.0f} % |",
             f"| warm | {rates['warm'] / 1e9:.2f} GB/s | a copy: {rates['copy'] / 1e9:.2f} GB/s | "
             f"{100 * rates['warm'] / rates['copy']:.0f} % |"]
    return lines


def save(args):
    """What is known so far."""
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(args.result, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    works = {"decode": decode, "sequences": sequences, "prefill": prefill, "load": load}
    parser.add_argument("--work", choices=works, default="decode")
    parser.add_argument("--budgets", type=lambda text: text.split(","), default=["12GiB", "8GiB", "4GiB"])
    parser.add_argument("--peer", action="append", default=[], type=read_peer, metavar="NAME=PATH")
    parser.add_argument("--moxie", default=os.environ.get("MOXIE", str(ROOT / "build/moxie")))
    parser.add_argument("--kernels", default="auto", help="of loads; not all sets pack")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--generate-tokens", type=int, default=64)
    parser.add_argument("--peer-tokens", type=int, default=8, help="generated by peers, which are slow")
    parser.add_argument("--fio-seconds", type=int, default=3)
    parser.add_argument("--table")
    parser.add_argument("--json")
    args = parser.parse_args()
    args.result = {}  # Grows step by step.
    if args.work != "load":
        args.expert_bytes = expert_bytes(args)
    lines = works[args.work](args)
    save(args)
    table = "\n".join([f"{cpu_name()}, {args.threads} threads, {pathlib.Path(args.model).name}, "
                       f"{args.work}, {args.rounds} rounds", "", *lines]) + "\n"
    print(table, end="")
    if args.table:
        pathlib.Path(args.table).write_text(table)


if __name__ == "__main__":
    main()
