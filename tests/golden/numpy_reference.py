"""A dense llama GGUF's forward pass in numpy, float32 throughout: an independent reference.

Reads with the gguf package (its dequantiser), computes as the published model does. It knows one
architecture, `llama` without experts, and is meant to be read beside transformers' modeling_llama.py.
"""
import gguf
import numpy as np


class DenseLlama:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        field = lambda key: reader.get_field(key).contents()
        if field("general.architecture") != "llama":
            raise ValueError("only the llama architecture")
        self.layers = int(field("llama.block_count"))
        self.heads = int(field("llama.attention.head_count"))
        self.kv_heads = int(field("llama.attention.head_count_kv"))
        self.eps = np.float32(field("llama.attention.layer_norm_rms_epsilon"))
        self.base = float(field("llama.rope.freq_base"))
        self.w = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
                  for t in reader.tensors}
        self.head_dim = self.w["blk.0.attn_q.weight"].shape[0] // self.heads

    def norm(self, x, weight):
        scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32) + self.eps)
        return x * scale * weight

    def rope(self, x):
        """x [tokens, heads, head_dim]: pairs (2i, 2i+1), the row order of GGUF's llama layout."""
        tokens, dim = x.shape[0], self.head_dim
        frequency = (1.0 / self.base ** (np.arange(0, dim, 2, dtype=np.float32) / dim)).astype(np.float32)
        angle = np.arange(tokens, dtype=np.float32)[:, None] * frequency
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 1::2] * cos + x[..., 0::2] * sin
        return out

    def attention(self, x, p):
        tokens = x.shape[0]
        q = self.rope((x @ self.w[p + "attn_q.weight"].T).reshape(tokens, self.heads, -1))
        k = self.rope((x @ self.w[p + "attn_k.weight"].T).reshape(tokens, self.kv_heads, -1))
        v = (x @ self.w[p + "attn_v.weight"].T).reshape(tokens, self.kv_heads, -1)
        mask = np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
        out = np.empty_like(q)
        for h in range(self.heads):
            g = h // (self.heads // self.kv_heads)
            scores = q[:, h] @ k[:, g].T / np.float32(np.sqrt(self.head_dim)) + mask
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, h] = scores / scores.sum(-1, keepdims=True) @ v[:, g]
        return out.reshape(tokens, -1) @ self.w[p + "attn_output.weight"].T

    def logits(self, ids):
        """float32 [tokens, vocab] of one sequence of ids."""
        x = self.w["token_embd.weight"][np.asarray(ids)]
        for i in range(self.layers):
            p = f"blk.{i}."
            x = x + self.attention(self.norm(x, self.w[p + "attn_norm.weight"]), p)
            h = self.norm(x, self.w[p + "ffn_norm.weight"])
            gate, up = h @ self.w[p + "ffn_gate.weight"].T, h @ self.w[p + "ffn_up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ self.w[p + "ffn_down.weight"].T
        output = self.w.get("output.weight", self.w["token_embd.weight"])
        return self.norm(x, self.w["output_norm.weight"]) @ output.T


def mean_kl(reference, other):
    """Mean over positions of KL(reference || other) in nats, in float64; logits [tokens, vocab]."""
    def log_softmax(x):
        x = x.astype(np.float64)
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))
    a, b = log_softmax(reference), log_softmax(other)
    return float(np.mean(np.sum(np.exp(a) * (a - b), axis=-1)))
