#include "kernels/avx2/matmul_integer.h"

#include "kernels/avx2/formats.h"

namespace moxie::avx2 {

IntegerProduct IntegerProductOf(DType type) {
  return x86::ForFormat(type, []<class Format>(Format) {
    return kByWords<Format> ? IntegerProduct::kWords : IntegerProduct::kBytes;
  });
}

void IntegerMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* activations, int64_t tokens, float* out, int64_t out_stride) {
  if (tokens == 0) return;
  const Multiplier multiply = x86::ForFormat(weights.type, []<class Format>(Format) -> Multiplier {
    return Multiply<StoredRows<Format>>;
  });
  multiply(weights, row_begin, row_end, activations, tokens, out, out_stride);
}

}  // namespace moxie::avx2
