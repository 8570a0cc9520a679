#include "kernels/avx512/avx512.h"
#include "kernels/avx512_bf16/avx512_bf16.h"
#include "kernels/avx512_bf16/pairs.h"

namespace moxie::avx512_bf16 {

ActivationFormat FormatOfActivations(DType weights, int64_t cols, int64_t tokens) {
  return TakesPairs(weights, cols, tokens) ? FormatOfPairs(cols)
                                           : avx512::FormatOfActivations(weights, cols, tokens);
}

void ConvertActivations(const ActivationFormat& format, int64_t cols, const float* const* rows,
                        int64_t count, std::byte* out) {
  if (format.id == kPairs) {
    ConvertPairs(cols, rows, count, out);
  } else {
    avx512::ConvertActivations(format, cols, rows, count, out);
  }
}

void MatMul(const ActivationFormat& format, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride) {
  if (format.id == kPairs) {
    MatMulOfPairs(weights, row_begin, row_end, activations, tokens, out, out_stride);
  } else {
    avx512::MatMul(format, weights, row_begin, row_end, activations, tokens, out, out_stride);
  }
}

}  // namespace moxie::avx512_bf16
