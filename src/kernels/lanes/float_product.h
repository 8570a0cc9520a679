#pragma once

#include "core/matrix.h"
#include "kernels/lanes/chunk_of_rows.h"
#include "kernels/lanes/floats.h"
#include "quant/dequantize.h"

// KernelSet::matmul for float weights (and for the rare types without an integer product, decoded
// as published) and float32 activations, padded with zeros to whole vectors. Lane l of an output's
// one accumulator adds the columns l, l + kLanes, l + 2 kLanes ... in order; then the lanes are
// added. So any split gives bit-equal results.

namespace moxie::lanes {
namespace {

constexpr int64_t kTokenBatch = 64;
constexpr int64_t kDecodedColumns = 256;

template <class F>
MOXIE_INLINE int64_t PaddedFloats(int64_t cols) {
  return (cols + F::kLanes - 1) / F::kLanes * F::kLanes;
}

/// KernelSet::convert_activations for this product.
template <class F>
MOXIE_INLINE void PadActivations(int64_t cols, const float* x, float* out) {
  for (int64_t i = 0; i < cols; i += F::kLanes) F::Store(out + i, LoadUpTo<F>(x + i, cols - i));
}

/// Decodes `n` weights to float32 and pads them with zeros to whole vectors. Returns where they
/// are: `buffer`, or the weights themselves where those are float32 already.
template <class F>
const float* Decode(DType type, const std::byte* weights, int64_t n, float* buffer) {
  const int64_t whole = n / F::kLanes * F::kLanes;
  switch (type) {
    case DType::kF32:
      if (whole == n) return reinterpret_cast<const float*>(weights);
      CopyBytes(buffer, weights, n * 4);
      break;
    case DType::kF16:
    case DType::kBF16: {
      uint16_t last[F::kLanes] = {};
      CopyBytes(last, weights + whole * 2, (n - whole) * 2);
      for (int64_t i = 0; i < n; i += F::kLanes) {
        const void* at = i < whole ? static_cast<const void*>(weights + i * 2) : last;
        F::Store(buffer + i, type == DType::kF16 ? F::FromHalf(at) : F::FromBfloat16(at));
      }
      return buffer;
    }
    default:
      Dequantize(type, weights, n, buffer);
  }
  for (int64_t i = n; i < PaddedFloats<F>(n); ++i) buffer[i] = 0.0f;
  return buffer;
}

/// accumulators[t][r] += the products of `n` columns (whole vectors).
template <class F, int kRows, int kTokens>
MOXIE_INLINE void Accumulate(const float* const (&w)[kRows], const float* x, int64_t x_stride,
                             int64_t n, typename F::Vector* accumulators) {
  using Vector = typename F::Vector;
  Vector sum[kTokens][kRows];
  MOXIE_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) sum[t][r] = accumulators[t * kRows + r];
  }
  for (int64_t i = 0; i < n; i += F::kLanes) {
    Vector xt[kTokens];
    MOXIE_UNROLL
    for (int t = 0; t < kTokens; ++t) xt[t] = F::Load(x + t * x_stride + i);
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const Vector wr = F::Load(w[r] + i);
      MOXIE_UNROLL
      for (int t = 0; t < kTokens; ++t) sum[t][r] = F::MulAdd(wr, xt[t], sum[t][r]);
    }
  }
  MOXIE_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) accumulators[t * kRows + r] = sum[t][r];
  }
}

/// kRows rows times up to kTokenBatch tokens. Rows at and beyond row_end repeat the last one.
template <class F, int kRows, int kTokens>
void MultiplyRows(const WeightMatrix& weights, int64_t row, int64_t row_end, const float* x,
                  int64_t tokens, float* out, int64_t out_stride) {
  const int64_t x_stride = PaddedFloats<F>(weights.cols);
  const DTypeTraits& traits = TraitsOf(weights.type);
  const std::byte* bytes[kRows];
  for (int r = 0; r < kRows; ++r) bytes[r] = weights.row(Min(row + r, row_end - 1));
  alignas(64) float decoded[kRows][kDecodedColumns];
  typename F::Vector accumulators[kTokenBatch * kRows];
  for (int64_t i = 0; i < tokens * kRows; ++i) accumulators[i] = F::Zero();
  for (int64_t begin = 0; begin < weights.cols; begin += kDecodedColumns) {
    const int64_t n = Min(kDecodedColumns, weights.cols - begin);
    const float* w[kRows];
    for (int r = 0; r < kRows; ++r) {
      w[r] = Decode<F>(weights.type, bytes[r], n, decoded[r]);
      bytes[r] += n / traits.block_elements * traits.block_bytes;
    }
    const int64_t padded = PaddedFloats<F>(n);
    int64_t t = 0;
    for (; t + kTokens <= tokens; t += kTokens) {
      Accumulate<F, kRows, kTokens>(w, x + t * x_stride + begin, x_stride, padded,
                                    accumulators + t * kRows);
    }
    for (; t < tokens; ++t) {
      Accumulate<F, kRows, 1>(w, x + t * x_stride + begin, x_stride, padded,
                              accumulators + t * kRows);
    }
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t r = 0; r < Min(kRows, row_end - row); ++r) {
      out[t * out_stride + row + r] = F::Sum(accumulators[t * kRows + r]);
    }
  }
}

