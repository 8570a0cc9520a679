#pragma once

#include "kernels/lanes/attention.h"
#include "kernels/lanes/elementwise.h"

// TiledAttention in float32. Queries lie side by side, one in each lane, and meet one element of a
// row of keys, or of values, at a time: rows are read as they lie, nothing is added up across
// lanes, and the softmax is plain vector arithmetic. A segment is met in parts whose scores stay in
// the first-level cache; what was summed up before is scaled when a greater score comes (online
// softmax: arXiv:1805.02867).

namespace moxie::lanes {
namespace {

constexpr int64_t kPartRows = 64;
constexpr int kRowsAtOnce = 4;  // Rows, or elements of a row of values, that meet the same vectors.

/// Vectors of queries that are multiplied together: sums fill the registers.
template <class F>
constexpr int kQueryVectors = F::kLanes >= 16 ? 4 : 2;

MOXIE_INLINE int64_t RoundUp(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

/// Where the parts of the scratch begin, in floats.
template <class F>
struct TileScratch {
  int64_t keys = 0, values, queries, scores, sums, floats;

  TileScratch(int64_t key_dim, int64_t value_dim) {
    constexpr int64_t kWidth = kQueryVectors<F> * F::kLanes;
    const int64_t key_floats = RoundUp(key_dim, F::kLanes);
    const int64_t value_floats = RoundUp(value_dim, F::kLanes);
    values = keys + AttentionTile::kMaxRows * key_floats;
    queries = values + AttentionTile::kMaxRows * value_floats;
    scores = queries + key_floats * kWidth;
    sums = scores + kPartRows * kWidth;
    floats = sums + value_floats * kWidth;
  }
};

// ---- rows ---------------------------------------------------------------------------------------

/// A segment's rows as float32, in whole steps of kRowsAtOnce. Those that nobody sees are others,
/// whose terms count for nothing.
struct TileRows {
  const float* at[AttentionTile::kMaxRows];
};

/// Rows that are not float32 are decoded to `decoded`.
template <class Row>
void ReadRows(const std::byte* const* rows, int64_t count, int64_t dim, float* decoded,
              TileRows& out) {
  using F = typename Row::Floats;
  const int64_t stride = RoundUp(dim, F::kLanes);
  const float* seen = nullptr;
  for (int64_t r = 0; r < count; ++r, decoded += stride) {
    out.at[r] = nullptr;
    if (rows[r] == nullptr) continue;
    if constexpr (__is_same(Row, RowF32<F>)) {
      out.at[r] = reinterpret_cast<const float*>(rows[r]);
    } else {
      int64_t d = 0;
      for (; d + F::kLanes <= dim; d += F::kLanes) F::Store(decoded + d, Row::At(rows[r], d, 0));
      if (d < dim) F::Store(decoded + d, Row::Tail(rows[r], d, dim - d));
      out.at[r] = decoded;
    }
    if (seen == nullptr) seen = out.at[r];
  }
  for (int64_t r = 0; r < RoundUp(count, kRowsAtOnce); ++r) {
    if (r >= count || out.at[r] == nullptr) out.at[r] = seen;
  }
}

/// The rows that a group of queries sees. Lanes without a query repeat the last one.
template <class F, int V>
struct SeenRows {
  alignas(64) float begin[V * F::kLanes], end[V * F::kLanes];
  int64_t first = AttentionTile::kMaxRows, last = 0;          // What any of them sees.
  int64_t all_first = 0, all_last = AttentionTile::kMaxRows;  // What all of them see.

  SeenRows(const AttentionTile& tile, int64_t query) {
    for (int64_t i = 0; i < V * F::kLanes; ++i) {
      const int64_t q = Min(query + i, tile.count - 1);
      const int64_t from = tile.begin[q], to = tile.end[q];
      begin[i] = static_cast<float>(from);
      end[i] = static_cast<float>(to);
      all_first = from > all_first ? from : all_first;
      all_last = Min(all_last, to);
      if (from >= to) continue;
      first = Min(first, from);
      last = to > last ? to : last;
    }
  }
};

/// `score` of row `row`, but -infinity where the query of vector `v` does not see it.
template <class F, int V>
MOXIE_INLINE typename F::Vector MaskScore(const SeenRows<F, V>& rows, typename F::Vector score,
                                          int64_t row, int v) {
  const auto nothing = F::Set(-__builtin_inff());
  const auto from = F::Load(rows.begin + v * F::kLanes), to = F::Load(rows.end + v * F::kLanes);
  const auto at = F::Set(static_cast<float>(row)), next = F::Set(static_cast<float>(row + 1));
  const auto seen = F::ZeroIfLess(F::ZeroIfLess(score, at, from), to, next);  // No NaN else.
  return F::Add(seen, F::Add(F::ZeroIfLess(nothing, from, next), F::ZeroIfLess(nothing, at, to)));
}

// ---- a part of a segment ------------------------------------------------------------------------

/// 2^x, nothing below 2^-126.
template <class F>
MOXIE_INLINE typename F::Vector Exponential(typename F::Vector x) {
  return F::ZeroIfLess(PowerOfTwo<F>(x), x, F::Set(-126));
}

/// What is known of a group of queries, a query in each lane. Scores are logarithms to base 2.
template <class F, int V>
struct GroupSoftmax {
  typename F::Vector max[V], total[V];
};

/// scores [row][query] of rows [begin, end), whole steps. `queries` is [dim][query].
template <class F, int V>
MOXIE_INLINE void PartScores(const TileRows& keys, int64_t begin, int64_t end, int64_t dim,
                             const float* queries, float* scores) {
  using Vector = typename F::Vector;
  constexpr int64_t kWidth = V * F::kLanes;
  for (int64_t row = begin; row < end; row += kRowsAtOnce, scores += kRowsAtOnce * kWidth) {
    Vector sum[kRowsAtOnce][V];
    MOXIE_UNROLL
    for (int r = 0; r < kRowsAtOnce; ++r) {
      MOXIE_UNROLL
      for (int v = 0; v < V; ++v) sum[r][v] = F::Zero();
    }
    const float* const* key = keys.at + row;
    for (int64_t d = 0; d < dim; ++d) {
      Vector x[V];
      MOXIE_UNROLL
      for (int v = 0; v < V; ++v) x[v] = F::Load(queries + d * kWidth + v * F::kLanes);
      MOXIE_UNROLL
      for (int r = 0; r < kRowsAtOnce; ++r) {
        const Vector element = F::InRegister(F::Set(key[r][d]));
        MOXIE_UNROLL
        for (int v = 0; v < V; ++v) sum[r][v] = F::MulAdd(element, x[v], sum[r][v]);
      }
    }
    MOXIE_UNROLL
    for (int r = 0; r < kRowsAtOnce; ++r) {
      MOXIE_UNROLL
      for (int v = 0; v < V; ++v) F::Store(scores + r * kWidth + v * F::kLanes, sum[r][v]);
    }
  }
}

/// Scores become exponentials relative to the greatest so far; `factors` are what earlier ones are
/// to be multiplied by.
template <class F, int V>
MOXIE_INLINE void PartExponentials(const SeenRows<F, V>& seen, int64_t begin, int64_t end,
                                   float* scores, GroupSoftmax<F, V>& softmax,
                                   typename F::Vector (&factors)[V]) {
  using Vector = typename F::Vector;
  constexpr int64_t kWidth = V * F::kLanes;
  const auto least = F::Set(-__FLT_MAX__);  // Of a query that has seen nothing yet.
  const bool all = begin >= seen.all_first && end <= seen.all_last;
  Vector max[V];
  MOXIE_UNROLL
  for (int v = 0; v < V; ++v) max[v] = softmax.max[v];
  for (int64_t row = begin; row < end; ++row) {
    float* at = scores + (row - begin) * kWidth;
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) {
      Vector score = F::Load(at + v * F::kLanes);
      if (!all) {
        score = MaskScore(seen, score, row, v);
        F::Store(at + v * F::kLanes, score);
      }
      max[v] = F::Max(score, max[v]);  // A NaN shows in the exponentials.
    }
  }
  Vector shift[V], total[V];
  MOXIE_UNROLL
  for (int v = 0; v < V; ++v) {
    shift[v] = F::Max(max[v], least);
    factors[v] = Exponential<F>(F::Sub(softmax.max[v], shift[v]));
    softmax.max[v] = max[v];
    total[v] = F::Zero();
  }
  for (int64_t row = begin; row < end; ++row) {
    float* at = scores + (row - begin) * kWidth;
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) {
      const Vector e = Exponential<F>(F::Sub(F::Load(at + v * F::kLanes), shift[v]));
      F::Store(at + v * F::kLanes, e);
      total[v] = F::Add(total[v], e);
    }
  }
  MOXIE_UNROLL
  for (int v = 0; v < V; ++v) softmax.total[v] = F::MulAdd(softmax.total[v], factors[v], total[v]);
}

/// sums [element][query] = factors * sums + the terms of `D` elements from d on of rows.
template <class F, int V, int D>
MOXIE_INLINE void AddElements(const TileRows& values, int64_t begin, int64_t end, int64_t d,
                              const float* weights, const typename F::Vector (&factors)[V],
                              float* sums) {
  using Vector = typename F::Vector;
  constexpr int64_t kWidth = V * F::kLanes;
  Vector sum[D][V];
  MOXIE_UNROLL
  for (int k = 0; k < D; ++k) {
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v)
      sum[k][v] = F::Mul(factors[v], F::Load(sums + (d + k) * kWidth + v * F::kLanes));
  }
  for (int64_t row = begin; row < end; ++row, weights += kWidth) {
    const float* elements = values.at[row] + d;
    Vector weight[V];
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) weight[v] = F::Load(weights + v * F::kLanes);
    MOXIE_UNROLL
    for (int k = 0; k < D; ++k) {
      const Vector element = F::InRegister(F::Set(elements[k]));
      MOXIE_UNROLL
      for (int v = 0; v < V; ++v) sum[k][v] = F::MulAdd(element, weight[v], sum[k][v]);
    }
  }
  MOXIE_UNROLL
  for (int k = 0; k < D; ++k) {
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) F::Store(sums + (d + k) * kWidth + v * F::kLanes, sum[k][v]);
  }
}

