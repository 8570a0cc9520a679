#pragma once

#include <bit>

#include "quant/blocks.h"

namespace moxie {

// Formats of four-bit codes that index a fixed table of 16 values (codebooks.h).

/// Writes the block's 32 (IQ4_XS: 256) elements to `out`; the formulas stand in blocks.h.
void Decode(const BlockIQ4_NL& block, float* out);
void Decode(const BlockIQ4_XS& block, float* out);
void Decode(const BlockMXFP4& block, float* out);

/// Half of the E8M0 scale 2^(e - 127), exactly: 2^(e - 128).
inline float HalfScaleOfE8m0(uint8_t e) {
  const uint32_t bits = e < 2 ? 0x00200000u << e : (e - 1u) << 23;  // 2^-128, 2^-127: subnormal
  return std::bit_cast<float>(bits);
}

}  // namespace moxie
