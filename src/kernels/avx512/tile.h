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

/// Unpacks chunk `c` of the rows from `row` on; those at and beyond row_end repeat the last one.
template <class Format>
void UnpackTile(const WeightMatrix& weights, int64_t row, int64_t row_end, int64_t c, Tile& tile) {
  x86::ChunkOfRows<Format, kLanes> chunk(weights, row, row_end);
  chunk.Select(c);
  UnpackScales<Format>(chunk, tile.scales);
  tile.groups = chunk.groups() * (32 / Format::kGroup);
  for (int i = 0; i < chunk.groups(); ++i) {
    chunk.Prefetch(i);
    __m256i codes[kLanes];
    MOXIE_UNROLL
    for (int r = 0; r < kLanes; ++r) codes[r] = Format::Codes(chunk[r], i);
    __m512i quads[8];
    Transpose16x8(codes, quads);
    MOXIE_UNROLL
    for (int k = 0; k < 8; ++k) {
      _mm512_store_si512(tile.codes[8 * i + k], ToUnsigned<Format>(quads[k]));
    }
  }
}

}  // namespace
}  // namespace moxie::avx512
