#!/usr/bin/env python3
"""SmolLM2 against a float32 forward pass of the same file in numpy: KL and perplexity."""
import json
import math
import pathlib
import sys
import tempfile

from python_support import moxie, skip, smollm2

sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import numpy as np
    from numpy_reference import DenseLlama, mean_kl
except ImportError as error:
    skip(f"no reference implementation: {error}")

TEXT = pathlib.Path(__file__).with_name("smollm2_text.txt")
POSITIONS, WINDOW = 1000, 250
# llama.cpp (libllama 0.5.0, AVX-512, f16 cache) is 3.4e-3 nats from the reference on these positions.
FAST_BOUND = 7e-4


def moxie_logits(model, windows, folder, *options):
    rows = []
    for window in windows:
        ids, out = folder / "ids.json", folder / "logits.npy"
        ids.write_text(json.dumps(window))
        moxie("logits", model, "--ids-file", ids, "--out", out, *options)
        rows.append(np.load(out))
    return np.concatenate(rows)


def usable_kernels():
    return [k["name"] for k in json.loads(moxie("doctor", "--json"))["kernels"] if k["usable"]]


def perplexity(logits, windows):
    """llama.cpp's convention on given windows: the second half of each is scored."""
    nll, count, row = 0.0, 0, 0
    for window in windows:
        for t in range(len(window) // 2, len(window) - 1):
            x = logits[row + t].astype(np.float64)
            nll += np.log(np.exp(x - x.max()).sum()) + x.max() - x[window[t + 1]]
            count += 1
        row += len(window)
    return math.exp(nll / count)


def main():
    model = smollm2()
    ids = json.loads(moxie("tokenize", model, "--file", TEXT, "--json"))[:POSITIONS]
    assert len(ids) == POSITIONS, "the text is too short"
    windows = [ids[i:i + WINDOW] for i in range(0, POSITIONS, WINDOW)]
    reference_model = DenseLlama(str(model))
    reference = np.concatenate([reference_model.logits(w) for w in windows])
    want = perplexity(reference, windows)
    with tempfile.TemporaryDirectory() as folder:
        for kernels in usable_kernels():
            cache, bound = ("f32", 1e-8) if kernels == "scalar" else ("f16", FAST_BOUND)
            logits = moxie_logits(model, windows, pathlib.Path(folder), "--kernels", kernels,
                                  "--kv-type", cache)
            kl, got = mean_kl(reference, logits), perplexity(logits, windows)
            print(f"{kernels} kernels, {cache} cache: KL {kl:.3e} (bound {bound:g}), "
                  f"perplexity {got:.4f} (numpy {want:.4f})")
            assert kl <= bound, "KL against the float32 reference is too large"
            if kernels == "scalar":
                assert abs(got / want - 1) < 1e-3, "perplexity differs"


if __name__ == "__main__":
    main()
