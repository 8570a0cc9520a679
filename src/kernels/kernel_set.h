#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/matrix.h"

namespace moxie {

/// How activations are laid out for a product with weights of some type: plain float32, or a
/// set's own quantised form. Opaque outside src/kernels/; rows are row_bytes apart.
struct ActivationFormat {
  int32_t id = 0;         ///< equal ids within one set mean one conversion serves both
  int64_t row_bytes = 0;  ///< bytes of one converted row of `cols` activations
};

/// Rows of a key-value cache, as attention reads them.
struct CacheRows {
  DType type = DType::kF32;  ///< f32, f16 or q8_0
  const std::byte* data = nullptr;
  int64_t stride = 0;  ///< bytes between rows
  int64_t rows = 0;
  int64_t dim = 0;  ///< elements read of each row; a multiple of 32 for q8_0
};

/// The arithmetic of one instruction set, as plain functions on spans and shapes. A set knows
/// nothing of models, caches or files.
///
/// Determinism: each output element is computed by one call with a fixed order of operations
/// that depends only on `cols` and the weight type, never on how rows, tokens or threads are
/// split. So results are bit-equal for every thread count and every batch composition.
///
/// All functions are thread-safe and allocate nothing. Float arrays and converted activations are
/// aligned as float (64 bytes is best); weights and cache rows may lie anywhere, but for float32
/// and half rows, which are aligned as their elements.
struct KernelSet {
  std::string_view name;   ///< "scalar", "avx2", "avx512", "amx", "neon"
  bool (*usable)();        ///< asks the processor (and for AMX the kernel) once; thread-safe
  std::string_view needs;  ///< what `usable` asks for, in words

  /// The activation format that `matmul` wants for weights of this type and width.
  ActivationFormat (*activation_format)(DType weights, int64_t cols);

  /// Converts one row of `cols` float32 activations into `out` (row_bytes).
  void (*convert_activations)(DType weights, int64_t cols, const float* x, std::byte* out);

  /// out[t * out_stride + r] = sum_c W[r, c] * x[t, c]  for r in [row_begin, row_end), t in
  /// [0, tokens). `activations` holds converted rows, format.row_bytes apart. `out` is indexed by
  /// the absolute row. Every DType with a decoder is accepted.
  void (*matmul)(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                 const std::byte* activations, int64_t tokens, float* out, int64_t out_stride);

  /// scores[q * scores_stride + i] = scale * sum_d queries[q, d] * K[i, d], for queries that lie
  /// one after another, [count, keys.dim]. Each score is the same whatever the other queries and
  /// rows.
  void (*attention_scores)(const CacheRows& keys, const float* queries, int64_t count, float scale,
                           float* scores, int64_t scores_stride);

  /// out[q, d] += sum_i weights[q * weights_stride + i] * V[i, d], in order of i, for sums that lie
  /// one after another, [count, values.dim]. Each sum is the same whatever the other queries.
  void (*attention_values)(const CacheRows& values, const float* weights, int64_t weights_stride,
                           int64_t count, float* out);

  /// out[i] = x[i] * scale[i] / sqrt(mean(x^2) + eps); sums in float32 or better.
  void (*rms_norm)(const float* x, const float* scale, int64_t n, float eps, float* out);

  /// x[i] = exp(x[i] - max) ; returns the sum. The caller divides.
  float (*exp_minus_max)(float* x, int64_t n, float max);

  /// gate[i] = silu(gate[i]) * up[i].
  void (*silu_multiply)(float* gate, const float* up, int64_t n);

  /// y[i] += a * x[i].
  void (*add_scaled)(float a, const float* x, int64_t n, float* y);

  /// What quant/quantize.h's Quantize writes, to the last bit.
  void (*quantize)(DType type, const float* x, int64_t elements, const float* importance,
                   std::byte* out);
};

/// All sets of this binary, scalar, the reference, first; it is always usable. The last that is
/// usable is the default (docs/kernels.md).
std::span<const KernelSet* const> AllKernelSets();

/// The last usable set: the nearest to float32 of the fast ones, and the fastest with many tokens.
const KernelSet& BestKernelSet();

/// The set of that name; null where there is none or it is not usable here.
const KernelSet* FindKernelSet(std::string_view name);

}  // namespace moxie
