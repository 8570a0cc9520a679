#include "model/adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "support/bytes.h"
#include "support/shared.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kDim = 6, kHeads = 2, kHeadDim = 4, kFfn = 5, kExperts = 3;

ModelConfig SmallMixture() {
  ModelConfig config;
  config.family = "mixtral";
  config.dim = kDim;
  config.attention.heads = kHeads;
  config.attention.kv_heads = 1;
  config.attention.head_dim = kHeadDim;
  config.expert_ffn_dim = kFfn;
  config.router.experts = kExperts;
  config.router.used = 2;
  config.layers = {LayerConfig{.sparse = true}};
  return config;
}

struct Tensor {
  std::string name;
  int64_t rows, cols;
};

/// A float32 safetensors file whose tensors count up: element i of the tensor numbered t is
/// 1000 t + i.
std::string Counting(const std::vector<Tensor>& tensors) {
  std::string header = "{";
  testing::Bytes data;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const auto& [name, rows, cols] = tensors[t];
    const size_t begin = data.size();
    for (int64_t i = 0; i < rows * cols; ++i) data.Add(static_cast<float>(1000 * t + i));
    if (t > 0) header += ", ";
    header += "\"base_model.model.model.layers." + name + ".weight\": {\"dtype\": \"F32\", " +
              "\"shape\": [" + std::to_string(rows) + ", " + std::to_string(cols) +
              "], \"data_offsets\": [" + std::to_string(begin) + ", " +
              std::to_string(data.size()) + "]}";
  }
  return testing::Safetensors(header + "}", data.str()).str();
}

Result<AdapterWeights> Load(const std::vector<Tensor>& tensors, const std::string& settings,
                            const ModelConfig& config = SmallMixture(), double strength = 1) {
  const testing::TempFolder folder;
  std::ofstream(folder / "adapter_config.json") << settings;
  std::ofstream(folder / "adapter_model.safetensors", std::ios::binary) << Counting(tensors);
  return LoadAdapter(folder.path(), config, strength);
}

const std::vector<Tensor> kQuery = {{"0.self_attn.q_proj.lora_A", 2, kDim},
                                    {"0.self_attn.q_proj.lora_B", kHeads* kHeadDim, 2}};
const std::string kPlain = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 8,
                              "target_modules": ["q_proj"]})";

TEST(Adapter, ScalesByAlphaOverRankAndStrength) {
  const auto adapter = Load(kQuery, kPlain, SmallMixture(), 0.5);
  ASSERT_TRUE(adapter) << adapter.error().message;
  const LoraPair& q = adapter->layers[0].q;
  EXPECT_EQ(q.rank, 2);
  EXPECT_EQ(q.in, kDim);
  EXPECT_EQ(q.out, kHeads * kHeadDim);
  EXPECT_EQ(q.scale, 0.5f * 8 / 2);
  EXPECT_EQ(q.a[7], 7.0f);
  EXPECT_EQ(q.b[5], 1005.0f);
  EXPECT_TRUE(adapter->layers[0].k.empty());
  EXPECT_TRUE(adapter->layers[0].experts.empty());
}

TEST(Adapter, KnowsRankStabilisedScalesAndAlphaPatterns) {
  const auto root = Load(kQuery, R"({"r": 2, "lora_alpha": 8, "use_rslora": true})");
  ASSERT_TRUE(root) << root.error().message;
  EXPECT_FLOAT_EQ(root->layers[0].q.scale, static_cast<float>(8 / std::sqrt(2.0)));
  const auto own = Load(
      kQuery, R"({"r": 2, "lora_alpha": 8, "alpha_pattern": {"layers.0.self_attn.q_proj": 3}})");
  ASSERT_TRUE(own) << own.error().message;
  EXPECT_EQ(own->layers[0].q.scale, 1.5f);
}

TEST(Adapter, ReordersQueryRowsForAnInterleavedBase) {
  ModelConfig config = SmallMixture();
  config.rope.layout = RopeLayout::kInterleaved;
  const auto adapter = Load(kQuery, kPlain, config);
  ASSERT_TRUE(adapter) << adapter.error().message;
  // Head 1's rows 4 5 6 7 turn in pairs (4, 6) and (5, 7) in half order.
  const std::vector<int> order = {0, 2, 1, 3, 4, 6, 5, 7};
  for (size_t row = 0; row < order.size(); ++row) {
    for (size_t j = 0; j < 2; ++j) {
      EXPECT_EQ(adapter->layers[0].q.b[row * 2 + j],
                1000 + 2 * static_cast<float>(order[row]) + static_cast<float>(j));
    }
  }
}

