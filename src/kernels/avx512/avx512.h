#pragma once

#include "kernels/kernel_set.h"

/// The AVX-512 set: F, BW, DQ, VL and VNNI. Quantised weights are unpacked to tiles of unsigned
/// bytes, 16 rows side by side, and multiplied with activations of bytes and some high bytes
/// (chunk.h) by vpdpbusd; sums within a scale group are exact integers, the rest is float32 in one
/// fixed order, so one token and many give bit-equal results. Float weights meet float32
/// activations: vdpbf16ps would round those to 8 bits and flush subnormals.
///
/// The functions are KernelSet's; kernel_set.cc puts them into its table. Nothing in this folder
/// may be called unless UsableCpuFeatures().avx512.
namespace moxie::avx512 {

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

}  // namespace moxie::avx512
