#include <gtest/gtest.h>

#include "moxie/generate.h"
#include "moxie/plan.h"
#include "support/random_mixture.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

using namespace moxie::testing;

constexpr RandomMixture kShape{.dim = 256, .ffn = 512, .layers = 4, .experts = 8};
constexpr int64_t kUsed = 2;
constexpr int64_t kExpertFloats = 3 * kShape.dim * kShape.ffn;

MachineSpeeds Machine(double memory_bytes_per_s, double disk_bytes_per_s) {
  MachineSpeeds machine;
  machine.memory_bytes_per_s = memory_bytes_per_s;
  machine.disk_bytes_per_s = disk_bytes_per_s;
  return machine;
}

class DecodeBounds : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteRandomMixture(path_, kShape);
    options_.threads = 1;
    options_.context = 64;
  }

  std::unique_ptr<Model> Open() {
    Result<std::unique_ptr<Model>> model = Model::Open(path_, options_);
    EXPECT_TRUE(model) << model.error().message;
    return model ? std::move(*model) : nullptr;
  }

  /// With room for a part of the experts; its plan.
  ModelPlan Stream() {
    options_.memory_bytes = int64_t{1} << 40;
    const ModelPlan whole = PlanModel(path_, {""}, options_)->front();
    options_.memory_bytes = (whole.least_bytes + whole.all_bytes) / 2;
    return PlanModel(path_, {""}, options_)->front();
  }

  TempFolder folder_;
  const std::string path_ = (folder_ / "mixture.gguf").string();
  ModelOptions options_;
};

TEST_F(DecodeBounds, IsMemorysWhereAllWeightsLieInIt) {
  const auto model = Open();
  ASSERT_NE(model, nullptr);
  const DecodeBound bound = BoundDecoding(*model, Machine(1e9, 0));
  const int64_t attention =
      2 * kShape.heads * kShape.head_dim + 2 * kShape.kv_heads * kShape.head_dim;
  const int64_t layer = kShape.dim * (attention + kShape.experts) + kUsed * kExpertFloats;
  const int64_t bytes = 4 * (kShape.layers * layer + kShape.vocab * kShape.dim);
  EXPECT_EQ(bound.bytes_from_memory, static_cast<double>(bytes));
  EXPECT_EQ(bound.bytes_from_disk, 0);
  EXPECT_FALSE(bound.by_disk);
  EXPECT_NEAR(bound.tokens_per_s, 1e9 / static_cast<double>(bytes), 1e-6);
}

TEST_F(DecodeBounds, OfStreamedExpertsIsTheSlowerOfMemoryAndDisk) {
  const ModelPlan plan = Stream();
  ASSERT_TRUE(plan.streamed);
  const auto model = Open();
  ASSERT_NE(model, nullptr);
  const DecodeBound slow = BoundDecoding(*model, Machine(1e12, 1e6));
  EXPECT_TRUE(slow.by_disk);
  // The pages that an expert's three matrices lie in are at most two more each than their bytes.
  const double missing = static_cast<double>(kShape.layers * kUsed) *
                         static_cast<double>(plan.experts - plan.expert_slots) /
                         static_cast<double>(plan.experts);
  EXPECT_GE(slow.bytes_from_disk, missing * 4 * kExpertFloats);
  EXPECT_LE(slow.bytes_from_disk, missing * (4 * kExpertFloats + 3 * 2 * 4096));
  EXPECT_NEAR(slow.tokens_per_s, 1e6 / slow.bytes_from_disk, 1e-9);
  const DecodeBound fast = BoundDecoding(*model, Machine(1e6, 1e12));
  EXPECT_FALSE(fast.by_disk);
  EXPECT_NEAR(fast.tokens_per_s, 1e6 / fast.bytes_from_memory, 1e-9);
  EXPECT_EQ(BoundDecoding(*model, Machine(1e12, 0)).tokens_per_s, 0);  // Not known.
}

TEST_F(DecodeBounds, CountsWhatDecodingMissed) {
  ASSERT_TRUE(Stream().streamed);
  const auto model = Open();
  ASSERT_NE(model, nullptr);
  Engine engine(*model);
  Request request;
  request.prompt = {5, 6, 7, 8, 9, 10, 11, 12};
  request.max_tokens = 1;
  request.end_at_stop_tokens = false;
  ASSERT_TRUE(engine.Run(request));
  const ExpertTraffic prompt = engine.Stats().expert_store;
  EXPECT_GT(prompt.misses, 0);
  EXPECT_EQ(engine.Stats().decode_expert_store.misses, 0);
  request.prompt.front() = 4;
  request.max_tokens = 21;
  ASSERT_TRUE(engine.Run(request));
  const ExpertTraffic decode = engine.Stats().decode_expert_store;
  EXPECT_EQ(decode.hits + decode.misses, 20 * kShape.layers * kUsed);
  EXPECT_GT(decode.misses, 0);
  EXPECT_GE(decode.bytes_read, decode.misses * 4 * kExpertFloats);
  const DecodeBound bound = BoundDecoding(*model, Machine(1e12, 1e9), decode);
  EXPECT_NEAR(bound.bytes_from_disk, static_cast<double>(decode.bytes_read) / 20, 1e-6);
}

}  // namespace
}  // namespace moxie
