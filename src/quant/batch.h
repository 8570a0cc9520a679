#pragma once

#include <cstdint>

#include "quant/lanes.h"

namespace moxie::lanes {
namespace {

// How groups of elements are laid side by side for the encoders, and their codes brought back.

constexpr int kBatch = 16;  ///< groups in a batch, whatever the number of lanes

/// One number a group.
struct PerGroup {
  alignas(64) float of[kBatch];
};

/// What elements' errors are weighed by.
enum class Weighing {
  kNone,      ///< all count alike
  kOutliers,  ///< those that stand out of their neighbourhood count more
  kGiven,     ///< importance, which may be anything
};

/// Element i of group g at [i * kBatch + g]; given weights are brought within [0, 1].
template <int group_size, Weighing weighing>
struct Batch {
  static constexpr int kSize = group_size;
  static constexpr bool kWeighted = weighing != Weighing::kNone;
  static constexpr bool kGiven = weighing == Weighing::kGiven;

  alignas(64) float x[group_size * kBatch];
  alignas(64) float weight[kWeighted ? group_size * kBatch : 1];
};

/// N lanes of a batch: the groups from `first` on.
template <int N, class Batch>
struct Groups {
  using V = Floats<N>;
  using I = Ints<N>;
  static constexpr int kSize = Batch::kSize;
  static constexpr bool kWeighted = Batch::kWeighted;
  static constexpr bool kGiven = Batch::kGiven;

  const Batch& batch;
  int first;

  MOXIE_MEMBER V X(int element) const { return Load<V>(batch.x + element * kBatch + first); }
  MOXIE_MEMBER V Weight(int element) const {
    if constexpr (kWeighted) return Load<V>(batch.weight + element * kBatch + first);
    return Splat<V>(1);
  }
  /// `v` times the weights of an element.
  MOXIE_MEMBER V Weighed(V v, int element) const {
    if constexpr (kWeighted) return v * Weight(element);
    return v;
  }
};

MOXIE_LANES void Interleave(Floats<4> a, Floats<4> b, Floats<4>& low, Floats<4>& high) {
  low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
MOXIE_LANES void Interleave(Floats<8> a, Floats<8> b, Floats<8>& low, Floats<8>& high) {
  low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
MOXIE_LANES void Interleave(Floats<16> a, Floats<16> b, Floats<16>& low, Floats<16>& high) {
  low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  high =
      __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

/// Groups that lie one after another, side by side.
template <int N, int size>
void Transpose(const float* in, float* out) {
  using V = Floats<N>;
  for (int g = 0; g < kBatch; g += N) {
    for (int i = 0; i < size; i += N) {
      V rows[N];
      V next[N];
      for (int k = 0; k < N; ++k) rows[k] = Load<V>(in + (g + k) * size + i);
      // Each round interleaves the lower half of the rows with the upper; log2(N) rounds transpose.
      for (int round = 1; round < N; round *= 2) {
        for (int k = 0; k < N / 2; ++k)
          Interleave(rows[k], rows[k + N / 2], next[2 * k], next[2 * k + 1]);
        for (int k = 0; k < N; ++k) rows[k] = next[k];
      }
      for (int k = 0; k < N; ++k) Store(out + (i + k) * kBatch + g, rows[k]);
    }
  }
}

/// Each run of `groups` numbers gets the greatest of them.
MOXIE_LANES void GreatestOfBlocks(PerGroup& numbers, int groups) {
  for (int b = 0; b < kBatch; b += groups) {
    float greatest = numbers.of[b];
    for (int g = b; g < b + groups; ++g)
      greatest = numbers.of[g] > greatest ? numbers.of[g] : greatest;
    for (int g = b; g < b + groups; ++g) numbers.of[g] = greatest;
  }
}

/// Each run of `groups` numbers gets their sum.
MOXIE_LANES void SumsOfBlocks(PerGroup& numbers, int groups) {
  for (int b = 0; b < kBatch; b += groups) {
    float sum = 0;
    for (int g = b; g < b + groups; ++g) sum += numbers.of[g];
    for (int g = b; g < b + groups; ++g) numbers.of[g] = sum;
  }
}

constexpr float kGreatestFloat = 3.40282347e+38f;

/// Bounds the elements, what is no number counting as 0, and scales given weights of each block of
/// `block_groups` groups so that their greatest is 1. A block of which nothing counts is taken
/// evenly.
template <int N, class Batch>
void Bound(Batch& batch, int block_groups, float limit) {
  using V = Floats<N>;
  constexpr int kElements = Batch::kSize * kBatch;
  for (int i = 0; i < kElements; i += N) {
    const V x = Load<V>(batch.x + i);
    Store(batch.x + i, Clamp(x == x ? x : V{}, -limit, limit));
  }
  if constexpr (Batch::kGiven) {
    PerGroup greatest = {};
    for (int i = 0; i < kElements; i += N) {
      const V weight = Load<V>(batch.weight + i);
      const V counted = Min(weight > 0.0f ? weight : V{}, Splat<V>(kGreatestFloat));
      Store(batch.weight + i, counted);
      float* const so_far = greatest.of + i % kBatch;
      Store(so_far, Max(counted, Load<V>(so_far)));
    }
    GreatestOfBlocks(greatest, block_groups);
    for (int i = 0; i < kElements; i += N) {
      const V most = Load<V>(greatest.of + i % kBatch);
      const V weight = Load<V>(batch.weight + i);
      Store(batch.weight + i, most > 0.0f ? weight / most : Splat<V>(1));
    }
  }
}

/// Weights where none are given: 1 for most elements, more for those far above the root mean square
/// of the 32 that they stand among. Such elements tend to meet greater inputs: in SmolLM2 the mean
/// square of these is 1.5, 3, 6 and 10 times the usual one at 3 to 3.5, 4, 5 and above.
template <int N, class Batch>
void WeighOutliers(Batch& batch) {
  using V = Floats<N>;
  constexpr float kFar = 3.4f;  // counts twice
  constexpr int kNeighbours = 32;
  PerGroup squares;
  for (int g = 0; g < kBatch; g += N) {
    V sum{};
    for (int i = g; i < Batch::kSize * kBatch; i += kBatch) {
      const V x = Load<V>(batch.x + i);
      sum += x * x;
    }
    Store(squares.of + g, sum);
  }
  SumsOfBlocks(squares, kNeighbours / Batch::kSize);
  for (int g = 0; g < kBatch; g += N) {
    const V inverse = SafeInverse(Load<V>(squares.of + g)) * (kNeighbours / (kFar * kFar));
    for (int i = g; i < Batch::kSize * kBatch; i += kBatch) {
      const V x = Load<V>(batch.x + i);
      const V square = x * x * inverse;
      Store(batch.weight + i, square * square * square + 1.0f);
    }
  }
}

/// The codes of a batch, group after group.
template <int size>
struct Codes {
  uint8_t of[kBatch][size];
};

/// Writes the codes that `code(element)`, Ints<N> from 0 to 255, gives to the groups from `first`
/// on.
template <int N, int size, class Code>
MOXIE_LANES void StoreCodes(int first, Codes<size>& codes, Code code) {
  alignas(64) int32_t words[size / 4][N];
  for (int i = 0; i < size; i += 4)
    Store(words[i / 4], code(i) | code(i + 1) << 8 | code(i + 2) << 16 | code(i + 3) << 24);
  for (int g = 0; g < N; ++g) {
    for (int i = 0; i < size; i += 4)
      __builtin_memcpy(codes.of[first + g] + i, &words[i / 4][g], 4);
  }
}

}  // namespace
}  // namespace moxie::lanes
