#pragma once

#include "kernels/avx512/group_sum.h"

// The product for one token, which would not repay a tile: codes are multiplied as they lie in
// their rows, and the sums of sixteen rows are brought side by side. The order of what is rounded
// is that of integer_product.h.

namespace moxie::avx512 {
namespace {

constexpr int kStepElements = 128;

// Of 128 elements, the 16 that begin (first) or end (second) each 32, one after another.
struct Halves {
  __m512i first;
  __m512i second;
};

/// 128 consecutive bytes in this form.
MOXIE_INLINE Halves HalvesOf(__m512i low, __m512i high) {
  return {.first = _mm512_shuffle_i32x4(low, high, 0x88),
          .second = _mm512_shuffle_i32x4(low, high, 0xdd)};
}

/// Codes that nibbles stand for, unsigned.
template <class Format>
MOXIE_INLINE __m512i FromNibbles(__m512i nibbles) {
  if constexpr (requires { Format::kValues; }) {
    const __m512i values = _mm512_broadcast_i32x4(x86::Load128(&Format::kValues));
    const __m512i table =
        _mm512_add_epi8(values, _mm512_set1_epi8(static_cast<char>(kUnsignedOffset<Format>)));
    return _mm512_shuffle_epi8(table, nibbles);
  } else {
    return nibbles;
  }
}

/// The codes of elements 128 * step .. of a chunk, unsigned.
template <class Format>
MOXIE_INLINE Halves UnsignedCodes(const uint8_t* chunk, int step) {
  if constexpr (requires { Format::Nibbles(chunk, 0); }) {
    const __m512i fifteen = _mm512_set1_epi8(15);
    __m512i packed = _mm512_castsi128_si512(x86::Load128(Format::Nibbles(chunk, 4 * step)));
    packed = _mm512_inserti32x4(packed, x86::Load128(Format::Nibbles(chunk, 4 * step + 1)), 1);
    packed = _mm512_inserti32x4(packed, x86::Load128(Format::Nibbles(chunk, 4 * step + 2)), 2);
    packed = _mm512_inserti32x4(packed, x86::Load128(Format::Nibbles(chunk, 4 * step + 3)), 3);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(packed, 4), fifteen);
    return {.first = FromNibbles<Format>(_mm512_and_si512(packed, fifteen)),
            .second = FromNibbles<Format>(high)};
  } else if constexpr (requires { Format::NibblePairs(chunk, 0); }) {
    const __m512i packed = _mm512_loadu_si512(Format::NibblePairs(chunk, 2 * step));
    const __m512i shifts = _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4);
    const __m512i first = _mm512_srlv_epi64(_mm512_shuffle_i32x4(packed, packed, 0xa0), shifts);
    const __m512i second = _mm512_srlv_epi64(_mm512_shuffle_i32x4(packed, packed, 0xf5), shifts);
    const __m512i fifteen = _mm512_set1_epi8(15);
    return {.first = _mm512_and_si512(first, fifteen), .second = _mm512_and_si512(second, fifteen)};
  } else {
    __m256i codes[4];
    MOXIE_UNROLL
    for (int i = 0; i < 4; ++i) codes[i] = Format::Codes(chunk, 4 * step + i);
    const Halves halves =
        HalvesOf(_mm512_inserti64x4(_mm512_castsi256_si512(codes[0]), codes[1], 1),
                 _mm512_inserti64x4(_mm512_castsi256_si512(codes[2]), codes[3], 1));
    return {.first = ToUnsigned<Format>(halves.first), .second = ToUnsigned<Format>(halves.second)};
  }
}

/// 128 activations: their low bytes, and the high ones of the four quads that have them.
template <bool kHasHigh>
struct ActivationStep {
  Halves low;
  Halves high;  // Zeros without kHasHigh.

  MOXIE_INLINE ActivationStep Load(const ActivationChunk& x, int step) {
    const int8_t* bytes = x.low + kStepElements * step;
    Halves high = {.first = _mm512_setzero_si512(), .second = _mm512_setzero_si512()};
    if constexpr (kHasHigh) {
      MOXIE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int g = 4 * step + i;
        const auto lane = static_cast<__mmask16>(1u << (4 * i + x.spared[g] % 4));
        high.first = _mm512_mask_set1_epi32(high.first, lane, x.high16[2 * g]);
        high.second = _mm512_mask_set1_epi32(high.second, lane, x.high16[2 * g + 1]);
      }
    }
    return {.low = HalvesOf(_mm512_loadu_si512(bytes), _mm512_loadu_si512(bytes + 64)),
            .high = high};
  }
};

/// The products of codes and activations, added up by four columns of each half.
template <bool kHasHigh>
MOXIE_INLINE Halves Products(const Halves& codes, const ActivationStep<kHasHigh>& x) {
  Halves sums = {.first = _mm512_setzero_si512(), .second = _mm512_setzero_si512()};
  if constexpr (kHasHigh) {
    sums.first = _mm512_slli_epi32(_mm512_dpbusd_epi32(sums.first, codes.first, x.high.first), 8);
    sums.second =
        _mm512_slli_epi32(_mm512_dpbusd_epi32(sums.second, codes.second, x.high.second), 8);
  }
  return {.first = _mm512_dpbusd_epi32(sums.first, codes.first, x.low.first),
          .second = _mm512_dpbusd_epi32(sums.second, codes.second, x.low.second)};
}

