#pragma once

#include "kernels/avx512/chunk.h"
#include "kernels/avx512/tile.h"

// The product for one token, which would not repay a tile: codes are multiplied as they lie in
// their rows, and the sums of sixteen rows are brought side by side. The order of what is rounded
// is that of matmul_integer.cc.

namespace moxie::avx512 {
namespace {

constexpr int kStepElements = 64;

/// The codes of elements 64 * step .. of a chunk, unsigned.
template <class Format>
MOXIE_INLINE __m512i UnsignedCodes(const uint8_t* chunk, int step) {
  const __m256i first = Format::Codes(chunk, 2 * step);
  const __m256i second = Format::Codes(chunk, 2 * step + 1);
  return ToUnsigned<Format>(_mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1));
}

/// 64 activations: their low bytes, and the high ones of the two quads that have them.
struct ActivationStep {
  __m512i low;
  __m512i high;

  MOXIE_INLINE ActivationStep Load(const ActivationChunk& x, int step) {
    const int first = x.spared[2 * step] - 16 * step;
    const int second = x.spared[2 * step + 1] - 16 * step;
    const __m512i high = _mm512_maskz_set1_epi32(static_cast<__mmask16>(1u << first),
                                                 x.high32[2 * step]);
    return {.low = _mm512_loadu_si512(x.low + kStepElements * step),
            .high = _mm512_mask_set1_epi32(high, static_cast<__mmask16>(1u << second),
                                           x.high32[2 * step + 1])};
  }

  /// Of each four columns, the sum of the products.
  MOXIE_INLINE __m512i Times(const ActivationStep& x, __m512i codes) {
    const __m512i high = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, x.high);
    return _mm512_dpbusd_epi32(_mm512_slli_epi32(high, 8), codes, x.low);
  }
};

/// Adds up the four lanes of each 128 bits of four vectors: lane r of each 128 is of vector r.
MOXIE_INLINE __m512i SumQuarters(const __m512i (&v)[4]) {
  const __m512i v01 =
      _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i v23 =
      _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(v01, v23), _mm512_unpackhi_epi64(v01, v23));
}

/// From the sums of 16 columns of four times four rows, as SumQuarters leaves them, to those of the
/// groups of 64 columns: a row in each lane.
template <int kGroup>
MOXIE_INLINE void GroupsOfRows(const __m512i (&v)[4], __m512i (&groups)[kStepElements / kGroup]) {
  const __m512i even01 = _mm512_shuffle_i32x4(v[0], v[1], 0x88);
  const __m512i odd01 = _mm512_shuffle_i32x4(v[0], v[1], 0xdd);
  const __m512i even23 = _mm512_shuffle_i32x4(v[2], v[3], 0x88);
  const __m512i odd23 = _mm512_shuffle_i32x4(v[2], v[3], 0xdd);
  if constexpr (kGroup == 32) {
    const __m512i sums01 = _mm512_add_epi32(even01, odd01);
    const __m512i sums23 = _mm512_add_epi32(even23, odd23);
    groups[0] = _mm512_shuffle_i32x4(sums01, sums23, 0x88);
    groups[1] = _mm512_shuffle_i32x4(sums01, sums23, 0xdd);
  } else {
    groups[0] = _mm512_shuffle_i32x4(even01, even23, 0x88);
    groups[1] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
    groups[2] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
    groups[3] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
  }
}

/// `sum` and the terms of group `g`; `integers` are without what the offset subtracts.
template <class Format>
MOXIE_INLINE __m512 AddGroup(__m512 sum, __m512i integers, const RowScales& scales,
                             const ActivationChunk& x, int g) {
  constexpr bool kSixteen = Format::kGroup == 16;
  if constexpr (kUnsignedOffset<Format> != 0) {
    const int32_t x_sum = (kSixteen ? x.sums16 : x.sums32)[g];
    integers =
        _mm512_sub_epi32(integers, _mm512_set1_epi32(x_sum * kUnsignedOffset<Format>));
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

/// `sum` and the terms of 64 columns of the selected chunk of kLanes rows.
template <class Format, class Chunk>
MOXIE_INLINE __m512 AddStep(__m512 sum, const Chunk& chunk, const RowScales& scales,
                            const ActivationChunk& x, int step) {
  constexpr int kGroups = kStepElements / Format::kGroup;
  const ActivationStep xs = ActivationStep::Load(x, step);
  __m512i quarters[4];
  MOXIE_UNROLL
  for (int k = 0; k < 4; ++k) {
    __m512i products[4];
    MOXIE_UNROLL
    for (int r = 0; r < 4; ++r) {
      products[r] = ActivationStep::Times(xs, UnsignedCodes<Format>(chunk[4 * k + r], step));
    }
    quarters[k] = SumQuarters(products);
  }
  __m512i integers[kGroups];
  GroupsOfRows<Format::kGroup>(quarters, integers);
  // The last step of a row may have half its columns.
  const int groups = (chunk.groups() - 2 * step) * 32 / Format::kGroup;
  MOXIE_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    if (g < groups) sum = AddGroup<Format>(sum, integers[g], scales, x, kGroups * step + g);
  }
  return sum;
}

/// Up to kLanes rows from `row` on times one token.
template <class Format>
void MultiplyOneToken(const WeightMatrix& weights, int64_t row, int64_t row_end,
                      const ActivationChunk* x, float* out) {
  const int64_t chunks = (weights.cols + kChunkElements - 1) / kChunkElements;
  x86::ChunkOfRows<Format, kLanes> chunk(weights, row, row_end);
  RowScales scales;
  __m512 sum = _mm512_setzero_ps();
  for (int64_t c = 0; c < chunks; ++c) {
    chunk.Select(c);
    UnpackScales<Format>(chunk, scales);
    for (int step = 0; 2 * step < chunk.groups(); ++step) {
      chunk.Prefetch(2 * step);
      chunk.Prefetch(2 * step + 1);
      sum = AddStep<Format>(sum, chunk, scales, x[c], step);
    }
  }
  const int64_t rows = x86::Min(kLanes, row_end - row);
  _mm512_mask_storeu_ps(out + row, static_cast<__mmask16>((1u << rows) - 1), sum);
}

}  // namespace
}  // namespace moxie::avx512
