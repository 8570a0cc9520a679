#pragma once

#include "kernels/avx512/chunk.h"
#include "kernels/avx512/tile.h"

// What one token's products have in common, however the integers are found.

namespace moxie::avx512 {
namespace {

/// `sum` and the terms of columns 32 * i ..; `integers` of each scale group are without what the
/// offset subtracts.
template <class Format>
MOXIE_INLINE __m512 AddGroups(__m512 sum, const __m512i (&integers)[32 / Format::kGroup],
                              const RowScales& scales, const ActivationChunk& x, int i) {
  constexpr int kHalves = 32 / Format::kGroup;
  const int32_t* x_sums = kHalves == 2 ? x.sums16 : x.sums32;
  const float* scaled_sums = kHalves == 2 ? x.scaled_sums16 : x.scaled_sums32;
  __m512 terms = _mm512_setzero_ps();
  MOXIE_UNROLL
  for (int h = 0; h < kHalves; ++h) {
    const int g = kHalves * i + h;
    __m512i exact = integers[h];
    if constexpr (kUnsignedOffset<Format> != 0) {
      // Unsigned: of activations that are no numbers the sum is the least integer.
      const auto x_sum = static_cast<uint32_t>(x_sums[g]);
      const auto offset = static_cast<int32_t>(x_sum * uint32_t{kUnsignedOffset<Format>});
      exact = _mm512_sub_epi32(exact, _mm512_set1_epi32(offset));
    }
    const __m512 floats = _mm512_cvtepi32_ps(exact);
    terms = h == 0 ? _mm512_mul_ps(floats, scales.Scale(g))
                   : _mm512_fmadd_ps(floats, scales.Scale(g), terms);
  }
  sum = _mm512_fmadd_ps(terms, _mm512_set1_ps(x.scale[i]), sum);
  if constexpr (Format::kHasMin) {
    MOXIE_UNROLL
    for (int h = 0; h < kHalves; ++h) {
      const int g = kHalves * i + h;
      sum = _mm512_fmadd_ps(scales.Min(g), _mm512_set1_ps(scaled_sums[g]), sum);
    }
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
