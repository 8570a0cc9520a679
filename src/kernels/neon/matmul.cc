#include "kernels/lanes/float_product.h"
#include "kernels/neon/floats.h"
#include "kernels/neon/neon.h"

namespace moxie::neon {

ActivationFormat FormatOfActivations(DType, int64_t cols) {
  return {.id = 0, .row_bytes = lanes::PaddedFloats<Floats>(cols) * 4};
}

void ConvertActivations(DType, int64_t cols, const float* x, std::byte* out) {
  lanes::PadActivations<Floats>(cols, x, reinterpret_cast<float*>(out));
}

void MatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
            const std::byte* activations, int64_t tokens, float* out, int64_t out_stride) {
  lanes::FloatMatMul<Floats, 4, 6>(weights, row_begin, row_end,
                                   reinterpret_cast<const float*>(activations), tokens, out,
                                   out_stride);
}

}  // namespace moxie::neon
