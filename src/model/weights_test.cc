#include "model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/repack.h"
#include "quant/dequantize.h"
#include "support/bytes.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

using ::testing::HasSubstr;

struct Tensor {
  std::string type = "F32";
  std::vector<int64_t> shape;
};

using Tensors = std::map<std::string, Tensor>;

/// A safetensors file whose float32 elements count up within each tensor (other types: zeros).
std::string Counting(const Tensors& tensors) {
  std::string header = "{";
  testing::Bytes data;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = data.size();
    int64_t elements = 1;
    std::string shape;
    for (const int64_t d : tensor.shape) {
      elements *= d;
      shape += (shape.empty() ? "" : ", ") + std::to_string(d);
    }
    for (int64_t i = 0; i < elements; ++i) {
      if (tensor.type == "F32") data.Add(static_cast<float>(i));
      if (tensor.type == "U8") data.Add(static_cast<uint8_t>(i * 7));
      if (tensor.type == "I64") data.Add(int64_t{0});
    }
    if (header.size() > 1) header += ", ";
    header += "\"" + name + "\": {\"dtype\": \"" + tensor.type + "\", \"shape\": [" + shape +
              "], \"data_offsets\": [" + std::to_string(begin) + ", " +
              std::to_string(data.size()) + "]}";
  }
  return testing::Safetensors(header + "}", data.str()).str();
}

constexpr int64_t kDim = 32, kFfn = 64, kVocab = 7, kExperts = 3, kHeadDim = 4;

/// What every family has besides the feed-forward: 2 heads, 1 key-value head.
Tensors Common() {
  const std::string layer = "model.layers.0.";
  return {{"model.embed_tokens.weight", {.shape = {kVocab, kDim}}},
          {"lm_head.weight", {.shape = {kVocab, kDim}}},
          {"model.norm.weight", {.shape = {kDim}}},
          {layer + "input_layernorm.weight", {.shape = {kDim}}},
          {layer + "post_attention_layernorm.weight", {.shape = {kDim}}},
          {layer + "self_attn.q_proj.weight", {.shape = {2 * kHeadDim, kDim}}},
          {layer + "self_attn.k_proj.weight", {.shape = {kHeadDim, kDim}}},
          {layer + "self_attn.v_proj.weight", {.shape = {kHeadDim, kDim}}},
          {layer + "self_attn.o_proj.weight", {.shape = {kDim, 2 * kHeadDim}}}};
}

Tensors Mixtral() {
  Tensors tensors = Common();
  const std::string moe = "model.layers.0.block_sparse_moe.";
  tensors[moe + "gate.weight"] = {.shape = {kExperts, kDim}};
  for (int64_t e = 0; e < kExperts; ++e) {
    const std::string expert = moe + "experts." + std::to_string(e) + ".";
    tensors[expert + "w1.weight"] = {.shape = {kFfn, kDim}};
    tensors[expert + "w2.weight"] = {.shape = {kDim, kFfn}};
    tensors[expert + "w3.weight"] = {.shape = {kFfn, kDim}};
  }
  return tensors;
}

ModelConfig SmallConfig() {
  ModelConfig config;
  config.family = "mixtral";
  config.dim = kDim;
  config.vocab_size = kVocab;
  config.attention.heads = 2;
  config.attention.kv_heads = 1;
  config.attention.head_dim = kHeadDim;
  config.expert_ffn_dim = kFfn;
  config.router.experts = kExperts;
  config.router.used = 2;
  config.layers = {LayerConfig{.sparse = true}};
  return config;
}

/// Opens a folder of those tensors and hands the loaded weights to `check`.
void Load(const Tensors& tensors, const ModelConfig& config,
          const std::function<void(const Result<ModelWeights>&)>& check) {
  const testing::TempFolder folder;
  std::ofstream(folder / "config.json") << "{}";
  std::ofstream(folder / "model.safetensors", std::ios::binary) << Counting(tensors);
  const auto files = OpenModelFiles(folder.path());
  ASSERT_TRUE(files) << files.error().message;
  check(LoadWeights(*files, config));
}

void ExpectError(const Tensors& tensors, const ModelConfig& config, const std::string& message) {
  Load(tensors, config, [&](const Result<ModelWeights>& weights) {
    ASSERT_FALSE(weights) << message;
    EXPECT_THAT(weights.error().message, HasSubstr(message));
  });
}

std::vector<float> Row(const WeightMatrix& matrix, int64_t row) {
  std::vector<float> values(static_cast<size_t>(matrix.cols));
  Dequantize(matrix.type, matrix.row(row), matrix.cols, values.data());
  return values;
}

