#pragma once

#include "kernels/avx2/rows.h"

// Codes and scales of eight rows (rows.h), a row in each 32-bit lane.

namespace moxie::avx2 {
namespace {

// ---- codes --------------------------------------------------------------------------------------

template <class Format>
concept HasNibbles = requires(const uint8_t* p) {
  Format::Nibbles(p, 0);
};
template <class Format>
concept HasNibblePairs = requires(const uint8_t* p) {
  Format::NibblePairs(p, 0);
};
template <class Format>
concept HasWholeCodes = requires(const uint8_t* p) {
  Format::WholeCodes(p, 0);
};
template <class Format>
concept HasValues = requires {
  Format::kValues;
};
template <class Format>
concept HasFifthBits = requires(const uint8_t* p) {
  Format::FifthBits(p, 0);
};

/// How many times 32 elements are unpacked together.
template <class Rows>
constexpr int kUnpackedGroups = !Rows::kPacked && HasNibblePairs<typename Rows::Format> ? 2 : 1;

/// Where `field` of columns 32 * i .. lies in a chunk, in bytes.
template <class Rows>
MOXIE_INLINE int64_t OffsetOf(const Rows& rows, const uint8_t* (*field)(const uint8_t*, int),
                              int i) {
  return field(rows.Base(), i) - rows.Base();
}

/// The codes of elements of which the low four bits are `nibbles`.
template <class Format>
MOXIE_INLINE __m256i CodesOfNibbles(__m256i nibbles) {
  if constexpr (HasValues<Format>) {
    // The offset is added to the table, not to what is found there.
    const __m256i table = _mm256_broadcastsi128_si256(Load128(&Format::kValues));
    return _mm256_shuffle_epi8(_mm256_add_epi8(table, _mm256_set1_epi8(Format::kOffset)), nibbles);
  } else {
    return nibbles;
  }
}

/// The chunk's 32-bit words, in place of a row's 32 bytes: see Format::CodesFrom.
template <class Rows>
struct WordsAt {
  const Rows& rows;
  int quad;
  MOXIE_MEMBER __m256i Load(int64_t offset) const { return rows.Word(offset + 4 * quad); }
};

/// 16 where bit 4 q + b of a lane is set, in its byte b.
MOXIE_INLINE __m256i FifthBits(__m256i bits, int q) {
  const __m256i byte = _mm256_add_epi8(_mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0,
                                                         0x04040404, 0x08080808, 0x0c0c0c0c),
                                       _mm256_set1_epi8(static_cast<char>(q / 2)));
  const __m256i mask = _mm256_set1_epi32(q % 2 == 0 ? 0x08040201 : static_cast<int>(0x80402010));
  const __m256i spread = _mm256_and_si256(_mm256_shuffle_epi8(bits, byte), mask);
  return _mm256_and_si256(_mm256_cmpeq_epi8(spread, mask), _mm256_set1_epi8(16));
}

/// The codes of elements 32 * i .. of a chunk: codes[q] has columns 4 q .. 4 q + 3.
template <class Rows>
MOXIE_INLINE void UnpackCodes(const Rows& rows, int i,
                              __m256i (&codes)[8 * kUnpackedGroups<Rows>]) {
  using Format = typename Rows::Format;
  if constexpr (HasNibbles<Format>) {
    __m256i packed[4];
    rows.FourWords(OffsetOf(rows, Format::Nibbles, i), packed);
    MOXIE_UNROLL
    for (int k = 0; k < 4; ++k) {
      codes[k] = CodesOfNibbles<Format>(x86::CodesAt(packed[k], 0, 15));
      codes[4 + k] = CodesOfNibbles<Format>(x86::CodesAt(packed[k], 4, 15));
    }
  } else if constexpr (HasFifthBits<Format>) {
    __m256i packed[4];
    rows.FourWords(OffsetOf(rows, Format::LowNibbles, i), packed);
    const __m256i bits = rows.Word(OffsetOf(rows, Format::FifthBits, i));
    MOXIE_UNROLL
    for (int k = 0; k < 4; ++k) {
      codes[k] = _mm256_or_si256(x86::CodesAt(packed[k], 0, 15), FifthBits(bits, k));
      codes[4 + k] = _mm256_or_si256(x86::CodesAt(packed[k], 4, 15), FifthBits(bits, 4 + k));
    }
  } else if constexpr (Rows::kPacked) {
    MOXIE_UNROLL
    for (int q = 0; q < 8; ++q) codes[q] = Format::CodesFrom(WordsAt<Rows>{rows, q}, i);
  } else if constexpr (HasNibblePairs<Format>) {
    __m256i packed[8];
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) packed[r] = Load256(Format::NibblePairs(rows[r], i / 2));
    Transpose8x8(packed);
    MOXIE_UNROLL
    for (int k = 0; k < 8; ++k) {
      codes[k] = x86::CodesAt(packed[k], 0, 15);
      codes[8 + k] = x86::CodesAt(packed[k], 4, 15);
    }
  } else {
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) codes[r] = Format::Codes(rows[r], i);
    Transpose8x8(codes);
  }
}

