#!/usr/bin/env python3
"""Writes tests/golden/gguf/: the models of tests/golden/models/ as GGUF, without a tokenizer.

usage: make_gguf.py [NAME...]     needs numpy, torch, gguf, safetensors

Names and keys are those of the gguf package; the arrangement of tensors (rows of Q and K in rotary
pairs for "llama", experts stacked, kv_b split, gate and up apart) is llama.cpp's. mixtral is written a
second time as older files have it, one tensor an expert, and deepseekv3 with kv_b whole.
"""
import json
import math
import pathlib
import sys

import gguf
import numpy as np
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).resolve().parent
ARCHITECTURES = {"mixtral": "llama", "mistral": "llama", "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
                 "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "olmoe": "olmoe", "gpt_oss": "gpt-oss",
                 "deepseek_v3": "deepseek2"}


def read_tensors(folder):
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update({name: t.float().numpy() for name, t in load_file(path).items()})
    return tensors


def pair_rows(rows, heads):
    """Rows of heads from half rotation (i, i + n/2) to pairs (2i, 2i + 1)."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def rename(tensors, config, arch, separate, whole):
    """GGUF's tensors by name, experts stacked."""
    layers = config["num_hidden_layers"]
    architecture = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(architecture, layers)
    dense = {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    parts = {"w1": "ffn_gate", "w2": "ffn_down", "w3": "ffn_up", **dense}
    out, stacks = {}, {}
    for name, value in tensors.items():
        words = name.split(".")
        layer = int(words[2]) if words[1] == "layers" else None
        if arch == "llama" and words[-2] in ("q_proj", "k_proj"):
            key = "num_attention_heads" if words[-2] == "q_proj" else "num_key_value_heads"
            value = pair_rows(value, config[key])
        if "experts" in words and words[words.index("experts") + 1].isdigit():
            part, expert = parts[words[-2]], int(words[words.index("experts") + 1])
            if separate:
                out[f"blk.{layer}.{part}.{expert}.weight"] = value
            else:
                stacks.setdefault(f"blk.{layer}.{part}_exps.weight", {})[expert] = value
        elif ".experts." in name and arch == "gpt-oss":
            suffix = "bias" if name.endswith("_bias") else "weight"
            value = value if suffix == "bias" else value.swapaxes(-1, -2)
            if "gate_up_proj" in name:
                axis = (slice(None), slice(0, None, 2)), (slice(None), slice(1, None, 2))
                out[f"blk.{layer}.ffn_gate_exps.{suffix}"] = value[axis[0]]
                out[f"blk.{layer}.ffn_up_exps.{suffix}"] = value[axis[1]]
            else:
                out[f"blk.{layer}.ffn_down_exps.{suffix}"] = value
        elif words[-2] == "kv_b_proj" and not whole:
            nope, head = config["qk_nope_head_dim"], config["qk_nope_head_dim"] + config["v_head_dim"]
            heads = value.reshape(config["num_attention_heads"], head, -1)
            out[f"blk.{layer}.attn_k_b.weight"] = heads[:, :nope].swapaxes(1, 2)
            out[f"blk.{layer}.attn_v_b.weight"] = heads[:, nope:]
        elif words[-1] == "e_score_correction_bias":
            out[f"blk.{layer}.exp_probs_b.bias"] = value
        elif words[-1] == "sinks":
            out[f"blk.{layer}.attn_sinks.weight"] = value
        elif words[-2] in dense and words[-3] == "mlp":
            out[f"blk.{layer}.{dense[words[-2]]}.{words[-1]}"] = value
        elif words[-2] == "shared_expert_gate":
            out[f"blk.{layer}.ffn_gate_inp_shexp.weight"] = value.reshape(-1)
        else:
            mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if mapped is None:
                raise ValueError(f"no name for {name}")
            out[mapped] = value
    for name, experts in stacks.items():
        out[name] = np.stack([experts[e] for e in range(len(experts))])
    return out


def rope_factors(rope, dim):
    """llama3's scaling as divisors of the frequencies."""
    factors = []
    for i in range(0, dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / dim)
        turns = rope["original_max_position_embeddings"] / wavelength
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def add_settings(w, config, arch):
    rope = config["rope_parameters"]
    w.add_block_count(config["num_hidden_layers"])
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_freq_base(rope["rope_theta"])
    w.add_vocab_size(config["vocab_size"])
    experts = next((config[k] for k in ("num_local_experts", "num_experts", "n_routed_experts") if k in config), 0)
    if experts:
        w.add_expert_count(experts)
        w.add_expert_used_count(config["num_experts_per_tok"])
    if "moe_intermediate_size" in config or arch == "gpt-oss":
        w.add_expert_feed_forward_length(config.get("moe_intermediate_size", config["intermediate_size"]))
    if "shared_expert_intermediate_size" in config:
        w.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
    if config["model_type"] in ("mistral", "gpt_oss"):
        w.add_sliding_window(config["sliding_window"])
    if config.get("clip_qkv"):
        w.add_clamp_kqv(config["clip_qkv"])
    if rope["rope_type"] in ("linear", "yarn"):
        w.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        w.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        w.add_rope_scaling_yarn_log_mul(0.1 * rope.get("mscale_all_dim", 0))
    if arch != "deepseek2":
        head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        w.add_head_count_kv(config["num_key_value_heads"])
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
        w.add_rope_dimension_count(head_dim)
        return
    w.add_head_count_kv(1)
    w.add_rope_dimension_count(config["qk_rope_head_dim"])
    w.add_key_length(config["kv_lora_rank"] + config["qk_rope_head_dim"])
    w.add_value_length(config["kv_lora_rank"])
    w.add_key_length_mla(config["qk_nope_head_dim"] + config["qk_rope_head_dim"])
    w.add_value_length_mla(config["v_head_dim"])
    if config.get("q_lora_rank"):
        w.add_q_lora_rank(config["q_lora_rank"])
    w.add_kv_lora_rank(config["kv_lora_rank"])
    w.add_leading_dense_block_count(config["first_k_dense_replace"])
    w.add_expert_shared_count(config["n_shared_experts"])
    w.add_expert_group_count(config["n_group"])
    w.add_expert_group_used_count(config["topk_group"])
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    w.add_expert_weights_norm(config["norm_topk_prob"])
    w.add_expert_weights_scale(config["routed_scaling_factor"])


def write(folder, path, separate=False, whole=False):
    config = json.loads((folder / "config.json").read_text())
    arch = ARCHITECTURES[config["model_type"]]
    w = gguf.GGUFWriter(path, arch)
    w.add_name(folder.name)
    add_settings(w, config, arch)
    tensors = rename(read_tensors(folder), config, arch, separate, whole)
    if config["rope_parameters"]["rope_type"] == "llama3":
        dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        tensors["rope_freqs.weight"] = rope_factors(config["rope_parameters"], dim)
    stored = {"bfloat16": gguf.GGMLQuantizationType.BF16, "float16": gguf.GGMLQuantizationType.F16,
              "float32": gguf.GGMLQuantizationType.F32}[config["dtype"]]
    for name, value in sorted(tensors.items()):
        value = np.ascontiguousarray(value)
        kind = stored if value.ndim > 1 and not name.endswith(".bias") else gguf.GGMLQuantizationType.F32
        w.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main(names):
    (HERE / "gguf").mkdir(exist_ok=True)
    for folder in sorted((HERE / "models").iterdir()):
        if names and folder.name not in names:
            continue
        write(folder, HERE / "gguf" / f"{folder.name}.gguf")
        if folder.name == "mixtral":
            write(folder, HERE / "gguf" / "mixtral.separate.gguf", separate=True)
        if folder.name == "deepseekv3":
            write(folder, HERE / "gguf" / "deepseekv3.whole.gguf", whole=True)


if __name__ == "__main__":
    main(sys.argv[1:])
