#include "model/describe.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "model/weights.h"
#include "support/source_dir.h"

namespace moxie {
namespace {

/// The reference shapes are those of the published configurations; the counts are those that their
/// authors give (Mixtral: arXiv:2401.04088, table 2, to the digits below).
TEST(Describe, CountsMixtral8x7b) {
  ModelConfig config;
  config.dim = 4096;
  config.vocab_size = 32000;
  config.attention.heads = 32;
  config.attention.kv_heads = 8;
  config.attention.head_dim = 128;
  config.expert_ffn_dim = 14336;
  config.router.experts = 8;
  config.router.used = 2;
  config.layers.assign(32, LayerConfig{.sparse = true});
  EXPECT_EQ(CountParameters(config).total, 46'702'792'704);
  EXPECT_EQ(CountParameters(config).active, 12'879'925'248);
}

/// Every folder's count is that of the elements in its files.
TEST(Describe, CountsWhatTheFilesHold) {
  const auto models = SourceDir() / "tests/golden/models";
  int folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(models)) {
    SCOPED_TRACE(entry.path().filename().string());
    const auto files = OpenModelFiles(entry.path());
    if (!files) continue;
    ++folders;
    const auto config = ReadModelConfig(*files);
    ASSERT_TRUE(config) << config.error().message;
    const auto described = SummariseModel(*files, *config);
    ASSERT_TRUE(described) << described.error().message;
    int64_t elements = 0;
    for (const TensorInfo& tensor : files->tensors.tensors()) elements += tensor.elements();
    EXPECT_EQ(described->parameters.total, elements);
    EXPECT_EQ(described->layout, "huggingface");
    EXPECT_EQ(described->tokenizer, "tokenizer.json");
    int64_t counted = 0;
    for (const TensorTypeSummary& type : described->types) counted += type.elements;
    EXPECT_EQ(counted, elements);
  }
  EXPECT_GE(folders, 11);
}

}  // namespace
}  // namespace moxie