template <class F, int V>
MOXIE_INLINE void AddValues(const TileRows& values, int64_t begin, int64_t end, int64_t dim,
                            const float* weights, const typename F::Vector (&factors)[V],
                            float* sums) {
  int64_t d = 0;
  for (; d + kRowsAtOnce <= dim; d += kRowsAtOnce)
    AddElements<F, V, kRowsAtOnce>(values, begin, end, d, weights, factors, sums);
  for (; d < dim; ++d) AddElements<F, V, 1>(values, begin, end, d, weights, factors, sums);
}

// ---- a group of queries -------------------------------------------------------------------------

/// [dim, rounded up][V * kLanes]: the queries from `first` on, times `scale`. The last is repeated.
template <class F, int V>
void LaySideBySide(const AttentionTile& tile, int64_t first, float scale, float* out) {
  using Vector = typename F::Vector;
  for (int v = 0; v < V; ++v) {
    for (int64_t d = 0; d < tile.key_dim; d += F::kLanes) {
      Vector block[F::kLanes];
      MOXIE_UNROLL
      for (int i = 0; i < F::kLanes; ++i) {
        const float* query = tile.queries[Min(first + v * F::kLanes + i, tile.count - 1)];
        block[i] = F::Mul(F::Set(scale), LoadUpTo<F>(query + d, tile.key_dim - d));
      }
      F::Transpose(block);
      MOXIE_UNROLL
      for (int i = 0; i < F::kLanes; ++i) F::Store(out + ((d + i) * V + v) * F::kLanes, block[i]);
    }
  }
}

