#include "quant/quantize.h"

#include "kernels/avx512/avx512.h"
#include "quant/encode.h"

namespace moxie::avx512 {

void Quantize(DType type, const float* x, int64_t elements, const float* importance,
              std::byte* out) {
  if (!lanes::EncodeAs<16>(type, x, elements, importance, out))
    moxie::Quantize(type, x, elements, importance, out);
}

}  // namespace moxie::avx512
