#pragma once

#include "kernels/x86/vectors.h"

namespace moxie::avx512 {
namespace {

/// x86/eight_lanes.h in twice the width.
struct SixteenLanes {
  using Ints = __m512i;
  using Floats = __m512;
  static constexpr int kLanes = 16;

  MOXIE_INLINE Ints Load(const void* p) { return _mm512_loadu_si512(p); }
  MOXIE_INLINE Ints Set8(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }
  MOXIE_INLINE Ints Set32(int value) { return _mm512_set1_epi32(value); }
  MOXIE_INLINE Ints SetQuarters(__m128i bytes) { return _mm512_broadcast_i32x4(bytes); }

  MOXIE_INLINE Ints And(Ints a, Ints b) { return _mm512_and_si512(a, b); }
  MOXIE_INLINE Ints Or(Ints a, Ints b) { return _mm512_or_si512(a, b); }
  MOXIE_INLINE Ints Add8(Ints a, Ints b) { return _mm512_add_epi8(a, b); }
  MOXIE_INLINE Ints Sub32(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
  MOXIE_INLINE Ints Left16(Ints v, unsigned n) { return _mm512_slli_epi16(v, n); }
  MOXIE_INLINE Ints Right16(Ints v, unsigned n) { return _mm512_srli_epi16(v, n); }
  MOXIE_INLINE Ints Left32(Ints v, unsigned n) { return _mm512_slli_epi32(v, n); }
  MOXIE_INLINE Ints Right32(Ints v, unsigned n) { return _mm512_srli_epi32(v, n); }
  MOXIE_INLINE Ints SignedRight32(Ints v, unsigned n) { return _mm512_srai_epi32(v, n); }
  MOXIE_INLINE Ints Left32(Ints v, Ints n) { return _mm512_sllv_epi32(v, n); }
  MOXIE_INLINE Ints IfGreater32(Ints a, Ints b, Ints greater, Ints otherwise) {
    return _mm512_mask_mov_epi32(otherwise, _mm512_cmpgt_epi32_mask(a, b), greater);
  }
  MOXIE_INLINE Ints IfBit8(Ints v, Ints bit, Ints value) {
    return _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(v, bit), value);
  }
  MOXIE_INLINE Ints Shuffle8(Ints bytes, Ints places) { return _mm512_shuffle_epi8(bytes, places); }

  MOXIE_INLINE Floats ToFloats(Ints v) { return _mm512_cvtepi32_ps(v); }
  MOXIE_INLINE Floats AsFloats(Ints v) { return _mm512_castsi512_ps(v); }
  MOXIE_INLINE Floats Mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  MOXIE_INLINE Floats Negate(Floats v) { return _mm512_sub_ps(_mm512_setzero_ps(), v); }

  MOXIE_INLINE Floats HalvesAt(const void* p) { return _mm512_cvtph_ps(x86::Load256(p)); }
  MOXIE_INLINE Ints WordsAt(const void* p) { return _mm512_cvtepu16_epi32(x86::Load256(p)); }
  MOXIE_INLINE Ints BytesAt(const void* p) { return _mm512_cvtepu8_epi32(x86::Load128(p)); }
};

}  // namespace
}  // namespace moxie::avx512
