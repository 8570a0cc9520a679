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
  double rerouting = 0;   ///< the square of a further one, from tokens that choose other experts
  int64_t layer = 0;      ///< of which the squares add up
};

/// The divergence of all together: their own add up, and of those from rerouting the squares do
/// within a layer, since it is proportional to the size of the error that reaches a router, and
/// errors that do not know of each other add up by squares.
double DivergenceOfAll(std::span<const TypeOption> options);

/// Adds to each option's divergence its share of what rerouting comes to.
void ShareRerouting(std::span<TypeOption> options);

/// Picks one option for each unit so that all together take at most `budget` bytes and diverge
/// least: starting from the smallest, the step along the units' lower convex hulls that saves most
/// divergence a byte is taken as long as one fits (Everett's Lagrange multipliers, Operations
/// Research 11, 1963). Without rerouting the divergence is above the least possible by at most what
/// the best step that did not fit would have saved, and options that another beats in both are
/// never chosen. With it, that is done again with the roots' tangents at what was chosen instead of
/// the roots, as long as that helps: tangents lie above, so what is less with them is less.
///
/// Returns the index of each unit's option; empty where not even the smallest fit. Every unit must
/// have an option.
std::vector<size_t> ChooseWithin(std::span<const std::vector<TypeOption>> units, int64_t budget);

}  // namespace moxie
