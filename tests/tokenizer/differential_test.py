#!/usr/bin/env python3
"""Ids and decoded texts against Hugging Face's `tokenizers` and SentencePiece's own library, on
random texts and vocabularies trained here.

MOXIE_TOKENIZER_STRINGS sets the number of texts for each vocabulary (3,000 unless set; 100,000
takes some minutes), MOXIE_TOKENIZER_SEED the random numbers' seed. Skipped without the packages.
"""
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

from python_support import ROOT, skip

try:
    import sentencepiece
    import tokenizers
    from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                            pre_tokenizers, processors, trainers)
except ImportError as error:
    skip(f"no reference implementation: {error}")

import random_texts

TOOL = pathlib.Path(os.environ.get("MOXIE_BUILD", ROOT / "build")) / "tokenizer_tool"
COUNT = int(os.environ.get("MOXIE_TOKENIZER_STRINGS", "3000"))
SEED = int(os.environ.get("MOXIE_TOKENIZER_SEED", "7"))
BATCH = 2000

TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + TAIL
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + TAIL
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|"
         rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?|\p{{N}}{{1,3}}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK3 = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
             r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ("<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<tool_call>", "  ", "é<mask>")


class Moxie:
    """The tool that encodes and decodes in one process."""

    def __init__(self, path):
        self.process = subprocess.Popen([TOOL, path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def ask(self, requests):
        """[(flags, bytes)] -> [bytes]"""
        answers = []
        for start in range(0, len(requests), 200):
            part = requests[start:start + 200]
            self.process.stdin.write(b"".join(struct.pack("<II", flags, len(data)) + data
                                              for flags, data in part))
            self.process.stdin.flush()
            for _ in part:
                size, = struct.unpack("<I", self.process.stdout.read(4))
                answers.append(self.process.stdout.read(size))
        return answers

    def encode(self, texts, flags):
        return [list(struct.unpack(f"<{len(a) // 4}i", a))
                for a in self.ask([(flags, t) for t in texts])]

    def decode(self, ids):
        return [a.decode() for a in self.ask([(4, struct.pack(f"<{len(i)}i", *i)) for i in ids])]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def check(name, texts, got, want):
    for text, g, w in zip(texts, got, want):
        if g != w:
            sys.exit(f"{name}: {text!r}\n  moxie     {g!r}\n  reference {w!r}")


def compare_json(name, tokenizer, path):
    """Against `tokenizers`, with special text parsed and not, encoding and decoding."""
    rng = random.Random(SEED)
    moxie = Moxie(path)
    for start in range(0, COUNT, BATCH):
        texts = [random_texts.text(rng, SPECIAL) for _ in range(min(BATCH, COUNT - start))]
        raw = [t.encode() for t in texts]
        for flags, plain in ((2, False), (3, False), (0, True)):
            tokenizer.encode_special_tokens = plain
            want = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=flags == 3)]
            check(name, texts, moxie.encode(raw, flags), want)
        size = tokenizer.get_vocab_size()
        ids = want + [[rng.randrange(size) for _ in range(rng.randrange(9))] for _ in range(200)]
        check(f"{name}, decoding", ids, moxie.decode(ids),
              tokenizer.decode_batch(ids, skip_special_tokens=False))
    moxie.close()
    print(f"{name}: {COUNT} texts equal", flush=True)


def compare_sentencepiece(name, model):
    """Against SentencePiece itself, invalid UTF-8 included."""
    rng = random.Random(SEED)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    moxie = Moxie(model.parent)
    for start in range(0, COUNT, BATCH):
        texts = []
        for i in range(min(BATCH, COUNT - start)):
            text = random_texts.text(rng, SPECIAL).encode()
            texts.append(text if i % 4 else text + random_texts.byte_text(rng))
        check(name, texts, moxie.encode(texts, 0), [processor.encode(t) for t in texts])
    moxie.close()
    print(f"{name}: {COUNT} texts equal", flush=True)


def byte_level(patterns, normalizer=None, template=False, ignore_merges=False, added=()):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    steps = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not patterns))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=2500, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<s>", "</s>", "<|im_start|>"])
    tokenizer.train_from_iterator(random_texts.corpus(), trainer)
    tokenizer.add_tokens(list(added))
    if template:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return tokenizer


