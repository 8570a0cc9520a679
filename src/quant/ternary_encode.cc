#include "quant/scale_search.h"
#include "quant/ternary.h"

namespace moxie {
namespace {

// The base-3 digits of `count` codes, `stride` apart, first one first, as ceil(256 * n / 243).
uint8_t PackDigits(const uint8_t* codes, int count, int stride) {
  int number = 0;
  for (int k = 0; k < 5; ++k) number = 3 * number + (k < count ? codes[k * stride] : 0);
  return static_cast<uint8_t>((number * 256 + 242) / 243);
}

float EncodeTernary(const Group& group, uint8_t (&codes)[256]) {
  using Codes = IntegerCodes<-1, 1>;
  const float d = FitHalfScale<Codes>(group);
  AssignCodes<Codes>(group, d, codes);
  return d;
}

}  // namespace

void Encode(const Group& group, BlockTQ1_0& block) {
  uint8_t codes[256];
  block.d = StoredHalf::Of(EncodeTernary(group, codes));
  for (int j = 0; j < 32; ++j) block.q[j] = PackDigits(codes + j, 5, 32);
  for (int j = 0; j < 16; ++j) block.q[32 + j] = PackDigits(codes + 160 + j, 5, 16);
  for (int j = 0; j < 4; ++j) block.tail[j] = PackDigits(codes + 240 + j, 4, 4);
}

void Encode(const Group& group, BlockTQ2_0& block) {
  uint8_t codes[256] = {};
  block.d = StoredHalf::Of(EncodeTernary(group, codes));
  for (int j = 0; j < 64; ++j) {
    const uint8_t* code = codes + 128 * (j / 32) + j % 32;
    block.q[j] = static_cast<uint8_t>(code[0] | code[32] << 2 | code[64] << 4 | code[96] << 6);
  }
}

}  // namespace moxie
