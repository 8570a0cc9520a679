#pragma once

#include "kernels/x86/unpack_blocks.h"

// The formats whose codes are places in a codebook of points, and the ternary ones; unpack.h says
// what they promise.

namespace moxie::x86 {
namespace {

/// Negates byte i where bit i of `signs` is set, and adds `offset`.
MOXIE_INLINE __m256i WithSigns(__m256i magnitudes, uint32_t signs, char offset) {
  const __m256i masks = BitsToMasks(signs);
  const __m256i negated = _mm256_xor_si256(magnitudes, masks);
  return _mm256_add_epi8(_mm256_sub_epi8(negated, masks), _mm256_set1_epi8(offset));
}

/// Nibble 2j of 4 bytes to byte 2j, and so on: 8 nibbles in order, low first.
MOXIE_INLINE uint64_t SpreadNibbles(uint32_t nibbles) {
  uint64_t spread = 0;
  for (int j = 0; j < 8; ++j) spread |= static_cast<uint64_t>((nibbles >> (4 * j)) & 15) << (8 * j);
  return spread;
}

/// 28 bits of signs as four groups of 8, the eighth making each group's number of signs even.
MOXIE_INLINE uint32_t EvenSignsOf4(uint32_t bits) {
  uint32_t signs = 0;
  for (int k = 0; k < 4; ++k) {
    const uint32_t seven = (bits >> (7 * k)) & 127;
    const auto parity = static_cast<uint32_t>(__builtin_parity(seven));
    signs |= (seven | parity << 7) << (8 * k);
  }
  return signs;
}

/// Four points of a codebook of 8 dimensions, or eight of one of 4.
template <class Codebook>
MOXIE_INLINE __m256i Points(const Codebook& book, const uint32_t (&index)[4]) {
  uint64_t points[4];
  for (int k = 0; k < 4; ++k) points[k] = LoadU64(reinterpret_cast<Bytes>(&book) + 8 * index[k]);
  return Load256(points);
}
template <class Codebook>
MOXIE_INLINE __m256i Points(const Codebook& book, const uint32_t (&index)[8]) {
  uint32_t points[8];
  for (int k = 0; k < 8; ++k) points[k] = LoadU32(reinterpret_cast<Bytes>(&book) + 4 * index[k]);
  return Load256(points);
}

/// (d * (0.5 + code)) * factor
MOXIE_INLINE __m256 ScalesWithHalf(float d, __m256i codes, float factor) {
  const __m256 sum = _mm256_add_ps(_mm256_cvtepi32_ps(codes), _mm256_set1_ps(0.5f));
  return _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(d), sum), _mm256_set1_ps(factor));
}

MOXIE_INLINE __m256i TopNibbles(Bytes p, int stride) {
  int codes[8];
  for (int g = 0; g < 8; ++g) codes[g] = static_cast<int>(LoadU32(p + g * stride) >> 28);
  return Load256(codes);
}

MOXIE_INLINE __m256i NibblesToLanes(uint32_t nibbles) {
  return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(SpreadNibbles(nibbles))));
}

struct UnpackIQ2_XXS : Format<BlockIQ2_XXS, 32, 7, 43> {
  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    scale = ScalesWithHalf(HalfAt(chunk), TopNibbles(chunk + offsetof(Block, q) + 4, 8), 0.25f);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 8 * i;
    const uint32_t index[4] = {q[0], q[1], q[2], q[3]};
    return WithSigns(Points(kIq2XxsGrid, index), EvenSignsOf4(LoadU32(q + 4)), kOffset);
  }
};

/// IQ2_XS and IQ2_S: a scale of four bits for 16 elements.
template <class Block>
struct ScaledPoints : Format<Block, 16, 7, 43> {
  MOXIE_INLINE void Scales(Bytes chunk, int half, __m256& scale, __m256&) {
    const uint32_t nibbles = LoadU32(chunk + offsetof(Block, scales) + 4 * half);
    scale = ScalesWithHalf(HalfAt(chunk), NibblesToLanes(nibbles), 0.25f);
  }
};

