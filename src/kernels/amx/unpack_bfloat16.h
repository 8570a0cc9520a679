#pragma once

#include "kernels/avx512/scales.h"

// How rows of weights become bfloat16 with their scales: what a format contributes (x86/unpack.h)
// is all that is needed; formats of up to 32 different codes a group look them up in a table.

namespace moxie::amx {
namespace {

using x86::kChunkElements;

/// 32 floats rounded to bfloat16, `low` first.
MOXIE_INLINE __m512i ToBfloat16(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/// The scales of a row's chunk, a group's size apart. Code 0 stands for `zero`.
struct ChunkScales {
  alignas(64) float scale[16];
  alignas(64) float zero[16];
};

template <class Format>
MOXIE_INLINE void LoadScales(const uint8_t* chunk, ChunkScales& scales) {
  MOXIE_UNROLL
  for (int half = 0; half < 32 / Format::kGroup; ++half) {
    __m256 scale;
    __m256 zero = _mm256_setzero_ps();
    avx512::ScalesOf<Format>(chunk, half, scale, zero);
    if constexpr (Format::kOffset != 0) {  // Exact: few bits times few bits.
      zero = _mm256_mul_ps(scale, _mm256_set1_ps(-static_cast<float>(Format::kOffset)));
    }
    _mm256_store_ps(scales.scale + 8 * half, scale);
    _mm256_store_ps(scales.zero + 8 * half, zero);
  }
}

/// Whether a code's weight is never just its scale times it.
template <class Format>
constexpr bool kHasZero = Format::kHasMin || Format::kOffset != 0;

/// What the codes stand for in group `g`.
template <class Format>
MOXIE_INLINE __m512 WeightsOf(__m512 codes, const ChunkScales& scales, int g) {
  const __m512 scale = _mm512_set1_ps(scales.scale[g]);
  if constexpr (!kHasZero<Format>) return _mm512_mul_ps(codes, scale);
  return _mm512_fmadd_ps(codes, scale, _mm512_set1_ps(scales.zero[g]));
}

MOXIE_INLINE __m512 FirstSixteen() {
  return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/// What nibbles stand for in group `g`, twice, so that the fifth bit of an index does not matter.
template <class Format>
MOXIE_INLINE __m512i TableOf16(const ChunkScales& scales, int g) {
  __m512 weights;
  if constexpr (requires { Format::kValues; }) {
    const __m512i values = _mm512_cvtepi8_epi32(x86::Load128(&Format::kValues));
    weights = _mm512_mul_ps(_mm512_cvtepi32_ps(values), _mm512_set1_ps(scales.scale[g]));
  } else {
    weights = WeightsOf<Format>(FirstSixteen(), scales, g);
  }
  return ToBfloat16(weights, weights);
}

/// 32 elements whose nibbles lie in 16 bytes.
template <class Format>
MOXIE_INLINE __m512i LookUpNibbles(const uint8_t* chunk, const ChunkScales& scales, int i) {
  alignas(64) static constexpr uint8_t kTwice[64] = {
      0,  0,  1,  1,  2,  2,  3,  3,  4,  4,  5,  5,  6,  6,  7,  7,  8,  8,  9,  9, 10, 10,
      11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 0,  0,  1,  1,  2,  2,  3,  3,  4,  4, 5,  5,
      6,  6,  7,  7,  8,  8,  9,  9,  10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15};
  alignas(64) static constexpr uint16_t kShifts[32] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                                       0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4,
                                                       4, 4, 4, 4, 4, 4, 4, 4, 4, 4};
  const __m512i packed = _mm512_castsi128_si512(x86::Load128(Format::Nibbles(chunk, i)));
  const __m512i words = _mm512_permutexvar_epi8(_mm512_load_si512(kTwice), packed);
  const __m512i index = _mm512_srlv_epi16(words, _mm512_load_si512(kShifts));
  return _mm512_permutexvar_epi16(index, TableOf16<Format>(scales, i));
}

/// 32 elements of any other format.
template <class Format>
MOXIE_INLINE __m512i Weights(const uint8_t* chunk, const ChunkScales& scales, int i) {
  constexpr bool kSixteen = Format::kGroup == 16;
  const int first = kSixteen ? 2 * i : i;
  const int second = kSixteen ? 2 * i + 1 : i;
  const __m256i codes = Format::Codes(chunk, i);
  if constexpr (Format::kBits <= 4 || (Format::kBits == 5 && !kSixteen)) {
    // Codes of groups of 16 choose between two tables of 16 by the half in which they stand.
    const float step = kSixteen ? 0.0f : 16.0f;
    const __m512 upper = _mm512_add_ps(FirstSixteen(), _mm512_set1_ps(step));
    const __m512i table = ToBfloat16(WeightsOf<Format>(FirstSixteen(), scales, first),
                                     WeightsOf<Format>(upper, scales, second));
    __m512i index = _mm512_cvtepu8_epi16(codes);
    if constexpr (kSixteen) {
      index = _mm512_or_si512(index,
                              _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1));
    }
    return _mm512_permutexvar_epi16(index, table);
  } else {
    const __m512i low = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(codes));
    const __m512i high = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(codes, 1));
    return ToBfloat16(WeightsOf<Format>(_mm512_cvtepi32_ps(low), scales, first),
                      WeightsOf<Format>(_mm512_cvtepi32_ps(high), scales, second));
  }
}

/// A row's chunk, 32 elements after another `step` words apart.
template <class Format>
MOXIE_INLINE void UnpackRow(const uint8_t* chunk, uint16_t* out, int step) {
  constexpr int kGroups = kChunkElements / 32;
  ChunkScales scales;
  LoadScales<Format>(chunk, scales);
  if constexpr (requires { Format::NibblePairs(chunk, 0); } && Format::kBits == 4) {
    MOXIE_UNROLL
    for (int i = 0; i < kGroups; i += 2) {
      const __m512i words = _mm512_cvtepu8_epi16(x86::Load256(Format::NibblePairs(chunk, i / 2)));
      _mm512_store_si512(out + i * step,
                         _mm512_permutexvar_epi16(words, TableOf16<Format>(scales, i)));
      _mm512_store_si512(
          out + (i + 1) * step,
          _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4), TableOf16<Format>(scales, i + 1)));
    }
  } else {
    MOXIE_UNROLL
    for (int i = 0; i < kGroups; ++i) {
      if constexpr (requires { Format::Nibbles(chunk, 0); }) {
        _mm512_store_si512(out + i * step, LookUpNibbles<Format>(chunk, scales, i));
      } else {
        _mm512_store_si512(out + i * step, Weights<Format>(chunk, scales, i));
      }
    }
  }
}

}  // namespace
}  // namespace moxie::amx
