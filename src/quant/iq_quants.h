#pragma once

#include "quant/blocks.h"

namespace moxie {

// The "i-quants" of one to three bits: indices into codebooks of lattice points (codebooks.h).

/// Writes the block's 256 elements to `out`; the formulas stand in blocks.h.
void Decode(const BlockIQ1_S& block, float* out);
void Decode(const BlockIQ1_M& block, float* out);
void Decode(const BlockIQ2_XXS& block, float* out);
void Decode(const BlockIQ2_XS& block, float* out);
void Decode(const BlockIQ2_S& block, float* out);
void Decode(const BlockIQ3_XXS& block, float* out);
void Decode(const BlockIQ3_S& block, float* out);

}  // namespace moxie
