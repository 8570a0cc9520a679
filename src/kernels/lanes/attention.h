#pragma once

#include "kernels/kernel_set.h"
#include "kernels/lanes/chunk_of_rows.h"
#include "kernels/lanes/floats.h"
#include "quant/blocks.h"

// KernelSet's attention_scores and attention_values. Queries and rows meet in tiles that fill the
// registers: a row that is loaded (and decoded) once serves several queries. Tiles, and rows laid
// side by side for many queries, change nothing in the order in which one score or sum adds up.

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

/// Asks for `rows` of the next rows, from `row` on. Pages lie apart, so the processor's own
/// prefetching begins anew with each; asking for a whole one at once would wait for its misses.
MOXIE_INLINE void AskForNext(const CacheRows& of, int64_t row, int64_t rows) {
  if (of.next == nullptr) return;
  AskFor(reinterpret_cast<const uint8_t*>(of.next + row * of.stride), rows * of.stride,
         UsableCpuFeatures().reads_ahead);
}

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
      for (int r = 0; r < R; ++r) add(x, F::InRegister(Row::At(k[r], d, j)), r);
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

/// Scores of `Q` queries against all rows, of which `R` at once.
template <class Row, int Q, int R>
MOXIE_INLINE void ScoreRows(const CacheRows& keys, bool ask, const float* queries, float scale,
                            float* scores, int64_t stride) {
  for (int64_t row = 0; row < keys.rows; row += R) {
    if (ask) AskForNext(keys, row, Min(R, keys.rows - row));
    ScoreTile<Row, Q, R>(keys, row, queries, scale, scores, stride);
  }
}

/// Scores against all rows, queries in threes.
template <class Row>
void ScoresOfRows(const CacheRows& keys, const float* queries, int64_t count, float scale,
                  float* scores, int64_t stride) {
  int64_t q = 0;
  for (; q + 3 <= count; q += 3)
    ScoreRows<Row, 3, 4>(keys, q == 0, queries + q * keys.dim, scale, scores + q * stride, stride);
  for (; q + 2 <= count; q += 2)
    ScoreRows<Row, 2, 4>(keys, q == 0, queries + q * keys.dim, scale, scores + q * stride, stride);
  for (; q < count; ++q)
    ScoreRows<Row, 1, 8>(keys, q == 0, queries + q * keys.dim, scale, scores + q * stride, stride);
}

// ---- scores of many queries: rows side by side --------------------------------------------------

/// A vector set that can transpose kLanes of its vectors.
template <class F>
concept HasTranspose = requires(typename F::Vector (&v)[F::kLanes]) {
  F::Transpose(v);
};

constexpr int kColumnVectors = 2;  // Of rows side by side; with two queries they fill registers.
constexpr int64_t kMaxColumnDim = 256;
constexpr int64_t kLeastColumnQueries = 6;  // Fewer do not repay transposing.

/// Sums of `Q` queries with rows that lie side by side.
template <class F, int Q>
struct SideBySide {
  typename F::Vector at[Q][kColumnVectors];

  MOXIE_INLINE SideBySide Add(const SideBySide& a, const SideBySide& b) {
    SideBySide sum;
    MOXIE_UNROLL
    for (int q = 0; q < Q; ++q) {
      MOXIE_UNROLL
      for (int v = 0; v < kColumnVectors; ++v) sum.at[q][v] = F::Add(a.at[q][v], b.at[q][v]);
    }
    return sum;
  }
};

/// What lane `lane` of ScoreTile's accumulators adds up. `columns` is [dim][kColumnVectors *
/// kLanes].
template <class F, int Q>
MOXIE_INLINE SideBySide<F, Q> LaneSum(const float* columns, const float* queries, int64_t dim,
                                      int lane) {
  constexpr int64_t kWidth = kColumnVectors * F::kLanes;
  SideBySide<F, Q> sum;
  MOXIE_UNROLL
  for (int q = 0; q < Q; ++q) {
    MOXIE_UNROLL
    for (int v = 0; v < kColumnVectors; ++v) sum.at[q][v] = F::Zero();
  }
  for (int64_t d = lane; d < dim; d += F::kLanes) {
    typename F::Vector x[Q];
    MOXIE_UNROLL
    for (int q = 0; q < Q; ++q) x[q] = F::Set(queries[q * dim + d]);
    MOXIE_UNROLL
    for (int v = 0; v < kColumnVectors; ++v) {
      const auto elements = F::InRegister(F::Load(columns + d * kWidth + v * F::kLanes));
      MOXIE_UNROLL
      for (int q = 0; q < Q; ++q) sum.at[q][v] = F::MulAdd(x[q], elements, sum.at[q][v]);
    }
  }
  return sum;
}

