#include "kernels/neon/matmul_integer.h"
#include "kernels/neon/neon.h"
#include "kernels/neon_dot/dot_product.h"
#include "kernels/neon_i8mm/neon_i8mm.h"

namespace moxie::neon_i8mm {
namespace {

using neon::ActivationChunk;
using neon::kChunkElements;
using neon::kRows;

/// Eight bytes of `a`, then as many of `b`: the first or the second of each.
MOXIE_INLINE int8x16_t FirstEights(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}
MOXIE_INLINE int8x16_t SecondEights(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

/// A chunk of pairs of tokens, eight columns of both beside one another.
template <int T>
struct Pairs {
  alignas(16) int8_t low[T / 2][2 * kChunkElements];

  explicit Pairs(const ActivationChunk* const (&x)[T]) {
    MOXIE_UNROLL
    for (int p = 0; p < T / 2; ++p) {
      for (int64_t at = 0; at < kChunkElements; at += 16) {
        const int8x16_t a = vld1q_s8(x[2 * p]->low + at);
        const int8x16_t b = vld1q_s8(x[2 * p + 1]->low + at);
        vst1q_s8(low[p] + 2 * at, FirstEights(a, b));
        vst1q_s8(low[p] + 2 * at + 16, SecondEights(a, b));
      }
    }
  }
};

/// Products by smmla: eight columns of two rows and of two tokens fill a register each, and their
/// four sums one.
struct MatrixProduct : neon::DotProduct {
  static constexpr int kRowStride = 8;
  static constexpr int QuadAt(int q) { return 32 * (q / 2) + 4 * (q % 2); }
  MOXIE_INLINE void Arrange(const neon::RowCodes& codes, int8_t* out) {
    MOXIE_UNROLL
    for (int half = 0; half < 2; ++half) {
      MOXIE_UNROLL
      for (int r = 0; r < kRows; r += 2) {
        const int8x16_t a = codes.row[r][half];
        const int8x16_t b = codes.row[r + 1][half];
        vst1q_s8(out + 64 * half + 8 * r, FirstEights(a, b));
        vst1q_s8(out + 64 * half + 32 + 8 * r, SecondEights(a, b));
      }
    }
  }

  template <int T>
  using Block = Pairs<T>;
  template <int kHalves, bool, int T>
  MOXIE_INLINE void Multiply(const int8_t* codes, const Block<T>& x, int i,
                             int32x4_t (&integers)[T][kHalves]) {
    int32x4_t sums[T / 2][kHalves][2];  // [row][token] of two rows, then the other two.
    MOXIE_UNROLL
    for (int eight = 0; eight < 4; ++eight) {
      const int8x16_t rows01 = vld1q_s8(codes + 32 * eight);
      const int8x16_t rows23 = vld1q_s8(codes + 32 * eight + 16);
      const int h = eight / 2 * (kHalves - 1);
      const bool is_first = eight % (4 / kHalves) == 0;
      MOXIE_UNROLL
      for (int p = 0; p < T / 2; ++p) {
        const int8x16_t tokens = vld1q_s8(x.low[p] + 64 * i + 16 * eight);
        int32x4_t(&sum)[2] = sums[p][h];
        sum[0] = vmmlaq_s32(is_first ? vdupq_n_s32(0) : sum[0], tokens, rows01);
        sum[1] = vmmlaq_s32(is_first ? vdupq_n_s32(0) : sum[1], tokens, rows23);
      }
    }
    MOXIE_UNROLL
    for (int p = 0; p < T / 2; ++p) {
      MOXIE_UNROLL
      for (int h = 0; h < kHalves; ++h) {
        const int64x2_t a = vreinterpretq_s64_s32(sums[p][h][0]);
        const int64x2_t b = vreinterpretq_s64_s32(sums[p][h][1]);
        integers[2 * p][h] = vreinterpretq_s32_s64(vzip1q_s64(a, b));
        integers[2 * p + 1][h] = vreinterpretq_s32_s64(vzip2q_s64(a, b));
      }
    }
  }
};

}  // namespace

void MatMul(const ActivationFormat& format, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride) {
  if (neon::HasIntegerProduct(weights.type)) {
    neon::MatMulWith<MatrixProduct>(weights, row_begin, row_end, activations, tokens, out,
                                    out_stride);
    return;
  }
  neon::MatMul(format, weights, row_begin, row_end, activations, tokens, out, out_stride);
}

}  // namespace moxie::neon_i8mm
