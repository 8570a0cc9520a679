#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/dtype.h"

namespace moxie {

/// One way to store a tensor, and what it costs.
struct TypeOption {
  DType type = DType::kF16;
  int64_t bytes = 0;
  double divergence = 0;  ///< expected, in nats a token
};

/// Picks one option for each unit so that all together take at most `budget` bytes and diverge
/// least: starting from the smallest, the step along the units' lower convex hulls that saves most
/// divergence a byte is taken as long as one fits (Everett's Lagrange multipliers, Operations
/// Research 11, 1963). Its divergence is above the least possible by at most what the best step
/// that did not fit would have saved. Options that another beats in both are never chosen.
///
/// Returns the index of each unit's option; empty where not even the smallest fit. Every unit must
/// have an option.
std::vector<size_t> ChooseWithin(std::span<const std::vector<TypeOption>> units, int64_t budget);

}  // namespace moxie
