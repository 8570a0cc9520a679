#include "quant/iq_quants.h"

#include "quant/codebooks.h"

namespace moxie {
namespace {

uint32_t LoadU32(const uint8_t* bytes) {
  return bytes[0] | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24;
}

int Nibble(const uint8_t* bytes, int k) { return (bytes[k / 2] >> (4 * (k % 2))) & 15; }

// out[j] = scale * point[j], negative where bit j of `signs` is set.
template <size_t dimensions>
void DecodePoint(float scale, const std::array<int8_t, dimensions>& point, uint32_t signs,
                 float* out) {
  for (size_t j = 0; j < dimensions; ++j) {
    const int value = ((signs >> j) & 1) != 0 ? -point[j] : point[j];
    out[j] = scale * static_cast<float>(value);
  }
}

void DecodeShifted(float scale, const std::array<int8_t, 8>& point, float delta, float* out) {
  for (size_t j = 0; j < 8; ++j) out[j] = scale * (static_cast<float>(point[j]) + delta);
}

float ScaleWithHalf(float d, int scale) { return d * (0.5f + static_cast<float>(scale)); }

}  // namespace

void Decode(const BlockIQ2_XXS& block, float* out) {
  const float d = block.d.value();
  for (int g = 0; g < 8; ++g) {
    const uint8_t* q = block.q + 8 * g;
    const uint32_t rest = LoadU32(q + 4);
    const float scale = ScaleWithHalf(d, static_cast<int>(rest >> 28)) * 0.25f;
    for (int k = 0; k < 4; ++k) {
      DecodePoint(scale, kIq2XxsGrid[q[k]], EvenSigns((rest >> (7 * k)) & 127),
                  out + 32 * g + 8 * k);
    }
  }
}

void Decode(const BlockIQ2_XS& block, float* out) {
  const float d = block.d.value();
  for (int k = 0; k < 32; ++k) {
    const uint32_t q = block.q[k].bits();
    const float scale = ScaleWithHalf(d, Nibble(block.scales, k / 2)) * 0.25f;
    DecodePoint(scale, kIq2XsGrid[q & 511], EvenSigns(q >> 9), out + 8 * k);
  }
}

void Decode(const BlockIQ2_S& block, float* out) {
  const float d = block.d.value();
  for (int k = 0; k < 32; ++k) {
    const int index = block.q[k] | ((block.high[k / 4] >> (2 * (k % 4))) & 3) << 8;
    const float scale = ScaleWithHalf(d, Nibble(block.scales, k / 2)) * 0.25f;
    DecodePoint(scale, kIq2SGrid[index], block.signs[k], out + 8 * k);
  }
}

void Decode(const BlockIQ3_XXS& block, float* out) {
  const float d = block.d.value();
  for (int g = 0; g < 8; ++g) {
    const uint32_t rest = LoadU32(block.scales + 4 * g);
    const float scale = ScaleWithHalf(d, static_cast<int>(rest >> 28)) * 0.5f;
    for (int k = 0; k < 8; ++k) {
      const uint32_t signs = EvenSigns((rest >> (7 * (k / 2))) & 127);
      DecodePoint(scale, kIq3XxsGrid[block.q[8 * g + k]], signs >> (4 * (k % 2)),
                  out + 32 * g + 4 * k);
    }
  }
}

void Decode(const BlockIQ3_S& block, float* out) {
  const float d = block.d.value();
  for (int k = 0; k < 64; ++k) {
    const int index = block.q[k] | ((block.high[k / 8] >> (k % 8)) & 1) << 8;
    const float scale = d * static_cast<float>(1 + 2 * Nibble(block.scales, k / 8));
    const uint32_t signs = block.signs[k / 2];
    DecodePoint(scale, kIq3SGrid[index], signs >> (4 * (k % 2)), out + 4 * k);
  }
}

void Decode(const BlockIQ1_S& block, float* out) {
  const float d = block.d.value();
  for (int k = 0; k < 32; ++k) {
    const int high = block.high[k / 4].bits();
    const float scale = d * static_cast<float>(2 * ((high >> 12) & 7) + 1);
    const int index = block.q[k] | ((high >> (3 * (k % 4))) & 7) << 8;
    const float delta = (high & 0x8000) != 0 ? -0.125f : 0.125f;
    DecodeShifted(scale, kIq1Grid[index], delta, out + 8 * k);
  }
}

void Decode(const BlockIQ1_M& block, float* out) {
  uint32_t d_bits = 0;
  for (int k = 0; k < 4; ++k) d_bits |= uint32_t{block.scales[k].bits()} >> 12 << (4 * k);
  const float d = HalfToFloat(static_cast<uint16_t>(d_bits));
  for (int k = 0; k < 32; ++k) {
    const int scale_code = (block.scales[k / 8].bits() >> (3 * (k / 2 % 4))) & 7;
    const float scale = d * static_cast<float>(2 * scale_code + 1);
    const int high = Nibble(block.high, k);
    const int index = block.q[k] | (high & 7) << 8;
    const float delta = (high & 8) != 0 ? -0.125f : 0.125f;
    DecodeShifted(scale, kIq1Grid[index], delta, out + 8 * k);
  }
}

}  // namespace moxie
