#!/usr/bin/env python3
"""Writes the first inputs of the gguf, safetensors and json_config fuzzers: small files of every
kind of value, from which the fuzzer goes on."""
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def write(folder, name, data):
    (CORPUS / folder).mkdir(parents=True, exist_ok=True)
    (CORPUS / folder / name).write_bytes(data)


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def key_value(key, kind, payload):
    return text(key) + struct.pack("<I", kind) + payload


def array(key, kind, count, payload):
    return key_value(key, 9, struct.pack("<IQ", kind, count) + payload)


def tensor(name, shape, kind, offset):
    return (text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) +
            struct.pack("<IQ", kind, offset))


def gguf(key_values, tensors=(), data=b"", version=3, alignment=32):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(key_values))
    head += b"".join(key_values) + b"".join(tensors)
    return head + b"\0" * (-len(head) % alignment) + data


def make_gguf():
    formats = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
               12: "d"}
    scalars = [key_value(f"s{kind}", kind, struct.pack("<" + f, 1)) for kind, f in formats.items()]
    arrays = [array(f"a{kind}", kind, 3, struct.pack("<3" + f, 0, 1, 1))
              for kind, f in formats.items()]
    texts = [key_value("general.architecture", 8, text("llama")),
             array("tokenizer.ggml.tokens", 8, 3, text("<s>") + text("") + text("\u2581a"))]
    tensors = [tensor("token_embd.weight", [4, 3], 0, 0), tensor("blk.0.q", [32, 2], 8, 64)]
    write("gguf", "empty", gguf([]))
    write("gguf", "version2", gguf(texts, version=2))
    write("gguf", "scalars", gguf(scalars))
    write("gguf", "arrays", gguf(arrays + texts))
    write("gguf", "tensors", gguf(texts, tensors, b"\0" * (64 + 68)))
    write("gguf", "aligned", gguf([key_value("general.alignment", 4, struct.pack("<I", 64))],
                                  tensors, b"\0" * (64 + 68), alignment=64))


def make_safetensors():
    def file(header, data=b""):
        return struct.pack("<Q", len(header)) + header.encode() + data
    write("safetensors", "empty", file("{}"))
    write("safetensors", "metadata", file('{"__metadata__":{"format":"pt"}}'))
    write("safetensors", "two", file(
        '{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},'
        '"b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]}} ', bytes(14)))
    write("safetensors", "bytes", file(
        '{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', bytes(1)))


def make_json():
    write("json_config", "values", rb'[null,true,false,0,-1,1.5e3,"\u00e9\ud83d\ude00\n",[],{}]')
    write("json_config", "config", b"""{"architectures": ["MixtralForCausalLM"],
"hidden_size": 48, "rope_theta": 1e6, "sliding_window": null, "tie_word_embeddings": false,
"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}""")
    write("json_config", "deep", b"[" * 600)
    write("json_config", "mark", b"\xef\xbb\xbf{}")


if __name__ == "__main__":
    make_gguf()
    make_safetensors()
    make_json()
