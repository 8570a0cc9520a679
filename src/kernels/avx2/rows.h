#pragma once

#include "kernels/avx2/vectors.h"
#include "kernels/x86/chunk_of_rows.h"
#include "kernels/x86/unpack.h"

// Where the bytes of eight rows lie, read with a row in each 32-bit lane of a vector: rows as they
// are stored, or packed for this. Offsets are those of a row's own bytes, in its selected chunk.

namespace moxie::avx2 {
namespace {

using x86::kChunkElements;

constexpr int kRows = 8;

#define MOXIE_MEMBER inline __attribute__((always_inline))

MOXIE_INLINE void Transpose8x8(__m256i (&v)[8]) {
  __m256 floats[8];
  MOXIE_UNROLL
  for (int k = 0; k < 8; ++k) floats[k] = _mm256_castsi256_ps(v[k]);
  x86::Transpose8x8(floats);
  MOXIE_UNROLL
  for (int k = 0; k < 8; ++k) v[k] = _mm256_castps_si256(floats[k]);
}

/// Rows as they are stored: x86/chunk_of_rows.h.
template <class F>
class StoredRows : public x86::ChunkOfRows<F, kRows> {
  using Chunk = x86::ChunkOfRows<F, kRows>;

 public:
  using Format = F;
  static constexpr bool kPacked = false;
  using Chunk::Chunk;

  const uint8_t* Base() const { return (*this)[0]; }

  /// 16-bit words at `offset`.
  MOXIE_MEMBER __m128i Halves(int64_t offset) const {
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
};

/// Rows as pack.h packs them: the units of eight rows' blocks one after another, so that the unit
/// at `offset` of a row lies at 8 * offset. `row` is a multiple of eight, as are the matrix's rows.
template <class F>
class PackedRows {
 public:
  using Format = F;
  static constexpr bool kPacked = true;

  PackedRows(const WeightMatrix& weights, int64_t row, int64_t row_end) : cols_(weights.cols) {
    Move(weights, row, row_end);
  }

  void Move(const WeightMatrix& weights, int64_t row, int64_t row_end) {
    const int64_t last = (row_end - 1) / kRows * kRows;
    rows_ = reinterpret_cast<const uint8_t*>(weights.row(Min(row, last)));
  }

  void Select(int64_t c) {
    chunk_ = rows_ + kRows * c * kBytes;
    groups_ = static_cast<int>(Min(cols_ - c * kChunkElements, kChunkElements) / 32);
  }

  /// As ChunkOfRows::Prefetch.
  MOXIE_MEMBER void Prefetch(int i) const {
    const uint8_t* begin = chunk_ + i * kBytes + x86::kAheadBytes;
    MOXIE_UNROLL
    for (int64_t line = 0; line < kBytes; line += 64)
      _mm_prefetch(reinterpret_cast<const char*>(begin + line), _MM_HINT_T0);
  }

  int groups() const { return groups_; }
  const uint8_t* Base() const { return chunk_; }

  MOXIE_MEMBER __m128i Halves(int64_t offset) const { return Load128(At(offset)); }
  MOXIE_MEMBER __m256i WidenedBytes(int64_t offset) const {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(At(offset))));
  }
  MOXIE_MEMBER __m256i Word(int64_t offset) const { return Load256(At(offset)); }
  MOXIE_MEMBER void FourWords(int64_t offset, __m256i (&out)[4]) const {
    MOXIE_UNROLL
    for (int k = 0; k < 4; ++k) out[k] = Word(offset + 4 * k);
  }
  /// Signed bytes `offset` and `offset + 1` as 16-bit words.
  MOXIE_MEMBER __m256i WidenedPair(int64_t offset) const {
    return _mm256_cvtepi8_epi16(Load128(At(offset)));
  }

 private:
  static constexpr int64_t kBytes =
      kChunkElements / F::Block::kElements * static_cast<int64_t>(sizeof(typename F::Block));

  MOXIE_MEMBER const uint8_t* At(int64_t offset) const { return chunk_ + kRows * offset; }

  int64_t cols_;
  const uint8_t* rows_;
  const uint8_t* chunk_ = nullptr;
  int groups_ = 0;
};

}  // namespace
}  // namespace moxie::avx2
