#pragma once

#include "kernels/x86/vectors.h"

namespace moxie::x86 {
namespace {

/// A vector of eight 32-bit lanes, for code that serves several widths (row_groups.h). Functions
/// are named by the width of what they act on.
struct EightLanes {
  using Ints = __m256i;
  using Floats = __m256;
  static constexpr int kLanes = 8;

  MOXIE_INLINE Ints Load(const void* p) { return Load256(p); }
  MOXIE_INLINE Ints Set8(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }
  MOXIE_INLINE Ints Set32(int value) { return _mm256_set1_epi32(value); }
  /// The same 16 bytes in every 128 bits.
  MOXIE_INLINE Ints SetQuarters(__m128i bytes) { return _mm256_broadcastsi128_si256(bytes); }

  MOXIE_INLINE Ints And(Ints a, Ints b) { return _mm256_and_si256(a, b); }
  MOXIE_INLINE Ints Or(Ints a, Ints b) { return _mm256_or_si256(a, b); }
  MOXIE_INLINE Ints Add8(Ints a, Ints b) { return _mm256_add_epi8(a, b); }
  MOXIE_INLINE Ints Sub32(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
  MOXIE_INLINE Ints Left16(Ints v, int n) { return _mm256_slli_epi16(v, n); }
  MOXIE_INLINE Ints Right16(Ints v, int n) { return _mm256_srli_epi16(v, n); }
  MOXIE_INLINE Ints Left32(Ints v, int n) { return _mm256_slli_epi32(v, n); }
  MOXIE_INLINE Ints Right32(Ints v, int n) { return _mm256_srli_epi32(v, n); }
  MOXIE_INLINE Ints SignedRight32(Ints v, int n) { return _mm256_srai_epi32(v, n); }
  MOXIE_INLINE Ints Left32(Ints v, Ints n) { return _mm256_sllv_epi32(v, n); }
  /// a > b ? greater : otherwise
  MOXIE_INLINE Ints IfGreater32(Ints a, Ints b, Ints greater, Ints otherwise) {
    return _mm256_blendv_epi8(otherwise, greater, _mm256_cmpgt_epi32(a, b));
  }
  /// `value` where a byte has its only bit of `bit`, else 0.
  MOXIE_INLINE Ints IfBit8(Ints v, Ints bit, Ints value) {
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(v, bit), bit), value);
  }
  /// Of each 128 bits, the bytes that `places` name.
  MOXIE_INLINE Ints Shuffle8(Ints bytes, Ints places) { return _mm256_shuffle_epi8(bytes, places); }

  MOXIE_INLINE Floats ToFloats(Ints v) { return _mm256_cvtepi32_ps(v); }
  MOXIE_INLINE Floats AsFloats(Ints v) { return _mm256_castsi256_ps(v); }
  MOXIE_INLINE Floats Mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  MOXIE_INLINE Floats Negate(Floats v) { return _mm256_sub_ps(_mm256_setzero_ps(), v); }

  // kLanes of them from `p` on.
  MOXIE_INLINE Floats HalvesAt(const void* p) { return _mm256_cvtph_ps(Load128(p)); }
  MOXIE_INLINE Ints WordsAt(const void* p) { return _mm256_cvtepu16_epi32(Load128(p)); }
  MOXIE_INLINE Ints BytesAt(const void* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  }
};

}  // namespace
}  // namespace moxie::x86
