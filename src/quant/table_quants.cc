#include "quant/table_quants.h"

#include "quant/codebooks.h"

namespace moxie {
namespace {

void DecodeNibbles(float d, const uint8_t* q, const std::array<int8_t, 16>& values, float* out) {
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(values[q[j] & 15]);
    out[16 + j] = d * static_cast<float>(values[q[j] >> 4]);
  }
}

}  // namespace

void Decode(const BlockIQ4_NL& block, float* out) {
  DecodeNibbles(block.d.value(), block.q, kIq4Values, out);
}

void Decode(const BlockIQ4_XS& block, float* out) {
  const float d = block.d.value();
  const int high = block.scales_high.bits();
  for (int g = 0; g < 8; ++g) {
    const int low = (block.scales_low[g / 2] >> (4 * (g % 2))) & 15;
    const int scale = (low | ((high >> (2 * g)) & 3) << 4) - 32;
    DecodeNibbles(d * static_cast<float>(scale), block.q + 16 * g, kIq4Values, out + 32 * g);
  }
}

void Decode(const BlockMXFP4& block, float* out) {
  DecodeNibbles(HalfScaleOfE8m0(block.e), block.q, kMxfp4Values, out);
}

}  // namespace moxie
