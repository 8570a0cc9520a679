#include "kernels/avx2/matmul_integer.h"

#include "kernels/avx2/formats.h"

namespace moxie::avx2 {
namespace {

using Multiplier = void (*)(const Product&, int64_t row_begin, int64_t row_end, int64_t tokens);

Multiplier MultiplierOf(DType type) {
  switch (type) {
    case DType::kQ4_0:
      return Multiply<UnpackQ4_0>;
    case DType::kQ4_1:
      return Multiply<UnpackQ4_1>;
    case DType::kQ5_0:
      return Multiply<UnpackQ5_0>;
    case DType::kQ5_1:
      return Multiply<UnpackQ5_1>;
    case DType::kQ8_0:
      return Multiply<UnpackQ8_0>;
    case DType::kQ2_K:
      return Multiply<UnpackQ2_K>;
    case DType::kQ3_K:
      return Multiply<UnpackQ3_K>;
    case DType::kQ4_K:
      return Multiply<UnpackQ4_K>;
    case DType::kQ5_K:
      return Multiply<UnpackQ5_K>;
    case DType::kQ6_K:
      return Multiply<UnpackQ6_K>;
    case DType::kIQ1_S:
      return Multiply<UnpackIQ1_S>;
    case DType::kIQ1_M:
      return Multiply<UnpackIQ1_M>;
    case DType::kIQ2_XXS:
      return Multiply<UnpackIQ2_XXS>;
    case DType::kIQ2_XS:
      return Multiply<UnpackIQ2_XS>;
    case DType::kIQ2_S:
      return Multiply<UnpackIQ2_S>;
    case DType::kIQ3_XXS:
      return Multiply<UnpackIQ3_XXS>;
    case DType::kIQ3_S:
      return Multiply<UnpackIQ3_S>;
    case DType::kIQ4_NL:
      return Multiply<UnpackIQ4_NL>;
    case DType::kIQ4_XS:
      return Multiply<UnpackIQ4_XS>;
    case DType::kMXFP4:
      return Multiply<UnpackMXFP4>;
    case DType::kTQ1_0:
      return Multiply<UnpackTQ1_0>;
    case DType::kTQ2_0:
      return Multiply<UnpackTQ2_0>;
    default:
      return nullptr;
  }
}

}  // namespace

bool HasIntegerProduct(DType type) { return MultiplierOf(type) != nullptr; }

void IntegerMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* activations, int64_t tokens, float* out, int64_t out_stride) {
  const Product product = {
      .weights = &weights,
      .activations = reinterpret_cast<const ActivationChunk*>(activations),
      .chunks = (weights.cols + kChunkElements - 1) / kChunkElements,
      .out = out,
      .out_stride = out_stride,
  };
  if (tokens > 0) MultiplierOf(weights.type)(product, row_begin, row_end, tokens);
}

}  // namespace moxie::avx2
