#include <immintrin.h>

#include "kernels/avx2/avx2.h"
#include "kernels/avx2/vectors.h"
#include "quant/blocks.h"

// Queries and rows meet in tiles that fill the registers: a row that is loaded (and decoded) once
// serves several queries. Tiles change nothing in the order in which one score or sum adds up.

namespace moxie::avx2 {
namespace {

// A cache row of each type: At(row, d, j) is the elements d + 8 j .. d + 8 j + 7, whole vectors
// only, with d a multiple of 32 for q8_0; Tail(row, d, n) is the n < 8 elements from d on, then
// zeros.

struct RowF32 {
  MOXIE_INLINE __m256 At(const std::byte* row, int64_t d, int64_t j) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(row) + d + 8 * j);
  }
  MOXIE_INLINE __m256 Tail(const std::byte* row, int64_t d, int64_t n) {
    return _mm256_maskload_ps(reinterpret_cast<const float*>(row) + d, TailMask(n));
  }
};

struct RowF16 {
  MOXIE_INLINE __m256 At(const std::byte* row, int64_t d, int64_t j) {
    return _mm256_cvtph_ps(Load128(row + 2 * (d + 8 * j)));
  }
  MOXIE_INLINE __m256 Tail(const std::byte* row, int64_t d, int64_t n) {
    uint16_t last[8] = {};
    CopyBytes(last, row + 2 * d, 2 * n);
    return _mm256_cvtph_ps(Load128(last));
  }
};

struct RowQ8_0 {
  MOXIE_INLINE __m256 At(const std::byte* row, int64_t d, int64_t j) {
    const auto* block =
        reinterpret_cast<const uint8_t*>(row) + (d / 32 + j / 4) * int64_t{sizeof(BlockQ8_0)};
    const __m128i q = _mm_loadl_epi64(
        reinterpret_cast<const __m128i*>(block + offsetof(BlockQ8_0, q) + 8 * (j % 4)));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
                         _mm256_set1_ps(HalfAt(block)));
  }
  // Never needed: the dimension is a multiple of 32.
  MOXIE_INLINE __m256 Tail(const std::byte*, int64_t, int64_t) { return _mm256_setzero_ps(); }
};

/// Lane r of the result is the sum of the 8 lanes of v[r].
MOXIE_INLINE __m128 SumLanes4(const __m256* v) {
  const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
  return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
}

