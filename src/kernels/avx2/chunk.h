#pragma once

#include <cstdint>

#include "kernels/x86/chunk_of_rows.h"

namespace moxie::avx2 {

using x86::kChunkElements;

/// 256 activations as 16-bit integers, the form in which quantised weights meet them: of each 32
/// elements, g = i / 32,
///
///   activation = scale[g] * values[i],   values[i] = small[i] + (i == peak of g ? peak : 0),
///
/// where the peak, the element of the largest magnitude, has all 16 bits and small[peak] is 0. So
/// the same integer sums can be had from 16-bit products, which suit one token, and from 8-bit
/// ones, which suit many. The scale is that of the other 31, unless the peak is above 258 times the
/// next: real activations have single large values among small ones, and sparing them the byte cuts
/// the error of plain 8-bit blocks of 32 many times (Kullback-Leibler divergence of SmolLM2's
/// tokens).
///
/// 32 activations below 2^-100 count as zeros; if one is an infinity or a NaN, the scale is NaN. A
/// row's last chunk is padded with zeros.
struct ActivationChunk {
  int16_t values[kChunkElements];
  int8_t small[kChunkElements];
  float scale[8];
  float sums16[16];         ///< of 16 consecutive values; exact
  float sums32[8];          ///< of 32
  float scaled_sums16[16];  ///< scale * sums16
  float scaled_sums32[8];   ///< scale * sums32
  int32_t peak32[8];        ///< the peak in the low 16 bits
  int32_t peak16[16];       ///< the same by 16 elements, 0 where the peak is in the other half
  uint32_t peak_at[8];      ///< its place in the chunk
};
static_assert(sizeof(ActivationChunk) == 1120);

}  // namespace moxie::avx2
