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

/// Of 16 unsigned numbers the largest of each four, in each of them.
__m512i LargestOfQuads(__m512i v) {
  v = _mm512_max_epu32(v, _mm512_shuffle_epi32(v, static_cast<_MM_PERM_ENUM>(0xb1)));
  return _mm512_max_epu32(v, _mm512_shuffle_epi32(v, static_cast<_MM_PERM_ENUM>(0x4e)));
}

constexpr int kGroups = 8;  // Of 32 elements, in a chunk: one in each lane of what follows.

/// What the numbers of each group are divided by, and which quad may be spared.
struct GroupScales {
  __m256 scale;
  __m256 inverse;
  __m256i spared;
};

/// The magnitudes' bits of the largest and the next of each group's quads, and which is the first
/// of the largest. Magnitudes compare as their bits do, and what is not finite is above all that
/// is.
GroupScales ScalesOf(const float* x) {
  const __m512i magnitude_bits = _mm512_set1_epi32(0x7fffffff);
  const __m512i quads =
      _mm512_castsi256_si512(_mm256_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14));  // As blended.
  __m256 rows[kGroups];
  MOXIE_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    const auto magnitudes = [&](int at) __attribute__((always_inline)) {
      return _mm512_and_si512(_mm512_loadu_si512(x + 32 * g + at), magnitude_bits);
    };
    const __m512i both = _mm512_mask_mov_epi32(LargestOfQuads(magnitudes(0)), 0xcccc,
                                               LargestOfQuads(magnitudes(16)));
    rows[g] = _mm256_castsi256_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi32(quads, both)));
  }
  x86::Transpose8x8(rows);
  __m256i largest = _mm256_castps_si256(rows[0]);
  __m256i next = _mm256_setzero_si256();
  __m256i spared = _mm256_setzero_si256();
  MOXIE_UNROLL
  for (int k = 1; k < kGroups; ++k) {
    const __m256i quad = _mm256_castps_si256(rows[k]);
    spared = _mm256_blendv_epi8(spared, _mm256_set1_epi32(k), _mm256_cmpgt_epi32(quad, largest));
    next = _mm256_max_epu32(next, _mm256_min_epu32(largest, quad));
    largest = _mm256_max_epu32(largest, quad);
  }

  const __m256 peak = _mm256_castsi256_ps(largest), rest = _mm256_castsi256_ps(next);
  const __m256 byte = _mm256_set1_ps(127), one = _mm256_set1_ps(1);
  const __m256 alike =
      _mm256_cmp_ps(peak, _mm256_mul_ps(_mm256_set1_ps(kLeastSpared), rest), _CMP_LE_OQ);
  // 127 * 256 + 127 is the largest value; some room for rounding.
  const __m256 apart =
      _mm256_max_ps(_mm256_div_ps(rest, byte), _mm256_div_ps(peak, _mm256_set1_ps(32600)));
  __m256 scale = _mm256_blendv_ps(apart, _mm256_div_ps(peak, byte), alike);
  __m256 inverse =
      _mm256_div_ps(_mm256_blendv_ps(one, byte, alike), _mm256_blendv_ps(apart, peak, alike));
  const __m256 numbers = _mm256_cmp_ps(peak, _mm256_set1_ps(__builtin_inff()), _CMP_LT_OQ);
  const __m256 nothing = _mm256_cmp_ps(peak, _mm256_set1_ps(0x1p-100f), _CMP_LT_OQ);
  scale = _mm256_blendv_ps(_mm256_set1_ps(__builtin_nanf("")), scale, numbers);
  scale = _mm256_andnot_ps(nothing, scale);
  inverse = _mm256_and_ps(_mm256_andnot_ps(nothing, inverse), numbers);
  return {scale, inverse, spared};
}

/// The sums of the halves of each group, of 32 bytes each.
struct HalfSums {
  __m256i first, second;
};

HalfSums SumsOf(const int8_t (&bytes)[kGroups][32]) {
  __m256i quads[kGroups];
  MOXIE_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), x86::Load256(bytes[g]));
    quads[g] = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
  const auto four = [&](int g) __attribute__((always_inline)) {
    return _mm256_hadd_epi32(_mm256_hadd_epi32(quads[g], quads[g + 1]),
                             _mm256_hadd_epi32(quads[g + 2], quads[g + 3]));
  };
  const __m256i low = four(0), high = four(4);
  return {_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)};
}

