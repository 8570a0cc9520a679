#pragma once

#include <cstddef>

#include "kernels/avx2/vectors.h"
#include "quant/blocks.h"
#include "quant/codebooks.h"

// What a format contributes to the integer products: how to read 256 consecutive weights
// ("a chunk") as small integer codes with scales: weight = scale * (code - kOffset) + min.
//
//   Block      the stored block (quant/blocks.h)
//   kGroup     16 or 32 elements share a scale
//   kBits      4 to 7: codes are 0 .. 2^kBits - 1; 8: codes are -127 .. 127
//   kOffset    what zero is stored as
//   kHasMin    whether min can differ from 0
//   Scales     scale and min of groups 8 * half .. 8 * half + 7 of a chunk
//   Codes      the codes of elements 32 * i .. 32 * i + 31, a byte each
//   Words      the same, 16 bits each, where that is cheaper than widening (optional)
//
// A chunk is whole in memory: the loops copy a row's last, shorter one.

namespace moxie::avx2 {
namespace {  // Internal linkage for the formats and all that is instantiated with them.

using Bytes = const uint8_t*;

/// The codes of elements 32 * i .. 32 * i + 31 of a chunk, 16 bits each.
template <class Format>
MOXIE_INLINE void UnpackWords(Bytes chunk, int i, __m256i& first, __m256i& second) {
  if constexpr (requires { Format::Words(chunk, i, first, second); }) {
    Format::Words(chunk, i, first, second);
  } else {
    const __m256i codes = Format::Codes(chunk, i);
    first = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(codes));
    second = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(codes, 1));
  }
}

/// Eight binary16 numbers, `stride` bytes apart.
template <int stride>
MOXIE_INLINE __m256 Halves(Bytes p) {
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

/// The 16 bytes' low nibbles, then their high ones, as words.
MOXIE_INLINE void NibblesToWords(Bytes q, __m256i& first, __m256i& second) {
  const __m256i words = _mm256_cvtepu8_epi16(Load128(q));
  first = _mm256_and_si256(words, _mm256_set1_epi16(15));
  second = _mm256_srli_epi16(words, 4);
}

/// The 16 bytes' low nibbles, then their high ones, as bytes.
MOXIE_INLINE __m256i NibblesToBytes(Bytes q) {
  const __m128i packed = Load128(q);
  const __m256i both = _mm256_set_m128i(_mm_srli_epi16(packed, 4), packed);
  return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/// Bit i of `bits`, for i < 32, as byte i: 0 or -1.
MOXIE_INLINE __m256i BitsToMasks(uint32_t bits) {
  const __m256i spread =
      _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)),
                          _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                           2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3));
  const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201ull));
  return _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
}

/// Negates byte i where bit i of `signs` is set, and adds `offset`.
MOXIE_INLINE __m256i WithSigns(__m256i magnitudes, uint32_t signs, char offset) {
  const __m256i masks = BitsToMasks(signs);
  const __m256i negated = _mm256_xor_si256(magnitudes, masks);
  return _mm256_add_epi8(_mm256_sub_epi8(negated, masks), _mm256_set1_epi8(offset));
}

/// Codes of `bits` bits at position `shift` of each byte.
MOXIE_INLINE __m256i CodesAt(__m256i bytes, int shift, char mask) {
  return _mm256_and_si256(_mm256_srli_epi16(bytes, shift), _mm256_set1_epi8(mask));
}

/// d * codes for 8 unsigned bytes.
MOXIE_INLINE __m256 ScaledU8(float d, uint64_t codes) {
  const __m256i words = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(codes)));
  return _mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(words));
}

/// d * codes for 8 signed bytes.
MOXIE_INLINE __m256 ScaledI8(float d, uint64_t codes) {
  const __m256i words = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(codes)));
  return _mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(words));
}

/// Nibble 2j of 4 bytes to byte 2j, and so on: 8 nibbles in order, low first.
MOXIE_INLINE uint64_t SpreadNibbles(uint32_t nibbles) {
  uint64_t spread = 0;
  for (int j = 0; j < 8; ++j) spread |= static_cast<uint64_t>((nibbles >> (4 * j)) & 15) << (8 * j);
  return spread;
}

// ---- 32 elements a block ------------------------------------------------------------------------

