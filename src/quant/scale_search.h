#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/half.h"
#include "quant/codebooks.h"
#include "quant/lanes.h"

namespace moxie {

// The one search that every encoder stands on: for a group of elements that share a scale (and
// perhaps an offset), find the ones that minimise the weighted squared error when each element
// takes its nearest code. Starting points around the scale that just covers the group are each
// improved by one least-squares step; the best is then alternated between "nearest codes" and
// "least squares", neither of which can raise the error (Lloyd's algorithm).
//
// Elements lie within +-kLargestElement and weights within [0, 1], so float32 sums cannot overflow.

inline constexpr float kLargestElement = 0x1p30f;  ///< Beyond what any half-scaled type can hold.

/// `size` elements, a multiple of kLanes, and how much the squared error of each counts.
struct Group {
  const float* x;
  const float* weight;
  int size;
};

/// The half-precision number nearest to `f`, never infinite.
inline float RoundToHalf(float f) {
  return HalfToFloat(FloatToHalf(std::clamp(f, -65504.0f, 65504.0f)));
}

/// The next half-precision number of greater (step 1) or smaller (step -1) magnitude; none past
/// zero and the greatest finite one.
inline float NeighbourHalf(float half, int step) {
  const uint16_t bits = FloatToHalf(half);
  const int magnitude = std::clamp((bits & 0x7fff) + step, 0, 0x7bff);
  return HalfToFloat(static_cast<uint16_t>((bits & 0x8000) | magnitude));
}

/// Like RoundToHalf but away from zero, so that the range of the codes still covers the group.
inline float RoundToHalfUp(float f) {
  const float half = RoundToHalf(f);
  return std::abs(half) < std::abs(f) ? NeighbourHalf(half, 1) : half;
}

/// 1 / scale, or 0 for a scale too small to divide by.
inline float SafeInverse(float scale) { return std::abs(scale) > 1e-30f ? 1.0f / scale : 0.0f; }

/// Codes that stand for the integers lowest..highest.
template <int lowest, int highest>
struct IntegerCodes {
  static constexpr float kLowest = lowest;
  static constexpr float kHighest = highest;
  static constexpr float kSpacing = 1;  ///< of the outer codes

  /// The values nearest to `ratios`.
  static Lanes Nearest(Lanes ratios) { return RoundSmall(ClampLanes(ratios, kLowest, kHighest)); }
  /// The code of a value that Nearest returned, counted from 0.
  static uint8_t CodeOf(float value) { return static_cast<uint8_t>(value - kLowest); }
};

/// The codes of the table kIq4Values.
struct Iq4Codes {
  static constexpr float kLowest = -127;
  static constexpr float kHighest = 113;
  static constexpr float kSpacing = 20;

  static Lanes Nearest(Lanes ratios) {
    for (int k = 0; k < kLanes; ++k) ratios[k] = kIq4Values[CodeOf(ratios[k])];
    return ratios;
  }
  static uint8_t CodeOf(float ratio) {
    // Midpoints of the table are multiples of a half, so floor(2 * ratio) decides.
    const float clamped = std::clamp(ratio, kLowest, kHighest);
    return kCodeOfHalves[static_cast<size_t>(static_cast<int>(2 * (clamped + 128)))];
  }

 private:
  static constexpr std::array<uint8_t, 512> kCodeOfHalves = [] {
    std::array<uint8_t, 512> codes{};
    for (int halves = 0; halves < 512; ++halves) {
      int code = 0;
      while (code < 15 && halves - 256 >= kIq4Values[code] + kIq4Values[code + 1]) ++code;
      codes[halves] = static_cast<uint8_t>(code);
    }
    return codes;
  }();
};

/// What a scale does to a group: with v the nearest code's value and e = x - scale * v, the
/// weighted sums of e * e (the error), v * e and v * v.
struct ScaleFit {
  float ee = 0;
  float ve = 0;
  float vv = 0;

  /// The step of the scale that is best for these codes, and by how much it lowers the error.
  float step() const { return vv > 0 ? ve / vv : 0; }
  float error() const { return std::max(0.0f, ee - ve * step()); }
};

template <class Codes>
ScaleFit MeasureScale(const Group& group, float scale) {
  const Lanes inverse = Splat(SafeInverse(scale));
  Lanes ee{};
  Lanes ve{};
  Lanes vv{};
  for (int i = 0; i < group.size; i += kLanes) {
    const Lanes x = LoadLanes(group.x + i);
    const Lanes w = LoadLanes(group.weight + i);
    const Lanes v = Codes::Nearest(x * inverse);
    const Lanes e = x - Splat(scale) * v;
    ee += w * e * e;
    ve += w * v * e;
    vv += w * v * v;
  }
  return {SumOf(ee), SumOf(ve), SumOf(vv)};
}

/// The element of greatest magnitude among those that count, 0 if none does.
inline float ExtremeOf(const Group& group) {
  float extreme = 0;
  for (int i = 0; i < group.size; ++i) {
    if (group.weight[i] > 0 && std::abs(group.x[i]) > std::abs(extreme)) extreme = group.x[i];
  }
  return extreme;
}

/// The scale (of either sign) with the least error for the group, 0 if all its elements are.
template <class Codes>
float FitScale(const Group& group) {
  const float extreme = ExtremeOf(group);
  if (extreme == 0) return 0;
  float best = extreme / Codes::kLowest;
  float best_error = std::numeric_limits<float>::infinity();
  const auto consider = [&](float scale) {
    const ScaleFit fit = MeasureScale<Codes>(group, scale);
    if (fit.error() >= best_error) return false;
    best_error = fit.error();
    best = scale + fit.step();
    return true;
  };
  // The extreme falls on the end of the range, up to eight steps within it or four out of it.
  const auto consider_end = [&](float end) {
    const float outwards = end < 0 ? -Codes::kSpacing : Codes::kSpacing;
    for (int k = -16; k <= 8; ++k) {
      const float target = end + 0.5f * static_cast<float>(k) * outwards;
      if (target * end > 0) consider(extreme / target);
    }
    for (float clip : {0.75f, 0.5f, 0.25f}) consider(clip * extreme / end);
  };
  consider_end(Codes::kLowest);
  if (Codes::kLowest != -Codes::kHighest) consider_end(Codes::kHighest);
  for (int i = 0; i < 8 && consider(best); ++i) {
  }
  return best;
}

/// FitScale's result as a half-precision number, rounded to whichever neighbour errs less.
template <class Codes>
float FitHalfScale(const Group& group) {
  const float middle = RoundToHalf(FitScale<Codes>(group));
  float best = middle;
  float best_error = MeasureScale<Codes>(group, middle).ee;
  for (int step : {-1, 1}) {
    const float neighbour = NeighbourHalf(middle, step);
    const float error = MeasureScale<Codes>(group, neighbour).ee;
    if (error < best_error) {
      best = neighbour;
      best_error = error;
    }
  }
  return best;
}

/// Writes the code of each element under `scale`, counted from 0 for the lowest.
template <class Codes>
void AssignCodes(const Group& group, float scale, uint8_t* codes) {
  const Lanes inverse = Splat(SafeInverse(scale));
  for (int i = 0; i < group.size; i += kLanes) {
    const Lanes values = Codes::Nearest(LoadLanes(group.x + i) * inverse);
    for (int k = 0; k < kLanes; ++k) codes[i + k] = Codes::CodeOf(values[k]);
  }
}

}  // namespace moxie
