#pragma once

#include "kernels/neon/integer_product.h"

namespace moxie::neon {
namespace {

/// Products by sdot (neon/integer_product.h). Four columns of four rows fill a register, which
/// meets those columns of each token.
struct DotProduct {
  MOXIE_INLINE int32x4_t Dot(int32x4_t sum, int8x16_t a, int8x16_t b) {
    return vdotq_s32(sum, a, b);
  }
  static constexpr bool kTellsNarrow = false;
  template <int kHalves, bool>
  MOXIE_INLINE void MultiplyRow(const int8x16_t (&codes)[2], const int8x16_t (&x)[2],
                                int32x4_t (&sums)[kHalves]) {
    sums[0] = vdotq_s32(vdupq_n_s32(0), codes[0], x[0]);
    sums[kHalves - 1] = vdotq_s32(kHalves == 1 ? sums[0] : vdupq_n_s32(0), codes[1], x[1]);
  }

  static constexpr int kRowStride = 4;
  static constexpr int QuadAt(int q) { return 16 * q; }
  MOXIE_INLINE void Arrange(const RowCodes& codes, int8_t* out) {
    MOXIE_UNROLL
    for (int h = 0; h < 2; ++h) {
      float32x4_t rows[kRows];
      MOXIE_UNROLL
      for (int r = 0; r < kRows; ++r) rows[r] = vreinterpretq_f32_s8(codes.row[r][h]);
      float32x4_t quads[4];
      Transpose(rows, quads);
      MOXIE_UNROLL
      for (int q = 0; q < 4; ++q) vst1q_s8(out + QuadAt(4 * h + q), vreinterpretq_s8_f32(quads[q]));
    }
  }

  template <int T>
  using Block = PlainBlock<T>;
  template <int kHalves, bool, int T>
  MOXIE_INLINE void Multiply(const int8_t* codes, const Block<T>& x, int i,
                             int32x4_t (&integers)[T][kHalves]) {
    MOXIE_UNROLL
    for (int t = 0; t < T; ++t) {
      MOXIE_UNROLL
      for (int h = 0; h < kHalves; ++h) integers[t][h] = vdupq_n_s32(0);
    }
    MOXIE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int8_t* at = codes + QuadAt(4 * half);
      const int8x16_t quads[4] = {vld1q_s8(at), vld1q_s8(at + QuadAt(1)), vld1q_s8(at + QuadAt(2)),
                                  vld1q_s8(at + QuadAt(3))};
      MOXIE_UNROLL
      for (int t = 0; t < T; ++t) {
        const int8x16_t columns = vld1q_s8(x.low[t] + 32 * i + 16 * half);
        int32x4_t& sum = integers[t][half * (kHalves - 1)];
        sum = vdotq_laneq_s32(sum, quads[0], columns, 0);
        sum = vdotq_laneq_s32(sum, quads[1], columns, 1);
        sum = vdotq_laneq_s32(sum, quads[2], columns, 2);
        sum = vdotq_laneq_s32(sum, quads[3], columns, 3);
      }
    }
  }
};

}  // namespace
}  // namespace moxie::neon
