#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace moxie {

/// A codebook: row k is the point of index k, one byte an element, so that a point of 8 elements
/// loads as one 64-bit word.
template <size_t points, size_t dimensions>
using Codebook = std::array<std::array<int8_t, dimensions>, points>;

extern const Codebook<256, 8> kIq2XxsGrid;  ///< magnitudes 8, 25, 43
extern const Codebook<512, 8> kIq2XsGrid;   ///< magnitudes 8, 25, 43
extern const Codebook<1024, 8> kIq2SGrid;   ///< magnitudes 8, 25, 43
extern const Codebook<256, 4> kIq3XxsGrid;  ///< magnitudes 4, 12, 20, 28, 36, 44, 52, 62
extern const Codebook<512, 4> kIq3SGrid;    ///< magnitudes 1, 3, .. 15
extern const Codebook<2048, 8> kIq1Grid;    ///< values -1, 0, 1; of IQ1_S and IQ1_M

/// The values of IQ4_NL's and IQ4_XS's codes.
inline constexpr std::array<int8_t, 16> kIq4Values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};

/// Twice the E2M1 values of MXFP4's codes. Code 8 is +0, as in ggml, not -0.
inline constexpr std::array<int8_t, 16> kMxfp4Values = {0, 1,  2,  3,  4,  6,  8,  12,
                                                        0, -1, -2, -3, -4, -6, -8, -12};

/// The sign bits of 8 elements (bit k set: element k is negative) from 7: the eighth makes their
/// number even.
inline uint8_t EvenSigns(uint32_t seven_bits) {
  return static_cast<uint8_t>(seven_bits | ((std::popcount(seven_bits) & 1u) << 7));
}

}  // namespace moxie
