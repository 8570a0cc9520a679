#include "kernels/avx2/avx2.h"
#include "kernels/avx2/chunk.h"
#include "kernels/avx2/floats.h"
#include "kernels/avx2/formats.h"
#include "kernels/avx2/vectors.h"
#include "kernels/x86/activations.h"

namespace moxie::avx2 {
namespace {

/// The largest of 32 floats that are not negative, in every lane.
__m256 LargestOfAll(const __m256 (&v)[4]) {
  __m256 m = _mm256_max_ps(_mm256_max_ps(v[0], v[1]), _mm256_max_ps(v[2], v[3]));
  m = _mm256_max_ps(m, _mm256_permute2f128_ps(m, m, 1));
  m = _mm256_max_ps(m, _mm256_shuffle_ps(m, m, 0x4e));
  return _mm256_max_ps(m, _mm256_shuffle_ps(m, m, 0xb1));
}

/// Where 32 numbers have their peak, and what they are divided by.
struct GroupScale {
  float scale;
  float inverse;
  int peak;
};

GroupScale ScaleOf(const __m256 (&v)[4]) {
  constexpr float kSmallest = 0x1p-100f;
  const __m256 magnitude_bits = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 magnitudes[4];
  __m256 zeros = _mm256_setzero_ps();  // 0 * x: NaN where x is not finite, which max may drop
  for (int k = 0; k < 4; ++k) {
    magnitudes[k] = _mm256_and_ps(v[k], magnitude_bits);
    zeros = _mm256_fmadd_ps(v[k], _mm256_setzero_ps(), zeros);
  }
  if (_mm256_movemask_ps(_mm256_cmp_ps(zeros, zeros, _CMP_UNORD_Q)) != 0)
    return {__builtin_nanf(""), 0.0f, 0};
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
  if (peak < kSmallest) return {0.0f, 0.0f, at};
  const float for_rest = _mm256_cvtss_f32(LargestOfAll(magnitudes)) / 127.0f;
  const float for_peak = peak / 32767.0f;
  const float scale = for_rest > for_peak ? for_rest : for_peak;
  return {scale, 1.0f / scale, at};
}

int32_t SumOfInts(__m256i v) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

/// Elements 32 * g .. 32 * g + 31.
void QuantizeGroup(const float* x, int g, ActivationChunk* chunk) {
  __m256 v[4];
  for (int k = 0; k < 4; ++k) v[k] = _mm256_loadu_ps(x + 8 * k);
  const GroupScale group = ScaleOf(v);
  const __m256 inverse = _mm256_set1_ps(group.inverse);
  __m256i words[2];
  int32_t sums[2];
  for (int half = 0; half < 2; ++half) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(v[2 * half], inverse));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(v[2 * half + 1], inverse));
    words[half] = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    sums[half] = SumOfInts(_mm256_add_epi32(a, b));
  }
  int16_t* values = chunk->values + 32 * g;
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), words[0]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + 16), words[1]);
  const __m256i small = _mm256_permute4x64_epi64(_mm256_packs_epi16(words[0], words[1]), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(chunk->small + 32 * g), small);
  chunk->small[32 * g + group.peak] = 0;

  const int32_t peak = static_cast<uint16_t>(values[group.peak]);
  chunk->peak32[g] = peak;
  chunk->peak_at[g] = static_cast<uint32_t>(32 * g + group.peak);
  chunk->scale[g] = group.scale;
  chunk->sums32[g] = static_cast<float>(sums[0] + sums[1]);
  chunk->scaled_sums32[g] = group.scale * chunk->sums32[g];
  for (int half = 0; half < 2; ++half) {
    const int at = 2 * g + half;
    chunk->peak16[at] = group.peak / 16 == half ? peak : 0;
    chunk->sums16[at] = static_cast<float>(sums[half]);
    chunk->scaled_sums16[at] = group.scale * chunk->sums16[at];
  }
}

void QuantizeChunk(const float* x, ActivationChunk* chunk) {
  for (int g = 0; g < 8; ++g) QuantizeGroup(x + 32 * g, g, chunk);
}

}  // namespace

ActivationFormat FormatOfActivations(DType weights, int64_t cols, int64_t) {
  return x86::FormatOfRows<Floats, ActivationChunk>(HasIntegerProduct(weights), cols);
}

void ConvertActivations(const ActivationFormat& format, int64_t cols, const float* const* rows,
                        int64_t, std::byte* out) {
  x86::ConvertRow<Floats, ActivationChunk, QuantizeChunk>(format, cols, rows[0], out);
}

}  // namespace moxie::avx2
