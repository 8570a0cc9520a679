#include "forward/router.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>

namespace moxie {
namespace {

constexpr int64_t kMaxExperts = 4096;

Result<void> CheckShape(RouterShape shape, std::span<const float> logits,
                        std::span<const int32_t> ids, std::span<const float> weights) {
  if (shape.tokens < 0 || shape.experts < 1 || shape.experts > kMaxExperts || shape.chosen < 1 ||
      shape.chosen > shape.experts)
    return Error{ErrorCode::kInvalidInput, "router: " + std::to_string(shape.chosen) + " of " +
                                               std::to_string(shape.experts) +
                                               " experts cannot be chosen"};
  if (std::ssize(logits) != shape.tokens * shape.experts ||
      std::ssize(ids) != shape.tokens * shape.chosen || weights.size() != ids.size())
    return Error{ErrorCode::kInvalidInput, "router: a span does not match the shape"};
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i]))
      return Error{ErrorCode::kInvalidInput,
                   "router: the logit of token " + std::to_string(i / shape.experts) +
                       " for expert " + std::to_string(i % shape.experts) + " is not finite"};
  }
  return {};
}

/// Writes the positions of the greatest scores, best first, ties to the lower position. Insertion
/// into a short sorted list: `ids` has few places.
void SelectTop(std::span<const float> scores, std::span<int32_t> ids) {
  size_t filled = 0;
  for (size_t candidate = 0; candidate < scores.size(); ++candidate) {
    const float score = scores[candidate];
    size_t place = filled;
    while (place > 0 && score > scores[static_cast<size_t>(ids[place - 1])]) --place;
    if (place == ids.size()) continue;
    filled = std::min(filled + 1, ids.size());
    for (size_t i = filled - 1; i > place; --i) ids[i] = ids[i - 1];
    ids[place] = static_cast<int32_t>(candidate);
  }
}

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// The softmax of the chosen logits, on a grid of 2^-24 with the heaviest as the remainder.
void WeighChosen(std::span<const float> row, std::span<const int32_t> ids,
                 std::span<float> weights) {
  const auto max = static_cast<double>(row[static_cast<size_t>(ids[0])]);
  double sum = 0;
  for (const int32_t id : ids)
    sum += std::exp(static_cast<double>(row[static_cast<size_t>(id)]) - max);
  double rest = 1;
  for (size_t i = 1; i < ids.size(); ++i) {
    const double share =
        std::exp(static_cast<double>(row[static_cast<size_t>(ids[i])]) - max) / sum;
    weights[i] = static_cast<float>(std::nearbyint(share * 0x1p24) * 0x1p-24);
    rest -= static_cast<double>(weights[i]);
  }
  weights[0] = static_cast<float>(rest);
}

/// Marks which of the experts lie in the best groups: `allowed` scores stay, others become -inf.
void KeepBestGroups(const GroupSelection& selection, std::span<float> scores) {
  const size_t groups = static_cast<size_t>(selection.groups);
  const size_t size = scores.size() / groups;
  std::array<float, kMaxExperts> group_scores;
  std::array<int32_t, kMaxExperts> best;
  for (size_t g = 0; g < groups; ++g) {
    float first = -std::numeric_limits<float>::infinity(), second = first;
    for (const float score : scores.subspan(g * size, size)) {
      if (score > first) {
        second = first;
        first = score;
      } else if (score > second) {
        second = score;
      }
    }
    group_scores[g] = size > 1 ? first + second : first;
  }
  const size_t used = static_cast<size_t>(selection.groups_used);
  SelectTop(std::span(group_scores).first(groups), std::span(best).first(used));
  for (size_t g = 0; g < groups; ++g) {
    if (std::ranges::find(best.begin(), best.begin() + static_cast<int64_t>(used),
                          static_cast<int32_t>(g)) != best.begin() + static_cast<int64_t>(used))
      continue;
    std::ranges::fill(scores.subspan(g * size, size), -std::numeric_limits<float>::infinity());
  }
}

}  // namespace

Result<void> RouteTopK(RouterShape shape, std::span<const float> logits, std::span<int32_t> ids,
                       std::span<float> weights) {
  MOXIE_TRY(CheckShape(shape, logits, ids, weights));
  const size_t experts = static_cast<size_t>(shape.experts);
  const size_t chosen = static_cast<size_t>(shape.chosen);
  for (size_t t = 0; t < static_cast<size_t>(shape.tokens); ++t) {
    const auto row = logits.subspan(t * experts, experts);
    SelectTop(row, ids.subspan(t * chosen, chosen));
    WeighChosen(row, ids.subspan(t * chosen, chosen), weights.subspan(t * chosen, chosen));
  }
  return {};
}

