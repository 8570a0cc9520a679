#pragma once

#include <array>
#include <cstdint>

#include "quant/blocks.h"

namespace moxie {

// The "k-quants": super-blocks of 256 elements whose groups of 16 or 32 have scales (and offsets)
// that are themselves quantised against one or two half-precision numbers.

/// The six-bit scales and offsets of Q4_K and Q5_K, one of each for every 32 elements.
struct KScales {
  std::array<uint8_t, 8> scale;
  std::array<uint8_t, 8> offset;
};

/// Takes apart the 12 bytes that pack them (layout at BlockQ4_K).
KScales UnpackKScales(const uint8_t (&packed)[12]);

/// The six-bit scales of Q3_K with their bias of 32 taken off: -32..31, one for every 16 elements.
std::array<int8_t, 16> UnpackQ3Scales(const uint8_t (&packed)[12]);

/// Writes the block's 256 elements to `out`; the formulas stand in blocks.h.
void Decode(const BlockQ2_K& block, float* out);
void Decode(const BlockQ3_K& block, float* out);
void Decode(const BlockQ4_K& block, float* out);
void Decode(const BlockQ5_K& block, float* out);
void Decode(const BlockQ6_K& block, float* out);

}  // namespace moxie
