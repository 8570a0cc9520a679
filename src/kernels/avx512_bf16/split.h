#pragma once

#include "kernels/x86/vectors.h"

// A float32 number as two of bfloat16, high and low, 16 significant bits together:
//
//   x = high + low + e,  |e| <= 2^-17 |x|,  |low| <= 2^-8 |x|

namespace moxie::avx512_bf16 {
namespace {

/// The nearest bfloat16 number; what it leaves of x is exact in float32.
MOXIE_INLINE __m512 HighOf(__m512 x) {
  const __m512i rounded = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
  return _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(-0x10000)));
}

}  // namespace
}  // namespace moxie::avx512_bf16