TEST(Adapter, TakesFusedExpertsApart) {
  // One of the two: its matrix follows from the shapes, here gate and up.
  constexpr int64_t kRank = 2;
  const auto adapter = Load({{"0.mlp.experts.base_layer.lora_A", kExperts * kRank, kDim},
                             {"0.mlp.experts.base_layer.lora_B", 2 * kFfn, kRank * kExperts},
                             {"0.mlp.experts.lora_A", kExperts * kRank, kFfn},
                             {"0.mlp.experts.lora_B", kDim, kRank * kExperts}},
                            R"({"r": 2, "lora_alpha": 2, "target_modules": [],
               "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]})");
  ASSERT_TRUE(adapter) << adapter.error().message;
  ASSERT_EQ(adapter->layers[0].experts.size(), static_cast<size_t>(kExperts));
  for (int64_t e = 0; e < kExperts; ++e) {
    const FeedForwardAdapter& expert = adapter->layers[0].experts[static_cast<size_t>(e)];
    for (int64_t j = 0; j < kRank; ++j) {
      for (int64_t i = 0; i < kDim; ++i) {
        const auto at = static_cast<size_t>(j * kDim + i);
        const auto want = static_cast<float>((e * kRank + j) * kDim + i);
        EXPECT_EQ(expert.gate.a[at], want);
        EXPECT_EQ(expert.up.a[at], want);
      }
      for (int64_t row = 0; row < kFfn; ++row) {
        const auto at = static_cast<size_t>(row * kRank + j);
        const int64_t column = j * kExperts + e;
        EXPECT_EQ(expert.gate.b[at], static_cast<float>(1000 + row * kRank * kExperts + column));
        EXPECT_EQ(expert.up.b[at],
                  static_cast<float>(1000 + (kFfn + row) * kRank * kExperts + column));
      }
    }
    EXPECT_EQ(expert.down.in, kFfn);
    EXPECT_EQ(expert.down.b[0], static_cast<float>(3000 + e));
  }
}

TEST(Adapter, ReadsExpertsOneByOneAndTheRouter) {
  const auto adapter = Load({{"0.block_sparse_moe.experts.2.w2.lora_A.default", 1, kFfn},
                             {"0.block_sparse_moe.experts.2.w2.lora_B.default", kDim, 1},
                             {"0.block_sparse_moe.gate.lora_A", 1, kDim},
                             {"0.block_sparse_moe.gate.lora_B", kExperts, 1}},
                            R"({"r": 1, "lora_alpha": 1, "target_modules": ["w2", "gate"]})");
  ASSERT_TRUE(adapter) << adapter.error().message;
  EXPECT_EQ(adapter->layers[0].experts[2].down.rank, 1);
  EXPECT_TRUE(adapter->layers[0].experts[1].down.empty());
  EXPECT_EQ(adapter->layers[0].router.out, kExperts);
}

TEST(Adapter, RefusesWhatDoesNotFit) {
  const struct {
    std::vector<Tensor> tensors;
    std::string settings;
    std::string message;
  } cases[] = {
      {{{"0.self_attn.z_proj.lora_A", 2, kDim}, {"0.self_attn.z_proj.lora_B", 8, 2}},
       kPlain,
       "z_proj.lora_A.weight matches no matrix of this mixtral model"},
      {{{"1.self_attn.q_proj.lora_A", 2, kDim}, {"1.self_attn.q_proj.lora_B", 8, 2}},
       kPlain,
       "matches no matrix"},
      {{{"0.block_sparse_moe.experts.3.w1.lora_A", 2, kDim},
        {"0.block_sparse_moe.experts.3.w1.lora_B", kFfn, 2}},
       kPlain,
       "matches no matrix"},
      {{kQuery[0]}, kPlain, "has no counterpart"},
      {{kQuery[0], {"0.self_attn.q_proj.lora_B", 8, 3}}, kPlain, "must have [8, 2]"},
      {{{"0.self_attn.q_proj.lora_A", 2, 7}, kQuery[1]}, kPlain, "must have [2, 6]"},
      {{{"0.self_attn.q_proj.lora_magnitude_vector", 8, 1}}, kPlain, "neither lora_A nor lora_B"},
      {kQuery, R"({"lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]})",
       "adapter_config.json: target v_proj matches no tensor"},
      {kQuery, R"({"target_modules": ["q_proj"]})", "lora_alpha is missing"},
      {kQuery, R"({"lora_alpha": 8, "use_dora": true})", "use_dora is true, but only plain LoRA"},
      {kQuery, R"({"lora_alpha": 8, "modules_to_save": ["lm_head"]})", "modules_to_save"},
      {kQuery, R"({"lora_alpha": 8, "bias": "all"})", "bias is \"all\", but only \"none\""},
      {kQuery, R"({"lora_alpha": 8, "peft_type": "IA3"})", "peft_type is \"IA3\""},
      {kQuery, R"({"lora_alpha": 8, "init_lora_weights": "pissa_niter_4"})", "init_lora_weights"},
      {kQuery, R"({"lora_alpha": 8, "alpha_pattern": {".*q_proj": 2}})", "plain module names"},
  };
  for (const auto& c : cases) {
    const auto adapter = Load(c.tensors, c.settings);
    ASSERT_FALSE(adapter) << c.message;
    EXPECT_THAT(adapter.error().message, HasSubstr(c.message));
  }
}

TEST(Adapter, OfTheReferenceDataLoad) {
  const auto shared = testing::SharedDir();
  if (!shared) GTEST_SKIP() << "no folder of reference data beside the checkout";
  for (const char* base : {"mixtral-f32", "mixtral-f32.consolidated"}) {
    const auto files = OpenModelFiles(*shared / "golden" / base);
    ASSERT_TRUE(files);
    const auto config = ReadModelConfig(*files);
    ASSERT_TRUE(config);
    for (const char* name : {"lora-attention", "lora-experts", "lora-w123"}) {
      const auto adapter =
          LoadAdapter(*shared / "golden" / (std::string("mixtral-f32.") + name), *config);
      ASSERT_TRUE(adapter) << adapter.error().message;
    }
  }
}

}  // namespace
}  // namespace moxie
