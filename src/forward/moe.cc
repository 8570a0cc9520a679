#include "forward/moe.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "forward/decoder.h"
#include "forward/router.h"

namespace moxie {
namespace {

size_t Size(int64_t n) { return static_cast<size_t>(n); }

void AddTypes(const FeedForwardWeights& weights, WeightTypes& input, WeightTypes& down) {
  input.Add(weights.gate.matrix);
  input.Add(weights.up.matrix);
  down.Add(weights.down.matrix);
}

GatedActivation ActivationOf(const ModelConfig& config) {
  return {.kind = config.activation,
          .limit = static_cast<float>(config.activation_limit),
          .alpha = static_cast<float>(config.activation_alpha)};
}

}  // namespace

FeedForwardLayers::FeedForwardLayers(const ModelConfig& config, const ModelWeights& weights,
                                     ExpertStore& experts, AdapterTerms& adapters,
                                     const KernelSet& kernels, ThreadPool& threads,
                                     const Most& most)
    : config_(config),
      weights_(weights),
      store_(experts),
      adapters_(adapters),
      kernels_(kernels),
      threads_(threads),
      block_tokens_(most.block),
      feed_forward_(ActivationOf(config), config.dim, adapters, kernels, threads),
      input_(kernels),
      router_(1),
      all_tokens_(Size(most.tokens)) {
  std::iota(all_tokens_.begin(), all_tokens_.end(), 0);
  Needs needs = NeedsOf(config, weights, kernels, most.block);
  for (const WeightTypes& types : needs.input_types) input_.Reserve(most.block, config.dim, types);
  input_types_ = std::move(needs.input_types);
  feed_forward_.Reserve(needs.room);
  tasks_.reserve(Size(config.router.experts + 1));
  if (!config.is_mixture()) return;
  const int64_t slots = most.tokens * config.router.used;
  logits_.resize(Size(most.tokens * config.router.experts));
  ids_.resize(Size(slots));
  choice_weights_.resize(Size(slots));
  first_slot_.resize(Size(config.router.experts + 1));
  slot_tokens_.resize(Size(slots));
  slots_.resize(Size(slots));
  chosen_.reserve(Size(config.router.experts));
  slot_out_.resize(Size(slots * config.dim));
  if (config.shared_expert != SharedExpert::kNone)
    shared_out_.resize(Size(most.tokens * config.dim));
}

FeedForwardLayers::Needs FeedForwardLayers::NeedsOf(const ModelConfig& config,
                                                    const ModelWeights& weights,
                                                    const KernelSet& kernels,
                                                    int64_t block_tokens) {
  Needs needs;
  for (const LayerWeights& layer : weights.layers) {
    std::array<FeedForward::Demand, 3> demands;
    auto& [dense, experts, shared] = demands;
    WeightTypes types;
    const auto demand = [&](const FeedForwardWeights& ffn, FeedForward::Demand& kind) {
      if (ffn.up.matrix.empty()) return;
      AddTypes(ffn, kind.input_types, kind.down_types);
      kind.ffn = std::max(kind.ffn, ffn.up.matrix.rows);
      for (const DType type : kind.input_types.types()) types.Add(type);
    };
    demand(layer.dense, dense);
    for (const FeedForwardWeights& expert : layer.experts) demand(expert, experts);
    demand(layer.shared, shared);
    types.Add(layer.router);
    dense.tasks = shared.tasks = 1;
    dense.rows = shared.rows = block_tokens;
    experts.tasks = std::ssize(layer.experts);
    experts.rows = block_tokens * config.router.used;
    needs.room.Include(demands, kernels, config.dim);
    needs.input_types.push_back(std::move(types));
  }
  return needs;
}

int64_t FeedForwardLayers::BytesFor(const ModelConfig& config, const ModelWeights& weights,
                                    const KernelSet& kernels, const Most& most) {
  const Needs needs = NeedsOf(config, weights, kernels, most.block);
  int64_t input = 0;
  for (const WeightTypes& types : needs.input_types)
    input = std::max(input, ActivationRows::BytesFor(kernels, most.block, config.dim, types));
  const int64_t used = config.router.used;  // 0 where there are no experts.
  const int64_t shared = config.shared_expert != SharedExpert::kNone ? config.dim : 0;
  // Numbers of 4 bytes a token: logits, four of each choice, outputs.
  const int64_t a_token = 1 + config.router.experts + used * (4 + config.dim) + shared;
  return needs.room.bytes() + input + 4 * most.tokens * a_token;
}

void FeedForwardLayers::ForEachBlock(int64_t tokens,
                                     FunctionRef<void(int64_t first, int64_t count)> visit) const {
  for (int64_t first = 0; first < tokens; first += block_tokens_)
    visit(first, std::min(block_tokens_, tokens - first));
}

/// Brings a block's rows into the forms that the layer's weights want, if they are not already.
void FeedForwardLayers::Convert(int64_t layer, int64_t first, int64_t count, const float* x) {
  if (converted_first_ == first) return;
  input_.Begin(count, config_.dim, input_types_[Size(layer)], first);
  input_.Convert(threads_, [&](int64_t t) { return x + t * config_.dim; });
  converted_first_ = first;
}

Result<void> FeedForwardLayers::Run(int64_t layer, int64_t tokens, const float* x,
                                    const ForwardObservers& observers, float* out) {
  converted_first_ = -1;
  if (config_.layers[Size(layer)].sparse) return RunMixture(layer, tokens, x, observers, out);
  const ScopedSpan span(observers.profile, Part::kDense, layer);
  RunDense(layer, tokens, x, observers.inputs, out);
  return {};
}

void FeedForwardLayers::RunDense(int64_t layer, int64_t tokens, const float* x,
                                 InputObserver* inputs, float* out) {
  ForEachBlock(tokens, [&](int64_t first, int64_t count) {
    Convert(layer, first, count, x);
    tasks_.clear();
    tasks_.push_back({.weights = ViewOf(weights_.layers[Size(layer)].dense),
                      .tokens = std::span(all_tokens_).subspan(Size(first), Size(count)),
                      .out = out + first * config_.dim,
                      .pairs = &adapters_.layer(layer).dense,
                      .place = {.layer = layer}});
    feed_forward_.RunGates(tasks_, input_, x, inputs);
    feed_forward_.RunDowns(tasks_);
  });
}

Result<void> FeedForwardLayers::RunMixture(int64_t layer, int64_t tokens, const float* x,
                                           const ForwardObservers& observers, float* out) {
  {
    const ScopedSpan span(observers.profile, Part::kRouter, layer);
    MOXIE_TRY(Choose(layer, tokens, x, observers.routing));
    GroupByExpert(tokens);
  }
  const ScopedSpan span(observers.profile, Part::kExperts, layer);
  MOXIE_TRY(RunExperts(layer, tokens, x, observers.inputs));
  ForEachToken(threads_, tokens, [&](int64_t t) {
    Combine(weights_.layers[Size(layer)], t, x + t * config_.dim, out + t * config_.dim);
  });
  return {};
}

Result<void> FeedForwardLayers::Choose(int64_t layer, int64_t tokens, const float* x,
                                       RoutingObserver* observer) {
  const LayerWeights& weights = weights_.layers[Size(layer)];
  ForEachBlock(tokens, [&](int64_t first, int64_t count) {
    Convert(layer, first, count, x);
    router_.Clear();
    adapters_.Clear();
    router_.Add({.weights = &weights.router,
                 .activations = input_.For(weights.router.type),
                 .tokens = count,
                 .out = logits_.data() + first * config_.router.experts,
                 .out_stride = config_.router.experts,
                 .bias = weights.router_bias,
                 .terms = adapters_.Reduce(adapters_.layer(layer).router, count, [&](int64_t t) {
                   return x + (first + t) * config_.dim;
                 })});
    router_.Run(kernels_, threads_);
  });
  const auto logits = std::span(logits_).first(Size(tokens * config_.router.experts));
  const auto ids = std::span(ids_).first(Size(tokens * config_.router.used));
  const auto choice_weights = std::span(choice_weights_).first(ids.size());
  MOXIE_TRY(
      Route(config_.router, weights.router_selection_bias, tokens, logits, ids, choice_weights));
  if (observer != nullptr) observer->OnRouting(layer, logits, ids, choice_weights);
  return {};
}

void FeedForwardLayers::GroupByExpert(int64_t tokens) {
  const size_t choices = Size(tokens * config_.router.used);
  std::ranges::fill(first_slot_, 0);
  for (size_t c = 0; c < choices; ++c) ++first_slot_[Size(ids_[c]) + 1];
  chosen_.clear();
  for (size_t e = 0; e + 1 < first_slot_.size(); ++e) {
    if (first_slot_[e + 1] > 0) chosen_.push_back(static_cast<int32_t>(e));
    first_slot_[e + 1] += first_slot_[e];
  }
  // Each expert's first slot moves on as it takes tokens, up to the next expert's: the last pass
  // puts it back.
  for (size_t c = 0; c < choices; ++c) {
    slots_[c] = first_slot_[Size(ids_[c])]++;
    slot_tokens_[Size(slots_[c])] = static_cast<int32_t>(c / Size(config_.router.used));
  }
  for (size_t e = first_slot_.size() - 1; e > 0; --e) first_slot_[e] = first_slot_[e - 1];
  first_slot_[0] = 0;
}

Result<void> FeedForwardLayers::RunExperts(int64_t layer, int64_t tokens, const float* x,
                                           InputObserver* inputs) {
  const LayerWeights& weights = weights_.layers[Size(layer)];
  bool shared = !weights.shared.gate.matrix.empty();
  MOXIE_TRY(store_.Begin(layer, chosen_));
  for (;;) {
    MOXIE_TRY_ASSIGN(const auto ready, store_.Next());
    if (ready.empty()) return {};
    Result<void> complete;
    ForEachBlock(tokens, [&](int64_t first, int64_t count) {
      if (!complete) return;
      tasks_.clear();
      if (shared)
        tasks_.push_back({.weights = ViewOf(weights.shared),
                          .tokens = std::span(all_tokens_).subspan(Size(first), Size(count)),
                          .out = shared_out_.data() + first * config_.dim,
                          .pairs = &adapters_.layer(layer).shared,
                          .place = {.layer = layer, .expert = kSharedExpert}});
      for (const ExpertStore::Ready& expert : ready) AddTask(layer, expert, first, count);
      if (!tasks_.empty()) {
        Convert(layer, first, count, x);
        feed_forward_.RunGates(tasks_, input_, x, inputs);
        complete = store_.Complete();
        if (!complete) return;
        feed_forward_.RunDowns(tasks_);
      }
      store_.GoOnReading();
    });
    MOXIE_TRY(complete);
    shared = false;
  }
}

/// An expert's tokens in a block, if there are any.
void FeedForwardLayers::AddTask(int64_t layer, const ExpertStore::Ready& expert, int64_t first,
                                int64_t count) {
  const auto all = slot_tokens_.begin();
  const auto begin = all + first_slot_[Size(expert.expert)];
  const auto end = all + first_slot_[Size(expert.expert) + 1];
  const auto from = std::lower_bound(begin, end, first);
  const auto to = std::lower_bound(from, end, first + count);
  if (from == to) return;
  const LayerPairs& pairs = adapters_.layer(layer);
  tasks_.push_back({.weights = expert.view,
                    .tokens = std::span(from, to),
                    .out = slot_out_.data() + (from - all) * config_.dim,
                    .pairs = pairs.experts.empty() ? nullptr : &pairs.experts[Size(expert.expert)],
                    .place = {.layer = layer, .expert = expert.expert}});
}

void FeedForwardLayers::Combine(const LayerWeights& layer, int64_t token, const float* x,
                                float* out) const {
  constexpr int64_t kBlock = 256;
  double shared_weight = 1;
  if (!layer.shared_gate.empty()) {
    double logit = 0;
    for (int64_t d = 0; d < config_.dim; ++d)
      logit += static_cast<double>(layer.shared_gate[Size(d)]) * static_cast<double>(x[d]);
    shared_weight = 1 / (1 + std::exp(-logit));
  }
  for (int64_t begin = 0; begin < config_.dim; begin += kBlock) {
    const int64_t count = std::min(kBlock, config_.dim - begin);
    double sums[kBlock] = {};
    const auto add = [&](double weight, const float* row) {
      for (int64_t d = 0; d < count; ++d) sums[d] += weight * static_cast<double>(row[begin + d]);
    };
    for (int64_t j = 0; j < config_.router.used; ++j) {
      const size_t choice = Size(token * config_.router.used + j);
      add(static_cast<double>(choice_weights_[choice]),
          slot_out_.data() + slots_[choice] * config_.dim);
    }
    if (!shared_out_.empty() && !layer.shared.gate.matrix.empty())
      add(shared_weight, shared_out_.data() + token * config_.dim);
    for (int64_t d = 0; d < count; ++d) out[begin + d] = static_cast<float>(sums[d]);
  }
}

}  // namespace moxie
