#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/model_files.h"
#include "model/config.h"
#include "moxie/result.h"

namespace moxie {

/// Numbers of weights, embeddings and norms included; tied embeddings count once.
struct ParameterCount {
  int64_t total = 0;
  int64_t active = 0;  ///< those that one token meets: `used` experts of each sparse layer
};

/// Follows from the configuration alone, so it needs no files.
ParameterCount CountParameters(const ModelConfig& config);

struct TensorTypeSummary {
  DType type = DType::kF32;
  int64_t tensors = 0;
  int64_t elements = 0;
  uint64_t bytes = 0;
};

/// What a model is, without loading it: for people and for tools.
struct ModelSummary {
  ModelConfig config;
  std::string layout;  ///< "gguf", "huggingface", "consolidated"
  ParameterCount parameters;
  uint64_t tensor_bytes = 0;
  std::vector<TensorTypeSummary> types;  ///< most bytes first; MXFP4 in a folder shows as i8
  int64_t sparse_layers = 0;
  int64_t window_layers = 0;  ///< layers with a sliding window
  int64_t window = 0;         ///< the largest window, 0: none
  std::string tokenizer;      ///< "llama", "gpt2 (llama-bpe)", "tokenizer.json", or empty
  bool has_chat_template = false;
};

/// Errors: those of reading the companion files of a folder.
Result<ModelSummary> SummariseModel(const ModelFiles& files, const ModelConfig& config);

}  // namespace moxie
