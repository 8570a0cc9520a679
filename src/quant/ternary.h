#pragma once

#include "quant/blocks.h"
#include "quant/scale_search.h"

namespace moxie {

// Formats of codes -1, 0 and 1 under one scale.

/// Writes the block's 256 elements to `out`; the formulas stand in blocks.h.
void Decode(const BlockTQ1_0& block, float* out);
void Decode(const BlockTQ2_0& block, float* out);

/// Encodes the group's elements (as many as the block holds) with the least weighted squared error
/// that the search of scale_search.h finds.
void Encode(const Group& group, BlockTQ1_0& block);
void Encode(const Group& group, BlockTQ2_0& block);

}  // namespace moxie
