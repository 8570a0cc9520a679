#include "quant/dequantize.h"

#include <cstring>

#include "core/half.h"
#include "moxie/result.h"
#include "quant/blocks.h"
#include "quant/iq_quants.h"
#include "quant/k_quants.h"
#include "quant/legacy.h"
#include "quant/table_quants.h"
#include "quant/ternary.h"

namespace moxie {
namespace {

// Blocks are copied out of the bytes: these may lie at any address and are no objects of ours.
template <class Block>
void DecodeBlocks(const std::byte* bytes, int64_t elements, float* out) {
  MOXIE_CHECK(elements % Block::kElements == 0);
  for (; elements > 0; elements -= Block::kElements) {
    Block block;
    std::memcpy(&block, bytes, sizeof(block));
    Decode(block, out);
    bytes += sizeof(block);
    out += Block::kElements;
  }
}

template <class T, class Convert>
void DecodeScalars(const std::byte* bytes, int64_t elements, float* out, Convert convert) {
  for (int64_t i = 0; i < elements; ++i) {
    T value;
    std::memcpy(&value, bytes + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    out[i] = convert(value);
  }
}

template <class T>
void DecodeNumbers(const std::byte* bytes, int64_t elements, float* out) {
  DecodeScalars<T>(bytes, elements, out, [](T value) { return static_cast<float>(value); });
}

}  // namespace

void Dequantize(DType type, const std::byte* bytes, int64_t elements, float* out) {
  switch (type) {
    case DType::kF32:
      std::memcpy(out, bytes, static_cast<size_t>(elements) * sizeof(float));
      return;
    case DType::kF16:
      return DecodeScalars<uint16_t>(bytes, elements, out, HalfToFloat);
    case DType::kBF16:
      return DecodeScalars<uint16_t>(bytes, elements, out, Bfloat16ToFloat);
    case DType::kF64:
      return DecodeNumbers<double>(bytes, elements, out);
    case DType::kI8:
      return DecodeNumbers<int8_t>(bytes, elements, out);
    case DType::kI16:
      return DecodeNumbers<int16_t>(bytes, elements, out);
    case DType::kI32:
      return DecodeNumbers<int32_t>(bytes, elements, out);
    case DType::kI64:
      return DecodeNumbers<int64_t>(bytes, elements, out);
    case DType::kQ4_0:
      return DecodeBlocks<BlockQ4_0>(bytes, elements, out);
    case DType::kQ4_1:
      return DecodeBlocks<BlockQ4_1>(bytes, elements, out);
    case DType::kQ5_0:
      return DecodeBlocks<BlockQ5_0>(bytes, elements, out);
    case DType::kQ5_1:
      return DecodeBlocks<BlockQ5_1>(bytes, elements, out);
    case DType::kQ8_0:
      return DecodeBlocks<BlockQ8_0>(bytes, elements, out);
    case DType::kQ2_K:
      return DecodeBlocks<BlockQ2_K>(bytes, elements, out);
    case DType::kQ3_K:
      return DecodeBlocks<BlockQ3_K>(bytes, elements, out);
    case DType::kQ4_K:
      return DecodeBlocks<BlockQ4_K>(bytes, elements, out);
    case DType::kQ5_K:
      return DecodeBlocks<BlockQ5_K>(bytes, elements, out);
    case DType::kQ6_K:
      return DecodeBlocks<BlockQ6_K>(bytes, elements, out);
    case DType::kIQ1_S:
      return DecodeBlocks<BlockIQ1_S>(bytes, elements, out);
    case DType::kIQ1_M:
      return DecodeBlocks<BlockIQ1_M>(bytes, elements, out);
    case DType::kIQ2_XXS:
      return DecodeBlocks<BlockIQ2_XXS>(bytes, elements, out);
    case DType::kIQ2_XS:
      return DecodeBlocks<BlockIQ2_XS>(bytes, elements, out);
    case DType::kIQ2_S:
      return DecodeBlocks<BlockIQ2_S>(bytes, elements, out);
    case DType::kIQ3_XXS:
      return DecodeBlocks<BlockIQ3_XXS>(bytes, elements, out);
    case DType::kIQ3_S:
      return DecodeBlocks<BlockIQ3_S>(bytes, elements, out);
    case DType::kIQ4_NL:
      return DecodeBlocks<BlockIQ4_NL>(bytes, elements, out);
    case DType::kIQ4_XS:
      return DecodeBlocks<BlockIQ4_XS>(bytes, elements, out);
    case DType::kMXFP4:
      return DecodeBlocks<BlockMXFP4>(bytes, elements, out);
    case DType::kTQ1_0:
      return DecodeBlocks<BlockTQ1_0>(bytes, elements, out);
    case DType::kTQ2_0:
      return DecodeBlocks<BlockTQ2_0>(bytes, elements, out);
  }
  MOXIE_CHECK(false && "unknown type");
}

}  // namespace moxie
