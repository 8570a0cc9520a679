// Adapters on the golden model against what PEFT computed with them.
#include <gtest/gtest.h>

#include "support/golden_check.h"

namespace moxie {
namespace {

using namespace moxie::testing;

class GoldenAdapter : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const auto shared = SharedDir();
    if (!shared) GTEST_SKIP() << "no reference data beside the checkout (MOXIE_SHARED)";
    auto loaded = LoadModel(*shared / "golden" / "mixtral-f32");
    ASSERT_TRUE(loaded) << loaded.error().message;
    model_ = std::move(*loaded);
    folder_ = *shared / "golden" / GetParam();
  }

  AdapterWeights Load(double strength) const {
    auto adapter = LoadAdapter(folder_, model_->config, strength);
    if (adapter) return std::move(*adapter);
    ADD_FAILURE() << adapter.error().message;
    return {};
  }

  std::filesystem::path folder_;
  std::unique_ptr<LoadedModel> model_;
};

TEST_P(GoldenAdapter, AgreesWithTheReference) {
  const AdapterWeights adapter = Load(1.0);
  const Golden golden = ReadGolden(folder_);
  ExpectGolden(golden, *model_, {.adapters = {&adapter}}, 2e-4f);
  ExpectGolden(golden, *model_, {.kernels = &BestKernelSet(), .adapters = {&adapter}}, 1e-2f);
}

// Their additions are summed: a quarter and three quarters of an adapter make a whole one.
TEST_P(GoldenAdapter, SeveralAtOnceAddUp) {
  const AdapterWeights quarter = Load(0.25), rest = Load(0.75);
  ExpectGolden(ReadGolden(folder_), *model_, {.adapters = {&quarter, &rest}}, 2e-4f);
}

TEST_P(GoldenAdapter, BatchesAndChunksLeaveEveryBitAlone) {
  const AdapterWeights adapter = Load(1.0);
  const Golden golden = ReadGolden(folder_);
  Runner runner(
      *model_, {.kernels = &BatchInvariant(BestKernelSet()), .threads = 3, .adapters = {&adapter}});
  constexpr size_t kWhole[] = {128}, kRagged[] = {5, 1, 9, 2};
  for (const GoldenSequence& sequence : golden.sequences)
    EXPECT_EQ(runner.RunInChunks(sequence.ids, kRagged), runner.RunInChunks(sequence.ids, kWhole));
}

// Mistral's layout has queries and keys in another order of rows, and so must the adapter.
TEST_P(GoldenAdapter, FitsTheConsolidatedLayoutToo) {
  auto consolidated = LoadModel(folder_.parent_path() / "mixtral-f32.consolidated");
  ASSERT_TRUE(consolidated) << consolidated.error().message;
  const auto adapter = LoadAdapter(folder_, (*consolidated)->config);
  ASSERT_TRUE(adapter) << adapter.error().message;
  ExpectGolden(ReadGolden(folder_), **consolidated, {.adapters = {&*adapter}}, 2e-4f);
}

INSTANTIATE_TEST_SUITE_P(Folders, GoldenAdapter,
                         ::testing::Values("mixtral-f32.lora-attention", "mixtral-f32.lora-experts",
                                           "mixtral-f32.lora-w123"),
                         [](const auto& test) { return FolderTestName(test.param); });

}  // namespace
}  // namespace moxie
