#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace moxie {

/// Decodes `elements` (whole blocks) of `type` to float32, exactly as the gguf reference package
/// does: bit for bit, infinities and NaN included. The reference for every vector path.
/// `bytes` may be unaligned. Integer types (i8..i64) and f64 convert by value.
void Dequantize(DType type, const std::byte* bytes, int64_t elements, float* out);

}  // namespace moxie
