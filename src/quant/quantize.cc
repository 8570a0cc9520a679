#include "quant/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/half.h"
#include "moxie/result.h"
#include "quant/encode.h"

namespace moxie {
namespace {

// Rounds to 16 bits; a finite number never becomes infinite.
template <class Narrow>
void EncodeWords(const float* x, int64_t elements, float largest, Narrow narrow, std::byte* out) {
  for (int64_t i = 0; i < elements; ++i) {
    const float bounded = std::isfinite(x[i]) ? std::clamp(x[i], -largest, largest) : x[i];
    const uint16_t bits = narrow(bounded);
    std::memcpy(out + 2 * i, &bits, 2);
  }
}

}  // namespace

bool CanQuantize(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ8_0:
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K:
    case DType::kIQ4_NL:
    case DType::kIQ4_XS:
    case DType::kMXFP4:
    case DType::kTQ1_0:
    case DType::kTQ2_0:
      return true;
    default:
      return false;
  }
}

void Quantize(DType type, const float* x, int64_t elements, const float* importance,
              std::byte* out) {
  switch (type) {
    case DType::kF32:
      std::memcpy(out, x, static_cast<size_t>(elements) * sizeof(float));
      return;
    case DType::kF16:
      return EncodeWords(x, elements, 65504.0f, FloatToHalf, out);
    case DType::kBF16:
      return EncodeWords(x, elements, 0x1.fep127f, FloatToBfloat16, out);
    default:
      MOXIE_CHECK(elements % TraitsOf(type).block_elements == 0);
      MOXIE_CHECK(lanes::EncodeAs<4>(type, x, elements, importance, out));
  }
}

}  // namespace moxie