/// The sum of lanes first, first + 1 .. of eight, added as StoreSums4 does: neighbours, then
/// neighbouring sums; of sixteen, first those eight apart.
template <class F, int Q, int first, int count>
MOXIE_INLINE SideBySide<F, Q> LaneSums(const float* columns, const float* queries, int64_t dim) {
  using Sums = SideBySide<F, Q>;
  if constexpr (count > 1) {
    return Sums::Add(LaneSums<F, Q, first, count / 2>(columns, queries, dim),
                     LaneSums<F, Q, first + count / 2, count / 2>(columns, queries, dim));
  } else if constexpr (F::kLanes == 16) {
    return Sums::Add(LaneSum<F, Q>(columns, queries, dim, first),
                     LaneSum<F, Q>(columns, queries, dim, first + 8));
  } else {
    static_assert(F::kLanes == 8);
    return LaneSum<F, Q>(columns, queries, dim, first);
  }
}

/// Scores of `Q` queries against the `rows` first of the rows in `columns`.
template <class F, int Q>
void ScoreColumns(const float* columns, const float* queries, int64_t dim, float scale,
                  float* scores, int64_t stride, int64_t rows) {
  const auto sums = LaneSums<F, Q, 0, 8>(columns, queries, dim);
  MOXIE_UNROLL
  for (int q = 0; q < Q; ++q) {
    MOXIE_UNROLL
    for (int v = 0; v < kColumnVectors; ++v) {
      const int64_t left = rows - v * F::kLanes;
      if (left > 0)
        StoreUpTo<F>(scores + q * stride + v * F::kLanes, F::Mul(sums.at[q][v], F::Set(scale)),
                     left);
    }
  }
}

/// The rows from `row` on, the last repeated, as columns.
template <class Row>
MOXIE_INLINE void TransposeRows(const CacheRows& keys, int64_t row, float* columns) {
  using F = typename Row::Floats;
  constexpr int64_t kWidth = kColumnVectors * F::kLanes;
  for (int64_t at = 0; at < kWidth; at += F::kLanes) {
    for (int64_t d = 0; d < keys.dim; d += F::kLanes) {
      typename F::Vector v[F::kLanes];
      MOXIE_UNROLL
      for (int r = 0; r < F::kLanes; ++r)
        v[r] = Row::At(keys.data + Min(row + at + r, keys.rows - 1) * keys.stride, d, 0);
      F::Transpose(v);
      MOXIE_UNROLL
      for (int i = 0; i < F::kLanes; ++i) F::Store(columns + (d + i) * kWidth + at, v[i]);
    }
  }
}

template <class Row>
void Scores(const CacheRows& keys, const float* queries, int64_t count, float scale, float* scores,
            int64_t stride) {
  using F = typename Row::Floats;
  if constexpr (HasTranspose<F>) {
    if (count >= kLeastColumnQueries && keys.dim <= kMaxColumnDim && keys.dim % F::kLanes == 0) {
      constexpr int64_t kWidth = kColumnVectors * F::kLanes;
      alignas(64) float columns[kMaxColumnDim * kWidth];
      for (int64_t row = 0; row < keys.rows; row += kWidth) {
        TransposeRows<Row>(keys, row, columns);
        int64_t q = 0;
        for (; q + 2 <= count; q += 2) {
          ScoreColumns<F, 2>(columns, queries + q * keys.dim, keys.dim, scale,
                             scores + q * stride + row, stride, keys.rows - row);
        }
        if (q < count) {
          ScoreColumns<F, 1>(columns, queries + q * keys.dim, keys.dim, scale,
                             scores + q * stride + row, stride, keys.rows - row);
        }
      }
      return;
    }
  }
  ScoresOfRows<Row>(keys, queries, count, scale, scores, stride);
}

// ---- values -------------------------------------------------------------------------------------

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
    if (d == 0) AskForNext(values, i, 1);
    Vector weight[Q];
    MOXIE_UNROLL
    for (int q = 0; q < Q; ++q) weight[q] = F::Set(weights[q * stride + i]);
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) {
      const Vector elements = F::InRegister(Row::At(row, d, v));
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

/// Rows pass the first-level cache once, whatever the number of queries.
constexpr int64_t kBlockBytes = 16 << 10;

template <class Row>
void Values(const CacheRows& values, const float* weights, int64_t stride, int64_t count,
            float* out) {
  CacheRows block = values;
  const int64_t most = count <= 3 ? values.rows : kBlockBytes / 4 / values.dim + 1;
  for (int64_t row = 0; row < values.rows; row += most) {
    block.data = values.data + row * values.stride;
    block.rows = Min(most, values.rows - row);
    block.next = values.next == nullptr ? nullptr : values.next + row * values.stride;
    const float* w = weights + row;
    int64_t q = 0;
    for (; q + 3 <= count; q += 3, block.next = nullptr)
      AddToQueries<Row, 3>(block, w + q * stride, stride, out + q * values.dim);
    for (; q + 2 <= count; q += 2, block.next = nullptr)
      AddToQueries<Row, 2>(block, w + q * stride, stride, out + q * values.dim);
    for (; q < count; ++q, block.next = nullptr)
      AddToQueries<Row, 1>(block, w + q * stride, stride, out + q * values.dim);
  }
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
