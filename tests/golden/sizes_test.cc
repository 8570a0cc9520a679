// What is planned from shapes alone against what the models really take.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/process_memory.h"
#include "model/outline.h"
#include "support/golden.h"

namespace moxie {
namespace {

using namespace moxie::testing;

class Sizes : public ::testing::TestWithParam<std::filesystem::path> {
 protected:
  void SetUp() override {
    auto loaded = LoadModel(GetParam());
    ASSERT_TRUE(loaded) << loaded.error().message;
    model_ = std::move(*loaded);
  }

  std::unique_ptr<LoadedModel> model_;
};

TEST_P(Sizes, ADecoderTakesWhatWasPlanned) {
  if (HeapBytes() == 0) GTEST_SKIP() << "this C library does not count its heap";
  constexpr int64_t kSmallLists = 96 << 10;  // With an entry a layer or an expert.
  constexpr int64_t kKeptAtHand = 8 << 10;   // Freed before, but counted as used by glibc.
  const ModelConfig& config = model_->config;
  ThreadPool threads(3);
  const auto store = MakeResidentExpertStore(model_->weights);
  for (const KernelSet* kernels : {FindKernelSet("scalar"), &BestKernelSet()}) {
    for (const int64_t tokens : {64, 700}) {
      SCOPED_TRACE(tokens);
      const Decoder::Options options{.max_tokens = tokens, .max_logit_rows = 50};
      const int64_t before = HeapBytes();
      const auto decoder =
          Decoder::Create(config, model_->weights, *store, *kernels, threads, options);
      const int64_t taken = HeapBytes() - before;
      ASSERT_TRUE(decoder) << decoder.error().message;
      const int64_t planned = Decoder::BytesFor(config, model_->weights, *kernels, 3, options);
      EXPECT_LE(planned, taken + kKeptAtHand);
      EXPECT_LE(taken, planned + kSmallLists);
    }
  }
}

TEST_P(Sizes, AnOutlineWeighsWhatTheModelWeighs) {
  const ModelWeights& weights = model_->weights;
  const auto sparse = std::ranges::find_if(
      weights.layers, [](const LayerWeights& layer) { return !layer.experts.empty(); });
  const ModelWeights outline = OutlineWeights(model_->config, [&](std::string_view name, int64_t) {
    const bool expert = name.find("_exps.") != std::string_view::npos;
    return expert ? sparse->experts[0].gate.matrix.type : weights.embedding.type;
  });
  const WeightBytes want = CountBytes(model_->config, weights);
  const WeightBytes got = CountBytes(model_->config, outline);
  EXPECT_EQ(got.matrices, want.matrices);
  EXPECT_EQ(got.vectors, want.vectors);
  EXPECT_EQ(got.experts, want.experts);
  EXPECT_EQ(got.largest_expert, want.largest_expert);
}

INSTANTIATE_TEST_SUITE_P(Models, Sizes, ::testing::ValuesIn(GoldenModelFolders()),
                         [](const auto& test) { return FolderTestName(test.param); });

}  // namespace
}  // namespace moxie
