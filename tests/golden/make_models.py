#!/usr/bin/env python3
"""Makes tests/golden/models/: tiny models with random weights and what transformers computes with them.

usage: make_models.py [NAME...]     needs torch, transformers, tokenizers, safetensors

A folder is a Hugging Face folder (config.json, model.safetensors, tokenizer.json, ...) and beside it
golden.json with, for each of its sequences, the ids and the names of the .npy files with logits, router
logits, chosen experts and their weights; and greedy continuations. Everything is computed in float32 on
the CPU with eager attention from the stored weights widened to float32. Shapes are small and odd, so
that ragged tails are met. Fixed seeds: the same versions make the same files.
"""
import json
import pathlib
import shutil
import sys

import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent / "models"
TEXT = ("It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of "
        "foolishness. Le c\u0153ur a ses raisons. \u0414\u043e\u0431\u0440\u043e \u043f\u043e\u0436\u0430"
        "\u043b\u043e\u0432\u0430\u0442\u044c! int main(void) { return 0; }\n\n1234567890 \u4f60\u597d ")

BASE = dict(max_position_embeddings=4096, initializer_range=0.02, attention_dropout=0.0, use_cache=True)
DENSE = dict(hidden_act="silu", rms_norm_eps=1e-5)

# name: (transformers' configuration class, stored dtype, settings)
MODELS = {
    "mixtral": ("MixtralConfig", torch.float32, dict(
        hidden_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=14,
        intermediate_size=54, num_local_experts=5, num_experts_per_tok=2, rope_theta=1e6,
        sliding_window=None)),
    "mistral-window": ("MistralConfig", torch.float16, dict(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3, head_dim=10,
        intermediate_size=70, sliding_window=7, rope_theta=1e4)),
    "llama3-rope": ("LlamaConfig", torch.bfloat16, dict(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1, head_dim=16,
        intermediate_size=90, tie_word_embeddings=True, rope_theta=5e5,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=64))),
    "llama-linear-bias": ("LlamaConfig", torch.float16, dict(
        hidden_size=36, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=6,
        intermediate_size=50, attention_bias=True, rope_theta=1e4,
        rope_scaling=dict(rope_type="linear", factor=3.0))),
    "qwen2": ("Qwen2Config", torch.bfloat16, dict(
        hidden_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=58, use_sliding_window=False, rope_theta=1e6)),
    "qwen2moe": ("Qwen2MoeConfig", torch.bfloat16, dict(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=44, moe_intermediate_size=22, shared_expert_intermediate_size=34, num_experts=6,
        num_experts_per_tok=3, decoder_sparse_step=2, norm_topk_prob=False, rope_theta=1e6)),
    "qwen3": ("Qwen3Config", torch.bfloat16, dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=14,
        intermediate_size=46, tie_word_embeddings=True, rope_theta=1e6)),
    "qwen3moe": ("Qwen3MoeConfig", torch.bfloat16, dict(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=10,
        intermediate_size=46, moe_intermediate_size=18, num_experts=7, num_experts_per_tok=3,
        norm_topk_prob=True, mlp_only_layers=[1], rope_theta=1e6)),
    "olmoe": ("OlmoeConfig", torch.bfloat16, dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        intermediate_size=26, num_experts=6, num_experts_per_tok=2, norm_topk_prob=False, clip_qkv=1.5,
        rope_theta=1e4)),
    "gptoss": ("GptOssConfig", torch.bfloat16, dict(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=14,
        intermediate_size=22, num_local_experts=5, num_experts_per_tok=2, sliding_window=6,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], rope_theta=150000.0,
        rope_scaling=dict(rope_type="yarn", factor=8.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                          original_max_position_embeddings=256))),
    "deepseekv3": ("DeepseekV3Config", torch.bfloat16, dict(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=3, q_lora_rank=18,
        kv_lora_rank=14, qk_nope_head_dim=10, qk_rope_head_dim=6, v_head_dim=9, intermediate_size=50,
        moe_intermediate_size=20, n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3, n_group=4,
        topk_group=2, first_k_dense_replace=1, routed_scaling_factor=1.8, norm_topk_prob=True,
        rope_theta=1e4, rope_scaling=dict(rope_type="yarn", factor=10.0, beta_fast=32, beta_slow=1,
                                          mscale=1.0, mscale_all_dim=1.0,
                                          original_max_position_embeddings=64))),
}


def make_tokenizer(folder):
    tok = tokenizers.Tokenizer(tokenizers.models.BPE())
    tok.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = tokenizers.decoders.ByteLevel()
    tok.train_from_iterator([TEXT] * 3, tokenizers.trainers.BpeTrainer(
        vocab_size=330, min_frequency=1, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    tok.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    tok.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}, indent=1))
    return tok


