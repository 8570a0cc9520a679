#pragma once

#include "kernels/avx2/vectors.h"

namespace moxie::avx2 {
namespace {

/// The vector of floats of lanes/floats.h.
struct Floats {
  using Vector = __m256;
  static constexpr int64_t kLanes = 8;

  MOXIE_INLINE Vector InRegister(Vector v) { return x86::InRegister(v); }
  MOXIE_INLINE Vector Zero() { return _mm256_setzero_ps(); }
  MOXIE_INLINE Vector Set(float x) { return _mm256_set1_ps(x); }
  MOXIE_INLINE Vector Load(const float* p) { return _mm256_loadu_ps(p); }
  MOXIE_INLINE Vector LoadFirst(const float* p, int64_t n) {
    return _mm256_maskload_ps(p, TailMask(n));
  }
  MOXIE_INLINE void Store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
  MOXIE_INLINE void StoreFirst(float* p, Vector v, int64_t n) {
    _mm256_maskstore_ps(p, TailMask(n), v);
  }

  MOXIE_INLINE Vector Add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  MOXIE_INLINE Vector Sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
  MOXIE_INLINE Vector Mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
  MOXIE_INLINE Vector Div(Vector a, Vector b) { return _mm256_div_ps(a, b); }
  MOXIE_INLINE Vector Min(Vector a, Vector b) { return _mm256_min_ps(a, b); }
  MOXIE_INLINE Vector Max(Vector a, Vector b) { return _mm256_max_ps(a, b); }
  MOXIE_INLINE Vector MulAdd(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  MOXIE_INLINE Vector NegMulAdd(Vector a, Vector b, Vector c) { return _mm256_fnmadd_ps(a, b, c); }
  MOXIE_INLINE Vector Round(Vector v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  MOXIE_INLINE Vector TimesPowerOfTwo(Vector v, Vector n) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), exponent));
  }
  MOXIE_INLINE Vector ZeroIfLess(Vector v, Vector x, Vector limit) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, limit, _CMP_LT_OQ), v);
  }
  MOXIE_INLINE Vector KeepNaN(Vector v, Vector x) {
    return _mm256_blendv_ps(v, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  }

  MOXIE_INLINE void Transpose(Vector (&v)[8]) { Transpose8x8(v); }

  MOXIE_INLINE float HalfAt(const void* p) { return x86::HalfAt(p); }
  MOXIE_INLINE Vector FromHalf(const void* p) { return _mm256_cvtph_ps(Load128(p)); }
  MOXIE_INLINE Vector FromBfloat16(const void* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(Load128(p)), 16));
  }
  MOXIE_INLINE Vector FromInt8(const void* p) {
    const __m128i bytes = _mm_loadl_epi64(static_cast<const __m128i*>(p));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
  }

  MOXIE_INLINE float Sum(Vector v) { return SumLanes(v); }
  MOXIE_INLINE void StoreSums4(float* p, const Vector* v, float scale, int64_t n) {
    StoreUpTo4(p, _mm_mul_ps(SumLanes4(v[0], v[1], v[2], v[3]), _mm_set1_ps(scale)), n);
  }

  struct Doubles {
    __m256d lanes = _mm256_setzero_pd();
  };
  MOXIE_INLINE void AddTo(Doubles& sums, Vector v) {
    sums.lanes = _mm256_add_pd(sums.lanes, _mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    sums.lanes = _mm256_add_pd(sums.lanes, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
  }
  MOXIE_INLINE void AddSquares(Doubles& sums, Vector v) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
    sums.lanes = _mm256_fmadd_pd(high, high, _mm256_fmadd_pd(low, low, sums.lanes));
  }
  MOXIE_INLINE double Sum(Doubles sums) {
    const __m128d sum =
        _mm_add_pd(_mm256_castpd256_pd128(sums.lanes), _mm256_extractf128_pd(sums.lanes, 1));
    return _mm_cvtsd_f64(_mm_add_sd(sum, _mm_unpackhi_pd(sum, sum)));
  }
};

}  // namespace
}  // namespace moxie::avx2
