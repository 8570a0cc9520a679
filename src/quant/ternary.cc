#include "quant/ternary.h"

namespace moxie {
namespace {

constexpr uint8_t kPowersOfThree[] = {1, 3, 9, 27, 81};

// The byte is a fraction of 256 in base 3: a multiplication by 3^k modulo 256 drops the k digits
// before the wanted one, a further one by 3 carries that digit out of the byte.
void DecodeDigits(float d, const uint8_t* q, int bytes, int digits, float* out) {
  for (int k = 0; k < digits; ++k) {
    for (int j = 0; j < bytes; ++j) {
      const auto fraction = static_cast<uint8_t>(q[j] * kPowersOfThree[k]);
      out[bytes * k + j] = d * static_cast<float>(((fraction * 3) >> 8) - 1);
    }
  }
}

}  // namespace

void Decode(const BlockTQ1_0& block, float* out) {
  const float d = block.d.value();
  DecodeDigits(d, block.q, 32, 5, out);
  DecodeDigits(d, block.q + 32, 16, 5, out + 160);
  DecodeDigits(d, block.tail, 4, 4, out + 240);
}

void Decode(const BlockTQ2_0& block, float* out) {
  const float d = block.d.value();
  for (int k = 0; k < 8; ++k) {
    const uint8_t* q = block.q + 32 * (k / 4);
    const int shift = 2 * (k % 4);
    for (int j = 0; j < 32; ++j) {
      out[32 * k + j] = d * static_cast<float>(((q[j] >> shift) & 3) - 1);
    }
  }
}

}  // namespace moxie