struct UnpackIQ2_XS : ScaledPoints<BlockIQ2_XS> {
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 8 * i;
    uint32_t index[4];
    uint32_t bits = 0;
    for (int k = 0; k < 4; ++k) {
      const uint32_t code = LoadU16(q + 2 * k);
      index[k] = code & 511;
      bits |= (code >> 9) << (7 * k);
    }
    return WithSigns(Points(kIq2XsGrid, index), EvenSignsOf4(bits), kOffset);
  }
};

struct UnpackIQ2_S : ScaledPoints<BlockIQ2_S> {
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 4 * i;
    const uint32_t high = chunk[offsetof(Block, high) + static_cast<size_t>(i)];
    const uint32_t index[4] = {q[0] | (high & 0x03) << 8, q[1] | (high & 0x0c) << 6,
                               q[2] | (high & 0x30) << 4, q[3] | (high & 0xc0) << 2};
    return WithSigns(Points(kIq2SGrid, index), LoadU32(chunk + offsetof(Block, signs) + 4 * i),
                     kOffset);
  }
};

struct UnpackIQ3_XXS : Format<BlockIQ3_XXS, 32, 7, 62> {
  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    scale = ScalesWithHalf(HalfAt(chunk), TopNibbles(chunk + offsetof(Block, scales), 4), 0.5f);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 8 * i;
    const uint32_t index[8] = {q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7]};
    const uint32_t rest = LoadU32(chunk + offsetof(Block, scales) + 4 * i);
    return WithSigns(Points(kIq3XxsGrid, index), EvenSignsOf4(rest), kOffset);
  }
};

struct UnpackIQ3_S : Format<BlockIQ3_S, 32, 5, 15> {
  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    const __m256i codes = NibblesToLanes(LoadU32(chunk + offsetof(Block, scales)));
    const __m256i odd = _mm256_or_si256(_mm256_slli_epi32(codes, 1), _mm256_set1_epi32(1));
    scale = _mm256_mul_ps(_mm256_set1_ps(HalfAt(chunk)), _mm256_cvtepi32_ps(odd));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 8 * i;
    const uint32_t high = chunk[offsetof(Block, high) + static_cast<size_t>(i)];
    uint32_t index[8];
    for (int k = 0; k < 8; ++k) index[k] = q[k] | ((high >> k) & 1) << 8;
    const uint32_t signs = LoadU32(chunk + offsetof(Block, signs) + 4 * i);
    return WithSigns(Points(kIq3SGrid, index), signs, kOffset);
  }
};

/// 8 * point + delta + 9 of IQ1: bit k of `negative` gives group k's delta, -1 or 1.
MOXIE_INLINE __m256i ShiftedPoints(const uint32_t (&index)[4], uint32_t negative) {
  const __m256i points = Points(kIq1Grid, index);
  int64_t delta[4];
  for (int k = 0; k < 4; ++k) {
    delta[k] = int64_t{0x0101010101010101} * (((negative >> k) & 1) != 0 ? 8 : 10);
  }
  const __m256i twice = _mm256_add_epi8(points, points);
  const __m256i four_times = _mm256_add_epi8(twice, twice);
  return _mm256_add_epi8(_mm256_add_epi8(four_times, four_times), Load256(delta));
}

struct UnpackIQ1_S : Format<BlockIQ1_S, 32, 5, 9> {
  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    const __m256i high = _mm256_cvtepu16_epi32(Load128(chunk + offsetof(Block, high)));
    const __m256i code = _mm256_and_si256(_mm256_srli_epi32(high, 11), _mm256_set1_epi32(14));
    const __m256i odd = _mm256_or_si256(code, _mm256_set1_epi32(1));
    scale = _mm256_mul_ps(_mm256_set1_ps(HalfAt(chunk) * 0.125f), _mm256_cvtepi32_ps(odd));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 4 * i;
    const uint32_t high = LoadU16(chunk + offsetof(Block, high) + 2 * i);
    const uint32_t index[4] = {q[0] | (high & 7) << 8, q[1] | ((high >> 3) & 7) << 8,
                               q[2] | ((high >> 6) & 7) << 8, q[3] | ((high >> 9) & 7) << 8};
    return ShiftedPoints(index, (high >> 15) != 0 ? 15u : 0u);
  }
};

