#pragma once

#include "quant/blocks.h"

namespace moxie {

// Formats of codes -1, 0 and 1 under one scale.

/// Writes the block's 256 elements to `out`; the formulas stand in blocks.h.
void Decode(const BlockTQ1_0& block, float* out);
void Decode(const BlockTQ2_0& block, float* out);

}  // namespace moxie
