#include "engine/routing_recorder.h"

#include <algorithm>

namespace moxie {

void RoutingShares::Add(const RoutingShares& other) {
  if (other.chosen.empty()) return;
  if (chosen.empty()) {
    *this = other;
    return;
  }
  MOXIE_CHECK(chosen.size() == other.chosen.size());
  tokens += other.tokens;
  for (size_t layer = 0; layer < chosen.size(); ++layer) {
    for (size_t e = 0; e < chosen[layer].size(); ++e) chosen[layer][e] += other.chosen[layer][e];
  }
}

std::vector<int64_t> MixtureLayerIndex(const ModelConfig& config) {
  std::vector<int64_t> index;
  int64_t next = 0;
  for (const LayerConfig& layer : config.layers) index.push_back(layer.sparse ? next++ : -1);
  return index;
}

RoutingCounter::RoutingCounter(const ModelConfig& config)
    : mixture_index_(MixtureLayerIndex(config)),
      mixture_layers_(std::count_if(config.layers.begin(), config.layers.end(),
                                    [](const LayerConfig& layer) { return layer.sparse; })),
      experts_(config.router.experts),
      used_(config.router.used) {}

void RoutingCounter::Prepare(RoutingShares& shares, int64_t tokens) const {
  if (shares.chosen.empty())
    shares.chosen.assign(static_cast<size_t>(mixture_layers_),
                         std::vector<int64_t>(static_cast<size_t>(experts_)));
  shares.tokens += tokens;
}

void RoutingCounter::AddTokens(const Owner& owner, int64_t tokens) {
  segments_.push_back({owner, tokens});
  if (owner.shares != nullptr) Prepare(*owner.shares, tokens);
  if (owner.last == nullptr) return;
  owner.last->experts.resize(static_cast<size_t>(mixture_layers_));
  owner.last->weights.resize(static_cast<size_t>(mixture_layers_));
}

void RoutingCounter::Count(RoutingShares& shares, size_t layer,
                           std::span<const int32_t> ids) const {
  for (const int32_t expert : ids) ++shares.chosen[layer][static_cast<size_t>(expert)];
}

void RoutingCounter::OnRouting(int64_t layer, std::span<const float> logits,
                               std::span<const int32_t> ids, std::span<const float> weights) {
  const auto index = static_cast<size_t>(mixture_index_[static_cast<size_t>(layer)]);
  {
    const std::lock_guard lock(mutex_);
    Prepare(total_, index == 0 ? std::ssize(ids) / used_ : 0);
    Count(total_, index, ids);
  }
  const auto used = static_cast<size_t>(used_);
  size_t next = 0;
  for (const auto& [owner, tokens] : segments_) {
    const auto choices = static_cast<size_t>(tokens) * used;
    const auto own_ids = ids.subspan(next, choices);
    const auto own_weights = weights.subspan(next, choices);
    next += choices;
    if (owner.shares != nullptr) Count(*owner.shares, index, own_ids);
    if (owner.tracer != nullptr) owner.tracer->OnRouting(layer, logits, own_ids, own_weights);
    if (owner.last == nullptr) continue;
    const auto last_ids = own_ids.last(used);
    const auto last_weights = own_weights.last(used);
    owner.last->experts[index].assign(last_ids.begin(), last_ids.end());
    owner.last->weights[index].assign(last_weights.begin(), last_weights.end());
  }
}

RoutingShares RoutingCounter::Total() const {
  const std::lock_guard lock(mutex_);
  return total_;
}

RoutingTracer::RoutingTracer(const ModelConfig& config, RoutingTrace* trace)
    : mixture_index_(MixtureLayerIndex(config)), trace_(trace) {
  if (trace == nullptr) return;
  *trace = {};
  trace->experts = config.router.experts;
  trace->experts_per_token = config.router.used;
  for (size_t layer = 0; layer < config.layers.size(); ++layer) {
    if (config.layers[layer].sparse)
      trace->layers.push_back({.layer = static_cast<int64_t>(layer), .experts = {}, .weights = {}});
  }
}

void RoutingTracer::OnRouting(int64_t layer, std::span<const float> /*logits*/,
                              std::span<const int32_t> ids, std::span<const float> weights) {
  const int64_t index = mixture_index_[static_cast<size_t>(layer)];
  RoutingTrace::Layer& out = trace_->layers[static_cast<size_t>(index)];
  out.experts.insert(out.experts.end(), ids.begin(), ids.end());
  out.weights.insert(out.weights.end(), weights.begin(), weights.end());
  if (index == 0) trace_->tokens += static_cast<int64_t>(ids.size()) / trace_->experts_per_token;
}

}  // namespace moxie
