#include "quant/quantize.h"

#include "kernels/avx2/avx2.h"
#include "quant/encode.h"

namespace moxie::avx2 {

void Quantize(DType type, const float* x, int64_t elements, const float* importance,
              std::byte* out) {
  if (!lanes::EncodeAs<8>(type, x, elements, importance, out))
    moxie::Quantize(type, x, elements, importance, out);
}

}  // namespace moxie::avx2
