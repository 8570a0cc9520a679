#include "kernels/avx2/activation_groups.h"
#include "kernels/avx2/avx2.h"
#include "kernels/avx2/floats.h"
#include "kernels/avx2/formats.h"
#include "kernels/avx2/vectors.h"
#include "kernels/lanes/float_product.h"

namespace moxie::avx2 {
namespace {

// ActivationFormat::id.
constexpr int32_t kFloatRows = 0;
constexpr int32_t kBytePanels = 1;
constexpr int32_t kWordPanels = 2;

/// The largest of 32 floats that are not negative, in every lane.
__m256 LargestOfAll(const __m256 (&v)[4]) {
  __m256 m = _mm256_max_ps(_mm256_max_ps(v[0], v[1]), _mm256_max_ps(v[2], v[3]));
  m = _mm256_max_ps(m, _mm256_permute2f128_ps(m, m, 1));
  m = _mm256_max_ps(m, _mm256_shuffle_ps(m, m, 0x4e));
  return _mm256_max_ps(m, _mm256_shuffle_ps(m, m, 0xb1));
}

/// Where 32 numbers have their peak if it is spared, else -1, and what they are divided by.
struct GroupScale {
  float scale;
  float inverse;
  int peak;
};

/// The scale of 32 numbers, of which the peak is spared if it is above `least` times the next.
GroupScale ScaleOf(const __m256 (&v)[4], float least) {
  constexpr float kSmallest = 0x1p-100f;
  const __m256 magnitude_bits = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 magnitudes[4];
  __m256 zeros = _mm256_setzero_ps();  // 0 * x: NaN where x is not finite, which max may drop
  for (int k = 0; k < 4; ++k) {
    magnitudes[k] = _mm256_and_ps(v[k], magnitude_bits);
    zeros = _mm256_fmadd_ps(v[k], _mm256_setzero_ps(), zeros);
  }
  if (_mm256_movemask_ps(_mm256_cmp_ps(zeros, zeros, _CMP_UNORD_Q)) != 0)
    return {__builtin_nanf(""), 0.0f, -1};
  const __m256 largest = LargestOfAll(magnitudes);
  uint32_t where = 0;
  for (int k = 0; k < 4; ++k) {
    const __m256 equal = _mm256_cmp_ps(magnitudes[k], largest, _CMP_EQ_OQ);
    where |= static_cast<uint32_t>(_mm256_movemask_ps(equal)) << (8 * k);
  }
  const int at = __builtin_ctz(where);
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (int k = 0; k < 4; ++k) {
    const __m256i is_peak = _mm256_cmpeq_epi32(lanes, _mm256_set1_epi32(at - 8 * k));
    magnitudes[k] = _mm256_andnot_ps(_mm256_castsi256_ps(is_peak), magnitudes[k]);
  }
  const float peak = _mm256_cvtss_f32(largest);
  if (peak < kSmallest) return {0.0f, 0.0f, -1};
  const float next = _mm256_cvtss_f32(LargestOfAll(magnitudes));
  if (peak <= least * next) return {peak / 127.0f, 127.0f / peak, -1};
  const float for_rest = next / 127.0f;
  const float for_peak = peak / 32767.0f;
  const float scale = for_rest > for_peak ? for_rest : for_peak;
  return {scale, 1.0f / scale, at};
}

int32_t SumOfInts(__m256i v) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

/// 32 numbers as integers of 16 bits, in order, and the sums of their halves.
struct Values {
  GroupScale group;
  __m256i words[2];
  int32_t sums[2];
};

Values Quantize(const float* x, float least) {
  __m256 v[4];
  for (int k = 0; k < 4; ++k) v[k] = _mm256_loadu_ps(x + 8 * k);
  Values values;
  values.group = ScaleOf(v, least);
  const __m256 inverse = _mm256_set1_ps(values.group.inverse);
  for (int half = 0; half < 2; ++half) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(v[2 * half], inverse));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(v[2 * half + 1], inverse));
    values.words[half] = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    values.sums[half] = SumOfInts(_mm256_add_epi32(a, b));
  }
  return values;
}

/// 32 activations of token `t` of the panel.
void QuantizeToken(const float* x, int64_t t, ByteGroup& group) {
  const Values values = Quantize(x, kLeastSpared);
  const auto [scale, inverse, at] = values.group;
  alignas(32) int16_t words[kGroupElements];
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), values.words[0]);
  _mm256_store_si256(reinterpret_cast<__m256i*>(words + 16), values.words[1]);
  const __m256i small = _mm256_packs_epi16(values.words[0], values.words[1]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(group.small[t]),
                      _mm256_permute4x64_epi64(small, 0xd8));
  const int32_t peak = at < 0 ? 0 : static_cast<uint16_t>(words[at]);
  if (at >= 0) group.small[t][at] = 0;
  group.peak[t] = peak;
  group.peak_at[t] = at < 0 ? 0 : static_cast<uint32_t>(at);
  group.scale[t] = scale;
  group.sums[t] = scale * static_cast<float>(values.sums[0] + values.sums[1]);
  for (int half = 0; half < 2; ++half) {
    group.peak16[half][t] = at / 16 == half ? peak : 0;
    group.sums16[half][t] = scale * static_cast<float>(values.sums[half]);
  }
}

void QuantizeToken(const float* x, int64_t t, WordGroup& group) {
  const Values values = Quantize(x, 1.0f);  // Words have room for any peak.
  for (int half = 0; half < 2; ++half) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(group.values[t] + 16 * half),
                        values.words[half]);
  }
  group.scale[t] = values.group.scale;
}

template <class Group>
void QuantizePanel(int64_t cols, const float* const* rows, int64_t count, std::byte* out) {
  auto* groups = reinterpret_cast<Group*>(out);
  for (int64_t g = 0; g < cols / kGroupElements; ++g) {
    if (count < kPanelTokens) groups[g] = {};
    for (int64_t t = 0; t < count; ++t) QuantizeToken(rows[t] + g * kGroupElements, t, groups[g]);
  }
}

template <class Group>
ActivationFormat PanelFormat(int32_t id, int64_t cols) {
  static_assert(sizeof(Group) % kPanelTokens == 0);
  return {.id = id,
          .row_bytes = cols / kGroupElements * static_cast<int64_t>(sizeof(Group)) / kPanelTokens,
          .panel = kPanelTokens};
}

}  // namespace

ActivationFormat FormatOfActivations(DType weights, int64_t cols, int64_t) {
  switch (IntegerProductOf(weights)) {
    case IntegerProduct::kBytes:
      return PanelFormat<ByteGroup>(kBytePanels, cols);
    case IntegerProduct::kWords:
      return PanelFormat<WordGroup>(kWordPanels, cols);
    case IntegerProduct::kNone:
      break;
  }
  return {.id = kFloatRows, .row_bytes = lanes::PaddedFloats<Floats>(cols) * 4};
}

void ConvertActivations(const ActivationFormat& format, int64_t cols, const float* const* rows,
                        int64_t count, std::byte* out) {
  switch (format.id) {
    case kBytePanels:
      return QuantizePanel<ByteGroup>(cols, rows, count, out);
    case kWordPanels:
      return QuantizePanel<WordGroup>(cols, rows, count, out);
    default:
      return lanes::PadActivations<Floats>(cols, rows[0], reinterpret_cast<float*>(out));
  }
}

}  // namespace moxie::avx2
