#include <immintrin.h>

#include "kernels/avx2/avx2.h"
#include "kernels/avx2/chunk.h"
#include "kernels/avx2/floats.h"
#include "kernels/avx2/formats.h"
#include "kernels/avx2/vectors.h"
#include "kernels/lanes/float_product.h"

namespace moxie::avx2 {
namespace {

constexpr int32_t kFloat32 = 0;
constexpr int32_t kChunks = 1;

int64_t Chunks(int64_t cols) { return (cols + kChunkElements - 1) / kChunkElements; }

/// The largest magnitude of 256 numbers; NaN if one of them is not finite.
float LargestMagnitude(const float* x) {
  const __m256 magnitude_bits = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 largest = _mm256_setzero_ps();
  __m256 zeros = _mm256_setzero_ps();  // 0 * x: NaN where x is not finite, which max drops
  for (int64_t i = 0; i < kChunkElements; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    largest = _mm256_max_ps(largest, _mm256_and_ps(v, magnitude_bits));
    zeros = _mm256_fmadd_ps(v, _mm256_setzero_ps(), zeros);
  }
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps(largest, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  m = _mm_max_ss(m, _mm_movehdup_ps(m));
  return _mm_cvtss_f32(m) + SumLanes(zeros);
}

/// The largest of 16 unsigned words.
uint32_t LargestWord(__m256i words) {
  const __m128i halves =
      _mm_max_epu16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  const __m128i complement = _mm_xor_si128(halves, _mm_set1_epi16(-1));
  const int smallest = _mm_extract_epi16(_mm_minpos_epu16(complement), 0);
  return 0xffffu - static_cast<uint32_t>(smallest);
}

/// round(words / divisor) for 16 words.
__m256i DivideRounded(__m256i words, __m256 inverse) {
  const __m256 a = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(words)));
  const __m256 b = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(words, 1)));
  const __m256i quotient = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(a, inverse)),
                                              _mm256_cvtps_epi32(_mm256_mul_ps(b, inverse)));
  return _mm256_permute4x64_epi64(quotient, 0xd8);
}

/// Rounds 32 values but their peak to bytes times a multiplier, and sets the parts of group g.
void SplitGroup(__m256i& low, __m256i& high, int g, ActivationChunk* chunk) {
  const __m256i low_magnitude = _mm256_abs_epi16(low);
  const __m256i high_magnitude = _mm256_abs_epi16(high);
  const uint32_t peak = LargestWord(_mm256_max_epu16(low_magnitude, high_magnitude));
  const __m256i peaks = _mm256_set1_epi16(static_cast<int16_t>(peak));
  const __m256i is_peak =
      _mm256_permute4x64_epi64(_mm256_packs_epi16(_mm256_cmpeq_epi16(low_magnitude, peaks),
                                                  _mm256_cmpeq_epi16(high_magnitude, peaks)),
                               0xd8);
  const int at = __builtin_ctz(static_cast<uint32_t>(_mm256_movemask_epi8(is_peak)));
  const __m256i place = _mm256_set1_epi16(static_cast<int16_t>(at));
  const __m256i places = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m256i low_peak = _mm256_and_si256(low, _mm256_cmpeq_epi16(place, places));
  const __m256i high_peak = _mm256_and_si256(
      high, _mm256_cmpeq_epi16(place, _mm256_add_epi16(places, _mm256_set1_epi16(16))));
  const __m256i low_rest = _mm256_sub_epi16(low, low_peak);
  const __m256i high_rest = _mm256_sub_epi16(high, high_peak);
  const uint32_t rest =
      LargestWord(_mm256_max_epu16(_mm256_abs_epi16(low_rest), _mm256_abs_epi16(high_rest)));
  const uint32_t multiplier = rest <= 127 ? 1 : (rest + 126) / 127;

  const __m256 inverse = _mm256_set1_ps(1.0f / static_cast<float>(multiplier));
  const __m256i low_small = DivideRounded(low_rest, inverse);
  const __m256i high_small = DivideRounded(high_rest, inverse);
  const __m256i times = _mm256_set1_epi16(static_cast<int16_t>(multiplier));
  low = _mm256_add_epi16(_mm256_mullo_epi16(low_small, times), low_peak);
  high = _mm256_add_epi16(_mm256_mullo_epi16(high_small, times), high_peak);
  const __m256i small = _mm256_permute4x64_epi64(_mm256_packs_epi16(low_small, high_small), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(chunk->small + 32 * g), small);
  chunk->multiplier[g] = static_cast<int32_t>(multiplier | multiplier << 16);
  chunk->peak_at[g] = static_cast<uint32_t>(32 * g + at);
  int16_t values[32];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), low_peak);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + 16), high_peak);
  const int32_t signed_peak = static_cast<uint16_t>(values[at]);
  chunk->peak32[g] = signed_peak;
  chunk->peak16[2 * g] = at < 16 ? signed_peak : 0;
  chunk->peak16[2 * g + 1] = at < 16 ? 0 : signed_peak;
}

