#pragma once

#include <array>

#include "quant/line_search.h"
#include "quant/scale_search.h"

namespace moxie {

// The searches of scale_search.h and line_search.h for super-blocks of 256 elements: each group's
// scale is a small integer times one half-precision number. The groups are fitted freely, then
// rounded; then integers (one step up or down, codes reassigned) and the common numbers (least
// squares) are improved in turn while the error of the whole block falls.

inline constexpr int kSuperBlock = 256;

/// Group g of a super-block in groups of `size`.
inline Group GroupOf(const Group& block, int g, int size) {
  return {block.x + g * size, block.weight + g * size, size};
}

/// Group g has the scale d * scale[g].
struct SuperScales {
  float d = 0;
  std::array<int8_t, 16> scale{};

  float ScaleOf(int g) const { return d * static_cast<float>(scale[g]); }
};

/// Group g has the line of scale d * scale[g] and base -(dmin * offset[g]).
struct SuperLines {
  float d = 0;
  float dmin = 0;
  std::array<uint8_t, 16> scale{};
  std::array<uint8_t, 16> offset{};

  Line LineOf(int g) const {
    return {d * static_cast<float>(scale[g]), -(dmin * static_cast<float>(offset[g]))};
  }
};

/// Codes run from 0 to highest_code, scales and offsets from 0 to highest_scale.
SuperLines FitSuperLines(const Group& block, int group_size, int highest_code, int highest_scale);

/// Moves each integer scale to the neighbour with the least error; returns the block's error.
template <class Codes>
float ImproveIntegers(const Group& block, int group_size, int lowest, int highest,
                      SuperScales& scales) {
  float total = 0;
  for (int g = 0; g < block.size / group_size; ++g) {
    const Group group = GroupOf(block, g, group_size);
    const auto middle = static_cast<int>(scales.scale[g]);
    float best_error = std::numeric_limits<float>::infinity();
    for (int scale : {middle, middle - 1, middle + 1}) {
      if (scale < lowest || scale > highest) continue;
      const float error = MeasureScale<Codes>(group, scales.d * static_cast<float>(scale)).ee;
      if (error >= best_error) continue;
      best_error = error;
      scales.scale[g] = static_cast<int8_t>(scale);
    }
    total += best_error;
  }
  return total;
}

/// The half-precision d that is best for the present codes and integers.
template <class Codes>
float RefitCommonScale(const Group& block, int group_size, const SuperScales& scales) {
  float ve = 0;
  float vv = 0;
  for (int g = 0; g < block.size / group_size; ++g) {
    const ScaleFit fit = MeasureScale<Codes>(GroupOf(block, g, group_size), scales.ScaleOf(g));
    const auto scale = static_cast<float>(scales.scale[g]);
    ve += scale * fit.ve;
    vv += scale * scale * fit.vv;
  }
  return vv > 0 ? RoundToHalf(scales.d + ve / vv) : scales.d;
}

/// Integer scales run from `lowest` (negative, at least as far from 0 as `highest`) to `highest`.
template <class Codes>
SuperScales FitSuperScales(const Group& block, int group_size, int lowest, int highest) {
  std::array<float, 16> wanted{};
  float extreme = 0;
  for (int g = 0; g < block.size / group_size; ++g) {
    wanted[g] = FitScale<Codes>(GroupOf(block, g, group_size));
    if (std::abs(wanted[g]) > std::abs(extreme)) extreme = wanted[g];
  }
  SuperScales current;
  current.d = RoundToHalfUp(extreme / static_cast<float>(lowest));
  for (int g = 0; g < 16; ++g) {
    const float ratio = wanted[g] * SafeInverse(current.d);
    current.scale[g] = static_cast<int8_t>(
        RoundSmall(std::clamp(ratio, static_cast<float>(lowest), static_cast<float>(highest))));
  }
  SuperScales best = current;
  float best_error = std::numeric_limits<float>::infinity();
  for (int pass = 0; pass < 4; ++pass) {
    const float error = ImproveIntegers<Codes>(block, group_size, lowest, highest, current);
    if (error >= best_error) break;
    best = current;
    best_error = error;
    current.d = RefitCommonScale<Codes>(block, group_size, current);
  }
  return best;
}

}  // namespace moxie
