#pragma once

#include "kernels/avx512/chunk.h"
#include "kernels/avx512/tile.h"

// What one token's products have in common, however the integers are found.

namespace moxie::avx512 {
namespace {

/// `sum` and the terms of group `g`; `integers` are without what the offset subtracts.
template <class Format>
MOXIE_INLINE __m512 AddGroup(__m512 sum, __m512i integers, const RowScales& scales,
                             const ActivationChunk& x, int g) {
  constexpr bool kSixteen = Format::kGroup == 16;
  if constexpr (kUnsignedOffset<Format> != 0) {
    // Unsigned: of activations that are no numbers the sum is the least integer.
    const auto x_sum = static_cast<uint32_t>((kSixteen ? x.sums16 : x.sums32)[g]);
    const auto offset = static_cast<int32_t>(x_sum * uint32_t{kUnsignedOffset<Format>});
    integers = _mm512_sub_epi32(integers, _mm512_set1_epi32(offset));
  }
  const __m512 x_scale = _mm512_set1_ps(x.scale[g * Format::kGroup / 32]);
  const __m512 products = _mm512_mul_ps(_mm512_cvtepi32_ps(integers), x_scale);
  sum = _mm512_fmadd_ps(products, scales.Scale(g), sum);
  if constexpr (Format::kHasMin) {
    const float x_sum = (kSixteen ? x.scaled_sums16 : x.scaled_sums32)[g];
    sum = _mm512_fmadd_ps(scales.Min(g), _mm512_set1_ps(x_sum), sum);
  }
  return sum;
}

/// Writes the first `count` lanes.
MOXIE_INLINE void StoreRows(float* out, __m512 values, int64_t count) {
  const int64_t rows = x86::Min(kLanes, count);
  _mm512_mask_storeu_ps(out, static_cast<__mmask16>((1u << rows) - 1), values);
}

}  // namespace
}  // namespace moxie::avx512
