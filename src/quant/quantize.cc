#include "quant/quantize.h"

#include <array>
#include <cstring>

#include "core/half.h"
#include "moxie/result.h"
#include "quant/blocks.h"
#include "quant/k_quants.h"
#include "quant/legacy.h"
#include "quant/table_quants.h"
#include "quant/ternary.h"

namespace moxie {
namespace {

// What the searches of scale_search.h rely on: bounded elements, and weights of which the greatest
// is 1. What is no number counts as 0; a block of which nothing counts is taken evenly.
template <int size>
struct Bounded {
  float x[size];
  float weight[size];

  Bounded(const float* elements, const float* importance, float limit) {
    float greatest = 0;
    for (int i = 0; i < size; ++i) {
      const float value = std::isnan(elements[i]) ? 0 : elements[i];
      x[i] = std::clamp(value, -limit, limit);
      const float wanted = importance != nullptr && importance[i] > 0 ? importance[i] : 0;
      weight[i] = std::min(wanted, std::numeric_limits<float>::max());
      greatest = std::max(greatest, weight[i]);
    }
    for (float& w : weight) w = greatest > 0 ? w / greatest : 1;
  }
};

template <class Block>
void EncodeBlocks(const float* x, int64_t elements, const float* importance, std::byte* out) {
  MOXIE_CHECK(elements % Block::kElements == 0);
  // An MXFP4 scale reaches every float32; the others end far below kLargestElement.
  const float limit =
      std::is_same_v<Block, BlockMXFP4> ? std::numeric_limits<float>::max() : kLargestElement;
  for (int64_t i = 0; i < elements; i += Block::kElements) {
    const float* weights = importance != nullptr ? importance + i : nullptr;
    const Bounded<Block::kElements> bounded(x + i, weights, limit);
    Block block;
    Encode(Group{bounded.x, bounded.weight, Block::kElements}, block);
    std::memcpy(out, &block, sizeof(block));
    out += sizeof(block);
  }
}

// Rounds to 16 bits; a finite number never becomes infinite.
template <class Narrow>
void EncodeWords(const float* x, int64_t elements, float largest, Narrow narrow, std::byte* out) {
  for (int64_t i = 0; i < elements; ++i) {
    const float bounded = std::isfinite(x[i]) ? std::clamp(x[i], -largest, largest) : x[i];
    const uint16_t bits = narrow(bounded);
    std::memcpy(out + 2 * i, &bits, 2);
  }
}

// The plain form: the greatest magnitude becomes code 127, the rest is rounded. A search gains next
// to nothing at eight bits, and key-value caches are written in this format as tokens come.
void EncodeQ8(const float* x, int64_t elements, std::byte* out) {
  MOXIE_CHECK(elements % BlockQ8_0::kElements == 0);
  for (int64_t i = 0; i < elements; i += BlockQ8_0::kElements) {
    std::array<Lanes, BlockQ8_0::kElements / kLanes> values;
    Lanes greatest{};
    for (size_t k = 0; k < values.size(); ++k) {
      const Lanes read = LoadLanes(x + i + kLanes * static_cast<int64_t>(k));
      values[k] = read == read ? read : Lanes{};
      const Lanes magnitude = values[k] < Lanes{} ? -values[k] : values[k];
      greatest = magnitude > greatest ? magnitude : greatest;
    }
    const float d = RoundToHalf(
        std::max(std::max(greatest[0], greatest[1]), std::max(greatest[2], greatest[3])) / 127);
    const Lanes inverse = Splat(SafeInverse(d));
    // The sum that rounds has the integer in its low bits.
    std::array<uint32_t, BlockQ8_0::kElements> bits;
    for (size_t k = 0; k < values.size(); ++k) {
      const Lanes shifted = ClampLanes(values[k] * inverse, -127, 127) + Splat(kRoundingShift);
      std::memcpy(&bits[kLanes * k], &shifted, sizeof(shifted));
    }
    BlockQ8_0 block;
    block.d = StoredHalf::Of(d);
    for (size_t j = 0; j < bits.size(); ++j) block.q[j] = static_cast<int8_t>(bits[j]);
    std::memcpy(out, &block, sizeof(block));
    out += sizeof(block);
  }
}

}  // namespace

bool CanQuantize(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ8_0:
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K:
    case DType::kIQ4_NL:
    case DType::kIQ4_XS:
    case DType::kMXFP4:
    case DType::kTQ1_0:
    case DType::kTQ2_0:
      return true;
    default:
      return false;
  }
}

void Quantize(DType type, const float* x, int64_t elements, const float* importance,
              std::byte* out) {
  switch (type) {
    case DType::kF32:
      std::memcpy(out, x, static_cast<size_t>(elements) * sizeof(float));
      return;
    case DType::kF16:
      return EncodeWords(x, elements, 65504.0f, FloatToHalf, out);
    case DType::kBF16:
      return EncodeWords(x, elements, 0x1.fep127f, FloatToBfloat16, out);
    case DType::kQ8_0:
      if (importance == nullptr) return EncodeQ8(x, elements, out);
      return EncodeBlocks<BlockQ8_0>(x, elements, importance, out);
    case DType::kQ4_0:
      return EncodeBlocks<BlockQ4_0>(x, elements, importance, out);
    case DType::kQ4_1:
      return EncodeBlocks<BlockQ4_1>(x, elements, importance, out);
    case DType::kQ5_0:
      return EncodeBlocks<BlockQ5_0>(x, elements, importance, out);
    case DType::kQ5_1:
      return EncodeBlocks<BlockQ5_1>(x, elements, importance, out);
    case DType::kQ2_K:
      return EncodeBlocks<BlockQ2_K>(x, elements, importance, out);
    case DType::kQ3_K:
      return EncodeBlocks<BlockQ3_K>(x, elements, importance, out);
    case DType::kQ4_K:
      return EncodeBlocks<BlockQ4_K>(x, elements, importance, out);
    case DType::kQ5_K:
      return EncodeBlocks<BlockQ5_K>(x, elements, importance, out);
    case DType::kQ6_K:
      return EncodeBlocks<BlockQ6_K>(x, elements, importance, out);
    case DType::kIQ4_NL:
      return EncodeBlocks<BlockIQ4_NL>(x, elements, importance, out);
    case DType::kIQ4_XS:
      return EncodeBlocks<BlockIQ4_XS>(x, elements, importance, out);
    case DType::kMXFP4:
      return EncodeBlocks<BlockMXFP4>(x, elements, importance, out);
    case DType::kTQ1_0:
      return EncodeBlocks<BlockTQ1_0>(x, elements, importance, out);
    case DType::kTQ2_0:
      return EncodeBlocks<BlockTQ2_0>(x, elements, importance, out);
    default:
      MOXIE_CHECK(CanQuantize(type));
  }
}

}  // namespace moxie