struct UnpackQ4_0 {
  using Block = BlockQ4_0;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 4;
  static constexpr int kOffset = 8;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    scale = Halves<sizeof(Block)>(chunk);
  }
  MOXIE_INLINE void Words(Bytes chunk, int i, __m256i& first, __m256i& second) {
    NibblesToWords(chunk + i * static_cast<int>(sizeof(Block)) + offsetof(Block, q), first, second);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    return NibblesToBytes(chunk + i * static_cast<int>(sizeof(Block)) + offsetof(Block, q));
  }
};

struct UnpackQ4_1 {
  using Block = BlockQ4_1;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 4;
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256& min) {
    scale = Halves<sizeof(Block)>(chunk);
    min = Halves<sizeof(Block)>(chunk + offsetof(Block, m));
  }
  MOXIE_INLINE void Words(Bytes chunk, int i, __m256i& first, __m256i& second) {
    NibblesToWords(chunk + i * static_cast<int>(sizeof(Block)) + offsetof(Block, q), first, second);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    return NibblesToBytes(chunk + i * static_cast<int>(sizeof(Block)) + offsetof(Block, q));
  }
};

struct UnpackQ5_0 {
  using Block = BlockQ5_0;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 5;
  static constexpr int kOffset = 16;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    scale = Halves<sizeof(Block)>(chunk);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes block = chunk + i * static_cast<int>(sizeof(Block));
    const __m256i high =
        _mm256_and_si256(BitsToMasks(LoadU32(block + offsetof(Block, high))), _mm256_set1_epi8(16));
    return _mm256_or_si256(NibblesToBytes(block + offsetof(Block, q)), high);
  }
};

struct UnpackQ5_1 {
  using Block = BlockQ5_1;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 5;
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256& min) {
    scale = Halves<sizeof(Block)>(chunk);
    min = Halves<sizeof(Block)>(chunk + offsetof(Block, m));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes block = chunk + i * static_cast<int>(sizeof(Block));
    const __m256i high =
        _mm256_and_si256(BitsToMasks(LoadU32(block + offsetof(Block, high))), _mm256_set1_epi8(16));
    return _mm256_or_si256(NibblesToBytes(block + offsetof(Block, q)), high);
  }
};

struct UnpackQ8_0 {
  using Block = BlockQ8_0;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 8;
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    scale = Halves<sizeof(Block)>(chunk);
  }
  MOXIE_INLINE void Words(Bytes chunk, int i, __m256i& first, __m256i& second) {
    Bytes q = chunk + i * static_cast<int>(sizeof(Block)) + offsetof(Block, q);
    first = _mm256_cvtepi8_epi16(Load128(q));
    second = _mm256_cvtepi8_epi16(Load128(q + 16));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    return Load256(chunk + i * static_cast<int>(sizeof(Block)) + offsetof(Block, q));
  }
};

MOXIE_INLINE __m256i LookUp(const int8_t* values, __m256i codes) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(Load128(values)), codes);
}

MOXIE_INLINE const int8_t* Iq4Values() { return reinterpret_cast<const int8_t*>(&kIq4Values); }

struct UnpackIQ4_NL {
  using Block = BlockIQ4_NL;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 8;
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    scale = Halves<sizeof(Block)>(chunk);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + i * static_cast<int>(sizeof(Block)) + offsetof(Block, q);
    return LookUp(Iq4Values(), NibblesToBytes(q));
  }
};

struct UnpackMXFP4 {
  using Block = BlockMXFP4;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 5;
  static constexpr int kOffset = 12;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    constexpr int kStride = static_cast<int>(sizeof(Block));
    const __m256i e = _mm256_setr_epi32(chunk[0], chunk[kStride], chunk[2 * kStride],
                                        chunk[3 * kStride], chunk[4 * kStride], chunk[5 * kStride],
                                        chunk[6 * kStride], chunk[7 * kStride]);
    // 2^(e - 128): the exponent field e - 1, and for e < 2 a subnormal of one bit.
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    const __m256i is_normal = _mm256_cmpgt_epi32(e, _mm256_set1_epi32(1));
    scale = _mm256_castsi256_ps(_mm256_blendv_epi8(subnormal, normal, is_normal));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + i * static_cast<int>(sizeof(Block)) + offsetof(Block, q);
    return _mm256_add_epi8(
        LookUp(reinterpret_cast<const int8_t*>(&kMxfp4Values), NibblesToBytes(q)),
        _mm256_set1_epi8(kOffset));
  }
};

// ---- 256 elements a block -----------------------------------------------------------------------

