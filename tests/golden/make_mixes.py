#!/usr/bin/env python3
"""Writes mixes.txt: the type that llama-quantize chooses for each tensor of two made-up models.

usage: make_mixes.py LLAMA_QUANTIZE > mixes.txt

A line is MODEL MIX IMPORTANCE TENSOR TYPES, where # in TENSOR is the layer's number and TYPES has one
type for each layer.
"""
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

import gguf
import numpy as np

MIXES = ("q8_0 q6_k q5_k_m q5_k_s q5_1 q5_0 q4_k_m q4_k_s iq4_nl iq4_xs q4_1 q4_0 mxfp4_moe "
         "q3_k_l q3_k_m q3_k_s q2_k q2_k_s tq2_0 tq1_0").split()
LINE = re.compile(r"\[\s*\d+/\s*\d+\]\s+(\S+)\s+- \[[^\]]*\], type =\s+(\S+),(.*)")
# name -> layers, experts, heads, key-value heads, tied, width
MODELS = {"dense": (24, 0, 4, 1, False, 256), "mixture": (16, 8, 4, 2, False, 256),
          "narrow": (8, 0, 4, 2, True, 96)}


def write_model(path, layers, experts, heads, kv_heads, tied, width):
    out = gguf.GGUFWriter(path, "llama")
    out.add_block_count(layers)
    out.add_context_length(64)
    out.add_embedding_length(width)
    out.add_feed_forward_length(width)
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_layer_norm_rms_eps(1e-5)
    if experts:
        out.add_expert_count(experts)
        out.add_expert_used_count(2)

    def add(name, *shape):
        out.add_tensor(name, np.zeros(shape, np.float32 if len(shape) == 1 else np.float16))

    add("token_embd.weight", 32, width)
    if not tied:
        add("output.weight", 32, width)
    add("output_norm.weight", width)
    for i in range(layers):
        for norm in ("attn_norm", "ffn_norm"):
            add(f"blk.{i}.{norm}.weight", width)
        for matrix in ("attn_q", "attn_output"):
            add(f"blk.{i}.{matrix}.weight", width, width)
        for matrix in ("attn_k", "attn_v"):
            add(f"blk.{i}.{matrix}.weight", width // heads * kv_heads, width)
        if experts:
            add(f"blk.{i}.ffn_gate_inp.weight", experts, width)
        for matrix in ("ffn_gate", "ffn_up", "ffn_down"):
            if experts:
                add(f"blk.{i}.{matrix}_exps.weight", experts, width, width)
            else:
                add(f"blk.{i}.{matrix}.weight", width, width)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main():
    quantize = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        importance = pathlib.Path(folder, "importance.dat")
        importance.write_bytes(struct.pack("<ii1siif", 1, 1, b"x", 1, 1, 1.0))
        for model, shape in MODELS.items():
            path = pathlib.Path(folder, model + ".gguf")
            write_model(path, *shape)
            for mix in MIXES:
                for weighed in (0, 1):
                    extra = ["--imatrix", importance] if weighed else []
                    run = subprocess.run([quantize, *extra, "--dry-run", path, "/dev/null",
                                          mix.upper()], capture_output=True, text=True, check=True)
                    types = {}
                    for name, own, rest in LINE.findall(run.stdout + run.stderr):
                        changed = re.search(r"\((\w+)\)\s*$", rest)
                        role = re.sub(r"\.\d+\.", ".#.", name)
                        types.setdefault(role, []).append(
                            (changed.group(1) if changed else own).lower())
                    for role, chosen in types.items():
                        if not role.endswith("_norm.weight"):
                            print(model, mix, weighed, role, ",".join(chosen))


if __name__ == "__main__":
    main()
