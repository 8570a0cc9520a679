#include "kernels/avx2/avx2.h"
#include "kernels/avx2/floats.h"
#include "kernels/avx2/formats.h"
#include "kernels/lanes/float_product.h"

namespace moxie::avx2 {

void MatMul(const ActivationFormat&, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride) {
  if (IntegerProductOf(weights.type) != IntegerProduct::kNone) {
    const auto matmul = weights.packed_rows == 0 ? IntegerMatMul : PackedMatMul;
    matmul(weights, row_begin, row_end, activations, tokens, out, out_stride);
    return;
  }
  lanes::FloatMatMul<Floats, 4, 3>(weights, row_begin, row_end,
                                   reinterpret_cast<const float*>(activations), tokens, out,
                                   out_stride);
}

}  // namespace moxie::avx2
