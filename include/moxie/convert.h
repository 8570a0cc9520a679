#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "moxie/result.h"

namespace moxie {

struct ConvertOptions {
  std::string type = {};     ///< of the matrices, "bf16", "q8_0", ...; empty: each tensor's own
  int64_t split_bytes = 0;   ///< of tensors in one file; 0: one GGUF, or 5 GB a safetensors file
  int64_t memory_bytes = 0;  ///< for buffers; 0: 64 MiB
  int threads = 0;           ///< 0: every CPU this process may use
  /// Told the share done, in [0, 1], now and then; false stops. May be empty.
  std::function<bool(double share)> progress = {};
};

/// Converts a model folder (Hugging Face's or Mistral's consolidated) to a GGUF as llama.cpp's
/// converter writes it, or a GGUF to a Hugging Face folder, of every family that moxie runs.
///
/// To a GGUF: all the metadata, tokenizer and chat template included; norms, routers, biases and
/// other small tensors in float32. With `split_bytes` a set OUT-00001-of-0000N.gguf. A tokenizer
/// that a GGUF cannot say is refused, which is checked by encoding with both.
///
/// To a folder: safetensors in Hugging Face's names, sharded with an index above `split_bytes`;
/// config.json, generation_config.json, tokenizer.json or tokenizer.model, tokenizer_config.json.
/// `type` is "f32", "f16" or "bf16"; quantised tensors become bfloat16 where it is empty (gpt-oss's
/// MXFP4 experts stay).
///
/// Tensors stream through in blocks of rows, so that memory does not grow with the model. The
/// result has its name only when it is whole; whatever had it before is replaced, but a folder that
/// is not empty is not.
///
/// Errors: kInvalidInput, kNotFound, kIo; kUnsupported for what the other layout cannot say;
/// kOverBudget where a row does not fit in the memory; kCancelled.
Result<void> Convert(const std::string& in, const std::string& out, const ConvertOptions& options);

struct UpcycleOptions {
  int64_t experts = 8;
  int64_t used = 2;
  double noise = 0;   ///< standard deviation of the routers' weights; 0: all zero
  uint64_t seed = 0;  ///< of the noise
};

/// Makes a mixture of a dense model (sparse upcycling, Komatsuzaki et al., arXiv:2212.05055): every
/// layer's feed-forward becomes `experts` equal copies behind a router, all else stays as it is, in
/// its own type. The weights of the chosen experts sum to 1, so the mixture computes the dense
/// model's function. With `noise` 0 every token goes to the first `used` experts with equal
/// weights, which is exact to the last bit where `used` is a power of two; with noise the routing
/// spreads and the sum rounds.
///
/// `in` is a GGUF or a folder of the llama family (Llama, Mistral, SmolLM2) or of Qwen3; `out` is a
/// GGUF of the mixture of that family. The file is written beside `out` and renamed when complete.
///
/// Errors: kInvalidInput for options out of range or a model that already is a mixture;
/// kUnsupported for other families; kIo.
Result<void> Upcycle(const std::string& in, const std::string& out, const UpcycleOptions& options);

}  // namespace moxie
