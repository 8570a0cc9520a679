#include "quant/super_block_search.h"

namespace moxie {
namespace {

uint8_t RoundToInteger(float ratio, int highest) {
  return static_cast<uint8_t>(RoundSmall(std::clamp(ratio, 0.0f, static_cast<float>(highest))));
}

// Moves each group's two integers to the neighbours with the least error; returns the block's.
float ImproveIntegers(const Group& block, int group_size, int highest_code, int highest_scale,
                      SuperLines& lines) {
  float total = 0;
  for (int g = 0; g < block.size / group_size; ++g) {
    const Group group = GroupOf(block, g, group_size);
    const int scale = lines.scale[g];
    const int offset = lines.offset[g];
    float best_error = std::numeric_limits<float>::infinity();
    SuperLines candidate = lines;
    for (int s : {scale, scale - 1, scale + 1}) {
      for (int m : {offset, offset - 1, offset + 1}) {
        if (std::min(s, m) < 0 || std::max(s, m) > highest_scale) continue;
        candidate.scale[g] = static_cast<uint8_t>(s);
        candidate.offset[g] = static_cast<uint8_t>(m);
        const float error = MeasureLine(group, highest_code, candidate.LineOf(g)).ee;
        if (error >= best_error) continue;
        best_error = error;
        lines.scale[g] = candidate.scale[g];
        lines.offset[g] = candidate.offset[g];
      }
    }
    total += best_error;
  }
  return total;
}

// The half-precision d and dmin that are best for the present codes and integers: least squares in
// two unknowns, with a = scale * code and b = -offset as their factors.
void RefitCommonNumbers(const Group& block, int group_size, int highest_code, SuperLines& lines) {
  float aa = 0;
  float ab = 0;
  float bb = 0;
  float ae = 0;
  float be = 0;
  for (int g = 0; g < block.size / group_size; ++g) {
    const LineFit fit = MeasureLine(GroupOf(block, g, group_size), highest_code, lines.LineOf(g));
    const auto scale = static_cast<float>(lines.scale[g]);
    const auto offset = static_cast<float>(lines.offset[g]);
    aa += scale * scale * fit.cc;
    ab -= scale * offset * fit.c;
    bb += offset * offset * fit.one;
    ae += scale * fit.ce;
    be -= offset * fit.e;
  }
  const float determinant = aa * bb - ab * ab;
  float d = aa > 0 ? ae / aa : 0;
  float dmin = 0;
  if (determinant > 1e-6f * aa * bb) {
    d = (bb * ae - ab * be) / determinant;
    dmin = (aa * be - ab * ae) / determinant;
  }
  lines.d = RoundToHalf(std::max(0.0f, lines.d + d));
  lines.dmin = RoundToHalf(std::max(0.0f, lines.dmin + dmin));
}

}  // namespace

SuperLines FitSuperLines(const Group& block, int group_size, int highest_code, int highest_scale) {
  std::array<Line, 16> wanted{};
  float greatest_scale = 0;
  float greatest_offset = 0;
  for (int g = 0; g < block.size / group_size; ++g) {
    wanted[g] = FitLine(GroupOf(block, g, group_size), highest_code, true);
    greatest_scale = std::max(greatest_scale, wanted[g].scale);
    greatest_offset = std::max(greatest_offset, -wanted[g].base);
  }
  const auto highest = static_cast<float>(highest_scale);
  SuperLines current;
  current.d = RoundToHalfUp(greatest_scale / highest);
  current.dmin = RoundToHalfUp(greatest_offset / highest);
  for (int g = 0; g < 16; ++g) {
    current.scale[g] = RoundToInteger(wanted[g].scale * SafeInverse(current.d), highest_scale);
    current.offset[g] = RoundToInteger(-wanted[g].base * SafeInverse(current.dmin), highest_scale);
  }
  SuperLines best = current;
  float best_error = std::numeric_limits<float>::infinity();
  for (int pass = 0; pass < 4; ++pass) {
    const float error = ImproveIntegers(block, group_size, highest_code, highest_scale, current);
    if (error >= best_error) break;
    best = current;
    best_error = error;
    RefitCommonNumbers(block, group_size, highest_code, current);
  }
  return best;
}

}  // namespace moxie
