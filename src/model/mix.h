#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "formats/gguf.h"
#include "formats/tensor_writer.h"
#include "moxie/result.h"

namespace moxie {

/// A named recipe for the types of a model's tensors: llama.cpp's, with its choices
/// (llama_tensor_get_type), so that files of one name compare.
struct Mix {
  std::string_view name;  ///< "q4_k_m"
  uint32_t file_type;     ///< llama.cpp's number (general.file_type)
  DType type;             ///< of most tensors
};

/// The mix of that name (case-insensitive; q3_k, q4_k and q5_k mean the _m ones), or null.
const Mix* FindMix(std::string_view name);

/// The names of all mixes: "f32, f16, ...".
std::string MixNames();

/// What a choice depends on besides the tensors.
struct MixModel {
  int64_t layers = 0;
  int64_t experts = 0;
  int64_t queries_per_key = 0;  ///< heads over key-value heads
  bool shares_values = false;   ///< a Llama or Qwen2 of 80 layers with grouped queries
  bool has_importance = false;
};

/// Reads them from a GGUF's metadata.
Result<MixModel> ReadMixModel(const GgufMetadata& metadata);

/// Whether a tensor is one that quantising changes: a matrix, no norm, no router.
bool IsQuantisable(const TensorSpec& tensor);

/// The type that each tensor gets, its own where it is not to be quantised. Rows that are not whole
/// blocks get the type that FittingType names.
std::vector<DType> ChooseTypes(const Mix& mix, const MixModel& model,
                               std::span<const TensorSpec> tensors);

/// `type` where rows of `columns` elements are whole blocks of it; else llama.cpp's substitute of
/// 32 elements a block, or f16.
DType FittingType(DType type, int64_t columns);

}  // namespace moxie
