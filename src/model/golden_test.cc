#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "model/weights.h"
#include "support/shared.h"
#include "support/source_dir.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

/// Every model folder below `parent`.
std::vector<fs::path> ModelFolders(const fs::path& parent) {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(parent)) {
    const fs::path& path = entry.path();
    if (fs::exists(path / "config.json") || fs::exists(path / "params.json"))
      folders.push_back(path);
  }
  return folders;
}

void ExpectLoads(const fs::path& folder) {
  SCOPED_TRACE(folder.filename().string());
  const auto files = OpenModelFiles(folder);
  ASSERT_TRUE(files) << files.error().message;
  const auto config = ReadModelConfig(*files);
  ASSERT_TRUE(config) << config.error().message;
  const auto weights = LoadWeights(*files, *config);
  ASSERT_TRUE(weights) << weights.error().message;
  EXPECT_EQ(weights->layers.size(), config->layers.size());
}

TEST(GoldenFolders, OfTheTreeLoad) {
  const auto folders = ModelFolders(SourceDir() / "tests/golden/models");
  EXPECT_GE(folders.size(), 11u);
  for (const fs::path& folder : folders) ExpectLoads(folder);
}

ModelConfig ConfigOf(const std::string& name) {
  const auto files = OpenModelFiles(*testing::SharedDir() / "golden" / name);
  EXPECT_TRUE(files) << files.error().message;
  if (!files) return {};
  const auto config = ReadModelConfig(*files);
  EXPECT_TRUE(config) << config.error().message;
  return config ? *config : ModelConfig{};
}

/// A row of the table in the reference data's own description.
struct Row {
  const char* name;
  const char* family;
  int64_t dim, layers, heads, head_dim, kv_heads, experts, used, ffn, vocab;
};

constexpr Row kRows[] = {
    {"mixtral-f32", "mixtral", 48, 3, 4, 16, 2, 5, 2, 90, 509},
    {"mixtral-bf16", "mixtral", 64, 2, 4, 16, 1, 5, 3, 256, 421},
    {"mixtral-f32.consolidated", "mixtral", 48, 3, 4, 16, 2, 5, 2, 90, 509},
    {"mixtral-f32.consolidated-old", "mixtral", 48, 3, 4, 16, 2, 5, 2, 90, 509},
    {"mixtral-bf16.consolidated", "mixtral", 64, 2, 4, 16, 1, 5, 3, 256, 421},
    {"mistral-window", "mistral", 72, 4, 6, 12, 3, 0, 0, 100, 467},
    {"llama3-rope", "llama", 64, 3, 4, 16, 2, 0, 0, 112, 541},
    {"llama-bias", "llama", 48, 2, 6, 8, 2, 0, 0, 130, 397},
    {"llama-linear", "llama", 40, 2, 4, 10, 4, 0, 0, 110, 461},
    {"qwen2moe", "qwen2moe", 40, 4, 4, 10, 2, 6, 2, 36, 437},
    {"qwen3moe", "qwen3moe", 32, 3, 4, 12, 2, 8, 3, 28, 449},
    {"olmoe", "olmoe", 48, 2, 6, 8, 6, 8, 3, 40, 443},
    {"olmoe-clip", "olmoe", 48, 2, 4, 12, 2, 5, 1, 44, 413},
    {"gptoss", "gpt-oss", 40, 4, 6, 12, 2, 5, 2, 36, 439},
    {"gptoss-mxfp4", "gpt-oss", 64, 2, 4, 10, 1, 4, 2, 96, 407},
    {"deepseekv3", "deepseek3", 48, 3, 3, 20, 3, 8, 3, 26, 451},
};

TEST(GoldenFolders, OfTheReferenceDataLoadAsDescribed) {
  const auto shared = testing::SharedDir();
  if (!shared) GTEST_SKIP() << "no folder of reference data beside the checkout";
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.name);
    ExpectLoads(*shared / "golden" / row.name);
    const ModelConfig c = ConfigOf(row.name);
    EXPECT_EQ(c.family, row.family);
    EXPECT_EQ(c.dim, row.dim);
    EXPECT_EQ(static_cast<int64_t>(c.layers.size()), row.layers);
    EXPECT_EQ(c.attention.heads, row.heads);
    EXPECT_EQ(c.attention.head_dim, row.head_dim);
    EXPECT_EQ(c.attention.kv_heads, row.kv_heads);
    EXPECT_EQ(c.router.experts, row.experts);
    EXPECT_EQ(c.router.used, row.used);
    EXPECT_EQ(row.experts > 0 ? c.expert_ffn_dim : c.ffn_dim, row.ffn);
    EXPECT_EQ(c.vocab_size, row.vocab);
  }
}

TEST(GoldenFolders, OfTheReferenceDataHaveTheirParticulars) {
  if (!testing::SharedDir()) GTEST_SKIP() << "no folder of reference data beside the checkout";
  for (const LayerConfig& layer : ConfigOf("mistral-window").layers) EXPECT_EQ(layer.window, 8);
  const ModelConfig rope = ConfigOf("llama3-rope");
  EXPECT_EQ(rope.rope.scaling, RopeScaling::kLlama3);
  EXPECT_TRUE(rope.tied_embeddings);
  EXPECT_TRUE(ConfigOf("llama-bias").attention.output_bias);
  EXPECT_EQ(ConfigOf("llama-linear").rope.factor, 2.5);
  const ModelConfig qwen2 = ConfigOf("qwen2moe");
  EXPECT_FALSE(qwen2.layers[0].sparse);
  EXPECT_TRUE(qwen2.layers[1].sparse);
  EXPECT_FALSE(ConfigOf("qwen3moe").layers[1].sparse);
  EXPECT_EQ(ConfigOf("olmoe-clip").attention.clip_qkv, 0.75);
  const ModelConfig gptoss = ConfigOf("gptoss");
  EXPECT_EQ(gptoss.layers[0].window, 8);
  EXPECT_EQ(gptoss.layers[1].window, 0);
  EXPECT_EQ(gptoss.rope.scaling, RopeScaling::kYarn);
  EXPECT_FALSE(gptoss.rope.truncate);
  const ModelConfig deepseek = ConfigOf("deepseekv3");
  EXPECT_FALSE(deepseek.layers[0].sparse);
  EXPECT_TRUE(deepseek.layers[1].sparse);
  EXPECT_EQ(ConfigOf("mixtral-f32.consolidated").rope.base, 1e6);
  EXPECT_EQ(ConfigOf("mixtral-f32.consolidated").rope.layout, RopeLayout::kInterleaved);
}

}  // namespace
}  // namespace moxie