/// The six-bit scales and mins of Q4_K and Q5_K (blocks.h).
MOXIE_INLINE void KScales(Bytes d, Bytes packed, __m256& scale, __m256& min) {
  const uint32_t p0 = LoadU32(packed);
  const uint32_t p1 = LoadU32(packed + 4);
  const uint32_t p2 = LoadU32(packed + 8);
  const uint32_t scale_high = (p2 & 0x0f0f0f0fu) | ((p0 >> 2) & 0x30303030u);
  const uint32_t min_high = ((p2 >> 4) & 0x0f0f0f0fu) | ((p1 >> 2) & 0x30303030u);
  scale = ScaledU8(HalfAt(d), (p0 & 0x3f3f3f3fu) | static_cast<uint64_t>(scale_high) << 32);
  min = ScaledU8(-HalfAt(d + 2), (p1 & 0x3f3f3f3fu) | static_cast<uint64_t>(min_high) << 32);
}

struct UnpackQ2_K {
  using Block = BlockQ2_K;
  static constexpr int kGroup = 16;
  static constexpr int kBits = 4;
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true;

  MOXIE_INLINE void Scales(Bytes chunk, int half, __m256& scale, __m256& min) {
    const auto codes = static_cast<uint64_t>(LoadI64(chunk + 8 * half));
    scale = ScaledU8(HalfAt(chunk + offsetof(Block, d)), codes & 0x0f0f0f0f0f0f0f0full);
    min = ScaledU8(-HalfAt(chunk + offsetof(Block, dmin)), (codes >> 4) & 0x0f0f0f0f0f0f0f0full);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    const __m256i q = Load256(chunk + offsetof(Block, q) + 32 * (i / 4));
    return CodesAt(q, 2 * (i % 4), 3);
  }
};

struct UnpackQ3_K {
  using Block = BlockQ3_K;
  static constexpr int kGroup = 16;
  static constexpr int kBits = 4;
  static constexpr int kOffset = 4;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int half, __m256& scale, __m256&) {
    Bytes packed = chunk + offsetof(Block, scales);
    const auto low = static_cast<uint64_t>(LoadI64(packed)) >> (4 * half);
    const uint64_t high = static_cast<uint64_t>(LoadU32(packed + 8)) >> (4 * half);
    const uint64_t codes = (low & 0x0f0f0f0f0f0f0f0full) | (high & 0x03030303u) << 4 |
                           ((high >> 2) & 0x03030303u) << 36;
    const __m256i words =
        _mm256_sub_epi32(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(codes))),
                         _mm256_set1_epi32(32));
    scale = _mm256_mul_ps(_mm256_set1_ps(HalfAt(chunk + offsetof(Block, d))),
                          _mm256_cvtepi32_ps(words));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    const __m256i low = CodesAt(Load256(chunk + offsetof(Block, q) + 32 * (i / 4)), 2 * (i % 4), 3);
    const __m256i high = CodesAt(Load256(chunk + offsetof(Block, hmask)), i, 1);
    return _mm256_or_si256(low, _mm256_slli_epi16(high, 2));
  }
};

struct UnpackQ4_K {
  using Block = BlockQ4_K;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 4;
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256& min) {
    KScales(chunk, chunk + offsetof(Block, scales), scale, min);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    const __m256i q = Load256(chunk + offsetof(Block, q) + 32 * (i / 2));
    return CodesAt(q, 4 * (i % 2), 15);
  }
};

struct UnpackQ5_K {
  using Block = BlockQ5_K;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 5;
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256& min) {
    KScales(chunk, chunk + offsetof(Block, scales), scale, min);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    const __m256i low =
        CodesAt(Load256(chunk + offsetof(Block, q) + 32 * (i / 2)), 4 * (i % 2), 15);
    const __m256i high = CodesAt(Load256(chunk + offsetof(Block, high)), i, 1);
    return _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
  }
};

struct UnpackQ6_K {
  using Block = BlockQ6_K;
  static constexpr int kGroup = 16;
  static constexpr int kBits = 6;
  static constexpr int kOffset = 32;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int half, __m256& scale, __m256&) {
    Bytes scales = chunk + offsetof(Block, scales);
    scale = ScaledI8(HalfAt(chunk + offsetof(Block, d)),
                     static_cast<uint64_t>(LoadI64(scales + 8 * half)));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes low_bytes = chunk + offsetof(Block, low) + 64 * (i / 4) + 32 * (i % 2);
    const __m256i low = CodesAt(Load256(low_bytes), 4 * (i / 2 % 2), 15);
    Bytes high_bytes = chunk + offsetof(Block, high) + 32 * (i / 4);
    const __m256i high = CodesAt(Load256(high_bytes), 2 * (i % 4), 3);
    return _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
  }
};

