#include "quant/legacy.h"

namespace moxie {
namespace {

// Bits 0..15 of `high` are the fifth bits of the low nibbles, bits 16..31 of the high ones.
uint32_t HighBits(const uint8_t (&high)[4]) {
  return high[0] | uint32_t{high[1]} << 8 | uint32_t{high[2]} << 16 | uint32_t{high[3]} << 24;
}

}  // namespace

void Decode(const BlockQ4_0& block, float* out) {
  const float d = block.d.value();
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((block.q[j] & 15) - 8);
    out[16 + j] = d * static_cast<float>((block.q[j] >> 4) - 8);
  }
}

void Decode(const BlockQ4_1& block, float* out) {
  const float d = block.d.value();
  const float m = block.m.value();
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(block.q[j] & 15) + m;
    out[16 + j] = d * static_cast<float>(block.q[j] >> 4) + m;
  }
}

void Decode(const BlockQ5_0& block, float* out) {
  const float d = block.d.value();
  const uint32_t high = HighBits(block.high);
  for (int j = 0; j < 16; ++j) {
    const uint32_t first = (block.q[j] & 15u) | ((high >> j) & 1u) << 4;
    const uint32_t second = (block.q[j] >> 4) | ((high >> (16 + j)) & 1u) << 4;
    out[j] = d * static_cast<float>(static_cast<int>(first) - 16);
    out[16 + j] = d * static_cast<float>(static_cast<int>(second) - 16);
  }
}

void Decode(const BlockQ5_1& block, float* out) {
  const float d = block.d.value();
  const float m = block.m.value();
  const uint32_t high = HighBits(block.high);
  for (int j = 0; j < 16; ++j) {
    const uint32_t first = (block.q[j] & 15u) | ((high >> j) & 1u) << 4;
    const uint32_t second = (block.q[j] >> 4) | ((high >> (16 + j)) & 1u) << 4;
    out[j] = d * static_cast<float>(first) + m;
    out[16 + j] = d * static_cast<float>(second) + m;
  }
}

void Decode(const BlockQ8_0& block, float* out) {
  const float d = block.d.value();
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(block.q[j]);
}

}  // namespace moxie
