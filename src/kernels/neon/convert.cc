#include "kernels/lanes/activation_chunk.h"
#include "kernels/lanes/float_product.h"
#include "kernels/neon/floats.h"
#include "kernels/neon/matmul_integer.h"
#include "kernels/neon/neon.h"

namespace moxie::neon {
namespace {

using lanes::ActivationChunk;
using lanes::kChunkElements;

constexpr int32_t kFloatRows = 0;  // ActivationFormat::id
constexpr int32_t kIntegerChunks = 1;

/// The scale of 32 numbers, a quad of them in each vector.
lanes::GroupScale ScaleOf(const float32x4_t (&v)[8]) {
  uint32_t largest[8];  // Magnitudes compare as their bits do.
  for (int q = 0; q < 8; ++q)
    largest[q] = vmaxvq_u32(vandq_u32(vreinterpretq_u32_f32(v[q]), vdupq_n_u32(0x7fffffff)));
  int spared = 0;
  for (int q = 1; q < 8; ++q) spared = largest[q] > largest[spared] ? q : spared;
  uint32_t next = 0;
  for (int q = 0; q < 8; ++q) next = q != spared && largest[q] > next ? largest[q] : next;
  return lanes::ScaleOf(largest[spared], next, spared);
}

/// Elements 32 * g .. 32 * g + 31.
void QuantizeGroup(const float* x, int g, ActivationChunk* chunk) {
  float32x4_t v[8];
  for (int q = 0; q < 8; ++q) v[q] = vld1q_f32(x + 4 * q);
  const lanes::GroupScale group = ScaleOf(v);
  int8_t high_bytes[32];
  int32_t sums[2];
  for (int half = 0; half < 2; ++half) {
    int32x4_t values[4];
    for (int q = 0; q < 4; ++q)
      values[q] = vcvtnq_s32_f32(vmulq_n_f32(v[4 * half + q], group.inverse));
    sums[half] =
        vaddvq_s32(vaddq_s32(vaddq_s32(values[0], values[1]), vaddq_s32(values[2], values[3])));
    const int16x8_t words[2] = {vcombine_s16(vmovn_s32(values[0]), vmovn_s32(values[1])),
                                vcombine_s16(vmovn_s32(values[2]), vmovn_s32(values[3]))};
    // A low byte is what is left of the value by the nearest multiple of 256.
    const auto high = [](int16x8_t word) { return vrshrn_n_s16(word, 8); };
    vst1q_s8(chunk->low + 32 * g + 16 * half,
             vcombine_s8(vmovn_s16(words[0]), vmovn_s16(words[1])));
    vst1q_s8(high_bytes + 16 * half, vcombine_s8(high(words[0]), high(words[1])));
  }
  lanes::SetGroup(group, g, high_bytes, sums, chunk);
}

void QuantizeChunk(const float* x, ActivationChunk* chunk) {
  chunk->has_high = 0;
  for (int g = 0; g < 8; ++g) QuantizeGroup(x + 32 * g, g, chunk);
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

}  // namespace moxie::neon
