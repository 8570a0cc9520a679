#include <cmath>

#include "quant/codebooks.h"
#include "quant/super_block_search.h"
#include "quant/table_quants.h"

namespace moxie {
namespace {

// The codes of kMxfp4Values; of the two zeros the first.
struct Mxfp4Codes {
  static Lanes Nearest(Lanes ratios) {
    for (int k = 0; k < kLanes; ++k) ratios[k] = NearestTo(ratios[k]);
    return ratios;
  }
  static float NearestTo(float ratio) {
    float best = 0;
    for (int8_t value : kMxfp4Values) {
      if (std::abs(ratio - value) < std::abs(ratio - best)) best = value;
    }
    return best;
  }
  static uint8_t CodeOf(float value) {
    uint8_t code = 0;
    while (kMxfp4Values[code] != value) ++code;
    return code;
  }
};

void PackNibbles(const uint8_t* codes, uint8_t* q) {
  for (int j = 0; j < 16; ++j) q[j] = static_cast<uint8_t>(codes[j] | codes[16 + j] << 4);
}

}  // namespace

void Encode(const Group& group, BlockIQ4_NL& block) {
  const float d = FitHalfScale<Iq4Codes>(group);
  uint8_t codes[32];
  AssignCodes<Iq4Codes>(group, d, codes);
  block.d = StoredHalf::Of(d);
  PackNibbles(codes, block.q);
}

void Encode(const Group& group, BlockIQ4_XS& block) {
  const SuperScales scales = FitSuperScales<Iq4Codes>(group, 32, -32, 31);
  block.d = StoredHalf::Of(scales.d);
  int high = 0;
  for (int g = 0; g < 8; ++g) {
    uint8_t codes[32];
    AssignCodes<Iq4Codes>(GroupOf(group, g, 32), scales.ScaleOf(g), codes);
    PackNibbles(codes, block.q + 16 * g);
    high |= ((scales.scale[g] + 32) >> 4) << (2 * g);
  }
  block.scales_high.set_bits(static_cast<uint16_t>(high));
  for (int k = 0; k < 4; ++k) {
    const int first = (scales.scale[2 * k] + 32) & 15;
    const int second = (scales.scale[2 * k + 1] + 32) & 15;
    block.scales_low[k] = static_cast<uint8_t>(first | second << 4);
  }
}

// The scale is a power of two: the one for which the extreme lies in the top binade of the table
// [8, 16), or one of its two neighbours.
void Encode(const Group& group, BlockMXFP4& block) {
  const float extreme = std::abs(ExtremeOf(group));
  const int binade = extreme > 0 ? std::max(std::ilogb(extreme) - 3, -128) : -128;
  // Elements in units of the middle scale, so that the errors cannot overflow.
  float scaled[32];
  for (int j = 0; j < 32; ++j)
    scaled[j] = std::clamp(std::ldexp(group.x[j], -binade), -64.0f, 64.0f);
  const Group unit = {scaled, group.weight, 32};
  float best = 1;
  float best_error = std::numeric_limits<float>::infinity();
  for (int step : {0, -1, 1}) {
    // Below, E8M0 ends; above, a code of the greatest finite floats would decode to infinity.
    if (binade + step < -128 || binade + step > 124) continue;
    const float scale = std::ldexp(1.0f, step);
    const float error = MeasureScale<Mxfp4Codes>(unit, scale).ee;
    if (error >= best_error) continue;
    best_error = error;
    best = scale;
  }
  block.e = static_cast<uint8_t>(binade + std::ilogb(best) + 128);
  uint8_t codes[32];
  AssignCodes<Mxfp4Codes>(unit, best, codes);
  PackNibbles(codes, block.q);
}

}  // namespace moxie
