#include "quant/line_search.h"

namespace moxie {
namespace {

Lanes NearestCodes(Lanes ratios, float highest) {
  return RoundSmall(ClampLanes(ratios, 0, highest));
}

struct Improved {
  Line line;
  float error;
};

// The error after changing the line by (scale, base) with the codes kept.
float ErrorAfter(const LineFit& fit, float scale, float base) {
  const float error = fit.ee - 2 * (base * fit.e + scale * fit.ce) + base * base * fit.one +
                      2 * base * scale * fit.c + scale * scale * fit.cc;
  return std::max(0.0f, error);
}

// The best line for the codes that `line` gives: the two normal equations of least squares, or the
// one of them that is left when the base is held at zero or all codes are equal.
Improved Improve(const LineFit& fit, Line line, bool base_below_zero) {
  const float determinant = fit.one * fit.cc - fit.c * fit.c;
  float scale = 0;
  float base = fit.one > 0 ? fit.e / fit.one : 0;
  if (determinant > 1e-6f * fit.one * fit.cc) {
    scale = (fit.one * fit.ce - fit.c * fit.e) / determinant;
    base = (fit.cc * fit.e - fit.c * fit.ce) / determinant;
  }
  if (base_below_zero && line.base + base > 0) {
    base = -line.base;
    scale = fit.cc > 0 ? (fit.ce - base * fit.c) / fit.cc : 0;
  }
  if (line.scale + scale < 0) return {line, fit.ee};
  return {{line.scale + scale, line.base + base}, ErrorAfter(fit, scale, base)};
}

}  // namespace

LineFit MeasureLine(const Group& group, int highest, Line line) {
  const Lanes inverse = Splat(SafeInverse(line.scale));
  const auto end = static_cast<float>(highest);
  Lanes ee{};
  Lanes we{};
  Lanes ce{};
  Lanes wc{};
  Lanes cc{};
  Lanes one{};
  for (int i = 0; i < group.size; i += kLanes) {
    const Lanes x = LoadLanes(group.x + i) - Splat(line.base);
    const Lanes w = LoadLanes(group.weight + i);
    const Lanes c = NearestCodes(x * inverse, end);
    const Lanes e = x - Splat(line.scale) * c;
    ee += w * e * e;
    we += w * e;
    ce += w * c * e;
    wc += w * c;
    cc += w * c * c;
    one += w;
  }
  return {SumOf(ee), SumOf(we), SumOf(ce), SumOf(wc), SumOf(cc), SumOf(one)};
}

Line FitLine(const Group& group, int highest, bool base_below_zero) {
  float lower = std::numeric_limits<float>::infinity();
  float upper = -lower;
  for (int i = 0; i < group.size; ++i) {
    if (group.weight[i] <= 0) continue;
    lower = std::min(lower, group.x[i]);
    upper = std::max(upper, group.x[i]);
  }
  if (lower > upper) return {};
  if (base_below_zero) lower = std::min(lower, 0.0f);
  if (lower == upper) return {0, lower};

  Line best = {0, lower};
  float best_error = std::numeric_limits<float>::infinity();
  const auto consider = [&](Line line) {
    const Improved improved = Improve(MeasureLine(group, highest, line), line, base_below_zero);
    if (improved.error >= best_error) return false;
    best_error = improved.error;
    best = improved.line;
    return true;
  };
  // The codes reach up to three steps beyond the elements, or leave as many of them out, at the
  // upper end, at both, or at the lower.
  for (int k = -6; k <= 6; ++k) {
    const float left_out = 0.5f * static_cast<float>(k);
    const float steps = static_cast<float>(highest) + left_out;
    if (steps < 1) continue;
    const float scale = (upper - lower) / steps;
    for (float share : {0.0f, 0.5f, 1.0f}) consider({scale, lower + share * left_out * scale});
  }
  for (int i = 0; i < 8 && consider(best); ++i) {
  }
  return best;
}

Line FitHalfLine(const Group& group, int highest) {
  const Line wanted = FitLine(group, highest, false);
  const Line middle = {RoundToHalf(wanted.scale), RoundToHalf(wanted.base)};
  Line best = middle;
  float best_error = MeasureLine(group, highest, middle).ee;
  for (int scale_step : {0, -1, 1}) {
    for (int base_step : {0, -1, 1}) {
      const Line line = {NeighbourHalf(middle.scale, scale_step),
                         NeighbourHalf(middle.base, base_step)};
      const float error = MeasureLine(group, highest, line).ee;
      if (error >= best_error) continue;
      best_error = error;
      best = line;
    }
  }
  return best;
}

void AssignCodes(const Group& group, int highest, Line line, uint8_t* codes) {
  const Lanes inverse = Splat(SafeInverse(line.scale));
  for (int i = 0; i < group.size; i += kLanes) {
    const Lanes above = LoadLanes(group.x + i) - Splat(line.base);
    const Lanes values = NearestCodes(above * inverse, static_cast<float>(highest));
    for (int k = 0; k < kLanes; ++k) codes[i + k] = static_cast<uint8_t>(values[k]);
  }
}

}  // namespace moxie