TEST(Weights, AreViewsOfTheMapping) {
  Load(Mixtral(), SmallConfig(), [](const Result<ModelWeights>& weights) {
    ASSERT_TRUE(weights) << weights.error().message;
    EXPECT_TRUE(weights->owned.empty());
    const FeedForwardWeights& expert = weights->layers[0].experts[1];
    EXPECT_EQ(expert.gate.file, 0);
    EXPECT_GT(expert.gate.offset, 0u);
    EXPECT_EQ(expert.down.matrix.rows, kDim);
    EXPECT_EQ(Row(expert.down.matrix, 1)[2], kFfn + 2);
    EXPECT_EQ(weights->layers[0].attention_norm[5], 5);
  });
}

TEST(Weights, NameTheTensorThatIsMissing) {
  for (const auto& [name, tensor] : Mixtral()) {
    Tensors tensors = Mixtral();
    tensors.erase(name);
    ExpectError(tensors, SmallConfig(), "tensor " + name + " is missing, but [");
  }
}

TEST(Weights, NameTheTensorOfAnotherShapeOrType) {
  Tensors tensors = Mixtral();
  tensors["model.layers.0.self_attn.q_proj.weight"].shape = {9, kDim};
  ExpectError(tensors, SmallConfig(),
              "model.safetensors: tensor model.layers.0.self_attn.q_proj.weight has shape [9, 32], "
              "but must have [8, 32]");
  tensors = Mixtral();
  tensors["model.norm.weight"].shape = {kDim, 1};
  ExpectError(tensors, SmallConfig(), "tensor model.norm.weight has shape [32, 1]");
  tensors = Mixtral();
  tensors["lm_head.weight"].type = "I64";
  ExpectError(tensors, SmallConfig(), "tensor lm_head.weight has type i64, but must be f32");
}

TEST(Weights, NameTheTensorThatNothingUses) {
  Tensors tensors = Mixtral();
  tensors["model.layers.0.self_attn.q_proj.bias"] = {.shape = {8}};
  ExpectError(tensors, SmallConfig(), "q_proj.bias is not used by a mixtral model");
  tensors = Mixtral();
  tensors["model.layers.1.input_layernorm.weight"] = {.shape = {kDim}};
  ExpectError(tensors, SmallConfig(), "model.layers.1.input_layernorm.weight is not used");
}

TEST(Weights, LeaveOutWhatFollowsFromTheConfiguration) {
  Tensors tensors = Mixtral();
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {.shape = {2}};
  tensors["model.layers.1.input_layernorm.weight"] = {.shape = {kDim}};
  ModelConfig config = SmallConfig();
  config.prediction_layers = 1;   // Layer 1 predicts further tokens.
  config.tied_embeddings = true;  // lm_head repeats the embedding.
  Load(tensors, config, [](const Result<ModelWeights>& weights) {
    ASSERT_TRUE(weights) << weights.error().message;
    EXPECT_EQ(weights->output.data, weights->embedding.data);
  });
}

TEST(Weights, ReadOtherSpellingsOfExperts) {
  Tensors tensors = Common();
  const std::string moe = "model.layers.0.mlp.";
  tensors[moe + "gate.weight"] = {.shape = {kExperts, kDim}};
  tensors[moe + "experts.gate_up_proj"] = {.shape = {kExperts, 2 * kFfn, kDim}};
  tensors[moe + "experts.down_proj"] = {.shape = {kExperts, kDim, kFfn}};
  Load(tensors, SmallConfig(), [](const Result<ModelWeights>& weights) {
    ASSERT_TRUE(weights) << weights.error().message;
    const FeedForwardWeights& expert = weights->layers[0].experts[2];
    EXPECT_EQ(Row(expert.gate.matrix, 0)[0], 2 * 2 * kFfn * kDim);
    EXPECT_EQ(Row(expert.up.matrix, 0)[0], (2 * 2 + 1) * kFfn * kDim);
    EXPECT_EQ(Row(expert.down.matrix, 1)[3], (2 * kDim + 1) * kFfn + 3);
  });
}

Tensors GptOss() {
  Tensors tensors = Common();
  const std::string layer = "model.layers.0.";
  tensors[layer + "mlp.router.weight"] = {.shape = {kExperts, kDim}};
  tensors[layer + "mlp.experts.gate_up_proj_bias"] = {.shape = {kExperts, 2 * kFfn}};
  tensors[layer + "mlp.experts.down_proj_bias"] = {.shape = {kExperts, kDim}};
  return tensors;
}

ModelConfig GptOssConfig() {
  ModelConfig config = SmallConfig();
  config.family = "gpt-oss";
  config.expert_bias = true;
  return config;
}