/// The scores of `Q` queries against `R` rows from `row` on; rows past the last repeat it. Lane l
/// of a score's accumulator adds the elements l, l + 8, l + 16 ... in order; then the lanes.
template <class Row, int Q, int R>
MOXIE_INLINE void ScoreTile(const CacheRows& keys, int64_t row, const float* queries, float scale,
                            float* scores, int64_t stride) {
  const std::byte* k[R];
  MOXIE_UNROLL
  for (int r = 0; r < R; ++r) k[r] = keys.data + Min(row + r, keys.rows - 1) * keys.stride;
  __m256 sum[Q][R];
  MOXIE_UNROLL
  for (int q = 0; q < Q; ++q) {
    MOXIE_UNROLL
    for (int r = 0; r < R; ++r) sum[q][r] = _mm256_setzero_ps();
  }
  const auto add = [&](const __m256(&x)[Q], __m256 elements, int r) __attribute__((always_inline)) {
    MOXIE_UNROLL
    for (int q = 0; q < Q; ++q) sum[q][r] = _mm256_fmadd_ps(x[q], elements, sum[q][r]);
  };
  int64_t d = 0;
  __m256 x[Q];
  for (; d + 32 <= keys.dim; d += 32) {
    MOXIE_UNROLL
    for (int j = 0; j < 4; ++j) {
      MOXIE_UNROLL
      for (int q = 0; q < Q; ++q) x[q] = _mm256_loadu_ps(queries + q * keys.dim + d + 8 * j);
      MOXIE_UNROLL
      for (int r = 0; r < R; ++r) add(x, Row::At(k[r], d, j), r);
    }
  }
  for (; d + 8 <= keys.dim; d += 8) {
    MOXIE_UNROLL
    for (int q = 0; q < Q; ++q) x[q] = _mm256_loadu_ps(queries + q * keys.dim + d);
    MOXIE_UNROLL
    for (int r = 0; r < R; ++r) add(x, Row::At(k[r], d, 0), r);
  }
  if (const int64_t left = keys.dim - d; left > 0) {
    MOXIE_UNROLL
    for (int q = 0; q < Q; ++q)
      x[q] = _mm256_maskload_ps(queries + q * keys.dim + d, TailMask(left));
    MOXIE_UNROLL
    for (int r = 0; r < R; ++r) add(x, Row::Tail(k[r], d, left), r);
  }
  MOXIE_UNROLL
  for (int q = 0; q < Q; ++q) {
    MOXIE_UNROLL
    for (int r = 0; r < R; r += 4) {
      const __m128 four = _mm_mul_ps(SumLanes4(sum[q] + r), _mm_set1_ps(scale));
      const int64_t left = keys.rows - row - r;
      float* out = scores + q * stride + row + r;
      if (left >= 4) {
        _mm_storeu_ps(out, four);
      } else if (left > 0) {
        _mm_maskstore_ps(out, _mm256_castsi256_si128(TailMask(left)), four);
      }
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

/// `V` * 8 sums from d on of `Q` queries stay in registers over all rows.
template <class Row, int Q, int V>
MOXIE_INLINE void AddRows(const CacheRows& values, int64_t d, const float* weights, int64_t stride,
                          float* out) {
  __m256 sum[Q][V];
  MOXIE_UNROLL
  for (int q = 0; q < Q; ++q) {
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) sum[q][v] = _mm256_loadu_ps(out + q * values.dim + d + 8 * v);
  }
  const std::byte* row = values.data;
  for (int64_t i = 0; i < values.rows; ++i, row += values.stride) {
    __m256 weight[Q];
    MOXIE_UNROLL
    for (int q = 0; q < Q; ++q) weight[q] = _mm256_broadcast_ss(weights + q * stride + i);
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) {
      const __m256 elements = Row::At(row, d, v);
      MOXIE_UNROLL
      for (int q = 0; q < Q; ++q) sum[q][v] = _mm256_fmadd_ps(weight[q], elements, sum[q][v]);
    }
  }
  MOXIE_UNROLL
  for (int q = 0; q < Q; ++q) {
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) _mm256_storeu_ps(out + q * values.dim + d + 8 * v, sum[q][v]);
  }
}

/// The last `left` < 8 sums from d on of one query.
template <class Row>
void AddTails(const CacheRows& values, int64_t d, const float* weights, float* out) {
  const __m256i mask = TailMask(values.dim - d);
  __m256 sum = _mm256_maskload_ps(out + d, mask);
  for (int64_t i = 0; i < values.rows; ++i) {
    const __m256 elements = Row::Tail(values.data + i * values.stride, d, values.dim - d);
    sum = _mm256_fmadd_ps(_mm256_broadcast_ss(weights + i), elements, sum);
  }
  _mm256_maskstore_ps(out + d, mask, sum);
}

template <class Row, int Q>
void AddToQueries(const CacheRows& values, const float* weights, int64_t stride, float* out) {
  int64_t d = 0;
  if constexpr (Q == 1) {
    for (; d + 64 <= values.dim; d += 64) AddRows<Row, 1, 8>(values, d, weights, stride, out);
  }
  for (; d + 32 <= values.dim; d += 32) AddRows<Row, Q, 4>(values, d, weights, stride, out);
  for (; d + 8 <= values.dim; d += 8) AddRows<Row, Q, 1>(values, d, weights, stride, out);
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

}  // namespace

void AttentionScores(const CacheRows& keys, const float* queries, int64_t count, float scale,
                     float* scores, int64_t scores_stride) {
  const auto kernel = keys.type == DType::kF32   ? Scores<RowF32>
                      : keys.type == DType::kF16 ? Scores<RowF16>
                                                 : Scores<RowQ8_0>;
  kernel(keys, queries, count, scale, scores, scores_stride);
}

void AttentionValues(const CacheRows& values, const float* weights, int64_t weights_stride,
                     int64_t count, float* out) {
  const auto kernel = values.type == DType::kF32   ? Values<RowF32>
                      : values.type == DType::kF16 ? Values<RowF16>
                                                   : Values<RowQ8_0>;
  kernel(values, weights, weights_stride, count, out);
}

}  // namespace moxie::avx2
