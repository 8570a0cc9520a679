#pragma once

#include "core/dtype.h"
#include "quant/encode_groups.h"
#include "quant/encode_super_blocks.h"
#include "quant/encode_tables.h"
#include "quant/word_search.h"

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
template <int N, class Block, Weighing weighing>
void EncodeBlocks(const float* x, int64_t elements, const float* importance, std::byte* out) {
  constexpr int kSize = kGroupSize<Block>;
  constexpr int kElements = kSize * kBatch;
  constexpr int kBlockGroups = Block::kElements / kSize;
  // An MXFP4 scale reaches every float32; the others end far below.
  constexpr float kLimit = sizeof(Block) == sizeof(BlockMXFP4) ? kGreatestFloat : 0x1p30f;
  Batch<kSize, weighing> batch;
  Block blocks[kBatch / kBlockGroups];
  for (int64_t i = 0; i < elements; i += kElements) {
    const int64_t left = elements - i;
    ReadGroups<N, kSize>(x + i, left, batch.x);
    if constexpr (batch.kGiven) ReadGroups<N, kSize>(importance + i, left, batch.weight);
    Bound<N>(batch, kBlockGroups, kLimit);
    if constexpr (weighing == Weighing::kOutliers) WeighOutliers<N>(batch);
    EncodeBatch<N>(batch, blocks);
    const int64_t whole = left < kElements ? left / Block::kElements : kBatch / kBlockGroups;
    __builtin_memcpy(out, blocks, static_cast<size_t>(whole) * sizeof(Block));
    out += whole * static_cast<int64_t>(sizeof(Block));
  }
}

/// EncodeBlocks without importance, in integers.
template <int N>
void EncodePlainQ4(const float* x, int64_t elements, std::byte* out) {
  constexpr int kElements = 32 * kBatch;
  alignas(64) float batch[kElements];
  BlockQ4_0 blocks[kBatch];
  for (int64_t i = 0; i < elements; i += kElements) {
    const int64_t left = elements - i;
    ReadGroups<N, 32>(x + i, left, batch);
    EncodeWordBatch<N>(batch, blocks);
    const int64_t whole = left < kElements ? left / 32 : kBatch;
    __builtin_memcpy(out, blocks, static_cast<size_t>(whole) * sizeof(BlockQ4_0));
    out += whole * static_cast<int64_t>(sizeof(BlockQ4_0));
  }
}

// Eight bits without a search: the greatest magnitude becomes code 127, the rest is rounded. A
// search gains next to nothing there, and key-value caches are written in this format as tokens
// come. Here lanes are elements: the greatest of them is the same in whichever order it is found.

template <int N>
MOXIE_LANES Floats<N> NumbersAt(const float* x) {
  const auto read = Load<Floats<N>>(x);
  return read == read ? read : Floats<N>{};
}

template <int N>
MOXIE_LANES float GreatestMagnitude(const float* x) {
  Floats<N> greatest{};
  for (int k = 0; k < 32; k += N) greatest = Max(Abs(NumbersAt<N>(x + k)), greatest);
  return Greatest(greatest);
}

template <int N>
MOXIE_LANES void RoundToBytes(const float* x, float inverse, int8_t (&q)[32]) {
  using I = Ints<N>;
  const auto code = [&](int k) __attribute__((always_inline)) {
    // The sum that rounds has the integer in its low bits.
    const Floats<N> ratio = NumbersAt<N>(x + N * k) * Splat<Floats<N>>(inverse);
    return Bits<I>(Clamp(ratio, -127, 127) + kRoundingShift) & 0xff;
  };
  for (int k = 0; k < 32 / N; k += 4) {
    const I words = code(k) | code(k + 1) << 8 | code(k + 2) << 16 | code(k + 3) << 24;
    Store(q + N * k, SortBytes(Bits<Bytes<N>>(words)));
  }
}

/// Up to four blocks, whose scales are four lanes.
template <int N>
MOXIE_LANES void EncodePlainBlocks(const float* x, int count, BlockQ8_0* blocks) {
  Floats<4> greatest{};
  for (int b = 0; b < count; ++b) greatest[b] = GreatestMagnitude<N>(x + 32 * b);
  const auto d = RoundToHalf<Ints<4>>(greatest / 127.0f);
  const Floats<4> inverse = SafeInverse(d);
  const auto bits = HalfBits<Ints<4>>(d);
  for (int b = 0; b < count; ++b) {
    SetHalf(blocks[b].d, bits[b]);
    RoundToBytes<N>(x + 32 * b, inverse[b], blocks[b].q);
  }
}

template <int N>
void EncodePlainQ8(const float* x, int64_t elements, std::byte* out) {
  constexpr int kLanes = N < 8 ? 4 : 8;
  BlockQ8_0 blocks[4];
  for (int64_t left = elements / 32; left > 0; left -= 4) {
    if (left >= 4) {
      EncodePlainBlocks<kLanes>(x, 4, blocks);
    } else {
      EncodePlainBlocks<kLanes>(x, static_cast<int>(left), blocks);
    }
    const auto bytes = static_cast<size_t>(left < 4 ? left : 4) * sizeof(BlockQ8_0);
    __builtin_memcpy(out, blocks, bytes);
    x += 128;
    out += bytes;
  }
}

template <int N, class Block>
void Encode(const float* x, int64_t elements, const float* importance, std::byte* out) {
  // Ternary codes do not reach outliers, and MXFP4's scale hardly chooses.
  constexpr Weighing kPlain =
      OneOf<Block, BlockTQ1_0, BlockTQ2_0, BlockMXFP4> ? Weighing::kNone : Weighing::kOutliers;
  if (importance != nullptr)
    return EncodeBlocks<N, Block, Weighing::kGiven>(x, elements, importance, out);
  return EncodeBlocks<N, Block, kPlain>(x, elements, nullptr, out);
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
        EncodeBlocks<N, BlockQ8_0, Weighing::kGiven>(x, elements, importance, out);
      }
      return true;
    case DType::kQ4_0:
      if (importance == nullptr) {
        EncodePlainQ4<N>(x, elements, out);
      } else {
        Encode<N, BlockQ4_0>(x, elements, importance, out);
      }
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
