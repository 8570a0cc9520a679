#pragma once

#include "kernels/kernel_set.h"

namespace moxie::avx512_bf16 {

// The product of bfloat16 weights and activations that are split in two (split.h), in panels of
// pairs of columns:
//
//   out = sum_i w[i] * high(x[i]) + w[i] * low(x[i])
//
// Each term errs by at most 2^-17 of itself. (Rounded to one bfloat16 number they would take half
// the time, but where two experts nearly tie another would be chosen.) Sums are float32, a pair of
// columns after another, the high parts' products first, however rows and tokens are split. Numbers
// below 2^-126 count as zeros.

constexpr int32_t kPairs = 3;  ///< ActivationFormat::id, after the AVX-512 and AMX sets'
constexpr int64_t kPairTokens = 16;
constexpr int64_t kPairBytes = 2 * 4 * kPairTokens;  ///< of a panel: of a pair of columns
constexpr int64_t kPairSlice = 32;                   ///< columns that are converted together

/// Whether tokens in such panels suit the matrix: fewer are bound by memory, and float32 as fast.
constexpr bool TakesPairs(DType weights, int64_t cols, int64_t tokens) {
  return weights == DType::kBF16 && cols % 2 == 0 && tokens >= 8;
}

constexpr ActivationFormat FormatOfPairs(int64_t cols) {
  return {.id = kPairs, .row_bytes = 4 * cols, .panel = kPairTokens, .slice = kPairSlice};
}

/// Tokens that meet rows before the next ones do: their panels stay in the second-level cache.
/// `unit` panels are multiplied together.
constexpr int64_t TokensAtOnce(int64_t cols, int64_t unit) {
  constexpr int64_t kCachedBytes = 768 << 10;
  const int64_t turns = kCachedBytes / (unit * kPairTokens * 4 * cols);
  return unit * kPairTokens * (turns > 0 ? turns : 1);
}

/// A panel of activations: [columns / 2][high, low][token][2] bfloat16 numbers, tokens from `count`
/// on zeros.
/// `cols` is even.
void ConvertPairs(int64_t cols, const float* const* rows, int64_t count, std::byte* out);

/// KernelSet::matmul for such panels.
void MatMulOfPairs(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* panels, int64_t tokens, float* out, int64_t out_stride);

}  // namespace moxie::avx512_bf16
