#pragma once

#include <cstddef>
#include <cstdint>

#include "core/matrix.h"

namespace moxie::avx2 {

/// Whether weights of this type are multiplied as integers (unpack.h); others as float32.
bool HasIntegerProduct(DType type);

/// Float32 activations are padded with zeros to whole vectors.
static constexpr int64_t PaddedFloats(int64_t cols) { return (cols + 7) / 8 * 8; }

/// KernelSet::matmul for types with an integer product, and for the others.
void IntegerMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* activations, int64_t tokens, float* out, int64_t out_stride);
void FloatMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                 const std::byte* activations, int64_t tokens, float* out, int64_t out_stride);

}  // namespace moxie::avx2
