#pragma once

#include "kernels/x86/unpack.h"

namespace moxie::avx512 {

/// With so much above the next, a peak is worth bits of its own.
constexpr float kLeastSpared = 1.5f;

/// 256 activations as integers, the form in which quantised weights meet them. Of each 32 elements,
/// g = i / 32,
///
///   activation = scale[g] * value[i],   value[i] = low[i] + 256 * high byte of i,
///
/// where only the quad (four consecutive elements) that holds the largest magnitude may have high
/// bytes, and has them where that is above kLeastSpared times the others. Then its elements have 16
/// bits and the scale is that of the other 28: real activations have single large values among
/// small ones, and sparing them the byte cuts the error of plain 8-bit blocks of 32 many times
/// (Kullback-Leibler divergence of SmolLM2's tokens) for one ninth more products.
///
/// 32 activations below 2^-100 count as zeros; if one is an infinity or a NaN, the scale is NaN. A
/// row's last chunk is padded with zeros.
struct ActivationChunk {
  int8_t low[x86::kChunkElements];
  int32_t high32[8];   ///< the four high bytes of each 32 elements; 0 where there are none
  int32_t high16[16];  ///< the same by 16 elements: 0 where the quad is in the other half
  int32_t sums32[8];   ///< of the values of 32 elements; exact
  int32_t sums16[16];  ///< of 16
  float scale[8];
  float scaled_sums32[8];   ///< scale * sums32
  float scaled_sums16[16];  ///< scale * sums16
  int32_t spared[8];        ///< which quad of the chunk has the high bytes
  uint32_t has_high;        ///< bit g: whether 32 elements have any
  int32_t padding[7];
};
static_assert(sizeof(ActivationChunk) == 640);

}  // namespace moxie::avx512
