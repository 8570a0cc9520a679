#!/usr/bin/env python3
"""Errors of moxie's encoders over those of ggml's, type by type, on real weights.

usage: bench/encoders.py MODEL.gguf --calibration TEXT --work FOLDER --peer PATH/TO/libggml-base.so
                         [--types q4_k,...] [--layers 0,14,29] [--threads N]
                         [--table OUT.md]

MODEL, shuffled and in float32 (bench/quantise.py, which shares the work folder), is quantised by
`moxie quantize`; the same rows are given to ggml_quantize_chunk, plain and with the same importance.
Both are decoded by the gguf package, and the squared errors, weighed by importance where it is
given, are added up over the matrices of the layers named: a ratio of 1 is the peer's error.
"""
import ctypes
import pathlib
import sys
import tempfile

import gguf
import numpy as np

from quantise import parser_of, prepare, run_moxie

TYPES = ("f16 bf16 q8_0 q6_k q5_k q5_1 q5_0 q4_k q4_1 q4_0 iq4_nl iq4_xs mxfp4 q3_k q2_k "
         "tq2_0 tq1_0").split()


def as_pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


class Peer:
    def __init__(self, path):
        self.encode = ctypes.CDLL(path).ggml_quantize_chunk
        self.encode.restype = ctypes.c_size_t
        self.encode.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                                ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]

    def round_trip(self, x, kind, weights):
        block, size = gguf.GGML_QUANT_SIZES[kind]
        out = np.empty((x.shape[0], x.shape[1] // block * size), np.uint8)
        bytes_ = self.encode(kind, as_pointer(x), as_pointer(out), 0, *x.shape,
                             None if weights is None else as_pointer(weights))
        if bytes_ != out.nbytes:
            sys.exit(f"ggml_quantize_chunk wrote {bytes_} bytes, not {out.nbytes}")
        return gguf.quants.dequantize(out, kind)


def matrices(path, layers):
    """name -> tensor of the matrices of the layers."""
    return {t.name: t for t in gguf.GGUFReader(path).tensors
            if len(t.shape) == 2 and t.name.startswith("blk.") and int(t.name.split(".")[1]) in layers}


def read_importance(path):
    tensors = {t.name: np.array(t.data, np.float32).reshape(-1) for t in gguf.GGUFReader(path).tensors}
    return {name[:-len(".in_sum2")]: np.ascontiguousarray(
                sums / tensors[name.replace(".in_sum2", ".counts")])
            for name, sums in tensors.items() if name.endswith(".in_sum2")}


def ratio(before, after, kind, peer, importance):
    """The sum of squared errors over the peer's; None where no matrix can have the type."""
    own_error = peer_error = 0.0
    for name, tensor in after.items():
        if tensor.tensor_type != kind:  # Rows that are no whole blocks have another.
            continue
        x = np.ascontiguousarray(before[name].data, np.float32)
        own = gguf.quants.dequantize(tensor.data, kind)
        weights = importance[name] if importance else None
        other = peer.round_trip(x, kind, weights)
        counts = 1 if weights is None else weights.astype(np.float64)
        own_error += np.sum(counts * (x - own).astype(np.float64) ** 2)
        peer_error += np.sum(counts * (x - other).astype(np.float64) ** 2)
    return own_error / peer_error if peer_error else None


def main():
    parser = parser_of(__doc__, "--calibration", "--work", "--peer")
    parser.add_argument("--types", type=lambda text: text.split(","), default=TYPES)
    parser.add_argument("--layers", type=lambda text: [int(n) for n in text.split(",")],
                        default=[0, 14, 29])
    parser.add_argument("--table")
    args = parser.parse_args()
    peer = Peer(args.peer)
    truth, importance = prepare(args)
    before, kept = matrices(truth, args.layers), read_importance(importance)
    lines = ["| type | error | weighed error |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.gguf"
        for name in args.types:
            kind = gguf.GGMLQuantizationType[name.upper()]
            cells = []
            rules = [word for n in args.layers for word in ("--tensor-type", f"blk.{n}.*={name}")]
            for weights, options in ((None, []), (kept, ["--importance", importance])):
                run_moxie(args, "quantize", truth, out, "--type", "bf16", *rules, *options)
                found = ratio(before, matrices(out, args.layers), kind, peer, weights)
                cells.append("" if found is None else f"{found:.4f}")
            lines.append(f"| {name} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    if args.table:
        pathlib.Path(args.table).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
