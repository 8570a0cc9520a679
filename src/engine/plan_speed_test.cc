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
  plan.mixture_layers = 32;
  plan.experts_used = 2;
  plan.bytes_per_token = 7'000'000'000;
  plan.need.weights = 2'000'000'000;
  plan.least_bytes = 3'000'000'000;
  plan.all_bytes = 28'600'000'000;
  return plan;
}

constexpr ProbedSpeeds kProbed{
    .decode = {.attention = 0.05, .experts = 0.3, .head = 0.01, .rest = 0.03, .sampling = 0.01},
    .prefill = {.attention = 0.005, .experts = 0.02, .head = 0.001, .rest = 0.004},
    .pack_experts_s = 5,
    .pack_others_s = 0.5};

constexpr PromptWork kPrompt{.tokens = 512, .distinct_experts = 8};

MachineSpeeds Machine() {
  MachineSpeeds machine;
  machine.memory_bytes_per_s = 20e9;
  machine.new_memory_bytes_per_s = 10e9;
  machine.disk_bytes_per_s = 2e9;
  machine.cached_bytes_per_s = 5e9;
  return machine;
}

TEST(PlanSpeed, ReadsMissingExpertsWhileOthersCompute) {
  const SpeedPlan speed = PlanSpeed(QuarterCached(), kPrompt, kProbed, Machine(), 0);
  // 32 layers of 2 experts, three quarters of them missing, 0.05 s each: longer than computing,
  // but for layers that miss none. A third of the last that comes is computed with after that.
  EXPECT_EQ(speed.bytes_from_disk, 48 * 100'000'000LL);
  constexpr double kLayer = 0.3 / 32, kDown = kLayer / 2 / 3;
  const double layer =
      (kLayer + 2 * 3 * (0.05 + kDown) + 3 * 3 * (0.1 + kDown)) / 16;  // Of none, one, both.
  EXPECT_NEAR(speed.decode_tokens_per_s, 1 / (0.1 + 32 * layer), 1e-9);
  EXPECT_NE(speed.limit.find("disk"), std::string::npos);
}

TEST(PlanSpeed, LoadingReadsWhileItTakesMemoryAndPacks) {
  ModelPlan plan = QuarterCached();
  const auto speed = [&] { return PlanSpeed(plan, kPrompt, kProbed, Machine(), 0.1); };
  // 2 GB at 2 GB/s, meanwhile 2 GB at 10 GB/s of new memory and what is not experts to pack.
  EXPECT_NEAR(speed().load_s, 0.1 + 1, 1e-9);
  EXPECT_NEAR(speed().load_cached_s, 0.1 + 2 / 5.0 + 0.5, 1e-9);
  plan.streamed = false;
  plan.need.experts = 8'000'000'000;
  EXPECT_NEAR(speed().load_s, 0.1 + 10 / 10.0 + 5.5, 1e-9) << "packing is slower than the disk";
  EXPECT_NEAR(speed().load_cached_s, 0.1 + 10 / 5.0 + 5.5, 1e-9);
}

TEST(PlanSpeed, ABatchReadsItsDistinctExpertsOnce) {
  const ModelConfig config = FindInCatalogue("qwen3-30b-a3b")->config;
  ModelPlan plan = QuarterCached();
  plan.pass_tokens = 12;
  plan.mixture_layers = 48;
  plan.experts_used = 8;
  const PromptWork prompt{.tokens = 512, .distinct_experts = DistinctExperts(config.router, 12)};
  const SpeedPlan speed = PlanSpeed(plan, prompt, kProbed, Machine(), 0);
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
  ModelPlan plan = QuarterCached();
  plan.speed = PlanSpeed(plan, kPrompt, kProbed, Machine(), 0);
  const auto rate = [&](int64_t slots) {
    ModelPlan other = plan;
    other.hit_rate = static_cast<double>(slots) / 256;
    return PlanSpeed(other, kPrompt, kProbed, Machine(), 0).decode_tokens_per_s;
  };
  for (const double wanted : {0.31, 0.5, 1.0, 2.0, 2.4}) {
    const auto bytes = MemoryForSpeed(plan, wanted);
    ASSERT_TRUE(bytes.has_value()) << wanted;
    const int64_t slots = (*bytes - plan.least_bytes) / plan.expert_bytes;
    EXPECT_GE(rate(slots), wanted * (1 - 1e-9));
    if (slots > 0) {
      EXPECT_LT(rate(slots - 1), wanted);
    }
  }
  EXPECT_FALSE(MemoryForSpeed(plan, 2.6)) << "in memory it decodes 2.5 tokens a second";
}

}  // namespace
}  // namespace moxie
