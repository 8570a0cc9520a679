#pragma once

#include "kernels/amx/tiles.h"
#include "kernels/avx512/packed.h"

// How sixteen rows' codes become bfloat16 with their scales, a row in each lane.

namespace moxie::amx {
namespace {

using avx512::kLanes;
using avx512::RowScales;

/// Whether a code's weight is not just its scale times it.
template <class Format>
constexpr bool kHasZero = Format::kHasMin || avx512::kUnsignedOffset<Format> != 0;

/// Any NaN as the one that PairOf's rounding does not carry into the sign.
MOXIE_INLINE __m512 WithPlainNan(__m512 v) {
  return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q),
                            _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000)));
}

/// RowScales with what code 0 stands for in the place of `min`.
template <class Format, class Rows>
MOXIE_INLINE void LoadScalesAndZeros(const Rows& rows, RowScales& scales) {
  constexpr float kOffset = avx512::kUnsignedOffset<Format>;
  avx512::LoadScales(rows, scales);
  const int groups = rows.groups() * (32 / Format::kGroup);
  for (int g = 0; g < groups; ++g) {
    const __m512 scale = WithPlainNan(scales.Scale(g));
    scales.SetScale(g, 0, scale);
    if constexpr (Format::kHasMin) {
      scales.SetMin(g, 0, WithPlainNan(scales.Min(g)));
    } else if constexpr (kOffset != 0) {  // Exact: few bits times few.
      scales.SetMin(g, 0, _mm512_mul_ps(scale, _mm512_set1_ps(-kOffset)));
    }
  }
}

/// What the codes in the lanes' bytes `k` stand for.
template <class Format>
MOXIE_INLINE __m512 WeightsOf(__m512i codes, int k, __m512 scale, __m512 zero) {
  const __m512i shifted = k == 0 ? codes : _mm512_srli_epi32(codes, static_cast<unsigned>(8 * k));
  const __m512i code = k == 3 ? shifted : _mm512_and_si512(shifted, _mm512_set1_epi32(255));
  if constexpr (!kHasZero<Format>) return _mm512_mul_ps(_mm512_cvtepi32_ps(code), scale);
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(code), scale, zero);
}

/// Four columns, of which `codes` are the unsigned codes: [column / 2][row][2].
template <class Format>
MOXIE_INLINE void UnpackQuad(__m512i codes, __m512 scale, __m512 zero, uint16_t* out) {
  MOXIE_UNROLL
  for (int k = 0; k < 4; k += 2) {
    const __m512i pair = PairOf(WeightsOf<Format>(codes, k, scale, zero),
                                WeightsOf<Format>(codes, k + 1, scale, zero));
    _mm512_store_si512(out + k * kLanes, pair);
  }
}

}  // namespace
}  // namespace moxie::amx
