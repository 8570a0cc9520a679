#pragma once

#include <cstdint>

#include "kernels/lanes/floats.h"

// KernelSet's norms and activations.

namespace moxie::lanes {
namespace {

constexpr float kLowestExponent = -87.0f;  // exp is a normal number from here on
constexpr float kHighestExponent = 88.0f;

/// exp(x) within 2 units in the last place for x in [-87, 88]; 0 below, exp(88) above; NaN stays.
/// x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts so that r is exact to float32, and the
/// Taylor polynomial of degree 7, which errs by r^8 / 8! < 6e-9 of the result.
template <class F>
MOXIE_INLINE typename F::Vector Exp(typename F::Vector x) {
  using Vector = typename F::Vector;
  const Vector lowest = F::Set(kLowestExponent);
  const Vector bounded = F::Min(F::Set(kHighestExponent), F::Max(lowest, x));
  const Vector n = F::Round(F::Mul(bounded, F::Set(0x1.715476p+0f)));
  Vector r = F::NegMulAdd(n, F::Set(0x1.62e4p-1f), bounded);
  r = F::NegMulAdd(n, F::Set(0x1.7f7d1cp-20f), r);
  Vector poly = F::Set(1.0f / 5040);
  poly = F::MulAdd(poly, r, F::Set(1.0f / 720));
  poly = F::MulAdd(poly, r, F::Set(1.0f / 120));
  poly = F::MulAdd(poly, r, F::Set(1.0f / 24));
  poly = F::MulAdd(poly, r, F::Set(1.0f / 6));
  poly = F::MulAdd(poly, r, F::Set(0.5f));
  poly = F::MulAdd(poly, r, F::Set(1.0f));
  poly = F::MulAdd(poly, r, F::Set(1.0f));
  return F::KeepNaN(F::ZeroIfLess(F::TimesPowerOfTwo(poly, n), x, lowest), x);
}

constexpr float kLog2OfE = 0x1.715476p+0f;
constexpr float kLogOf2 = 0x1.62e43p-1f;

/// 2^x within 3 * 2^-24 of itself for x in [-126, 0]. Below, 2^-126; NaN stays. The polynomial has
/// the least relative error on [-1/2, 1/2] of those that are 1 at 0: 1.1e-7.
template <class F>
MOXIE_INLINE typename F::Vector PowerOfTwo(typename F::Vector x) {
  using Vector = typename F::Vector;
  const Vector bounded = F::Max(F::Set(-126), x);
  const Vector n = F::Round(bounded);
  const Vector r = F::Sub(bounded, n);
  Vector p = F::Set(0x1.5bba14p-10f);
  p = F::MulAdd(p, r, F::Set(0x1.3cea88p-7f));
  p = F::MulAdd(p, r, F::Set(0x1.c6b752p-5f));
  p = F::MulAdd(p, r, F::Set(0x1.ebf9bcp-3f));
  p = F::MulAdd(p, r, F::Set(0x1.62e42ap-1f));
  p = F::MulAdd(p, r, F::Set(1));
  return F::TimesPowerOfTwo(p, n);
}

/// a / (1 + exp(-a)) * b
template <class F>
MOXIE_INLINE typename F::Vector SiluTimes(typename F::Vector a, typename F::Vector b) {
  const typename F::Vector e = Exp<F>(F::Sub(F::Zero(), a));
  return F::Mul(F::Div(a, F::Add(F::Set(1.0f), e)), b);
}

template <class F>
MOXIE_INLINE void RmsNorm(const float* x, const float* scale, int64_t n, float eps, float* out) {
  typename F::Doubles sums = {};
  for (int64_t i = 0; i < n; i += F::kLanes) F::AddSquares(sums, LoadUpTo<F>(x + i, n - i));
  const double mean = F::Sum(sums) / static_cast<double>(n);
  const auto inverse = static_cast<float>(1.0 / __builtin_sqrt(mean + static_cast<double>(eps)));
  for (int64_t i = 0; i < n; i += F::kLanes) {
    const typename F::Vector scaled = F::Mul(LoadUpTo<F>(x + i, n - i), F::Set(inverse));
    StoreUpTo<F>(out + i, F::Mul(scaled, LoadUpTo<F>(scale + i, n - i)), n - i);
  }
}

template <class F>
MOXIE_INLINE float ExpMinusMax(float* x, int64_t n, float max) {
  const typename F::Vector shift = F::Set(max);
  typename F::Doubles sums = {};
  for (int64_t i = 0; i < n; i += F::kLanes) {
    typename F::Vector e = Exp<F>(F::Sub(LoadUpTo<F>(x + i, n - i), shift));
    StoreUpTo<F>(x + i, e, n - i);
    if (n - i < F::kLanes) e = F::LoadFirst(x + i, n - i);  // The other lanes do not count.
    F::AddTo(sums, e);
  }
  return static_cast<float>(F::Sum(sums));
}

template <class F>
MOXIE_INLINE void SiluMultiply(float* gate, const float* up, int64_t n) {
  for (int64_t i = 0; i < n; i += F::kLanes) {
    const typename F::Vector a = LoadUpTo<F>(gate + i, n - i);
    StoreUpTo<F>(gate + i, SiluTimes<F>(a, LoadUpTo<F>(up + i, n - i)), n - i);
  }
}

template <class F>
MOXIE_INLINE void AddScaled(float a, const float* x, int64_t n, float* y) {
  const typename F::Vector factor = F::Set(a);
  for (int64_t i = 0; i < n; i += F::kLanes) {
    const typename F::Vector sum =
        F::MulAdd(factor, LoadUpTo<F>(x + i, n - i), LoadUpTo<F>(y + i, n - i));
    StoreUpTo<F>(y + i, sum, n - i);
  }
}

}  // namespace
}  // namespace moxie::lanes
