#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/lanes/floats.h"
#include "kernels/x86/intrinsics.h"

// Helpers of the files that use AVX2 or more.

namespace moxie::x86 {

using lanes::CopyBytes;
using lanes::LoadU16;
using lanes::LoadU32;
using lanes::LoadU64;
using lanes::Min;

MOXIE_INLINE float HalfAt(const void* p) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(static_cast<int>(LoadU16(p)))));
}

MOXIE_INLINE __m128i Load128(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}

MOXIE_INLINE __m256i Load256(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

/// Sums over the 8 lanes of each of 8 vectors: lane r of the result is the sum of v[r].
MOXIE_INLINE __m256i SumLanes(__m256i v01, __m256i v23, __m256i v45, __m256i v67) {
  // The arguments are already added in pairs: hadd(v0, v1) and so on.
  const __m256i v0123 = _mm256_hadd_epi32(v01, v23);
  const __m256i v4567 = _mm256_hadd_epi32(v45, v67);
  return _mm256_add_epi32(_mm256_permute2x128_si256(v0123, v4567, 0x20),
                          _mm256_permute2x128_si256(v0123, v4567, 0x31));
}

/// The sum of the 8 lanes, always in the same order.
MOXIE_INLINE float SumLanes(__m256 v) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

/// Lane r of the result is the sum of the 8 lanes of v[r].
MOXIE_INLINE __m128 SumLanes4(__m256 v0, __m256 v1, __m256 v2, __m256 v3) {
  const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(v0, v1), _mm256_hadd_ps(v2, v3));
  return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
}

/// Transposes 8 vectors of 8 32-bit lanes.
MOXIE_INLINE void Transpose8x8(__m256 (&v)[8]) {
  __m256 pairs[8];
  MOXIE_UNROLL
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  __m256 quads[8];
  MOXIE_UNROLL
  for (int i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
  MOXIE_UNROLL
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    v[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

/// Lanes [0, n) of 8 are all ones, n in [0, 8]: the mask of a ragged tail.
MOXIE_INLINE __m256i TailMask(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/// Stores the first n > 0 of 4 lanes.
MOXIE_INLINE void StoreUpTo4(float* p, __m128 v, int64_t n) {
  if (n >= 4) {
    _mm_storeu_ps(p, v);
  } else {
    _mm_maskstore_ps(p, _mm256_castsi256_si128(TailMask(n)), v);
  }
}

}  // namespace moxie::x86
