#pragma once

#include <cstddef>

#include "kernels/x86/eight_lanes.h"
#include "quant/blocks.h"
#include "quant/codebooks.h"

// The formats whose codes are numbers or places in a table of 16; unpack.h says what they promise.

namespace moxie::x86 {
namespace {

using Bytes = const uint8_t*;

template <class BlockType, int group, int bits, int offset, bool has_min = false>
struct Format {
  using Block = BlockType;
  static constexpr int kGroup = group;
  static constexpr int kBits = bits;
  static constexpr int kOffset = offset;
  static constexpr bool kHasMin = has_min;
};

/// Codes of up to 8 bits, under `mask`, at position `shift` of each byte.
template <class L = EightLanes>
MOXIE_INLINE typename L::Ints CodesAt(typename L::Ints bytes, int shift, int mask) {
  return L::And(L::Right16(bytes, shift), L::Set8(mask));
}

// ---- 32 elements a block ------------------------------------------------------------------------

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

/// Blocks of 32 that hold a binary16 scale `d`, and a binary16 `m` where they have a min.
template <class Block, int bits, int offset, bool has_min>
struct ScaledBlocks : Format<Block, 32, bits, offset, has_min> {
  static constexpr bool kBeginsWithHalves = true;

  MOXIE_INLINE Bytes BlockAt(Bytes chunk, int i) {
    return chunk + i * static_cast<int>(sizeof(Block));
  }
  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256& min) {
    scale = Halves<sizeof(Block)>(chunk + offsetof(Block, d));
    if constexpr (has_min) min = Halves<sizeof(Block)>(chunk + offsetof(Block, m));
  }
};

template <class Block, int offset, bool has_min = false>
struct FourBitBlocks : ScaledBlocks<Block, 4, offset, has_min> {
  using Base = ScaledBlocks<Block, 4, offset, has_min>;

  MOXIE_INLINE Bytes Nibbles(Bytes chunk, int i) {
    return Base::BlockAt(chunk, i) + offsetof(Block, q);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) { return NibblesToBytes(Nibbles(chunk, i)); }
};

using UnpackQ4_0 = FourBitBlocks<BlockQ4_0, 8>;
using UnpackQ4_1 = FourBitBlocks<BlockQ4_1, 0, true>;

template <class Block, int offset, bool has_min = false>
struct FiveBitBlocks : ScaledBlocks<Block, 5, offset, has_min> {
  using Base = ScaledBlocks<Block, 5, offset, has_min>;

  MOXIE_INLINE Bytes LowNibbles(Bytes chunk, int i) {
    return Base::BlockAt(chunk, i) + offsetof(Block, q);
  }
  MOXIE_INLINE Bytes FifthBits(Bytes chunk, int i) {
    return Base::BlockAt(chunk, i) + offsetof(Block, high);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    const __m256i high =
        _mm256_and_si256(BitsToMasks(LoadU32(FifthBits(chunk, i))), _mm256_set1_epi8(16));
    return _mm256_or_si256(NibblesToBytes(LowNibbles(chunk, i)), high);
  }
};

using UnpackQ5_0 = FiveBitBlocks<BlockQ5_0, 16>;
using UnpackQ5_1 = FiveBitBlocks<BlockQ5_1, 0, true>;

struct UnpackQ8_0 : ScaledBlocks<BlockQ8_0, 8, 0, false> {
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) { return Load256(WholeCodes(chunk, i)); }
  MOXIE_INLINE Bytes WholeCodes(Bytes chunk, int i) {
    return BlockAt(chunk, i) + offsetof(Block, q);
  }
};

/// Places in a table of 16 values.
MOXIE_INLINE __m256i LookUp(const std::array<int8_t, 16>& values, __m256i codes) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(Load128(&values)), codes);
}

struct UnpackIQ4_NL : ScaledBlocks<BlockIQ4_NL, 8, 0, false> {
  static constexpr const auto& kValues = kIq4Values;

  MOXIE_INLINE Bytes Nibbles(Bytes chunk, int i) { return BlockAt(chunk, i) + offsetof(Block, q); }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    return LookUp(kValues, NibblesToBytes(Nibbles(chunk, i)));
  }
};

struct UnpackMXFP4 : Format<BlockMXFP4, 32, 5, 12> {
  static constexpr const auto& kValues = kMxfp4Values;

