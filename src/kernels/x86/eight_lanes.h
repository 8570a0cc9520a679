#pragma once

#include "kernels/x86/vectors.h"

namespace moxie::x86 {
namespace {

/// A vector of eight 32-bit lanes, for code that serves several widths (row_groups.h) and for the
/// formats (lanes/unpack.h). Functions are named by the width of what they act on.
struct EightLanes {
  using Ints = __m256i;
  using Floats = __m256;
  static constexpr int kLanes = 8;

  MOXIE_INLINE Ints Load(const void* p) { return Load256(p); }
  MOXIE_INLINE Ints Set8(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }
  MOXIE_INLINE Ints Set32(int value) { return _mm256_set1_epi32(value); }
  MOXIE_INLINE Ints Set16(int value) { return _mm256_set1_epi16(static_cast<int16_t>(value)); }
  // Each lane its own. Unlike a vector that is loaded, they need not have been stored before.
  MOXIE_INLINE Ints Set64(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    return _mm256_setr_epi64x(static_cast<int64_t>(a), static_cast<int64_t>(b),
                              static_cast<int64_t>(c), static_cast<int64_t>(d));
  }
  MOXIE_INLINE Ints Set32(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t f,
                          uint32_t g, uint32_t h) {
    return _mm256_setr_epi32(static_cast<int>(a), static_cast<int>(b), static_cast<int>(c),
                             static_cast<int>(d), static_cast<int>(e), static_cast<int>(f),
                             static_cast<int>(g), static_cast<int>(h));
  }
  /// The same 16 bytes in every 128 bits.
  MOXIE_INLINE Ints SetQuarters(__m128i bytes) { return _mm256_broadcastsi128_si256(bytes); }