struct UnpackIQ4_XS {
  using Block = BlockIQ4_XS;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 8;
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    const uint32_t low = LoadU32(chunk + offsetof(Block, scales_low));
    const uint32_t high = LoadU16(chunk + offsetof(Block, scales_high));
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i low_codes = _mm256_and_si256(
        _mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(low)), _mm256_slli_epi32(lanes, 2)),
        _mm256_set1_epi32(15));
    const __m256i high_codes = _mm256_and_si256(
        _mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(high)), _mm256_slli_epi32(lanes, 1)),
        _mm256_set1_epi32(3));
    const __m256i codes = _mm256_sub_epi32(
        _mm256_or_si256(low_codes, _mm256_slli_epi32(high_codes, 4)), _mm256_set1_epi32(32));
    scale = _mm256_mul_ps(_mm256_set1_ps(HalfAt(chunk)), _mm256_cvtepi32_ps(codes));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 16 * i;
    return LookUp(Iq4Values(), NibblesToBytes(q));
  }
};

// ---- codes of lattice points --------------------------------------------------------------------

/// 28 bits of signs as four groups of 8, the eighth making each group's number of signs even.
MOXIE_INLINE uint32_t EvenSignsOf4(uint32_t bits) {
  uint32_t signs = 0;
  for (int k = 0; k < 4; ++k) {
    const uint32_t seven = (bits >> (7 * k)) & 127;
    const auto parity = static_cast<uint32_t>(__builtin_parity(seven));
    signs |= (seven | parity << 7) << (8 * k);
  }
  return signs;
}

/// Point `index` of a codebook of 8 (or 4) dimensions.
template <class Codebook>
MOXIE_INLINE int64_t Point8(const Codebook& book, uint32_t index) {
  return LoadI64(reinterpret_cast<Bytes>(&book) + 8 * index);
}
template <class Codebook>
MOXIE_INLINE int Point4(const Codebook& book, uint32_t index) {
  return static_cast<int>(LoadU32(reinterpret_cast<Bytes>(&book) + 4 * index));
}

/// (d * (0.5 + code)) * factor
MOXIE_INLINE __m256 ScalesWithHalf(float d, __m256i codes, float factor) {
  const __m256 sum = _mm256_add_ps(_mm256_cvtepi32_ps(codes), _mm256_set1_ps(0.5f));
  return _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(d), sum), _mm256_set1_ps(factor));
}

MOXIE_INLINE __m256i TopNibbles(Bytes p, int stride) {
  int codes[8];
  for (int g = 0; g < 8; ++g) codes[g] = static_cast<int>(LoadU32(p + g * stride) >> 28);
  return Load256(codes);
}

MOXIE_INLINE __m256i NibblesToLanes(uint32_t nibbles) {
  return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(SpreadNibbles(nibbles))));
}

struct UnpackIQ2_XXS {
  using Block = BlockIQ2_XXS;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 7;
  static constexpr int kOffset = 43;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    scale = ScalesWithHalf(HalfAt(chunk), TopNibbles(chunk + offsetof(Block, q) + 4, 8), 0.25f);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 8 * i;
    const __m256i points = _mm256_setr_epi64x(Point8(kIq2XxsGrid, q[0]), Point8(kIq2XxsGrid, q[1]),
                                              Point8(kIq2XxsGrid, q[2]), Point8(kIq2XxsGrid, q[3]));
    return WithSigns(points, EvenSignsOf4(LoadU32(q + 4)), kOffset);
  }
};

struct UnpackIQ2_XS {
  using Block = BlockIQ2_XS;
  static constexpr int kGroup = 16;
  static constexpr int kBits = 7;
  static constexpr int kOffset = 43;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int half, __m256& scale, __m256&) {
    const uint32_t nibbles = LoadU32(chunk + offsetof(Block, scales) + 4 * half);
    scale = ScalesWithHalf(HalfAt(chunk), NibblesToLanes(nibbles), 0.25f);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 8 * i;
    uint32_t code[4];
    uint32_t bits = 0;
    for (int k = 0; k < 4; ++k) {
      code[k] = LoadU16(q + 2 * k);
      bits |= (code[k] >> 9) << (7 * k);
    }
    const __m256i points =
        _mm256_setr_epi64x(Point8(kIq2XsGrid, code[0] & 511), Point8(kIq2XsGrid, code[1] & 511),
                           Point8(kIq2XsGrid, code[2] & 511), Point8(kIq2XsGrid, code[3] & 511));
    return WithSigns(points, EvenSignsOf4(bits), kOffset);
  }
};

