#pragma once

#include <cstdint>
#include <vector>

namespace moxie {

/// How often each expert of each mixture layer was chosen, over the tokens that were looked at.
struct RoutingShares {
  int64_t tokens = 0;
  /// [mixture layers][experts]: tokens that went to the expert. A layer's counts sum to
  /// tokens * experts_per_token.
  std::vector<std::vector<int64_t>> chosen;

  bool empty() const { return chosen.empty(); }

  /// Share of the tokens that went to the expert, in [0, 1]; a layer's shares sum to
  /// experts_per_token.
  double Share(size_t layer, size_t expert) const {
    return tokens > 0 ? static_cast<double>(chosen[layer][expert]) / static_cast<double>(tokens)
                      : 0.0;
  }

  /// Adds another observation of the same model.
  void Add(const RoutingShares& other);
};

/// The routing of every token, as decided: for each mixture layer in order, its choices.
struct RoutingTrace {
  struct Layer {
    int64_t layer = 0;             ///< index among all of the model's layers
    std::vector<int32_t> experts;  ///< [tokens, experts_per_token], heaviest first
    std::vector<float> weights;    ///< [tokens, experts_per_token], as applied
  };
  int64_t tokens = 0;
  int64_t experts_per_token = 0;
  std::vector<Layer> layers;
};

}  // namespace moxie
