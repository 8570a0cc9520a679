#pragma once

#include "core/matrix.h"

namespace moxie::amx {

// The product of avx512_bf16/pairs.h found by tiles: weights are the left factor as they are
// stored. Sums are float32 in the order of tdpbf16ps, 32 columns after another, of which the high
// parts' products come first.

/// Whether so many tokens meet such weights in that form.
bool HasPairsProduct(DType type, int64_t cols, int64_t tokens);

/// KernelSet::matmul for panels of pairs.
void MatMulOfPairs(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* panels, int64_t tokens, float* out, int64_t out_stride);

}  // namespace moxie::amx
