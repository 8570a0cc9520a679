// Every golden model against what Hugging Face computed with it: logits, hidden states, routing,
// likelihood and greedy text, with the scalar kernels and with the fastest.
#include <gtest/gtest.h>

#include "support/golden_check.h"

namespace moxie {
namespace {

using namespace moxie::testing;

class GoldenLogits : public ::testing::TestWithParam<std::filesystem::path> {
 protected:
  void SetUp() override {
    auto loaded = LoadModel(GetParam());
    ASSERT_TRUE(loaded) << loaded.error().message;
    model_ = std::move(*loaded);
    golden_ = ReadGolden(GetParam());
  }
  std::unique_ptr<LoadedModel> model_;
  Golden golden_;
};

TEST_P(GoldenLogits, ScalarKernelsAgreeWithTheReference) {
  ExpectGolden(golden_, *model_, {}, 2e-4f);
}

TEST_P(GoldenLogits, DefaultKernelsAgreeWithTheReference) {
  ExpectGolden(golden_, *model_, {.kernels = &BestKernelSet()}, 1e-2f);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenLogits, ::testing::ValuesIn(GoldenModelFolders()),
                         [](const auto& test) { return FolderTestName(test.param); });

TEST(GoldenFolders, ReferenceDataBesideTheCheckout) {
  if (!SharedDir()) GTEST_SKIP() << "no reference data beside the checkout (MOXIE_SHARED)";
}

// Mistral's own layout of the same weights gives the same values.
class ConsolidatedLogits : public ::testing::TestWithParam<const char*> {};

TEST_P(ConsolidatedLogits, AgreeWithTheModelTheyWereMadeFrom) {
  const auto shared = SharedDir();
  if (!shared) GTEST_SKIP() << "no reference data beside the checkout (MOXIE_SHARED)";
  const std::string name = GetParam();
  auto model = LoadModel(*shared / "golden" / name);
  ASSERT_TRUE(model) << model.error().message;
  const Golden golden = ReadGolden(*shared / "golden" / name.substr(0, name.find('.')));
  ExpectGolden(golden, **model, {}, 2e-4f);
  ExpectGolden(golden, **model, {.kernels = &BestKernelSet()}, 1e-2f);
}

INSTANTIATE_TEST_SUITE_P(Folders, ConsolidatedLogits,
                         ::testing::Values("mixtral-f32.consolidated",
                                           "mixtral-f32.consolidated-old",
                                           "mixtral-bf16.consolidated"),
                         [](const auto& test) { return FolderTestName(test.param); });

}  // namespace
}  // namespace moxie
