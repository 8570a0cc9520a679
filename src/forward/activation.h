#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernel_set.h"
#include "model/config.h"

namespace moxie {

/// A gated linear unit (arXiv:2002.05202): what stands between a feed-forward's first two
/// matrices and its last.
struct GatedActivation {
  Activation kind = Activation::kSilu;
  float limit = 0;       ///< clamped SwiGLU: gate at most, up between -limit and limit; 0: no clamp
  float alpha = 1.702f;  ///< clamped SwiGLU: steepness of the sigmoid
};

/// gate[i] = activation(gate[i]) * up[i], element by element, so any split of a row gives the
/// same values. Thread-safe.
void ApplyActivation(const KernelSet& kernels, const GatedActivation& activation,
                     std::span<float> gate, std::span<const float> up);

}  // namespace moxie