struct UnpackIQ1_M : Format<BlockIQ1_M, 16, 5, 9> {
  MOXIE_INLINE void Scales(Bytes chunk, int half, __m256& scale, __m256&) {
    Bytes scales = chunk + offsetof(Block, scales);
    uint32_t d = 0;
    for (int k = 0; k < 4; ++k) d |= (LoadU16(scales + 2 * k) >> 12) << (4 * k);
    int odd[8];
    for (int g = 0; g < 8; ++g) {
      const uint32_t word = LoadU16(scales + 4 * half + 2 * (g / 4));
      odd[g] = static_cast<int>(2 * ((word >> (3 * (g % 4))) & 7) + 1);
    }
    const auto bits = static_cast<uint16_t>(d);
    scale = _mm256_mul_ps(_mm256_set1_ps(HalfAt(&bits) * 0.125f), _mm256_cvtepi32_ps(Load256(odd)));
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    Bytes q = chunk + offsetof(Block, q) + 4 * i;
    const uint32_t high = LoadU16(chunk + offsetof(Block, high) + 2 * i);
    uint32_t index[4];
    uint32_t negative = 0;
    for (int k = 0; k < 4; ++k) {
      const uint32_t nibble = (high >> (4 * k)) & 15;
      index[k] = q[k] | (nibble & 7) << 8;
      negative |= (nibble >> 3) << k;
    }
    return ShiftedPoints(index, negative);
  }
};

// ---- ternary ------------------------------------------------------------------------------------

template <class Block>
struct TernaryBlocks : Format<Block, 32, 4, 1> {
  MOXIE_INLINE void Scales(Bytes chunk, int, __m256& scale, __m256&) {
    scale = _mm256_set1_ps(HalfAt(chunk + offsetof(Block, d)));
  }
};

struct UnpackTQ1_0 : TernaryBlocks<BlockTQ1_0> {
  /// Digit k of 16 fractions in base 3, less 1: multiplying by 3^k drops the digits before it.
  MOXIE_INLINE __m256i Digits(__m128i bytes, __m256i power) {
    const __m256i fraction = _mm256_and_si256(
        _mm256_mullo_epi16(_mm256_cvtepu8_epi16(bytes), power), _mm256_set1_epi16(255));
    return _mm256_srli_epi16(_mm256_mullo_epi16(fraction, _mm256_set1_epi16(3)), 8);
  }
  MOXIE_INLINE __m256i Power(int k) {
    constexpr int16_t kPowers[] = {1, 3, 9, 27, 81};
    return _mm256_set1_epi16(kPowers[k]);
  }
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    __m256i first;
    __m256i second;
    if (i < 5) {
      first = Digits(Load128(chunk), Power(i));
      second = Digits(Load128(chunk + 16), Power(i));
    } else if (i < 7) {
      first = Digits(Load128(chunk + 32), Power(2 * i - 10));
      second = Digits(Load128(chunk + 32), Power(2 * i - 9));
    } else {
      first = Digits(Load128(chunk + 32), Power(4));
      const __m128i tail = _mm_set1_epi32(static_cast<int>(LoadU32(chunk + offsetof(Block, tail))));
      second = Digits(tail, _mm256_setr_epi16(1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27));
    }
    return _mm256_permute4x64_epi64(_mm256_packus_epi16(first, second), 0xd8);
  }
};

struct UnpackTQ2_0 : TernaryBlocks<BlockTQ2_0> {
  MOXIE_INLINE __m256i Codes(Bytes chunk, int i) {
    return CodesAt(Load256(chunk + 32 * (i / 4)), 2 * (i % 4), 3);
  }
};

}  // namespace
}  // namespace moxie::x86
