#pragma once

#include "quant/blocks.h"
#include "quant/scale_search.h"

namespace moxie {

// ggml's first formats: 32 elements share one scale (and in the _1 forms an offset).

/// Writes the block's 32 elements to `out`; the formulas stand in blocks.h.
void Decode(const BlockQ4_0& block, float* out);
void Decode(const BlockQ4_1& block, float* out);
void Decode(const BlockQ5_0& block, float* out);
void Decode(const BlockQ5_1& block, float* out);
void Decode(const BlockQ8_0& block, float* out);

/// Encodes the group's elements (as many as the block holds) with the least weighted squared error
/// that the search of scale_search.h finds.
void Encode(const Group& group, BlockQ4_0& block);
void Encode(const Group& group, BlockQ4_1& block);
void Encode(const Group& group, BlockQ5_0& block);
void Encode(const Group& group, BlockQ5_1& block);
void Encode(const Group& group, BlockQ8_0& block);

}  // namespace moxie
