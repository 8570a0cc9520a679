#pragma once

#include "quant/line_search.h"
#include "quant/scale_search.h"

namespace moxie::lanes {
namespace {

// The searches of scale_search.h and line_search.h for super-blocks of 256 elements: each group's
// scale is a small integer times one half-precision number. The groups are fitted freely, then
// rounded; then integers (one step up or down, codes reassigned) and the common numbers (least
// squares) are improved in turn while the error of the whole block falls.

constexpr int kSuperBlock = 256;
constexpr int kPasses = 4;

template <class Batch>
constexpr int kGroupsOfBlock = kSuperBlock / Batch::kSize;

/// Group g has the scale d * scale[g]; d is the same for all groups of a block.
struct SuperScales {
  PerGroup d;
  PerGroup scale;
};

/// Group g has the line of scale d * scale[g] and base -(dmin * offset[g]).
struct SuperLines {
  PerGroup d;
  PerGroup dmin;
  PerGroup scale;
  PerGroup offset;
};

template <int N>
MOXIE_LANES Floats<N> ScalesAt(const SuperScales& scales, int first) {
  return Load<Floats<N>>(scales.d.of + first) * Load<Floats<N>>(scales.scale.of + first);
}

template <int N>
MOXIE_LANES Lines<Floats<N>> LinesAt(const SuperLines& lines, int first) {
  using V = Floats<N>;
  return {Load<V>(lines.d.of + first) * Load<V>(lines.scale.of + first),
          -(Load<V>(lines.dmin.of + first) * Load<V>(lines.offset.of + first))};
}

/// What is best so far for each block, while there is something to gain.
template <class Numbers>
struct Best {
  Numbers numbers = {};
  PerGroup error;
  bool active[kBatch];

  explicit Best(const Numbers& first) : numbers(first) {
    for (int g = 0; g < kBatch; ++g) error.of[g] = kGreatestFloat;
    for (bool& a : active) a = true;
  }

