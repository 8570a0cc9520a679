#include "kernels/lanes/float_product.h"
#include "kernels/neon/floats.h"
#include "kernels/neon/neon.h"

namespace moxie::neon {

ActivationFormat FormatOfActivations(DType, int64_t cols, int64_t) {
  return {.id = 0, .row_bytes = lanes::PaddedFloats<Floats>(cols) * 4};
}

void ConvertActivations(const ActivationFormat&, int64_t cols, const float* const* rows, int64_t,
                        std::byte* out) {
  lanes::PadActivations<Floats>(cols, rows[0], reinterpret_cast<float*>(out));
}

void MatMul(const ActivationFormat&, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride) {
  lanes::FloatMatMul<Floats, 4, 6>(weights, row_begin, row_end,
                                   reinterpret_cast<const float*>(activations), tokens, out,
                                   out_stride);
}

}  // namespace moxie::neon