// ---- scales -------------------------------------------------------------------------------------

/// weight = scale * (code - Format::kOffset) + min, by scale groups of a chunk of V times 8 rows.
template <int V>
struct RowScales {
  alignas(32) float scale[kChunkElements / 16][V][kRows];
  alignas(32) float min[kChunkElements / 16][V][kRows];

  void SetScale(int g, int v, __m256 values) { _mm256_store_ps(scale[g][v], values); }
  void SetMin(int g, int v, __m256 values) { _mm256_store_ps(min[g][v], values); }
};

/// The binary16 numbers at `offset`.
template <class Rows>
MOXIE_INLINE __m256 FloatsAt(const Rows& rows, int64_t offset) {
  return _mm256_cvtph_ps(rows.Halves(offset));
}

/// The `bits` bits of each lane from `shift` on.
MOXIE_INLINE __m256i BitsAt(__m256i lanes, int shift, int bits) {
  return _mm256_and_si256(_mm256_srli_epi32(lanes, shift), _mm256_set1_epi32((1 << bits) - 1));
}

MOXIE_INLINE __m256 Scaled(__m256 factor, __m256i integers) {
  return _mm256_mul_ps(factor, _mm256_cvtepi32_ps(integers));
}

/// factor * (six bits - 32), from the low four and the high two.
MOXIE_INLINE __m256 ScaledSixBits(__m256 factor, __m256i low, __m256i high) {
  const __m256i all = _mm256_or_si256(low, _mm256_slli_epi32(high, 4));
  return Scaled(factor, _mm256_sub_epi32(all, _mm256_set1_epi32(32)));
}

// LoadLaneScales: a format's scales where they can be had for eight rows at once, as quant/blocks.h
// says how they lie; to vector `v`.

template <class Format, class Rows, int V>
requires Format::kBeginsWithHalves MOXIE_INLINE void LoadLaneScales(Format, const Rows& rows, int v,
                                                                    RowScales<V>& scales) {
  for (int g = 0; g < rows.groups(); ++g) {
    const int64_t block = g * static_cast<int64_t>(sizeof(typename Format::Block));
    scales.SetScale(g, v, FloatsAt(rows, block));
    if constexpr (Format::kHasMin) scales.SetMin(g, v, FloatsAt(rows, block + 2));
  }
}

/// Q4_K and Q5_K.
template <class Format, class Rows, int V>
requires Format::kSixBitScales MOXIE_INLINE void LoadLaneScales(Format, const Rows& rows, int v,
                                                                RowScales<V>& scales) {
  using Block = typename Format::Block;
  const __m256i six_bits = _mm256_set1_epi32(0x3f3f3f3f);
  const __m256i four_bits = _mm256_set1_epi32(0x0f0f0f0f);
  const __m256i top_bits = _mm256_set1_epi32(0x30303030);
  static_assert(offsetof(Block, scales) == 4);
  __m256i p[4];  // The halves, then the twelve bytes.
  rows.FourWords(0, p);
  const auto high = [&](__m256i low, __m256i top) {
    return _mm256_or_si256(_mm256_and_si256(low, four_bits),
                           _mm256_and_si256(_mm256_srli_epi32(top, 2), top_bits));
  };
  const __m256i scale[2] = {_mm256_and_si256(p[1], six_bits), high(p[3], p[1])};
  const __m256i min[2] = {_mm256_and_si256(p[2], six_bits), high(_mm256_srli_epi32(p[3], 4), p[2])};
  const __m256 d = FloatsAt(rows, offsetof(Block, d));
  const __m256 dmin = _mm256_sub_ps(_mm256_setzero_ps(), FloatsAt(rows, offsetof(Block, dmin)));
  MOXIE_UNROLL
  for (int g = 0; g < 8; ++g) {
    scales.SetScale(g, v, Scaled(d, BitsAt(scale[g / 4], 8 * (g % 4), 8)));
    scales.SetMin(g, v, Scaled(dmin, BitsAt(min[g / 4], 8 * (g % 4), 8)));
  }
}

