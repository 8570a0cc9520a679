#pragma once

#include "kernels/kernel_set.h"
#include "kernels/lanes/floats.h"
#include "quant/blocks.h"

// KernelSet's attention_scores and attention_values. Queries and rows meet in tiles that fill the
// registers: a row that is loaded (and decoded) once serves several queries. Tiles change nothing
// in the order in which one score or sum adds up.

namespace moxie::lanes {
namespace {

// A cache row of each type: At(row, d, j) is the elements of vector j after element d, whole
// vectors only; Tail(row, d, n) is the n < kLanes elements from d on, then zeros.

template <class F>
struct RowF32 {
  using Floats = F;
  MOXIE_INLINE typename F::Vector At(const std::byte* row, int64_t d, int64_t j) {
    return F::Load(reinterpret_cast<const float*>(row) + d + F::kLanes * j);
  }
  MOXIE_INLINE typename F::Vector Tail(const std::byte* row, int64_t d, int64_t n) {
    return F::LoadFirst(reinterpret_cast<const float*>(row) + d, n);
  }
};

template <class F>
struct RowF16 {
  using Floats = F;
  MOXIE_INLINE typename F::Vector At(const std::byte* row, int64_t d, int64_t j) {
    return F::FromHalf(row + 2 * (d + F::kLanes * j));
  }
  MOXIE_INLINE typename F::Vector Tail(const std::byte* row, int64_t d, int64_t n) {
    uint16_t last[F::kLanes] = {};
    CopyBytes(last, row + 2 * d, 2 * n);
    return F::FromHalf(last);
  }
};

template <class F>
struct RowQ8_0 {
  using Floats = F;
  MOXIE_INLINE typename F::Vector At(const std::byte* row, int64_t d, int64_t j) {
    const int64_t at = d + F::kLanes * j;
    const std::byte* block = row + at / 32 * int64_t{sizeof(BlockQ8_0)};
    return F::Mul(F::FromInt8(block + offsetof(BlockQ8_0, q) + at % 32), F::Set(F::HalfAt(block)));
  }
  // Never needed: the dimension is a multiple of 32.
  MOXIE_INLINE typename F::Vector Tail(const std::byte*, int64_t, int64_t) { return F::Zero(); }
};

/// The scores of `Q` queries against `R` rows from `row` on; rows past the last repeat it. Lane l
/// of a score's accumulator adds the elements l, l + kLanes, l + 2 kLanes ... in order; then the
/// lanes.
template <class Row, int Q, int R>
MOXIE_INLINE void ScoreTile(const CacheRows& keys, int64_t row, const float* queries, float scale,
                            float* scores, int64_t stride) {
  using F = typename Row::Floats;
  using Vector = typename F::Vector;
  const std::byte* k[R];
  MOXIE_UNROLL
  for (int r = 0; r < R; ++r) k[r] = keys.data + Min(row + r, keys.rows - 1) * keys.stride;
  Vector sum[Q][R];
  MOXIE_UNROLL
  for (int q = 0; q < Q; ++q) {
    MOXIE_UNROLL
    for (int r = 0; r < R; ++r) sum[q][r] = F::Zero();
  }
  const auto add = [&](const Vector(&x)[Q], Vector elements, int r) __attribute__((always_inline)) {
    MOXIE_UNROLL
    for (int q = 0; q < Q; ++q) sum[q][r] = F::MulAdd(x[q], elements, sum[q][r]);
  };
  int64_t d = 0;
  Vector x[Q];
  for (; d + 4 * F::kLanes <= keys.dim; d += 4 * F::kLanes) {
    MOXIE_UNROLL
    for (int j = 0; j < 4; ++j) {
      MOXIE_UNROLL
      for (int q = 0; q < Q; ++q) x[q] = F::Load(queries + q * keys.dim + d + F::kLanes * j);
      MOXIE_UNROLL
      for (int r = 0; r < R; ++r) add(x, Row::At(k[r], d, j), r);
    }
  }
  for (; d + F::kLanes <= keys.dim; d += F::kLanes) {
    MOXIE_UNROLL
    for (int q = 0; q < Q; ++q) x[q] = F::Load(queries + q * keys.dim + d);
    MOXIE_UNROLL
    for (int r = 0; r < R; ++r) add(x, Row::At(k[r], d, 0), r);
  }
  if (const int64_t left = keys.dim - d; left > 0) {
    MOXIE_UNROLL
    for (int q = 0; q < Q; ++q) x[q] = F::LoadFirst(queries + q * keys.dim + d, left);
    MOXIE_UNROLL
    for (int r = 0; r < R; ++r) add(x, Row::Tail(k[r], d, left), r);
  }
  MOXIE_UNROLL
  for (int q = 0; q < Q; ++q) {
    MOXIE_UNROLL
    for (int r = 0; r < R; r += 4) {
      const int64_t left = keys.rows - row - r;
      if (left > 0) F::StoreSums4(scores + q * stride + row + r, sum[q] + r, scale, left);
    }
  }
}

template <class Row>
void Scores(const CacheRows& keys, const float* queries, int64_t count, float scale, float* scores,
            int64_t stride) {
  int64_t q = 0;
  for (; q + 3 <= count; q += 3) {
    for (int64_t row = 0; row < keys.rows; row += 4)
      ScoreTile<Row, 3, 4>(keys, row, queries + q * keys.dim, scale, scores + q * stride, stride);
  }
  for (; q + 2 <= count; q += 2) {
    for (int64_t row = 0; row < keys.rows; row += 4)
      ScoreTile<Row, 2, 4>(keys, row, queries + q * keys.dim, scale, scores + q * stride, stride);
  }
  for (; q < count; ++q) {
    for (int64_t row = 0; row < keys.rows; row += 8)
      ScoreTile<Row, 1, 8>(keys, row, queries + q * keys.dim, scale, scores + q * stride, stride);
  }
}

/// `V` vectors of sums from d on of `Q` queries stay in registers over all rows.
template <class Row, int Q, int V>
MOXIE_INLINE void AddRows(const CacheRows& values, int64_t d, const float* weights, int64_t stride,
                          float* out) {
  using F = typename Row::Floats;
  using Vector = typename F::Vector;
  Vector sum[Q][V];
  MOXIE_UNROLL
  for (int q = 0; q < Q; ++q) {
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) sum[q][v] = F::Load(out + q * values.dim + d + F::kLanes * v);
  }
  const std::byte* row = values.data;
  for (int64_t i = 0; i < values.rows; ++i, row += values.stride) {
    Vector weight[Q];
    MOXIE_UNROLL
    for (int q = 0; q < Q; ++q) weight[q] = F::Set(weights[q * stride + i]);
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) {
      const Vector elements = Row::At(row, d, v);
      MOXIE_UNROLL
      for (int q = 0; q < Q; ++q) sum[q][v] = F::MulAdd(weight[q], elements, sum[q][v]);
    }
  }
  MOXIE_UNROLL
  for (int q = 0; q < Q; ++q) {
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) F::Store(out + q * values.dim + d + F::kLanes * v, sum[q][v]);
  }
}

