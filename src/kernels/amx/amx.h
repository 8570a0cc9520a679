#pragma once

#include "kernels/kernel_set.h"

/// The AMX set: the AVX-512 set, but for the products and the attention of many tokens, which tiles
/// find.
///
/// Where many tokens are computed together, activations are rounded to bfloat16 and multiplied with
/// weights that are rounded to it with their scales (bfloat16.h); sums are float32. With the
/// AVX-512 set's activations, results are that set's, bit for bit: tiles find the integer sums of
/// 16 tokens and more. Those are what the batch-invariant twin always asks for. Weights that are
/// bfloat16 already meet activations in two parts (pairs.h), other float weights float32 ones.
///
/// Nothing in this folder may be called unless UsableCpuFeatures().amx.
namespace moxie::amx {

/// The functions of KernelSet that differ from the AVX-512 set's.
ActivationFormat FormatOfActivations(DType weights, int64_t cols, int64_t tokens);
void ConvertActivations(const ActivationFormat& format, int64_t cols, const float* const* rows,
                        int64_t count, std::byte* out);
void MatMul(const ActivationFormat& format, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride);

/// TiledAttention's functions (attention.cc).
int64_t AttentionScratchBytes(int64_t key_dim, int64_t value_dim);
void Attend(const AttentionTile& tile, std::byte* scratch, float* maxima, double* totals,
            float* sums);

}  // namespace moxie::amx
