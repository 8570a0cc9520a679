#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace moxie {

/// Whether Quantize can write the type.
bool CanQuantize(DType type);

/// Encodes `elements` (whole blocks) of float32 as `type`. `importance` weighs the squared error
/// of each element of a row of `elements` and may be null. Finite input gives finite output.
void Quantize(DType type, const float* x, int64_t elements, const float* importance,
              std::byte* out);

}  // namespace moxie