TEST(Weights, TransposeFusedExperts) {
  Tensors tensors = GptOss();
  tensors["model.layers.0.mlp.experts.gate_up_proj"] = {.shape = {kExperts, kDim, 2 * kFfn}};
  tensors["model.layers.0.mlp.experts.down_proj"] = {.shape = {kExperts, kFfn, kDim}};
  Load(tensors, GptOssConfig(), [](const Result<ModelWeights>& weights) {
    ASSERT_TRUE(weights) << weights.error().message;
    const FeedForwardWeights& expert = weights->layers[0].experts[1];
    EXPECT_EQ(expert.gate.file, -1);
    for (int64_t f = 0; f < kFfn; ++f) {
      for (int64_t d = 0; d < kDim; ++d) {
        const int64_t from = (kDim + d) * 2 * kFfn + 2 * f;  // Expert 1.
        EXPECT_EQ(Row(expert.gate.matrix, f)[static_cast<size_t>(d)], from);
        EXPECT_EQ(Row(expert.up.matrix, f)[static_cast<size_t>(d)], from + 1);
        EXPECT_EQ(Row(expert.down.matrix, d)[static_cast<size_t>(f)], (kFfn + f) * kDim + d);
      }
    }
    EXPECT_EQ(expert.gate_bias[3], 2 * kFfn + 6);
    EXPECT_EQ(expert.up_bias[3], 2 * kFfn + 7);
    EXPECT_EQ(expert.down_bias[3], kDim + 3);
  });
}

/// An MXFP4 element after the OCP Microscaling specification 1.0, sections 5.3.3 and 6.3, in the
/// order of gpt-oss's folders: element i in nibble i % 2 of byte i / 2, low first.
float Mxfp4(const std::vector<uint8_t>& blocks, uint8_t scale, int element) {
  const int byte = blocks[static_cast<size_t>(element / 2)];
  const int nibble = element % 2 == 0 ? byte & 15 : byte >> 4;
  constexpr float kE2M1[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  const float value = kE2M1[nibble & 7] * std::ldexp(1.0f, scale - 127);
  return (nibble & 8) != 0 ? -value : value;
}

TEST(Repack, Mxfp4KeepsEveryElement) {
  std::vector<uint8_t> blocks(32), scales = {120, 131};
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<uint8_t>(i * 37 + 11);
  std::vector<std::byte> packed(2 * 17);
  PackMxfp4Row(reinterpret_cast<const std::byte*>(blocks.data()),
               reinterpret_cast<const std::byte*>(scales.data()), 2, packed.data());
  std::vector<float> values(64);
  Dequantize(DType::kMXFP4, packed.data(), 64, values.data());
  for (int i = 0; i < 64; ++i) {
    const std::vector<uint8_t> block(blocks.begin() + i / 32 * 16,
                                     blocks.begin() + i / 32 * 16 + 16);
    EXPECT_EQ(values[static_cast<size_t>(i)],
              Mxfp4(block, scales[static_cast<size_t>(i / 32)], i % 32));
  }
}

TEST(Weights, JoinMxfp4BlocksAndScales) {
  Tensors tensors = GptOss();
  const std::string experts = "model.layers.0.mlp.experts.";
  tensors[experts + "gate_up_proj_blocks"] = {"U8", {kExperts, 2 * kFfn, kDim / 32, 16}};
  tensors[experts + "gate_up_proj_scales"] = {"U8", {kExperts, 2 * kFfn, kDim / 32}};
  tensors[experts + "down_proj_blocks"] = {"U8", {kExperts, kDim, kFfn / 32, 16}};
  tensors[experts + "down_proj_scales"] = {"U8", {kExperts, kDim, kFfn / 32}};
  Load(tensors, GptOssConfig(), [](const Result<ModelWeights>& weights) {
    ASSERT_TRUE(weights) << weights.error().message;
    // Bytes count up by 7. Row f of expert 1's up is row 2 f + 1 of its 128, one block each.
    const FeedForwardWeights& expert = weights->layers[0].experts[1];
    EXPECT_EQ(expert.up.matrix.type, DType::kMXFP4);
    for (const int64_t f : {0, 5, 63}) {
      const int64_t row = 2 * kFfn + 2 * f + 1;
      const auto scale = static_cast<uint8_t>(row * 7);
      std::vector<uint8_t> block;
      for (int64_t i = 0; i < 16; ++i) block.push_back(static_cast<uint8_t>((row * 16 + i) * 7));
      for (int i = 0; i < 32; ++i) {
        EXPECT_EQ(Row(expert.up.matrix, f)[static_cast<size_t>(i)], Mxfp4(block, scale, i));
      }
    }
  });
  tensors[experts + "down_proj_scales"] = {"U8", {kExperts, kDim, 1}};
  ExpectError(tensors, GptOssConfig(), "down_proj_scales has shape [3, 32, 1]");
  tensors.erase(experts + "down_proj_scales");
  ExpectError(tensors, GptOssConfig(), "down_proj_scales is missing");
}

TEST(Repack, TransposesAnyShape) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {65, 2}, {70, 130}}) {
    std::vector<uint16_t> in(static_cast<size_t>(rows * cols)), out(in.size());
    for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint16_t>(i);
    CopyTransposed(reinterpret_cast<const std::byte*>(in.data()), rows, 0, 1, 2, rows, cols,
                   reinterpret_cast<std::byte*>(out.data()));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        ASSERT_EQ(out[static_cast<size_t>(r * cols + c)], c * rows + r);
      }
    }
  }
}

}  // namespace
}  // namespace moxie
