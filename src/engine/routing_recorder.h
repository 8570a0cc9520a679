#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "forward/decoder.h"
#include "model/config.h"
#include "moxie/generate.h"
#include "moxie/routing.h"

namespace moxie {

/// Index of each layer among the mixture layers, -1 for dense ones.
std::vector<int64_t> MixtureLayerIndex(const ModelConfig& config);

/// Writes down the routing of every token of one sequence.
class RoutingTracer final : public RoutingObserver {
 public:
  /// `trace` may be null: then OnRouting must not be called.
  RoutingTracer(const ModelConfig& config, RoutingTrace* trace);

  void OnRouting(int64_t layer, std::span<const float> logits, std::span<const int32_t> ids,
                 std::span<const float> weights) override;

 private:
  std::vector<int64_t> mixture_index_;
  RoutingTrace* trace_;
};

/// Counts the experts that each token of a batch goes to: for all tokens together, and separately
/// for each of several owners.
class RoutingCounter final : public RoutingObserver {
 public:
  explicit RoutingCounter(const ModelConfig& config);

  /// Who looks at some tokens: null for nobody.
  struct Owner {
    RoutingShares* shares = nullptr;
    RoutingTracer* tracer = nullptr;
    TokenRouting* last = nullptr;  ///< the last token's
  };
  /// Says to whom the next `tokens` tokens of the coming forward pass belong.
  void AddTokens(const Owner& owner, int64_t tokens);
  /// Forgets what AddTokens said.
  void Clear() { segments_.clear(); }
  /// Of every token so far. From any thread.
  RoutingShares Total() const;

  void OnRouting(int64_t layer, std::span<const float> logits, std::span<const int32_t> ids,
                 std::span<const float> weights) override;

 private:
  struct Segment {
    Owner owner;
    int64_t tokens;
  };
  void Count(RoutingShares& shares, size_t layer, std::span<const int32_t> ids) const;
  void Prepare(RoutingShares& shares, int64_t tokens) const;

  std::vector<int64_t> mixture_index_;
  int64_t mixture_layers_ = 0;
  int64_t experts_ = 0;
  int64_t used_ = 0;
  std::vector<Segment> segments_;
  mutable std::mutex mutex_;  // Guards total_.
  RoutingShares total_;
};

}  // namespace moxie
