#pragma once

#include <cstddef>
#include <cstdint>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

// What the encoders compute with: vectors of float32 in g++'s and clang's common extension, so that
// +, -, *, / and comparisons work lane by lane and one source serves every width. A lane is a group
// of elements with a scale of its own, and nothing is ever added up across lanes: results are the
// same bits whatever the number of lanes, as long as each written operation is rounded once
// (-ffp-contract=off).
//
// Everything in this folder's headers for encoding has internal linkage: files with instruction-set
// flags include them (src/kernels/avx2/quantize.cc) and must define nothing that the linker could
// choose for the rest of the program.

#define MOXIE_MEMBER inline __attribute__((always_inline, unused))
#if defined(__clang__)
#define MOXIE_UNROLL_LANES _Pragma("clang loop unroll(full)")
#else
#define MOXIE_UNROLL_LANES _Pragma("GCC unroll 16")
#endif
#define MOXIE_LANES static MOXIE_MEMBER

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // All that takes vectors is inlined: no ABI is met.
#endif

namespace moxie::lanes {
namespace {

template <int count>
struct VectorOf;

#define MOXIE_VECTOR_OF(count)                                       \
  template <>                                                        \
  struct VectorOf<count> {                                           \
    typedef float Floats __attribute__((vector_size(4 * (count))));  \
    typedef int32_t Ints __attribute__((vector_size(4 * (count))));  \
    typedef int16_t Words __attribute__((vector_size(4 * (count)))); \
    typedef int8_t Bytes __attribute__((vector_size(4 * (count))));  \
  };
MOXIE_VECTOR_OF(4)
MOXIE_VECTOR_OF(8)
MOXIE_VECTOR_OF(16)
#undef MOXIE_VECTOR_OF

template <int count>
using Floats = typename VectorOf<count>::Floats;
template <int count>
using Ints = typename VectorOf<count>::Ints;  ///< of a comparison: -1 where it holds, else 0
template <int count>
using Words = typename VectorOf<count>::Words;  ///< twice as many
template <int count>
using Bytes = typename VectorOf<count>::Bytes;  ///< four times as many

template <class V, class T>
MOXIE_LANES V Load(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <class V, class T>
MOXIE_LANES void Store(T* p, V v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

template <class V>
MOXIE_LANES V Splat(float x) {
  return V{} + x;
}

template <class To, class V>
MOXIE_LANES To Bits(V v) {
  To to;
  __builtin_memcpy(&to, &v, sizeof(to));
  return to;
}

// Of two numbers; the second where one is NaN.
template <class V>
MOXIE_LANES V Min(V a, V b) {
  return a < b ? a : b;
}
template <class V>
MOXIE_LANES V Max(V a, V b) {
  return a > b ? a : b;
}
#if defined(__AVX__)  // Instructions do just that, but g++ makes two of a comparison with a
                      // constant.
MOXIE_LANES Floats<8> Min(Floats<8> a, Floats<8> b) { return _mm256_min_ps(a, b); }
MOXIE_LANES Floats<8> Max(Floats<8> a, Floats<8> b) { return _mm256_max_ps(a, b); }
#endif
#if defined(__AVX512F__)
MOXIE_LANES Floats<16> Min(Floats<16> a, Floats<16> b) { return _mm512_maskz_min_ps(0xffff, a, b); }
MOXIE_LANES Floats<16> Max(Floats<16> a, Floats<16> b) { return _mm512_maskz_max_ps(0xffff, a, b); }
#endif

template <class V>
MOXIE_LANES V Clamp(V x, float lowest, float highest) {
  return Min(Max(x, Splat<V>(lowest)), Splat<V>(highest));
}

template <class V>
MOXIE_LANES V Abs(V x) {
  return Max(x, -x);
}

/// Whether any lane of a comparison holds.
template <class I>
MOXIE_LANES bool Any(I mask) {
  int32_t any = 0;
  for (size_t k = 0; k < sizeof(I) / 4; ++k) any |= mask[k];
  return any != 0;
}

/// The greatest of all lanes.
MOXIE_LANES float Greatest(Floats<4> v) {
  const Floats<4> pairs = Max(__builtin_shufflevector(v, v, 2, 3, 0, 1), v);
  return Max(__builtin_shufflevector(pairs, pairs, 1, 0, 3, 2), pairs)[0];
}
MOXIE_LANES float Greatest(Floats<8> v) {
  return Greatest(
      Max(__builtin_shufflevector(v, v, 0, 1, 2, 3), __builtin_shufflevector(v, v, 4, 5, 6, 7)));
}

// From four bytes a lane, the first of all lanes, then the second of all, and so on.
MOXIE_LANES Bytes<4> SortBytes(Bytes<4> v) {
  return __builtin_shufflevector(v, v, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}
MOXIE_LANES Bytes<8> SortBytes(Bytes<8> v) {
  return __builtin_shufflevector(v, v, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29, 2,
                                 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
}

/// Added to a number below 2^22 in magnitude, it leaves no room for fractions: the sum is rounded
/// to the nearest integer (ties to even), which its low bits are.
constexpr float kRoundingShift = 0x1.8p23f;

/// The nearest integers (ties to even) of numbers below 2^22 in magnitude.
template <class V>
MOXIE_LANES V Round(V x) {
  return (x + kRoundingShift) - kRoundingShift;
}

/// 1 / x, or 0 for numbers too small to divide by.
template <class V>
MOXIE_LANES V SafeInverse(V x) {
  return Abs(x) > 1e-30f ? 1.0f / x : V{};
}

// ---- Integers of 16 bits -----------------------------------------------------------------------

template <class W>
using IntsOf = Ints<sizeof(W) / 4>;

// The first and the second word of each lane.
template <class W>
MOXIE_LANES IntsOf<W> FirstWords(W words) {
  return Bits<IntsOf<W>>(words) << 16 >> 16;
}
template <class W>
MOXIE_LANES IntsOf<W> SecondWords(W words) {
  return Bits<IntsOf<W>>(words) >> 16;
}

/// a * b / 2^15, rounded to nearest, half up; not of -2^15 twice.
template <class W>
MOXIE_LANES W MultiplyRounded(W a, W b) {
  const auto first = (FirstWords(a) * FirstWords(b) + 0x4000) >> 15;
  const auto second = (SecondWords(a) * SecondWords(b) + 0x4000) >> 15;
  return Bits<W>((first & 0xffff) | second << 16);
}

template <class W>
MOXIE_LANES W AddSaturated(W a, W b) {
  const auto saturated = [](IntsOf<W> sum) __attribute__((always_inline)) {
    const IntsOf<W> below = sum < 32767 ? sum : IntsOf<W>{} + 32767;
    return below > -32768 ? below : IntsOf<W>{} - 32768;
  };
  const auto first = saturated(FirstWords(a) + FirstWords(b));
  const auto second = saturated(SecondWords(a) + SecondWords(b));
  return Bits<W>((first & 0xffff) | second << 16);
}

/// sums + the products of both words of each lane.
template <class I, class W>
MOXIE_LANES I AddPairs(I sums, W a, W b) {
  return sums + FirstWords(a) * FirstWords(b) + SecondWords(a) * SecondWords(b);
}

// Instructions do just that.
#if defined(__SSE2__)
MOXIE_LANES Words<4> MultiplyRounded(Words<4> a, Words<4> b) {
  const __m128i high = _mm_mulhi_epi16(Bits<__m128i>(a), Bits<__m128i>(b));
  const __m128i low = _mm_srli_epi16(_mm_mullo_epi16(Bits<__m128i>(a), Bits<__m128i>(b)), 14);
  return Bits<Words<4>>(
      _mm_add_epi16(_mm_add_epi16(high, high), _mm_avg_epu16(low, _mm_setzero_si128())));
}
MOXIE_LANES Words<4> AddSaturated(Words<4> a, Words<4> b) {
  return Bits<Words<4>>(_mm_adds_epi16(Bits<__m128i>(a), Bits<__m128i>(b)));
}
MOXIE_LANES Ints<4> AddPairs(Ints<4> sums, Words<4> a, Words<4> b) {
  return sums + Bits<Ints<4>>(_mm_madd_epi16(Bits<__m128i>(a), Bits<__m128i>(b)));
}
#endif
#if defined(__AVX2__)
MOXIE_LANES Words<8> MultiplyRounded(Words<8> a, Words<8> b) {
  return Bits<Words<8>>(_mm256_mulhrs_epi16(Bits<__m256i>(a), Bits<__m256i>(b)));
}
MOXIE_LANES Words<8> AddSaturated(Words<8> a, Words<8> b) {
  return Bits<Words<8>>(_mm256_adds_epi16(Bits<__m256i>(a), Bits<__m256i>(b)));
}
MOXIE_LANES Ints<8> AddPairs(Ints<8> sums, Words<8> a, Words<8> b) {
  return sums + Bits<Ints<8>>(_mm256_madd_epi16(Bits<__m256i>(a), Bits<__m256i>(b)));
}
#endif
#if defined(__AVX512VNNI__)
MOXIE_LANES Words<16> MultiplyRounded(Words<16> a, Words<16> b) {
  return Bits<Words<16>>(_mm512_mulhrs_epi16(Bits<__m512i>(a), Bits<__m512i>(b)));
}
MOXIE_LANES Words<16> AddSaturated(Words<16> a, Words<16> b) {
  return Bits<Words<16>>(_mm512_adds_epi16(Bits<__m512i>(a), Bits<__m512i>(b)));
}
MOXIE_LANES Ints<16> AddPairs(Ints<16> sums, Words<16> a, Words<16> b) {
  return Bits<Ints<16>>(
      _mm512_dpwssd_epi32(Bits<__m512i>(sums), Bits<__m512i>(a), Bits<__m512i>(b)));
}
#endif

// ---- Half precision, kept as float32 -----------------------------------------------------------

constexpr float kLargestHalf = 65504.0f;
constexpr float kLeastNormalHalf = 0x1p-14f;

/// The half-precision numbers nearest to `x`, never infinite.
template <class I, class V>
MOXIE_LANES V RoundToHalf(V x) {
  const V clamped = Clamp(x, -kLargestHalf, kLargestHalf);
  const I bits = Bits<I>(clamped);
  const V normal = Bits<V>((bits + 0xfff + ((bits >> 13) & 1)) & ~0x1fff);
  // Subnormal halves are multiples of 2^-24, which is the last place of numbers near 0.5.
  const V magnitude = Abs(clamped);
  const V small = (magnitude + 0.5f) - 0.5f;
  return magnitude < kLeastNormalHalf ? (clamped < 0.0f ? -small : small) : normal;
}

/// The next half-precision numbers of greater (step 1) or smaller (step -1) magnitude than those in
/// `half`; none past zero and the greatest finite one.
template <class I, class V>
MOXIE_LANES V NeighbourHalf(V half, int step) {
  const V magnitude = Abs(half);
  const I bits = Bits<I>(magnitude) & 0x7fffffff;  // Of zero, Abs may give the negative one.
  const V next = Bits<V>(bits + step * 0x2000);
  const V small = magnitude + static_cast<float>(step) * 0x1p-24f;
  const I is_small = step > 0 ? magnitude < kLeastNormalHalf : magnitude <= kLeastNormalHalf;
  const V moved = Clamp(is_small ? small : next, 0, kLargestHalf);
  return half < 0.0f ? -moved : moved;
}

/// Like RoundToHalf but away from zero, so that the range of the codes still covers the group.
template <class I, class V>
MOXIE_LANES V RoundToHalfUp(V x) {
  const V half = RoundToHalf<I>(x);
  return Abs(half) < Abs(x) ? NeighbourHalf<I>(half, 1) : half;
}

/// The binary16 bits of half-precision numbers.
template <class I, class V>
MOXIE_LANES I HalfBits(V half) {
  const V magnitude = Abs(half);
  const I normal = (Bits<I>(magnitude) >> 13) - (112 << 10);
  const I small = __builtin_convertvector(magnitude * 0x1p24f, I);
  return ((Bits<I>(half) >> 16) & 0x8000) | (magnitude < kLeastNormalHalf ? small : normal);
}

}  // namespace
}  // namespace moxie::lanes
