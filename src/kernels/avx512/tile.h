#pragma once

#include "kernels/avx512/scales.h"

namespace moxie::avx512 {
namespace {

/// A chunk of kLanes rows of any format, unpacked: weight = scale * (code - offset) + min.
struct Tile {
  alignas(64) uint8_t codes[kChunkElements / 4][kLanes][4];  ///< by quads of columns
  RowScales scales;
  int groups;  ///< of the format's size

  __m512i Codes(int64_t quad) const { return _mm512_load_si512(codes[quad]); }
};

/// What is subtracted from unsigned codes.
template <class Format>
constexpr int kUnsignedOffset = Format::kBits == 8 ? 128 : Format::kOffset;

/// Codes of 8 bits are made unsigned, the others are.
template <class Format>
MOXIE_INLINE __m512i ToUnsigned(__m512i codes) {
  if constexpr (Format::kBits < 8) return codes;
  return _mm512_xor_si512(codes, _mm512_set1_epi8(static_cast<char>(-128)));
}

// LoadScales and LoadCodes: of rows as they are stored (lanes/chunk_of_rows.h) or packed
// (packed.h).

template <class Format>
MOXIE_INLINE void LoadScales(const x86::ChunkOfRows<Format, kLanes>& rows, RowScales& scales) {
  UnpackScales<Format>(rows, scales);
}

/// Unsigned codes of elements 32 * i .. of the selected chunk, by quads of columns.
template <class Format>
MOXIE_INLINE void LoadCodes(const x86::ChunkOfRows<Format, kLanes>& rows, int i,
                            __m512i (&quads)[8]) {
  __m256i codes[kLanes];
  MOXIE_UNROLL
  for (int r = 0; r < kLanes; ++r) codes[r] = Format::Codes(rows[r], i);
  Transpose16x8(codes, quads);
  MOXIE_UNROLL
  for (int k = 0; k < 8; ++k) quads[k] = ToUnsigned<Format>(quads[k]);
}

/// Unpacks chunk `c` of the rows from `row` on; those at and beyond row_end repeat the last one.
template <class Format, class Rows>
void UnpackTile(const WeightMatrix& weights, int64_t row, int64_t row_end, int64_t c, Tile& tile) {
  Rows rows(weights, row, row_end);
  rows.Select(c);
  LoadScales(rows, tile.scales);
  tile.groups = rows.groups() * (32 / Format::kGroup);
  for (int i = 0; i < rows.groups(); ++i) {
    rows.Prefetch(i);
    __m512i codes[8];
    LoadCodes(rows, i, codes);
    MOXIE_UNROLL
    for (int k = 0; k < 8; ++k) _mm512_store_si512(tile.codes[8 * i + k], codes[k]);
  }
}

}  // namespace
}  // namespace moxie::avx512
