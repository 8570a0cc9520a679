#include "convert/gguf_metadata.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>

#include "forward/rope.h"
#include "model/describe.h"
#include "model/family.h"
#include "model/names.h"

namespace moxie {
namespace {

constexpr uint32_t kQuantizationVersion = 2;
constexpr uint32_t kSigmoidGating = 2;  // llama.cpp's number for it.

/// Adds keys below an architecture's prefix in the types that llama.cpp reads.
class Keys {
 public:
  Keys(GgufMetadata* metadata, std::string_view architecture)
      : metadata_(metadata), prefix_(std::string(architecture) + ".") {}

  void Count(std::string_view key, int64_t value) {
    Set(key, static_cast<uint32_t>(std::clamp<int64_t>(value, 0, UINT32_MAX)));
  }
  void Number(std::string_view key, double value) { Set(key, static_cast<float>(value)); }
  void Flag(std::string_view key, bool value) { Set(key, value); }
  void Text(std::string_view key, std::string value) { Set(key, std::move(value)); }
  void Flags(std::string_view key, std::vector<bool> values) {
    Set(key, GgufArray(std::move(values)));
  }

 private:
  void Set(std::string_view key, GgufValue value) {
    metadata_->values.insert_or_assign(prefix_ + std::string(key), std::move(value));
  }

  GgufMetadata* metadata_;
  std::string prefix_;
};

/// "1.1B", "135M": two digits at least, as the gguf package rounds.
std::string Rounded(double count) {
  constexpr std::array<std::pair<double, char>, 4> kUnits = {
      {{1e12, 'T'}, {1e9, 'B'}, {1e6, 'M'}, {1e3, 'K'}}};
  const auto unit = std::find_if(kUnits.begin(), kUnits.end() - 1,
                                 [count](const auto& u) { return count > u.first; });
  const double scaled = count / unit->first;
  const int decimals = std::nearbyint(scaled) >= 10 ? 0 : std::nearbyint(scaled) >= 1 ? 1 : 2;
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.*f%c", decimals, scaled, unit->second);
  return text.data();
}

/// "8x7B": the experts, and what the model would have with one of them.
std::string SizeLabel(const ModelConfig& config) {
  const int64_t all = CountParameters(config).total;
  if (!config.is_mixture()) return Rounded(static_cast<double>(all));
  const auto sparse = std::ranges::count_if(config.layers, &LayerConfig::sparse);
  const int64_t others =
      (config.router.experts - 1) * sparse * 3 * config.dim * config.expert_ffn_dim;
  return std::to_string(config.router.experts) + "x" + Rounded(static_cast<double>(all - others));
}

class MetadataWriter {
 public:
  MetadataWriter(const ModelFiles& files, const ModelConfig& config)
      : files_(files),
        config_(config),
        family_(*FindFamily(config.family)),
        keys_(&metadata_, family_.gguf) {}

  Result<GgufMetadata> Write() {
    metadata_.file = DisplayName(files_);
    metadata_.values["general.architecture"] = std::string(family_.gguf);
    metadata_.values["general.type"] = std::string("model");
    metadata_.values["general.name"] = config_.name;
    metadata_.values["general.size_label"] = SizeLabel(config_);
    metadata_.values["general.quantization_version"] = kQuantizationVersion;
    Shape();
    const bool latent = config_.attention.latent.kv_rank > 0;
    latent ? LatentAttention() : Attention();
    MOXIE_TRY(Windows());
    MOXIE_TRY(Rope());
    if (config_.is_mixture()) MOXIE_TRY(Mixture());
    return std::move(metadata_);
  }

 private:
  Error Unsayable(const std::string& what) const {
    return {ErrorCode::kUnsupported, DisplayName(files_) + ": " + what +
                                         ", which a GGUF of the architecture " +
                                         std::string(family_.gguf) + " cannot say"};
  }

  void Shape() {
    keys_.Count("block_count", static_cast<int64_t>(config_.layers.size()));
    keys_.Count("context_length", config_.context_length);
    keys_.Count("embedding_length", config_.dim);
    keys_.Count("vocab_size", config_.vocab_size);
    keys_.Count("feed_forward_length",
                config_.ffn_dim > 0 ? config_.ffn_dim : config_.expert_ffn_dim);
    keys_.Number("attention.layer_norm_rms_epsilon", config_.norm_eps);
    keys_.Count("attention.head_count", config_.attention.heads);
  }

