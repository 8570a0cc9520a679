#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convert/folder.h"
#include "forward/rope.h"
#include "model/family.h"
#include "model/names.h"

namespace moxie {
namespace {

using nlohmann::json;

/// The shortest decimal of the float32 that a GGUF holds: 1e-05, not 9.9999997473787516e-06.
double Tidy(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text - 1, static_cast<float>(value)).ptr;
  *end = '\0';
  return std::strtod(text, nullptr);
}

/// Whether two lists of frequencies are the same but for the last bits, in which programs that
/// write GGUFs differ.
bool Close(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(
      a, b, [](float x, float y) { return std::abs(x - y) <= 1e-6f * std::abs(x); });
}

/// llama3's settings that give a GGUF's frequency factors, if any do: the greatest factor is the
/// factor, and published models differ in little else.
std::optional<RopeConfig> FindLlama3(const ModelConfig& config) {
  const std::vector<float> wanted = RopeFrequencies(config.rope);
  RopeConfig rope = config.rope;
  rope.factor = Tidy(std::ranges::max(rope.frequency_factors));
  rope.frequency_factors.clear();
  rope.scaling = RopeScaling::kLlama3;
  for (const double low : {1.0, 2.0}) {
    for (const double high : {4.0, 2.0, 8.0, 16.0, 32.0}) {
      // 8192 for all of Meta's models.
      for (int64_t context = 8192 * 128; context >= 16; context /= 2) {
        rope.low_frequency_factor = low;
        rope.high_frequency_factor = high;
        rope.original_context = static_cast<double>(context);
        if (high > low && Close(RopeFrequencies(rope), wanted)) return rope;
      }
    }
  }
  return std::nullopt;
}

class ConfigWriter {
 public:
  ConfigWriter(const ModelFiles& files, const ModelConfig& config,
               const std::vector<PlannedTensor>& tensors)
      : files_(files), config_(config), tensors_(tensors), window_(LargestWindow(config)) {
    // llama.cpp's files call Mistral llama; only Mistral slides.
    const bool mistral = config.family == "llama" && window_ > 0;
    family_ = FindFamily(mistral ? "mistral" : config.family);
  }

  Result<json> Write() {
    Shape();
    const bool latent = config_.attention.latent.kv_rank > 0;
    latent ? LatentAttention() : Attention();
    MOXIE_TRY(Windows());
    MOXIE_TRY(Rope());
    if (config_.is_mixture()) Mixture();
    return std::move(out_);
  }

 private:
  static int64_t LargestWindow(const ModelConfig& config) {
    int64_t window = 0;
    for (const LayerConfig& layer : config.layers) window = std::max(window, layer.window);
    return window;
  }

  Error Unsayable(const std::string& what) const {
    return {ErrorCode::kUnsupported, DisplayName(files_) + ": " + what +
                                         ", which a config.json of " +
                                         std::string(family_->model_type) + " cannot say"};
  }

  bool Is(std::string_view family) const { return family_->name == family; }

  void Shape() {
    out_["architectures"] = {family_->architecture};
    out_["model_type"] = family_->model_type;
    out_["hidden_act"] = "silu";
    out_["hidden_size"] = config_.dim;
    out_["intermediate_size"] = config_.ffn_dim > 0 ? config_.ffn_dim : config_.expert_ffn_dim;
    out_["max_position_embeddings"] = config_.context_length;
    out_["num_attention_heads"] = config_.attention.heads;
    out_["num_hidden_layers"] = config_.layers.size();
    out_["rms_norm_eps"] = Tidy(config_.norm_eps);
    out_["rope_theta"] = Tidy(config_.rope.base);
    out_["tie_word_embeddings"] = config_.tied_embeddings;
    out_["vocab_size"] = config_.vocab_size;
    DType main = MainType(tensors_);
    if (main == DType::kI8) main = tensors_.front().spec.type;
    out_["torch_dtype"] = main == DType::kF32   ? "float32"
                          : main == DType::kF16 ? "float16"
                                                : "bfloat16";
  }

  void Attention() {
    const AttentionConfig& attention = config_.attention;
    out_["num_key_value_heads"] = attention.kv_heads;
    out_["head_dim"] = attention.head_dim;
    // Qwen2's biases need no saying.
    if (!Is("qwen2") && !Is("qwen2moe")) out_["attention_bias"] = attention.qkv_bias;
    if (Is("llama")) out_["mlp_bias"] = config_.ffn_bias;
    if (attention.clip_qkv > 0) out_["clip_qkv"] = Tidy(attention.clip_qkv);
  }

  void LatentAttention() {
    const LatentConfig& latent = config_.attention.latent;
    out_["num_key_value_heads"] = config_.attention.heads;
    out_["q_lora_rank"] = latent.q_rank > 0 ? json(latent.q_rank) : json(nullptr);
    out_["kv_lora_rank"] = latent.kv_rank;
    out_["qk_nope_head_dim"] = latent.nope_dim;
    out_["qk_rope_head_dim"] = latent.rope_dim;
    out_["v_head_dim"] = latent.value_dim;
    out_["attention_bias"] = false;
    out_["rope_interleave"] = config_.rope.layout == RopeLayout::kInterleaved;
  }

  Result<void> Windows() {
    if (window_ == 0) {
      if (Is("mistral") || Is("mixtral")) out_["sliding_window"] = nullptr;
      return {};
    }
    out_["sliding_window"] = window_;
    if (Is("mistral") || Is("mixtral")) return {};
    if (!Is("gpt-oss") && !family_->name.starts_with("qwen")) return Unsayable("slides windows");
    if (!Is("gpt-oss")) out_["use_sliding_window"] = true;
    for (const LayerConfig& layer : config_.layers)
      out_["layer_types"].push_back(layer.window > 0 ? "sliding_attention" : "full_attention");
    return {};
  }

