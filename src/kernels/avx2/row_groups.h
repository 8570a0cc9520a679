#pragma once

#include "kernels/avx2/vectors.h"
#include "kernels/x86/chunk_of_rows.h"
#include "kernels/x86/unpack.h"

// Weights of eight rows, a row in each 32-bit lane of a vector.

namespace moxie::avx2 {
namespace {

using x86::kChunkElements;

constexpr int kRows = 8;

template <class Format>
using ChunkOfRows = x86::ChunkOfRows<Format, kRows>;

// ---- codes --------------------------------------------------------------------------------------

template <class Format>
concept HasNibbles = requires(const uint8_t* p) {
  Format::Nibbles(p, 0);
};
template <class Format>
concept HasNibblePairs = requires(const uint8_t* p) {
  Format::NibblePairs(p, 0);
};
template <class Format>
concept HasWholeCodes = requires(const uint8_t* p) {
  Format::WholeCodes(p, 0);
};
template <class Format>
concept HasValues = requires {
  Format::kValues;
};

/// How many times 32 elements are unpacked together.
template <class Format>
constexpr int kUnpackedGroups = HasNibblePairs<Format> ? 2 : 1;

MOXIE_INLINE void Transpose8x8(__m256i (&v)[8]) {
  __m256 floats[8];
  MOXIE_UNROLL
  for (int k = 0; k < 8; ++k) floats[k] = _mm256_castsi256_ps(v[k]);
  x86::Transpose8x8(floats);
  MOXIE_UNROLL
  for (int k = 0; k < 8; ++k) v[k] = _mm256_castps_si256(floats[k]);
}

/// Lane r of out[k] is 32-bit word k of the 16 bytes at `at(r)`.
template <class At>
MOXIE_INLINE void Transpose8x4(At at, __m256i (&out)[4]) {
  __m256i v[4];
  MOXIE_UNROLL
  for (int r = 0; r < 4; ++r) v[r] = _mm256_set_m128i(Load128(at(r + 4)), Load128(at(r)));
  const __m256i low01 = _mm256_unpacklo_epi32(v[0], v[1]);
  const __m256i high01 = _mm256_unpackhi_epi32(v[0], v[1]);
  const __m256i low23 = _mm256_unpacklo_epi32(v[2], v[3]);
  const __m256i high23 = _mm256_unpackhi_epi32(v[2], v[3]);
  out[0] = _mm256_unpacklo_epi64(low01, low23);
  out[1] = _mm256_unpackhi_epi64(low01, low23);
  out[2] = _mm256_unpacklo_epi64(high01, high23);
  out[3] = _mm256_unpackhi_epi64(high01, high23);
}

/// A format's codes from its nibbles.
template <class Format>
MOXIE_INLINE __m256i CodesOfNibbles(__m256i nibbles) {
  if constexpr (HasValues<Format>) {
    // The offset is added to the table, not to what is found there.
    const __m256i table = _mm256_broadcastsi128_si256(Load128(&Format::kValues));
    return _mm256_shuffle_epi8(_mm256_add_epi8(table, _mm256_set1_epi8(Format::kOffset)), nibbles);
  } else {
    return nibbles;
  }
}

/// The codes of elements 32 * i .. of a chunk: codes[q] has columns 4 q .. 4 q + 3.
template <class Format>
MOXIE_INLINE void UnpackCodes(const ChunkOfRows<Format>& chunk, int i,
                              __m256i (&codes)[8 * kUnpackedGroups<Format>]) {
  if constexpr (HasNibbles<Format>) {
    __m256i packed[4];
    Transpose8x4([&](int r) { return Format::Nibbles(chunk[r], i); }, packed);
    MOXIE_UNROLL
    for (int k = 0; k < 4; ++k) {
      codes[k] = CodesOfNibbles<Format>(x86::CodesAt(packed[k], 0, 15));
      codes[4 + k] = CodesOfNibbles<Format>(x86::CodesAt(packed[k], 4, 15));
    }
  } else if constexpr (HasNibblePairs<Format>) {
    __m256i packed[8];
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) packed[r] = Load256(Format::NibblePairs(chunk[r], i / 2));
    Transpose8x8(packed);
    MOXIE_UNROLL
    for (int k = 0; k < 8; ++k) {
      codes[k] = x86::CodesAt(packed[k], 0, 15);
      codes[8 + k] = x86::CodesAt(packed[k], 4, 15);
    }
  } else {
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) codes[r] = Format::Codes(chunk[r], i);
    Transpose8x8(codes);
  }
}

// ---- scales -------------------------------------------------------------------------------------

/// weight = scale * (code - Format::kOffset) + min, by scale groups of a chunk of V times 8 rows.
template <int V>
struct RowScales {
  alignas(32) float scale[kChunkElements / 16][V][kRows];
  alignas(32) float min[kChunkElements / 16][V][kRows];
};

