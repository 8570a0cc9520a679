#include "quant/k_quants.h"

namespace moxie {

KScales UnpackKScales(const uint8_t (&packed)[12]) {
  KScales unpacked;
  for (int g = 0; g < 4; ++g) {
    unpacked.scale[g] = packed[g] & 63;
    unpacked.offset[g] = packed[g + 4] & 63;
    unpacked.scale[g + 4] = static_cast<uint8_t>((packed[g + 8] & 15) | (packed[g] >> 6) << 4);
    unpacked.offset[g + 4] = static_cast<uint8_t>((packed[g + 8] >> 4) | (packed[g + 4] >> 6) << 4);
  }
  return unpacked;
}

std::array<int8_t, 16> UnpackQ3Scales(const uint8_t (&packed)[12]) {
  std::array<int8_t, 16> unpacked;
  for (int g = 0; g < 16; ++g) {
    const int low = (packed[g % 8] >> (4 * (g / 8))) & 15;
    const int high = (packed[8 + g % 4] >> (2 * (g / 4))) & 3;
    unpacked[g] = static_cast<int8_t>((low | high << 4) - 32);
  }
  return unpacked;
}

void Decode(const BlockQ2_K& block, float* out) {
  const float d = block.d.value();
  const float dmin = block.dmin.value();
  for (int g = 0; g < 16; ++g) {
    const float scale = d * static_cast<float>(block.scales[g] & 15);
    const float offset = dmin * static_cast<float>(block.scales[g] >> 4);
    const uint8_t* q = block.q + 32 * (g / 8) + 16 * (g % 2);
    const int shift = 2 * (g / 2 % 4);
    for (int j = 0; j < 16; ++j) {
      out[16 * g + j] = scale * static_cast<float>((q[j] >> shift) & 3) - offset;
    }
  }
}

void Decode(const BlockQ3_K& block, float* out) {
  const float d = block.d.value();
  const std::array<int8_t, 16> scales = UnpackQ3Scales(block.scales);
  for (int g = 0; g < 16; ++g) {
    const float scale = d * static_cast<float>(scales[g]);
    const uint8_t* q = block.q + 32 * (g / 8) + 16 * (g % 2);
    const uint8_t* hmask = block.hmask + 16 * (g % 2);
    const int shift = 2 * (g / 2 % 4);
    for (int j = 0; j < 16; ++j) {
      const int high = (hmask[j] >> (g / 2)) & 1;
      out[16 * g + j] = scale * static_cast<float>(((q[j] >> shift) & 3) + 4 * high - 4);
    }
  }
}

void Decode(const BlockQ4_K& block, float* out) {
  const float d = block.d.value();
  const float dmin = block.dmin.value();
  const KScales scales = UnpackKScales(block.scales);
  for (int g = 0; g < 8; ++g) {
    const float scale = d * static_cast<float>(scales.scale[g]);
    const float offset = dmin * static_cast<float>(scales.offset[g]);
    const uint8_t* q = block.q + 32 * (g / 2);
    const int shift = 4 * (g % 2);
    for (int j = 0; j < 32; ++j) {
      out[32 * g + j] = scale * static_cast<float>((q[j] >> shift) & 15) - offset;
    }
  }
}

void Decode(const BlockQ5_K& block, float* out) {
  const float d = block.d.value();
  const float dmin = block.dmin.value();
  const KScales scales = UnpackKScales(block.scales);
  for (int g = 0; g < 8; ++g) {
    const float scale = d * static_cast<float>(scales.scale[g]);
    const float offset = dmin * static_cast<float>(scales.offset[g]);
    const uint8_t* q = block.q + 32 * (g / 2);
    const int shift = 4 * (g % 2);
    for (int j = 0; j < 32; ++j) {
      const int code = ((q[j] >> shift) & 15) | ((block.high[j] >> g) & 1) << 4;
      out[32 * g + j] = scale * static_cast<float>(code) - offset;
    }
  }
}

void Decode(const BlockQ6_K& block, float* out) {
  const float d = block.d.value();
  for (int g = 0; g < 16; ++g) {
    const float scale = d * static_cast<float>(block.scales[g]);
    const uint8_t* low = block.low + 64 * (g / 8) + 16 * (g % 4);
    const uint8_t* high = block.high + 32 * (g / 8) + 16 * (g % 2);
    const int low_shift = 4 * (g / 4 % 2);
    const int high_shift = 2 * (g / 2 % 4);
    for (int j = 0; j < 16; ++j) {
      const int code = ((low[j] >> low_shift) & 15) | ((high[j] >> high_shift) & 3) << 4;
      out[16 * g + j] = scale * static_cast<float>(code - 32);
    }
  }
}

}  // namespace moxie
