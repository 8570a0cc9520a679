#include "kernels/avx512_bf16/pairs.h"

#include "kernels/avx512/floats.h"
#include "kernels/avx512_bf16/split.h"
#include "kernels/lanes/floats.h"

namespace moxie::avx512_bf16 {
namespace {

using avx512::Floats;
using lanes::CopyBytes;
using lanes::Min;

constexpr int64_t kLanes = Floats::kLanes;
constexpr int64_t kRows = 8;  // With kPanels, sums fill the registers.
constexpr int64_t kPanels = 3;

/// Up to 32 floats, then zeros, as pairs of bfloat16 numbers.
MOXIE_INLINE void SplitPairs(const float* x, int64_t n, __m512& high, __m512& low) {
  const __m512 first = lanes::LoadUpTo<Floats>(x, n);
  const __m512 second = n > kLanes ? lanes::LoadUpTo<Floats>(x + kLanes, n - kLanes) : __m512{};
  const __m512 first_high = HighOf(first), second_high = HighOf(second);
  const auto pairs = [](__m512 a, __m512 b) __attribute__((always_inline)) {
    return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(b, a));
  };
  high = pairs(first_high, second_high);
  low = pairs(_mm512_sub_ps(first, first_high), _mm512_sub_ps(second, second_high));
}

/// The sums of R rows and P panels, tokens in lanes. Where the rows' successors lie (`ahead`),
/// their memory is asked for.
template <int R, int P>
MOXIE_INLINE void MultiplyTile(const std::byte* const* rows, const std::byte* panels,
                               int64_t panel_bytes, int64_t pairs, const std::byte* ahead,
                               float* sums) {
  __m512 sum[R][P];
  MOXIE_UNROLL
  for (int r = 0; r < R; ++r) {
    MOXIE_UNROLL
    for (int p = 0; p < P; ++p) sum[r][p] = _mm512_setzero_ps();
  }
  for (int64_t i = 0; i < pairs; ++i) {
    __builtin_prefetch(ahead + i * R * 4, 0, 2);
    __m512i high[P], low[P];
    MOXIE_UNROLL
    for (int p = 0; p < P; ++p) {
      const std::byte* x = panels + p * panel_bytes + i * kPairBytes;
      high[p] = _mm512_loadu_si512(x);
      low[p] = _mm512_loadu_si512(x + kPairBytes / 2);
    }
    MOXIE_UNROLL
    for (int r = 0; r < R; ++r) {
      int pair = 0;
      CopyBytes(&pair, rows[r] + 4 * i, 4);
      const __m512i w = x86::InRegister(_mm512_set1_epi32(pair));
      MOXIE_UNROLL
      for (int p = 0; p < P; ++p)
        sum[r][p] = _mm512_dpbf16_ps(sum[r][p], (__m512bh)w, (__m512bh)high[p]);
      MOXIE_UNROLL
      for (int p = 0; p < P; ++p)
        sum[r][p] = _mm512_dpbf16_ps(sum[r][p], (__m512bh)w, (__m512bh)low[p]);
    }
  }
  MOXIE_UNROLL
  for (int r = 0; r < R; ++r) {
    MOXIE_UNROLL
    for (int p = 0; p < P; ++p) _mm512_store_ps(sums + (p * kLanes + r) * kPairTokens, sum[r][p]);
  }
}

/// `count` of 16 rows and up to `tokens` tokens of P panels.
template <int P>
void MultiplyRows(const std::byte* const (&rows)[kLanes], int64_t count, const std::byte* panels,
                  int64_t panel_bytes, int64_t pairs, const std::byte* ahead, int64_t tokens,
                  float* out, int64_t out_stride) {
  alignas(64) float sums[P * kLanes * kPairTokens];
  for (int64_t r = 0; r < Min(kLanes, count); r += kRows)
    MultiplyTile<kRows, P>(rows + r, panels, panel_bytes, pairs, ahead + r * pairs * 4,
                           sums + r * kPairTokens);
  for (int64_t p = 0; p < P; ++p) {
    __m512 v[kLanes];
    MOXIE_UNROLL
    for (int r = 0; r < kLanes; ++r) v[r] = _mm512_load_ps(sums + (p * kLanes + r) * kPairTokens);
    Floats::Transpose(v);
    const int64_t here = Min(kPairTokens, tokens - p * kPairTokens);
    for (int64_t t = 0; t < here; ++t)
      lanes::StoreUpTo<Floats>(out + (p * kPairTokens + t) * out_stride, v[t], count);
  }
}

}  // namespace

void ConvertPairs(int64_t cols, const float* const* rows, int64_t count, std::byte* out) {
  for (int64_t c = 0; c < cols; c += kPairSlice) {
    const int64_t n = Min(kPairSlice, cols - c);
    __m512 high[kLanes], low[kLanes];
    for (int t = 0; t < kLanes; ++t) {
      if (t < count) {
        SplitPairs(rows[t] + c, n, high[t], low[t]);
      } else {
        high[t] = low[t] = _mm512_setzero_ps();
      }
    }
    Floats::Transpose(high);
    Floats::Transpose(low);
    for (int64_t pair = 0; pair < n / 2; ++pair, out += kPairBytes) {
      _mm512_storeu_ps(reinterpret_cast<float*>(out), high[pair]);
      _mm512_storeu_ps(reinterpret_cast<float*>(out + kPairBytes / 2), low[pair]);
    }
  }
}

void MatMulOfPairs(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* panels, int64_t tokens, float* out, int64_t out_stride) {
  const int64_t panel_bytes = weights.cols / 2 * kPairBytes;
  const int64_t step = TokensAtOnce(weights.cols, kPanels);
  for (int64_t begin = 0; begin < tokens; begin += step) {
    const int64_t end = Min(begin + step, tokens);
    for (int64_t row = row_begin; row < row_end; row += kLanes) {
      const std::byte* rows[kLanes];
      for (int64_t r = 0; r < kLanes; ++r) rows[r] = weights.row(Min(row + r, row_end - 1));
      for (int64_t t = begin; t < end; t += kPanels * kPairTokens) {
        const int64_t left = (end - t + kPairTokens - 1) / kPairTokens;
        const auto multiply = left >= kPanels ? MultiplyRows<kPanels>
                              : left == 2     ? MultiplyRows<2>
                                              : MultiplyRows<1>;
        multiply(rows, row_end - row, panels + t / kPairTokens * panel_bytes, panel_bytes,
                 weights.cols / 2, rows[0] + kLanes * weights.row_stride, end - t,
                 out + t * out_stride + row, out_stride);
      }
    }
  }
}

}  // namespace moxie::avx512_bf16
