#include "kernels/neon/matmul_integer.h"
#include "kernels/neon/neon.h"
#include "kernels/neon_dot/dot_product.h"
#include "kernels/neon_dot/neon_dot.h"

namespace moxie::neon_dot {

void MatMul(const ActivationFormat& format, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride) {
  if (neon::HasIntegerProduct(weights.type)) {
    neon::MatMulWith<neon::DotProduct>(weights, row_begin, row_end, activations, tokens, out,
                                       out_stride);
    return;
  }
  neon::MatMul(format, weights, row_begin, row_end, activations, tokens, out, out_stride);
}

}  // namespace moxie::neon_dot
