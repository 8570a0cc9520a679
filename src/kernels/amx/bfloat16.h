#pragma once

#include "core/matrix.h"

namespace moxie::amx {

// The product in bfloat16, of 8 significant bits:
//
//   out = sum_i bf16(w[i]) * bf16(x[i]),   w[i] = scale * (code[i] - offset) + min in float32
//
// Both roundings are to nearest (of weights, ties go away from zero), so each term errs by at most
// 2^-7 + 2^-16 of itself, and sums are float32 in the order of tdpbf16ps: 32 columns after another,
// of each the even and the odd ones apart. Numbers below 2^-126 count as zeros.

constexpr int kPanelTokens = 16;
constexpr int kTileColumns = 32;  ///< of a panel, which lie together

/// Whether weights of this type and width have this product.
bool HasBfloat16Product(DType type, int64_t cols);

/// A panel of activations: [columns / 32][token][32] bfloat16 numbers, tokens from `count` on
/// zeros. `cols` is a multiple of 32.
void ConvertPanel(int64_t cols, const float* const* rows, int64_t count, std::byte* out);

/// KernelSet::matmul for panels.
void Bfloat16MatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                    const std::byte* panels, int64_t tokens, float* out, int64_t out_stride);

}  // namespace moxie::amx
