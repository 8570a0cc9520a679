#include "kernels/avx512/avx512.h"
#include "kernels/avx512/chunk.h"
#include "kernels/avx512/floats.h"
#include "kernels/avx512/matmul_integer.h"
#include "kernels/lanes/float_product.h"

namespace moxie::avx512 {
namespace {

using x86::kChunkElements;

constexpr int32_t kFloatRows = 0;  // ActivationFormat::id
constexpr int32_t kIntegerChunks = 1;

/// The largest of 16 unsigned numbers, in every lane.
__m512i LargestOfAll(__m512i v) {
  v = _mm512_max_epu32(v, _mm512_shuffle_i32x4(v, v, 0x4e));
  v = _mm512_max_epu32(v, _mm512_shuffle_i32x4(v, v, 0xb1));
  return v;
}

/// The largest of each four, in each of them.
__m512i LargestOfQuads(__m512i v) {
  v = _mm512_max_epu32(v, _mm512_shuffle_epi32(v, static_cast<_MM_PERM_ENUM>(0xb1)));
  return _mm512_max_epu32(v, _mm512_shuffle_epi32(v, static_cast<_MM_PERM_ENUM>(0x4e)));
}

uint32_t FirstLane(__m512i v) {
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm512_castsi512_si128(v)));
}

float FloatOf(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

int32_t SumOfInts(__m512i v) {
  const __m256i eight =
      _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

/// What 32 numbers are divided by, and which quad may be spared.
struct GroupScale {
  float scale;
  float inverse;
  int spared;
};

GroupScale ScaleOf(__m512i a, __m512i b) {
  // Magnitudes compare as their bits do, and what is not finite is above all that is.
  const __m512i magnitude_bits = _mm512_set1_epi32(0x7fffffff);
  constexpr uint32_t kInfinity = 0x7f800000;
  constexpr float kSmallest = 0x1p-100f;
  a = LargestOfQuads(_mm512_and_si512(a, magnitude_bits));
  b = LargestOfQuads(_mm512_and_si512(b, magnitude_bits));
  const __m512i largest = LargestOfAll(_mm512_max_epu32(a, b));
  const uint32_t where = static_cast<uint32_t>(_mm512_cmpeq_epi32_mask(a, largest)) |
                         static_cast<uint32_t>(_mm512_cmpeq_epi32_mask(b, largest)) << 16;
  const int spared = __builtin_ctz(where) / 4;
  const uint32_t others = ~(15u << (4 * spared));
  const __m512i rest = LargestOfAll(
      _mm512_max_epu32(_mm512_maskz_mov_epi32(static_cast<__mmask16>(others), a),
                       _mm512_maskz_mov_epi32(static_cast<__mmask16>(others >> 16), b)));
  const uint32_t peak_bits = FirstLane(largest);
  const float peak = FloatOf(peak_bits);
  if (peak_bits >= kInfinity) return {__builtin_nanf(""), 0.0f, spared};
  if (peak < kSmallest) return {0.0f, 0.0f, spared};
  const float next = FloatOf(FirstLane(rest));
  if (peak <= kLeastSpared * next) return {peak / 127.0f, 127.0f / peak, spared};
  // 127 * 256 + 127 is the largest value; some room for rounding.
  const float for_rest = next / 127.0f;
  const float for_peak = peak / 32600.0f;
  const float scale = for_rest > for_peak ? for_rest : for_peak;
  return {scale, 1.0f / scale, spared};
}

/// Elements 32 * g .. 32 * g + 31.
void QuantizeGroup(const float* x, int g, ActivationChunk* chunk) {
  const __m512 a = _mm512_loadu_ps(x);
  const __m512 b = _mm512_loadu_ps(x + 16);
  const GroupScale group = ScaleOf(_mm512_castps_si512(a), _mm512_castps_si512(b));
  const __m512 inverse = _mm512_set1_ps(group.inverse);
  alignas(32) int8_t high_bytes[32];
  const auto split = [&](__m512 v, int half) {
    const __m512i value = _mm512_cvtps_epi32(_mm512_mul_ps(v, inverse));
    const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(value, _mm512_set1_epi32(128)), 8);
    const __m512i low = _mm512_sub_epi32(value, _mm512_slli_epi32(high, 8));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(chunk->low + 32 * g + 16 * half),
                     _mm512_cvtepi32_epi8(low));
    _mm_store_si128(reinterpret_cast<__m128i*>(high_bytes + 16 * half), _mm512_cvtepi32_epi8(high));
    return value;
  };
  const __m512i first = split(a, 0);
  const __m512i second = split(b, 1);
  const int32_t sums[2] = {SumOfInts(first), SumOfInts(second)};
  // Unsigned: of what is no number, sums wrap round.
  const auto sum =
      static_cast<int32_t>(static_cast<uint32_t>(sums[0]) + static_cast<uint32_t>(sums[1]));
  const auto high = static_cast<int32_t>(x86::LoadU32(high_bytes + 4 * group.spared));
  chunk->high32[g] = high;
  chunk->sums32[g] = sum;
  chunk->scaled_sums32[g] = group.scale * static_cast<float>(sum);
  chunk->scale[g] = group.scale;
  chunk->spared[g] = 8 * g + group.spared;
  chunk->has_high |= uint32_t{high != 0} << g;
  for (int half = 0; half < 2; ++half) {
    chunk->high16[2 * g + half] = group.spared / 4 == half ? high : 0;
    chunk->sums16[2 * g + half] = sums[half];
    chunk->scaled_sums16[2 * g + half] = group.scale * static_cast<float>(sums[half]);
  }
}

void QuantizeChunk(const float* x, ActivationChunk* chunk) {
  chunk->has_high = 0;
  for (int g = 0; g < 8; ++g) QuantizeGroup(x + 32 * g, g, chunk);
}

void QuantizeRow(const float* x, int64_t cols, ActivationChunk* chunks) {
  const int64_t whole = cols / kChunkElements;
  for (int64_t c = 0; c < whole; ++c) QuantizeChunk(x + c * kChunkElements, chunks + c);
  if (whole * kChunkElements == cols) return;
  float last[kChunkElements] = {};
  x86::CopyBytes(last, x + whole * kChunkElements, (cols - whole * kChunkElements) * 4);
  QuantizeChunk(last, chunks + whole);
}

}  // namespace

ActivationFormat FormatOfActivations(DType weights, int64_t cols, int64_t) {
  if (!HasIntegerProduct(weights))
    return {.id = kFloatRows, .row_bytes = lanes::PaddedFloats<Floats>(cols) * 4};
  const int64_t chunks = (cols + kChunkElements - 1) / kChunkElements;
  return {.id = kIntegerChunks,
          .row_bytes = chunks * static_cast<int64_t>(sizeof(ActivationChunk))};
}

void ConvertActivations(const ActivationFormat& format, int64_t cols, const float* const* rows,
                        int64_t, std::byte* out) {
  if (format.id == kFloatRows) {
    lanes::PadActivations<Floats>(cols, rows[0], reinterpret_cast<float*>(out));
  } else {
    QuantizeRow(rows[0], cols, reinterpret_cast<ActivationChunk*>(out));
  }
}

}  // namespace moxie::avx512
