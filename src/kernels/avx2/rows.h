#pragma once

#include "kernels/avx2/vectors.h"
#include "kernels/x86/eight_lanes.h"
#include "kernels/x86/packed_rows.h"
#include "kernels/x86/unpack.h"

// Where the bytes of eight rows lie, read with a row in each 32-bit lane of a vector: rows as they
// are stored, or packed for this (x86/packed_rows.h). Offsets are those of a row's own bytes, in
// its selected chunk.

namespace moxie::avx2 {
namespace {

using x86::kChunkElements;

constexpr int kRows = 8;

/// Rows packed for this set.
template <class F>
using PackedRows = x86::PackedRows<x86::EightLanes, F>;

MOXIE_INLINE void Transpose8x8(__m256i (&v)[8]) {
  __m256 floats[8];
  MOXIE_UNROLL
  for (int k = 0; k < 8; ++k) floats[k] = _mm256_castsi256_ps(v[k]);
  x86::Transpose8x8(floats);
  MOXIE_UNROLL
  for (int k = 0; k < 8; ++k) v[k] = _mm256_castps_si256(floats[k]);
}

/// Rows as they are stored: lanes/chunk_of_rows.h.
template <class F>
class StoredRows : public x86::ChunkOfRows<F, kRows> {
  using Chunk = x86::ChunkOfRows<F, kRows>;

 public:
  using Lanes = x86::EightLanes;
  using Format = F;
  static constexpr bool kPacked = false;
  using Chunk::Chunk;

  const uint8_t* Base() const { return (*this)[0]; }

  /// 16-bit floats at `offset`, each in 32 bits.
  MOXIE_MEMBER __m256 Halves(int64_t offset) const { return _mm256_cvtph_ps(Words(offset)); }

  /// 16-bit words at `offset`, each in 32 bits.
  MOXIE_MEMBER __m256i WidenedWords(int64_t offset) const {
    return _mm256_cvtepu16_epi32(Words(offset));
  }

  /// Bytes at `offset`, each in 32 bits.
  MOXIE_MEMBER __m256i WidenedBytes(int64_t offset) const {
    const auto byte = [&](int r) { return static_cast<int>((*this)[r][offset]); };
    return _mm256_setr_epi32(byte(0), byte(1), byte(2), byte(3), byte(4), byte(5), byte(6),
                             byte(7));
  }

  /// 32-bit words at `offset`.
  MOXIE_MEMBER __m256i Word(int64_t offset) const {
    const auto word = [&](int r) { return static_cast<int>(LoadU32((*this)[r] + offset)); };
    return _mm256_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6),
                             word(7));
  }

  /// The four 32-bit words from `offset` on.
  MOXIE_MEMBER void FourWords(int64_t offset, __m256i (&out)[4]) const {
    __m256i v[4];
    MOXIE_UNROLL
    for (int r = 0; r < 4; ++r)
      v[r] = _mm256_set_m128i(Load128((*this)[r + 4] + offset), Load128((*this)[r] + offset));
    const __m256i low01 = _mm256_unpacklo_epi32(v[0], v[1]);
    const __m256i high01 = _mm256_unpackhi_epi32(v[0], v[1]);
    const __m256i low23 = _mm256_unpacklo_epi32(v[2], v[3]);
    const __m256i high23 = _mm256_unpackhi_epi32(v[2], v[3]);
    out[0] = _mm256_unpacklo_epi64(low01, low23);
    out[1] = _mm256_unpackhi_epi64(low01, low23);
    out[2] = _mm256_unpacklo_epi64(high01, high23);
    out[3] = _mm256_unpackhi_epi64(high01, high23);
  }

 private:
  MOXIE_MEMBER __m128i Words(int64_t offset) const {
    const auto half = [&](int r) { return static_cast<int>(LoadU16((*this)[r] + offset)); };
    __m128i bits = _mm_cvtsi32_si128(half(0));
    bits = _mm_insert_epi16(bits, half(1), 1);
    bits = _mm_insert_epi16(bits, half(2), 2);
    bits = _mm_insert_epi16(bits, half(3), 3);
    bits = _mm_insert_epi16(bits, half(4), 4);
    bits = _mm_insert_epi16(bits, half(5), 5);
    bits = _mm_insert_epi16(bits, half(6), 6);
    return _mm_insert_epi16(bits, half(7), 7);
  }
};

}  // namespace
}  // namespace moxie::avx2