/// The same by eight columns, four of each half.
template <bool kHasHigh>
MOXIE_INLINE __m512i ProductsOfBoth(const Halves& codes, const ActivationStep<kHasHigh>& x) {
  __m512i sum = _mm512_setzero_si512();
  if constexpr (kHasHigh) {
    sum = _mm512_dpbusd_epi32(sum, codes.first, x.high.first);
    sum = _mm512_slli_epi32(_mm512_dpbusd_epi32(sum, codes.second, x.high.second), 8);
  }
  sum = _mm512_dpbusd_epi32(sum, codes.first, x.low.first);
  return _mm512_dpbusd_epi32(sum, codes.second, x.low.second);
}

/// Adds up the four lanes of each 128 bits of four vectors: lane r of each 128 is of vector r.
MOXIE_INLINE __m512i SumQuarters(const __m512i (&v)[4]) {
  const __m512i v01 =
      _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i v23 =
      _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(v01, v23), _mm512_unpackhi_epi64(v01, v23));
}

/// The codes of 128 columns of kLanes rows, to be read where they are needed.
template <class Format>
struct CodesOfStep {
  template <class Chunk>
  MOXIE_MEMBER void Unpack(const Chunk&, int) {}
  template <class Chunk>
  MOXIE_MEMBER Halves Of(const Chunk& chunk, int r, int step) const {
    return UnsignedCodes<Format>(chunk[r], step);
  }
};

/// Read before, in a loop: what looks up codes, written out for each row, would not fit the
/// instruction cache.
template <x86::IsLookedUp Format>
struct CodesOfStep<Format> {
  alignas(64) uint8_t codes[kLanes][kStepElements];

  template <class Chunk>
  MOXIE_MEMBER void Unpack(const Chunk& chunk, int step) {
    for (int r = 0; r < kLanes; ++r) {
      const Halves halves = UnsignedCodes<Format>(chunk[r], step);
      _mm512_store_si512(codes[r], halves.first);
      _mm512_store_si512(codes[r] + 64, halves.second);
    }
  }
  template <class Chunk>
  MOXIE_MEMBER Halves Of(const Chunk&, int r, int) const {
    return {.first = _mm512_load_si512(codes[r]), .second = _mm512_load_si512(codes[r] + 64)};
  }
};

/// `sum` and the terms of 128 columns of the selected chunk of kLanes rows.
template <class Format, bool kHasHigh, class Chunk>
MOXIE_INLINE __m512 AddStep(__m512 sum, const Chunk& chunk, const RowScales& scales,
                            const ActivationChunk& x, int step) {
  constexpr int kSums = 32 / Format::kGroup;  // of each 32 columns
  const auto xs = ActivationStep<kHasHigh>::Load(x, step);
  CodesOfStep<Format> codes_of_step;
  codes_of_step.Unpack(chunk, step);
  __m512i integers[kSums][4];
  MOXIE_UNROLL
  for (int k = 0; k < 4; ++k) {
    chunk.Prefetch(4 * step + k);
    __m512i products[kSums][4];
    MOXIE_UNROLL
    for (int r = 0; r < 4; ++r) {
      const Halves codes = codes_of_step.Of(chunk, 4 * k + r, step);
      if constexpr (kSums == 1) {
        products[0][r] = ProductsOfBoth(codes, xs);
      } else {
        const Halves both = Products(codes, xs);
        products[0][r] = both.first;
        products[1][r] = both.second;
      }
    }
    MOXIE_UNROLL
    for (int h = 0; h < kSums; ++h) integers[h][k] = SumQuarters(products[h]);
  }
  MOXIE_UNROLL
  for (int h = 0; h < kSums; ++h) TransposeQuarters(integers[h]);
  // The last step of a row may have fewer columns.
  MOXIE_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (4 * step + i >= chunk.groups()) break;
    __m512i of_columns[kSums];
    MOXIE_UNROLL
    for (int h = 0; h < kSums; ++h) of_columns[h] = integers[h][i];
    sum = AddGroups<Format>(sum, of_columns, scales, x, 4 * step + i);
  }
  return sum;
}

/// Up to kLanes rows from `row` on times one token.
template <class Format>
void MultiplyOneToken(const WeightMatrix& weights, int64_t row, int64_t row_end,
                      const ActivationChunk* x, float* out) {
  const int64_t chunks = (weights.cols + kChunkElements - 1) / kChunkElements;
  x86::ChunkOfRows<Format, kLanes> chunk(weights, row, row_end);
  RowScales scales;
  __m512 sum = _mm512_setzero_ps();
  for (int64_t c = 0; c < chunks; ++c) {
    chunk.Select(c);
    UnpackScales<Format>(chunk, scales);
    for (int step = 0; 4 * step < chunk.groups(); ++step) {
      sum = (x[c].has_high >> (4 * step) & 15) == 0
                ? AddStep<Format, false>(sum, chunk, scales, x[c], step)
                : AddStep<Format, true>(sum, chunk, scales, x[c], step);
    }
  }
  StoreRows(out + row, sum, row_end - row);
}

}  // namespace
}  // namespace moxie::avx512