  void Attention() {
    const AttentionConfig& attention = config_.attention;
    keys_.Count("attention.head_count_kv", attention.kv_heads);
    keys_.Count("attention.key_length", attention.head_dim);
    keys_.Count("attention.value_length", attention.head_dim);
    keys_.Count("rope.dimension_count", config_.rope.dims);
    if (attention.clip_qkv > 0) keys_.Number("attention.clamp_kqv", attention.clip_qkv);
  }

  /// llama.cpp runs latent attention as one group of keys as wide as the latent.
  void LatentAttention() {
    const LatentConfig& latent = config_.attention.latent;
    keys_.Count("attention.head_count_kv", 1);
    if (latent.q_rank > 0) keys_.Count("attention.q_lora_rank", latent.q_rank);
    keys_.Count("attention.kv_lora_rank", latent.kv_rank);
    keys_.Count("attention.key_length", latent.kv_rank + latent.rope_dim);
    keys_.Count("attention.value_length", latent.kv_rank);
    keys_.Count("attention.key_length_mla", config_.attention.head_dim);
    keys_.Count("attention.value_length_mla", latent.value_dim);
    keys_.Count("rope.dimension_count", latent.rope_dim);
  }

  Result<void> Windows() {
    int64_t window = 0;
    bool uniform = true;
    std::vector<bool> slides;
    for (const LayerConfig& layer : config_.layers) {
      window = std::max(window, layer.window);
      uniform = uniform && layer.window == config_.layers.front().window;
      slides.push_back(layer.window > 0);
    }
    if (window == 0) return {};
    keys_.Count("attention.sliding_window", window);
    const bool by_layer = config_.attention.sinks;  // gpt-oss: every other unless it says.
    if (!by_layer && !uniform) return Unsayable("slides windows over some layers only");
    bool alternates = true;
    for (size_t i = 0; i < slides.size(); ++i) alternates = alternates && slides[i] == (i % 2 == 0);
    if (by_layer && !alternates) keys_.Flags("attention.sliding_window_pattern", std::move(slides));
    return {};
  }

  Result<void> Rope() {
    const RopeConfig& rope = config_.rope;
    keys_.Number("rope.freq_base", rope.base);
    if (rope.scaling == RopeScaling::kLinear) {
      keys_.Text("rope.scaling.type", "linear");
      keys_.Number("rope.scaling.factor", rope.factor);
    }
    if (rope.scaling != RopeScaling::kYarn) return {};  // llama3's are the factors' tensor.
    const bool gpt_oss = config_.attention.sinks;
    if (rope.truncate == gpt_oss)
      return Unsayable(std::string("YaRN with truncate ") + (rope.truncate ? "true" : "false"));
    keys_.Text("rope.scaling.type", "yarn");
    keys_.Number("rope.scaling.factor", rope.factor);
    keys_.Count("rope.scaling.original_context_length",
                static_cast<int64_t>(rope.original_context));
    keys_.Number("rope.scaling.yarn_beta_fast", rope.beta_fast);
    keys_.Number("rope.scaling.yarn_beta_slow", rope.beta_slow);
    return YarnScales();
  }

  /// DeepSeek's scales follow from mscale_all_dim, of which the file has a tenth.
  Result<void> YarnScales() {
    const RopeConfig& rope = config_.rope;
    const AttentionConfig& attention = config_.attention;
    double inferred = YarnMscale(rope.factor, 1);
    if (attention.latent.kv_rank > 0) {
      const double mscale =
          std::sqrt(attention.score_scale * std::sqrt(static_cast<double>(attention.head_dim)));
      const double multiplier = rope.factor > 1 ? (mscale - 1) / std::log(rope.factor) : 0;
      keys_.Number("rope.scaling.yarn_log_multiplier", multiplier);
      if (std::abs(multiplier) > 1e-9) inferred = 1;
      if (std::abs(rope.attention_factor - inferred) > 1e-9)
        return Unsayable("mscale and mscale_all_dim differ");
    } else if (std::abs(rope.attention_factor - inferred) > 1e-9) {
      keys_.Number("rope.scaling.yarn_attn_factor", rope.attention_factor);
    }
    return {};
  }

