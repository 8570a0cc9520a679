#pragma once

#include "quant/scale_search.h"

namespace moxie::lanes {
namespace {

// The search of scale_search.h for groups with an offset: x is approximated by scale * code + base,
// with codes from 0 to `highest`.

/// Scales >= 0 and the values of code 0.
template <class V>
struct Lines {
  V scale;
  V base;
};

template <class V>
MOXIE_LANES V NearestCode(V ratio, int highest) {
  return Round(Clamp(ratio, 0, static_cast<float>(highest)));
}

/// Weighted sums of the nearest codes c, of c * c and c * x.
template <class V>
struct CodeSums {
  V c;
  V cc;
  V cx;
};

template <class G, class V = typename G::V>
MOXIE_LANES CodeSums<V> SumCodes(const G& groups, int highest, V inverse, V base) {
  CodeSums<V> sums = {};
  const V start = -base * inverse;
  for (int i = 0; i < G::kSize; ++i) {
    const V x = groups.X(i);
    const V c = NearestCode(x * inverse + start, highest);
    const V weighed = groups.Weighed(c, i);
    sums.c += weighed;
    sums.cc += weighed * c;
    sums.cx += weighed * x;
  }
  return sums;
}

/// The weighted squared errors with each element at its nearest code.
template <class G, class V = typename G::V>
MOXIE_LANES V ErrorOf(const G& groups, int highest, const Lines<V>& lines) {
  const V inverse = SafeInverse(lines.scale);
  const V start = -lines.base * inverse;
  V ee{};
  for (int i = 0; i < G::kSize; ++i) {
    const V x = groups.X(i);
    const V e = x - (lines.scale * NearestCode(x * inverse + start, highest) + lines.base);
    ee += groups.Weighed(e, i) * e;
  }
  return ee;
}

/// The sums that do not depend on codes, of 1, x and x * x, and the ends of the range.
template <class V>
struct ElementSums {
  V one;
  V x;
  V xx;
  V lower;
  V upper;  ///< below `lower` where nothing counts
};

template <class G, class V = typename G::V>
MOXIE_LANES ElementSums<V> SumElements(const G& groups) {
  ElementSums<V> sums = {V{}, V{}, V{}, Splat<V>(kGreatestFloat), Splat<V>(-kGreatestFloat)};
  for (int i = 0; i < G::kSize; ++i) {
    const V x = groups.X(i);
    const V weighed = groups.Weighed(x, i);
    sums.one += groups.Weight(i);
    sums.x += weighed;
    sums.xx += weighed * x;
    if constexpr (G::kGiven) {
      sums.lower = groups.Weight(i) > 0.0f ? Min(x, sums.lower) : sums.lower;
      sums.upper = groups.Weight(i) > 0.0f ? Max(x, sums.upper) : sums.upper;
    } else {
      sums.lower = Min(x, sums.lower);
      sums.upper = Max(x, sums.upper);
    }
  }
  return sums;
}

/// The best lines for codes whose sums are given: the two normal equations of least squares, or the
/// one of them that is left when the base is held at its highest or all codes are equal.
template <class V>
MOXIE_LANES Lines<V> SolveLines(const ElementSums<V>& all, const CodeSums<V>& sums,
                                V highest_base) {
  const V determinant = all.one * sums.cc - sums.c * sums.c;
  const auto solvable = determinant > 1e-6f * all.one * sums.cc;
  const V inverse = 1.0f / (solvable ? determinant : Splat<V>(1));
  V scale = solvable ? (all.one * sums.cx - sums.c * all.x) * inverse : V{};
  V base = solvable ? (sums.cc * all.x - sums.c * sums.cx) * inverse
                    : all.x / Max(all.one, Splat<V>(1e-30f));
  const auto above = base > highest_base;
  base = above ? highest_base : base;
  scale = above ? (sums.cc > 0.0f ? (sums.cx - base * sums.c) / sums.cc : V{}) : scale;
  return {scale, base};
}

/// Groups whose elements are moved by a constant each.
template <class G>
struct Shifted {
  using V = typename G::V;
  static constexpr int kSize = G::kSize;
  static constexpr bool kWeighted = G::kWeighted;
  static constexpr bool kGiven = G::kGiven;

  const G& groups;
  V x[G::kSize];

