#pragma once

#include "kernels/lanes/floats.h"
#include "kernels/x86/vectors.h"

namespace moxie::avx512 {
namespace {

/// Lanes [0, n) of 16, n in [0, 16].
MOXIE_INLINE __mmask16 FirstLanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

/// The vector of floats of lanes/floats.h.
struct Floats {
  using Vector = __m512;
  static constexpr int64_t kLanes = 16;

  MOXIE_INLINE Vector InRegister(Vector v) { return x86::InRegister(v); }
  MOXIE_INLINE Vector Zero() { return _mm512_setzero_ps(); }
  MOXIE_INLINE Vector Set(float x) { return _mm512_set1_ps(x); }
  MOXIE_INLINE Vector Load(const float* p) { return _mm512_loadu_ps(p); }
  MOXIE_INLINE Vector LoadFirst(const float* p, int64_t n) {
    return _mm512_maskz_loadu_ps(FirstLanes(n), p);
  }
  MOXIE_INLINE void Store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
  MOXIE_INLINE void StoreFirst(float* p, Vector v, int64_t n) {
    _mm512_mask_storeu_ps(p, FirstLanes(n), v);
  }

  MOXIE_INLINE Vector Add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  MOXIE_INLINE Vector Sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
  MOXIE_INLINE Vector Mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
  MOXIE_INLINE Vector Div(Vector a, Vector b) { return _mm512_div_ps(a, b); }
  MOXIE_INLINE Vector Min(Vector a, Vector b) { return _mm512_min_ps(a, b); }
  MOXIE_INLINE Vector Max(Vector a, Vector b) { return _mm512_max_ps(a, b); }
  MOXIE_INLINE Vector MulAdd(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  MOXIE_INLINE Vector NegMulAdd(Vector a, Vector b, Vector c) { return _mm512_fnmadd_ps(a, b, c); }
  MOXIE_INLINE Vector Round(Vector v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  MOXIE_INLINE Vector TimesPowerOfTwo(Vector v, Vector n) { return _mm512_scalef_ps(v, n); }
  MOXIE_INLINE Vector ZeroIfLess(Vector v, Vector x, Vector limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), v);
  }
  MOXIE_INLINE Vector KeepNaN(Vector v, Vector x) {
    return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
  }

  MOXIE_INLINE void Transpose(Vector (&v)[16]) {
    // Within each 128 bits of each four rows, then the quarters of the four fours.
    Vector rows[16];
    MOXIE_UNROLL
    for (int i = 0; i < 16; i += 4) {
      const Vector low01 = _mm512_unpacklo_ps(v[i], v[i + 1]);
      const Vector high01 = _mm512_unpackhi_ps(v[i], v[i + 1]);
      const Vector low23 = _mm512_unpacklo_ps(v[i + 2], v[i + 3]);
      const Vector high23 = _mm512_unpackhi_ps(v[i + 2], v[i + 3]);
      rows[i] = _mm512_shuffle_ps(low01, low23, 0x44);
      rows[i + 1] = _mm512_shuffle_ps(low01, low23, 0xee);
      rows[i + 2] = _mm512_shuffle_ps(high01, high23, 0x44);
      rows[i + 3] = _mm512_shuffle_ps(high01, high23, 0xee);
    }
    MOXIE_UNROLL
    for (int k = 0; k < 4; ++k) {  // rows[4 f + k] has elements k, 4 + k, 8 + k, 12 + k of four f.
      const Vector even01 = _mm512_shuffle_f32x4(rows[k], rows[4 + k], 0x88);
      const Vector odd01 = _mm512_shuffle_f32x4(rows[k], rows[4 + k], 0xdd);
      const Vector even23 = _mm512_shuffle_f32x4(rows[8 + k], rows[12 + k], 0x88);
      const Vector odd23 = _mm512_shuffle_f32x4(rows[8 + k], rows[12 + k], 0xdd);
      v[k] = _mm512_shuffle_f32x4(even01, even23, 0x88);
      v[8 + k] = _mm512_shuffle_f32x4(even01, even23, 0xdd);
      v[4 + k] = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
      v[12 + k] = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
    }
  }

  MOXIE_INLINE float HalfAt(const void* p) { return x86::HalfAt(p); }
  MOXIE_INLINE Vector FromHalf(const void* p) { return _mm512_cvtph_ps(x86::Load256(p)); }
  MOXIE_INLINE Vector FromBfloat16(const void* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x86::Load256(p)), 16));
  }
  MOXIE_INLINE Vector FromInt8(const void* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x86::Load128(p)));
  }

  MOXIE_INLINE __m256 AddHalves(Vector v) {
    return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  }
  MOXIE_INLINE float Sum(Vector v) { return x86::SumLanes(AddHalves(v)); }
  MOXIE_INLINE void StoreSums4(float* p, const Vector* v, float scale, int64_t n) {
    const __m128 sums =
        x86::SumLanes4(AddHalves(v[0]), AddHalves(v[1]), AddHalves(v[2]), AddHalves(v[3]));
    x86::StoreUpTo4(p, _mm_mul_ps(sums, _mm_set1_ps(scale)), n);
  }

  struct Doubles {
    __m512d lanes = _mm512_setzero_pd();
  };
  MOXIE_INLINE void AddTo(Doubles& sums, Vector v) {
    sums.lanes = _mm512_add_pd(sums.lanes, _mm512_cvtps_pd(_mm512_castps512_ps256(v)));
    sums.lanes = _mm512_add_pd(sums.lanes, _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
  }
  MOXIE_INLINE void AddSquares(Doubles& sums, Vector v) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    sums.lanes = _mm512_fmadd_pd(high, high, _mm512_fmadd_pd(low, low, sums.lanes));
  }
  MOXIE_INLINE double Sum(Doubles sums) {
    const __m256d four =
        _mm256_add_pd(_mm512_castpd512_pd256(sums.lanes), _mm512_extractf64x4_pd(sums.lanes, 1));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
};

}  // namespace
}  // namespace moxie::avx512
