#include "forward/router.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace moxie {
namespace {

std::vector<float> RandomLogits(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

/// Ids by score, best first, ties to the lower: by sorting all of them.
std::vector<int32_t> Sorted(std::span<const double> scores) {
  std::vector<int32_t> ids(scores.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::ranges::stable_sort(ids, [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  return ids;
}

std::vector<double> Softmax(std::span<const float> logits) {
  std::vector<double> p;
  double sum = 0;
  for (const float logit : logits) sum += p.emplace_back(std::exp(static_cast<double>(logit)));
  for (double& value : p) value /= sum;
  return p;
}

TEST(Router, TopKIsTheRenormalisedSoftmaxAndSumsToOne) {
  constexpr size_t kTokens = 200, kExperts = 8;
  for (const size_t chosen : {1u, 2u, 3u, 8u}) {
    const auto logits = RandomLogits(kTokens * kExperts, 3);
    std::vector<int32_t> ids(kTokens * chosen);
    std::vector<float> weights(ids.size());
    const RouterShape shape{kTokens, kExperts, static_cast<int64_t>(chosen)};
    ASSERT_TRUE(RouteTopK(shape, logits, ids, weights));
    for (size_t t = 0; t < kTokens; ++t) {
      const auto p = Softmax(std::span(logits).subspan(t * kExperts, kExperts));
      const auto best = Sorted(p);
      double kept = 0, sum = 0;
      for (size_t i = 0; i < chosen; ++i) kept += p[static_cast<size_t>(best[i])];
      for (size_t i = 0; i < chosen; ++i) {
        ASSERT_EQ(ids[t * chosen + i], best[i]);
        EXPECT_NEAR(static_cast<double>(weights[t * chosen + i]),
                    p[static_cast<size_t>(best[i])] / kept, 0x1p-22);
        sum += static_cast<double>(weights[t * chosen + i]);
      }
      EXPECT_EQ(sum, 1.0);
    }
  }
}

TEST(Router, SoftmaxWeightsAreNotRenormalised) {
  constexpr size_t kTokens = 50, kExperts = 6, kChosen = 2;
  const auto logits = RandomLogits(kTokens * kExperts, 4);
  std::vector<int32_t> ids(kTokens * kChosen);
  std::vector<float> weights(ids.size());
  ASSERT_TRUE(RouteSoftmax({kTokens, kExperts, kChosen}, logits, ids, weights));
  for (size_t t = 0; t < kTokens; ++t) {
    const auto p = Softmax(std::span(logits).subspan(t * kExperts, kExperts));
    const auto best = Sorted(p);
    for (size_t i = 0; i < kChosen; ++i) {
      ASSERT_EQ(ids[t * kChosen + i], best[i]);
      EXPECT_NEAR(static_cast<double>(weights[t * kChosen + i]), p[static_cast<size_t>(best[i])],
                  1e-7);
    }
  }
}

// Written out from the paper's equations 12 to 16 and the published gate, with sorts.
TEST(Router, SigmoidSelectsWithinTheBestGroups) {
  constexpr size_t kTokens = 200, kExperts = 12, kGroups = 4, kUsed = 2, kChosen = 4;
  const auto logits = RandomLogits(kTokens * kExperts, 5);
  const auto bias = RandomLogits(kExperts, 6);
  std::vector<int32_t> ids(kTokens * kChosen);
  std::vector<float> weights(ids.size());
  const GroupSelection selection{.groups = kGroups, .groups_used = kUsed, .bias = bias};
  ASSERT_TRUE(RouteSigmoid({kTokens, kExperts, kChosen}, selection, logits, ids, weights));
  for (size_t t = 0; t < kTokens; ++t) {
    std::vector<double> score(kExperts), biased(kExperts), groups(kGroups);
    for (size_t e = 0; e < kExperts; ++e) {
      score[e] = 1 / (1 + std::exp(-static_cast<double>(logits[t * kExperts + e])));
      biased[e] = score[e] + static_cast<double>(bias[e]);
    }
    for (size_t g = 0; g < kGroups; ++g) {
      const auto group = std::span(biased).subspan(g * 3, 3);
      const auto order = Sorted(group);
      groups[g] = group[static_cast<size_t>(order[0])] + group[static_cast<size_t>(order[1])];
    }
    const auto best = Sorted(groups);
    for (size_t e = 0; e < kExperts; ++e) {
      const auto group = static_cast<int32_t>(e / 3);
      if (group != best[0] && group != best[1]) biased[e] = -1e30;
    }
    auto want = Sorted(biased);
    want.resize(kChosen);
    std::ranges::sort(want, [&](int32_t a, int32_t b) {
      return score[static_cast<size_t>(a)] > score[static_cast<size_t>(b)];
    });
    double sum = 0;
    for (const int32_t id : want) sum += score[static_cast<size_t>(id)];
    for (size_t i = 0; i < kChosen; ++i) {
      ASSERT_EQ(ids[t * kChosen + i], want[i]) << "token " << t;
      EXPECT_NEAR(static_cast<double>(weights[t * kChosen + i]),
                  score[static_cast<size_t>(want[i])] / sum, 1e-7);
    }
  }
}

TEST(Router, TiesGoToTheLowerId) {
  const std::vector<float> logits = {1, 3, 3, 3, 0};
  std::vector<int32_t> ids(2);
  std::vector<float> weights(2);
  ASSERT_TRUE(RouteTopK({1, 5, 2}, logits, ids, weights));
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(weights, (std::vector<float>{0.5f, 0.5f}));
  ASSERT_TRUE(RouteSigmoid({1, 5, 2}, {}, logits, ids, weights));
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 2}));
}

TEST(Router, RefusesWhatItCannotRank) {
  std::vector<float> logits = {1, 2, std::numeric_limits<float>::quiet_NaN()};
  std::vector<int32_t> ids(1);
  std::vector<float> weights(1);
  const auto result = RouteTopK({1, 3, 1}, logits, ids, weights);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "router: the logit of token 0 for expert 2 is not finite");
  EXPECT_FALSE(RouteSoftmax({1, 4, 1}, logits, ids, weights));  // Three logits for four experts.
  EXPECT_FALSE(RouteTopK({1, 3, 4}, logits, ids, weights));
}

TEST(Router, ConfigurationScalesWeights) {
  const std::vector<float> logits = {0, 0, -20};
  std::vector<int32_t> ids(2);
  std::vector<float> weights(2);
  const RouterConfig config{
      .experts = 3, .used = 2, .gate = GateKind::kSigmoid, .renormalise = true, .scale = 2.5};
  ASSERT_TRUE(Route(config, {}, 1, logits, ids, weights));
  EXPECT_FLOAT_EQ(weights[0], 1.25f);
  EXPECT_FLOAT_EQ(weights[1], 1.25f);
}

}  // namespace
}  // namespace moxie