/// 16 values as rounded words.
__m256i ToWords(const float* x, __m256 to_integer) {
  const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), to_integer));
  const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), to_integer));
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
}

void QuantizeChunk(const float* x, ActivationChunk* chunk) {
  constexpr float kSmallest = 0x1p-100f;
  const float largest = LargestMagnitude(x);
  chunk->scale = largest / 32767.0f;
  const __m256 to_integer = _mm256_set1_ps(largest > kSmallest ? 32767.0f / largest : 0.0f);
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sums[16];
  for (int g = 0; g < 8; ++g) {
    __m256i low = ToWords(x + 32 * g, to_integer);
    __m256i high = ToWords(x + 32 * g + 16, to_integer);
    SplitGroup(low, high, g, chunk);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(chunk->values + 32 * g), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(chunk->values + 32 * g + 16), high);
    sums[2 * g] = _mm256_madd_epi16(low, ones);
    sums[2 * g + 1] = _mm256_madd_epi16(high, ones);
  }
  for (int half = 0; half < 2; ++half) {
    const __m256i* s = sums + 8 * half;
    const __m256i sums16 = SumLanes(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]),
                                    _mm256_hadd_epi32(s[4], s[5]), _mm256_hadd_epi32(s[6], s[7]));
    _mm256_storeu_ps(chunk->sums16 + 8 * half, _mm256_cvtepi32_ps(sums16));
  }
  for (int g = 0; g < 8; ++g) chunk->sums32[g] = chunk->sums16[2 * g] + chunk->sums16[2 * g + 1];
}

}  // namespace

ActivationFormat FormatOfActivations(DType weights, int64_t cols) {
  if (HasIntegerProduct(weights)) {
    constexpr auto kBytes = static_cast<int64_t>(sizeof(ActivationChunk));
    return {.id = kChunks, .row_bytes = Chunks(cols) * kBytes};
  }
  return {.id = kFloat32, .row_bytes = lanes::PaddedFloats<Floats>(cols) * 4};
}

void ConvertActivations(DType weights, int64_t cols, const float* x, std::byte* out) {
  if (!HasIntegerProduct(weights)) {
    lanes::PadActivations<Floats>(cols, x, reinterpret_cast<float*>(out));
    return;
  }
  auto* chunks = reinterpret_cast<ActivationChunk*>(out);
  const int64_t whole = cols / kChunkElements;
  for (int64_t c = 0; c < whole; ++c) QuantizeChunk(x + c * kChunkElements, chunks + c);
  if (whole * kChunkElements < cols) {
    float last[kChunkElements] = {};
    CopyBytes(last, x + whole * kChunkElements, (cols - whole * kChunkElements) * 4);
    QuantizeChunk(last, chunks + whole);
  }
}

}  // namespace moxie::avx2
