#include "model/catalogue.h"

#include <algorithm>
#include <cctype>
#include <string>
#include <utility>

namespace moxie {
namespace {

/// What all families share; a dense feed-forward in every layer.
struct Shape {
  int64_t dim, layers, heads, kv_heads, head_dim, ffn, vocab, context;
  double rope_base;
  bool tied = false;
};

struct Experts {
  int64_t count, used, ffn;
};

ModelConfig Dense(std::string family, std::string name, const Shape& shape) {
  ModelConfig config;
  config.family = std::move(family);
  config.name = std::move(name);
  config.dim = shape.dim;
  config.vocab_size = shape.vocab;
  config.context_length = shape.context;
  config.tied_embeddings = shape.tied;
  config.attention.heads = shape.heads;
  config.attention.kv_heads = shape.kv_heads;
  config.attention.head_dim = shape.head_dim;
  config.rope.dims = shape.head_dim;
  config.rope.base = shape.rope_base;
  config.ffn_dim = shape.ffn;
  config.layers.resize(static_cast<size_t>(shape.layers));
  return config;
}

/// Every layer's feed-forward becomes a mixture.
ModelConfig Mixture(std::string family, std::string name, const Shape& shape,
                    const Experts& experts) {
  ModelConfig config = Dense(std::move(family), std::move(name), shape);
  config.expert_ffn_dim = experts.ffn;
  config.router.experts = experts.count;
  config.router.used = experts.used;
  for (LayerConfig& layer : config.layers) layer.sparse = true;
  return config;
}

ModelConfig Mistral7B() {
  ModelConfig config =
      Dense("mistral", "Mistral 7B v0.1", {4096, 32, 32, 8, 128, 14336, 32000, 32768, 1e4});
  for (LayerConfig& layer : config.layers) layer.window = 4096;
  return config;
}

ModelConfig Grok1() {
  ModelConfig config =
      Mixture("grok", "Grok-1", {6144, 64, 48, 8, 128, 0, 131072, 8192, 1e4, true}, {8, 2, 32768});
  config.post_norms = true;
  return config;
}

ModelConfig Qwen2Moe() {
  ModelConfig config = Mixture("qwen2moe", "Qwen2 57B-A14B",
                               {3584, 28, 28, 4, 128, 0, 151936, 32768, 1e6}, {64, 8, 2560});
  config.attention.qkv_bias = true;
  config.shared_expert = SharedExpert::kSigmoidGated;
  config.shared_ffn_dim = 20480;
  return config;
}

ModelConfig Qwen3Moe() {
  ModelConfig config = Mixture("qwen3moe", "Qwen3 30B-A3B",
                               {2048, 48, 32, 4, 128, 0, 151936, 40960, 1e6}, {128, 8, 768});
  config.attention.qk_norm = QkNorm::kPerHead;
  return config;
}

ModelConfig Olmoe() {
  ModelConfig config =
      Mixture("olmoe", "OLMoE 1B-7B", {2048, 16, 16, 16, 128, 0, 50304, 4096, 1e4}, {64, 8, 1024});
  config.attention.qk_norm = QkNorm::kWhole;
  return config;
}

ModelConfig GptOss(std::string name, int64_t layers, int64_t experts) {
  ModelConfig config =
      Mixture("gpt-oss", std::move(name), {2880, layers, 64, 8, 64, 0, 201088, 131072, 150000},
              {experts, 4, 2880});
  config.attention.sinks = config.attention.qkv_bias = config.attention.output_bias = true;
  config.router.logit_bias = config.expert_bias = true;
  for (size_t i = 0; i < config.layers.size(); i += 2) config.layers[i].window = 128;
  return config;
}

ModelConfig DeepSeekV3() {
  ModelConfig config =
      Mixture("deepseek3", "DeepSeek-V3", {7168, 61, 128, 128, 192, 18432, 129280, 163840, 1e4},
              {256, 8, 2048});
  config.attention.latent = {
      .q_rank = 1536, .kv_rank = 512, .nope_dim = 128, .rope_dim = 64, .value_dim = 128};
  config.rope.dims = 64;
  config.router.selection_bias = true;
  config.shared_expert = SharedExpert::kAdded;
  config.shared_ffn_dim = 2048;
  for (size_t i = 0; i < 3; ++i) config.layers[i].sparse = false;
  return config;
}

/// GLaM (arXiv:2112.06905): every other layer is a mixture of 64 experts without gates, 2 used; the
/// layers between have a gate. Positions are relative, which counts for nothing here.
ModelConfig Glam(std::string name, const Shape& shape) {
  ModelConfig config = Mixture("glam", std::move(name), shape, {64, 2, shape.ffn});
  for (size_t i = 1; i < config.layers.size(); i += 2) config.layers[i].sparse = false;
  config.experts_gated = false;
  return config;
}

/// A Switch Transformer (arXiv:2101.03961), whose encoder and decoder are planned as one stack; the
/// decoder's attention to the encoder, less than 1 % of the parameters, is left out. Where table 9
/// of the paper and the published configurations differ, these count: 128 experts of XXL (64 in the
/// table would not make its 395B parameters), 30 heads of C (32 in the table), and output matrices
/// of their own for both.
ModelConfig Switch(std::string name, const Shape& shape, const Experts& experts, int64_t every,
                   bool gated) {
  ModelConfig config = Mixture("switch", std::move(name), shape, experts);
  config.experts_gated = gated;
  for (size_t i = 0; i < config.layers.size(); ++i)
    config.layers[i].sparse = static_cast<int64_t>(i) % every == every - 1;
  return config;
}

constexpr std::string_view kGlam = "arXiv:2112.06905, table 4";
constexpr std::string_view kGlamAgain = "arXiv:2112.06905, table 4; arXiv:2202.09368, table 1";
constexpr std::string_view kSwitch = "arXiv:2101.03961, table 9";
constexpr std::string_view kSwitchXxl =
    "arXiv:2101.03961, table 9; google/flaxformer's switch_xxl.gin";
constexpr std::string_view kSwitchC = "google/flaxformer's switch_c.gin; google's config.json";
constexpr std::string_view kLlama2 = "arXiv:2307.09288; huggingface.co/meta-llama, config.json";
constexpr std::string_view kLlama3 = "arXiv:2407.21783, table 3; meta-llama's config.json";
constexpr std::string_view kSmolLM2 = "arXiv:2502.02737; HuggingFaceTB's config.json";
constexpr std::string_view kGptOss = "arXiv:2508.10925, table 1; openai's config.json";

}  // namespace

std::vector<CatalogueModel> Catalogue() {
  // dim, layers, heads, kv heads, head size, ffn, vocabulary, context, rope base, tied
  return {
      {"mixtral-8x7b", "arXiv:2401.04088, table 1; mistralai's config.json",
       Mixture("mixtral", "Mixtral 8x7B", {4096, 32, 32, 8, 128, 0, 32000, 32768, 1e6},
               {8, 2, 14336})},
      {"mixtral-8x22b", "huggingface.co/mistralai/Mixtral-8x22B-v0.1, config.json",
       Mixture("mixtral", "Mixtral 8x22B", {6144, 56, 48, 8, 128, 0, 32000, 65536, 1e6},
               {8, 2, 16384})},
      {"mistral-7b", "arXiv:2310.06825, table 1; mistralai's config.json", Mistral7B()},
      {"llama-2-7b", kLlama2,
       Dense("llama", "Llama 2 7B", {4096, 32, 32, 32, 128, 11008, 32000, 4096, 1e4})},
      {"llama-2-13b", kLlama2,
       Dense("llama", "Llama 2 13B", {5120, 40, 40, 40, 128, 13824, 32000, 4096, 1e4})},
      {"llama-2-70b", kLlama2,
       Dense("llama", "Llama 2 70B", {8192, 80, 64, 8, 128, 28672, 32000, 4096, 1e4})},
      {"llama-3-8b", kLlama3,
       Dense("llama", "Llama 3 8B", {4096, 32, 32, 8, 128, 14336, 128256, 8192, 5e5})},
      {"llama-3-70b", kLlama3,
       Dense("llama", "Llama 3 70B", {8192, 80, 64, 8, 128, 28672, 128256, 8192, 5e5})},
      {"llama-3.1-8b", kLlama3,
       Dense("llama", "Llama 3.1 8B", {4096, 32, 32, 8, 128, 14336, 128256, 131072, 5e5})},
      {"llama-3.1-70b", kLlama3,
       Dense("llama", "Llama 3.1 70B", {8192, 80, 64, 8, 128, 28672, 128256, 131072, 5e5})},
      {"grok-1", "github.com/xai-org/grok-1, run.py and model.py", Grok1()},
      {"qwen2-57b-a14b", "arXiv:2407.10671, table 1; Qwen's config.json", Qwen2Moe()},
      {"qwen3-30b-a3b", "arXiv:2505.09388, table 2; Qwen's config.json", Qwen3Moe()},
      {"olmoe-1b-7b", "arXiv:2409.02060, table 10; allenai's config.json", Olmoe()},
      {"gpt-oss-20b", kGptOss, GptOss("gpt-oss 20B", 24, 32)},
      {"gpt-oss-120b", kGptOss, GptOss("gpt-oss 120B", 36, 128)},
      {"deepseek-v3", "arXiv:2412.19437, section 4.2; deepseek-ai's config.json", DeepSeekV3()},
      {"glam-0.1b-64e", kGlamAgain,
       Glam("GLaM 0.1B/64E", {768, 12, 12, 12, 64, 3072, 256000, 1024, 1e4, true})},
      {"glam-1.7b-64e", kGlam,
       Glam("GLaM 1.7B/64E", {2048, 24, 16, 16, 128, 8192, 256000, 1024, 1e4, true})},
      {"glam-8b-64e", kGlamAgain,
       Glam("GLaM 8B/64E", {4096, 32, 32, 32, 128, 16384, 256000, 1024, 1e4, true})},
      {"glam-64b-64e", kGlam,
       Glam("GLaM 64B/64E", {8192, 64, 128, 128, 128, 32768, 256000, 1024, 1e4, true})},
      {"switch-base-128", kSwitch,
       Switch("Switch Base", {768, 24, 12, 12, 64, 2048, 32128, 512, 1e4, true}, {128, 1, 2048}, 2,
              true)},
      {"switch-large-128", kSwitch,
       Switch("Switch Large", {1024, 48, 16, 16, 64, 2816, 32128, 512, 1e4, true}, {128, 1, 2816},
              2, true)},
      {"switch-xxl-128", kSwitchXxl,
       Switch("Switch XXL", {4096, 48, 64, 64, 64, 10240, 32128, 512, 1e4}, {128, 1, 10240}, 2,
              true)},
      {"switch-c-2048", kSwitchC,
       Switch("Switch C", {2080, 30, 30, 30, 64, 6144, 32128, 512, 1e4}, {2048, 1, 6144}, 1,
              false)},
      {"smollm2-135m", kSmolLM2,
       Dense("llama", "SmolLM2 135M", {576, 30, 9, 3, 64, 1536, 49152, 8192, 1e5, true})},
      {"smollm2-360m", kSmolLM2,
       Dense("llama", "SmolLM2 360M", {960, 32, 15, 5, 64, 2560, 49152, 8192, 1e5, true})},
      {"smollm2-1.7b", kSmolLM2,
       Dense("llama", "SmolLM2 1.7B", {2048, 24, 32, 32, 64, 8192, 49152, 8192, 130000, true})},
  };
}

std::optional<CatalogueModel> FindInCatalogue(std::string_view name) {
  std::string wanted(name);
  std::transform(wanted.begin(), wanted.end(), wanted.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (CatalogueModel& model : Catalogue()) {
    if (model.name == wanted) return std::move(model);
  }
  return std::nullopt;
}

}  // namespace moxie