  /// 2^(e - 128): the exponent field e - 1, and for e < 2 a subnormal of one bit.
  template <class L = EightLanes>
  MOXIE_INLINE typename L::Floats ScaleOf(typename L::Ints e) {
    const typename L::Ints one = L::Set32(1);
    const typename L::Ints normal = L::Left32(L::Sub32(e, one), 23);
    const typename L::Ints subnormal = L::Left32(L::Set32(0x00200000), e);
    return L::AsFloats(L::IfGreater32(e, one, normal, subnormal));
  }
  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    constexpr int kStride = static_cast<int>(sizeof(Block));
    scale = ScaleOf(_mm256_setr_epi32(chunk[0], chunk[kStride], chunk[2 * kStride],
                                      chunk[3 * kStride], chunk[4 * kStride], chunk[5 * kStride],
                                      chunk[6 * kStride], chunk[7 * kStride]));
  }
  MOXIE_INLINE Bytes Nibbles(Bytes chunk, int i) {
    return chunk + i * static_cast<int>(sizeof(Block)) + offsetof(Block, q);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    const __m256i values = LookUp(kValues, NibblesToBytes(Nibbles(chunk, i)));
    return _mm256_add_epi8(values, _mm256_set1_epi8(kOffset));
  }
};

// ---- 256 elements a block -----------------------------------------------------------------------

/// A row's bytes, where CodesFrom takes them from.
struct RowBytes {
  using Lanes = EightLanes;
  Bytes chunk;
  __m256i Load(int64_t offset) const { return Load256(chunk + offset); }
};

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

/// d * (codes - 32)
MOXIE_INLINE __m256 ScaledSixBits(float d, __m256i codes) {
  const __m256i centred = _mm256_sub_epi32(codes, _mm256_set1_epi32(32));
  return _mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(centred));
}

struct UnpackQ2_K : Format<BlockQ2_K, 16, 4, 0, true> {
  MOXIE_INLINE void Scales(Bytes chunk, int half, __m256& scale, __m256& min) {
    const uint64_t codes = LoadU64(chunk + 8 * half);
    scale = ScaledU8(HalfAt(chunk + offsetof(Block, d)), codes & 0x0f0f0f0f0f0f0f0full);
    min = ScaledU8(-HalfAt(chunk + offsetof(Block, dmin)), (codes >> 4) & 0x0f0f0f0f0f0f0f0full);
  }
  template <class Source, class L = typename Source::Lanes>
  MOXIE_INLINE typename L::Ints CodesFrom(const Source& source, int i) {
    return CodesAt<L>(source.Load(offsetof(Block, q) + 32 * (i / 4)), 2 * (i % 4), 3);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) { return CodesFrom(RowBytes{chunk}, i); }
};

struct UnpackQ3_K : Format<BlockQ3_K, 16, 4, 4> {
  MOXIE_INLINE void Scales(Bytes chunk, int half, __m256& scale, __m256&) {
    Bytes packed = chunk + offsetof(Block, scales);
    const uint64_t low = LoadU64(packed) >> (4 * half);
    const uint64_t high = static_cast<uint64_t>(LoadU32(packed + 8)) >> (4 * half);
    const uint64_t codes = (low & 0x0f0f0f0f0f0f0f0full) | (high & 0x03030303u) << 4 |
                           ((high >> 2) & 0x03030303u) << 36;
    scale = ScaledSixBits(HalfAt(chunk + offsetof(Block, d)),
                          _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(codes))));
  }
  template <class Source, class L = typename Source::Lanes>
  MOXIE_INLINE typename L::Ints CodesFrom(const Source& source, int i) {
    const typename L::Ints low =
        CodesAt<L>(source.Load(offsetof(Block, q) + 32 * (i / 4)), 2 * (i % 4), 3);
    const typename L::Ints high = CodesAt<L>(source.Load(offsetof(Block, hmask)), i, 1);
    return L::Or(low, L::Left16(high, 2));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) { return CodesFrom(RowBytes{chunk}, i); }
};