/// The binary16 numbers `offset` bytes into each row's chunk.
template <class Format>
MOXIE_INLINE __m256 HalvesOfRows(const ChunkOfRows<Format>& chunk, int64_t offset) {
  const auto half = [&](int r) { return static_cast<int>(LoadU16(chunk[r] + offset)); };
  __m128i bits = _mm_cvtsi32_si128(half(0));
  bits = _mm_insert_epi16(bits, half(1), 1);
  bits = _mm_insert_epi16(bits, half(2), 2);
  bits = _mm_insert_epi16(bits, half(3), 3);
  bits = _mm_insert_epi16(bits, half(4), 4);
  bits = _mm_insert_epi16(bits, half(5), 5);
  bits = _mm_insert_epi16(bits, half(6), 6);
  bits = _mm_insert_epi16(bits, half(7), 7);
  return _mm256_cvtph_ps(bits);
}

/// factor * byte `k` of each lane
MOXIE_INLINE __m256 ScaledByte(__m256 factor, __m256i bytes, int k) {
  const __m256i byte = _mm256_and_si256(_mm256_srli_epi32(bytes, 8 * k), _mm256_set1_epi32(255));
  return _mm256_mul_ps(factor, _mm256_cvtepi32_ps(byte));
}

/// Q4_K and Q5_K: six-bit scales and mins, packed as quant/blocks.h says.
template <class Format, int V>
MOXIE_INLINE void LoadSixBitScales(const ChunkOfRows<Format>& chunk, int v, RowScales<V>& scales) {
  using Block = typename Format::Block;
  const __m256i six_bits = _mm256_set1_epi32(0x3f3f3f3f);
  const __m256i four_bits = _mm256_set1_epi32(0x0f0f0f0f);
  const __m256i top_bits = _mm256_set1_epi32(0x30303030);
  __m256i p[4];  // The halves, then the twelve bytes of scales.
  static_assert(offsetof(Block, scales) == 4);
  Transpose8x4([&](int r) { return chunk[r]; }, p);
  const auto high = [&](__m256i low, __m256i top) {
    return _mm256_or_si256(_mm256_and_si256(low, four_bits),
                           _mm256_and_si256(_mm256_srli_epi32(top, 2), top_bits));
  };
  const __m256i scale[2] = {_mm256_and_si256(p[1], six_bits), high(p[3], p[1])};
  const __m256i min[2] = {_mm256_and_si256(p[2], six_bits), high(_mm256_srli_epi32(p[3], 4), p[2])};
  const __m256 d = HalvesOfRows(chunk, offsetof(Block, d));
  const __m256 dmin =
      _mm256_sub_ps(_mm256_setzero_ps(), HalvesOfRows(chunk, offsetof(Block, dmin)));
  MOXIE_UNROLL
  for (int g = 0; g < 8; ++g) {
    _mm256_store_ps(scales.scale[g][v], ScaledByte(d, scale[g / 4], g % 4));
    _mm256_store_ps(scales.min[g][v], ScaledByte(dmin, min[g / 4], g % 4));
  }
}

/// Row by row, then transposed.
template <class Format, int V>
MOXIE_INLINE void LoadScalesByRow(const ChunkOfRows<Format>& chunk, int v, RowScales<V>& scales) {
  for (int half = 0; half < 32 / Format::kGroup; ++half) {
    __m256 scale[kRows];
    __m256 min[kRows];
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      min[r] = _mm256_setzero_ps();
      Format::Scales(chunk[r], half, scale[r], min[r]);
    }
    x86::Transpose8x8(scale);
    if constexpr (Format::kHasMin) x86::Transpose8x8(min);
    MOXIE_UNROLL
    for (int g = 0; g < 8; ++g) {
      _mm256_store_ps(scales.scale[8 * half + g][v], scale[g]);
      if constexpr (Format::kHasMin) _mm256_store_ps(scales.min[8 * half + g][v], min[g]);
    }
  }
}

/// Of the chunk's rows, to vector `v`.
template <class Format, int V>
MOXIE_INLINE void LoadScales(const ChunkOfRows<Format>& chunk, int v, RowScales<V>& scales) {
  using Block = typename Format::Block;
  if constexpr (requires { Format::kBeginsWithHalves; }) {
    for (int g = 0; g < chunk.groups(); ++g) {
      const int64_t block = g * static_cast<int64_t>(sizeof(Block));
      _mm256_store_ps(scales.scale[g][v], HalvesOfRows(chunk, block));
      if constexpr (Format::kHasMin)
        _mm256_store_ps(scales.min[g][v], HalvesOfRows(chunk, block + 2));
    }
  } else if constexpr (requires { Format::kSixBitScales; }) {
    LoadSixBitScales(chunk, v, scales);
  } else {
    LoadScalesByRow(chunk, v, scales);
  }
}

}  // namespace
}  // namespace moxie::avx2
