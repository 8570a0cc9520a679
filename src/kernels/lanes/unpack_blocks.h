#pragma once

#include <cstddef>

#include "kernels/lanes/floats.h"
#include "quant/blocks.h"
#include "quant/codebooks.h"

// The formats whose codes are numbers or places in a table of 16; unpack.h says what they promise.

namespace moxie::lanes {
namespace {

using Bytes = const uint8_t*;

template <class L>
using IntsOf = typename L::Ints;
template <class L>
using FloatsOf = typename L::Floats;

template <class BlockType, int group, int bits, int offset, bool has_min = false>
struct Format {
  using Block = BlockType;
  static constexpr int kGroup = group;
  static constexpr int kBits = bits;
  static constexpr int kOffset = offset;
  static constexpr bool kHasMin = has_min;
};

/// Codes of up to 8 bits, under `mask`, at position `shift` of each byte.
template <class L>
MOXIE_INLINE IntsOf<L> CodesAt(IntsOf<L> bytes, int shift, int mask) {
  return L::And(L::Right16(bytes, shift), L::Set8(mask));
}

// ---- 32 elements a block ------------------------------------------------------------------------

/// Blocks of 32 that hold a binary16 scale `d`, and a binary16 `m` where they have a min.
template <class L, class Block, int bits, int offset, bool has_min>
struct ScaledBlocks : Format<Block, 32, bits, offset, has_min> {
  static constexpr bool kBeginsWithHalves = true;

  MOXIE_INLINE Bytes BlockAt(Bytes chunk, int i) {
    return chunk + i * static_cast<int>(sizeof(Block));
  }
  MOXIE_INLINE void Scales(Bytes chunk, int, FloatsOf<L>& scale, FloatsOf<L>& min) {
    scale = L::template HalvesApart<sizeof(Block)>(chunk + offsetof(Block, d));
    if constexpr (has_min) min = L::template HalvesApart<sizeof(Block)>(chunk + offsetof(Block, m));
  }
};

template <class L, class Block, int offset, bool has_min = false>
struct FourBitBlocks : ScaledBlocks<L, Block, 4, offset, has_min> {
  using Base = ScaledBlocks<L, Block, 4, offset, has_min>;

  MOXIE_INLINE Bytes Nibbles(Bytes chunk, int i) {
    return Base::BlockAt(chunk, i) + offsetof(Block, q);
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) { return L::Nibbles(Nibbles(chunk, i)); }
};

template <class L>
using UnpackQ4_0 = FourBitBlocks<L, BlockQ4_0, 8>;
template <class L>
using UnpackQ4_1 = FourBitBlocks<L, BlockQ4_1, 0, true>;

template <class L, class Block, int offset, bool has_min = false>
struct FiveBitBlocks : ScaledBlocks<L, Block, 5, offset, has_min> {
  using Base = ScaledBlocks<L, Block, 5, offset, has_min>;

  MOXIE_INLINE Bytes LowNibbles(Bytes chunk, int i) {
    return Base::BlockAt(chunk, i) + offsetof(Block, q);
  }
  MOXIE_INLINE Bytes FifthBits(Bytes chunk, int i) {
    return Base::BlockAt(chunk, i) + offsetof(Block, high);
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    const IntsOf<L> high = L::And(L::MasksOfBits(LoadU32(FifthBits(chunk, i))), L::Set8(16));
    return L::Or(L::Nibbles(LowNibbles(chunk, i)), high);
  }
};

template <class L>
using UnpackQ5_0 = FiveBitBlocks<L, BlockQ5_0, 16>;
template <class L>
using UnpackQ5_1 = FiveBitBlocks<L, BlockQ5_1, 0, true>;

template <class L>
struct UnpackQ8_0 : ScaledBlocks<L, BlockQ8_0, 8, 0, false> {
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) { return L::Load(WholeCodes(chunk, i)); }
  MOXIE_INLINE Bytes WholeCodes(Bytes chunk, int i) {
    return UnpackQ8_0::BlockAt(chunk, i) + offsetof(BlockQ8_0, q);
  }
};

template <class L>
struct UnpackIQ4_NL : ScaledBlocks<L, BlockIQ4_NL, 8, 0, false> {
  static constexpr const auto& kValues = kIq4Values;

  MOXIE_INLINE Bytes Nibbles(Bytes chunk, int i) {
    return UnpackIQ4_NL::BlockAt(chunk, i) + offsetof(BlockIQ4_NL, q);
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    return L::LookUp(&kValues, L::Nibbles(Nibbles(chunk, i)));
  }
};

template <class L>
struct UnpackMXFP4 : Format<BlockMXFP4, 32, 5, 12> {
  static constexpr const auto& kValues = kMxfp4Values;

