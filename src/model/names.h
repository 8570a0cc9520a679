#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "formats/model_files.h"

namespace moxie {

/// Up to three names that a tensor may have, without ".weight" or ".bias"; the first that exists
/// counts. Within a layer they follow the layer's prefix.
using Spellings = std::array<std::string_view, 3>;

/// What one layout calls a model's tensors. "#" stands for an expert's number.
struct TensorNames {
  Spellings embedding, output, output_norm;
  std::string_view layer_prefix;  ///< "#" stands for the layer's number
  Spellings attention_norm, ffn_norm;
  Spellings q, k, v, qkv, attention_output, q_norm, k_norm, sinks;
  Spellings q_a, q_a_norm, q_b, kv_a, kv_a_norm, kv_b;
  Spellings gate, up, down;  ///< of a dense layer
  Spellings router, selection_bias;
  Spellings expert_gate, expert_up, expert_down;                      ///< one tensor an expert
  Spellings experts_gate, experts_up, experts_down, experts_gate_up;  ///< one tensor a layer
  Spellings shared_gate, shared_up, shared_down, shared_router;
};

const TensorNames& NamesOf(FileLayout layout);

/// The pattern with its "#" replaced.
std::string WithNumber(std::string_view pattern, int64_t number);

/// The number of the layer that a tensor belongs to, or -1.
int64_t LayerOf(FileLayout layout, std::string_view name);

/// What messages call the files: the name of the GGUF or of the folder.
std::string DisplayName(const ModelFiles& files);

/// Whether a tensor is a buffer that follows from the configuration, so that no model reads it.
bool IsIgnorable(FileLayout layout, std::string_view name);

}  // namespace moxie
