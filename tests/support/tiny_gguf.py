"""Writes a tiny dense GGUF of the llama family with random weights, after the format's
specification (ggml-org/ggml docs/gguf.md) and with nothing but Python's own library."""
import random
import struct

DIM, LAYERS, HEADS, KV_HEADS, FFN, CONTEXT = 32, 2, 4, 2, 64, 1 << 17
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
            "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5


def byte_letters():
    """GPT-2's printable letter for each of the 256 bytes (its encoder's bytes_to_unicode)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, extra = {b: chr(b) for b in plain}, 0
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(0x100 + extra)
            extra += 1
    return [letters[byte] for byte in range(256)]


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key, kind, value):
    packed = {UINT32: lambda: struct.pack("<I", value), FLOAT32: lambda: struct.pack("<f", value),
              BOOL: lambda: struct.pack("<?", value), STRING: lambda: text(value)}[kind]()
    return text(key) + struct.pack("<I", kind) + packed


def array(key, kind, values):
    items = b"".join(text(v) if kind == STRING else struct.pack("<i", v) for v in values)
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(values)) + items


def write_tiny_gguf(path, seed=1, template=TEMPLATE):
    tokens = SPECIAL + byte_letters() + ["ab"]
    kinds = [3] * len(SPECIAL) + [1] * 257  # control, normal
    pairs = [
        pair("general.architecture", STRING, "llama"), pair("general.name", STRING, "tiny"),
        pair("llama.context_length", UINT32, CONTEXT), pair("llama.embedding_length", UINT32, DIM),
        pair("llama.block_count", UINT32, LAYERS), pair("llama.feed_forward_length", UINT32, FFN),
        pair("llama.attention.head_count", UINT32, HEADS),
        pair("llama.attention.head_count_kv", UINT32, KV_HEADS),
        pair("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
        pair("llama.rope.dimension_count", UINT32, DIM // HEADS),
        pair("llama.rope.freq_base", FLOAT32, 1e4), pair("llama.vocab_size", UINT32, len(tokens)),
        pair("tokenizer.ggml.model", STRING, "gpt2"), pair("tokenizer.ggml.pre", STRING, "gpt-2"),
        array("tokenizer.ggml.tokens", STRING, tokens),
        array("tokenizer.ggml.token_type", INT32, kinds),
        array("tokenizer.ggml.merges", STRING, ["a b"]),
        pair("tokenizer.ggml.bos_token_id", UINT32, 0), pair("tokenizer.ggml.eos_token_id", UINT32, 2),
        pair("tokenizer.ggml.add_bos_token", BOOL, False),
    ]
    if template is not None:
        pairs.append(pair("tokenizer.chat_template", STRING, template))
    kv = DIM // HEADS * KV_HEADS
    tensors = [("token_embd.weight", (len(tokens), DIM)), ("output_norm.weight", (DIM,)),
               ("output.weight", (len(tokens), DIM))]
    for layer in range(LAYERS):
        tensors += [(f"blk.{layer}.{name}.weight", shape) for name, shape in (
            ("attn_norm", (DIM,)), ("attn_q", (DIM, DIM)), ("attn_k", (kv, DIM)),
            ("attn_v", (kv, DIM)), ("attn_output", (DIM, DIM)), ("ffn_norm", (DIM,)),
            ("ffn_gate", (FFN, DIM)), ("ffn_up", (FFN, DIM)), ("ffn_down", (DIM, FFN)))]
    numbers, infos, data = random.Random(seed), b"", b""
    for name, shape in tensors:
        infos += text(name) + struct.pack("<I", len(shape))
        infos += b"".join(struct.pack("<Q", n) for n in reversed(shape))
        infos += struct.pack("<IQ", 0, len(data))  # float32
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        values = ([1.0] * count if len(shape) == 1 else
                  [numbers.gauss(0, 1.5 * shape[1] ** -0.5) for _ in range(count)])
        data += struct.pack(f"<{count}f", *values)
        data += b"\0" * (-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs) + infos
    with open(path, "wb") as file:
        file.write(head + b"\0" * (-len(head) % 32) + data)
