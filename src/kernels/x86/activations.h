#pragma once

#include "kernels/kernel_set.h"
#include "kernels/lanes/float_product.h"
#include "kernels/x86/chunk_of_rows.h"

// The forms of activations that the x86 sets have alike: padded float32, and chunks of 256 integers
// whose layout (`Chunk`) is the set's own.

namespace moxie::x86 {
namespace {

constexpr int32_t kFloatRows = 0;
constexpr int32_t kIntegerChunks = 1;

MOXIE_INLINE int64_t Chunks(int64_t cols) { return (cols + kChunkElements - 1) / kChunkElements; }

/// KernelSet::activation_format.
template <class Floats, class Chunk>
MOXIE_INLINE ActivationFormat FormatOfRows(bool integers, int64_t cols) {
  if (integers)
    return {.id = kIntegerChunks, .row_bytes = Chunks(cols) * static_cast<int64_t>(sizeof(Chunk))};
  return {.id = kFloatRows, .row_bytes = lanes::PaddedFloats<Floats>(cols) * 4};
}

/// KernelSet::convert_activations for one row.
template <class Floats, class Chunk, void (*QuantizeChunk)(const float* x, Chunk* chunk)>
MOXIE_INLINE void ConvertRow(const ActivationFormat& format, int64_t cols, const float* x,
                             std::byte* out) {
  if (format.id == kFloatRows) {
    lanes::PadActivations<Floats>(cols, x, reinterpret_cast<float*>(out));
    return;
  }
  auto* chunks = reinterpret_cast<Chunk*>(out);
  const int64_t whole = cols / kChunkElements;
  for (int64_t c = 0; c < whole; ++c) QuantizeChunk(x + c * kChunkElements, chunks + c);
  if (whole * kChunkElements < cols) {
    float last[kChunkElements] = {};
    CopyBytes(last, x + whole * kChunkElements, (cols - whole * kChunkElements) * 4);
    QuantizeChunk(last, chunks + whole);
  }
}

}  // namespace
}  // namespace moxie::x86
