#include <immintrin.h>

#include "kernels/avx2/avx2.h"
#include "kernels/avx2/vectors.h"

namespace moxie::avx2 {
namespace {

constexpr float kLowestExponent = -87.0f;  // exp is a normal number from here on
constexpr float kHighestExponent = 88.0f;

/// exp(x) within 2 units in the last place for x in [-87, 88]; 0 below, exp(88) above; NaN stays.
/// x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts so that r is exact to float32, and the
/// Taylor polynomial of degree 7, which errs by r^8 / 8! < 6e-9 of the result.
MOXIE_INLINE __m256 Exp(__m256 x) {
  const __m256 lowest = _mm256_set1_ps(kLowestExponent);
  // The second operand of min and max is the result where one is NaN.
  const __m256 bounded = _mm256_min_ps(_mm256_set1_ps(kHighestExponent), _mm256_max_ps(lowest, x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(bounded, _mm256_set1_ps(0x1.715476p+0f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), bounded);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
  __m256 poly = _mm256_set1_ps(1.0f / 5040);
  poly = _mm256_fmadd_ps(poly, r, _mm256_set1_ps(1.0f / 720));
  poly = _mm256_fmadd_ps(poly, r, _mm256_set1_ps(1.0f / 120));
  poly = _mm256_fmadd_ps(poly, r, _mm256_set1_ps(1.0f / 24));
  poly = _mm256_fmadd_ps(poly, r, _mm256_set1_ps(1.0f / 6));
  poly = _mm256_fmadd_ps(poly, r, _mm256_set1_ps(0.5f));
  poly = _mm256_fmadd_ps(poly, r, _mm256_set1_ps(1.0f));
  poly = _mm256_fmadd_ps(poly, r, _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  const __m256 power = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(poly), exponent));
  const __m256 is_below = _mm256_cmp_ps(x, lowest, _CMP_LT_OQ);
  const __m256 is_nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  return _mm256_blendv_ps(_mm256_andnot_ps(is_below, power), x, is_nan);
}

/// a / (1 + exp(-a)) * b
MOXIE_INLINE __m256 SiluTimes(__m256 a, __m256 b) {
  const __m256 e = Exp(_mm256_sub_ps(_mm256_setzero_ps(), a));
  return _mm256_mul_ps(_mm256_div_ps(a, _mm256_add_ps(_mm256_set1_ps(1.0f), e)), b);
}

MOXIE_INLINE __m256d SumOfSquares(__m256d sum, __m256 x) {
  const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x));
  const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
  return _mm256_fmadd_pd(high, high, _mm256_fmadd_pd(low, low, sum));
}

MOXIE_INLINE double SumLanes(__m256d v) {
  const __m128d sum = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(sum, _mm_unpackhi_pd(sum, sum)));
}

}  // namespace

void RmsNorm(const float* x, const float* scale, int64_t n, float eps, float* out) {
  __m256d sums = _mm256_setzero_pd();
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) sums = SumOfSquares(sums, _mm256_loadu_ps(x + i));
  if (i < n) sums = SumOfSquares(sums, _mm256_maskload_ps(x + i, TailMask(n - i)));
  const double mean = SumLanes(sums) / static_cast<double>(n);
  const __m128d root = _mm_sqrt_sd(_mm_setzero_pd(), _mm_set_sd(mean + static_cast<double>(eps)));
  const auto inverse = static_cast<float>(1.0 / _mm_cvtsd_f64(root));
  const __m256 factor = _mm256_set1_ps(inverse);
  for (i = 0; i + 8 <= n; i += 8) {
    const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i), factor);
    _mm256_storeu_ps(out + i, _mm256_mul_ps(scaled, _mm256_loadu_ps(scale + i)));
  }
  for (; i < n; ++i) out[i] = x[i] * inverse * scale[i];
}

float ExpMinusMax(float* x, int64_t n, float max) {
  const __m256 shift = _mm256_set1_ps(max);
  __m256d sums = _mm256_setzero_pd();
  for (int64_t i = 0; i < n; i += 8) {
    const __m256i mask = TailMask(Min(8, n - i));
    const __m256 v = _mm256_maskload_ps(x + i, mask);
    const __m256 e = _mm256_and_ps(Exp(_mm256_sub_ps(v, shift)), _mm256_castsi256_ps(mask));
    _mm256_maskstore_ps(x + i, mask, e);
    sums = _mm256_add_pd(sums, _mm256_cvtps_pd(_mm256_castps256_ps128(e)));
    sums = _mm256_add_pd(sums, _mm256_cvtps_pd(_mm256_extractf128_ps(e, 1)));
  }
  return static_cast<float>(SumLanes(sums));
}

void SiluMultiply(float* gate, const float* up, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(gate + i, SiluTimes(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
  }
  if (i == n) return;
  const __m256i mask = TailMask(n - i);
  const __m256 last =
      SiluTimes(_mm256_maskload_ps(gate + i, mask), _mm256_maskload_ps(up + i, mask));
  _mm256_maskstore_ps(gate + i, mask, last);
}

void AddScaled(float a, const float* x, int64_t n, float* y) {
  const __m256 factor = _mm256_set1_ps(a);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(y + i,
                     _mm256_fmadd_ps(factor, _mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
  }
  if (i == n) return;
  const __m256i mask = TailMask(n - i);
  const __m256 sum =
      _mm256_fmadd_ps(factor, _mm256_maskload_ps(x + i, mask), _mm256_maskload_ps(y + i, mask));
  _mm256_maskstore_ps(y + i, mask, sum);
}

}  // namespace moxie::avx2