  Result<void> Rope() {
    RopeConfig rope = config_.rope;
    if (rope.dims != (config_.attention.latent.kv_rank > 0 ? config_.attention.latent.rope_dim
                                                           : config_.attention.head_dim))
      return Unsayable("rotates a part of each head");
    if (!rope.frequency_factors.empty()) {
      const std::optional<RopeConfig> llama3 =
          rope.scaling == RopeScaling::kNone ? FindLlama3(config_) : std::nullopt;
      if (!llama3) return Unsayable("has frequency factors (rope_freqs.weight) of its own");
      rope = *llama3;
    }
    if (rope.scaling == RopeScaling::kNone) return {};
    json& scaling = out_["rope_scaling"];
    scaling["factor"] = Tidy(rope.factor);
    if (rope.scaling == RopeScaling::kLinear) {
      scaling["rope_type"] = "linear";
      return {};
    }
    scaling["original_max_position_embeddings"] = static_cast<int64_t>(rope.original_context);
    if (rope.scaling == RopeScaling::kLlama3) {
      scaling["rope_type"] = "llama3";
      scaling["low_freq_factor"] = rope.low_frequency_factor;
      scaling["high_freq_factor"] = rope.high_frequency_factor;
      return {};
    }
    scaling["rope_type"] = "yarn";
    scaling["beta_fast"] = Tidy(rope.beta_fast);
    scaling["beta_slow"] = Tidy(rope.beta_slow);
    if (!rope.truncate) scaling["truncate"] = false;
    YarnScales(scaling);
    return {};
  }

  void YarnScales(json& scaling) const {
    const AttentionConfig& attention = config_.attention;
    const RopeConfig& rope = config_.rope;
    if (attention.latent.kv_rank > 0 && rope.factor > 1) {
      const double mscale =
          std::sqrt(attention.score_scale * std::sqrt(static_cast<double>(attention.head_dim)));
      const double all = Tidy((mscale - 1) / (0.1 * std::log(rope.factor)));
      if (std::abs(all) > 1e-6) scaling["mscale"] = scaling["mscale_all_dim"] = all;
    } else if (std::abs(rope.attention_factor - YarnMscale(rope.factor, 1)) > 1e-6) {
      scaling["attention_factor"] = Tidy(rope.attention_factor);
    }
  }

  void Mixture() {
    const RouterConfig& router = config_.router;
    const char* const count = Is("mixtral") || Is("gpt-oss") ? "num_local_experts"
                              : Is("deepseek3")              ? "n_routed_experts"
                                                             : "num_experts";
    out_[count] = router.experts;
    out_["num_experts_per_tok"] = router.used;
    if (Is("gpt-oss")) {
      out_["swiglu_limit"] = config_.activation_limit;
      const bool packed = std::ranges::any_of(tensors_, [](const PlannedTensor& tensor) {
        return tensor.form == PlannedTensor::Form::kMxfp4Blocks;
      });
      if (packed) {
        out_["quantization_config"] = {{"quant_method", "mxfp4"},
                                       {"modules_to_not_convert",
                                        {"model.layers.*.self_attn", "model.layers.*.mlp.router",
                                         "model.embed_tokens", "lm_head"}}};
      }
      return;
    }
    if (Is("mixtral")) return;
    out_["norm_topk_prob"] = router.renormalise;
    if (Is("olmoe")) return;
    out_["moe_intermediate_size"] = config_.expert_ffn_dim;
    if (Is("deepseek3")) return SigmoidGate();
    json dense = json::array();
    for (size_t i = 0; i < config_.layers.size(); ++i) {
      if (!config_.layers[i].sparse) dense.push_back(i);
    }
    out_["mlp_only_layers"] = std::move(dense);
    out_["decoder_sparse_step"] = 1;
    if (Is("qwen2moe")) out_["shared_expert_intermediate_size"] = config_.shared_ffn_dim;
  }

  void SigmoidGate() {
    const RouterConfig& router = config_.router;
    const auto sparse = std::ranges::find_if(config_.layers, &LayerConfig::sparse);
    out_["first_k_dense_replace"] = sparse - config_.layers.begin();
    out_["moe_layer_freq"] = 1;
    out_["n_shared_experts"] = config_.shared_ffn_dim / config_.expert_ffn_dim;
    out_["n_group"] = router.groups;
    out_["topk_group"] = router.groups_used;
    out_["routed_scaling_factor"] = Tidy(router.scale);
    out_["scoring_func"] = "sigmoid";
    out_["topk_method"] = "noaux_tc";
  }

  const ModelFiles& files_;
  const ModelConfig& config_;
  const std::vector<PlannedTensor>& tensors_;
  const int64_t window_;
  const Family* family_ = nullptr;
  json out_ = json::object();
};

}  // namespace

Result<void> WriteFolderConfig(const ModelFiles& gguf, const ModelConfig& config,
                               const std::vector<PlannedTensor>& tensors, FolderWriter& folder) {
  MOXIE_TRY_ASSIGN(json out, ConfigWriter(gguf, config, tensors).Write());
  for (const auto& [key, name] : {std::pair{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                  std::pair{"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                  std::pair{"pad_token_id", "tokenizer.ggml.padding_token_id"}}) {
    MOXIE_TRY_ASSIGN(const auto id, gguf.metadata.Integer(name));
    if (id) out[key] = *id;
  }
  return folder.WriteFile("config.json",
                          out.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace moxie