/// The last `left` < kLanes sums from d on of one query.
template <class Row>
void AddTails(const CacheRows& values, int64_t d, const float* weights, float* out) {
  using F = typename Row::Floats;
  const int64_t left = values.dim - d;
  typename F::Vector sum = F::LoadFirst(out + d, left);
  for (int64_t i = 0; i < values.rows; ++i) {
    const std::byte* row = values.data + i * values.stride;
    sum = F::MulAdd(F::Set(weights[i]), Row::Tail(row, d, left), sum);
  }
  F::StoreFirst(out + d, sum, left);
}

template <class Row, int Q>
void AddToQueries(const CacheRows& values, const float* weights, int64_t stride, float* out) {
  constexpr int64_t kLanes = Row::Floats::kLanes;
  int64_t d = 0;
  if constexpr (Q == 1) {
    for (; d + 8 * kLanes <= values.dim; d += 8 * kLanes)
      AddRows<Row, 1, 8>(values, d, weights, stride, out);
  }
  for (; d + 4 * kLanes <= values.dim; d += 4 * kLanes)
    AddRows<Row, Q, 4>(values, d, weights, stride, out);
  for (; d + kLanes <= values.dim; d += kLanes) AddRows<Row, Q, 1>(values, d, weights, stride, out);
  if (d == values.dim) return;
  for (int q = 0; q < Q; ++q) AddTails<Row>(values, d, weights + q * stride, out + q * values.dim);
}

template <class Row>
void Values(const CacheRows& values, const float* weights, int64_t stride, int64_t count,
            float* out) {
  int64_t q = 0;
  for (; q + 3 <= count; q += 3)
    AddToQueries<Row, 3>(values, weights + q * stride, stride, out + q * values.dim);
  for (; q + 2 <= count; q += 2)
    AddToQueries<Row, 2>(values, weights + q * stride, stride, out + q * values.dim);
  for (; q < count; ++q)
    AddToQueries<Row, 1>(values, weights + q * stride, stride, out + q * values.dim);
}

template <class F>
MOXIE_INLINE void AttentionScores(const CacheRows& keys, const float* queries, int64_t count,
                                  float scale, float* scores, int64_t scores_stride) {
  const auto kernel = keys.type == DType::kF32   ? Scores<RowF32<F>>
                      : keys.type == DType::kF16 ? Scores<RowF16<F>>
                                                 : Scores<RowQ8_0<F>>;
  kernel(keys, queries, count, scale, scores, scores_stride);
}

template <class F>
MOXIE_INLINE void AttentionValues(const CacheRows& values, const float* weights,
                                  int64_t weights_stride, int64_t count, float* out) {
  const auto kernel = values.type == DType::kF32   ? Values<RowF32<F>>
                      : values.type == DType::kF16 ? Values<RowF16<F>>
                                                   : Values<RowQ8_0<F>>;
  kernel(values, weights, weights_stride, count, out);
}

}  // namespace
}  // namespace moxie::lanes
