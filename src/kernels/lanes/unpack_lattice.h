#pragma once

#include "kernels/lanes/unpack_blocks.h"

// The formats whose codes are places in a codebook of points, and the ternary ones; unpack.h says
// what they promise.

namespace moxie::lanes {
namespace {

/// What all formats with a codebook have.
template <class Block, int group, int bits, int offset>
struct LookedUp : Format<Block, group, bits, offset> {
  static constexpr bool kIsLookedUp = true;
};

/// `p`, without the places after it being added up one by one before a loop over rows.
MOXIE_INLINE Bytes InRegister(Bytes p) {
  asm("" : "+r"(p));
  return p;
}

/// Negates byte i where bit i of `signs` is set, and adds `offset`.
template <class L>
MOXIE_INLINE IntsOf<L> WithSigns(IntsOf<L> magnitudes, uint32_t signs, int offset) {
  const IntsOf<L> masks = L::MasksOfBits(signs);
  return L::Add8(L::Sub8(L::Xor(magnitudes, masks), masks), L::Set8(offset));
}

/// Bytes of seven signs, completed by an eighth that makes each byte's number of signs even.
template <class Word>
MOXIE_INLINE Word WithEvenSigns(Word bytes) {
  // Only bit 0 of each byte counts: it is met by no bit of another byte.
  Word parity = bytes ^ bytes >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  constexpr auto kFirstBits = static_cast<Word>(0x0101010101010101);
  return bytes | (parity & kFirstBits) << 7;
}

/// 28 bits of signs as four groups of 8.
MOXIE_INLINE uint32_t EvenSignsOf4(uint32_t bits) {
  return WithEvenSigns((bits & 0x7f) | (bits & 0x7f << 7) << 1 | (bits & 0x7f << 14) << 2 |
                       (bits & 0x7f << 21) << 3);
}

/// The same of seven bits in each 16.
MOXIE_INLINE uint32_t EvenSignsOf4(uint64_t words) {
  uint64_t signs = WithEvenSigns(words);
  signs = (signs | signs >> 8) & 0x0000ffff0000ffff;
  return static_cast<uint32_t>(signs | signs >> 16);
}

/// Four points of a codebook of 8 dimensions, or eight of one of 4.
template <class L, class Codebook>
MOXIE_INLINE IntsOf<L> Points(const Codebook& book, const uint32_t (&index)[4]) {
  const auto at = [&](int k) __attribute__((always_inline)) {
    return LoadU64(reinterpret_cast<Bytes>(&book) + 8 * size_t{index[k]});
  };
  return L::Set64(at(0), at(1), at(2), at(3));
}
template <class L, class Codebook>
MOXIE_INLINE IntsOf<L> Points(const Codebook& book, const uint32_t (&index)[8]) {
  const auto at = [&](int k) __attribute__((always_inline)) {
    return LoadU32(reinterpret_cast<Bytes>(&book) + 4 * size_t{index[k]});
  };
  return L::Set32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
}

/// (d * (0.5 + code)) * factor
template <class L>
MOXIE_INLINE FloatsOf<L> ScalesWithHalf(float d, IntsOf<L> codes, float factor) {
  const FloatsOf<L> sum = L::Add(L::ToFloats(codes), L::SetFloats(0.5f));
  return L::Mul(L::Mul(L::SetFloats(d), sum), L::SetFloats(factor));
}

template <class L>
MOXIE_INLINE IntsOf<L> TopNibbles(Bytes p, int stride) {
  int codes[8];
  for (int g = 0; g < 8; ++g) codes[g] = static_cast<int>(LoadU32(p + g * stride) >> 28);
  return L::Load(codes);
}

/// The eight nibbles in order, low first.
template <class L>
MOXIE_INLINE IntsOf<L> NibblesToLanes(uint32_t nibbles) {
  const IntsOf<L> all = L::Set32(static_cast<int>(nibbles));
  return L::And(L::Right32(all, L::template Multiples<4>()), L::Set32(15));
}

template <class L>
struct UnpackIQ2_XXS : LookedUp<BlockIQ2_XXS, 32, 7, 43> {
  MOXIE_INLINE void Scales(Bytes chunk, int, FloatsOf<L>& scale, FloatsOf<L>&) {
    scale = ScalesWithHalf<L>(L::HalfAt(chunk),
                              TopNibbles<L>(chunk + offsetof(BlockIQ2_XXS, q) + 4, 8), 0.25f);
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    Bytes q = InRegister(chunk + offsetof(BlockIQ2_XXS, q) + 8 * i);
    const uint32_t index[4] = {q[0], q[1], q[2], q[3]};
    return WithSigns<L>(Points<L>(kIq2XxsGrid, index), EvenSignsOf4(LoadU32(q + 4)),
                        UnpackIQ2_XXS::kOffset);
  }
};

/// IQ2_XS and IQ2_S: a scale of four bits for 16 elements.
template <class L, class Block>
struct ScaledPoints : LookedUp<Block, 16, 7, 43> {
  MOXIE_INLINE void Scales(Bytes chunk, int half, FloatsOf<L>& scale, FloatsOf<L>&) {
    const uint32_t nibbles = LoadU32(chunk + offsetof(Block, scales) + 4 * half);
    scale = ScalesWithHalf<L>(L::HalfAt(chunk), NibblesToLanes<L>(nibbles), 0.25f);
  }
};

template <class L>
struct UnpackIQ2_XS : ScaledPoints<L, BlockIQ2_XS> {
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    Bytes q = InRegister(chunk + offsetof(BlockIQ2_XS, q) + 8 * i);
    const uint64_t codes = LoadU64(q);
    uint32_t index[4];
    for (int k = 0; k < 4; ++k) index[k] = static_cast<uint32_t>(codes >> (16 * k)) & 511;
    const uint32_t signs = EvenSignsOf4(codes >> 9 & 0x007f007f007f007f);
    return WithSigns<L>(Points<L>(kIq2XsGrid, index), signs, UnpackIQ2_XS::kOffset);
  }
};

template <class L>
struct UnpackIQ2_S : ScaledPoints<L, BlockIQ2_S> {
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    Bytes q = InRegister(chunk + offsetof(BlockIQ2_S, q) + 4 * i);
    const uint32_t high = chunk[offsetof(BlockIQ2_S, high) + static_cast<size_t>(i)];
    const uint32_t index[4] = {q[0] | (high & 0x03) << 8, q[1] | (high & 0x0c) << 6,
                               q[2] | (high & 0x30) << 4, q[3] | (high & 0xc0) << 2};
    return WithSigns<L>(Points<L>(kIq2SGrid, index),
                        LoadU32(chunk + offsetof(BlockIQ2_S, signs) + 4 * i), UnpackIQ2_S::kOffset);
  }
};

