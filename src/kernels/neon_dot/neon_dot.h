#pragma once

#include "kernels/declare_kernels.h"

/// The NEON set with the int8 dot product of Armv8.2 (sdot): quantised weights are multiplied by
/// it, all else is the NEON set's, and so are the results, bit for bit.
///
/// Nothing in this folder may be called unless UsableCpuFeatures().neon_dot.
namespace moxie::neon_dot {

void MatMul(const ActivationFormat& format, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride);

}  // namespace moxie::neon_dot