  Result<void> Mixture() {
    const RouterConfig& router = config_.router;
    keys_.Count("expert_count", router.experts);
    keys_.Count("expert_used_count", router.used);
    // The architectures without a key of their own take the feed-forward's length.
    if (family_.gguf != "llama" && family_.gguf != "olmoe")
      keys_.Count("expert_feed_forward_length", config_.expert_ffn_dim);
    if (config_.shared_expert == SharedExpert::kSigmoidGated)
      keys_.Count("expert_shared_feed_forward_length", config_.shared_ffn_dim);
    if (router.gate == GateKind::kSigmoid) {
      SigmoidGate();
    } else if (router.renormalise != RenormalisesUnasked()) {
      keys_.Flag("expert_weights_norm", router.renormalise);
    }
    if (config_.activation == Activation::kClampedSwiglu &&
        (config_.activation_alpha != 1.702 || config_.activation_limit != 7.0))
      return Unsayable("another swiglu_alpha or swiglu_limit than 1.702 and 7");
    return {};
  }

  bool RenormalisesUnasked() const {
    return family_.name == "mixtral" || family_.name == "qwen3moe" ||
           config_.router.gate == GateKind::kTopKThenSoftmax;
  }

  void SigmoidGate() {
    const RouterConfig& router = config_.router;
    const auto dense = std::ranges::find_if(config_.layers, &LayerConfig::sparse);
    keys_.Count("leading_dense_block_count", dense - config_.layers.begin());
    keys_.Count("expert_shared_count", config_.shared_ffn_dim / config_.expert_ffn_dim);
    keys_.Count("expert_group_count", router.groups);
    keys_.Count("expert_group_used_count", router.groups_used);
    keys_.Count("expert_gating_func", kSigmoidGating);
    keys_.Flag("expert_weights_norm", router.renormalise);
    keys_.Number("expert_weights_scale", router.scale);
  }

  const ModelFiles& files_;
  const ModelConfig& config_;
  const Family& family_;
  GgufMetadata metadata_;
  Keys keys_;
};

/// The float32 whose quotient into `frequency` is `wanted`, or the nearest there is.
float Divisor(float frequency, float wanted) {
  const float first = frequency / wanted;
  float best = first;
  float up = first;
  float down = first;
  for (int i = 0; i < 4; ++i) {
    for (const float candidate : {up, down}) {
      if (frequency / candidate == wanted) return candidate;
    }
    up = std::nextafter(up, std::numeric_limits<float>::infinity());
    down = std::nextafter(down, 0.0f);
  }
  return best;
}

}  // namespace

Result<GgufMetadata> ModelMetadata(const ModelFiles& files, const ModelConfig& config) {
  return MetadataWriter(files, config).Write();
}

std::vector<float> FrequencyFactors(const RopeConfig& rope) {
  if (rope.scaling != RopeScaling::kLlama3) return rope.frequency_factors;
  RopeConfig plain = rope;
  plain.scaling = RopeScaling::kNone;
  const std::vector<float> unscaled = RopeFrequencies(plain);
  std::vector<float> factors = RopeFrequencies(rope);
  std::ranges::transform(unscaled, factors, factors.begin(), Divisor);
  return factors;
}

uint32_t FileTypeNumber(DType main_type) {
  switch (main_type) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ8_0:
      return 7;
    case DType::kQ5_0:
      return 8;
    case DType::kQ5_1:
      return 9;
    case DType::kQ2_K:
      return 10;
    case DType::kQ3_K:
      return 11;
    case DType::kQ4_K:
      return 14;
    case DType::kQ5_K:
      return 16;
    case DType::kQ6_K:
      return 18;
    case DType::kIQ4_NL:
      return 25;
    case DType::kIQ4_XS:
      return 30;
    case DType::kTQ1_0:
      return 36;
    case DType::kTQ2_0:
      return 37;
    case DType::kMXFP4:
      return 38;
    default:
      return 32;  // bfloat16
  }
}

}  // namespace moxie