/// Q4_K and Q5_K: four bits and six-bit scales and mins, packed as blocks.h says.
template <class Block, int bits>
struct MinKBlocks : Format<Block, 32, bits, 0, true> {
  static constexpr bool kSixBitScales = true;

  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256& min) {
    Bytes packed = chunk + offsetof(Block, scales);
    const uint32_t p0 = LoadU32(packed);
    const uint32_t p1 = LoadU32(packed + 4);
    const uint32_t p2 = LoadU32(packed + 8);
    const uint64_t scale_high = (p2 & 0x0f0f0f0fu) | ((p0 >> 2) & 0x30303030u);
    const uint64_t min_high = ((p2 >> 4) & 0x0f0f0f0fu) | ((p1 >> 2) & 0x30303030u);
    scale = ScaledU8(HalfAt(chunk + offsetof(Block, d)), (p0 & 0x3f3f3f3fu) | scale_high << 32);
    min = ScaledU8(-HalfAt(chunk + offsetof(Block, dmin)), (p1 & 0x3f3f3f3fu) | min_high << 32);
  }
  template <class Source, class L = typename Source::Lanes>
  MOXIE_INLINE typename L::Ints LowCodes(const Source& source, int i) {
    return CodesAt<L>(source.Load(offsetof(Block, q) + 32 * (i / 2)), 4 * (i % 2), 15);
  }
};

struct UnpackQ4_K : MinKBlocks<BlockQ4_K, 4> {
  MOXIE_INLINE Bytes NibblePairs(Bytes chunk, int i) { return chunk + offsetof(Block, q) + 32 * i; }
  template <class Source, class L = typename Source::Lanes>
  MOXIE_INLINE typename L::Ints CodesFrom(const Source& source, int i) {
    return LowCodes(source, i);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) { return CodesFrom(RowBytes{chunk}, i); }
};

struct UnpackQ5_K : MinKBlocks<BlockQ5_K, 5> {
  template <class Source, class L = typename Source::Lanes>
  MOXIE_INLINE typename L::Ints CodesFrom(const Source& source, int i) {
    const typename L::Ints high = CodesAt<L>(source.Load(offsetof(Block, high)), i, 1);
    return L::Or(LowCodes(source, i), L::Left16(high, 4));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) { return CodesFrom(RowBytes{chunk}, i); }
};

struct UnpackQ6_K : Format<BlockQ6_K, 16, 6, 32> {
  MOXIE_INLINE void Scales(Bytes chunk, int half, __m256& scale, __m256&) {
    scale = ScaledI8(HalfAt(chunk + offsetof(Block, d)),
                     LoadU64(chunk + offsetof(Block, scales) + 8 * half));
  }
  template <class Source, class L = typename Source::Lanes>
  MOXIE_INLINE typename L::Ints CodesFrom(const Source& source, int i) {
    const auto low_bytes = source.Load(offsetof(Block, low) + 64 * (i / 4) + 32 * (i % 2));
    const typename L::Ints low = CodesAt<L>(low_bytes, 4 * (i / 2 % 2), 15);
    const typename L::Ints high =
        CodesAt<L>(source.Load(offsetof(Block, high) + 32 * (i / 4)), 2 * (i % 4), 3);
    return L::Or(low, L::Left16(high, 4));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) { return CodesFrom(RowBytes{chunk}, i); }
};

struct UnpackIQ4_XS : Format<BlockIQ4_XS, 32, 8, 0> {
  static constexpr const auto& kValues = kIq4Values;

  /// Eight codes of `bits` bits each.
  template <int bits>
  MOXIE_INLINE __m256i Lanes(uint32_t codes) {
    const __m256i shifts =
        _mm256_setr_epi32(0, bits, 2 * bits, 3 * bits, 4 * bits, 5 * bits, 6 * bits, 7 * bits);
    return _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(codes)), shifts),
                            _mm256_set1_epi32((1 << bits) - 1));
  }
  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    const __m256i low = Lanes<4>(LoadU32(chunk + offsetof(Block, scales_low)));
    const __m256i high = Lanes<2>(LoadU16(chunk + offsetof(Block, scales_high)));
    scale = ScaledSixBits(HalfAt(chunk + offsetof(Block, d)),
                          _mm256_or_si256(low, _mm256_slli_epi32(high, 4)));
  }
  MOXIE_INLINE Bytes Nibbles(Bytes chunk, int i) { return chunk + offsetof(Block, q) + 16 * i; }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    return LookUp(kValues, NibblesToBytes(Nibbles(chunk, i)));
  }
};

}  // namespace
}  // namespace moxie::x86
