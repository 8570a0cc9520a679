#pragma once

#include "kernels/kernel_set.h"

/// Declares a set's functions (KernelSet) in the namespace in which it stands.
#define MOXIE_DECLARE_KERNELS                                                                     \
  ActivationFormat FormatOfActivations(DType weights, int64_t cols, int64_t tokens);              \
  void ConvertActivations(const ActivationFormat& format, int64_t cols, const float* const* rows, \
                          int64_t count, std::byte* out);                                         \
  void MatMul(const ActivationFormat& format, const WeightMatrix& weights, int64_t row_begin,     \
              int64_t row_end, const std::byte* activations, int64_t tokens, float* out,          \
              int64_t out_stride);                                                                \
  void AttentionScores(const CacheRows& keys, const float* queries, int64_t count, float scale,   \
                       float* scores, int64_t scores_stride);                                     \
  void AttentionValues(const CacheRows& values, const float* weights, int64_t weights_stride,     \
                       int64_t count, float* out);                                                \
  void RmsNorm(const float* x, const float* scale, int64_t n, float eps, float* out);             \
  float ExpMinusMax(float* x, int64_t n, float max);                                              \
  void SiluMultiply(float* gate, const float* up, int64_t n);                                     \
  void AddScaled(float a, const float* x, int64_t n, float* y);

/// The members of a KernelSet that are the functions of namespace `set`.
#define MOXIE_KERNELS_OF(set)                                                                    \
  .activation_format = set::FormatOfActivations, .convert_activations = set::ConvertActivations, \
  .matmul = set::MatMul, .attention_scores = set::AttentionScores,                               \
  .attention_values = set::AttentionValues, .rms_norm = set::RmsNorm,                            \
  .exp_minus_max = set::ExpMinusMax, .silu_multiply = set::SiluMultiply,                         \
  .add_scaled = set::AddScaled
