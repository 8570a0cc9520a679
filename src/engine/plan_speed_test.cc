#include "engine/plan_speed.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "model/catalogue.h"

namespace moxie {
namespace {

/// Mixtral 8x7B with a quarter of its experts in memory.
ModelPlan QuarterCached() {
  ModelPlan plan;
  plan.options.batch_tokens = 64;
  plan.streamed = true;
  plan.experts = 256;
  plan.expert_slots = 64;
  plan.hit_rate = 0.25;
  plan.expert_bytes = 100'000'000;
  plan.experts_per_token = 64;
  plan.bytes_per_token = 7'000'000'000;
  plan.need.weights = 2'000'000'000;
  plan.least_bytes = 3'000'000'000;
  plan.all_bytes = 28'600'000'000;
  return plan;
}

constexpr ProbedSpeeds kProbed{.decode = {.experts = 0.3, .head = 0.01, .rest = 0.09},
                               .prefill = {.experts = 0.02, .head = 0.001, .rest = 0.009}};

MachineSpeeds Machine() {
  MachineSpeeds machine;
  machine.memory_bytes_per_s = 20e9;
  machine.disk_bytes_per_s = 2e9;
  return machine;
}

TEST(PlanSpeed, ReadsMissingExpertsWhileOthersCompute) {
  const ModelConfig config = FindInCatalogue("mixtral-8x7b")->config;
  const SpeedPlan speed = PlanSpeed(config, QuarterCached(), kProbed, Machine(), 512);
  // 32 layers of 2 experts, three quarters of them missing, 0.05 s each: longer than computing.
  EXPECT_EQ(speed.bytes_from_disk, 48 * 100'000'000LL);
  EXPECT_NEAR(speed.decode_tokens_per_s, 1 / (0.1 + 2.4), 1e-9);
  EXPECT_NEAR(speed.load_s, 1, 1e-9);
  EXPECT_NE(speed.limit.find("disk"), std::string::npos);
}

TEST(PlanSpeed, ABatchReadsItsDistinctExpertsOnce) {
  const ModelConfig config = FindInCatalogue("qwen3-30b-a3b")->config;
  ModelPlan plan = QuarterCached();
  plan.pass_tokens = 12;
  const SpeedPlan speed = PlanSpeed(config, plan, kProbed, Machine(), 512);
  // Distinct experts of 12 tokens that choose 8 of 128 each, by trial.
  std::mt19937 numbers(1);
  int64_t distinct = 0;
  constexpr int kTrials = 4000;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::set<int> all;
    for (int token = 0; token < 12; ++token) {
      std::set<int> chosen;
      while (chosen.size() < 8) chosen.insert(static_cast<int>(numbers() % 128));
      all.insert(chosen.begin(), chosen.end());
    }
    distinct += static_cast<int64_t>(all.size());
  }
  const double bytes = 48 * 0.75 * 1e8 * static_cast<double>(distinct) / kTrials;
  const double expected = 0.01 + bytes / 2e9 / 12;
  EXPECT_NEAR(1 / speed.prefill_tokens_per_s, expected, 0.01 * expected);
}

TEST(PlanSpeed, MemoryForASpeedIsTheLeastThatReachesIt) {
  const ModelConfig config = FindInCatalogue("mixtral-8x7b")->config;
  ModelPlan plan = QuarterCached();
  plan.speed = PlanSpeed(config, plan, kProbed, Machine(), 512);
  const auto rate = [&](int64_t slots) {
    ModelPlan other = plan;
    other.hit_rate = static_cast<double>(slots) / 256;
    return PlanSpeed(config, other, kProbed, Machine(), 512).decode_tokens_per_s;
  };
  for (const double wanted : {0.31, 0.5, 1.0, 2.0, 2.4}) {
    const auto bytes = MemoryForSpeed(plan, Machine(), wanted);
    ASSERT_TRUE(bytes.has_value()) << wanted;
    const int64_t slots = (*bytes - plan.least_bytes) / plan.expert_bytes;
    EXPECT_GE(rate(slots), wanted * (1 - 1e-9));
    if (slots > 0) {
      EXPECT_LT(rate(slots - 1), wanted);
    }
  }
  EXPECT_FALSE(MemoryForSpeed(plan, Machine(), 2.6)) << "in memory it decodes 2.5 tokens a second";
}

}  // namespace
}  // namespace moxie
