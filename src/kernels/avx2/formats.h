#pragma once

#include <cstddef>
#include <cstdint>

#include "core/matrix.h"

namespace moxie::avx2 {

/// Whether weights of this type are multiplied as integers (x86/unpack.h); others as float32.
bool HasIntegerProduct(DType type);

/// KernelSet::matmul for types with an integer product.
void IntegerMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* activations, int64_t tokens, float* out, int64_t out_stride);

}  // namespace moxie::avx2
