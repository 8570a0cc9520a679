#include "kernels/avx512/matmul_integer.h"

#include "kernels/avx512/integer_product.h"
#include "kernels/avx512/one_token.h"

namespace moxie::avx512 {
namespace {

/// Up to so many tokens meet packed rows one after another: the rows stay in the nearest cache, and
/// a tile of them, which has the same bits, would not be repaid.
constexpr int64_t kFewTokens = 3;

using OneTokenMultiplier = void (*)(const WeightMatrix& weights, int64_t row, int64_t row_end,
                                    const ActivationChunk* x, float* out);

OneTokenMultiplier OneTokenMultiplierOf(DType type) {
  return x86::ForFormat(
      type, []<class Format>(Format) -> OneTokenMultiplier { return MultiplyOneToken<Format>; });
}

OneTokenMultiplier PackedMultiplierOf(DType type) {
  return x86::ForFormat(type, []<class Format>(Format) -> OneTokenMultiplier {
    if constexpr (IsPacked<Format>) return MultiplyOnePackedToken<Format>;
    return nullptr;  // Never packed.
  });
}

}  // namespace

bool HasIntegerProduct(DType type) { return OneTokenMultiplierOf(type) != nullptr; }

void IntegerMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* activations, int64_t tokens, float* out, int64_t out_stride) {
  if (tokens > (weights.packed_rows == 0 ? 1 : kFewTokens)) {
    MatMulWith<VectorUnit>(weights, row_begin, row_end, activations, tokens, out, out_stride);
    return;
  }
  const auto* x = reinterpret_cast<const ActivationChunk*>(activations);
  const OneTokenMultiplier multiply = weights.packed_rows == 0 ? OneTokenMultiplierOf(weights.type)
                                                               : PackedMultiplierOf(weights.type);
  const int64_t chunks = (weights.cols + x86::kChunkElements - 1) / x86::kChunkElements;
  for (int64_t row = row_begin; row < row_end; row += kLanes) {
    for (int64_t t = 0; t < tokens; ++t)
      multiply(weights, row, row_end, x + t * chunks, out + t * out_stride);
  }
}

}  // namespace moxie::avx512