template <class Rows, int V>
MOXIE_INLINE void LoadLaneScales(x86::UnpackQ2_K, const Rows& rows, int v, RowScales<V>& scales) {
  __m256i p[4];
  rows.FourWords(offsetof(BlockQ2_K, scales), p);
  const __m256 d = FloatsAt(rows, offsetof(BlockQ2_K, d));
  const __m256 dmin = _mm256_sub_ps(_mm256_setzero_ps(), FloatsAt(rows, offsetof(BlockQ2_K, dmin)));
  MOXIE_UNROLL
  for (int g = 0; g < 16; ++g) {
    scales.SetScale(g, v, Scaled(d, BitsAt(p[g / 4], 8 * (g % 4), 4)));
    scales.SetMin(g, v, Scaled(dmin, BitsAt(p[g / 4], 8 * (g % 4) + 4, 4)));
  }
}

template <class Rows, int V>
MOXIE_INLINE void LoadLaneScales(x86::UnpackQ3_K, const Rows& rows, int v, RowScales<V>& scales) {
  __m256i p[4];  // Four bytes before, then the twelve.
  rows.FourWords(offsetof(BlockQ3_K, scales) - 4, p);
  const __m256 d = FloatsAt(rows, offsetof(BlockQ3_K, d));
  MOXIE_UNROLL
  for (int g = 0; g < 16; ++g) {
    const int byte = 8 * (g % 4);
    scales.SetScale(g, v,
                    ScaledSixBits(d, BitsAt(p[1 + g % 8 / 4], byte + 4 * (g / 8), 4),
                                  BitsAt(p[3], byte + 2 * (g / 4), 2)));
  }
}

template <class Rows, int V>
MOXIE_INLINE void LoadLaneScales(x86::UnpackQ6_K, const Rows& rows, int v, RowScales<V>& scales) {
  __m256i p[4];
  rows.FourWords(offsetof(BlockQ6_K, scales), p);
  const __m256 d = FloatsAt(rows, offsetof(BlockQ6_K, d));
  MOXIE_UNROLL
  for (int g = 0; g < 16; ++g) {  // Signed: the shifts bring the sign.
    const __m256i top = _mm256_slli_epi32(p[g / 4], 24 - 8 * (g % 4));
    scales.SetScale(g, v, Scaled(d, _mm256_srai_epi32(top, 24)));
  }
}

template <class Rows, int V>
MOXIE_INLINE void LoadLaneScales(x86::UnpackIQ4_XS, const Rows& rows, int v, RowScales<V>& scales) {
  const __m256i low = rows.Word(offsetof(BlockIQ4_XS, scales_low));
  const __m256i high = _mm256_cvtepu16_epi32(rows.Halves(offsetof(BlockIQ4_XS, scales_high)));
  const __m256 d = FloatsAt(rows, offsetof(BlockIQ4_XS, d));
  MOXIE_UNROLL
  for (int g = 0; g < 8; ++g)
    scales.SetScale(g, v, ScaledSixBits(d, BitsAt(low, 4 * g, 4), BitsAt(high, 2 * g, 2)));
}

template <class Rows, int V>
MOXIE_INLINE void LoadLaneScales(x86::UnpackMXFP4, const Rows& rows, int v, RowScales<V>& scales) {
  for (int g = 0; g < rows.groups(); ++g) {
    const __m256i exponents = rows.WidenedBytes(g * static_cast<int64_t>(sizeof(BlockMXFP4)));
    scales.SetScale(g, v, x86::UnpackMXFP4::ScaleOf(exponents));
  }
}

/// Row by row, then transposed.
template <class Format, int V>
MOXIE_INLINE void LoadScalesByRow(const StoredRows<Format>& rows, int v, RowScales<V>& scales) {
  for (int half = 0; half < 32 / Format::kGroup; ++half) {
    __m256 scale[kRows];
    __m256 min[kRows];
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      min[r] = _mm256_setzero_ps();
      Format::Scales(rows[r], half, scale[r], min[r]);
    }
    x86::Transpose8x8(scale);
    if constexpr (Format::kHasMin) x86::Transpose8x8(min);
    MOXIE_UNROLL
    for (int g = 0; g < 8; ++g) {
      scales.SetScale(8 * half + g, v, scale[g]);
      if constexpr (Format::kHasMin) scales.SetMin(8 * half + g, v, min[g]);
    }
  }
}

template <class Format>
concept HasLaneScales = requires(const StoredRows<Format>& rows, RowScales<1>& scales) {
  LoadLaneScales(Format{}, rows, 0, scales);
};

template <class Rows, int V>
MOXIE_INLINE void LoadScales(const Rows& rows, int v, RowScales<V>& scales) {
  using Format = typename Rows::Format;
  if constexpr (HasLaneScales<Format>) {
    LoadLaneScales(Format{}, rows, v, scales);
  } else {
    LoadScalesByRow(rows, v, scales);
  }
}

}  // namespace
}  // namespace moxie::avx2
