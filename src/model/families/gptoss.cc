#include "model/families/families.h"
#include "model/keys.h"

namespace moxie {
namespace {

constexpr Key kAlpha = {{"swiglu_alpha"}};
constexpr Key kLimit = {{"swiglu_limit"}};

Result<void> Read(const ConfigSource& source, ModelConfig& config) {
  const Settings& settings = source.settings;
  MOXIE_TRY(ReadAttention(source, config));
  config.attention.sinks = true;
  if (!source.is_gguf()) {
    MOXIE_TRY_ASSIGN(const bool bias, settings.BooleanOr(keys::kAttentionBias, true));
    config.attention.qkv_bias = config.attention.output_bias = bias;
    MOXIE_TRY_ASSIGN(const std::string method, settings.TextOr(keys::kQuantMethod, "none"));
    if (settings.Has(keys::kQuantization) && method != "mxfp4") {
      return settings.Unsupported(keys::kQuantMethod, "only \"mxfp4\" is supported");
    }
    if (!settings.Has(keys::kRopeParameters)) {
      return settings.Invalid(keys::kRopeParameters, "must say how the context is extended");
    }
  }
  MOXIE_TRY_ASSIGN(const int64_t window, settings.IntegerOr(keys::kWindow, {1, kMaxContext}, 128));
  MOXIE_TRY(ReadAlternatingWindow(source, config, window));
  MOXIE_TRY(ReadExperts(source, keys::kFfnDim, config));
  config.router.gate = GateKind::kTopKThenSoftmax;
  config.router.logit_bias = true;
  config.expert_bias = true;
  config.activation = Activation::kClampedSwiglu;
  MOXIE_TRY_ASSIGN(config.activation_alpha, settings.NumberOr(kAlpha, 1e-6, 1e6, 1.702));
  MOXIE_TRY_ASSIGN(config.activation_limit, settings.NumberOr(kLimit, 1e-6, 1e9, 7.0));
  // GGUF has no key for this; the published models do not round the ramp's borders.
  if (source.is_gguf()) config.rope.truncate = false;
  return {};
}

}  // namespace

/// gpt-oss (arXiv:2508.10925): sinks, alternating windows, biases everywhere, a clamped activation,
/// softmax over the chosen experts' logits.
const Family kGptOss = {.name = "gpt-oss",
                        .model_type = "gpt_oss",
                        .architecture = "GptOssForCausalLM",
                        .gguf = "gpt-oss",
                        .rope_base = 150000.0,
                        .transposed_experts = true,
                        .read = Read};

}  // namespace moxie
