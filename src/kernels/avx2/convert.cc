#include <immintrin.h>

#include "kernels/avx2/avx2.h"
#include "kernels/avx2/chunk.h"
#include "kernels/avx2/formats.h"
#include "kernels/avx2/vectors.h"

namespace moxie::avx2 {
namespace {

constexpr int32_t kFloat32 = 0;
constexpr int32_t kInt16 = 1;

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

void QuantizeChunk(const float* x, ActivationChunk* chunk) {
  constexpr float kSmallest = 0x1p-100f;
  const float largest = LargestMagnitude(x);
  chunk->scale = largest / 32767.0f;
  const __m256 to_integer = _mm256_set1_ps(largest > kSmallest ? 32767.0f / largest : 0.0f);
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sums[16];
  MOXIE_UNROLL
  for (int g = 0; g < 16; ++g) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 16 * g), to_integer));
    const __m256i b =
        _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 16 * g + 8), to_integer));
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(chunk->values + 16 * g), words);
    sums[g] = _mm256_madd_epi16(words, ones);
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
    return {.id = kInt16, .row_bytes = Chunks(cols) * kBytes};
  }
  return {.id = kFloat32, .row_bytes = PaddedFloats(cols) * 4};
}

void ConvertActivations(DType weights, int64_t cols, const float* x, std::byte* out) {
  if (!HasIntegerProduct(weights)) {
    auto* padded = reinterpret_cast<float*>(out);
    CopyBytes(padded, x, cols * 4);
    for (int64_t i = cols; i < PaddedFloats(cols); ++i) padded[i] = 0.0f;
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