/// What is known of `V` vectors of queries to where the caller wants it.
template <class F, int V>
void StoreGroup(const AttentionTile& tile, int64_t first, const GroupSoftmax<F, V>& softmax,
                const float* sums, float* maxima, double* totals, float* out) {
  for (int v = 0; v < V; ++v) {
    const int64_t query = first + v * F::kLanes;
    const int64_t count = Min(F::kLanes, tile.count - query);
    StoreUpTo<F>(maxima + query, F::Mul(softmax.max[v], F::Set(kLogOf2)), count);
    float total[F::kLanes];
    F::Store(total, softmax.total[v]);
    for (int64_t q = 0; q < count; ++q) totals[query + q] = static_cast<double>(total[q]);
    for (int64_t d = 0; d < tile.value_dim; d += F::kLanes) {
      typename F::Vector block[F::kLanes];
      MOXIE_UNROLL
      for (int i = 0; i < F::kLanes; ++i) block[i] = F::Load(sums + ((d + i) * V + v) * F::kLanes);
      F::Transpose(block);
      for (int64_t q = 0; q < count; ++q)
        StoreUpTo<F>(out + (query + q) * tile.value_dim + d, block[q], tile.value_dim - d);
    }
  }
}

template <class F, int V>
void AttendGroup(const AttentionTile& tile, int64_t first, const TileRows& keys,
                 const TileRows& values, const TileScratch<F>& places, float* scratch,
                 float* maxima, double* totals, float* out) {
  float* queries = scratch + places.queries;
  float* scores = scratch + places.scores;
  float* sums = scratch + places.sums;
  const SeenRows<F, V> seen(tile, first);
  GroupSoftmax<F, V> softmax;
  for (int v = 0; v < V; ++v) {
    softmax.max[v] = F::Set(-__builtin_inff());
    softmax.total[v] = F::Zero();
  }
  const int64_t sum_floats = RoundUp(tile.value_dim, F::kLanes) * V * F::kLanes;
  for (int64_t i = 0; i < sum_floats; i += F::kLanes) F::Store(sums + i, F::Zero());
  LaySideBySide<F, V>(tile, first, tile.scale * kLog2OfE, queries);
  for (int64_t part = 0; part < seen.last; part += kPartRows) {
    int64_t begin = seen.first > part ? seen.first : part;
    begin -= begin % kRowsAtOnce;
    const int64_t end = RoundUp(Min(seen.last, part + kPartRows), kRowsAtOnce);
    if (begin >= end) continue;
    typename F::Vector factors[V];
    PartScores<F, V>(keys, begin, end, tile.key_dim, queries, scores);
    PartExponentials<F, V>(seen, begin, end, scores, softmax, factors);
    AddValues<F, V>(values, begin, end, tile.value_dim, scores, factors, sums);
  }
  StoreGroup<F, V>(tile, first, softmax, sums, maxima, totals, out);
}

