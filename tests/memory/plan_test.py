#!/usr/bin/env python3
"""The plan is right: random models and options, each planned and then run in a process of its own,
with a prompt that fills the context. What the kernel counted is never more than what was planned
(the process's VmHWM, and the peak of a control group of its own where one can be made), and VmHWM is
at most 1 % or 4 MiB less. MOXIE_PLAN_SEED varies the combinations; where MOXIE_TEST_LARGE is set,
models of 1.5 and 47 billion parameters run as well."""
import concurrent.futures
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

from cgroup import Group
from python_support import MOXIE, ROOT
from sparse_models import TYPES, Shape, write_sparse_folder, write_sparse_gguf

RUNS = int(os.environ.get("MOXIE_PLAN_RUNS", "200"))
SEED = int(os.environ.get("MOXIE_PLAN_SEED", "1"))
MIB = 1 << 20
MOST = 12 << 30  # What large models may use.


def random_shape(numbers, dense, vocab=333):
    dim = 256 * numbers.choice([1, 2, 3])
    heads = numbers.choice([4, 8])
    experts = 0 if dense else numbers.choice([4, 8, 16])
    return Shape(dim, layers=numbers.randint(1, 6), heads=heads, kv_heads=heads // 2,
                 ffn=256 * numbers.randint(1, 4), vocab=vocab, experts=experts,
                 used=min(experts, numbers.randint(1, 3)), tied=numbers.random() < 0.5)


def make_models(folder, numbers):
    """Published families' tiny folders and files, and larger ones in every type and kind of file."""
    models = sorted((ROOT / "tests/golden/models").iterdir())
    for index, kind in enumerate(list(TYPES) * 2):
        dense = index < len(TYPES) and index % 2 == 0
        path = folder / f"{index}-{kind}-{'dense' if dense else 'mixture'}.gguf"
        shape = random_shape(numbers, dense, vocab=numbers.choice([300, 1500, 40000]))
        write_sparse_gguf(path, kind, shape, seed=index)
        models.append(path)
    for kind in ("f32", "f16", "bf16"):
        for family in ("mixtral", "gptoss"):
            shape = random_shape(numbers, dense=False)
            write_sparse_folder(folder / f"{family}-{kind}", kind, shape, family)
            models.append(folder / f"{family}-{kind}")
    return models


def make_large_models(folder):
    """Of Mixtral 8x7B's shape and a smaller one of its kind."""
    small = Shape(1024, layers=16, heads=16, kv_heads=4, ffn=3584, vocab=32000, experts=8, used=2)
    whole = Shape(4096, layers=32, heads=32, kv_heads=8, ffn=14336, vocab=32000, experts=8, used=2)
    models = []
    for name, kind, shape in (("1.5B", "q4_0", small), ("1.5B", "q8_0", small), ("1.5B", "q3_k", small),
                              ("47B", "q4_0", whole), ("47B", "iq2_xs", whole)):
        models.append(folder / f"{name}-{kind}.gguf")
        write_sparse_gguf(models[-1], kind, shape)
    return models


def can_make_groups():
    try:
        Group(1 << 30).remove()
        return True
    except OSError as error:
        print(f"control groups are left out, since none can be made: {error}")
        return False


GROUPS = can_make_groups()


def call(*args):
    run = subprocess.run([MOXIE, *map(str, args)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, (args, run.stderr)
    return json.loads(run.stdout)


def plan(model, options):
    return call("plan", model, *options, "--memory-only", "--json")["plans"][0]


def run(model, options, prompt):
    """The process's peak as it says itself, and its group's."""
    args = ["run", model, *options, "--raw", "--ignore-eos", "--json"]
    group = Group(1 << 36) if GROUPS else None
    try:
        done = (group.run(*args, input=prompt) if group else
                subprocess.run([MOXIE, *map(str, args)], capture_output=True, text=True, input=prompt, timeout=300))
        assert done.returncode == 0, (args, done.stderr)
        return json.loads(done.stdout), group.peak() if group else 0
    finally:
        if group:
            group.remove()


def random_options(numbers, model):
    if model.suffix == ".gguf" and model.stat().st_size > 512 * MIB:
        return ["--context", numbers.randint(32, 80), "--batch", numbers.choice([16, 512]),
                "--kv-type", numbers.choice(["f32", "f16", "q8_0"]), "--threads", numbers.randint(1, 3)]
    options = ["--context", numbers.randint(8, 400), "--batch", numbers.choice([4, 16, 100, 512]),
               "--kv-type", numbers.choice(["f32", "f16", "q8_0"]), "--threads", numbers.randint(1, 4)]
    small = model.is_dir() or model.stat().st_size < MIB
    return options + ["--kernels", numbers.choice(["scalar", "auto"]) if small else "auto"]


def one(model, seed):
    """Plans a run and makes it: a line of figures, and what is wrong with them."""
    numbers = random.Random(seed)
    options = random_options(numbers, model)
    planned = plan(model, options)
    if numbers.random() < 0.5 or planned["memory"]["total"] > MOST:  # A budget: what is least, what is enough, or between.
        least = planned["least_bytes"]
        enough = min(planned["memory"]["total"], MOST)
        options += ["--memory", numbers.choice([least, enough + MIB // 4, numbers.randint(least, max(least, enough))])]
        planned = plan(model, options)
    # A token for each letter, at least in vocabularies of bytes; the last ones are generated.
    letters = options[1] - numbers.randint(1, 4)
    result, group_peak = run(model, options, "".join(numbers.choice("etaoin shrdlu") for _ in range(letters)))
    total, peak = planned["memory"]["total"], result["peak_memory_bytes"]
    over, over_group = total - peak, total - group_peak
    good = 0 <= over <= max(4 * MIB, peak / 100) and over_group >= 0
    good = good and planned["streamed"] == ("experts" in result)
    line = (f"{model.name} {' '.join(map(str, options))}: {over / MIB:.2f} MiB more planned than VmHWM of "
            f"{peak / MIB:.2f}, {over_group / MIB:.2f} more than the group's {group_peak / MIB:.2f}"
            + (", streamed" if planned["streamed"] else ""))
    return over, over_group, good, f"{line} {planned['memory']}"


def check(models, runs, numbers, at_once):
    """Makes so many runs, and says whether all were as planned."""
    seeds = [numbers.randrange(1 << 30) for _ in range(runs)]
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        results = list(pool.map(one, [models[i % len(models)] for i in range(runs)], seeds))
    overs, group_overs, _, lines = zip(*results)
    print(f"{runs} runs, {sum('streamed {' in line for line in lines)} with experts on disk: planned "
          f"{min(overs) / MIB:.2f} to {max(overs) / MIB:.2f} MiB more than the process occupied"
          + (f", {min(group_overs) / MIB:.2f} to {max(group_overs) / MIB:.2f} more than its group" if GROUPS else ""))
    wrong = [line for _, _, good, line in results if not good]
    print("\n".join(lines if os.environ.get("MOXIE_PLAN_VERBOSE") else wrong))
    return not wrong


def main():
    numbers = random.Random(SEED)
    with tempfile.TemporaryDirectory() as holder:
        folder = pathlib.Path(holder)
        good = check(make_models(folder, numbers), RUNS, numbers, at_once=2)
        if os.environ.get("MOXIE_TEST_LARGE"):
            good = check(make_large_models(folder), 15, numbers, at_once=1) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
