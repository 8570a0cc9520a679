#pragma once

#include "kernels/x86/packed_rows.h"
#include "kernels/x86/unpack.h"

// Codes and scales of as many rows as a vector has 32-bit lanes, a row in each lane. Rows are what
// packed_rows.h offers, or the same of rows as they are stored (avx2/rows.h).

namespace moxie::x86 {
namespace {

// ---- codes --------------------------------------------------------------------------------------

/// Where `field` of columns 32 * i .. lies in a chunk, in bytes.
template <class Rows>
MOXIE_INLINE int64_t OffsetOf(const Rows& rows, const uint8_t* (*field)(const uint8_t*, int),
                              int i) {
  return field(rows.Base(), i) - rows.Base();
}

/// What unpacked codes are above those of the weights.
template <class Format, bool kUnsigned>
constexpr int kCodeOffset = kUnsigned&& Format::kBits == 8 ? 128 : Format::kOffset;

/// The codes of elements of which the low four bits are `nibbles`.
template <class Format, bool kUnsigned, class L>
MOXIE_INLINE typename L::Ints CodesOfNibbles(typename L::Ints nibbles) {
  if constexpr (HasValues<Format>) {
    // The offset is added to the table, not to what is found there.
    const typename L::Ints table = L::SetQuarters(Load128(&Format::kValues));
    return L::Shuffle8(L::Add8(table, L::Set8(kCodeOffset<Format, kUnsigned>)), nibbles);
  } else {
    return nibbles;
  }
}

/// The chunk's 32-bit words, in place of a row's 32 bytes: see Format::CodesFrom.
template <class Rows>
struct WordsAt {
  using Lanes = typename Rows::Lanes;
  const Rows& rows;
  int quad;
  MOXIE_MEMBER typename Lanes::Ints Load(int64_t offset) const {
    return rows.Word(offset + 4 * quad);
  }
};

/// 16 where bit 4 q + b of a lane is set, in its byte b.
template <class L>
MOXIE_INLINE typename L::Ints FifthBits(typename L::Ints bits, int q) {
  const __m128i lanes = _mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c);
  const typename L::Ints byte = L::Add8(L::SetQuarters(lanes), L::Set8(q / 2));
  const typename L::Ints bit = L::Set32(q % 2 == 0 ? 0x08040201 : static_cast<int>(0x80402010));
  return L::IfBit8(L::Shuffle8(bits, byte), bit, L::Set8(16));
}

/// Whether UnpackLaneCodes serves such rows.
template <class Rows>
constexpr bool kHasLaneCodes =
    Rows::kPacked || HasNibbles<typename Rows::Format> || HasFifthBits<typename Rows::Format>;

/// The codes of elements 32 * i .. of a chunk: codes[q] has columns 4 q .. 4 q + 3, as kCodeOffset
/// says.
template <bool kUnsigned, class Rows>
MOXIE_INLINE void UnpackLaneCodes(const Rows& rows, int i, typename Rows::Lanes::Ints (&codes)[8]) {
  using Format = typename Rows::Format;
  using L = typename Rows::Lanes;
  if constexpr (HasNibbles<Format>) {
    typename L::Ints packed[4];
    rows.FourWords(OffsetOf(rows, Format::Nibbles, i), packed);
    MOXIE_UNROLL
    for (int k = 0; k < 4; ++k) {
      codes[k] = CodesOfNibbles<Format, kUnsigned, L>(CodesAt<L>(packed[k], 0, 15));
      codes[4 + k] = CodesOfNibbles<Format, kUnsigned, L>(CodesAt<L>(packed[k], 4, 15));
    }
  } else if constexpr (HasFifthBits<Format>) {
    typename L::Ints packed[4];
    rows.FourWords(OffsetOf(rows, Format::LowNibbles, i), packed);
    const typename L::Ints bits = rows.Word(OffsetOf(rows, Format::FifthBits, i));
    MOXIE_UNROLL
    for (int k = 0; k < 4; ++k) {
      codes[k] = L::Or(CodesAt<L>(packed[k], 0, 15), FifthBits<L>(bits, k));
      codes[4 + k] = L::Or(CodesAt<L>(packed[k], 4, 15), FifthBits<L>(bits, 4 + k));
    }
  } else if constexpr (HasWholeCodes<Format>) {
    const int64_t offset = OffsetOf(rows, Format::WholeCodes, i);
    MOXIE_UNROLL
    for (int q = 0; q < 8; ++q) {
      const typename L::Ints word = rows.Word(offset + 4 * q);
      codes[q] = kUnsigned ? L::Add8(word, L::Set8(128)) : word;
    }
  } else {
    MOXIE_UNROLL
    for (int q = 0; q < 8; ++q) codes[q] = Format::CodesFrom(WordsAt<Rows>{rows, q}, i);
  }
}

// ---- scales -------------------------------------------------------------------------------------

/// The `bits` bits of each lane from `shift` on.
template <class L>
MOXIE_INLINE typename L::Ints BitsAt(typename L::Ints lanes, int shift, int bits) {
  return L::And(L::Right32(lanes, shift), L::Set32((1 << bits) - 1));
}

template <class L>
MOXIE_INLINE typename L::Floats Scaled(typename L::Floats factor, typename L::Ints integers) {
  return L::Mul(factor, L::ToFloats(integers));
}

/// factor * (six bits - 32), from the low four and the high two.
template <class L>
MOXIE_INLINE typename L::Floats ScaledSixBits(typename L::Floats factor, typename L::Ints low,
                                              typename L::Ints high) {
  const typename L::Ints all = L::Or(low, L::Left32(high, 4));
  return Scaled<L>(factor, L::Sub32(all, L::Set32(32)));
}

// LoadLaneScales: a format's scales where they can be had for eight rows at once, as quant/blocks.h
// says how they lie; to vector `v` of Scales::SetScale(g, v, values) and SetMin.

template <class Format, class Rows, class Scales>
requires Format::kBeginsWithHalves MOXIE_INLINE void LoadLaneScales(Format, const Rows& rows, int v,
                                                                    Scales& scales) {
  for (int g = 0; g < rows.groups(); ++g) {
    const int64_t block = g * static_cast<int64_t>(sizeof(typename Format::Block));
    scales.SetScale(g, v, rows.Halves(block));
    if constexpr (Format::kHasMin) scales.SetMin(g, v, rows.Halves(block + 2));
  }
}

/// Q4_K and Q5_K.
template <class Format, class Rows, class Scales>
requires Format::kSixBitScales MOXIE_INLINE void LoadLaneScales(Format, const Rows& rows, int v,
                                                                Scales& scales) {
  using L = typename Rows::Lanes;
  using Ints = typename L::Ints;
  using Block = typename Format::Block;
  const Ints six_bits = L::Set8(0x3f);
  const Ints four_bits = L::Set8(0x0f);
  const Ints top_bits = L::Set8(0x30);
  static_assert(offsetof(Block, scales) == 4);
  Ints p[4];  // The halves, then the twelve bytes.
  rows.FourWords(0, p);
  const auto high = [&](Ints low, Ints top) {
    return L::Or(L::And(low, four_bits), L::And(L::Right32(top, 2), top_bits));
  };
  const Ints scale[2] = {L::And(p[1], six_bits), high(p[3], p[1])};
  const Ints min[2] = {L::And(p[2], six_bits), high(L::Right32(p[3], 4), p[2])};
  const auto d = rows.Halves(offsetof(Block, d));
  const auto dmin = L::Negate(rows.Halves(offsetof(Block, dmin)));
  MOXIE_UNROLL
  for (int g = 0; g < 8; ++g) {
    scales.SetScale(g, v, Scaled<L>(d, BitsAt<L>(scale[g / 4], 8 * (g % 4), 8)));
    scales.SetMin(g, v, Scaled<L>(dmin, BitsAt<L>(min[g / 4], 8 * (g % 4), 8)));
  }
}

template <class Rows, class Scales>
MOXIE_INLINE void LoadLaneScales(UnpackQ2_K, const Rows& rows, int v, Scales& scales) {
  using L = typename Rows::Lanes;
  typename L::Ints p[4];
  rows.FourWords(offsetof(BlockQ2_K, scales), p);
  const auto d = rows.Halves(offsetof(BlockQ2_K, d));
  const auto dmin = L::Negate(rows.Halves(offsetof(BlockQ2_K, dmin)));
  MOXIE_UNROLL
  for (int g = 0; g < 16; ++g) {
    scales.SetScale(g, v, Scaled<L>(d, BitsAt<L>(p[g / 4], 8 * (g % 4), 4)));
    scales.SetMin(g, v, Scaled<L>(dmin, BitsAt<L>(p[g / 4], 8 * (g % 4) + 4, 4)));
  }
}

template <class Rows, class Scales>
MOXIE_INLINE void LoadLaneScales(UnpackQ3_K, const Rows& rows, int v, Scales& scales) {
  using L = typename Rows::Lanes;
  typename L::Ints p[4];  // Four bytes before, then the twelve.
  rows.FourWords(offsetof(BlockQ3_K, scales) - 4, p);
  const auto d = rows.Halves(offsetof(BlockQ3_K, d));
  MOXIE_UNROLL
  for (int g = 0; g < 16; ++g) {
    const int byte = 8 * (g % 4);
    scales.SetScale(g, v,
                    ScaledSixBits<L>(d, BitsAt<L>(p[1 + g % 8 / 4], byte + 4 * (g / 8), 4),
                                     BitsAt<L>(p[3], byte + 2 * (g / 4), 2)));
  }
}

template <class Rows, class Scales>
MOXIE_INLINE void LoadLaneScales(UnpackQ6_K, const Rows& rows, int v, Scales& scales) {
  using L = typename Rows::Lanes;
  typename L::Ints p[4];
  rows.FourWords(offsetof(BlockQ6_K, scales), p);
  const auto d = rows.Halves(offsetof(BlockQ6_K, d));
  MOXIE_UNROLL
  for (int g = 0; g < 16; ++g) {  // Signed: the shifts bring the sign.
    const auto top = L::Left32(p[g / 4], 24 - 8 * (g % 4));
    scales.SetScale(g, v, Scaled<L>(d, L::SignedRight32(top, 24)));
  }
}

template <class Rows, class Scales>
MOXIE_INLINE void LoadLaneScales(UnpackIQ4_XS, const Rows& rows, int v, Scales& scales) {
  using L = typename Rows::Lanes;
  const auto low = rows.Word(offsetof(BlockIQ4_XS, scales_low));
  const auto high = rows.WidenedWords(offsetof(BlockIQ4_XS, scales_high));
  const auto d = rows.Halves(offsetof(BlockIQ4_XS, d));
  MOXIE_UNROLL
  for (int g = 0; g < 8; ++g)
    scales.SetScale(g, v, ScaledSixBits<L>(d, BitsAt<L>(low, 4 * g, 4), BitsAt<L>(high, 2 * g, 2)));
}

template <class Rows, class Scales>
MOXIE_INLINE void LoadLaneScales(UnpackMXFP4, const Rows& rows, int v, Scales& scales) {
  for (int g = 0; g < rows.groups(); ++g) {
    const auto exponents = rows.WidenedBytes(g * static_cast<int64_t>(sizeof(BlockMXFP4)));
    scales.SetScale(g, v, UnpackMXFP4::ScaleOf<typename Rows::Lanes>(exponents));
  }
}

}  // namespace
}  // namespace moxie::x86
