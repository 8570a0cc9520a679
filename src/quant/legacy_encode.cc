#include <cmath>

#include "quant/legacy.h"
#include "quant/line_search.h"
#include "quant/scale_search.h"

namespace moxie {
namespace {

void PackNibbles(const uint8_t* codes, uint8_t (&q)[16]) {
  for (int j = 0; j < 16; ++j) {
    q[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[16 + j] & 15) << 4);
  }
}

void PackHighBits(const uint8_t* codes, uint8_t (&high)[4]) {
  for (int k = 0; k < 4; ++k) high[k] = 0;
  for (int j = 0; j < 32; ++j) {
    high[j / 8] = static_cast<uint8_t>(high[j / 8] | (codes[j] >> 4) << (j % 8));
  }
}

template <class Codes>
StoredHalf EncodeScaled(const Group& group, uint8_t (&codes)[32]) {
  const float d = FitHalfScale<Codes>(group);
  AssignCodes<Codes>(group, d, codes);
  return StoredHalf::Of(d);
}

template <class Block>
void EncodeLine(const Group& group, int highest, Block& block, uint8_t (&codes)[32]) {
  const Line line = FitHalfLine(group, highest);
  AssignCodes(group, highest, line, codes);
  block.d = StoredHalf::Of(line.scale);
  block.m = StoredHalf::Of(line.base);
}

}  // namespace

void Encode(const Group& group, BlockQ4_0& block) {
  uint8_t codes[32];
  block.d = EncodeScaled<IntegerCodes<-8, 7>>(group, codes);
  PackNibbles(codes, block.q);
}

void Encode(const Group& group, BlockQ4_1& block) {
  uint8_t codes[32];
  EncodeLine(group, 15, block, codes);
  PackNibbles(codes, block.q);
}

void Encode(const Group& group, BlockQ5_0& block) {
  uint8_t codes[32];
  block.d = EncodeScaled<IntegerCodes<-16, 15>>(group, codes);
  PackNibbles(codes, block.q);
  PackHighBits(codes, block.high);
}

void Encode(const Group& group, BlockQ5_1& block) {
  uint8_t codes[32];
  EncodeLine(group, 31, block, codes);
  PackNibbles(codes, block.q);
  PackHighBits(codes, block.high);
}

void Encode(const Group& group, BlockQ8_0& block) {
  uint8_t codes[32] = {};
  block.d = EncodeScaled<IntegerCodes<-127, 127>>(group, codes);
  for (int j = 0; j < 32; ++j) block.q[j] = static_cast<int8_t>(codes[j] - 127);
}

}  // namespace moxie
