#pragma once

#include "quant/blocks.h"

namespace moxie {

// ggml's first formats: 32 elements share one scale (and in the _1 forms an offset).

/// Writes the block's 32 elements to `out`; the formulas stand in blocks.h.
void Decode(const BlockQ4_0& block, float* out);
void Decode(const BlockQ4_1& block, float* out);
void Decode(const BlockQ5_0& block, float* out);
void Decode(const BlockQ5_1& block, float* out);
void Decode(const BlockQ8_0& block, float* out);

}  // namespace moxie