  MOXIE_INLINE Ints And(Ints a, Ints b) { return _mm256_and_si256(a, b); }
  MOXIE_INLINE Ints Or(Ints a, Ints b) { return _mm256_or_si256(a, b); }
  MOXIE_INLINE Ints Xor(Ints a, Ints b) { return _mm256_xor_si256(a, b); }
  MOXIE_INLINE Ints Add8(Ints a, Ints b) { return _mm256_add_epi8(a, b); }
  MOXIE_INLINE Ints Sub8(Ints a, Ints b) { return _mm256_sub_epi8(a, b); }
  MOXIE_INLINE Ints Sub32(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
  MOXIE_INLINE Ints Mul16(Ints a, Ints b) { return _mm256_mullo_epi16(a, b); }
  MOXIE_INLINE Ints Left16(Ints v, int n) { return _mm256_slli_epi16(v, n); }
  MOXIE_INLINE Ints Right16(Ints v, int n) { return _mm256_srli_epi16(v, n); }
  MOXIE_INLINE Ints Left32(Ints v, int n) { return _mm256_slli_epi32(v, n); }
  MOXIE_INLINE Ints Right32(Ints v, int n) { return _mm256_srli_epi32(v, n); }
  MOXIE_INLINE Ints SignedRight32(Ints v, int n) { return _mm256_srai_epi32(v, n); }
  MOXIE_INLINE Ints Left32(Ints v, Ints n) { return _mm256_sllv_epi32(v, n); }
  MOXIE_INLINE Ints Right32(Ints v, Ints n) { return _mm256_srlv_epi32(v, n); }
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
  MOXIE_INLINE Floats SetFloats(float value) { return _mm256_set1_ps(value); }
  MOXIE_INLINE Floats Add(Floats a, Floats b) { return _mm256_add_ps(a, b); }

  // kLanes of them from `p` on.
  MOXIE_INLINE Floats HalvesAt(const void* p) { return _mm256_cvtph_ps(Load128(p)); }
  MOXIE_INLINE Ints WordsAt(const void* p) { return _mm256_cvtepu16_epi32(Load128(p)); }
  MOXIE_INLINE Ints BytesAt(const void* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  }

  // What only the formats take.

  /// 16 bytes' low nibbles, then their high ones, as bytes.
  MOXIE_INLINE Ints Nibbles(const void* p) {
    const __m128i packed = Load128(p);
    const __m256i both = _mm256_set_m128i(_mm_srli_epi16(packed, 4), packed);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
  }
  /// Bit i of `bits`, for i < 32, as byte i: 0 or -1.
  MOXIE_INLINE Ints MasksOfBits(uint32_t bits) {
    const __m256i spread =
        _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)),
                            _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2,
                                             2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3));
    const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201ull));
    return _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
  }
  /// Of the 16 bytes at `table`, those in the places `codes`.
  MOXIE_INLINE Ints LookUp(const void* table, Ints codes) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(Load128(table)), codes);
  }
  /// 16 bytes, each in 16 bits; and such of up to 8 bits as bytes, those of `a` first.
  MOXIE_INLINE Ints Bytes16At(const void* p) { return _mm256_cvtepu8_epi16(Load128(p)); }
  MOXIE_INLINE Ints WordsToBytes(Ints a, Ints b) {
    return _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8);
  }
  /// Eight bytes, unsigned or signed, each in 32 bits.
  MOXIE_INLINE Ints FromBytes(uint64_t bytes) {
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes)));
  }
  MOXIE_INLINE Ints FromSignedBytes(uint64_t bytes) {
    return _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes)));
  }
  /// 0, n, 2 n ...
  template <int n>
  MOXIE_INLINE Ints Multiples() {
    return _mm256_setr_epi32(0, n, 2 * n, 3 * n, 4 * n, 5 * n, 6 * n, 7 * n);
  }
  /// Eight bytes, with bit k of `high` as the ninth bit of byte k, each in 16 bits.
  MOXIE_INLINE void WithNinthBits(const void* p, uint32_t high, uint64_t (&words)[2]) {
    const __m128i low = _mm_cvtepu8_epi16(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
    const __m128i bits = _mm_and_si128(_mm_set1_epi16(static_cast<int16_t>(high)),
                                       _mm_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128));
    const __m128i ninth = _mm_mullo_epi16(bits, _mm_setr_epi16(256, 128, 64, 32, 16, 8, 4, 2));
    const __m128i all = _mm_or_si128(low, ninth);
    words[0] = static_cast<uint64_t>(_mm_cvtsi128_si64(all));
    words[1] = static_cast<uint64_t>(_mm_extract_epi64(all, 1));
  }
  MOXIE_INLINE float HalfAt(const void* p) { return x86::HalfAt(p); }
  /// Eight binary16 numbers, `stride` bytes apart.
  template <int stride>
  MOXIE_INLINE Floats HalvesApart(const uint8_t* p) {
    __m128i bits = _mm_cvtsi32_si128(static_cast<int>(LoadU16(p)));
    bits = _mm_insert_epi16(bits, static_cast<int>(LoadU16(p + stride)), 1);
    bits = _mm_insert_epi16(bits, static_cast<int>(LoadU16(p + 2 * stride)), 2);
    bits = _mm_insert_epi16(bits, static_cast<int>(LoadU16(p + 3 * stride)), 3);
    bits = _mm_insert_epi16(bits, static_cast<int>(LoadU16(p + 4 * stride)), 4);
    bits = _mm_insert_epi16(bits, static_cast<int>(LoadU16(p + 5 * stride)), 5);
    bits = _mm_insert_epi16(bits, static_cast<int>(LoadU16(p + 6 * stride)), 6);
    bits = _mm_insert_epi16(bits, static_cast<int>(LoadU16(p + 7 * stride)), 7);
    return _mm256_cvtph_ps(bits);
  }
  /// Eight bytes, `stride` bytes apart, each in 32 bits.
  template <int stride>
  MOXIE_INLINE Ints BytesApart(const uint8_t* p) {
    return _mm256_setr_epi32(p[0], p[stride], p[2 * stride], p[3 * stride], p[4 * stride],
                             p[5 * stride], p[6 * stride], p[7 * stride]);
  }
};

}  // namespace
}  // namespace moxie::x86
