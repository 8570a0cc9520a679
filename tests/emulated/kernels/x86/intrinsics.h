#pragma once

// What src/kernels/x86/intrinsics.h offers, for processors without the instructions: SIMDe's
// emulation, that of tiles (tiles.h), and below what SIMDe 0.7.4 lacks or rounds twice.
// kernels_emulated_test finds this file before that one.

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#include <cstdint>
#include <cstring>

#include "kernels/x86/tiles.h"

namespace moxie::x86 {

template <class Vector>
static inline Vector InRegister(Vector v) {  // Nothing to win here.
  return v;
}

}  // namespace moxie::x86

namespace moxie::emulated {
namespace {

/// A vector's lanes as an array.
template <class T, int n>
struct Lanes {
  T at[n];
};

template <class T, class Vector>
[[maybe_unused]] auto LanesOf(const Vector& v) {
  Lanes<T, sizeof(Vector) / sizeof(T)> lanes;
  std::memcpy(&lanes, &v, sizeof(v));
  return lanes;
}

template <class Vector, class T, int n>
[[maybe_unused]] Vector VectorOf(const Lanes<T, n>& lanes) {
  static_assert(sizeof(Vector) == sizeof(lanes));
  Vector v;
  std::memcpy(&v, &lanes, sizeof(v));
  return v;
}

/// The vector of f(lane) for the first lanes of `v`, as many as the result has.
template <class Result, class To, class From, class Vector, class F>
[[maybe_unused]] Result Map(const Vector& v, F f) {
  const auto in = LanesOf<From>(v);
  Lanes<To, sizeof(Result) / sizeof(To)> out;
  for (size_t i = 0; i < sizeof(Result) / sizeof(To); ++i) out.at[i] = static_cast<To>(f(in.at[i]));
  return VectorOf<Result>(out);
}

/// sign * a * b + c. The product is exact in float64; the sum's rounding to float64 before the one
/// to float32 moves a result by at most 2^-29 of a unit in the last place more than one rounding.
template <class Vector>
[[maybe_unused]] Vector MultiplyAdd(const Vector& a, const Vector& b, const Vector& c,
                                    double sign) {
  const auto x = LanesOf<float>(a);
  const auto y = LanesOf<float>(b);
  auto z = LanesOf<float>(c);
  for (size_t i = 0; i < sizeof(Vector) / sizeof(float); ++i) {
    z.at[i] =
        static_cast<float>(sign * static_cast<double>(x.at[i]) * static_cast<double>(y.at[i]) +
                           static_cast<double>(z.at[i]));
  }
  return VectorOf<Vector>(z);
}

}  // namespace
}  // namespace moxie::emulated

#undef _mm256_fmadd_ps
#undef _mm256_fmsub_ps
#undef _mm256_fnmadd_ps
#undef _mm512_fmadd_ps
#undef _mm512_fnmadd_ps
#undef _mm512_cvtepi32_epi16
#undef _mm512_cvtepi32_epi8
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepu8_epi32
#undef _mm512_cvtph_ps
#undef _mm512_cvtps_epi32
#undef _mm512_cvtps_pd
#undef _mm512_extractf32x8_ps
#undef _mm512_mask_storeu_ps
#undef _mm512_maskz_loadu_ps
#undef _mm512_shuffle_epi32
#undef _mm512_shuffle_f32x4
#undef _mm512_shuffle_i64x2
#undef _mm512_srai_epi32

using __mmask16 = uint16_t;
#define __m512bh __m512i  // Of which only casts speak.
enum _MM_PERM_ENUM : int {};

#define _mm512_shuffle_i64x2(a, b, order) _mm512_shuffle_i32x4(a, b, order)
#define _mm512_shuffle_f32x4(a, b, order) \
  _mm512_castsi512_ps(_mm512_shuffle_i32x4(_mm512_castps_si512(a), _mm512_castps_si512(b), order))

#ifndef _MM_FROUND_NO_EXC
#define _MM_FROUND_NO_EXC SIMDE_MM_FROUND_NO_EXC
#endif

#define MOXIE_EMULATED [[maybe_unused]] static inline

MOXIE_EMULATED __m256 _mm256_fmadd_ps(__m256 a, __m256 b, __m256 c) {
  return moxie::emulated::MultiplyAdd(a, b, c, 1);
}
MOXIE_EMULATED __m256 _mm256_fmsub_ps(__m256 a, __m256 b, __m256 c) {
  return moxie::emulated::MultiplyAdd(a, b, _mm256_sub_ps(_mm256_setzero_ps(), c), 1);
}
MOXIE_EMULATED __m256 _mm256_fnmadd_ps(__m256 a, __m256 b, __m256 c) {
  return moxie::emulated::MultiplyAdd(a, b, c, -1);
}
MOXIE_EMULATED __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  return moxie::emulated::MultiplyAdd(a, b, c, 1);
}
MOXIE_EMULATED __m512 _mm512_fnmadd_ps(__m512 a, __m512 b, __m512 c) {
  return moxie::emulated::MultiplyAdd(a, b, c, -1);
}

