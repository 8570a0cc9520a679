#!/usr/bin/env python3
"""Makes tests/golden/quant/blocks.bin: blocks of every quantised type and what they decode to.

Needs the PyPI packages numpy and gguf; the decoder there is the reference. For each type:

  u32 type id, u32 samples n, n samples of bytes, n times u64 hash

A sample is one block, or 32 elements of a type without blocks. The hash is FNV-1a (64 bits) over
the little-endian float32 values, every NaN taken as 0x7fc00000.

usage: make_quant_blocks.py [--random N] [--out FILE]
"""

import argparse
import pathlib

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

# Byte offsets of the half-precision numbers in a block.
HALVES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82],
    T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0],
    T.IQ1_S: [0], T.IQ2_XXS: [0], T.IQ2_XS: [0], T.IQ2_S: [0], T.IQ3_XXS: [0], T.IQ3_S: [0],
    T.TQ1_0: [52], T.TQ2_0: [64],
}
PLAIN = [T.F32, T.F16, T.BF16]
OTHERS = [T.IQ1_M, T.MXFP4]
# 0, -0, least and greatest subnormal, least normal, 1, greatest, inf, -inf, quiet and signalling NaN
EXTREME_HALVES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C00, 0xFBFF, 0x7C00, 0xFC00, 0x7E00,
                  0xFD01]


def fnv1a(rows):
    """The hash of each row of float32 values."""
    bits = np.where(np.isnan(rows), np.uint32(0x7FC00000), rows.view(np.uint32))
    data = np.ascontiguousarray(bits).view(np.uint8)
    hashes = np.full(len(rows), 0xCBF29CE484222325, np.uint64)
    for column in data.T:
        hashes = (hashes ^ column) * np.uint64(0x100000001B3)
    return hashes


def samples_of(kind, count, random):
    block, size = GGML_QUANT_SIZES[kind]
    size *= 32 // block if block < 32 else 1
    rows = [random.integers(0, 256, (count, size), np.uint8)]
    rows.append(np.array([[0] * size, [255] * size, [0x0F] * size, [0xF0] * size], np.uint8))
    if kind in PLAIN:
        return np.concatenate(rows)
    if kind == T.MXFP4:  # Every scale.
        scales = random.integers(0, 256, (256, size), np.uint8)
        scales[:, 0] = np.arange(256)
        rows.append(scales)
    if kind == T.IQ1_M:  # The scale's nibbles lie at the top of its four 16-bit words.
        extreme = random.integers(0, 256, (len(EXTREME_HALVES), size), np.uint8)
        for row, bits in zip(extreme, EXTREME_HALVES):
            for k in range(4):
                row[49 + 2 * k] = row[49 + 2 * k] & 0x0F | (bits >> 4 * k & 15) << 4
        rows.append(extreme)
    for offset in HALVES.get(kind, []):
        extreme = random.integers(0, 256, (len(EXTREME_HALVES), size), np.uint8)
        extreme[:, offset:offset + 2] = np.array(EXTREME_HALVES, "<u2").view(np.uint8).reshape(-1, 2)
        rows.append(extreme)
    return np.concatenate(rows)


def main():
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, help="random samples a type (default: 12 to 320)")
    parser.add_argument("--out", type=pathlib.Path, default=here / "quant" / "blocks.bin")
    options = parser.parse_args()
    random = np.random.default_rng(20240229)
    with open(options.out, "wb") as out:
        for kind in [*PLAIN, *HALVES, *OTHERS]:
            # Enough for nearly all of a codebook's points: a block has 32 or 64 of up to 2048.
            count = options.random or {T.IQ1_S: 320, T.IQ2_S: 160, T.IQ2_XS: 80, T.IQ3_S: 40}.get(
                kind, 12 if kind not in PLAIN else 64)
            samples = samples_of(kind, count, random)
            with np.errstate(all="ignore"):
                values = dequantize(samples, kind).astype(np.float32, copy=False)
            values = values.reshape(len(samples), -1)
            out.write(np.array([kind, len(samples)], "<u4").tobytes())
            out.write(samples.tobytes())
            out.write(fnv1a(values).astype("<u8").tobytes())


if __name__ == "__main__":
    main()
