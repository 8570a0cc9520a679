#pragma once

#include "kernels/kernel_set.h"

/// The AVX2 + FMA + F16C set. Quantised weights are unpacked to small integers and multiplied with
/// activations of 16 bits (chunk.h); sums within a scale group are exact integers, the rest is
/// float32 in one fixed order, so one token and many give bit-equal results. Float weights meet
/// float32 activations.
///
/// The functions are KernelSet's; kernel_set.cc puts them into its table. Nothing in this folder
/// may be called unless UsableCpuFeatures().avx2.
namespace moxie::avx2 {

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

void Quantize(DType type, const float* x, int64_t elements, const float* importance,
              std::byte* out);

}  // namespace moxie::avx2
