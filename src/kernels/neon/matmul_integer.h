#pragma once

#include "core/matrix.h"

namespace moxie::neon {

/// Whether weights of this type are multiplied as integers (lanes/unpack.h); others as float32.
bool HasIntegerProduct(DType type);

/// KernelSet::matmul for types with an integer product.
void IntegerMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* activations, int64_t tokens, float* out, int64_t out_stride);

}  // namespace moxie::neon
