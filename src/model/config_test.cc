#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "model/test_support.h"

namespace moxie {
namespace {

using ::testing::HasSubstr;
using testing::Json;
using testing::ReadFolder;
using testing::ReadGguf;

/// A small Mixtral's settings.
Json Mixtral() {
  return {{"model_type", "\"mixtral\""}, {"hidden_size", "64"},
          {"num_hidden_layers", "2"},    {"num_attention_heads", "4"},
          {"num_key_value_heads", "2"},  {"intermediate_size", "96"},
          {"num_local_experts", "8"},    {"num_experts_per_tok", "2"},
          {"vocab_size", "100"},         {"max_position_embeddings", "512"},
          {"rms_norm_eps", "1e-5"},      {"rope_theta", "1000000.0"},
          {"sliding_window", "null"},    {"tie_word_embeddings", "false"}};
}

/// Mixtral's settings with some replaced; an empty text leaves one out.
Json With(const Json& changes, Json base = Mixtral()) {
  for (const auto& [name, value] : changes) base[name] = value;
  return base;
}

ModelConfig Good(const Result<ModelConfig>& config) {
  EXPECT_TRUE(config) << config.error().message;
  return config ? *config : ModelConfig{};
}

TEST(Config, ReadsMixtral) {
  const ModelConfig c = Good(ReadFolder(Mixtral()));
  EXPECT_EQ(c.family, "mixtral");
  EXPECT_EQ(c.dim, 64);
  EXPECT_EQ(c.layers.size(), 2u);
  EXPECT_TRUE(c.layers[1].sparse);
  EXPECT_EQ(c.layers[1].window, 0);
  EXPECT_EQ(c.attention.heads, 4);
  EXPECT_EQ(c.attention.kv_heads, 2);
  EXPECT_EQ(c.attention.head_dim, 16);
  EXPECT_EQ(c.attention.score_scale, 0.25);
  EXPECT_EQ(c.router.experts, 8);
  EXPECT_EQ(c.router.used, 2);
  EXPECT_EQ(c.router.gate, GateKind::kSoftmaxThenTopK);
  EXPECT_TRUE(c.router.renormalise);
  EXPECT_EQ(c.expert_ffn_dim, 96);
  EXPECT_EQ(c.vocab_size, 100);
  EXPECT_EQ(c.context_length, 512);
  EXPECT_EQ(c.norm_eps, 1e-5);
  EXPECT_EQ(c.rope.base, 1e6);
  EXPECT_EQ(c.rope.dims, 16);
  EXPECT_EQ(c.rope.layout, RopeLayout::kHalf);
  EXPECT_FALSE(c.tied_embeddings);
}

TEST(Config, ReadsTransformers5Style) {
  const ModelConfig c =
      Good(ReadFolder(With({{"rope_theta", ""},
                            {"rope_parameters", R"({"rope_theta": 5e5, "rope_type": "default"})"},
                            {"dtype", "\"bfloat16\""}})));
  EXPECT_EQ(c.rope.base, 5e5);
  EXPECT_EQ(c.rope.scaling, RopeScaling::kNone);
}

TEST(Config, FindsTheFamilyByItsClassWhereTheTypeIsMissing) {
  const ModelConfig c =
      Good(ReadFolder(With({{"model_type", ""}, {"architectures", "[\"MixtralForCausalLM\"]"}})));
  EXPECT_EQ(c.family, "mixtral");
}

TEST(Config, ReadsMistralsWindow) {
  const ModelConfig c =
      Good(ReadFolder(With({{"model_type", "\"mistral\""}, {"sliding_window", "8"}})));
  EXPECT_EQ(c.family, "mistral");
  EXPECT_FALSE(c.is_mixture());
  EXPECT_EQ(c.layers[0].window, 8);
  EXPECT_EQ(c.layers[1].window, 8);
}

TEST(Config, ReadsLlama3Scaling) {
  const ModelConfig c = Good(ReadFolder(
      With({{"model_type", "\"llama\""},
            {"attention_bias", "true"},
            {"mlp_bias", "true"},
            {"tie_word_embeddings", "true"},
            {"rope_scaling", R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1.0,
           "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})"}})));
  EXPECT_EQ(c.rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(c.rope.factor, 8);
  EXPECT_EQ(c.rope.low_frequency_factor, 1);
  EXPECT_EQ(c.rope.high_frequency_factor, 4);
  EXPECT_EQ(c.rope.original_context, 8192);
  EXPECT_TRUE(c.attention.qkv_bias);
  EXPECT_TRUE(c.attention.output_bias);
  EXPECT_TRUE(c.ffn_bias);
  EXPECT_TRUE(c.tied_embeddings);
}

Json Qwen2Moe() {
  return With({{"model_type", "\"qwen2_moe\""},
               {"num_hidden_layers", "4"},
               {"moe_intermediate_size", "36"},
               {"shared_expert_intermediate_size", "52"},
               {"decoder_sparse_step", "2"},
               {"mlp_only_layers", "[3]"},
               {"num_experts", "8"},
               {"num_local_experts", ""},
               {"norm_topk_prob", "false"}});
}

TEST(Config, ReadsQwen2Moe) {
  const ModelConfig c = Good(ReadFolder(Qwen2Moe()));
  EXPECT_TRUE(c.attention.qkv_bias);
  EXPECT_FALSE(c.attention.output_bias);
  EXPECT_FALSE(c.router.renormalise);
  EXPECT_EQ(c.shared_expert, SharedExpert::kSigmoidGated);
  EXPECT_EQ(c.shared_ffn_dim, 52);
  EXPECT_EQ(c.expert_ffn_dim, 36);
  EXPECT_EQ(c.ffn_dim, 96);
  const bool sparse[] = {false, true, false, false};  // Every second one, but the fourth.
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(c.layers[i].sparse, sparse[i]) << i;
}

TEST(Config, QwenSlidesOnlyWhereItSaysSo) {
  const Json window = {{"sliding_window", "16"}, {"max_window_layers", "3"}};
  EXPECT_EQ(Good(ReadFolder(With(window, Qwen2Moe()))).layers[0].window, 0);
  Json used = With(window, Qwen2Moe());
  used["use_sliding_window"] = "true";
  const ModelConfig moe = Good(ReadFolder(used));
  // Qwen2-MoE: even layers below the border. Qwen2: all from the border on.
  const int64_t alternating[] = {16, 0, 16, 0};
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(moe.layers[i].window, alternating[i]) << i;
  used["model_type"] = "\"qwen2\"";
  const ModelConfig dense = Good(ReadFolder(used));
  const int64_t above[] = {0, 0, 0, 16};
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(dense.layers[i].window, above[i]) << i;
  used["layer_types"] =
      R"(["sliding_attention", "full_attention", "full_attention", "full_attention"])";
  EXPECT_EQ(Good(ReadFolder(used)).layers[0].window, 16);
}

TEST(Config, ReadsQwen3Moe) {
  const ModelConfig c = Good(ReadFolder(With({{"model_type", "\"qwen3_moe\""},
                                              {"head_dim", "24"},
                                              {"moe_intermediate_size", "28"},
                                              {"norm_topk_prob", "true"}})));
  EXPECT_EQ(c.attention.qk_norm, QkNorm::kPerHead);
  EXPECT_EQ(c.attention.head_dim, 24);
  EXPECT_TRUE(c.router.renormalise);
  EXPECT_FALSE(c.attention.qkv_bias);
}

TEST(Config, ReadsOlmoe) {
  const Json olmoe = {{"model_type", "\"olmoe\""}, {"clip_qkv", "0.75"}};
  const ModelConfig c = Good(ReadFolder(With(olmoe)));
  EXPECT_EQ(c.attention.qk_norm, QkNorm::kWhole);
  EXPECT_EQ(c.attention.clip_qkv, 0.75);
  EXPECT_FALSE(c.router.renormalise);
}

Json GptOss() {
  return With({{"model_type", "\"gpt_oss\""},
               {"num_hidden_layers", "4"},
               {"head_dim", "10"},
               {"experts_per_token", "2"},
               {"sliding_window", "8"},
               {"rope_theta", "150000"},
               {"rope_scaling", R"({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0,
                   "beta_slow": 1.0, "truncate": false,
                   "original_max_position_embeddings": 4096})"}});
}

TEST(Config, ReadsGptOss) {
  const ModelConfig c = Good(ReadFolder(GptOss()));
  EXPECT_TRUE(c.attention.sinks);
  EXPECT_TRUE(c.attention.qkv_bias);
  EXPECT_TRUE(c.attention.output_bias);
  EXPECT_TRUE(c.router.logit_bias);
  EXPECT_TRUE(c.expert_bias);
  EXPECT_EQ(c.router.gate, GateKind::kTopKThenSoftmax);
  EXPECT_EQ(c.activation, Activation::kClampedSwiglu);
  EXPECT_EQ(c.activation_limit, 7);
  EXPECT_EQ(c.activation_alpha, 1.702);
  const int64_t windows[] = {8, 0, 8, 0};
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(c.layers[i].window, windows[i]) << i;
  EXPECT_EQ(c.rope.scaling, RopeScaling::kYarn);
  EXPECT_FALSE(c.rope.truncate);
  // YaRN (arXiv:2309.00071), section 3.4: 0.1 ln(32) + 1.
  EXPECT_NEAR(c.rope.attention_factor, 1.3465735902799727, 1e-15);
}

Json DeepSeek() {
  return With({{"model_type", "\"deepseek_v3\""},
               {"num_hidden_layers", "3"},
               {"num_key_value_heads", "4"},
               {"num_local_experts", ""},
               {"n_routed_experts", "8"},
               {"num_experts_per_tok", "3"},
               {"moe_intermediate_size", "26"},
               {"n_shared_experts", "2"},
               {"q_lora_rank", "28"},
               {"kv_lora_rank", "20"},
               {"qk_nope_head_dim", "12"},
               {"qk_rope_head_dim", "4"},
               {"v_head_dim", "10"},
               {"first_k_dense_replace", "1"},
               {"n_group", "4"},
               {"topk_group", "2"},
               {"norm_topk_prob", "true"},
               {"routed_scaling_factor", "2.5"},
               {"scoring_func", "\"sigmoid\""},
               {"topk_method", "\"noaux_tc\""},
               {"num_nextn_predict_layers", "1"},
               {"rope_scaling", R"({"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1,
                   "mscale": 1.0, "mscale_all_dim": 1.0,
                   "original_max_position_embeddings": 128})"}});
}

TEST(Config, ReadsDeepSeekV3) {
  const ModelConfig c = Good(ReadFolder(DeepSeek()));
  EXPECT_EQ(c.attention.latent.q_rank, 28);
  EXPECT_EQ(c.attention.latent.kv_rank, 20);
  EXPECT_EQ(c.attention.latent.nope_dim, 12);
  EXPECT_EQ(c.attention.latent.rope_dim, 4);
  EXPECT_EQ(c.attention.latent.value_dim, 10);
  EXPECT_EQ(c.attention.head_dim, 16);
  EXPECT_EQ(c.rope.dims, 4);
  EXPECT_EQ(c.rope.layout, RopeLayout::kInterleaved);
  EXPECT_EQ(c.rope.attention_factor, 1);           // mscale and mscale_all_dim cancel,
  const double mscale = 0.1 * std::log(40.0) + 1;  // but the scores are scaled.
  EXPECT_NEAR(c.attention.score_scale, mscale * mscale / 4, 1e-15);
  EXPECT_EQ(c.router.gate, GateKind::kSigmoid);
  EXPECT_TRUE(c.router.selection_bias);
  EXPECT_EQ(c.router.groups, 4);
  EXPECT_EQ(c.router.groups_used, 2);
  EXPECT_EQ(c.router.scale, 2.5);
  EXPECT_EQ(c.shared_expert, SharedExpert::kAdded);
  EXPECT_EQ(c.shared_ffn_dim, 52);
  EXPECT_FALSE(c.layers[0].sparse);
  EXPECT_TRUE(c.layers[1].sparse);
  EXPECT_EQ(c.layers.size(), 3u);
  EXPECT_EQ(c.prediction_layers, 1);
}

TEST(Config, ReadsConsolidated) {
  const auto read = [](const std::string& more) {
    return Good(ReadFolder(R"({"dim": 64, "n_layers": 2, "head_dim": 16, "hidden_dim": 96,
        "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-05, "vocab_size": 100)" +
                               more + "}",
                           FileLayout::kConsolidated));
  };
  const ModelConfig mixture = read(R"(, "moe": {"num_experts_per_tok": 2, "num_experts": 8})");
  EXPECT_EQ(mixture.family, "mixtral");
  EXPECT_EQ(mixture.router.experts, 8);
  EXPECT_EQ(mixture.rope.base, 1e6);
  EXPECT_EQ(mixture.rope.layout, RopeLayout::kInterleaved);
  const ModelConfig windowed = read(R"(, "sliding_window": 4096)");
  EXPECT_EQ(windowed.family, "mistral");
  EXPECT_EQ(windowed.layers[0].window, 4096);
  EXPECT_EQ(windowed.rope.base, 1e4);  // Mistral 7B 0.1, whose file names no base.
  EXPECT_EQ(read(R"(, "rope_theta": 5e5)").rope.base, 5e5);
}

std::map<std::string, GgufValue> GgufLlama(const std::string& architecture = "llama") {
  std::map<std::string, GgufValue> values;
  values["general.architecture"] = architecture;
  const std::pair<const char*, uint32_t> numbers[] = {
      {"block_count", 2},          {"embedding_length", 64},       {"context_length", 512},
      {"attention.head_count", 4}, {"attention.head_count_kv", 2}, {"feed_forward_length", 96},
      {"expert_count", 8},         {"expert_used_count", 2},       {"vocab_size", 100},
  };
  for (const auto& [name, value] : numbers) values[architecture + "." + name] = value;
  values[architecture + ".attention.layer_norm_rms_epsilon"] = 1e-5f;
  return values;
}

TEST(Config, ReadsGguf) {
  const ModelConfig mixture = Good(ReadGguf(GgufLlama()));
  EXPECT_EQ(mixture.family, "mixtral");
  EXPECT_EQ(mixture.rope.layout, RopeLayout::kInterleaved);
  EXPECT_EQ(mixture.rope.base, 1e4);
  EXPECT_TRUE(mixture.tied_embeddings);
  EXPECT_TRUE(mixture.layers[0].sparse);
  auto dense = GgufLlama();
  dense.erase("llama.expert_count");
  dense["llama.rope.freq_base"] = 500000.0f;
  dense["general.name"] = std::string("A small one");
  const ModelConfig llama = Good(ReadGguf(dense, {{"token_embd.weight", {100, 64}},
                                                  {"output.weight", {100, 64}},
                                                  {"blk.0.attn_q.bias", {64}}}));
  EXPECT_EQ(llama.family, "llama");
  EXPECT_EQ(llama.name, "A small one");
  EXPECT_EQ(llama.rope.base, 5e5);
  EXPECT_FALSE(llama.tied_embeddings);
  EXPECT_TRUE(llama.attention.qkv_bias);
  EXPECT_FALSE(llama.attention.output_bias);
}

TEST(Config, GgufFamiliesSetTheirAxes) {
  const ModelConfig qwen2moe =
      Good(ReadGguf(GgufLlama("qwen2moe"), {{"blk.0.ffn_gate.weight", {96, 64}}}));
  EXPECT_EQ(qwen2moe.rope.layout, RopeLayout::kHalf);
  EXPECT_FALSE(qwen2moe.router.renormalise);
  EXPECT_EQ(qwen2moe.shared_expert, SharedExpert::kSigmoidGated);
  EXPECT_FALSE(qwen2moe.layers[0].sparse);  // It has a dense feed-forward and no router.
  EXPECT_TRUE(qwen2moe.layers[1].sparse);
  EXPECT_TRUE(Good(ReadGguf(GgufLlama("qwen3moe"))).router.renormalise);
  EXPECT_EQ(Good(ReadGguf(GgufLlama("olmoe"))).attention.qk_norm, QkNorm::kWhole);
  auto gptoss = GgufLlama("gpt-oss");
  gptoss["gpt-oss.attention.sliding_window"] = uint32_t{128};
  gptoss["gpt-oss.rope.scaling.type"] = std::string("yarn");
  gptoss["gpt-oss.rope.scaling.factor"] = 32.0f;
  gptoss["gpt-oss.rope.scaling.original_context_length"] = uint32_t{4096};
  const ModelConfig c = Good(ReadGguf(gptoss));
  EXPECT_EQ(c.layers[0].window, 128);
  EXPECT_EQ(c.layers[1].window, 0);
  EXPECT_FALSE(c.rope.truncate);
  EXPECT_NEAR(c.rope.attention_factor, 1.3465735902799727, 1e-7);
}

struct Case {
  Json settings;
  std::string message;
};

void ExpectErrors(const std::vector<Case>& cases, ErrorCode code) {
  for (const Case& c : cases) {
    const auto config = ReadFolder(c.settings);
    ASSERT_FALSE(config) << c.message;
    EXPECT_THAT(config.error().message, HasSubstr(c.message));
    EXPECT_EQ(config.error().code, code) << config.error().message;
    EXPECT_EQ(config.error().message.find('\n'), std::string::npos);
  }
}

TEST(ConfigErrors, NameTheNumberAndItsRange) {
  ExpectErrors(
      {{With({{"num_experts_per_tok", "9"}}),
        "config.json: num_experts_per_tok is 9, but must be 1..8 (num_local_experts)"},
       {With({{"num_experts_per_tok", "0"}}), "num_experts_per_tok is 0, but must be 1..8"},
       {With({{"hidden_size", ""}}), "config.json: hidden_size is missing, but must be 1..262144"},
       {With({{"hidden_size", "1e18"}}), "hidden_size is 1e+18, but must be 1..262144"},
       {With({{"hidden_size", "99999999999999999999"}}), "hidden_size is 1e+20, but must be"},
       {With({{"hidden_size", "-64"}}), "hidden_size is -64, but must be 1.."},
       {With({{"hidden_size", "64.5"}}), "hidden_size is 64.5, but must be 1.."},
       {With({{"hidden_size", "\"64\""}}), "hidden_size is \"64\", but must be 1.."},
       {With({{"hidden_size", "null"}}), "hidden_size is missing"},
       {With({{"hidden_size", "[64]"}}), "hidden_size is a list of 1, but must be"},
       {With({{"num_hidden_layers", "1000000000"}}),
        "num_hidden_layers is 1000000000, but must be 1..1024"},
       {With({{"num_hidden_layers", "0"}}), "num_hidden_layers is 0"},
       {With({{"num_attention_heads", "5"}, {"num_key_value_heads", "5"}}),
        "hidden_size is 64, but must be a multiple of num_attention_heads (5)"},
       {With({{"num_key_value_heads", "3"}}),
        "num_key_value_heads is 3, but must divide num_attention_heads (4)"},
       {With({{"num_key_value_heads", "8"}}), "must be 1..4 (num_attention_heads)"},
       {With({{"head_dim", "15"}}), "head_dim is 15, but must give heads an even size"},
       {With({{"vocab_size", "-1"}}), "vocab_size is -1"},
       {With({{"max_position_embeddings", "0"}}), "max_position_embeddings is 0"},
       {With({{"rms_norm_eps", "-1"}}), "rms_norm_eps is -1, but must be a number in 0..0.1"},
       {With({{"rope_theta", "0"}}), "rope_theta is 0"},
       {With({{"rope_theta", "\"big\""}}), "rope_theta is \"big\", but must be a number"},
       {With({{"num_local_experts", "0"}}), "num_local_experts is 0"},
       {With({{"num_experts", "4"}}), "num_local_experts is 8, but num_experts is 4"},
       {With({{"sliding_window", "-4"}}), "sliding_window is -4"},
       {With({{"tie_word_embeddings", "1"}}), "must be true or false"},
       {With({{"layer_types", "[\"full_attention\"]"}}, GptOss()), "must have 4 entries"},
       {With({{"rope_scaling", R"({"factor": 2.0})"}}), "must name the kind of scaling"},
       {With({{"rope_scaling", R"({"type": "linear"})"}}), "factor is missing"},
       {With({{"rope_scaling", R"({"type": "linear", "factor": 0.5})"}}), "factor is 0.5"},
       {With({{"rope_scaling", R"({"rope_type": "llama3", "factor": 8})"}}),
        "low_freq_factor is missing"},
       {With({{"mlp_only_layers", "[4]"}}, Qwen2Moe()), "mlp_only_layers"},
       {With({{"decoder_sparse_step", "0"}}, Qwen2Moe()), "decoder_sparse_step is 0"},
       {With({{"n_group", "3"}}, DeepSeek()), "n_group is 3, but must divide n_routed_experts (8)"},
       {With({{"n_group", "8"}}, DeepSeek()), "must leave each group at least two experts"},
       {With({{"topk_group", "5"}}, DeepSeek()), "topk_group is 5, but must be 1..4 (n_group)"},
       {With({{"num_experts_per_tok", "5"}}, DeepSeek()),
        "num_experts_per_tok is 5, but must be 1..4"},
       {With({{"kv_lora_rank", ""}}, DeepSeek()), "kv_lora_rank is missing"},
       {With({{"qk_rope_head_dim", "5"}}, DeepSeek()), "qk_rope_head_dim is 5, but must be even"}},
      ErrorCode::kInvalidInput);
}

TEST(ConfigErrors, SayWhatIsNotSupported) {
  ExpectErrors(
      {{With({{"model_type", "\"gpt2\""}}),
        "config.json: model_type is \"gpt2\", but moxie supports mixtral, mistral, llama, qwen2, "
        "qwen2_moe, qwen3, qwen3_moe, olmoe, gpt_oss, deepseek_v3"},
       {With({{"hidden_act", "\"relu\""}}), "hidden_act is \"relu\", but only \"silu\""},
       {With({{"rope_scaling", R"({"rope_type": "dynamic", "factor": 2.0})"}}),
        "is \"dynamic\", but default, linear, llama3 and yarn are supported"},
       {With({{"rope_scaling", R"({"rope_type": "linear", "factor": 2.0, "twist": 1})"}}),
        "rope_scaling.twist is 1, but this setting is not supported"},
       {With({{"quantization_config", R"({"quant_method": "fp8"})"}}), "quantization_config"},
       {With({{"quantization_config", R"({"quant_method": "fp8"})"}}, GptOss()), "only \"mxfp4\""},
       {With({{"partial_rotary_factor", "0.5"}}), "partial_rotary_factor is 0.5, but only 1"},
       {With({{"final_logit_softcapping", "30.0"}}), "final_logit_softcapping is 30"},
       {With({{"scoring_func", "\"softmax\""}}, DeepSeek()), "scoring_func is \"softmax\""},
       {With({{"attention_bias", "true"}}, DeepSeek()), "attention_bias is true"},
       {With({{"layer_types", R"(["chunked_attention", "full_attention", "full_attention",
             "full_attention"])"}},
             GptOss()),
        "layer_types has \"chunked_attention\""}},
      ErrorCode::kUnsupported);
}

TEST(ConfigErrors, RefuseWhatIsNoConfiguration) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[1]"), std::string("3"),
        std::string("{\"hidden_size\": NaN}"), std::string(100'000, '['),
        std::string("{\"a\": 1, \"a\": 2}"), std::string("\xff\xfe")}) {
    const auto config = ReadFolder(text);
    ASSERT_FALSE(config) << text.substr(0, 40);
    EXPECT_THAT(config.error().message, HasSubstr("config.json"));
  }
  EXPECT_THAT(ReadFolder(std::string("{}")).error().message, HasSubstr("model_type is missing"));
}

TEST(ConfigErrors, OfGguf) {
  auto unknown = GgufLlama("bloom");
  EXPECT_THAT(ReadGguf(unknown).error().message,
              HasSubstr("model.gguf: general.architecture is \"bloom\", but moxie supports llama"));
  auto many = GgufLlama();
  many["llama.expert_used_count"] = uint32_t{9};
  EXPECT_EQ(ReadGguf(many).error().message,
            "model.gguf: llama.expert_used_count is 9, but must be 1..8 (llama.expert_count)");
  auto other = GgufLlama();
  EXPECT_THAT(ReadGguf(other, {{"token_embd.weight", {90, 64}}}).error().message,
              HasSubstr("llama.vocab_size is 100, but token_embd.weight has 90 rows"));
  auto rope = GgufLlama();
  rope["llama.rope.scaling.type"] = std::string("longrope");
  EXPECT_THAT(ReadGguf(rope).error().message, HasSubstr("llama.rope.scaling.type"));
  EXPECT_THAT(ReadGguf({}).error().message, HasSubstr("general.architecture is missing"));
  auto gate = GgufLlama("deepseek2");
  EXPECT_FALSE(ReadGguf(gate));
}

}  // namespace
}  // namespace moxie
