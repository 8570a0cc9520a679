#!/usr/bin/env python3
"""Writes the seeds of the tokenizer fuzzers, with `sentencepiece` (PyPI) and small JSON by hand.

usage: tests/fuzz/make_tokenizer_corpus.py
"""
import base64
import json
import pathlib
import sys
import tempfile

import sentencepiece

ROOT = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent / "tokenizer"))
import random_texts  # noqa: E402

BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<unk>": 3, "▁": 4, "<0x0A>": 5},
       "merges": [["a", "b"]], "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
JSON_SEEDS = {
    "llama2": {"model": BPE,
               "added_tokens": [{"id": 6, "content": "<s>", "special": True, "lstrip": True}],
               "normalizer": {"type": "Sequence", "normalizers": [
                   {"type": "Prepend", "prepend": "▁"},
                   {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
               "decoder": {"type": "Sequence", "decoders": [
                   {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                   {"type": "ByteFallback"}, {"type": "Fuse"},
                   {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
               "post_processor": {"type": "TemplateProcessing", "single": [
                   {"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                   "special_tokens": {"<s>": {"ids": [6]}}}},
    "byte_level": {"model": {"type": "BPE", "vocab": {"a": 0, "Ġ": 1, "Ġa": 2},
                             "merges": ["Ġ a"], "ignore_merges": True},
                   "normalizer": {"type": "NFC"},
                   "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                       {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": {
                           "Regex": r"(?i:'s)|[^\r\n\p{L}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"}},
                       {"type": "Digits", "individual_digits": True}, {"type": "Punctuation"},
                       {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}]},
                   "decoder": {"type": "ByteLevel"}},
    "unigram": {"model": {"type": "Unigram", "unk_id": 0,
                          "vocab": [["<unk>", 0], ["▁a", -1.5], ["b", -2.25]]},
                "normalizer": {"type": "Sequence", "normalizers": [
                    {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "StripAccents"},
                    {"type": "Strip", "strip_left": True}, {"type": "Nmt"}]},
                "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first", "split": False},
                "decoder": {"type": "Metaspace"}},
    "tekken": {"config": {"pattern": r"[^ ]+|\s+", "default_num_special_tokens": 3,
                          "default_vocab_size": 260},
               "vocab": [{"rank": i, "token_bytes": base64.b64encode(t).decode()}
                         for i, t in enumerate([bytes([b]) for b in range(256)] + [b"ab"])]},
}


def main():
    for name in ("tokenizer_json", "tokenizer_model", "tokenizer_text"):
        (ROOT / "corpus" / name).mkdir(parents=True, exist_ok=True)
    for name, seed in JSON_SEEDS.items():
        text = json.dumps(seed, ensure_ascii=False)
        (ROOT / "corpus/tokenizer_json" / name).write_text(text)
    for i, text in enumerate(random_texts.SENTENCES + random_texts.EMOJI):
        (ROOT / "corpus/tokenizer_text" / f"{i:02}").write_text(text)
    with tempfile.TemporaryDirectory() as folder:
        for kind, rule in (("bpe", "identity"), ("unigram", "identity")):
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(random_texts.SENTENCES[:1] * 20), model_type=kind,
                vocab_size=310, byte_fallback=True, hard_vocab_limit=False, minloglevel=2,
                normalization_rule_name=rule, user_defined_symbols=["<u>"],
                model_prefix=f"{folder}/{kind}")
            data = pathlib.Path(f"{folder}/{kind}.model").read_bytes()
            (ROOT / "corpus/tokenizer_model" / kind).write_bytes(data)


if __name__ == "__main__":
    main()