def metaspace(prepend_scheme, split, unigram=False):
    model = models.Unigram() if unigram else models.BPE(unk_token="<unk>", fuse_unk=True,
                                                        byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=prepend_scheme,
                                                       split=split)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                           decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"]
    if unigram:
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.decoder = decoders.Metaspace("▁", prepend_scheme=prepend_scheme)
        trainer = trainers.UnigramTrainer(vocab_size=900, show_progress=False, unk_token="<unk>",
                                          special_tokens=special)
    else:
        special += [f"<0x{b:02X}>" for b in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=2500, show_progress=False, special_tokens=special)
    tokenizer.train_from_iterator(random_texts.corpus(), trainer)
    return tokenizer


def llama2():
    """Llama 2's and Mixtral's tokenizer.json: normalisers in place of Metaspace."""
    tokenizer = metaspace("always", False)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"),
                                                 normalizers.Replace(" ", "▁")])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False, rstrip=True),
                          AddedToken("é<mask>", normalized=False, lstrip=True, single_word=True)])
    return tokenizer


def train_sentencepiece(folder, name, **options):
    (folder / name).mkdir()
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(random_texts.corpus()))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / name / "tokenizer"), minloglevel=2,
        character_coverage=0.995, **(
            {"hard_vocab_limit": False} if options["model_type"] == "unigram" else {}), **options)
    return folder / name / "tokenizer.model"


def from_gguf(path):
    """The tokenizer.json that SmolLM2's vocabulary was published in, from the arrays of its GGUF."""
    from gguf import GGUFReader
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    types = fields["tokenizer.ggml.token_type"].contents()
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                  for t, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def json_vocabularies():
    mask = (AddedToken("<|im_end|>", special=True), AddedToken("  "), "<tool_call>",
            AddedToken("é<mask>", lstrip=True, rstrip=True, single_word=True))
    yield "llama3 byte-level", byte_level([LLAMA3], template=True, ignore_merges=True, added=mask)
    yield "qwen2 byte-level", byte_level([QWEN2], normalizers.NFC(), added=mask)
    yield "gpt2 byte-level", byte_level([], normalizers.NFD())
    yield "gpt-4o byte-level", byte_level([GPT4O])
    yield "deepseek-v3 byte-level", byte_level([r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3])
    yield "llama2 json", llama2()
    yield "metaspace always", metaspace("always", True)
    yield "metaspace first", metaspace("first", False)
    yield "unigram json", metaspace("always", True, unigram=True)


def main():
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for name, tokenizer in json_vocabularies():
            if only not in name:
                continue
            path = folder / name.replace(" ", "-")
            path.mkdir()
            tokenizer.save(str(path / "tokenizer.json"))
            compare_json(name, Tokenizer.from_file(str(path / "tokenizer.json")), path)
        settings = {
            "sentencepiece bpe": dict(model_type="bpe", vocab_size=1800, byte_fallback=True,
                                      normalization_rule_name="identity",
                                      remove_extra_whitespaces=False,
                                      user_defined_symbols=["<tool_call>", "  "]),
            "sentencepiece bpe nfkc": dict(model_type="bpe", vocab_size=1500,
                                           user_defined_symbols=["<tool_call>"]),
            "sentencepiece unigram": dict(model_type="unigram", vocab_size=900,
                                          user_defined_symbols=["<tool_call>", "é<mask>"]),
            "sentencepiece unigram bytes": dict(model_type="unigram", vocab_size=1100,
                                                byte_fallback=True, add_dummy_prefix=False,
                                                normalization_rule_name="nfkc_cf"),
        }
        for name, options in settings.items():
            if only in name:
                compare_sentencepiece(name, train_sentencepiece(folder, name.replace(" ", "-"),
                                                                **options))
    model = pathlib.Path(os.environ.get(
        "MOXIE_SMOLLM2", ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    if only in "smollm2 gguf":
        if model.exists():
            compare_json("smollm2 gguf", from_gguf(model), model)
        else:
            print("smollm2 gguf: left out, the file is not here (./dev demo fetches it)")


if __name__ == "__main__":
    main()
