#pragma once

#include <cstdint>

#include "kernels/x86/chunk_of_rows.h"

namespace moxie::avx2 {

using x86::kChunkElements;

/// 256 activations as 16-bit integers, activation = scale * values[i]: the form in which quantised
/// weights meet them. A row's last chunk is padded with zeros.
///
/// The scale is the largest magnitude of the chunk / 32767. Of each 32 elements the largest, the
/// peak, has all 16 bits; each other one is a byte times a number that they share:
///
///   values[i] = multiplier[g] * small[i] + (i == peak of g ? peak[g] : 0),  g = i / 32
///
/// and small[peak] = 0. So the same integer sums can be had from 16-bit products, which suit one
/// token, and from 8-bit ones, which suit many. Real activations have single large values among
/// small ones: sparing them the byte cuts the error of plain 8-bit blocks of 32 sixfold (Kullback-
/// Leibler divergence of SmolLM2's tokens).
///
/// A chunk below 2^-100 counts as zero; one with an infinity or a NaN has the scale NaN.
struct ActivationChunk {
  int16_t values[kChunkElements];
  float sums16[16];  ///< of 16 consecutive values; exact
  float sums32[8];   ///< of 32
  float scale;
  float padding[7];

  // The same values for 8-bit products.
  int8_t small[kChunkElements];
  int32_t multiplier[8];  ///< twice, in the low and the high 16 bits
  int32_t peak32[8];      ///< the peak in the low 16 bits
  int32_t peak16[16];     ///< the same by 16 elements, 0 where the peak is in the other half
  uint32_t peak_at[8];    ///< its place in the chunk
};
static_assert(sizeof(ActivationChunk) == 1056);

}  // namespace moxie::avx2
