#pragma once

#include "quant/batch.h"

namespace moxie::lanes {
namespace {

// The one search that every encoder stands on: for groups of elements that share a scale (and
// perhaps an offset), find the ones that minimise the weighted squared error when each element
// takes its nearest code. Starting points around the scale that just covers the group are each
// improved by one least-squares step; the best is then alternated between "nearest codes" and
// "least squares", neither of which can raise the error (Lloyd's algorithm).

/// Codes that stand for the integers lowest..highest.
template <int lowest, int highest>
struct IntegerCodes {
  static constexpr float kLowest = lowest;
  static constexpr float kHighest = highest;
  static constexpr float kSpacing = 1;         ///< of the outer codes
  static constexpr bool kFine = highest > 31;  ///< errors may vanish in the sum of squares

  /// The values nearest to `ratios`.
  template <class V>
  MOXIE_LANES V Nearest(V ratios) {
    return Round(Clamp(ratios, kLowest, kHighest));
  }
  /// The codes of values that Nearest returned, counted from 0.
  template <class I, class V>
  MOXIE_LANES I CodeOf(V values) {
    return __builtin_convertvector(values - kLowest, I);
  }
};

/// What scales do to their groups.
template <class V>
struct ScaleFit {
  V gain;   ///< grows as the error falls once the scale is `scale`
  V scale;  ///< the best for the same codes
};

/// With inverse = 1 / scale, or what is not so precisely.
template <class Codes, class G, class V = typename G::V>
MOXIE_LANES ScaleFit<V> FitCodes(const G& groups, V inverse) {
  V xv{};
  V vv{};
  for (int i = 0; i < G::kSize; ++i) {
    const V x = groups.X(i);
    const V v = Codes::Nearest(x * inverse);
    const V weighed = groups.Weighed(v, i);
    xv += weighed * x;
    vv += weighed * v;
  }
  // The error is sum(w * x * x) - xv * xv / vv.
  const V scale = vv > 0.0f ? xv / vv : V{};
  return {scale * xv, scale};
}

/// The same from the errors themselves, which eight bits need: they are lost in the sum above.
template <class Codes, class G, class V = typename G::V>
MOXIE_LANES ScaleFit<V> FitFineCodes(const G& groups, V inverse) {
  const V scale = SafeInverse(inverse);
  V ee{};
  V ve{};
  V vv{};
  for (int i = 0; i < G::kSize; ++i) {
    const V x = groups.X(i);
    const V v = Codes::Nearest(x * inverse);
    const V e = x - scale * v;
    const V weighed = groups.Weighed(v, i);
    ee += groups.Weighed(e, i) * e;
    ve += weighed * e;
    vv += weighed * v;
  }
  const V step = vv > 0.0f ? ve / vv : V{};
  return {step * ve - ee, scale + step};
}

/// The weighted squared errors with each element at its nearest code.
template <class Codes, class G, class V = typename G::V>
MOXIE_LANES V ErrorOf(const G& groups, V scale) {
  const V inverse = SafeInverse(scale);
  V ee{};
  for (int i = 0; i < G::kSize; ++i) {
    const V x = groups.X(i);
    const V e = x - scale * Codes::Nearest(x * inverse);
    ee += groups.Weighed(e, i) * e;
  }
  return ee;
}

/// The elements of greatest magnitude among those that count, 0 if none does.
template <class G, class V = typename G::V>
MOXIE_LANES V ExtremeOf(const G& groups) {
  V extreme{};
  for (int i = 0; i < G::kSize; ++i) {
    V x = groups.X(i);
    if constexpr (G::kGiven) x = groups.Weight(i) > 0.0f ? x : V{};
    extreme = Abs(x) > Abs(extreme) ? x : extreme;
  }
  return extreme;
}

/// Where the extreme is put in turn where no weights are given: near the end of the range, mostly
/// the lowest code, beyond which there is one fewer. Each list is the first of those quarter steps
/// that, taken one by one, lower the outlier-weighed error of SmolLM2's weights most.
template <class Codes>
constexpr float kNearStarts[] = {0};
template <>
constexpr float kNearStarts<IntegerCodes<-4, 3>>[] = {-4.25f, -3.75f, 3.0f, -4.75f};
template <>
constexpr float kNearStarts<IntegerCodes<-8, 7>>[] = {-8.25f, -7.75f, -7.0f, -8.75f};
template <>
constexpr float kNearStarts<IntegerCodes<-16, 15>>[] = {-16.0f, -15.0f,  -16.5f,
                                                        -14.0f, -15.75f, -16.25f};
template <>
constexpr float kNearStarts<IntegerCodes<-32, 31>>[] = {-32.0f, -31.0f, -30.0f, -29.0f,
                                                        -28.0f, -27.0f, -26.0f, -32.5f};

/// Whether a search for the groups takes those few starts.
template <class Codes, class G>
constexpr bool kNear = !G::kGiven && kNearStarts<Codes>[0] != 0;

/// The scales (of either sign) with the least error for the groups, 0 if all their elements are.
template <class Codes, class G, class V = typename G::V>
V FitScale(const G& groups) {
  const V extreme = ExtremeOf(groups);
  const V inverse_extreme = SafeInverse(extreme);
  V best = extreme / Codes::kLowest;
  V most = Splat<V>(-kGreatestFloat);
  const auto consider = [&](V inverse) __attribute__((always_inline)) {
    const auto fit = [&] {
      if constexpr (Codes::kFine) return FitFineCodes<Codes>(groups, inverse);
      return FitCodes<Codes>(groups, inverse);
    }();
    const auto better = fit.gain > most;
    most = better ? fit.gain : most;
    best = better ? fit.scale : best;
    return better;
  };
  if constexpr (kNear<Codes, G>) {
    for (const float start : kNearStarts<Codes>) consider(start * inverse_extreme);
    consider(SafeInverse(best));
    return best;
  }
  // The extreme falls on the end of the range, up to eight steps within it or four out of it, or
  // far out of it.
  const auto consider_end = [&](float end) __attribute__((always_inline)) {
    const float outwards = end < 0 ? -Codes::kSpacing : Codes::kSpacing;
    for (int k = -16; k <= 8; ++k) {
      const float target = end + 0.5f * static_cast<float>(k) * outwards;
      if (target * end > 0) consider(target * inverse_extreme);
    }
    for (const float clip : {0.75f, 0.5f, 0.25f}) consider(end / clip * inverse_extreme);
  };
  consider_end(Codes::kLowest);
  if (Codes::kLowest != -Codes::kHighest) consider_end(Codes::kHighest);
  constexpr int kRounds = 8;
  for (int i = 0; i < kRounds && Any(consider(SafeInverse(best))); ++i) {
  }
  return best;
}

/// FitScale's results as half-precision numbers, rounded to whichever neighbour errs less.
template <class Codes, class G, class V = typename G::V>
V FitHalfScale(const G& groups) {
  using I = typename G::I;
  const V middle = RoundToHalf<I>(FitScale<Codes>(groups));
  if constexpr (kNear<Codes, G>) return middle;  // Few codes: the neighbours hardly err less.
  V best = middle;
  V least = ErrorOf<Codes>(groups, middle);
  for (const int step : {-1, 1}) {
    const V neighbour = NeighbourHalf<I>(middle, step);
    const V error = ErrorOf<Codes>(groups, neighbour);
    best = error < least ? neighbour : best;
    least = Min(error, least);
  }
  return best;
}

/// Writes the code of each element under `scale`, counted from 0 for the lowest.
template <class Values, int N, class Batch>
MOXIE_LANES void AssignCodes(const Groups<N, Batch>& groups, Floats<N> scale,
                             Codes<Batch::kSize>& codes) {
  const Floats<N> inverse = SafeInverse(scale);
  StoreCodes<N>(
      groups.first, codes, [&](int i) __attribute__((always_inline)) {
        return Values::template CodeOf<Ints<N>>(Values::Nearest(groups.X(i) * inverse));
      });
}

}  // namespace
}  // namespace moxie::lanes