// A vector of weights after element `i`, for types of which one can be loaded.

template <class F>
struct VectorF32 {
  MOXIE_INLINE typename F::Vector Load(const std::byte* row, int64_t i) {
    return F::Load(reinterpret_cast<const float*>(row) + i);
  }
};
template <class F>
struct VectorF16 {
  MOXIE_INLINE typename F::Vector Load(const std::byte* row, int64_t i) {
    return F::FromHalf(row + 2 * i);
  }
};
template <class F>
struct VectorBF16 {
  MOXIE_INLINE typename F::Vector Load(const std::byte* row, int64_t i) {
    return F::FromBfloat16(row + 2 * i);
  }
};

/// kRows rows of whole vectors times one token, with the sums in the order of MultiplyRows.
template <class F, int kRows, class Weights>
void MultiplyOneToken(const WeightMatrix& weights, int64_t row, int64_t row_end, const float* x,
                      float* out) {
  const bool reads_ahead = UsableCpuFeatures().reads_ahead;
  const std::byte* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = weights.row(Min(row + r, row_end - 1));
  // Later rows, in the order in which they lie, as ChunkOfRows asks for them.
  const int64_t together = kRows * weights.row_stride;
  const auto* ahead = reinterpret_cast<const uint8_t*>(rows[0]) +
                      (kAheadBytes + together - 1) / together * together;
  typename F::Vector sum[kRows];
  MOXIE_UNROLL
  for (int r = 0; r < kRows; ++r) sum[r] = F::Zero();
  for (int64_t begin = 0; begin < weights.cols; begin += kDecodedColumns) {
    const int64_t end = Min(begin + kDecodedColumns, weights.cols);
    AskFor(ahead + together * begin / weights.cols, together * (end - begin) / weights.cols,
           reads_ahead);
    for (int64_t i = begin; i < end; i += F::kLanes) {
      const typename F::Vector xi = F::Load(x + i);
      MOXIE_UNROLL
      for (int r = 0; r < kRows; ++r) sum[r] = F::MulAdd(Weights::Load(rows[r], i), xi, sum[r]);
    }
  }
  for (int64_t r = 0; r < Min(kRows, row_end - row); ++r) out[row + r] = F::Sum(sum[r]);
}

/// MultiplyOneToken for the matrix's type; null where rows must be decoded.
template <class F, int kRows>
auto OneTokenProductOf(const WeightMatrix& weights) {
  using Product = decltype(&MultiplyOneToken<F, kRows, VectorF32<F>>);
  if (weights.cols % F::kLanes != 0) return Product{};
  switch (weights.type) {
    case DType::kF32:
      return Product{MultiplyOneToken<F, kRows, VectorF32<F>>};
    case DType::kF16:
      return Product{MultiplyOneToken<F, kRows, VectorF16<F>>};
    case DType::kBF16:
      return Product{MultiplyOneToken<F, kRows, VectorBF16<F>>};
    default:
      return Product{};
  }
}

/// A tile of kRows rows and kTokens tokens has its sums in registers.
template <class F, int kRows, int kTokens>
MOXIE_INLINE void FloatMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                              const float* x, int64_t tokens, float* out, int64_t out_stride) {
  if (const auto multiply = OneTokenProductOf<F, kRows>(weights); tokens == 1 && multiply) {
    for (int64_t row = row_begin; row < row_end; row += kRows)
      multiply(weights, row, row_end, x, out);
    return;
  }
  for (int64_t token = 0; token < tokens; token += kTokenBatch) {
    for (int64_t row = row_begin; row < row_end; row += kRows) {
      MultiplyRows<F, kRows, kTokens>(
          weights, row, row_end, x + token * PaddedFloats<F>(weights.cols),
          Min(kTokenBatch, tokens - token), out + token * out_stride, out_stride);
    }
  }
}

}  // namespace
}  // namespace moxie::lanes
