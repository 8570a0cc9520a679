#include "quant/line_search.h"

namespace moxie {
namespace {

float NearestCode(float ratio, float highest) {
  ratio = ratio < 0 ? 0 : ratio;
  return RoundSmall(ratio > highest ? highest : ratio);
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
  const float inverse = SafeInverse(line.scale);
  const auto end = static_cast<float>(highest);
  float sums[6][kLanes] = {};
  for (int i = 0; i < group.size; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      const float x = group.x[i + k] - line.base;
      const float w = group.weight[i + k];
      const float c = NearestCode(x * inverse, end);
      const float e = x - line.scale * c;
      sums[0][k] += w * e * e;
      sums[1][k] += w * e;
      sums[2][k] += w * c * e;
      sums[3][k] += w * c;
      sums[4][k] += w * c * c;
      sums[5][k] += w;
    }
  }
  for (auto& sum : sums) {
    for (int k = 1; k < kLanes; ++k) sum[0] += sum[k];
  }
  return {sums[0][0], sums[1][0], sums[2][0], sums[3][0], sums[4][0], sums[5][0]};
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
  // The codes span the elements and up to one step more, or leave up to two steps of them out, at
  // the upper end, at both, or at the lower.
  for (int k = -4; k <= 8; ++k) {
    const float left_out = 0.25f * static_cast<float>(k);
    const float scale = (upper - lower) / (static_cast<float>(highest) + left_out);
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
  const float inverse = SafeInverse(line.scale);
  for (int i = 0; i < group.size; ++i) {
    const float ratio = (group.x[i] - line.base) * inverse;
    codes[i] = static_cast<uint8_t>(NearestCode(ratio, static_cast<float>(highest)));
  }
}

}  // namespace moxie
