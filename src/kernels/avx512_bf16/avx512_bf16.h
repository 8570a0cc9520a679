#pragma once

#include "kernels/kernel_set.h"

/// The AVX-512 set with BF16: where many tokens meet bfloat16 weights, activations are split in two
/// of bfloat16 and multiplied by vdpbf16ps (pairs.h), which takes weights as they are stored. All
/// else is the AVX-512 set's, and so is its batch-invariant twin.
///
/// Nothing in this folder may be called unless UsableCpuFeatures().avx512_bf16.
namespace moxie::avx512_bf16 {

ActivationFormat FormatOfActivations(DType weights, int64_t cols, int64_t tokens);
void ConvertActivations(const ActivationFormat& format, int64_t cols, const float* const* rows,
                        int64_t count, std::byte* out);
void MatMul(const ActivationFormat& format, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride);

}  // namespace moxie::avx512_bf16
