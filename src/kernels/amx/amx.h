#pragma once

#include "core/matrix.h"

/// The AMX set: the AVX-512 set, but for quantised weights times 16 tokens and more, whose integer
/// products tiles find. Its activations and its results, bit for bit, are the AVX-512 set's, so one
/// token, which takes that set's way, and many agree. Float weights meet float32 there too:
/// tdpbf16ps rounds the activations to 8 bits and flushes subnormals.
///
/// Nothing in this folder may be called unless UsableCpuFeatures().amx_int8.
namespace moxie::amx {

/// KernelSet::matmul.
void MatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
            const std::byte* activations, int64_t tokens, float* out, int64_t out_stride);

}  // namespace moxie::amx
