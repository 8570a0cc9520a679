#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/result.h"

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
  int64_t experts = 0;  ///< of a layer
  int64_t experts_per_token = 0;
  std::vector<Layer> layers;
};

/// A trace as one line of JSON: {"expert_count", "layers": [{"experts": [[e, ...] a token],
/// "weights": the same}]}, mixture layers in order.
std::string FormatRoutingTrace(const RoutingTrace& trace);

/// Reads such a text from an untrusted source; "weights" may be missing, and then are.
/// `name` begins the message of an error.
///
/// Errors: kInvalidInput for anything else, more than 65,536 experts, or layers of unequal shape.
Result<RoutingTrace> ParseRoutingTrace(std::string_view text, std::string_view name);

/// How a cache of experts would have served a trace.
struct CacheReplay {
  std::string policy;
  double hit_rate = 0;  ///< of what was asked for, in [0, 1]
};

/// Replays a trace, a token a step, against caches that hold `cached` experts of all layers
/// together: the one that Model::Open uses ("next use", the first), LRU, LFU, LRFU, and what no
/// cache can exceed that knows the future (Belady, IBM Systems Journal 5(2), 1966; the last).
/// `cached` must be at least the trace's experts_per_token.
std::vector<CacheReplay> ReplayRouting(const RoutingTrace& trace, int64_t cached);

}  // namespace moxie