  /// 2^(e - 128): the exponent field e - 1, and for e < 2 a subnormal of one bit.
  template <class Lanes = L>
  MOXIE_INLINE FloatsOf<Lanes> ScaleOf(IntsOf<Lanes> e) {
    const IntsOf<Lanes> one = Lanes::Set32(1);
    const IntsOf<Lanes> normal = Lanes::Left32(Lanes::Sub32(e, one), 23);
    const IntsOf<Lanes> subnormal = Lanes::Left32(Lanes::Set32(0x00200000), e);
    return Lanes::AsFloats(Lanes::IfGreater32(e, one, normal, subnormal));
  }
  MOXIE_INLINE void Scales(Bytes chunk, int, FloatsOf<L>& scale, FloatsOf<L>&) {
    scale = ScaleOf(L::template BytesApart<sizeof(BlockMXFP4)>(chunk));
  }
  MOXIE_INLINE Bytes Nibbles(Bytes chunk, int i) {
    return chunk + i * static_cast<int>(sizeof(BlockMXFP4)) + offsetof(BlockMXFP4, q);
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    const IntsOf<L> values = L::LookUp(&kValues, L::Nibbles(Nibbles(chunk, i)));
    return L::Add8(values, L::Set8(UnpackMXFP4::kOffset));
  }
};

// ---- 256 elements a block -----------------------------------------------------------------------

/// A row's bytes, where CodesFrom takes them from.
template <class L>
struct RowBytes {
  using Lanes = L;
  Bytes chunk;
  IntsOf<L> Load(int64_t offset) const { return L::Load(chunk + offset); }
};

/// d * codes
template <class L>
MOXIE_INLINE FloatsOf<L> Scaled(float d, IntsOf<L> codes) {
  return L::Mul(L::SetFloats(d), L::ToFloats(codes));
}

/// d * (codes - 32)
template <class L>
MOXIE_INLINE FloatsOf<L> ScaledSixBits(float d, IntsOf<L> codes) {
  return Scaled<L>(d, L::Sub32(codes, L::Set32(32)));
}

template <class L>
struct UnpackQ2_K : Format<BlockQ2_K, 16, 4, 0, true> {
  MOXIE_INLINE void Scales(Bytes chunk, int half, FloatsOf<L>& scale, FloatsOf<L>& min) {
    const uint64_t codes = LoadU64(chunk + 8 * half);
    scale = Scaled<L>(L::HalfAt(chunk + offsetof(BlockQ2_K, d)),
                      L::FromBytes(codes & 0x0f0f0f0f0f0f0f0full));
    min = Scaled<L>(-L::HalfAt(chunk + offsetof(BlockQ2_K, dmin)),
                    L::FromBytes((codes >> 4) & 0x0f0f0f0f0f0f0f0full));
  }
  template <class Source, class Lanes = typename Source::Lanes>
  MOXIE_INLINE IntsOf<Lanes> CodesFrom(const Source& source, int i) {
    return CodesAt<Lanes>(source.Load(offsetof(BlockQ2_K, q) + 32 * (i / 4)), 2 * (i % 4), 3);
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) { return CodesFrom(RowBytes<L>{chunk}, i); }
};

template <class L>
struct UnpackQ3_K : Format<BlockQ3_K, 16, 4, 4> {
  MOXIE_INLINE void Scales(Bytes chunk, int half, FloatsOf<L>& scale, FloatsOf<L>&) {
    Bytes packed = chunk + offsetof(BlockQ3_K, scales);
    const uint64_t low = LoadU64(packed) >> (4 * half);
    const uint64_t high = static_cast<uint64_t>(LoadU32(packed + 8)) >> (4 * half);
    const uint64_t codes = (low & 0x0f0f0f0f0f0f0f0full) | (high & 0x03030303u) << 4 |
                           ((high >> 2) & 0x03030303u) << 36;
    scale = ScaledSixBits<L>(L::HalfAt(chunk + offsetof(BlockQ3_K, d)), L::FromBytes(codes));
  }
  template <class Source, class Lanes = typename Source::Lanes>
  MOXIE_INLINE IntsOf<Lanes> CodesFrom(const Source& source, int i) {
    const IntsOf<Lanes> low =
        CodesAt<Lanes>(source.Load(offsetof(BlockQ3_K, q) + 32 * (i / 4)), 2 * (i % 4), 3);
    const IntsOf<Lanes> high = CodesAt<Lanes>(source.Load(offsetof(BlockQ3_K, hmask)), i, 1);
    return Lanes::Or(low, Lanes::Left16(high, 2));
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) { return CodesFrom(RowBytes<L>{chunk}, i); }
};

/// Q4_K and Q5_K: four bits and six-bit scales and mins, packed as blocks.h says.
template <class L, class Block, int bits>
struct MinKBlocks : Format<Block, 32, bits, 0, true> {
  static constexpr bool kSixBitScales = true;