MOXIE_EMULATED __m128i _mm512_cvtepi32_epi8(__m512i v) {
  return moxie::emulated::Map<__m128i, int8_t, int32_t>(v, [](int32_t x) { return x; });
}
MOXIE_EMULATED __m256i _mm512_cvtepi32_epi16(__m512i v) {
  return moxie::emulated::Map<__m256i, int16_t, int32_t>(v, [](int32_t x) { return x; });
}
MOXIE_EMULATED __m512 _mm512_cvtepi32_ps(__m512i v) {
  return moxie::emulated::Map<__m512, float, int32_t>(v, [](int32_t x) { return x; });
}
MOXIE_EMULATED __m512i _mm512_cvtepi8_epi32(__m128i v) {
  return moxie::emulated::Map<__m512i, int32_t, int8_t>(v, [](int8_t x) { return x; });
}
MOXIE_EMULATED __m512i _mm512_cvtepu8_epi16(__m256i v) {
  return moxie::emulated::Map<__m512i, uint16_t, uint8_t>(v, [](uint8_t x) { return x; });
}
MOXIE_EMULATED __m512i _mm512_cvtepu8_epi32(__m128i v) {
  return moxie::emulated::Map<__m512i, int32_t, uint8_t>(v, [](uint8_t x) { return x; });
}
MOXIE_EMULATED __m512i _mm512_cvtepu16_epi32(__m256i v) {
  return moxie::emulated::Map<__m512i, int32_t, uint16_t>(v, [](uint16_t x) { return x; });
}
MOXIE_EMULATED __m512 _mm512_cvtph_ps(__m256i v) {
  return moxie::emulated::Map<__m512, float, uint16_t>(
      v, [](uint16_t x) { return simde_float16_to_float32(simde_uint16_as_float16(x)); });
}
MOXIE_EMULATED __m512i _mm512_cvtps_epi32(__m512 v) {
  return moxie::emulated::Map<__m512i, int32_t, float>(
      v, [](float x) { return _mm_cvtss_si32(_mm_set_ss(x)); });
}
MOXIE_EMULATED __m512d _mm512_cvtps_pd(__m256 v) {
  return moxie::emulated::Map<__m512d, double, float>(v, [](float x) { return x; });
}
MOXIE_EMULATED __m512i _mm512_srai_epi32(__m512i v, int count) {
  return moxie::emulated::Map<__m512i, int32_t, int32_t>(v, [=](int32_t x) { return x >> count; });
}
MOXIE_EMULATED __m256 _mm512_extractf32x8_ps(__m512 v, int half) {
  __m256 result;
  std::memcpy(&result, reinterpret_cast<const char*>(&v) + 32 * half, 32);
  return result;
}
MOXIE_EMULATED __m512i _mm512_shuffle_epi32(__m512i v, _MM_PERM_ENUM order) {
  const auto in = moxie::emulated::LanesOf<int32_t>(v);
  auto out = in;
  for (int i = 0; i < 16; ++i) out.at[i] = in.at[i / 4 * 4 + ((order >> (2 * (i % 4))) & 3)];
  return moxie::emulated::VectorOf<__m512i>(out);
}
MOXIE_EMULATED __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const void* p) {
  moxie::emulated::Lanes<float, 16> lanes = {};
  for (int i = 0; i < 16; ++i) {
    if ((mask >> i & 1) != 0) lanes.at[i] = static_cast<const float*>(p)[i];
  }
  return moxie::emulated::VectorOf<__m512>(lanes);
}
MOXIE_EMULATED void _mm512_mask_storeu_ps(void* p, __mmask16 mask, __m512 v) {
  const auto lanes = moxie::emulated::LanesOf<float>(v);
  for (int i = 0; i < 16; ++i) {
    if ((mask >> i & 1) != 0) static_cast<float*>(p)[i] = lanes.at[i];
  }
}
/// bfloat16 numbers, to nearest even; subnormals become zeros. `low` is the second argument.
MOXIE_EMULATED __m512i _mm512_cvtne2ps_pbh(__m512 high, __m512 low) {
  const auto round = [](float x) -> uint16_t {
    uint32_t bits = 0;
    std::memcpy(&bits, &x, 4);
    const uint32_t exponent = bits & 0x7f800000u;
    if (exponent == 0) return static_cast<uint16_t>(bits >> 16 & 0x8000u);
    if (exponent == 0x7f800000u && (bits & 0x7fffffu) != 0)
      return static_cast<uint16_t>(bits >> 16 | 0x40u);
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
  };
  const auto first = moxie::emulated::LanesOf<float>(low);
  const auto second = moxie::emulated::LanesOf<float>(high);
  moxie::emulated::Lanes<uint16_t, 32> out;
  for (int i = 0; i < 16; ++i) out.at[i] = round(first.at[i]), out.at[16 + i] = round(second.at[i]);
  return moxie::emulated::VectorOf<__m512i>(out);
}

/// The odd numbers' products first, each rounded as a sum of float64 (vdpbf16ps: subnormals are
/// zeros).
MOXIE_EMULATED __m512 _mm512_dpbf16_ps(__m512 sums, __m512i a, __m512i b) {
  const auto number = [](uint32_t bits) {
    if ((bits & 0x7f800000u) == 0) bits &= 0x80000000u;
    float x = 0;
    std::memcpy(&x, &bits, 4);
    return static_cast<double>(x);
  };
  const auto x = moxie::emulated::LanesOf<uint32_t>(a), y = moxie::emulated::LanesOf<uint32_t>(b);
  auto out = moxie::emulated::LanesOf<float>(sums);
  for (int i = 0; i < 16; ++i) {
    const double odd = number(x.at[i] & 0xffff0000u) * number(y.at[i] & 0xffff0000u);
    const double even = number(x.at[i] << 16) * number(y.at[i] << 16);
    const auto sum = static_cast<float>(static_cast<double>(out.at[i]) + odd);
    out.at[i] = static_cast<float>(static_cast<double>(sum) + even);
  }
  return moxie::emulated::VectorOf<__m512>(out);
}

#undef MOXIE_EMULATED
