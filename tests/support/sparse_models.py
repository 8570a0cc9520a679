"""Writes models of any shape in no time: all matrices but the embedding and the routers are holes
in the file, and bytes of 0 are valid weights in every type. Memory, reading and routing are those
of a real model. GGUFs and Hugging Face folders; of Python's own library alone."""
import json
import pathlib
import random
import struct

from tiny_gguf import BOOL, FLOAT32, INT32, STRING, UINT32, array, byte_letters, pair, text

MODELS = pathlib.Path(__file__).resolve().parent.parent / "golden/models"

# GGUF's id, elements and bytes of a block (ggml-common.h).
TYPES = {"f32": (0, 1, 4), "f16": (1, 1, 2), "bf16": (30, 1, 2), "q4_0": (2, 32, 18),
         "q4_1": (3, 32, 20), "q5_0": (6, 32, 22), "q5_1": (7, 32, 24), "q8_0": (8, 32, 34),
         "q2_k": (10, 256, 84), "q3_k": (11, 256, 110), "q4_k": (12, 256, 144), "q5_k": (13, 256, 176),
         "q6_k": (14, 256, 210), "iq2_xxs": (16, 256, 66), "iq2_xs": (17, 256, 74),
         "iq3_xxs": (18, 256, 98), "iq1_s": (19, 256, 50), "iq4_nl": (20, 32, 18),
         "iq3_s": (21, 256, 110), "iq2_s": (22, 256, 82), "iq4_xs": (23, 256, 136),
         "iq1_m": (29, 256, 56), "mxfp4": (39, 32, 17)}


class Shape:
    """What both kinds of files are written from. `experts` 0: dense."""

    def __init__(self, dim, layers, heads, kv_heads, ffn, vocab=333, experts=0, used=0, tied=False,
                 window=0, context=1 << 17):
        self.dim, self.layers, self.heads, self.kv_heads, self.ffn = dim, layers, heads, kv_heads, ffn
        self.vocab, self.experts, self.used, self.tied, self.window = vocab, experts, used, tied, window
        self.context, self.head_dim = context, dim // heads
        self.kv = self.head_dim * kv_heads


