#!/usr/bin/env python3
"""moxie convert, end to end: statuses, messages, and what an interruption leaves."""
import contextlib
import json
import os
import pathlib
import pty
import signal
import struct
import subprocess
import tempfile
import unittest

from python_support import MOXIE, PATIENCE_S, ROOT, wait_for

MODELS = ROOT / "tests/golden/models"


def run(*args, **kwargs):
    return subprocess.run([MOXIE, *map(str, args)], capture_output=True, timeout=600, **kwargs)


def write_sparse_mixtral(folder, layers=2, experts=8, dim=1024, ffn=4096, vocab=4096):
    """A Mixtral in bfloat16 whose weights are holes in a file: no disk, but pages once read."""
    folder.mkdir()
    shapes = {"model.embed_tokens.weight": [vocab, dim], "lm_head.weight": [vocab, dim],
              "model.norm.weight": [dim]}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        for name, shape in (("input_layernorm", [dim]), ("post_attention_layernorm", [dim]),
                            ("self_attn.q_proj", [dim, dim]), ("self_attn.k_proj", [dim // 4, dim]),
                            ("self_attn.v_proj", [dim // 4, dim]), ("self_attn.o_proj", [dim, dim]),
                            ("block_sparse_moe.gate", [experts, dim])):
            shapes[f"{at}{name}.weight"] = shape
        for expert in range(experts):
            for part, shape in (("w1", [ffn, dim]), ("w2", [dim, ffn]), ("w3", [ffn, dim])):
                shapes[f"{at}block_sparse_moe.experts.{expert}.{part}.weight"] = shape
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2
        for d in shape:
            size *= d
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    (folder / "config.json").write_text(json.dumps({
        "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "hidden_size": dim,
        "num_hidden_layers": layers, "num_attention_heads": 16, "num_key_value_heads": 4,
        "intermediate_size": ffn, "num_local_experts": experts, "num_experts_per_tok": 2,
        "vocab_size": vocab, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "rope_theta": 1e6}))
    return offset


class Convert(unittest.TestCase):
    def setUp(self):
        self.holder = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.holder.name)
        self.addCleanup(self.holder.cleanup)

    def bad(self, status, *args):
        result = run("convert", *args)
        self.assertEqual(result.returncode, status, result.stderr)
        message = result.stderr.decode()
        self.assertEqual(message.count("\n"), 1, message)
        self.assertTrue(message.startswith("moxie convert: "), message)
        return message

    def test_is_quiet_in_a_pipe(self):
        result = run("convert", MODELS / "mixtral", self.folder / "m.gguf", "--type", "q8_0")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, b"", b""))
        result = run("convert", self.folder / "m.gguf", self.folder / "back/", "--type", "f16")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, b"", b""))
        names = {path.name for path in (self.folder / "back").iterdir()}
        self.assertEqual(names, {"config.json", "generation_config.json", "model.safetensors",
                                 "tokenizer.json", "tokenizer_config.json"})

    def test_bar_on_a_terminal(self):
        ours, theirs = pty.openpty()
        result = subprocess.run([MOXIE, "convert", MODELS / "mixtral", self.folder / "m.gguf"],
                                stdout=subprocess.PIPE, stderr=theirs, timeout=PATIENCE_S)
        os.close(theirs)
        self.assertEqual((result.returncode, result.stdout), (0, b""))
        shown = b""
        with contextlib.suppress(OSError):  # EIO: all has been read and nobody writes any more.
            while piece := os.read(ours, 1 << 16):
                shown += piece
        os.close(ours)
        shown = shown.decode()
        self.assertIn("converting", shown)
        self.assertTrue(shown.endswith("\r\x1b[K"), "the bar is taken off at the end")

    def test_bad_input_is_1_and_one_line(self):
        self.bad(1, "/no/such/folder", self.folder / "o.gguf")
        self.bad(1, MODELS / "mixtral", "/no/such/folder/o.gguf")
        self.bad(1, MODELS / "mixtral", self.folder / "o.gguf", "--type", "q9_z")
        self.bad(1, MODELS / "mixtral", self.folder / "o.gguf", "--memory", "100")
        self.bad(2, MODELS / "mixtral", self.folder / "o.gguf", "--split", "much")
        self.bad(2, MODELS / "mixtral")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_interrupted_leaves_nothing(self):
        write_sparse_mixtral(self.folder / "large")
        for out in ("o.gguf", "p.gguf"):
            process = subprocess.Popen([MOXIE, "convert", self.folder / "large", self.folder / out,
                                        "--type", "q4_k"], stderr=subprocess.PIPE)
            wait_for(lambda: list(self.folder.glob(".*.partial")) or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE_S)
            self.assertEqual((process.returncode, errors), (130, b""))
        self.assertEqual([path.name for path in self.folder.iterdir()], ["large"])


if __name__ == "__main__":
    unittest.main()