  MOXIE_MEMBER V X(int element) const { return x[element]; }
  MOXIE_MEMBER V Weight(int element) const { return groups.Weight(element); }
  MOXIE_MEMBER V Weighed(V v, int element) const { return groups.Weighed(v, element); }
};

/// The lines with the least errors for the groups; with `base_below_zero` among those of base <= 0.
template <class G, class V = typename G::V>
Lines<V> FitLine(const G& groups, int highest, bool base_below_zero) {
  const ElementSums<V> range = SumElements(groups);
  V lower = range.lower;
  if (base_below_zero) lower = Min(lower, V{});
  lower = range.lower > range.upper ? V{} : lower;
  // From here on elements are counted from the lower end, so that sums of squares do not swallow
  // the errors.
  Shifted<G> shifted = {groups, {}};
  for (int i = 0; i < G::kSize; ++i) shifted.x[i] = groups.X(i) - lower;
  const ElementSums<V> all = SumElements(shifted);
  const V highest_base = base_below_zero ? -lower : Splat<V>(kGreatestFloat);

  Lines<V> best = {V{}, V{}};
  V least = Splat<V>(kGreatestFloat);
  const auto consider = [&](V inverse, V base) __attribute__((always_inline)) {
    const CodeSums<V> sums = SumCodes(shifted, highest, inverse, base);
    const Lines<V> lines = SolveLines(all, sums, highest_base);
    const V error = all.xx - 2.0f * (lines.scale * sums.cx + lines.base * all.x) +
                    lines.scale * (lines.scale * sums.cc + 2.0f * lines.base * sums.c) +
                    lines.base * lines.base * all.one;
    const auto better = (error < least) & (lines.scale >= 0.0f);
    least = better ? error : least;
    best.scale = better ? lines.scale : best.scale;
    best.base = better ? lines.base : best.base;
    return better;
  };
  // The codes reach up to three steps beyond the elements, or leave as many of them out, at the
  // upper end, at both, or at the lower.
  const V upper = Max(all.upper, V{});
  const V inverse_range = SafeInverse(upper);
  for (int k = -6; k <= 6; ++k) {
    const float left_out = 0.5f * static_cast<float>(k);
    const float steps = static_cast<float>(highest) + left_out;
    if (steps < 1) continue;
    for (const float share : {0.0f, 0.5f, 1.0f}) {
      if (k == 0 && share > 0) continue;
      consider(steps * inverse_range, (share * left_out / steps) * upper);
    }
  }
  for (int i = 0; i < 8 && Any(consider(SafeInverse(best.scale), best.base)); ++i) {
  }
  return {best.scale, best.base + lower};
}

/// FitLine's results with both numbers in half precision, each rounded to the neighbour that errs
/// less.
template <class G, class V = typename G::V>
Lines<V> FitHalfLine(const G& groups, int highest) {
  using I = typename G::I;
  const Lines<V> wanted = FitLine(groups, highest, false);
  const Lines<V> middle = {RoundToHalf<I>(wanted.scale), RoundToHalf<I>(wanted.base)};
  Lines<V> best = middle;
  V least = ErrorOf(groups, highest, middle);
  for (const int scale_step : {0, -1, 1}) {
    for (const int base_step : {0, -1, 1}) {
      if (scale_step == 0 && base_step == 0) continue;
      Lines<V> lines = middle;
      if (scale_step != 0) lines.scale = NeighbourHalf<I>(middle.scale, scale_step);
      if (base_step != 0) lines.base = NeighbourHalf<I>(middle.base, base_step);
      const V error = ErrorOf(groups, highest, lines);
      const auto better = error < least;
      best.scale = better ? lines.scale : best.scale;
      best.base = better ? lines.base : best.base;
      least = better ? error : least;
    }
  }
  return best;
}

/// Writes the nearest code of each element.
template <int N, class Batch>
MOXIE_LANES void AssignCodes(const Groups<N, Batch>& groups, int highest,
                             const Lines<Floats<N>>& lines, Codes<Batch::kSize>& codes) {
  const Floats<N> inverse = SafeInverse(lines.scale);
  const Floats<N> start = -lines.base * inverse;
  StoreCodes<N>(
      groups.first, codes, [&](int i) __attribute__((always_inline)) {
        return __builtin_convertvector(NearestCode(groups.X(i) * inverse + start, highest),
                                       Ints<N>);
      });
}

}  // namespace
}  // namespace moxie::lanes
