#pragma once

#include <cstdint>
#include <string_view>

#include "core/dtype.h"
#include "core/function_ref.h"
#include "model/config.h"
#include "model/weights.h"

namespace moxie {

/// The type of a tensor, by the name that it has in a GGUF ("blk.0.ffn_up_exps.weight") and its
/// innermost dimension. Asked for matrices only; everything of one dimension is float32.
using TypeOfTensor = FunctionRef<DType(std::string_view name, int64_t cols)>;

/// A model's weights without their bytes: every matrix has its type, shape and stride, and data
/// that is not null but must not be read; every vector has its length. So whatever follows from
/// shapes can be worked out before there is a file.
ModelWeights OutlineWeights(const ModelConfig& config, TypeOfTensor type_of);

/// What a model's weights take, in bytes.
struct WeightBytes {
  int64_t matrices = 0;  ///< of every token: all but experts; tied embeddings once
  int64_t vectors = 0;   ///< norms, biases and such, held as float32
  int64_t experts = 0;   ///< all of them
  int64_t largest_expert = 0;
  int64_t sparse_layers = 0;
};
WeightBytes CountBytes(const ModelConfig& config, const ModelWeights& weights);

/// The type that `wanted` becomes for rows of `cols` elements: itself where they are whole blocks,
/// else the smallest block type of at least its precision that fits (q8_0), else f16.
DType TypeForRows(DType wanted, int64_t cols);

}  // namespace moxie