template <class L>
struct UnpackIQ3_XXS : LookedUp<BlockIQ3_XXS, 32, 7, 62> {
  MOXIE_INLINE void Scales(Bytes chunk, int, FloatsOf<L>& scale, FloatsOf<L>&) {
    scale = ScalesWithHalf<L>(L::HalfAt(chunk),
                              TopNibbles<L>(chunk + offsetof(BlockIQ3_XXS, scales), 4), 0.5f);
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    Bytes q = InRegister(chunk + offsetof(BlockIQ3_XXS, q) + 8 * i);
    const uint32_t index[8] = {q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7]};
    const uint32_t rest = LoadU32(chunk + offsetof(BlockIQ3_XXS, scales) + 4 * i);
    return WithSigns<L>(Points<L>(kIq3XxsGrid, index), EvenSignsOf4(rest), UnpackIQ3_XXS::kOffset);
  }
};

template <class L>
struct UnpackIQ3_S : LookedUp<BlockIQ3_S, 32, 5, 15> {
  MOXIE_INLINE void Scales(Bytes chunk, int, FloatsOf<L>& scale, FloatsOf<L>&) {
    const IntsOf<L> codes = NibblesToLanes<L>(LoadU32(chunk + offsetof(BlockIQ3_S, scales)));
    scale = Scaled<L>(L::HalfAt(chunk), L::Or(L::Left32(codes, 1), L::Set32(1)));
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    Bytes q = InRegister(chunk + offsetof(BlockIQ3_S, q) + 8 * i);
    const uint32_t high = chunk[offsetof(BlockIQ3_S, high) + static_cast<size_t>(i)];
    uint64_t words[2];
    L::WithNinthBits(q, high, words);
    uint32_t index[8];
    for (int k = 0; k < 8; ++k) index[k] = static_cast<uint16_t>(words[k / 4] >> (16 * (k % 4)));
    const uint32_t signs = LoadU32(chunk + offsetof(BlockIQ3_S, signs) + 4 * i);
    return WithSigns<L>(Points<L>(kIq3SGrid, index), signs, UnpackIQ3_S::kOffset);
  }
};

/// 8 * point + delta + 9 of IQ1: byte k of `negative` is 255 where group k's delta is -1, not 1.
template <class L>
MOXIE_INLINE IntsOf<L> ShiftedPoints(const uint32_t (&index)[4], uint32_t negative) {
  const IntsOf<L> points = Points<L>(kIq1Grid, index);
  const IntsOf<L> masks = L::MasksOfBits(negative);  // -1 where negative
  const IntsOf<L> twice = L::Add8(points, points);
  const IntsOf<L> four_times = L::Add8(twice, twice);
  return L::Add8(L::Add8(four_times, four_times), L::Add8(L::Add8(masks, masks), L::Set8(10)));
}

