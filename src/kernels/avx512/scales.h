#pragma once

#include "kernels/x86/unpack.h"

// The scales of sixteen rows side by side.

namespace moxie::avx512 {
namespace {

using x86::kChunkElements;

constexpr int kLanes = 16;  // Rows side by side in a vector.

/// The scales of a chunk of kLanes rows, by groups of the format's size.
struct RowScales {
  alignas(64) float scale[kChunkElements / 16][kLanes];
  alignas(64) float min[kChunkElements / 16][kLanes];  ///< where the format has them

  void SetScale(int g, int, __m512 values) { _mm512_store_ps(scale[g], values); }
  void SetMin(int g, int, __m512 values) { _mm512_store_ps(min[g], values); }
  __m512 Scale(int g) const { return _mm512_load_ps(scale[g]); }
  __m512 Min(int g) const { return _mm512_load_ps(min[g]); }
};

/// Transposes four vectors of 32-bit lanes within each 128 bits.
MOXIE_INLINE void TransposeQuads(__m512i a, __m512i b, __m512i c, __m512i d, __m512i* out) {
  const __m512i low_ab = _mm512_unpacklo_epi32(a, b);
  const __m512i high_ab = _mm512_unpackhi_epi32(a, b);
  const __m512i low_cd = _mm512_unpacklo_epi32(c, d);
  const __m512i high_cd = _mm512_unpackhi_epi32(c, d);
  out[0] = _mm512_unpacklo_epi64(low_ab, low_cd);
  out[1] = _mm512_unpackhi_epi64(low_ab, low_cd);
  out[2] = _mm512_unpacklo_epi64(high_ab, high_cd);
  out[3] = _mm512_unpackhi_epi64(high_ab, high_cd);
}

/// Transposes 4 x 4 quarters: v[l] becomes the quarters l of all.
MOXIE_INLINE void TransposeQuarters(__m512i (&v)[4]) {
  const __m512i even01 = _mm512_shuffle_i32x4(v[0], v[1], 0x88);
  const __m512i odd01 = _mm512_shuffle_i32x4(v[0], v[1], 0xdd);
  const __m512i even23 = _mm512_shuffle_i32x4(v[2], v[3], 0x88);
  const __m512i odd23 = _mm512_shuffle_i32x4(v[2], v[3], 0xdd);
  v[0] = _mm512_shuffle_i32x4(even01, even23, 0x88);
  v[1] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
  v[2] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
  v[3] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
}

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
  TransposeQuads(quads[0], quads[1], quads[2], quads[3], out);
  TransposeQuads(quads[4], quads[5], quads[6], quads[7], out + 4);
}

/// Whether blocks of 32 begin with binary16 numbers and two registers hold those of a chunk.
template <class Format>
constexpr bool HalvesInTwo() {
  if constexpr (requires { Format::kBeginsWithHalves; }) {
    return 3 * sizeof(typename Format::Block) + 4 <= 64;
  }
  return false;
}

/// Format::Scales; from two registers where that can be.
template <class Format>
MOXIE_INLINE void ScalesOf(const uint8_t* chunk, int half, __m256& scale, __m256& min) {
  if constexpr (HalvesInTwo<Format>()) {
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

/// Row by row, then transposed.
template <class Format, class Chunk>
MOXIE_INLINE void UnpackRowScales(const Chunk& chunk, RowScales& scales) {
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

// ---- blocks of 256: their small scales lie together, and are decoded with a row in each lane ----

/// 16 bytes of each row's chunk, from `offset` on: words[k] is 32-bit word k of the rows.
template <class Chunk>
MOXIE_INLINE void LoadWords(const Chunk& chunk, size_t offset, __m512i (&words)[4]) {
  __m512i v[4];
  MOXIE_UNROLL
  for (int j = 0; j < 4; ++j) {
    v[j] = _mm512_castsi128_si512(x86::Load128(chunk[j] + offset));
    v[j] = _mm512_inserti32x4(v[j], x86::Load128(chunk[4 + j] + offset), 1);
    v[j] = _mm512_inserti32x4(v[j], x86::Load128(chunk[8 + j] + offset), 2);
    v[j] = _mm512_inserti32x4(v[j], x86::Load128(chunk[12 + j] + offset), 3);
  }
  TransposeQuads(v[0], v[1], v[2], v[3], words);
}

/// The binary16 number in the low half of each lane.
MOXIE_INLINE __m512 LowHalves(__m512i words) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
}

/// factor * code
MOXIE_INLINE void StoreScaled(float* to, __m512 factor, __m512i code) {
  _mm512_store_ps(to, _mm512_mul_ps(factor, _mm512_cvtepi32_ps(code)));
}

/// Q4_K and Q5_K, as x86::MinKBlocks.
template <class Chunk>
MOXIE_INLINE void UnpackMinKScales(const Chunk& chunk, RowScales& scales) {
  __m512i words[4];
  LoadWords(chunk, 0, words);
  const __m512 d = LowHalves(words[0]);
  const __m512 dmin =
      _mm512_sub_ps(_mm512_setzero_ps(), LowHalves(_mm512_srli_epi32(words[0], 16)));
  const __m512i six = _mm512_set1_epi8(0x3f);
  const __m512i four = _mm512_set1_epi8(0x0f);
  const __m512i two = _mm512_set1_epi8(0x30);
  const auto high = [&](__m512i low_bits, __m512i high_bits) {
    return _mm512_or_si512(_mm512_and_si512(low_bits, four),
                           _mm512_and_si512(_mm512_srli_epi32(high_bits, 2), two));
  };
  const __m512i scale[2] = {_mm512_and_si512(words[1], six), high(words[3], words[1])};
  const __m512i min[2] = {_mm512_and_si512(words[2], six),
                          high(_mm512_srli_epi32(words[3], 4), words[2])};
  MOXIE_UNROLL
  for (int g = 0; g < 8; ++g) {
    const auto shift = static_cast<unsigned>(8 * (g % 4));
    const __m512i byte = _mm512_set1_epi32(255);
    StoreScaled(scales.scale[g], d, _mm512_and_si512(_mm512_srli_epi32(scale[g / 4], shift), byte));
    StoreScaled(scales.min[g], dmin, _mm512_and_si512(_mm512_srli_epi32(min[g / 4], shift), byte));
  }
}

/// As x86::UnpackIQ4_XS.
template <class Chunk>
MOXIE_INLINE void UnpackIq4XsScales(const Chunk& chunk, RowScales& scales) {
  __m512i words[4];
  LoadWords(chunk, 0, words);
  const __m512 d = LowHalves(words[0]);
  const __m512i high = _mm512_srli_epi32(words[0], 12);  // Places 4 and 5 are the first code's.
  MOXIE_UNROLL
  for (int g = 0; g < 8; ++g) {
    const auto at = static_cast<unsigned>(g);
    const __m512i low_bits =
        _mm512_and_si512(_mm512_srli_epi32(words[1], 4 * at), _mm512_set1_epi32(15));
    const __m512i high_bits =
        _mm512_and_si512(_mm512_srli_epi32(high, 2 * at), _mm512_set1_epi32(48));
    const __m512i code = _mm512_or_si512(low_bits, high_bits);
    StoreScaled(scales.scale[g], d, _mm512_sub_epi32(code, _mm512_set1_epi32(32)));
  }
}

template <class Format, class Chunk>
MOXIE_INLINE void UnpackScales(const Chunk& chunk, RowScales& scales) {
  if constexpr (__is_same(Format, x86::UnpackQ4_K) || __is_same(Format, x86::UnpackQ5_K)) {
    UnpackMinKScales(chunk, scales);
  } else if constexpr (__is_same(Format, x86::UnpackIQ4_XS)) {
    UnpackIq4XsScales(chunk, scales);
  } else {
    UnpackRowScales<Format>(chunk, scales);
  }
}

}  // namespace
}  // namespace moxie::avx512