struct UnpackIQ2_S {
  using Block = BlockIQ2_S;
  static constexpr int kGroup = 16;
  static constexpr int kBits = 7;
  static constexpr int kOffset = 43;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int half, __m256& scale, __m256&) {
    const uint32_t nibbles = LoadU32(chunk + offsetof(Block, scales) + 4 * half);
    scale = ScalesWithHalf(HalfAt(chunk), NibblesToLanes(nibbles), 0.25f);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 4 * i;
    const uint32_t high = chunk[offsetof(Block, high) + static_cast<size_t>(i)];
    const __m256i points = _mm256_setr_epi64x(
        Point8(kIq2SGrid, q[0] | (high & 0x03) << 8), Point8(kIq2SGrid, q[1] | (high & 0x0c) << 6),
        Point8(kIq2SGrid, q[2] | (high & 0x30) << 4), Point8(kIq2SGrid, q[3] | (high & 0xc0) << 2));
    return WithSigns(points, LoadU32(chunk + offsetof(Block, signs) + 4 * i), kOffset);
  }
};

struct UnpackIQ3_XXS {
  using Block = BlockIQ3_XXS;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 7;
  static constexpr int kOffset = 62;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    scale = ScalesWithHalf(HalfAt(chunk), TopNibbles(chunk + offsetof(Block, scales), 4), 0.5f);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 8 * i;
    const __m256i points = _mm256_setr_epi32(Point4(kIq3XxsGrid, q[0]), Point4(kIq3XxsGrid, q[1]),
                                             Point4(kIq3XxsGrid, q[2]), Point4(kIq3XxsGrid, q[3]),
                                             Point4(kIq3XxsGrid, q[4]), Point4(kIq3XxsGrid, q[5]),
                                             Point4(kIq3XxsGrid, q[6]), Point4(kIq3XxsGrid, q[7]));
    const uint32_t rest = LoadU32(chunk + offsetof(Block, scales) + 4 * i);
    return WithSigns(points, EvenSignsOf4(rest), kOffset);
  }
};

struct UnpackIQ3_S {
  using Block = BlockIQ3_S;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 5;
  static constexpr int kOffset = 15;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    const __m256i codes = NibblesToLanes(LoadU32(chunk + offsetof(Block, scales)));
    const __m256i odd = _mm256_or_si256(_mm256_slli_epi32(codes, 1), _mm256_set1_epi32(1));
    scale = _mm256_mul_ps(_mm256_set1_ps(HalfAt(chunk)), _mm256_cvtepi32_ps(odd));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 8 * i;
    const uint32_t high = chunk[offsetof(Block, high) + static_cast<size_t>(i)];
    int point[8];
    for (int k = 0; k < 8; ++k) point[k] = Point4(kIq3SGrid, q[k] | ((high >> k) & 1) << 8);
    const uint32_t signs = LoadU32(chunk + offsetof(Block, signs) + 4 * i);
    return WithSigns(Load256(point), signs, kOffset);
  }
};

/// 8 * point + delta + 9 of IQ1: bit k of `negative` gives group k's delta, -1 or 1.
MOXIE_INLINE __m256i ShiftedPoints(const uint32_t (&index)[4], uint32_t negative) {
  const __m256i points = _mm256_setr_epi64x(Point8(kIq1Grid, index[0]), Point8(kIq1Grid, index[1]),
                                            Point8(kIq1Grid, index[2]), Point8(kIq1Grid, index[3]));
  int64_t delta[4];
  for (int k = 0; k < 4; ++k) {
    delta[k] = int64_t{0x0101010101010101} * (((negative >> k) & 1) != 0 ? 8 : 10);
  }
  const __m256i twice = _mm256_add_epi8(points, points);
  const __m256i four_times = _mm256_add_epi8(twice, twice);
  return _mm256_add_epi8(_mm256_add_epi8(four_times, four_times), Load256(delta));
}

