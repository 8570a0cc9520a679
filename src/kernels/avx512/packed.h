#pragma once

#include "kernels/avx512/group_sum.h"
#include "kernels/avx512/sixteen_lanes.h"
#include "kernels/x86/row_groups.h"

// Weights whose rows are packed for this set (x86/pack_rows.h): codes and scales come with a row in
// each lane, so nothing is transposed, and one token needs no sums across lanes. What is rounded,
// and in which order, is as in integer_product.h.

namespace moxie::avx512 {
namespace {

template <class Format>
using PackedRows = x86::PackedRows<SixteenLanes, Format>;

template <class Format>
concept IsPacked = requires(const PackedRows<Format>& rows, RowScales& scales) {
  x86::LoadLaneScales(Format{}, rows, 0, scales);
};

template <class Format>
MOXIE_INLINE void LoadScales(const PackedRows<Format>& rows, RowScales& scales) {
  x86::LoadLaneScales(Format{}, rows, 0, scales);
}

template <class Format>
MOXIE_INLINE void LoadCodes(const PackedRows<Format>& rows, int i, __m512i (&quads)[8]) {
  x86::UnpackLaneCodes<true>(rows, i, quads);
}

/// `sum` and the terms of 32 columns, of which `codes` are unsigned: elements 32 * i .. of `x`.
template <class Format>
MOXIE_INLINE __m512 AddColumns(__m512 sum, const __m512i (&codes)[8], const RowScales& scales,
                               const ActivationChunk& x, int i) {
  constexpr int kHalves = 32 / Format::kGroup;
  constexpr int kQuads = 8 / kHalves;
  const auto broadcast = [](const void* p) __attribute__((always_inline)) {
    return _mm512_set1_epi32(static_cast<int>(x86::LoadU32(p)));
  };
  __m512i sums[kHalves];
  MOXIE_UNROLL
  for (int h = 0; h < kHalves; ++h) {
    __m512i integers[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    MOXIE_UNROLL
    for (int k = 0; k < kQuads; ++k) {
      const int quad = h * kQuads + k;
      integers[k % 2] =
          _mm512_dpbusd_epi32(integers[k % 2], codes[quad], broadcast(x.low + 32 * i + 4 * quad));
    }
    sums[h] = _mm512_add_epi32(integers[0], integers[1]);
    if ((x.has_high >> i & 1) != 0) {
      alignas(64) int32_t quads[8][kLanes];
      MOXIE_UNROLL
      for (int k = 0; k < 8; ++k) _mm512_store_si512(quads[k], codes[k]);
      const __m512i high = broadcast((kHalves == 1 ? x.high32 : x.high16) + kHalves * i + h);
      const __m512i products = _mm512_dpbusd_epi32(_mm512_setzero_si512(),
                                                   _mm512_load_si512(quads[x.spared[i] % 8]), high);
      sums[h] = _mm512_add_epi32(sums[h], _mm512_slli_epi32(products, 8));
    }
  }
  return AddGroups<Format>(sum, sums, scales, x, i);
}

/// Up to kLanes packed rows from `row` on times one token.
template <class Format>
void MultiplyOnePackedToken(const WeightMatrix& weights, int64_t row, int64_t row_end,
                            const ActivationChunk* x, float* out) {
  const int64_t chunks = (weights.cols + kChunkElements - 1) / kChunkElements;
  PackedRows<Format> rows(weights, row, row_end);
  RowScales scales;
  __m512 sum = _mm512_setzero_ps();
  for (int64_t c = 0; c < chunks; ++c) {
    rows.Select(c);
    LoadScales(rows, scales);
    for (int i = 0; i < rows.groups(); ++i) {
      rows.Prefetch(i);
      __m512i codes[8];
      LoadCodes(rows, i, codes);
      sum = AddColumns<Format>(sum, codes, scales, x[c], i);
    }
  }
  StoreRows(out + row, sum, row_end - row);
}

}  // namespace
}  // namespace moxie::avx512