template <class L>
struct UnpackIQ1_S : LookedUp<BlockIQ1_S, 32, 5, 9> {
  MOXIE_INLINE void Scales(Bytes chunk, int, FloatsOf<L>& scale, FloatsOf<L>&) {
    const IntsOf<L> high = L::WordsAt(chunk + offsetof(BlockIQ1_S, high));
    const IntsOf<L> odd = L::Or(L::And(L::Right32(high, 11), L::Set32(14)), L::Set32(1));
    scale = Scaled<L>(L::HalfAt(chunk) * 0.125f, odd);
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    Bytes q = InRegister(chunk + offsetof(BlockIQ1_S, q) + 4 * i);
    const uint32_t high = LoadU16(chunk + offsetof(BlockIQ1_S, high) + 2 * i);
    const uint32_t index[4] = {q[0] | (high & 7) << 8, q[1] | ((high >> 3) & 7) << 8,
                               q[2] | ((high >> 6) & 7) << 8, q[3] | ((high >> 9) & 7) << 8};
    return ShiftedPoints<L>(index, (high >> 15) != 0 ? ~0u : 0u);
  }
};

template <class L>
struct UnpackIQ1_M : LookedUp<BlockIQ1_M, 16, 5, 9> {
  MOXIE_INLINE void Scales(Bytes chunk, int half, FloatsOf<L>& scale, FloatsOf<L>&) {
    Bytes scales = chunk + offsetof(BlockIQ1_M, scales);
    uint32_t d = 0;
    for (int k = 0; k < 4; ++k) d |= (LoadU16(scales + 2 * k) >> 12) << (4 * k);
    alignas(32) static constexpr int32_t kShifts[8] = {0, 3, 6, 9, 0, 3, 6, 9};
    const auto twice = [](uint64_t word) { return word | word << 32; };
    const uint64_t first = twice(LoadU16(scales + 4 * half));
    const uint64_t second = twice(LoadU16(scales + 4 * half + 2));
    const IntsOf<L> codes =
        L::And(L::Right32(L::Set64(first, first, second, second), L::Load(kShifts)), L::Set32(7));
    const IntsOf<L> odd = L::Or(L::Left32(codes, 1), L::Set32(1));
    const auto bits = static_cast<uint16_t>(d);
    scale = Scaled<L>(L::HalfAt(&bits) * 0.125f, odd);
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    Bytes q = InRegister(chunk + offsetof(BlockIQ1_M, q) + 4 * i);
    const uint32_t high = LoadU16(chunk + offsetof(BlockIQ1_M, high) + 2 * i);
    const uint32_t index[4] = {q[0] | (high & 0x7) << 8, q[1] | (high & 0x70) << 4,
                               q[2] | (high & 0x700), q[3] | (high & 0x7000) >> 4};
    const uint32_t negative =
        (high >> 3 & 1) | (high & 0x80) << 1 | (high & 0x800) << 5 | (high & 0x8000) << 9;
    return ShiftedPoints<L>(index, 255 * negative);
  }
};

// ---- ternary ------------------------------------------------------------------------------------

template <class L, class Block>
struct TernaryBlocks : Format<Block, 32, 4, 1> {
  MOXIE_INLINE void Scales(Bytes chunk, int, FloatsOf<L>& scale, FloatsOf<L>&) {
    scale = L::SetFloats(L::HalfAt(chunk + offsetof(Block, d)));
  }
};

template <class L>
struct UnpackTQ1_0 : TernaryBlocks<L, BlockTQ1_0> {
  /// Digit k of 16 fractions in base 3, less 1: multiplying by 3^k drops the digits before it.
  MOXIE_INLINE IntsOf<L> Digits(IntsOf<L> words, IntsOf<L> power) {
    const IntsOf<L> fraction = L::And(L::Mul16(words, power), L::Set16(255));
    return L::Right16(L::Mul16(fraction, L::Set16(3)), 8);
  }
  MOXIE_INLINE IntsOf<L> Power(int k) {
    constexpr int16_t kPowers[] = {1, 3, 9, 27, 81};
    return L::Set16(kPowers[k]);
  }
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    IntsOf<L> first;
    IntsOf<L> second;
    if (i < 5) {
      first = Digits(L::Bytes16At(chunk), Power(i));
      second = Digits(L::Bytes16At(chunk + 16), Power(i));
    } else if (i < 7) {
      first = Digits(L::Bytes16At(chunk + 32), Power(2 * i - 10));
      second = Digits(L::Bytes16At(chunk + 32), Power(2 * i - 9));
    } else {
      alignas(32) static constexpr int16_t kPowersOf4[16] = {1, 1, 1, 1, 3,  3,  3,  3,
                                                             9, 9, 9, 9, 27, 27, 27, 27};
      const uint32_t tail = LoadU32(chunk + offsetof(BlockTQ1_0, tail));
      const uint32_t four_times[4] = {tail, tail, tail, tail};
      first = Digits(L::Bytes16At(chunk + 32), Power(4));
      second = Digits(L::Bytes16At(four_times), L::Load(kPowersOf4));
    }
    return L::WordsToBytes(first, second);
  }
};

template <class L>
struct UnpackTQ2_0 : TernaryBlocks<L, BlockTQ2_0> {
  MOXIE_INLINE IntsOf<L> Codes(Bytes chunk, int i) {
    return CodesAt<L>(L::Load(chunk + 32 * (i / 4)), 2 * (i % 4), 3);
  }
};

}  // namespace
}  // namespace moxie::lanes