/// first[0], second[0], first[1], ...
void StoreInTurns(__m256i first, __m256i second, void* out) {
  const __m256i low = _mm256_unpacklo_epi32(first, second);
  const __m256i high = _mm256_unpackhi_epi32(first, second);
  auto* to = static_cast<__m256i*>(out);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
}

void Store(void* out, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(out), v); }

void QuantizeChunk(const float* x, ActivationChunk* chunk) {
  const GroupScales groups = ScalesOf(x);
  alignas(64) float inverses[kGroups];
  _mm256_store_ps(inverses, groups.inverse);
  alignas(64) int8_t low_bytes[kGroups][32], high_bytes[kGroups][32];
  for (int g = 0; g < kGroups; ++g) {
    const __m512 inverse = _mm512_set1_ps(inverses[g]);
    for (int at = 0; at < 32; at += 16) {
      const __m512 v = _mm512_loadu_ps(x + 32 * g + at);
      const __m512i value = _mm512_cvtps_epi32(_mm512_mul_ps(v, inverse));
      const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(value, _mm512_set1_epi32(128)), 8);
      const __m512i low = _mm512_sub_epi32(value, _mm512_slli_epi32(high, 8));
      _mm_store_si128(reinterpret_cast<__m128i*>(low_bytes[g] + at), _mm512_cvtepi32_epi8(low));
      _mm_store_si128(reinterpret_cast<__m128i*>(high_bytes[g] + at), _mm512_cvtepi32_epi8(high));
    }
  }
  x86::CopyBytes(chunk->low, low_bytes, sizeof(chunk->low));

  const HalfSums low = SumsOf(low_bytes), high = SumsOf(high_bytes);
  const auto sum = [](__m256i low_sums, __m256i high_sums) {
    return _mm256_add_epi32(low_sums, _mm256_slli_epi32(high_sums, 8));
  };
  const __m256i first = sum(low.first, high.first), second = sum(low.second, high.second);
  const __m256i both = _mm256_add_epi32(first, second);
  const auto scaled = [&](__m256i sums) {
    return _mm256_castps_si256(_mm256_mul_ps(groups.scale, _mm256_cvtepi32_ps(sums)));
  };
  _mm256_storeu_ps(chunk->scale, groups.scale);
  Store(chunk->sums32, both);
  Store(chunk->scaled_sums32, scaled(both));
  StoreInTurns(first, second, chunk->sums16);
  StoreInTurns(scaled(first), scaled(second), chunk->scaled_sums16);

  const __m256i spared = _mm256_add_epi32(
      groups.spared, _mm256_setr_epi32(0, 8, 16, 24, 32, 40, 48, 56));  // By quads of the chunk.
  Store(chunk->spared, spared);
  for (int g = 0; g < kGroups; ++g)
    chunk->high32[g] =
        static_cast<int32_t>(x86::LoadU32(&high_bytes[0][0] + int64_t{4} * chunk->spared[g]));
  const __m256i quads = x86::Load256(chunk->high32);
  const __m256i in_second = _mm256_cmpgt_epi32(groups.spared, _mm256_set1_epi32(3));
  StoreInTurns(_mm256_andnot_si256(in_second, quads), _mm256_and_si256(in_second, quads),
               chunk->high16);
  const __m256i none = _mm256_cmpeq_epi32(quads, _mm256_setzero_si256());
  chunk->has_high = ~static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(none))) & 0xff;
}

}  // namespace

ActivationFormat FormatOfActivations(DType weights, int64_t cols, int64_t) {
  if (!HasIntegerProduct(weights))
    return {.id = kFloatRows, .row_bytes = lanes::PaddedFloats<Floats>(cols) * 4};
  return {.id = kIntegerChunks, .row_bytes = lanes::ChunkBytes(cols)};
}

void ConvertActivations(const ActivationFormat& format, int64_t cols, const float* const* rows,
                        int64_t, std::byte* out) {
  if (format.id == kFloatRows) {
    lanes::PadActivations<Floats>(cols, rows[0], reinterpret_cast<float*>(out));
  } else {
    lanes::QuantizeRow(rows[0], cols, reinterpret_cast<ActivationChunk*>(out), QuantizeChunk);
  }
}

}  // namespace moxie::avx512
