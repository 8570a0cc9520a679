#pragma once

#include "quant/encode_groups.h"
#include "quant/super_block_search.h"

namespace moxie::lanes {
namespace {

// Encoders of the k-quants: a batch of groups is one or two super-blocks. Layouts: blocks.h.

template <>
constexpr int kGroupSize<BlockQ2_K> = 16;
template <>
constexpr int kGroupSize<BlockQ3_K> = 16;
template <>
constexpr int kGroupSize<BlockQ4_K> = 32;
template <>
constexpr int kGroupSize<BlockQ5_K> = 32;
template <>
constexpr int kGroupSize<BlockQ6_K> = 16;

/// One number a group.
MOXIE_LANES void HalvesOf(const PerGroup& numbers, StoredHalves& halves) {
  for (int g = 0; g < kBatch; g += 4)
    Store(halves.bits + g, HalfBits<Ints<4>>(Load<Floats<4>>(numbers.of + g)));
}

/// FitSuperScales' integers, the common numbers' bits, and the codes.
template <class Values, int N, class Batch>
void EncodeSuperScales(const Batch& batch, float lowest, float highest, SuperScales& scales,
                       StoredHalves& d, Codes<Batch::kSize>& codes) {
  FitSuperScales<Values, N>(batch, lowest, highest, scales);
  HalvesOf(scales.d, d);
  for (int g = 0; g < kBatch; g += N)
    AssignCodes<Values>(Groups<N, Batch>{batch, g}, ScalesAt<N>(scales, g), codes);
}

/// The same of FitSuperLines.
template <int N, class Batch>
void EncodeSuperLines(const Batch& batch, int highest_code, float highest, SuperLines& lines,
                      StoredHalves& d, StoredHalves& dmin, Codes<Batch::kSize>& codes) {
  FitSuperLines<N>(batch, highest_code, highest, lines);
  HalvesOf(lines.d, d);
  HalvesOf(lines.dmin, dmin);
  for (int g = 0; g < kBatch; g += N)
    AssignCodes<N>(Groups<N, Batch>{batch, g}, highest_code, LinesAt<N>(lines, g), codes);
}

// Two bits of each code, from bit `from` on: 32 bytes hold 128 elements.
MOXIE_LANES void PackPairs(const uint8_t* codes, int from, uint8_t (&q)[64]) {
  for (int half = 0; half < 2; ++half) {
    for (int j = 0; j < 32; ++j) {
      const uint8_t* const code = codes + 128 * half + j;
      int packed = 0;
      for (int s = 0; s < 4; ++s) packed |= ((code[32 * s] >> from) & 3) << (2 * s);
      q[32 * half + j] = static_cast<uint8_t>(packed);
    }
  }
}

// The low four bits of each code: 32 bytes hold 64 elements.
MOXIE_LANES void PackSuperNibbles(const uint8_t* codes, uint8_t (&q)[128]) {
  for (int k = 0; k < 4; ++k) {
    const uint8_t* const code = codes + 64 * k;
    for (int j = 0; j < 32; ++j)
      q[32 * k + j] = static_cast<uint8_t>((code[j] & 15) | (code[32 + j] & 15) << 4);
  }
}

// Bit `bit` of each code: byte j holds those of elements j, 32 + j, 64 + j, ...
MOXIE_LANES void PackBits(const uint8_t* codes, int bit, uint8_t (&bits)[32]) {
  for (int j = 0; j < 32; ++j) {
    int packed = 0;
    for (int g = 0; g < 8; ++g) packed |= ((codes[32 * g + j] >> bit) & 1) << g;
    bits[j] = static_cast<uint8_t>(packed);
  }
}

/// The eight six-bit scales and offsets of the groups from `first` on.
MOXIE_LANES void PackKScales(const SuperLines& lines, int first, uint8_t (&packed)[12]) {
  for (int g = first; g < first + 4; ++g) {
    const int scale = static_cast<int>(lines.scale.of[g + 4]);
    const int offset = static_cast<int>(lines.offset.of[g + 4]);
    uint8_t* const to = packed + (g - first);
    to[0] = static_cast<uint8_t>(static_cast<int>(lines.scale.of[g]) | (scale >> 4) << 6);
    to[4] = static_cast<uint8_t>(static_cast<int>(lines.offset.of[g]) | (offset >> 4) << 6);
    to[8] = static_cast<uint8_t>((scale & 15) | (offset & 15) << 4);
  }
}

template <int N, class Batch>
void EncodeBatch(const Batch& batch, BlockQ2_K (&blocks)[1]) {
  SuperLines lines;
  Codes<16> codes;
  StoredHalves d, dmin;
  EncodeSuperLines<N>(batch, 3, 15, lines, d, dmin, codes);
  SetHalf(blocks[0].d, d.bits[0]);
  SetHalf(blocks[0].dmin, dmin.bits[0]);
  for (int g = 0; g < kBatch; ++g) {
    blocks[0].scales[g] = static_cast<uint8_t>(static_cast<int>(lines.scale.of[g]) |
                                               static_cast<int>(lines.offset.of[g]) << 4);
  }
  PackPairs(codes.of[0], 0, blocks[0].q);
}

template <int N, class Batch>
void EncodeBatch(const Batch& batch, BlockQ3_K (&blocks)[1]) {
  SuperScales scales;
  Codes<16> codes;
  StoredHalves d;
  EncodeSuperScales<IntegerCodes<-4, 3>, N>(batch, -32, 31, scales, d, codes);
  SetHalf(blocks[0].d, d.bits[0]);
  for (uint8_t& byte : blocks[0].scales) byte = 0;
  for (int g = 0; g < kBatch; ++g) {
    const int scale = static_cast<int>(scales.scale.of[g]) + 32;
    uint8_t& low = blocks[0].scales[g % 8];
    uint8_t& high = blocks[0].scales[8 + g % 4];
    low = static_cast<uint8_t>(low | (scale & 15) << (4 * (g / 8)));
    high = static_cast<uint8_t>(high | (scale >> 4) << (2 * (g / 4)));
  }
  PackPairs(codes.of[0], 0, blocks[0].q);
  PackBits(codes.of[0], 2, blocks[0].hmask);
}

template <int N, class Batch>
void EncodeBatch(const Batch& batch, BlockQ6_K (&blocks)[1]) {
  SuperScales scales;
  Codes<16> codes;
  StoredHalves d;
  EncodeSuperScales<IntegerCodes<-32, 31>, N>(batch, -128, 127, scales, d, codes);
  SetHalf(blocks[0].d, d.bits[0]);
  for (int g = 0; g < kBatch; ++g)
    blocks[0].scales[g] = static_cast<int8_t>(static_cast<int>(scales.scale.of[g]));
  for (int half = 0; half < 2; ++half) {
    const uint8_t* const code = codes.of[0] + 128 * half;
    for (int j = 0; j < 64; ++j) {
      blocks[0].low[64 * half + j] =
          static_cast<uint8_t>((code[j] & 15) | (code[64 + j] & 15) << 4);
    }
  }
  PackPairs(codes.of[0], 4, blocks[0].high);
}

template <int N, class Batch, OneOf<BlockQ4_K, BlockQ5_K> Block>
void EncodeBatch(const Batch& batch, Block (&blocks)[2]) {
  SuperLines lines;
  Codes<32> codes;
  StoredHalves d, dmin;
  EncodeSuperLines<N>(batch, kFiveBits<Block> ? 31 : 15, 63, lines, d, dmin, codes);
  for (int b = 0; b < 2; ++b) {
    SetHalf(blocks[b].d, d.bits[8 * b]);
    SetHalf(blocks[b].dmin, dmin.bits[8 * b]);
    PackKScales(lines, 8 * b, blocks[b].scales);
    PackSuperNibbles(codes.of[8 * b], blocks[b].q);
    if constexpr (kFiveBits<Block>) PackBits(codes.of[8 * b], 4, blocks[b].high);
  }
}

}  // namespace
}  // namespace moxie::lanes
