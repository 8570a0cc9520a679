#pragma once

#include "quant/encode_groups.h"

namespace moxie::lanes {
namespace {

// The search of scale_search.h for four bits without importance, in integers of 16 bits, of which a
// register holds twice as many as floats: elements are counted in steps of a 32767th of their
// group's extreme. That is finer than a code by a factor of 4000, so that only ties of the search
// come out otherwise than in floats.

/// How many words hold a group, and which elements share one: those that let codes be packed
/// without moving them between lanes.
constexpr int kPairs = 16;
constexpr int FirstOfPair(int pair) { return pair / 2 * 4 + pair % 2; }
constexpr int SecondOfPair(int pair) { return FirstOfPair(pair) + 2; }

constexpr float kWordRange = 32767;

/// N lanes of groups of 32 elements.
template <int N>
struct WordGroups {
  Words<N> x[kPairs];       ///< the extreme is -32767
  Words<N> weight[kPairs];  ///< 64 and more
  Floats<N> step;           ///< what 1 of `x` stands for
};

/// From 0 to 65535, in both halves of the lanes.
template <int N>
MOXIE_LANES Words<N> InBothHalves(Floats<N> numbers) {
  const auto low = __builtin_convertvector(numbers, Ints<N>);
  return Bits<Words<N>>(low | low << 16);
}

/// The weights of WeighOutliers, times 64: the extreme's share of the sum of squares lets them
/// reach 22 * 64.
template <int N>
MOXIE_LANES void WeighWords(WordGroups<N>& groups) {
  using W = Words<N>;
  constexpr float kFar = 3.4f;
  Ints<N> sum{};
  for (int j = 0; j < kPairs; ++j) {
    groups.weight[j] = MultiplyRounded(groups.x[j], groups.x[j]);
    sum = AddPairs(sum, groups.weight[j], W{} + 1);
  }
  // Squares are fractions of 2^15; over kFar^2 times their mean they become those of 2^12, the
  // square of that those of 2^9, its cube those of 2^6.
  constexpr float kShare = 32 * 0x1p27f / (kFar * kFar);
  const auto most = Max(__builtin_convertvector(sum, Floats<N>), Splat<Floats<N>>(kWordRange));
  const W inverse = InBothHalves<N>(kShare / most);
  for (int j = 0; j < kPairs; ++j) {
    const W ratio = MultiplyRounded(groups.weight[j], inverse);
    groups.weight[j] = MultiplyRounded(MultiplyRounded(ratio, ratio), ratio) + 64;
  }
}

/// Groups that lie side by side at `x` (Batch::x); those that are nothing but zeros and what is no
/// number get a step of 0.
template <int N>
MOXIE_LANES void ReadWords(const float* x, WordGroups<N>& groups) {
  using V = Floats<N>;
  using I = Ints<N>;
  V lowest{};
  V highest{};
  for (int i = 0; i < 32; ++i) {
    const auto v = Load<V>(x + i * kBatch);
    lowest = Min(v, lowest);
    highest = Max(v, highest);
  }
  const V extreme = -lowest < highest ? highest : lowest;
  groups.step = extreme * (-1 / kWordRange);
  const V scale = SafeInverse(extreme) * -kWordRange;
  const auto word = [&](int i) __attribute__((always_inline)) {
    const V ratio = Load<V>(x + i * kBatch) * scale;
    return Bits<I>(ratio + kRoundingShift);
  };
  for (int j = 0; j < kPairs; ++j)
    groups.x[j] = Bits<Words<N>>((word(FirstOfPair(j)) & 0xffff) | word(SecondOfPair(j)) << 16);
  WeighWords<N>(groups);
}

/// The nearest codes from -8 to 7 where the extreme's is -factor / 2048.
template <class W>
MOXIE_LANES W NearestOfWords(W x, W factor) {
  // Numbers become 4096ths of a code, where what is out of range saturates.
  const W half = MultiplyRounded(x, factor);
  return AddSaturated(AddSaturated(half, half), W{} + 2048) >> 12;
}

/// Where the extreme is put in turn: the four of the eighths of a step that, together, lower the
/// outlier-weighed error of SmolLM2's weights most.
constexpr float kWordStarts[] = {8.625f, 8.125f, 7.75f, 7.125f};

/// The scales with the least error for the groups.
template <int N>
MOXIE_LANES Floats<N> FitWords(const WordGroups<N>& groups) {
  using V = Floats<N>;
  using W = Words<N>;
  constexpr int kStarts = 4;
  Ints<N> xv[kStarts] = {};
  Ints<N> vv[kStarts] = {};
  for (int j = 0; j < kPairs; ++j) {
    MOXIE_UNROLL_LANES
    for (int k = 0; k < kStarts; ++k) {
      const W factor = W{} + static_cast<int16_t>(kWordStarts[k] * 2048);
      const W v = NearestOfWords(groups.x[j], factor);
      const W weighed = v * groups.weight[j];
      xv[k] = AddPairs(xv[k], weighed, groups.x[j]);
      vv[k] = AddPairs(vv[k], weighed, v);
    }
  }
  // The error is sum(w * x * x) - xv * xv / vv.
  V best{};
  V best_squares = Splat<V>(1);
  for (int k = 0; k < kStarts; ++k) {
    const V product = __builtin_convertvector(xv[k], V);
    const V squares = __builtin_convertvector(vv[k], V);
    const auto better = product * product * best_squares > best * best * squares;
    best = better ? product : best;
    best_squares = better ? squares : best_squares;
  }
  return best / best_squares * groups.step;
}

/// Up to kBatch blocks of the groups at `x`, side by side.
template <int N>
void EncodeWordBatch(const float* x, BlockQ4_0 (&blocks)[kBatch]) {
  using V = Floats<N>;
  using W = Words<N>;
  using I = Ints<N>;
  alignas(64) int32_t d[kBatch];
  alignas(64) int32_t q[4][kBatch];
  for (int g = 0; g < kBatch; g += N) {
    WordGroups<N> groups;
    ReadWords<N>(x + g, groups);
    const V scale = RoundToHalf<I>(FitWords<N>(groups));
    Store(d + g, HalfBits<I>(scale));
    const V factor = Clamp(groups.step * SafeInverse(scale) * 0x1p26f, 0, kWordRange);
    const W factors = InBothHalves<N>(factor);
    const auto code = [&](int j) __attribute__((always_inline)) {
      return NearestOfWords(groups.x[j], factors) + 8;
    };
    for (int k = 0; k < 4; ++k) {
      const auto nibbles = [&](int j) __attribute__((always_inline)) {
        return code(j) | code(j + kPairs / 2) << 4;
      };
      Store(q[k] + g, Bits<I>(nibbles(2 * k) | nibbles(2 * k + 1) << 8));
    }
  }
  for (int g = 0; g < kBatch; g += 4) {
    Floats<4> rows[4];
    Floats<4> next[4];
    for (int k = 0; k < 4; ++k) rows[k] = Load<Floats<4>>(q[k] + g);
    Interleave(rows[0], rows[2], next[0], next[1]);
    Interleave(rows[1], rows[3], next[2], next[3]);
    Interleave(next[0], next[2], rows[0], rows[1]);
    Interleave(next[1], next[3], rows[2], rows[3]);
    for (int k = 0; k < 4; ++k) {
      SetHalf(blocks[g + k].d, d[g + k]);
      Store(blocks[g + k].q, rows[k]);
    }
  }
}

}  // namespace
}  // namespace moxie::lanes