struct UnpackIQ1_S {
  using Block = BlockIQ1_S;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 5;
  static constexpr int kOffset = 9;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    const __m256i high = _mm256_cvtepu16_epi32(Load128(chunk + offsetof(Block, high)));
    const __m256i code = _mm256_and_si256(_mm256_srli_epi32(high, 11), _mm256_set1_epi32(14));
    const __m256i odd = _mm256_or_si256(code, _mm256_set1_epi32(1));
    scale = _mm256_mul_ps(_mm256_set1_ps(HalfAt(chunk) * 0.125f), _mm256_cvtepi32_ps(odd));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 4 * i;
    const uint32_t high = LoadU16(chunk + offsetof(Block, high) + 2 * i);
    const uint32_t index[4] = {q[0] | (high & 7) << 8, q[1] | ((high >> 3) & 7) << 8,
                               q[2] | ((high >> 6) & 7) << 8, q[3] | ((high >> 9) & 7) << 8};
    return ShiftedPoints(index, (high >> 15) != 0 ? 15u : 0u);
  }
};

struct UnpackIQ1_M {
  using Block = BlockIQ1_M;
  static constexpr int kGroup = 16;
  static constexpr int kBits = 5;
  static constexpr int kOffset = 9;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int half, __m256& scale, __m256&) {
    Bytes scales = chunk + offsetof(Block, scales);
    uint32_t d = 0;
    for (int k = 0; k < 4; ++k) d |= (LoadU16(scales + 2 * k) >> 12) << (4 * k);
    int odd[8];
    for (int g = 0; g < 8; ++g) {
      const uint32_t word = LoadU16(scales + 4 * half + 2 * (g / 4));
      odd[g] = static_cast<int>(2 * ((word >> (3 * (g % 4))) & 7) + 1);
    }
    const auto bits = static_cast<uint16_t>(d);
    scale = _mm256_mul_ps(_mm256_set1_ps(HalfAt(&bits) * 0.125f), _mm256_cvtepi32_ps(Load256(odd)));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 4 * i;
    const uint32_t high = LoadU16(chunk + offsetof(Block, high) + 2 * i);
    uint32_t index[4];
    uint32_t negative = 0;
    for (int k = 0; k < 4; ++k) {
      const uint32_t nibble = (high >> (4 * k)) & 15;
      index[k] = q[k] | (nibble & 7) << 8;
      negative |= (nibble >> 3) << k;
    }
    return ShiftedPoints(index, negative);
  }
};

// ---- ternary ------------------------------------------------------------------------------------

struct UnpackTQ1_0 {
  using Block = BlockTQ1_0;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 4;
  static constexpr int kOffset = 1;
  static constexpr bool kHasMin = false;

  /// Digit k of 16 fractions in base 3, less 1: multiplying by 3^k drops the digits before it.
  MOXIE_INLINE __m256i Digits(__m128i bytes, __m256i power) {
    const __m256i fraction = _mm256_and_si256(
        _mm256_mullo_epi16(_mm256_cvtepu8_epi16(bytes), power), _mm256_set1_epi16(255));
    return _mm256_srli_epi16(_mm256_mullo_epi16(fraction, _mm256_set1_epi16(3)), 8);
  }
  MOXIE_INLINE __m256i Power(int k) {
    constexpr int16_t kPowers[] = {1, 3, 9, 27, 81};
    return _mm256_set1_epi16(kPowers[k]);
  }
  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    scale = _mm256_set1_ps(HalfAt(chunk + offsetof(Block, d)));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    __m256i first;
    __m256i second;
    if (i < 5) {
      first = Digits(Load128(chunk), Power(i));
      second = Digits(Load128(chunk + 16), Power(i));
    } else if (i < 7) {
      first = Digits(Load128(chunk + 32), Power(2 * i - 10));
      second = Digits(Load128(chunk + 32), Power(2 * i - 9));
    } else {
      first = Digits(Load128(chunk + 32), Power(4));
      const __m128i tail = _mm_set1_epi32(static_cast<int>(LoadU32(chunk + offsetof(Block, tail))));
      second = Digits(tail, _mm256_setr_epi16(1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27));
    }
    return _mm256_permute4x64_epi64(_mm256_packus_epi16(first, second), 0xd8);
  }
};

struct UnpackTQ2_0 {
  using Block = BlockTQ2_0;
  static constexpr int kGroup = 32;
  static constexpr int kBits = 4;
  static constexpr int kOffset = 1;
  static constexpr bool kHasMin = false;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    scale = _mm256_set1_ps(HalfAt(chunk + offsetof(Block, d)));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    return CodesAt(Load256(chunk + 32 * (i / 4)), 2 * (i % 4), 3);
  }
};

}  // namespace
}  // namespace moxie::avx2
