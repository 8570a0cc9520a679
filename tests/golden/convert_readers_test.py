#!/usr/bin/env python3
"""Converted models as others read them: the gguf, safetensors, tokenizers and sentencepiece packages."""
import base64
import json
import os
import pathlib
import shutil
import tempfile
import unittest

from python_support import ROOT, moxie, skip

try:
    import gguf
    import sentencepiece
    import tokenizers
    from safetensors import safe_open
except ImportError as error:
    skip(f"no reference implementation: {error}")

MODELS = ROOT / "tests/golden/models"
SHARED = pathlib.Path(os.environ.get("MOXIE_SHARED", ROOT.parent / "shared")) / "golden"
TEXTS = ["", "Hello, world!", " two  spaces\n\nand\ttabs ", "I'm sure it's 1234567 or 3.14", "naïve café",
         "Привет мир 你好 🚀", "<s>not special</s>"]
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def strings(reader, key):
    field = reader.fields[key]
    return [bytes(field.parts[i]).decode() for i in field.data]


def byte_characters():
    """GPT-2's characters for bytes (openai/gpt-2, src/encoder.py)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(rest)}


class Readers(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def there_and_back(self, source):
        file, folder = self.folder / "m.gguf", self.folder / "back"
        shutil.rmtree(folder, ignore_errors=True)
        moxie("convert", source, file)
        moxie("convert", file, folder)
        return gguf.GGUFReader(file), folder

    def test_packages_read_them(self):
        for source in sorted(MODELS.iterdir()):
            with self.subTest(model=source.name):
                reader, folder = self.there_and_back(source)
                config = json.loads((source / "config.json").read_text())
                names = gguf.get_tensor_name_map(
                    next(a for a, n in gguf.MODEL_ARCH_NAMES.items()
                         if n == reader.fields["general.architecture"].contents()),
                    config["num_hidden_layers"])
                known = {name for _, name in names.mapping.values()}
                # Some reference mixtures have dense layers, which published ones of the family lack.
                known |= {f"blk.{layer}.ffn_{part}" for layer in range(config["num_hidden_layers"])
                          for part in ("gate", "up", "down")}
                for tensor in reader.tensors:
                    stem = tensor.name.removesuffix(".weight").removesuffix(".bias")
                    self.assertIn(stem, known | {"rope_freqs"})
                with safe_open(folder / "model.safetensors", "np") as file:
                    self.assertEqual(file.metadata(), {"format": "pt"})
                ours = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
                theirs = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
                for text in TEXTS:
                    for special in (False, True):
                        self.assertEqual(ours.encode(text, add_special_tokens=special).ids,
                                         theirs.encode(text, add_special_tokens=special).ids)

    def test_settings_come_back(self):
        """config.json says again what it said, as far as it says anything of the mathematics."""
        dull = {"architectures", "dtype", "torch_dtype", "transformers_version", "use_cache", "initializer_range",
                "attention_dropout", "output_router_logits", "router_aux_loss_coef", "pretraining_tp",
                "bos_token_id", "eos_token_id", "pad_token_id", "router_jitter_noise", "rope_parameters",
                "num_nextn_predict_layers", "qk_head_dim", "moe_layer_freq", "initial_context_length",
                "decoder_sparse_step", "mlp_only_layers", "use_sliding_window", "max_window_layers", "layer_types", "sliding_window", "rope_theta"}
        for source in sorted(MODELS.iterdir()):
            with self.subTest(model=source.name):
                _, folder = self.there_and_back(source)
                want = json.loads((source / "config.json").read_text())
                got = json.loads((folder / "config.json").read_text())
                rope = want["rope_parameters"]
                self.assertEqual(got["rope_theta"], rope["rope_theta"])
                scaling = got.get("rope_scaling", {"rope_type": "default"})
                for key in rope.keys() - {"rope_theta", "attention_factor"}:
                    self.assertEqual(scaling[key], rope[key], key)
                for key in want.keys() & got.keys() - dull:
                    # Latent attention has no one head size; transformers writes the rotated part's.
                    if key != "head_dim" or want["model_type"] != "deepseek_v3":
                        self.assertEqual(got[key], want[key], key)

    def test_sentencepiece_reads_its_model(self):
        if not SHARED.is_dir():
            self.skipTest(f"no reference data at {SHARED}")
        for name in ("mixtral-f32", "mistral-window", "llama-linear"):
            if not (SHARED / name / "tokenizer.model").exists():
                continue
            with self.subTest(model=name):
                _, folder = self.there_and_back(SHARED / name)
                ours = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
                theirs = sentencepiece.SentencePieceProcessor(str(SHARED / name / "tokenizer.model"))
                self.assertEqual(len(ours), len(theirs))
                for text in TEXTS:
                    self.assertEqual(ours.encode(text), theirs.encode(text))

    def test_tekken_merges_are_the_trainers(self):
        """A tekken.json of a vocabulary whose merges are known: they are found again."""
        source = self.folder / "tekken"
        shutil.copytree(MODELS / "qwen3", source)
        original = json.loads((source / "tokenizer.json").read_text())
        (source / "tokenizer.json").unlink()
        (source / "tokenizer_config.json").unlink()
        (source / "generation_config.json").unlink()
        of_character = byte_characters()
        special = {token["content"] for token in original["added_tokens"]}
        pieces = [piece for piece, _ in sorted(original["model"]["vocab"].items(), key=lambda p: p[1])
                  if piece not in special]
        size = json.loads((source / "config.json").read_text())["vocab_size"]
        tekken = {"config": {"pattern": TEKKEN, "default_vocab_size": size,
                             "default_num_special_tokens": size - len(pieces), "version": "v3"},
                  "vocab": [{"rank": rank, "token_str": None, "token_bytes": base64.b64encode(
                      bytes(of_character[c] for c in piece)).decode()} for rank, piece in enumerate(pieces)]}
        (source / "tekken.json").write_text(json.dumps(tekken))
        file = self.folder / "m.gguf"
        moxie("convert", source, file)
        reader = gguf.GGUFReader(file)
        self.assertEqual(reader.fields["tokenizer.ggml.pre"].contents(), "tekken")
        self.assertEqual(strings(reader, "tokenizer.ggml.merges"),
                         [m if isinstance(m, str) else " ".join(m) for m in original["model"]["merges"]])


if __name__ == "__main__":
    unittest.main()