  MOXIE_INLINE void Scales(Bytes chunk, int, FloatsOf<L>& scale, FloatsOf<L>& min) {
    Bytes packed = chunk + offsetof(Block, scales);
    const uint32_t p0 = LoadU32(packed);
    const uint32_t p1 = LoadU32(packed + 4);
    const uint32_t p2 = LoadU32(packed + 8);
    const uint64_t scale_high = (p2 & 0x0f0f0f0fu) | ((p0 >> 2) & 0x30303030u);
    const uint64_t min_high = ((p2 >> 4) & 0x0f0f0f0fu) | ((p1 >> 2) & 0x30303030u);
    scale = Scaled<L>(L::HalfAt(chunk + offsetof(Block, d)),
                      L::FromBytes((p0 & 0x3f3f3f3fu) | scale_high << 32));
    min = Scaled<L>(-L::HalfAt(chunk + offsetof(Block, dmin)),
                    L::FromBytes((p1 & 0x3f3f3f3fu) | min_high << 32));
  }
  template <class Source, class Lanes = typename Source::Lanes>
  MOXIE_INLINE IntsOf<Lanes> LowCodes(const Source& source, int i) {
    return CodesAt<Lanes>(source.Load(offsetof(Block, q) + 32 * (i / 2)), 4 * (i % 2), 15);
  }
};

template <class L>
struct UnpackQ4_K : MinKBlocks<L, BlockQ4_K, 4> {
  MOXIE_INLINE Bytes NibblePairs(Bytes chunk, int i) {
    return chunk + offsetof(BlockQ4_K, q) + 32 * i;
  }
  template <class Source, class Lanes = typename Source::Lanes>
  MOXIE_INLINE IntsOf<Lanes> CodesFrom(const Source& source, int i) {
    return UnpackQ4_K::LowCodes(source, i);
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) { return CodesFrom(RowBytes<L>{chunk}, i); }
};

template <class L>
struct UnpackQ5_K : MinKBlocks<L, BlockQ5_K, 5> {
  template <class Source, class Lanes = typename Source::Lanes>
  MOXIE_INLINE IntsOf<Lanes> CodesFrom(const Source& source, int i) {
    const IntsOf<Lanes> high = CodesAt<Lanes>(source.Load(offsetof(BlockQ5_K, high)), i, 1);
    return Lanes::Or(UnpackQ5_K::LowCodes(source, i), Lanes::Left16(high, 4));
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) { return CodesFrom(RowBytes<L>{chunk}, i); }
};

template <class L>
struct UnpackQ6_K : Format<BlockQ6_K, 16, 6, 32> {
  MOXIE_INLINE void Scales(Bytes chunk, int half, FloatsOf<L>& scale, FloatsOf<L>&) {
    scale = Scaled<L>(L::HalfAt(chunk + offsetof(BlockQ6_K, d)),
                      L::FromSignedBytes(LoadU64(chunk + offsetof(BlockQ6_K, scales) + 8 * half)));
  }
  template <class Source, class Lanes = typename Source::Lanes>
  MOXIE_INLINE IntsOf<Lanes> CodesFrom(const Source& source, int i) {
    const auto low_bytes = source.Load(offsetof(BlockQ6_K, low) + 64 * (i / 4) + 32 * (i % 2));
    const IntsOf<Lanes> low = CodesAt<Lanes>(low_bytes, 4 * (i / 2 % 2), 15);
    const IntsOf<Lanes> high =
        CodesAt<Lanes>(source.Load(offsetof(BlockQ6_K, high) + 32 * (i / 4)), 2 * (i % 4), 3);
    return Lanes::Or(low, Lanes::Left16(high, 4));
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) { return CodesFrom(RowBytes<L>{chunk}, i); }
};

template <class L>
struct UnpackIQ4_XS : Format<BlockIQ4_XS, 32, 8, 0> {
  static constexpr const auto& kValues = kIq4Values;

  /// Eight codes of `bits` bits each.
  template <int bits>
  MOXIE_INLINE IntsOf<L> Fields(uint32_t packed) {
    const IntsOf<L> shifted =
        L::Right32(L::Set32(static_cast<int>(packed)), L::template Multiples<bits>());
    return L::And(shifted, L::Set32((1 << bits) - 1));
  }
  MOXIE_INLINE void Scales(Bytes chunk, int, FloatsOf<L>& scale, FloatsOf<L>&) {
    const IntsOf<L> low = Fields<4>(LoadU32(chunk + offsetof(BlockIQ4_XS, scales_low)));
    const IntsOf<L> high = Fields<2>(LoadU16(chunk + offsetof(BlockIQ4_XS, scales_high)));
    scale = ScaledSixBits<L>(L::HalfAt(chunk + offsetof(BlockIQ4_XS, d)),
                             L::Or(low, L::Left32(high, 4)));
  }
  MOXIE_INLINE Bytes Nibbles(Bytes chunk, int i) {
    return chunk + offsetof(BlockIQ4_XS, q) + 16 * i;
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    return L::LookUp(&kValues, L::Nibbles(Nibbles(chunk, i)));
  }
};

}  // namespace
}  // namespace moxie::lanes
