#include <immintrin.h>

#include "kernels/avx2/avx2.h"
#include "kernels/avx2/formats.h"
#include "kernels/avx2/vectors.h"
#include "quant/dequantize.h"

// The product of float weights (and of the rare types without an integer product, decoded as
// published) and float32 activations. Lane l of an output's one accumulator adds the columns
// l, l + 8, l + 16 ... in order; then the lanes are added. So any split gives bit-equal results.

namespace moxie::avx2 {
namespace {

constexpr int kRows = 4;
constexpr int kTileTokens = 3;
constexpr int64_t kTokenBatch = 64;
constexpr int64_t kChunk = 256;

/// Decodes `n` weights to float32 and pads them with zeros to whole vectors. Returns where they
/// are: `buffer`, or the weights themselves where those are float32 already.
const float* Decode(DType type, const std::byte* weights, int64_t n, float* buffer) {
  const int64_t whole = n / 8 * 8;
  switch (type) {
    case DType::kF32:
      if (whole == n) return reinterpret_cast<const float*>(weights);
      CopyBytes(buffer, weights, n * 4);
      break;
    case DType::kF16:
    case DType::kBF16: {
      uint16_t last[8] = {};
      CopyBytes(last, weights + whole * 2, (n - whole) * 2);
      for (int64_t i = 0; i < n; i += 8) {
        const __m128i bits = i < whole ? Load128(weights + i * 2) : Load128(last);
        const __m256 wide =
            type == DType::kF16
                ? _mm256_cvtph_ps(bits)
                : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
        _mm256_storeu_ps(buffer + i, wide);
      }
      return buffer;
    }
    default:
      Dequantize(type, weights, n, buffer);
  }
  for (int64_t i = n; i < PaddedFloats(n); ++i) buffer[i] = 0.0f;
  return buffer;
}

/// accumulators[t][r] += the products of `n` columns (whole vectors).
template <int T>
MOXIE_INLINE void Accumulate(const float* const (&w)[kRows], const float* x, int64_t x_stride,
                             int64_t n, __m256* accumulators) {
  __m256 sum[T][kRows];
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t) {
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) sum[t][r] = accumulators[t * kRows + r];
  }
  for (int64_t i = 0; i < n; i += 8) {
    __m256 xt[T];
    MOXIE_UNROLL
    for (int t = 0; t < T; ++t) xt[t] = _mm256_loadu_ps(x + t * x_stride + i);
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m256 wr = _mm256_loadu_ps(w[r] + i);
      MOXIE_UNROLL
      for (int t = 0; t < T; ++t) sum[t][r] = _mm256_fmadd_ps(wr, xt[t], sum[t][r]);
    }
  }
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t) {
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) accumulators[t * kRows + r] = sum[t][r];
  }
}

/// 4 rows times up to kTokenBatch tokens. Rows at and beyond row_end repeat the last one.
void MultiplyRows(const WeightMatrix& weights, int64_t row, int64_t row_end, const float* x,
                  int64_t tokens, float* out, int64_t out_stride) {
  const int64_t x_stride = PaddedFloats(weights.cols);
  const DTypeTraits& traits = TraitsOf(weights.type);
  const std::byte* bytes[kRows];
  for (int r = 0; r < kRows; ++r) bytes[r] = weights.row(Min(row + r, row_end - 1));
  alignas(32) float decoded[kRows][kChunk];
  __m256 accumulators[kTokenBatch * kRows];
  for (int64_t i = 0; i < tokens * kRows; ++i) accumulators[i] = _mm256_setzero_ps();
  for (int64_t begin = 0; begin < weights.cols; begin += kChunk) {
    const int64_t n = Min(kChunk, weights.cols - begin);
    const float* w[kRows];
    for (int r = 0; r < kRows; ++r) {
      w[r] = Decode(weights.type, bytes[r], n, decoded[r]);
      bytes[r] += n / traits.block_elements * traits.block_bytes;
    }
    int64_t t = 0;
    for (; t + kTileTokens <= tokens; t += kTileTokens) {
      Accumulate<kTileTokens>(w, x + t * x_stride + begin, x_stride, PaddedFloats(n),
                              accumulators + t * kRows);
    }
    for (; t < tokens; ++t) {
      Accumulate<1>(w, x + t * x_stride + begin, x_stride, PaddedFloats(n),
                    accumulators + t * kRows);
    }
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t r = 0; r < Min(kRows, row_end - row); ++r) {
      out[t * out_stride + row + r] = SumLanes(accumulators[t * kRows + r]);
    }
  }
}

}  // namespace

void FloatMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                 const std::byte* activations, int64_t tokens, float* out, int64_t out_stride) {
  const auto* x = reinterpret_cast<const float*>(activations);
  for (int64_t token = 0; token < tokens; token += kTokenBatch) {
    for (int64_t row = row_begin; row < row_end; row += kRows) {
      MultiplyRows(weights, row, row_end, x + token * PaddedFloats(weights.cols),
                   Min(kTokenBatch, tokens - token), out + token * out_stride, out_stride);
    }
  }
}

void MatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
            const std::byte* activations, int64_t tokens, float* out, int64_t out_stride) {
  const auto multiply = HasIntegerProduct(weights.type) ? IntegerMatMul : FloatMatMul;
  multiply(weights, row_begin, row_end, activations, tokens, out, out_stride);
}

}  // namespace moxie::avx2