  /// Takes over `now` where `errors`, of blocks, are less; where they are not, a block is done.
  /// Returns whether any is not.
  bool Take(const Numbers& now, const PerGroup& errors) {
    constexpr size_t kMembers = sizeof(Numbers) / sizeof(PerGroup);
    bool any = false;
    for (int g = 0; g < kBatch; ++g) {
      active[g] = active[g] && errors.of[g] < error.of[g];
      if (!active[g]) continue;
      any = true;
      error.of[g] = errors.of[g];
      const auto* const from = reinterpret_cast<const PerGroup*>(&now);
      auto* const to = reinterpret_cast<PerGroup*>(&numbers);
      for (size_t k = 0; k < kMembers; ++k) to[k].of[g] = from[k].of[g];
    }
    return any;
  }
};

/// The integers nearest to wanted / common, within the bounds.
template <int N>
MOXIE_LANES void RoundToIntegers(const PerGroup& wanted, const PerGroup& common, float lowest,
                                 float highest, PerGroup& integers) {
  using V = Floats<N>;
  for (int g = 0; g < kBatch; g += N) {
    const V ratio = Load<V>(wanted.of + g) * SafeInverse(Load<V>(common.of + g));
    Store(integers.of + g, Round(Clamp(ratio, lowest, highest)));
  }
}

/// numbers / divisor in half precision, away from zero.
template <int N>
MOXIE_LANES void CommonNumbers(const PerGroup& numbers, float divisor, PerGroup& common) {
  for (int g = 0; g < kBatch; g += N)
    Store(common.of + g, RoundToHalfUp<Ints<N>>(Load<Floats<N>>(numbers.of + g) / divisor));
}

/// Moves each group's integers, one step or none each, to where its error is least; gives the sums
/// of errors over each run of `block_groups` groups. error(g, integers) are those of the groups
/// from g on.
template <int N, int count, class Error>
MOXIE_LANES void ImproveIntegers(PerGroup* const (&integers)[count], float lowest, float highest,
                                 int block_groups, Error error, PerGroup& errors) {
  using V = Floats<N>;
  for (int g = 0; g < kBatch; g += N) {
    V middle[count];
    V best[count];
    V tried[count];
    for (int k = 0; k < count; ++k) middle[k] = best[k] = Load<V>(integers[k]->of + g);
    V least = Splat<V>(kGreatestFloat);
    for (int step = 0; step < (count == 1 ? 3 : 9); ++step) {
      constexpr float kSteps[] = {0, -1, 1};
      tried[0] = Clamp(middle[0] + kSteps[count == 1 ? step : step / 3], lowest, highest);
      if constexpr (count > 1) tried[1] = Clamp(middle[1] + kSteps[step % 3], lowest, highest);
      const V now = error(g, tried);
      const auto better = now < least;
      for (int k = 0; k < count; ++k) best[k] = better ? tried[k] : best[k];
      least = better ? now : least;
    }
    for (int k = 0; k < count; ++k) Store(integers[k]->of + g, best[k]);
    Store(errors.of + g, least);
  }
  SumsOfBlocks(errors, block_groups);
}

// ---- Scales alone ------------------------------------------------------------------------------

/// The half-precision d that is best for the present codes and integers.
template <class Values, int N, class Batch>
void RefitCommonScale(const Batch& batch, SuperScales& scales) {
  using V = Floats<N>;
  PerGroup xv;
  PerGroup vv;
  for (int g = 0; g < kBatch; g += N) {
    const Groups<N, Batch> groups = {batch, g};
    const V scale = Load<V>(scales.scale.of + g);
    const V inverse = SafeInverse(ScalesAt<N>(scales, g));
    V sum_xv{};
    V sum_vv{};
    for (int i = 0; i < Batch::kSize; ++i) {
      const V v = scale * Values::Nearest(groups.X(i) * inverse);
      const V weighed = groups.Weighed(v, i);
      sum_xv += weighed * groups.X(i);
      sum_vv += weighed * v;
    }
    Store(xv.of + g, sum_xv);
    Store(vv.of + g, sum_vv);
  }
  SumsOfBlocks(xv, kGroupsOfBlock<Batch>);
  SumsOfBlocks(vv, kGroupsOfBlock<Batch>);
  for (int g = 0; g < kBatch; g += N) {
    const V sum = Load<V>(vv.of + g);
    const V d = Load<V>(xv.of + g) / (sum > 0.0f ? sum : Splat<V>(1));
    Store(scales.d.of + g, sum > 0.0f ? RoundToHalf<Ints<N>>(d) : Load<V>(scales.d.of + g));
  }
}

/// Integer scales run from `lowest` (negative, at least as far from 0 as `highest`) to `highest`.
template <class Values, int N, class Batch>
void FitSuperScales(const Batch& batch, float lowest, float highest, SuperScales& scales) {
  PerGroup wanted;
  for (int g = 0; g < kBatch; g += N)
    Store(wanted.of + g, FitScale<Values>(Groups<N, Batch>{batch, g}));
  PerGroup extreme;
  for (int b = 0; b < kBatch; b += kGroupsOfBlock<Batch>) {
    float most = 0;
    for (int g = b; g < b + kGroupsOfBlock<Batch>; ++g)
      most = __builtin_fabsf(wanted.of[g]) > __builtin_fabsf(most) ? wanted.of[g] : most;
    for (int g = b; g < b + kGroupsOfBlock<Batch>; ++g) extreme.of[g] = most;
  }
  CommonNumbers<N>(extreme, lowest, scales.d);
  RoundToIntegers<N>(wanted, scales.d, lowest, highest, scales.scale);
  Best<SuperScales> best(scales);
  for (int pass = 0; pass < kPasses; ++pass) {
    PerGroup errors;
    const auto error = [&](int g, const Floats<N>(&integers)[1]) __attribute__((always_inline)) {
      return ErrorOf<Values>(Groups<N, Batch>{batch, g},
                             Load<Floats<N>>(scales.d.of + g) * integers[0]);
    };
    ImproveIntegers<N>({&scales.scale}, lowest, highest, kGroupsOfBlock<Batch>, error, errors);
    if (!best.Take(scales, errors)) break;
    RefitCommonScale<Values, N>(batch, scales);
  }
  scales = best.numbers;
}

// ---- Scales and offsets ------------------------------------------------------------------------

/// The half-precision d and dmin that are best for the present codes and integers: least squares in
/// two unknowns, with a = scale * code and b = -offset as their factors.
template <int N, class Batch>
void RefitCommonNumbers(const Batch& batch, int highest_code, SuperLines& lines) {
  using V = Floats<N>;
  PerGroup aa, ab, bb, ax, bx;
  for (int g = 0; g < kBatch; g += N) {
    const Groups<N, Batch> groups = {batch, g};
    const Lines<V> at = LinesAt<N>(lines, g);
    const V scale = Load<V>(lines.scale.of + g);
    const V offset = Load<V>(lines.offset.of + g);
    const CodeSums<V> sums = SumCodes(groups, highest_code, SafeInverse(at.scale), at.base);
    const ElementSums<V> all = SumElements(groups);
    Store(aa.of + g, scale * scale * sums.cc);
    Store(ab.of + g, -(scale * offset * sums.c));
    Store(bb.of + g, offset * offset * all.one);
    Store(ax.of + g, scale * sums.cx);
    Store(bx.of + g, -(offset * all.x));
  }
  for (PerGroup* sums : {&aa, &ab, &bb, &ax, &bx}) SumsOfBlocks(*sums, kGroupsOfBlock<Batch>);
  for (int g = 0; g < kBatch; g += N) {
    const V a = Load<V>(aa.of + g);
    const V c = Load<V>(ab.of + g);
    const V b = Load<V>(bb.of + g);
    const V x = Load<V>(ax.of + g);
    const V y = Load<V>(bx.of + g);
    const V old_d = Load<V>(lines.d.of + g);
    const V old_dmin = Load<V>(lines.dmin.of + g);
    const V determinant = a * b - c * c;
    const auto solvable = determinant > 1e-6f * a * b;
    const V inverse = 1.0f / (solvable ? determinant : Splat<V>(1));
    const V alone = a > 0.0f ? (x - c * old_dmin) / (a > 0.0f ? a : Splat<V>(1)) : old_d;
    const V d = solvable ? (b * x - c * y) * inverse : alone;
    const V dmin = solvable ? (a * y - c * x) * inverse : old_dmin;
    Store(lines.d.of + g, RoundToHalf<Ints<N>>(Max(d, V{})));
    Store(lines.dmin.of + g, RoundToHalf<Ints<N>>(Max(dmin, V{})));
  }
}

/// Codes run from 0 to highest_code, scales and offsets from 0 to `highest`.
template <int N, class Batch>
void FitSuperLines(const Batch& batch, int highest_code, float highest, SuperLines& lines) {
  PerGroup scale;
  PerGroup offset;
  for (int g = 0; g < kBatch; g += N) {
    const auto fitted = FitLine(Groups<N, Batch>{batch, g}, highest_code, true);
    Store(scale.of + g, fitted.scale);
    Store(offset.of + g, -fitted.base);
  }
  PerGroup greatest_scale = scale;
  PerGroup greatest_offset = offset;
  GreatestOfBlocks(greatest_scale, kGroupsOfBlock<Batch>);
  GreatestOfBlocks(greatest_offset, kGroupsOfBlock<Batch>);
  CommonNumbers<N>(greatest_scale, highest, lines.d);
  CommonNumbers<N>(greatest_offset, highest, lines.dmin);
  RoundToIntegers<N>(scale, lines.d, 0, highest, lines.scale);
  RoundToIntegers<N>(offset, lines.dmin, 0, highest, lines.offset);
  Best<SuperLines> best(lines);
  for (int pass = 0; pass < kPasses; ++pass) {
    PerGroup errors;
    const auto error = [&](int g, const Floats<N>(&integers)[2]) __attribute__((always_inline)) {
      using V = Floats<N>;
      const Lines<V> at = {Load<V>(lines.d.of + g) * integers[0],
                           -(Load<V>(lines.dmin.of + g) * integers[1])};
      return ErrorOf(Groups<N, Batch>{batch, g}, highest_code, at);
    };
    ImproveIntegers<N>({&lines.scale, &lines.offset}, 0, highest, kGroupsOfBlock<Batch>, error,
                       errors);
    if (!best.Take(lines, errors)) break;
    RefitCommonNumbers<N>(batch, highest_code, lines);
  }
  lines = best.numbers;
}

}  // namespace
}  // namespace moxie::lanes
