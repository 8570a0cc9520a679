#pragma once

#include "kernels/lanes/chunk_of_rows.h"

namespace moxie::lanes {

/// With so much above the next, a peak is worth bits of its own.
constexpr float kLeastSpared = 1.5f;

/// 256 activations as integers, the form in which quantised weights meet them. Of each 32 elements,
/// g = i / 32,
///
///   activation = scale[g] * value[i],   value[i] = low[i] + 256 * high byte of i,
///
/// where only the quad (four consecutive elements) that holds the largest magnitude may have high
/// bytes, and has them where that is above kLeastSpared times the others. Then its elements have 16
/// bits and the scale is that of the other 28: real activations have single large values among
/// small ones, and sparing them the byte cuts the error of plain 8-bit blocks of 32 many times
/// (Kullback-Leibler divergence of SmolLM2's tokens) for one ninth more products.
///
/// 32 activations below 2^-100 count as zeros; if one is an infinity or a NaN, the scale is NaN. A
/// row's last chunk is padded with zeros.
struct ActivationChunk {
  int8_t low[kChunkElements];
  int32_t high32[8];   ///< the four high bytes of each 32 elements; 0 where there are none
  int32_t high16[16];  ///< the same by 16 elements: 0 where the quad is in the other half
  int32_t sums32[8];   ///< of the values of 32 elements; exact
  int32_t sums16[16];  ///< of 16
  float scale[8];
  float scaled_sums32[8];   ///< scale * sums32
  float scaled_sums16[16];  ///< scale * sums16
  int32_t spared[8];        ///< which quad of the chunk has the high bytes
  uint32_t has_high;        ///< bit g: whether 32 elements have any
  int32_t padding[7];
};
static_assert(sizeof(ActivationChunk) == 640);

namespace {

/// Of a row of `cols` activations in chunks.
MOXIE_INLINE int64_t ChunkBytes(int64_t cols) {
  return (cols + kChunkElements - 1) / kChunkElements *
         static_cast<int64_t>(sizeof(ActivationChunk));
}

/// A row in chunks, each written by quantize_chunk(elements, chunk).
template <class QuantizeChunk>
MOXIE_INLINE void QuantizeRow(const float* x, int64_t cols, ActivationChunk* chunks,
                              QuantizeChunk quantize_chunk) {
  const int64_t whole = cols / kChunkElements;
  for (int64_t c = 0; c < whole; ++c) quantize_chunk(x + c * kChunkElements, chunks + c);
  if (whole * kChunkElements == cols) return;
  float last[kChunkElements] = {};
  CopyBytes(last, x + whole * kChunkElements, (cols - whole * kChunkElements) * 4);
  quantize_chunk(last, chunks + whole);
}

/// What 32 numbers are divided by, and which of their quads may be spared.
struct GroupScale {
  float scale;
  float inverse;
  int spared;
};

MOXIE_INLINE float FloatOf(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

/// The scale where quad `spared` holds the largest magnitude and the others the next one, in bits.
MOXIE_INLINE GroupScale ScaleOf(uint32_t peak_bits, uint32_t next_bits, int spared) {
  constexpr uint32_t kInfinity = 0x7f800000;  // What is not finite is above all that is.
  constexpr float kSmallest = 0x1p-100f;
  const float peak = FloatOf(peak_bits);
  if (peak_bits >= kInfinity) return {__builtin_nanf(""), 0.0f, spared};
  if (peak < kSmallest) return {0.0f, 0.0f, spared};
  const float next = FloatOf(next_bits);
  if (peak <= kLeastSpared * next) return {peak / 127.0f, 127.0f / peak, spared};
  // 127 * 256 + 127 is the largest value; some room for rounding.
  const float for_rest = next / 127.0f;
  const float for_peak = peak / 32600.0f;
  const float scale = for_rest > for_peak ? for_rest : for_peak;
  return {scale, 1.0f / scale, spared};
}

/// Writes all of group `g` but the low bytes, from its high ones and the sums of its halves.
MOXIE_INLINE void SetGroup(const GroupScale& group, int g, const int8_t* high_bytes,
                           const int32_t (&sums)[2], ActivationChunk* chunk) {
  // Unsigned: of what is no number, sums wrap round.
  const auto sum =
      static_cast<int32_t>(static_cast<uint32_t>(sums[0]) + static_cast<uint32_t>(sums[1]));
  const auto high = static_cast<int32_t>(LoadU32(high_bytes + 4 * group.spared));
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

}  // namespace

}  // namespace moxie::lanes