def random_floats(numbers, count):
    """`count` float32 values about 1 in size: some thousands over and over."""
    pool = [numbers.gauss(0, 1) for _ in range(min(count, 8191))]
    data = struct.pack(f"<{len(pool)}f", *pool)
    return (data * (count // len(pool) + 1))[:4 * count]


def content(numbers, name, shape, kind):
    """The bytes of a tensor, or None: a hole."""
    count = 1
    for size in shape:
        count *= size
    if kind == "f32" and ("embd" in name or "embed" in name or "gate_inp" in name or "gate.weight" in name
                          or "router.weight" in name):
        return random_floats(numbers, count)
    return struct.pack("<f", 1.0) * count if kind == "f32" and len(shape) == 1 and "norm" in name else None


def write_file(path, head, tensors, numbers):
    """`tensors`: (name, shape, kind, offset from the head's end, bytes)."""
    with open(path, "wb") as file:
        file.write(head)
        for name, shape, kind, offset, _ in tensors:
            data = content(numbers, name, shape, kind)
            if data is not None:
                file.seek(len(head) + offset)
                file.write(data)
        file.truncate(len(head) + tensors[-1][3] + tensors[-1][4])


def size_of(shape, kind):
    count = 1
    for size in shape:
        count *= size
    _, elements, size = TYPES[kind]
    return count // elements * size


def write_sparse_gguf(path, kind, shape, name="sparse", seed=1):
    s = shape
    tokens = ["<|end|>"] + byte_letters() + [f"t{i}" for i in range(s.vocab - 257)]
    pairs = [
        pair("general.architecture", STRING, "llama"), pair("general.name", STRING, name),
        pair("llama.context_length", UINT32, s.context), pair("llama.embedding_length", UINT32, s.dim),
        pair("llama.block_count", UINT32, s.layers), pair("llama.feed_forward_length", UINT32, s.ffn),
        pair("llama.attention.head_count", UINT32, s.heads),
        pair("llama.attention.head_count_kv", UINT32, s.kv_heads),
        pair("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
        pair("llama.rope.dimension_count", UINT32, s.head_dim),
        pair("llama.rope.freq_base", FLOAT32, 1e4), pair("llama.vocab_size", UINT32, s.vocab),
        pair("tokenizer.ggml.model", STRING, "gpt2"), pair("tokenizer.ggml.pre", STRING, "gpt-2"),
        array("tokenizer.ggml.tokens", STRING, tokens),
        array("tokenizer.ggml.token_type", INT32, [3] + [1] * (s.vocab - 1)),
        array("tokenizer.ggml.merges", STRING, []),
        pair("tokenizer.ggml.eos_token_id", UINT32, 0),
        pair("tokenizer.ggml.add_bos_token", BOOL, False),
    ]
    if s.window:
        pairs.append(pair("llama.attention.sliding_window", UINT32, s.window))
    if s.experts:
        pairs += [pair("llama.expert_count", UINT32, s.experts),
                  pair("llama.expert_used_count", UINT32, s.used)]
    tensors = [("token_embd", (s.vocab, s.dim), "f32"), ("output_norm", (s.dim,), "f32")]
    tensors += [] if s.tied else [("output", (s.vocab, s.dim), kind)]
    for layer in range(s.layers):
        names = [("attn_norm", (s.dim,), "f32"), ("attn_q", (s.dim, s.dim), kind),
                 ("attn_k", (s.kv, s.dim), kind), ("attn_v", (s.kv, s.dim), kind),
                 ("attn_output", (s.dim, s.dim), kind), ("ffn_norm", (s.dim,), "f32")]
        stack = (s.experts,) if s.experts else ()
        end = "_exps" if s.experts else ""
        names += [("ffn_gate_inp", (s.experts, s.dim), "f32")] if s.experts else []
        names += [("ffn_gate" + end, stack + (s.ffn, s.dim), kind), ("ffn_up" + end, stack + (s.ffn, s.dim), kind),
                  ("ffn_down" + end, stack + (s.dim, s.ffn), kind)]
        tensors += [(f"blk.{layer}.{n}", dims, type_) for n, dims, type_ in names]
    infos, laid, offset = b"", [], 0
    for n, dims, type_ in tensors:
        infos += text(n + ".weight") + struct.pack("<I", len(dims))
        infos += b"".join(struct.pack("<Q", size) for size in reversed(dims))
        infos += struct.pack("<IQ", TYPES[type_][0], offset)
        size = size_of(dims, type_)
        laid.append((n, dims, type_, offset, size))
        offset += size + -size % 32
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs) + infos
    write_file(path, head + b"\0" * (-len(head) % 32), laid, random.Random(seed))


def mixtral_tensors(s, kind):
    for layer in range(s.layers):
        at = f"model.layers.{layer}."
        yield from ((f"{at}self_attn.{n}_proj.weight", dims, kind) for n, dims in (
            ("q", (s.dim, s.dim)), ("k", (s.kv, s.dim)), ("v", (s.kv, s.dim)), ("o", (s.dim, s.dim))))
        yield from ((at + n, (s.dim,), "f32") for n in ("input_layernorm.weight",
                                                       "post_attention_layernorm.weight"))
        yield at + "block_sparse_moe.gate.weight", (s.experts, s.dim), "f32"
        for expert in range(s.experts):
            yield from ((f"{at}block_sparse_moe.experts.{expert}.{n}.weight", dims, kind) for n, dims in (
                ("w1", (s.ffn, s.dim)), ("w2", (s.dim, s.ffn)), ("w3", (s.ffn, s.dim))))


def gptoss_tensors(s, kind):
    """Experts lie transposed here, so that loading rearranges them."""
    for layer in range(s.layers):
        at = f"model.layers.{layer}."
        for n, rows, cols in (("q", s.dim, s.dim), ("k", s.kv, s.dim), ("v", s.kv, s.dim), ("o", s.dim, s.dim)):
            yield f"{at}self_attn.{n}_proj.weight", (rows, cols), kind
            yield f"{at}self_attn.{n}_proj.bias", (rows,), kind
        yield at + "self_attn.sinks", (s.heads,), kind
        yield from ((at + n, (s.dim,), "f32") for n in ("input_layernorm.weight",
                                                       "post_attention_layernorm.weight"))
        yield at + "mlp.router.weight", (s.experts, s.dim), "f32"
        yield at + "mlp.router.bias", (s.experts,), kind
        yield at + "mlp.experts.gate_up_proj", (s.experts, s.dim, 2 * s.ffn), kind
        yield at + "mlp.experts.gate_up_proj_bias", (s.experts, 2 * s.ffn), kind
        yield at + "mlp.experts.down_proj", (s.experts, s.ffn, s.dim), kind
        yield at + "mlp.experts.down_proj_bias", (s.experts, s.dim), kind


def write_sparse_folder(path, kind, shape, family="mixtral", seed=1):
    """A Hugging Face folder of a family that tests/golden/models has, with the tokenizer from there
    (so a vocabulary of 333)."""
    s = shape
    path.mkdir()
    config = json.loads((MODELS / family / "config.json").read_text())
    config.update(hidden_size=s.dim, num_hidden_layers=s.layers, num_attention_heads=s.heads,
                  num_key_value_heads=s.kv_heads, head_dim=s.head_dim, intermediate_size=s.ffn,
                  num_local_experts=s.experts, num_experts_per_tok=s.used, max_position_embeddings=s.context)
    if family == "gptoss":
        config["layer_types"] = ["full_attention"] * s.layers
    (path / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).write_bytes((MODELS / family / name).read_bytes())
    layers = {"mixtral": mixtral_tensors, "gptoss": gptoss_tensors}[family](s, kind)
    tensors = [("model.embed_tokens.weight", (s.vocab, s.dim), "f32"), *layers,
               ("model.norm.weight", (s.dim,), "f32"), ("lm_head.weight", (s.vocab, s.dim), kind)]
    header, laid, offset = {}, [], 0
    for n, dims, type_ in tensors:
        size = size_of(dims, type_)
        header[n] = {"dtype": {"bf16": "BF16", "f16": "F16", "f32": "F32"}[type_], "shape": dims,
                     "data_offsets": [offset, offset + size]}
        laid.append((n, dims, type_, offset, size))
        offset += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    write_file(path / "model.safetensors", struct.pack("<Q", len(head)) + head, laid, random.Random(seed))
