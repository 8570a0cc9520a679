#pragma once

#include <cstdint>

namespace moxie::avx2 {

constexpr int64_t kChunkElements = 256;

/// 256 activations as 16-bit integers, value = scale * values[i]: the form in which quantised
/// weights meet them. The scale is the largest magnitude of the chunk / 32767, so each element errs
/// by at most 2^-16 of that magnitude; a chunk below 2^-100 counts as zero, and one with an
/// infinity or NaN has the scale NaN. Sums are of integers and exact. A row's last chunk is padded
/// with zeros.
struct ActivationChunk {
  int16_t values[kChunkElements];
  float sums16[16];  ///< of 16 consecutive values
  float sums32[8];   ///< of 32
  float scale;
  float padding[7];
};
static_assert(sizeof(ActivationChunk) == 640);

}  // namespace moxie::avx2
