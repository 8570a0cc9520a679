#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace moxie {

/// Whether Quantize can write the type: f32, f16, bf16, q4_0 to q8_0, the k-quants, iq4_nl, iq4_xs,
/// mxfp4 and the ternary types.
bool CanQuantize(DType type);

/// Encodes `elements` (whole blocks) of float32 as `type`, a CanQuantize one. `importance` weighs
/// the squared error of each element of a row of `elements` and may be null: all alike. Scales are
/// searched for the least such error, but for q8_0 without importance, which is plain rounding
/// against the greatest magnitude: fast, and hardly worse.
///
/// Finite input gives finite output: what exceeds the type's range becomes its end. In the types
/// with scales NaN counts as 0, and an importance that is negative or NaN as 0.
///
/// Thread-safe, allocates nothing; blocks are independent, so a row may be encoded in pieces. The
/// result does not depend on the machine.
void Quantize(DType type, const float* x, int64_t elements, const float* importance,
              std::byte* out);

}  // namespace moxie
