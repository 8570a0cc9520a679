#pragma once

#include <cstdint>
#include <span>

#include "model/config.h"
#include "moxie/result.h"

namespace moxie {

struct RouterShape {
  int64_t tokens = 0;
  int64_t experts = 0;
  int64_t chosen = 0;  ///< experts a token, 1..experts
};

/// Picks the `chosen` highest-scoring experts of each token and weights them by the
/// softmax of their logits (Mixtral, arXiv:2401.04088, section 2.1), which is the softmax over all
/// experts renormalised over the chosen. Ties go to the lower expert id, so the result does not
/// depend on the number of threads.
///
///   logits  [tokens, experts]  f32, row-major
///   ids     [tokens, chosen]   out: expert ids, best first
///   weights [tokens, chosen]   out: f32, multiples of 2^-24 of which each row sums to exactly 1,
///                              so that experts that agree give their common output unchanged
///
/// Errors: kInvalidInput if a span does not match `shape` or a logit is not finite.
/// Allocates nothing; safe to call concurrently.
Result<void> RouteTopK(RouterShape shape, std::span<const float> logits, std::span<int32_t> ids,
                       std::span<float> weights);

/// As RouteTopK, but weights are the softmax over all experts, not renormalised: OLMoE
/// (arXiv:2409.02060), Qwen2-MoE, Grok-1, and with one chosen the Switch Transformer
/// (arXiv:2101.03961, section 2.1). Rows sum to at most 1.
Result<void> RouteSoftmax(RouterShape shape, std::span<const float> logits, std::span<int32_t> ids,
                          std::span<float> weights);

/// How RouteSigmoid selects beyond the scores.
struct GroupSelection {
  int64_t groups = 1;           ///< experts fall into groups of equal size,
  int64_t groups_used = 1;      ///< of which those with the best sum of two best scores stay
  std::span<const float> bias;  ///< [experts] added to scores for selection only, or empty
  bool renormalise = true;      ///< weights of a row are divided by their sum
};

/// DeepSeek-V3's gate (arXiv:2412.19437, section 2.1.2): experts are selected by sigmoid(logit) +
/// bias within the best groups and weighted by sigmoid(logit). Ids are ordered by weight; ties go
/// to the lower group and expert id. Spans and errors as for RouteTopK.
Result<void> RouteSigmoid(RouterShape shape, const GroupSelection& selection,
                          std::span<const float> logits, std::span<int32_t> ids,
                          std::span<float> weights);

/// Routes as a model's configuration says, its scale applied to the weights.
Result<void> Route(const RouterConfig& config, std::span<const float> selection_bias,
                   int64_t tokens, std::span<const float> logits, std::span<int32_t> ids,
                   std::span<float> weights);

}  // namespace moxie
