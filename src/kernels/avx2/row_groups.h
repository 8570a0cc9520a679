#pragma once

#include "kernels/avx2/rows.h"
#include "kernels/x86/row_groups.h"

// Codes and scales of eight rows (rows.h), a row in each 32-bit lane: x86/row_groups.h, and what it
// does not know of rows as they are stored.

namespace moxie::avx2 {
namespace {

using x86::HasNibblePairs;
using x86::HasWholeCodes;

/// How many times 32 elements are unpacked together.
template <class Rows>
constexpr int kUnpackedGroups = !Rows::kPacked && HasNibblePairs<typename Rows::Format> ? 2 : 1;

/// The codes of elements 32 * i .. of a chunk: codes[q] has columns 4 q .. 4 q + 3.
template <class Rows>
MOXIE_INLINE void UnpackCodes(const Rows& rows, int i,
                              __m256i (&codes)[8 * kUnpackedGroups<Rows>]) {
  using Format = typename Rows::Format;
  if constexpr (x86::kHasLaneCodes<Rows>) {
    x86::UnpackLaneCodes<false>(rows, i, codes);
  } else if constexpr (HasNibblePairs<Format>) {
    __m256i packed[8];
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) packed[r] = Load256(Format::NibblePairs(rows[r], i / 2));
    Transpose8x8(packed);
    MOXIE_UNROLL
    for (int k = 0; k < 8; ++k) {
      codes[k] = x86::CodesAt(packed[k], 0, 15);
      codes[8 + k] = x86::CodesAt(packed[k], 4, 15);
    }
  } else {
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) codes[r] = Format::Codes(rows[r], i);
    Transpose8x8(codes);
  }
}

/// weight = scale * (code - Format::kOffset) + min, by scale groups of a chunk of V times 8 rows.
template <int V>
struct RowScales {
  alignas(32) float scale[kChunkElements / 16][V][kRows];
  alignas(32) float min[kChunkElements / 16][V][kRows];

  void SetScale(int g, int v, __m256 values) { _mm256_store_ps(scale[g][v], values); }
  void SetMin(int g, int v, __m256 values) { _mm256_store_ps(min[g][v], values); }
};

/// Row by row, then transposed.
template <class Format, int V>
MOXIE_INLINE void LoadScalesByRow(const StoredRows<Format>& rows, int v, RowScales<V>& scales) {
  for (int half = 0; half < 32 / Format::kGroup; ++half) {
    __m256 scale[kRows];
    __m256 min[kRows];
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      min[r] = _mm256_setzero_ps();
      Format::Scales(rows[r], half, scale[r], min[r]);
    }
    x86::Transpose8x8(scale);
    if constexpr (Format::kHasMin) x86::Transpose8x8(min);
    MOXIE_UNROLL
    for (int g = 0; g < 8; ++g) {
      scales.SetScale(8 * half + g, v, scale[g]);
      if constexpr (Format::kHasMin) scales.SetMin(8 * half + g, v, min[g]);
    }
  }
}

template <class Format>
concept HasLaneScales = requires(const StoredRows<Format>& rows, RowScales<1>& scales) {
  x86::LoadLaneScales(Format{}, rows, 0, scales);
};

template <class Rows, int V>
MOXIE_INLINE void LoadScales(const Rows& rows, int v, RowScales<V>& scales) {
  using Format = typename Rows::Format;
  if constexpr (HasLaneScales<Format>) {
    x86::LoadLaneScales(Format{}, rows, v, scales);
  } else {
    LoadScalesByRow(rows, v, scales);
  }
}

}  // namespace
}  // namespace moxie::avx2
