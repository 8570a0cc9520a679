#pragma once

#include "kernels/x86/chunk_of_rows.h"
#include "kernels/x86/unpack.h"

namespace moxie::avx512 {
namespace {

using x86::kChunkElements;

constexpr int kLanes = 16;  // Rows side by side in a vector.

/// The scales of a chunk of kLanes rows, by groups of the format's size.
struct RowScales {
  alignas(64) float scale[kChunkElements / 16][kLanes];
  alignas(64) float min[kChunkElements / 16][kLanes];  ///< where the format has them

  __m512 Scale(int g) const { return _mm512_load_ps(scale[g]); }
  __m512 Min(int g) const { return _mm512_load_ps(min[g]); }
};

/// A chunk of kLanes rows of any format, unpacked: weight = scale * (code - offset) + min.
struct Tile {
  alignas(64) uint8_t codes[kChunkElements / 4][kLanes][4];  ///< by quads of columns
  RowScales scales;
  int groups;  ///< of the format's size

  __m512i Codes(int64_t quad) const { return _mm512_load_si512(codes[quad]); }
};

/// Transposes 16 vectors of 8 32-bit lanes: out[k] holds lane k of each.
MOXIE_INLINE void Transpose16x8(const __m256i (&in)[16], __m512i (&out)[8]) {
  // Lane 4 l + j of a result comes from row 4 l + j: place row j of each four in its 128-bit lane
  // l, then transpose the four rows of every such lane.
  __m512i quads[8];
  MOXIE_UNROLL
  for (int j = 0; j < 4; ++j) {
    const __m512i x = _mm512_inserti64x4(_mm512_castsi256_si512(in[j]), in[4 + j], 1);
    const __m512i y = _mm512_inserti64x4(_mm512_castsi256_si512(in[8 + j]), in[12 + j], 1);
    quads[j] = _mm512_shuffle_i64x2(x, y, 0x88);
    quads[4 + j] = _mm512_shuffle_i64x2(x, y, 0xdd);
  }
  MOXIE_UNROLL
  for (int half = 0; half < 8; half += 4) {
    const __m512i low01 = _mm512_unpacklo_epi32(quads[half], quads[half + 1]);
    const __m512i high01 = _mm512_unpackhi_epi32(quads[half], quads[half + 1]);
    const __m512i low23 = _mm512_unpacklo_epi32(quads[half + 2], quads[half + 3]);
    const __m512i high23 = _mm512_unpackhi_epi32(quads[half + 2], quads[half + 3]);
    out[half] = _mm512_unpacklo_epi64(low01, low23);
    out[half + 1] = _mm512_unpackhi_epi64(low01, low23);
    out[half + 2] = _mm512_unpacklo_epi64(high01, high23);
    out[half + 3] = _mm512_unpackhi_epi64(high01, high23);
  }
}

/// What is subtracted from unsigned codes.
template <class Format>
constexpr int kUnsignedOffset = Format::kBits == 8 ? 128 : Format::kOffset;

/// Codes of 8 bits are made unsigned, the others are.
template <class Format>
MOXIE_INLINE __m512i ToUnsigned(__m512i codes) {
  if constexpr (Format::kBits < 8) return codes;
  return _mm512_xor_si512(codes, _mm512_set1_epi8(static_cast<char>(-128)));
}

/// Whether two registers hold the scales of a chunk, four blocks each.
template <class Format>
constexpr bool kHalvesInTwo = false;
template <class Format>
requires Format::kBeginsWithHalves constexpr bool kHalvesInTwo<Format> =
    3 * sizeof(typename Format::Block) + 4 <= 64;

/// Format::Scales, for those faster with vpermt2w.
template <class Format>
MOXIE_INLINE void ScalesOf(const uint8_t* chunk, int half, __m256& scale, __m256& min) {
  if constexpr (kHalvesInTwo<Format>) {
    constexpr int16_t w = sizeof(typename Format::Block) / 2;
    constexpr int16_t next = 32;
    alignas(64) static constexpr int16_t kWords[32] = {
        0, w,     2 * w,     3 * w,     next,     next + w,     next + 2 * w,     next + 3 * w,
        1, w + 1, 2 * w + 1, 3 * w + 1, next + 1, next + w + 1, next + 2 * w + 1, next + 3 * w + 1};
    const __m512i words = _mm512_permutex2var_epi16(
        _mm512_loadu_si512(chunk), _mm512_load_si512(kWords), _mm512_loadu_si512(chunk + 8 * w));
    scale = _mm256_cvtph_ps(_mm512_castsi512_si128(words));
    if constexpr (Format::kHasMin) min = _mm256_cvtph_ps(_mm512_extracti32x4_epi32(words, 1));
  } else {
    Format::Scales(chunk, half, scale, min);
  }
}

template <class Format, class Chunk>
MOXIE_INLINE void UnpackScales(const Chunk& chunk, RowScales& scales) {
  for (int half = 0; half < 32 / Format::kGroup; ++half) {
    __m256i scale[kLanes];
    __m256i min[kLanes];
    MOXIE_UNROLL
    for (int r = 0; r < kLanes; ++r) {
      __m256 s;
      __m256 m = _mm256_setzero_ps();
      ScalesOf<Format>(chunk[r], half, s, m);
      scale[r] = _mm256_castps_si256(s);
      min[r] = _mm256_castps_si256(m);
    }
    __m512i transposed[8];
    Transpose16x8(scale, transposed);
    MOXIE_UNROLL
    for (int g = 0; g < 8; ++g) _mm512_store_si512(scales.scale[8 * half + g], transposed[g]);
    if constexpr (Format::kHasMin) {
      Transpose16x8(min, transposed);
      MOXIE_UNROLL
      for (int g = 0; g < 8; ++g) _mm512_store_si512(scales.min[8 * half + g], transposed[g]);
    }
  }
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
