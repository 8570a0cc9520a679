#pragma once

#include <cstdint>

namespace moxie::avx2 {

constexpr int kGroupElements = 32;
constexpr int kPanelTokens = 4;  // ActivationFormat::panel

/// With bytes a peak is spared if it is above so many times the next, else it shares the others'
/// scale: most 32 activations have none then, and need no product for it.
constexpr float kLeastSpared = 2.0f;

// The forms in which quantised weights meet activations: of each 32 elements of a token,
//
//   activation = scale * value,   value an integer of 16 bits,
//
// for four tokens together ("a panel"), which the same weights meet at once. The value of the
// largest magnitude, the peak, has all 16 bits; the scale is that of the other 31, in 8 bits,
// unless the peak is above 258 times the next: real activations have single large values among
// small ones, and sparing them the byte cuts the error of plain 8-bit blocks of 32 many times
// (Kullback-Leibler divergence of SmolLM2's tokens). See kLeastSpared.
//
// 32 activations below 2^-100 count as zeros; if one is an infinity or a NaN, the scale is NaN. A
// panel that is not full is completed with zeros.

/// For weights of up to 7 bits: value[i] = small[i] + (i == peak_at ? peak : 0), so that byte
/// products do for all but one.
struct ByteGroup {
  int8_t small[kPanelTokens][kGroupElements];  ///< 0 at a peak that is spared
  int32_t peak[kPanelTokens];                  ///< in the low 16 bits; 0 where none is spared
  uint32_t peak_at[kPanelTokens];              ///< its place, 0 .. 31
  float scale[kPanelTokens];
  float sums[kPanelTokens];  ///< scale * the exact sum of the values
  // The same of each 16 elements:
  int32_t peak16[2][kPanelTokens];  ///< 0 where the peak is in the other half
  float sums16[2][kPanelTokens];
};
static_assert(sizeof(ByteGroup) == 256);

/// For weights of 8 bits, whose products with bytes would fill 16 bits at once.
struct WordGroup {
  int16_t values[kPanelTokens][kGroupElements];
  float scale[kPanelTokens];
};

}  // namespace moxie::avx2
