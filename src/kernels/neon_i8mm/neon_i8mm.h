#pragma once

#include "kernels/declare_kernels.h"

/// The NEON set with the int8 dot product of Armv8.2 (sdot) and the int8 matrix product of Armv8.6
/// (smmla): quantised weights are multiplied by the one for one token and by the other for several,
/// all else is the NEON set's, and so are the results, bit for bit.
///
/// Nothing in this folder may be called unless UsableCpuFeatures().neon_i8mm.
namespace moxie::neon_i8mm {

void MatMul(const ActivationFormat& format, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride);

}  // namespace moxie::neon_i8mm
