#include "quant/k_quants.h"
#include "quant/super_block_search.h"

namespace moxie {
namespace {

struct Codes256 {
  uint8_t code[kSuperBlock];
};

Codes256 CodesOf(const Group& block, int group_size, int highest_code, const SuperLines& lines) {
  Codes256 codes;
  for (int g = 0; g < kSuperBlock / group_size; ++g) {
    AssignCodes(GroupOf(block, g, group_size), highest_code, lines.LineOf(g),
                codes.code + g * group_size);
  }
  return codes;
}

template <class Codes>
Codes256 CodesOf(const Group& block, const SuperScales& scales) {
  Codes256 codes;
  for (int g = 0; g < 16; ++g) {
    AssignCodes<Codes>(GroupOf(block, g, 16), scales.ScaleOf(g), codes.code + 16 * g);
  }
  return codes;
}

// Two bits of each code, from bit `from` on: 32 bytes hold 128 elements (blocks.h).
void PackPairs(const Codes256& codes, int from, uint8_t (&q)[64]) {
  for (int j = 0; j < 64; ++j) {
    const uint8_t* code = codes.code + 128 * (j / 32) + j % 32;
    int packed = 0;
    for (int s = 0; s < 4; ++s) packed |= ((code[32 * s] >> from) & 3) << (2 * s);
    q[j] = static_cast<uint8_t>(packed);
  }
}

// The low four bits of each code: 32 bytes hold 64 elements.
void PackNibbles(const Codes256& codes, uint8_t (&q)[128]) {
  for (int j = 0; j < 128; ++j) {
    const uint8_t* code = codes.code + 64 * (j / 32) + j % 32;
    q[j] = static_cast<uint8_t>((code[0] & 15) | (code[32] & 15) << 4);
  }
}

// Bit `bit` of each code: byte j holds those of elements j, 32 + j, 64 + j, ...
void PackBits(const Codes256& codes, int bit, uint8_t (&bits)[32]) {
  for (int j = 0; j < 32; ++j) {
    int packed = 0;
    for (int g = 0; g < 8; ++g) packed |= ((codes.code[32 * g + j] >> bit) & 1) << g;
    bits[j] = static_cast<uint8_t>(packed);
  }
}

void PackKScales(const SuperLines& lines, uint8_t (&packed)[12]) {
  for (int g = 0; g < 4; ++g) {
    const int scale = lines.scale[g + 4];
    const int offset = lines.offset[g + 4];
    packed[g] = static_cast<uint8_t>(lines.scale[g] | (scale >> 4) << 6);
    packed[g + 4] = static_cast<uint8_t>(lines.offset[g] | (offset >> 4) << 6);
    packed[g + 8] = static_cast<uint8_t>((scale & 15) | (offset & 15) << 4);
  }
}

void PackQ3Scales(const SuperScales& scales, uint8_t (&packed)[12]) {
  for (uint8_t& byte : packed) byte = 0;
  for (int g = 0; g < 16; ++g) {
    const int scale = scales.scale[g] + 32;
    uint8_t& low = packed[g % 8];
    uint8_t& high = packed[8 + g % 4];
    low = static_cast<uint8_t>(low | (scale & 15) << (4 * (g / 8)));
    high = static_cast<uint8_t>(high | (scale >> 4) << (2 * (g / 4)));
  }
}

}  // namespace

void Encode(const Group& group, BlockQ2_K& block) {
  const SuperLines lines = FitSuperLines(group, 16, 3, 15);
  block.d = StoredHalf::Of(lines.d);
  block.dmin = StoredHalf::Of(lines.dmin);
  for (int g = 0; g < 16; ++g) {
    block.scales[g] = static_cast<uint8_t>(lines.scale[g] | lines.offset[g] << 4);
  }
  PackPairs(CodesOf(group, 16, 3, lines), 0, block.q);
}

void Encode(const Group& group, BlockQ3_K& block) {
  using Codes = IntegerCodes<-4, 3>;
  const SuperScales scales = FitSuperScales<Codes>(group, 16, -32, 31);
  const Codes256 codes = CodesOf<Codes>(group, scales);
  block.d = StoredHalf::Of(scales.d);
  PackQ3Scales(scales, block.scales);
  PackPairs(codes, 0, block.q);
  PackBits(codes, 2, block.hmask);
}

void Encode(const Group& group, BlockQ4_K& block) {
  const SuperLines lines = FitSuperLines(group, 32, 15, 63);
  block.d = StoredHalf::Of(lines.d);
  block.dmin = StoredHalf::Of(lines.dmin);
  PackKScales(lines, block.scales);
  PackNibbles(CodesOf(group, 32, 15, lines), block.q);
}

void Encode(const Group& group, BlockQ5_K& block) {
  const SuperLines lines = FitSuperLines(group, 32, 31, 63);
  const Codes256 codes = CodesOf(group, 32, 31, lines);
  block.d = StoredHalf::Of(lines.d);
  block.dmin = StoredHalf::Of(lines.dmin);
  PackKScales(lines, block.scales);
  PackNibbles(codes, block.q);
  PackBits(codes, 4, block.high);
}

void Encode(const Group& group, BlockQ6_K& block) {
  using Codes = IntegerCodes<-32, 31>;
  const SuperScales scales = FitSuperScales<Codes>(group, 16, -128, 127);
  const Codes256 codes = CodesOf<Codes>(group, scales);
  block.d = StoredHalf::Of(scales.d);
  for (int g = 0; g < 16; ++g) block.scales[g] = scales.scale[g];
  for (int j = 0; j < 128; ++j) {
    const uint8_t* code = codes.code + 128 * (j / 64) + j % 64;
    block.low[j] = static_cast<uint8_t>((code[0] & 15) | (code[64] & 15) << 4);
  }
  PackPairs(codes, 4, block.high);
}

}  // namespace moxie
