#pragma once

#include <cstddef>
#include <cstdint>

#include "core/matrix.h"

namespace moxie::avx2 {

/// How weights of a type are multiplied (lanes/unpack.h, activation_groups.h).
enum class IntegerProduct {
  kNone,   ///< as float32
  kBytes,  ///< with activations as bytes with a peak
  kWords,  ///< with activations of 16 bits
};

IntegerProduct IntegerProductOf(DType type);

/// KernelSet::matmul for types with an integer product.
void IntegerMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* activations, int64_t tokens, float* out, int64_t out_stride);

/// The same for packed rows.
void PackedMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                  const std::byte* activations, int64_t tokens, float* out, int64_t out_stride);

}  // namespace moxie::avx2
