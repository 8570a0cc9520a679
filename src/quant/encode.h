#pragma once

#include "core/dtype.h"
#include "quant/encode_groups.h"
#include "quant/encode_super_blocks.h"
#include "quant/encode_tables.h"

namespace moxie::lanes {
namespace {

// quantize.h's Quantize over vectors of N lanes.

/// `count` numbers as groups side by side; what is missing counts as zeros.
template <int N, int size>
void ReadGroups(const float* from, int64_t count, float* to) {
  constexpr int kElements = size * kBatch;
  if (count >= kElements) return Transpose<N, size>(from, to);
  float padded[kElements] = {};
  __builtin_memcpy(padded, from, static_cast<size_t>(count) * sizeof(float));
  Transpose<N, size>(padded, to);
}

/// A batch of blocks after another.
template <int N, class Block, bool is_weighted>
void EncodeBlocks(const float* x, int64_t elements, const float* importance, std::byte* out) {
  constexpr int kSize = kGroupSize<Block>;
  constexpr int kElements = kSize * kBatch;
  constexpr int kBlockGroups = Block::kElements / kSize;
  // An MXFP4 scale reaches every float32; the others end far below.
  constexpr float kLimit = sizeof(Block) == sizeof(BlockMXFP4) ? kGreatestFloat : 0x1p30f;
  Batch<kSize, is_weighted> batch;
  Block blocks[kBatch / kBlockGroups];
  for (int64_t i = 0; i < elements; i += kElements) {
    const int64_t left = elements - i;
    ReadGroups<N, kSize>(x + i, left, batch.x);
    if constexpr (is_weighted) ReadGroups<N, kSize>(importance + i, left, batch.weight);
    Bound<N>(batch, kBlockGroups, kLimit);
    EncodeBatch<N>(batch, blocks);
    const int64_t whole = left < kElements ? left / Block::kElements : kBatch / kBlockGroups;
    __builtin_memcpy(out, blocks, static_cast<size_t>(whole) * sizeof(Block));
    out += whole * static_cast<int64_t>(sizeof(Block));
  }
}

// Eight bits without a search: the greatest magnitude becomes code 127, the rest is rounded. A
// search gains next to nothing there, and key-value caches are written in this format as tokens
// come. A scale is the same number whichever way it is found, so one block and many agree.

/// The scale for a greatest magnitude.
template <class I, class V>
MOXIE_LANES V PlainScale(V greatest) {
  return RoundToHalf<I>(greatest / 127.0f);
}

/// The integers nearest to x * inverse, in the low eight bits.
template <class I, class V>
MOXIE_LANES I PlainCodes(V x, V inverse) {
  // The sum that rounds has the integer in its low bits.
  return Bits<I>(Clamp(x * inverse, -127, 127) + kRoundingShift);
}

void EncodePlainBlock(const float* x, BlockQ8_0& block) {
  using V = Floats<4>;
  using I = Ints<4>;
  V values[8];
  V greatest{};
  for (int k = 0; k < 8; ++k) {
    const V read = Load<V>(x + 4 * k);
    values[k] = read == read ? read : V{};
    greatest = Max(Abs(values[k]), greatest);
  }
  const V d = PlainScale<I>(Splat<V>(Greatest(greatest)));
  const V inverse = SafeInverse(d);
  SetHalf(block.d, HalfBits<I>(d)[0]);
  int32_t codes[32];
  for (int k = 0; k < 8; ++k) Store(codes + 4 * k, PlainCodes<I>(values[k], inverse));
  for (int j = 0; j < 32; ++j) block.q[j] = static_cast<int8_t>(codes[j]);
}

/// Sixteen blocks at once.
template <int N>
void EncodePlainBatch(const float* x, std::byte* out) {
  using V = Floats<N>;
  using I = Ints<N>;
  Batch<32, false> batch;
  Codes<32> codes;
  StoredHalves halves;
  Transpose<N, 32>(x, batch.x);
  for (int g = 0; g < kBatch; g += N) {
    const Groups<N, Batch<32, false>> groups = {batch, g};
    V greatest{};
    for (int i = 0; i < 32; ++i) greatest = Max(Abs(groups.X(i)), greatest);  // NaN stays out
    const V d = PlainScale<I>(greatest);
    const V inverse = SafeInverse(d);
    Store(halves.bits + g, HalfBits<I>(d));
    StoreCodes<N>(
        g, codes, [&](int i) __attribute__((always_inline)) {
          const V read = groups.X(i);
          return PlainCodes<I>(read == read ? read : V{}, inverse) & 0xff;
        });
  }
  for (int g = 0; g < kBatch; ++g) {
    BlockQ8_0 block;
    SetHalf(block.d, halves.bits[g]);
    __builtin_memcpy(block.q, codes.of[g], 32);
    __builtin_memcpy(out + g * static_cast<int64_t>(sizeof(block)), &block, sizeof(block));
  }
}

template <int N>
void EncodePlainQ8(const float* x, int64_t elements, std::byte* out) {
  constexpr int64_t kBytes = sizeof(BlockQ8_0);
  int64_t i = 0;
  for (; i + 32 * kBatch <= elements; i += 32 * kBatch)
    EncodePlainBatch<N>(x + i, out + i / 32 * kBytes);
  for (; i < elements; i += 32) {
    BlockQ8_0 block;
    EncodePlainBlock(x + i, block);
    __builtin_memcpy(out + i / 32 * kBytes, &block, sizeof(block));
  }
}

template <int N, class Block>
void Encode(const float* x, int64_t elements, const float* importance, std::byte* out) {
  if (importance != nullptr) return EncodeBlocks<N, Block, true>(x, elements, importance, out);
  return EncodeBlocks<N, Block, false>(x, elements, importance, out);
}

/// Whether `type` is one of those with blocks, which it then encoded.
template <int N>
bool EncodeAs(DType type, const float* x, int64_t elements, const float* importance,
              std::byte* out) {
  switch (type) {
    case DType::kQ8_0:
      if (importance == nullptr) {
        EncodePlainQ8<N>(x, elements, out);
      } else {
        EncodeBlocks<N, BlockQ8_0, true>(x, elements, importance, out);
      }
      return true;
    case DType::kQ4_0:
      Encode<N, BlockQ4_0>(x, elements, importance, out);
      return true;
    case DType::kQ4_1:
      Encode<N, BlockQ4_1>(x, elements, importance, out);
      return true;
    case DType::kQ5_0:
      Encode<N, BlockQ5_0>(x, elements, importance, out);
      return true;
    case DType::kQ5_1:
      Encode<N, BlockQ5_1>(x, elements, importance, out);
      return true;
    case DType::kQ2_K:
      Encode<N, BlockQ2_K>(x, elements, importance, out);
      return true;
    case DType::kQ3_K:
      Encode<N, BlockQ3_K>(x, elements, importance, out);
      return true;
    case DType::kQ4_K:
      Encode<N, BlockQ4_K>(x, elements, importance, out);
      return true;
    case DType::kQ5_K:
      Encode<N, BlockQ5_K>(x, elements, importance, out);
      return true;
    case DType::kQ6_K:
      Encode<N, BlockQ6_K>(x, elements, importance, out);
      return true;
    case DType::kIQ4_NL:
      Encode<N, BlockIQ4_NL>(x, elements, importance, out);
      return true;
    case DType::kIQ4_XS:
      Encode<N, BlockIQ4_XS>(x, elements, importance, out);
      return true;
    case DType::kMXFP4:
      Encode<N, BlockMXFP4>(x, elements, importance, out);
      return true;
    case DType::kTQ1_0:
      Encode<N, BlockTQ1_0>(x, elements, importance, out);
      return true;
    case DType::kTQ2_0:
      Encode<N, BlockTQ2_0>(x, elements, importance, out);
      return true;
    default:
      return false;
  }
}

}  // namespace
}  // namespace moxie::lanes
