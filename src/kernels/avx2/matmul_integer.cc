#include "kernels/avx2/matmul_integer.h"

#include "kernels/avx2/formats.h"

namespace moxie::avx2 {
namespace {

using Multiplier = void (*)(const Product&, int64_t row_begin, int64_t row_end, int64_t tokens);

Multiplier MultiplierOf(DType type) {
  return ForFormat(type, []<class Format>(Format) -> Multiplier { return Multiply<Format>; });
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
