#pragma once

#include "kernels/kernel_set.h"

/// The NEON set: what every aarch64 processor has. Weights are decoded to float32 and meet float32
/// activations, 4 lanes at a time; quantised ones have no integer product yet. Sums are float32 in
/// one fixed order, so one token and many give bit-equal results.
///
/// The functions are KernelSet's; kernel_set.cc puts them into its table.
namespace moxie::neon {

ActivationFormat FormatOfActivations(DType weights, int64_t cols);
void ConvertActivations(DType weights, int64_t cols, const float* x, std::byte* out);
void MatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
            const std::byte* activations, int64_t tokens, float* out, int64_t out_stride);

void AttentionScores(const CacheRows& keys, const float* queries, int64_t count, float scale,
                     float* scores, int64_t scores_stride);
void AttentionValues(const CacheRows& values, const float* weights, int64_t weights_stride,
                     int64_t count, float* out);

void RmsNorm(const float* x, const float* scale, int64_t n, float eps, float* out);
float ExpMinusMax(float* x, int64_t n, float max);
void SiluMultiply(float* gate, const float* up, int64_t n);
void AddScaled(float a, const float* x, int64_t n, float* y);

}  // namespace moxie::neon
