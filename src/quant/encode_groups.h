#pragma once

#include <concepts>
#include <type_traits>

#include "quant/blocks.h"
#include "quant/line_search.h"
#include "quant/scale_search.h"

namespace moxie::lanes {
namespace {

// Encoders of the formats whose groups of 32 (ternary: 256) elements have numbers of their own: a
// batch of them at once. Layouts: blocks.h.

template <class Block>
constexpr int kGroupSize = Block::kElements;

template <class T, class... Ts>
concept OneOf = (std::same_as<T, Ts> || ...);

/// Whether a code has five bits, the fifth apart from the others.
template <class Block>
constexpr bool kFiveBits = OneOf<Block, BlockQ5_0, BlockQ5_1, BlockQ5_K>;

/// Half-precision numbers, one a block.
struct StoredHalves {
  int32_t bits[kBatch];
};

MOXIE_LANES void SetHalf(StoredHalf& half, int32_t bits) {
  half.low = static_cast<uint8_t>(bits & 0xff);
  half.high = static_cast<uint8_t>(bits >> 8);
}

template <int size>
MOXIE_LANES void PackNibbles(const uint8_t (&codes)[size], uint8_t (&q)[16]) {
  for (int j = 0; j < 16; ++j)
    q[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[16 + j] & 15) << 4);
}

MOXIE_LANES void PackHighBits(const uint8_t (&codes)[32], uint8_t (&high)[4]) {
  for (int k = 0; k < 4; ++k) {
    int bits = 0;
    for (int j = 0; j < 8; ++j) bits |= (codes[8 * k + j] >> 4) << j;
    high[k] = static_cast<uint8_t>(bits);
  }
}

template <class Values, int N, class Batch>
void EncodeScaled(const Batch& batch, StoredHalves& d, Codes<Batch::kSize>& codes) {
  for (int g = 0; g < kBatch; g += N) {
    const Groups<N, Batch> groups = {batch, g};
    const Floats<N> scale = FitHalfScale<Values>(groups);
    Store(d.bits + g, HalfBits<Ints<N>>(scale));
    AssignCodes<Values>(groups, scale, codes);
  }
}

template <int N, class Batch>
void EncodeLines(const Batch& batch, int highest, StoredHalves& d, StoredHalves& m,
                 Codes<Batch::kSize>& codes) {
  for (int g = 0; g < kBatch; g += N) {
    const Groups<N, Batch> groups = {batch, g};
    const Lines<Floats<N>> lines = FitHalfLine(groups, highest);
    Store(d.bits + g, HalfBits<Ints<N>>(lines.scale));
    Store(m.bits + g, HalfBits<Ints<N>>(lines.base));
    AssignCodes(groups, highest, lines, codes);
  }
}

template <int N, class Batch, OneOf<BlockQ4_0, BlockQ5_0> Block>
void EncodeBatch(const Batch& batch, Block (&blocks)[kBatch]) {
  using Values = std::conditional_t<kFiveBits<Block>, IntegerCodes<-16, 15>, IntegerCodes<-8, 7>>;
  StoredHalves d;
  Codes<32> codes;
  EncodeScaled<Values, N>(batch, d, codes);
  for (int g = 0; g < kBatch; ++g) {
    SetHalf(blocks[g].d, d.bits[g]);
    PackNibbles(codes.of[g], blocks[g].q);
    if constexpr (kFiveBits<Block>) PackHighBits(codes.of[g], blocks[g].high);
  }
}

template <int N, class Batch, OneOf<BlockQ4_1, BlockQ5_1> Block>
void EncodeBatch(const Batch& batch, Block (&blocks)[kBatch]) {
  StoredHalves d;
  StoredHalves m;
  Codes<32> codes;
  EncodeLines<N>(batch, kFiveBits<Block> ? 31 : 15, d, m, codes);
  for (int g = 0; g < kBatch; ++g) {
    SetHalf(blocks[g].d, d.bits[g]);
    SetHalf(blocks[g].m, m.bits[g]);
    PackNibbles(codes.of[g], blocks[g].q);
    if constexpr (kFiveBits<Block>) PackHighBits(codes.of[g], blocks[g].high);
  }
}

template <int N, class Batch>
void EncodeBatch(const Batch& batch, BlockQ8_0 (&blocks)[kBatch]) {
  StoredHalves d;
  Codes<32> codes;
  EncodeScaled<IntegerCodes<-127, 127>, N>(batch, d, codes);
  for (int g = 0; g < kBatch; ++g) {
    SetHalf(blocks[g].d, d.bits[g]);
    for (int j = 0; j < 32; ++j) blocks[g].q[j] = static_cast<int8_t>(codes.of[g][j] - 127);
  }
}

// ---- Ternary -----------------------------------------------------------------------------------

// The base-3 digits of `count` codes, `stride` apart, first one first, as ceil(256 * n / 243).
MOXIE_LANES uint8_t PackDigits(const uint8_t* codes, int count, int stride) {
  int number = 0;
  for (int k = 0; k < 5; ++k) number = 3 * number + (k < count ? codes[k * stride] : 0);
  return static_cast<uint8_t>((number * 256 + 242) / 243);
}

template <int N, class Batch>
void EncodeBatch(const Batch& batch, BlockTQ1_0 (&blocks)[kBatch]) {
  StoredHalves d;
  Codes<256> codes;
  EncodeScaled<IntegerCodes<-1, 1>, N>(batch, d, codes);
  for (int g = 0; g < kBatch; ++g) {
    const uint8_t* const code = codes.of[g];
    SetHalf(blocks[g].d, d.bits[g]);
    for (int j = 0; j < 32; ++j) blocks[g].q[j] = PackDigits(code + j, 5, 32);
    for (int j = 0; j < 16; ++j) blocks[g].q[32 + j] = PackDigits(code + 160 + j, 5, 16);
    for (int j = 0; j < 4; ++j) blocks[g].tail[j] = PackDigits(code + 240 + j, 4, 4);
  }
}

template <int N, class Batch>
void EncodeBatch(const Batch& batch, BlockTQ2_0 (&blocks)[kBatch]) {
  StoredHalves d;
  Codes<256> codes;
  EncodeScaled<IntegerCodes<-1, 1>, N>(batch, d, codes);
  for (int g = 0; g < kBatch; ++g) {
    SetHalf(blocks[g].d, d.bits[g]);
    for (int j = 0; j < 64; ++j) {
      const uint8_t* const code = codes.of[g] + 128 * (j / 32) + j % 32;
      blocks[g].q[j] =
          static_cast<uint8_t>(code[0] | code[32] << 2 | code[64] << 4 | code[96] << 6);
    }
  }
}

}  // namespace
}  // namespace moxie::lanes
