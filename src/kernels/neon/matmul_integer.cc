#include "kernels/neon/matmul_integer.h"

#include "kernels/neon/integer_product.h"

namespace moxie::neon {
namespace {

/// Products by the instructions that every aarch64 processor has.
struct LongMultiplies {
  MOXIE_INLINE int32x4_t Dot(int32x4_t sum, int8x16_t a, int8x16_t b) {
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vaddq_s32(sum, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(a, b))));
  }
  static constexpr bool kTellsNarrow = true;
  template <int kHalves, bool kNarrow>
  MOXIE_INLINE void MultiplyRow(const int8x16_t (&codes)[2], const int8x16_t (&x)[2],
                                int32x4_t (&sums)[kHalves]) {
    const int16x8_t low[2] = {vmull_s8(vget_low_s8(codes[0]), vget_low_s8(x[0])),
                              vmull_s8(vget_low_s8(codes[1]), vget_low_s8(x[1]))};
    if constexpr (kNarrow) {  // 4 * 63 * 128 < 2^15.
      const int16x8_t first = vmlal_high_s8(low[0], codes[0], x[0]);
      if constexpr (kHalves == 1) {
        const int16x8_t three = vmlal_s8(first, vget_low_s8(codes[1]), vget_low_s8(x[1]));
        sums[0] = vpaddlq_s16(vmlal_high_s8(three, codes[1], x[1]));
      } else {
        sums[0] = vpaddlq_s16(first);
        sums[1] = vpaddlq_s16(vmlal_high_s8(low[1], codes[1], x[1]));
      }
    } else {
      sums[0] = vpadalq_s16(vpaddlq_s16(low[0]), vmull_high_s8(codes[0], x[0]));
      const int32x4_t before = kHalves == 1 ? sums[0] : vdupq_n_s32(0);
      sums[kHalves - 1] = vpadalq_s16(vpadalq_s16(before, low[1]), vmull_high_s8(codes[1], x[1]));
    }
  }

  static constexpr int kRowStride = kPlainRowStride;
  static constexpr auto QuadAt = PlainQuadAt;
  MOXIE_INLINE void Arrange(const RowCodes& codes, int8_t* out) { StorePlain(codes, out); }

  template <int T>
  using Block = PlainBlock<T>;
  template <int kHalves, bool kNarrow, int T>
  MOXIE_INLINE void Multiply(const int8_t* codes, const Block<T>& x, int i,
                             int32x4_t (&integers)[T][kHalves]) {
    const RowCodes rows = LoadPlain(codes);
    MOXIE_UNROLL
    for (int t = 0; t < T; ++t)
      MultiplyRows<LongMultiplies, kHalves, kNarrow>(rows, x.low[t] + 32 * i, integers[t]);
  }
};

}  // namespace

bool HasIntegerProduct(DType type) { return MultipliersOf<LongMultiplies>(type).unpack != nullptr; }

void IntegerMatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* activations, int64_t tokens, float* out, int64_t out_stride) {
  MatMulWith<LongMultiplies>(weights, row_begin, row_end, activations, tokens, out, out_stride);
}

}  // namespace moxie::neon