def randomise(model, generator):
    """Weights that make every part matter: matrices of unit gain, norms about 1, biases not 0."""
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()) + sorted(
                (n, b) for n, b in model.named_buffers() if "correction_bias" in n):
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name:
                p.copy_(1 + 0.2 * noise)
            elif "embed_tokens" in name:
                p.copy_(noise * (0.3 if model.config.tie_word_embeddings else 1.0))
            elif p.dim() <= 1 or "bias" in name or "sinks" in name:
                p.copy_(0.3 * noise)
            else:
                fan_in = p.shape[-2] if "gpt_oss" in model.config.model_type and "experts" in name \
                    else p.shape[-1]
                p.copy_(noise * (1.6 / fan_in ** 0.5))


class Routing:
    """Records what each mixture layer's router returns: logits, chosen experts, their weights."""

    def __init__(self, model):
        self.records = []
        for module in model.modules():
            if type(module).__name__.lower().endswith("topkrouter"):
                module.register_forward_hook(lambda m, i, output: self.records.append(output))

    def rows(self):
        """(logits, ids, weights), each [moe layers, tokens, ...], heaviest expert first."""
        logits, ids, weights = [], [], []
        for router_logits, scores, indices in self.records:
            order = scores.argsort(dim=-1, descending=True, stable=True)
            logits.append(router_logits.float().detach().numpy())
            ids.append(indices.gather(-1, order).detach().numpy().astype(np.int32))
            weights.append(scores.gather(-1, order).float().detach().numpy())
        return np.stack(logits), np.stack(ids), np.stack(weights)


def main():
    names = sys.argv[1:] or list(MODELS)
    for index, name in enumerate(MODELS):
        if name not in names:
            continue
        config_class, dtype, settings = MODELS[name]
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tok = make_tokenizer(folder)
        vocab = tok.get_vocab_size() + 3  # models have more rows than their tokenizer ids
        config = getattr(transformers, config_class)(
            **{**BASE, **DENSE, **settings}, vocab_size=vocab, bos_token_id=0, eos_token_id=1,
            pad_token_id=None, attn_implementation="eager")
        torch.manual_seed(index)
        generator = torch.Generator().manual_seed(1000 + index)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        randomise(model, generator)
        model.to(dtype).save_pretrained(folder, max_shard_size="60KB" if name == "mixtral" else "1GB")
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager").eval()
        if hasattr(model, "set_experts_implementation"):
            model.set_experts_implementation("eager")
        write_golden(folder, name, model, tok, vocab, index)
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, {size // 1024} KiB")


def write_golden(folder, name, model, tok, vocab, index):
    rng = np.random.default_rng(index)
    sequences = {"one": [57], "text": tok.encode("It was the age of wisdom, 2026!").ids[:25],
                 "long": rng.integers(2, vocab, 45).tolist()}
    golden = {"format": 1, "model": name, "versions": {"transformers": transformers.__version__,
                                                       "torch": torch.__version__},
              "sequences": [], "greedy": []}
    routing = Routing(model)
    for key, ids in sequences.items():
        routing.records.clear()
        with torch.no_grad():
            out = model(torch.tensor([ids]), output_hidden_states=True)
        entry = {"name": key, "ids": ids, "logits": f"logits.{key}.npy"}
        np.save(folder / entry["logits"], out.logits[0].float().numpy())
        if key == "text":
            entry["hidden"] = "hidden.text.npy"
            np.save(folder / entry["hidden"], torch.stack([h[0] for h in out.hidden_states]).numpy())
        if routing.records:
            for field, kind, rows in zip(("router_logits", "experts", "expert_weights"),
                                         ("router", "experts", "weights"), routing.rows()):
                entry[field] = f"{kind}.{key}.npy"
                np.save(folder / entry[field], rows)
        golden["sequences"].append(entry)
    prompt = tok.encode("The worst of times").ids
    ids = list(prompt)
    margins = []
    for _ in range(20):
        with torch.no_grad():
            last = model(torch.tensor([ids])).logits[0, -1]
        top = last.topk(2).values
        margins.append(round(float(top[0] - top[1]), 6))
        ids.append(int(last.argmax()))
    golden["greedy"].append({"prompt_ids": prompt, "ids": ids[len(prompt):], "margin": margins})
    text = json.dumps(golden)
    (folder / "golden.json").write_text(text.replace('{"name"', '\n {"name"') + "\n")


if __name__ == "__main__":
    main()