template <class Row>
void AttendTile(const AttentionTile& tile, float* scratch, float* maxima, double* totals,
                float* sums) {
  using F = typename Row::Floats;
  constexpr int kVectors = kQueryVectors<F>;
  const TileScratch<F> places(tile.key_dim, tile.value_dim);
  TileRows keys, values;
  ReadRows<Row>(tile.keys, tile.rows, tile.key_dim, scratch + places.keys, keys);
  ReadRows<Row>(tile.values, tile.rows, tile.value_dim, scratch + places.values, values);
  const auto attend = [&]<int V>(int64_t first) {
    AttendGroup<F, V>(tile, first, keys, values, places, scratch, maxima, totals, sums);
  };
  for (int64_t first = 0; first < tile.count; first += kVectors * F::kLanes) {
    const int64_t vectors = RoundUp(tile.count - first, F::kLanes) / F::kLanes;
    if (vectors >= kVectors) {
      attend.template operator()<kVectors>(first);
    } else if (vectors == 1) {
      attend.template operator()<1>(first);
    } else if constexpr (kVectors == 4) {
      vectors == 2 ? attend.template operator()<2>(first) : attend.template operator()<3>(first);
    }
  }
}

/// TiledAttention::scratch_bytes and attend.
template <class F>
int64_t TileScratchBytes(int64_t key_dim, int64_t value_dim) {
  return TileScratch<F>(key_dim, value_dim).floats * 4 + 64;
}

template <class F>
void Attend(const AttentionTile& tile, std::byte* scratch, float* maxima, double* totals,
            float* sums) {
  const auto misaligned = static_cast<int64_t>(reinterpret_cast<uintptr_t>(scratch) % 64);
  auto* aligned = reinterpret_cast<float*>(scratch + (64 - misaligned) % 64);
  const auto attend = tile.type == DType::kF32   ? AttendTile<RowF32<F>>
                      : tile.type == DType::kF16 ? AttendTile<RowF16<F>>
                                                 : AttendTile<RowQ8_0<F>>;
  attend(tile, aligned, maxima, totals, sums);
}

}  // namespace
}  // namespace moxie::lanes
