#include "kernels/lanes/float_product.h"
#include "kernels/neon/floats.h"
#include "kernels/neon/matmul_integer.h"
#include "kernels/neon/neon.h"

namespace moxie::neon {

void MatMul(const ActivationFormat&, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride) {
  if (HasIntegerProduct(weights.type)) {
    IntegerMatMul(weights, row_begin, row_end, activations, tokens, out, out_stride);
    return;
  }
  lanes::FloatMatMul<Floats, 4, 6>(weights, row_begin, row_end,
                                   reinterpret_cast<const float*>(activations), tokens, out,
                                   out_stride);
}

}  // namespace moxie::neon