Result<void> RouteSoftmax(RouterShape shape, std::span<const float> logits, std::span<int32_t> ids,
                          std::span<float> weights) {
  MOXIE_TRY(CheckShape(shape, logits, ids, weights));
  const size_t experts = static_cast<size_t>(shape.experts);
  const size_t chosen = static_cast<size_t>(shape.chosen);
  for (size_t t = 0; t < static_cast<size_t>(shape.tokens); ++t) {
    const auto row = logits.subspan(t * experts, experts);
    const auto row_ids = ids.subspan(t * chosen, chosen);
    SelectTop(row, row_ids);
    const auto max = static_cast<double>(row[static_cast<size_t>(row_ids[0])]);
    double sum = 0;
    for (const float logit : row) sum += std::exp(static_cast<double>(logit) - max);
    for (size_t i = 0; i < chosen; ++i) {
      const auto logit = static_cast<double>(row[static_cast<size_t>(row_ids[i])]);
      weights[t * chosen + i] = static_cast<float>(std::exp(logit - max) / sum);
    }
  }
  return {};
}

Result<void> RouteSigmoid(RouterShape shape, const GroupSelection& selection,
                          std::span<const float> logits, std::span<int32_t> ids,
                          std::span<float> weights) {
  MOXIE_TRY(CheckShape(shape, logits, ids, weights));
  const size_t experts = static_cast<size_t>(shape.experts);
  const size_t chosen = static_cast<size_t>(shape.chosen);
  if (selection.groups < 1 || shape.experts % selection.groups != 0 || selection.groups_used < 1 ||
      selection.groups_used > selection.groups ||
      shape.chosen > shape.experts / selection.groups * selection.groups_used ||
      (!selection.bias.empty() && selection.bias.size() != experts))
    return Error{ErrorCode::kInvalidInput, "router: the groups do not match the shape"};
  std::array<float, kMaxExperts> storage;
  const auto scores = std::span(storage).first(experts);
  for (size_t t = 0; t < static_cast<size_t>(shape.tokens); ++t) {
    const auto row = logits.subspan(t * experts, experts);
    const auto row_ids = ids.subspan(t * chosen, chosen);
    for (size_t e = 0; e < experts; ++e) {
      scores[e] = static_cast<float>(Sigmoid(static_cast<double>(row[e])));
      if (!selection.bias.empty()) scores[e] += selection.bias[e];
    }
    KeepBestGroups(selection, scores);
    SelectTop(scores, row_ids);
    // The bias must not decide the order of use, so the chosen are put in order of their logits.
    std::ranges::sort(row_ids, [&](int32_t a, int32_t b) {
      const float x = row[static_cast<size_t>(a)], y = row[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    });
    double sum = 0;
    for (const int32_t id : row_ids)
      sum += Sigmoid(static_cast<double>(row[static_cast<size_t>(id)]));
    const double divisor = selection.renormalise ? sum + 1e-20 : 1;
    for (size_t i = 0; i < chosen; ++i) {
      const double score = Sigmoid(static_cast<double>(row[static_cast<size_t>(row_ids[i])]));
      weights[t * chosen + i] = static_cast<float>(score / divisor);
    }
  }
  return {};
}

Result<void> Route(const RouterConfig& config, std::span<const float> selection_bias,
                   int64_t tokens, std::span<const float> logits, std::span<int32_t> ids,
                   std::span<float> weights) {
  const RouterShape shape{.tokens = tokens, .experts = config.experts, .chosen = config.used};
  switch (config.gate) {
    case GateKind::kTopKThenSoftmax:
      MOXIE_TRY(RouteTopK(shape, logits, ids, weights));
      break;
    case GateKind::kSoftmaxThenTopK:
      MOXIE_TRY(config.renormalise ? RouteTopK(shape, logits, ids, weights)
                                   : RouteSoftmax(shape, logits, ids, weights));
      break;
    case GateKind::kSigmoid:
      MOXIE_TRY(RouteSigmoid(shape,
                             {.groups = config.groups,
                              .groups_used = config.groups_used,
                              .bias = selection_bias,
                              .renormalise = config.renormalise},
                             logits, ids, weights));
      break;
  }
  if (config.scale != 1.0) {
    for (float& weight : weights)
      weight = static_cast<float>(static_cast<double>(weight) * config.scale);
  }
  return {};
}

}  // namespace moxie
