#include <immintrin.h>

#include "kernels/avx2/avx2.h"
#include "kernels/avx2/vectors.h"
#include "quant/blocks.h"

namespace moxie::avx2 {
namespace {

// A cache row of each type: LoadRow<type>::At(row, d) is elements d .. d + 7, whole vectors only;
// Tail(row, d, n) is the n < 8 elements from d on, then zeros.

struct RowF32 {
  MOXIE_INLINE __m256 At(const std::byte* row, int64_t d) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(row) + d);
  }
  MOXIE_INLINE __m256 Tail(const std::byte* row, int64_t d, int64_t n) {
    return _mm256_maskload_ps(reinterpret_cast<const float*>(row) + d, TailMask(n));
  }
};

struct RowF16 {
  MOXIE_INLINE __m256 At(const std::byte* row, int64_t d) {
    return _mm256_cvtph_ps(Load128(row + 2 * d));
  }
  MOXIE_INLINE __m256 Tail(const std::byte* row, int64_t d, int64_t n) {
    uint16_t last[8] = {};
    CopyBytes(last, row + 2 * d, 2 * n);
    return _mm256_cvtph_ps(Load128(last));
  }
};

struct RowQ8_0 {
  MOXIE_INLINE __m256 At(const std::byte* row, int64_t d) {
    const auto* block = reinterpret_cast<const uint8_t*>(row) + d / 32 * int64_t{sizeof(BlockQ8_0)};
    const __m128i q =
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(block + offsetof(BlockQ8_0, q) + d % 32));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
                         _mm256_set1_ps(HalfAt(block)));
  }
  MOXIE_INLINE __m256 Tail(const std::byte* row, int64_t d, int64_t) { return At(row, d); }
};

/// Four sums of 8 lanes hide the latency of the additions; the order depends on head_dim alone.
template <class Row>
float Dot(const float* q, const std::byte* row, int64_t head_dim) {
  __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                   _mm256_setzero_ps()};
  int64_t d = 0;
  for (; d + 32 <= head_dim; d += 32) {
    MOXIE_UNROLL
    for (int j = 0; j < 4; ++j) {
      sum[j] = _mm256_fmadd_ps(_mm256_loadu_ps(q + d + 8 * j), Row::At(row, d + 8 * j), sum[j]);
    }
  }
  for (; d + 8 <= head_dim; d += 8) {
    sum[0] = _mm256_fmadd_ps(_mm256_loadu_ps(q + d), Row::At(row, d), sum[0]);
  }
  if (d < head_dim) {
    const __m256 last = _mm256_maskload_ps(q + d, TailMask(head_dim - d));
    sum[1] = _mm256_fmadd_ps(last, Row::Tail(row, d, head_dim - d), sum[1]);
  }
  return SumLanes(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
}

template <class Row>
void Scores(const float* q, const std::byte* k, int64_t stride, int64_t rows, int64_t head_dim,
            float scale, float* scores) {
  for (int64_t i = 0; i < rows; ++i) scores[i] = scale * Dot<Row>(q, k + i * stride, head_dim);
}

/// `vectors` * 8 outputs from d on stay in registers over all rows.
template <class Row, int vectors>
MOXIE_INLINE void AddRows(const float* p, const std::byte* v, int64_t stride, int64_t rows,
                          int64_t d, float* out) {
  __m256 sum[vectors];
  MOXIE_UNROLL
  for (int j = 0; j < vectors; ++j) sum[j] = _mm256_loadu_ps(out + d + 8 * j);
  for (int64_t i = 0; i < rows; ++i) {
    const __m256 weight = _mm256_broadcast_ss(p + i);
    MOXIE_UNROLL
    for (int j = 0; j < vectors; ++j) {
      sum[j] = _mm256_fmadd_ps(weight, Row::At(v + i * stride, d + 8 * j), sum[j]);
    }
  }
  MOXIE_UNROLL
  for (int j = 0; j < vectors; ++j) _mm256_storeu_ps(out + d + 8 * j, sum[j]);
}

template <class Row>
void Values(const float* p, const std::byte* v, int64_t stride, int64_t rows, int64_t head_dim,
            float* out) {
  int64_t d = 0;
  for (; d + 64 <= head_dim; d += 64) AddRows<Row, 8>(p, v, stride, rows, d, out);
  for (; d + 8 <= head_dim; d += 8) AddRows<Row, 1>(p, v, stride, rows, d, out);
  if (d == head_dim) return;
  const __m256i mask = TailMask(head_dim - d);
  __m256 sum = _mm256_maskload_ps(out + d, mask);
  for (int64_t i = 0; i < rows; ++i) {
    sum = _mm256_fmadd_ps(_mm256_broadcast_ss(p + i), Row::Tail(v + i * stride, d, head_dim - d),
                          sum);
  }
  _mm256_maskstore_ps(out + d, mask, sum);
}

}  // namespace

void AttentionScores(DType type, const float* q, const std::byte* k, int64_t stride, int64_t rows,
                     int64_t head_dim, float scale, float* scores) {
  const auto kernel = type == DType::kF32   ? Scores<RowF32>
                      : type == DType::kF16 ? Scores<RowF16>
                                            : Scores<RowQ8_0>;
  kernel(q, k, stride, rows, head_dim, scale, scores);
}

void AttentionValues(DType type, const float* p, const std::byte* v, int64_t stride, int64_t rows,
                     int64_t head_dim, float* out) {
  const auto kernel = type == DType::kF32   ? Values<RowF32>
                      : type == DType::kF16 ? Values<RowF16>
                                            : Values<RowQ8_0>;
  kernel(p, v, stride, rows, head_dim, out);
}

}  // namespace moxie::avx2
