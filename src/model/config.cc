#include "model/config.h"

#include <utility>

#include "core/printable.h"
#include "model/family.h"
#include "model/keys.h"
#include "model/names.h"
#include "model/settings.h"

namespace moxie {
namespace {

/// Settings that change the mathematics in ways that moxie does not know. They may be present with
/// the value that changes nothing.
struct Neutral {
  Key key;
  double value;  ///< numbers; false counts as 0, true as 1
};

constexpr Neutral kNeutral[] = {
    {{{"partial_rotary_factor", "rope_parameters.partial_rotary_factor"}}, 1},
    {{{"residual_multiplier"}, "residual_scale"}, 1},
    {{{"embedding_multiplier"}, "embedding_scale"}, 1},
    {{{"logits_scaling"}, "logit_scale"}, 1},
    {{{"attn_logit_softcapping"}, "attn_logit_softcapping"}, 0},
    {{{"final_logit_softcapping"}, "final_logit_softcapping"}, 0},
    {{{}, "router_logit_softcapping"}, 0},
    {{{"is_causal"}, "attention.causal"}, 1},
    {{{"use_bidirectional_attention"}}, 0},
    {{{"is_encoder_decoder"}}, 0},
    {{{"alibi"}}, 0},
    {{{}, "attention.max_alibi_bias"}, 0},
    {{{}, "use_parallel_residual"}, 0},
    {{{}, "attention.temperature_scale"}, 0},
    {{{}, "rope.scaling.attn_factor"}, 1},
    {{{}, "rope.scaling.alpha"}, 0},
};

/// Settings whose mere presence asks for mathematics that moxie does not know.
constexpr Key kForeign[] = {
    {{"rope_parameters.mrope_section", "rope_scaling.mrope_section"}, "rope.dimension_sections"},
    {{"attention_chunk_size"}, "attention.chunk_size"},
    {{"query_pre_attn_scalar"}, "attention.scale"},
    {{"llama_4_scaling"}, {}, "llama_4_scaling"},
    {{}, {}, "yarn"},
    {{}, {}, "lora"},
    {{}, {}, "vision_encoder"},
    {{}, {}, "quantization"},
    {{}, {}, "q_lora_rank"},
};

Result<void> RefuseForeign(const Settings& settings) {
  for (const Neutral& neutral : kNeutral) {
    MOXIE_TRY_ASSIGN(const SettingValue* value, settings.Find(neutral.key));
    if (value == nullptr) continue;
    const double number =
        value->kind == SettingValue::Kind::kBoolean ? (value->boolean ? 1 : 0) : value->number;
    if (value->kind == SettingValue::Kind::kText || number != neutral.value) {
      const bool boolean = value->kind == SettingValue::Kind::kBoolean;
      const std::string expected = boolean ? (neutral.value != 0 ? "true" : "false")
                                           : std::to_string(static_cast<int>(neutral.value));
      return settings.Unsupported(neutral.key, "only " + expected + " is supported");
    }
  }
  for (const Key& key : kForeign) {
    MOXIE_TRY_ASSIGN(const SettingValue* value, settings.Find(key));
    if (value != nullptr) return settings.Unsupported(key, "this setting is not supported");
  }
  return {};
}

Error UnknownFamily(const Settings& settings, std::string_view key, std::string_view value) {
  std::string message =
      settings.where() + ": " + std::string(key) + " is " +
      (value.empty() ? "missing" : std::string("\"").append(Printable(value, 60)).append("\"")) +
      ", but moxie supports";
  std::string_view separator = " ";
  std::string_view previous;
  for (const Family* family : AllFamilies()) {
    const std::string_view name =
        settings.layout() == FileLayout::kGguf ? family->gguf : family->model_type;
    if (name == previous) continue;
    previous = name;
    message.append(separator).append(name);
    separator = ", ";
  }
  return Error{ErrorCode::kUnsupported, std::move(message)};
}

Result<const Family*> DetectFamily(const ConfigSource& source) {
  const Settings& settings = source.settings;
  if (settings.layout() == FileLayout::kHuggingFace) {
    constexpr Key kType = {{"model_type"}};
    constexpr Key kArchitectures = {{"architectures"}};
    MOXIE_TRY_ASSIGN(const std::string type, settings.TextOr(kType, ""));
    MOXIE_TRY_ASSIGN(const auto architectures, settings.TextsOr(kArchitectures, {}));
    const std::string architecture = architectures.empty() ? "" : architectures[0];
    for (const Family* family : AllFamilies()) {
      if (type.empty() ? family->architecture == architecture : family->model_type == type) {
        return family;
      }
    }
    return UnknownFamily(settings, "model_type", type.empty() ? architecture : type);
  }
  // GGUF's "llama" and params.json stand for dense models and mixtures alike.
  MOXIE_TRY_ASSIGN(const int64_t experts, settings.IntegerOr(keys::kExperts, {0, kMaxExperts}, 0));
  const bool gguf = settings.layout() == FileLayout::kGguf;
  const std::string_view dense = gguf ? "llama" : "mistral";
  for (const Family* family : AllFamilies()) {
    const bool meant = gguf ? family->gguf == settings.architecture() : true;
    const bool ambiguous = !gguf || settings.architecture() == "llama";
    if (meant && (!ambiguous || family->name == (experts > 0 ? "mixtral" : dense))) return family;
  }
  return UnknownFamily(settings, "general.architecture", settings.architecture());
}

Result<Settings> ReadSettings(const ModelFiles& files) {
  if (files.layout == FileLayout::kGguf) {
    return Settings::FromGguf(files.metadata, DisplayName(files));
  }
  const std::string name = files.layout == FileLayout::kHuggingFace ? "config.json" : "params.json";
  MOXIE_TRY_ASSIGN(const auto text, files.ReadCompanion(name));
  if (!text) return Error{ErrorCode::kNotFound, name + ": is missing, but a model folder needs it"};
  return Settings::FromJson(*text, name, files.layout);
}

Result<void> ReadVocab(const ConfigSource& source, ModelConfig& config) {
  const Settings& settings = source.settings;
  const TensorInfo* embedding = source.files.tensors.Find("token_embd.weight");
  if (source.is_gguf() && embedding != nullptr && !embedding->shape.empty()) {
    // Older files have no vocab_size: the embedding says how many tokens there are.
    const int64_t rows = embedding->shape.front();
    MOXIE_TRY_ASSIGN(config.vocab_size, settings.IntegerOr(keys::kVocab, {1, kMaxVocab}, rows));
    if (config.vocab_size != rows || rows > kMaxVocab) {
      return settings.Invalid(keys::kVocab,
                              "token_embd.weight has " + std::to_string(rows) + " rows");
    }
    return {};
  }
  MOXIE_TRY_ASSIGN(config.vocab_size, settings.Integer(keys::kVocab, {1, kMaxVocab}));
  return {};
}

/// What every family has: sizes, norm, embeddings.
Result<void> ReadShape(const ConfigSource& source, ModelConfig& config) {
  constexpr int64_t kConsolidatedContext =
      32768;  // params.json rarely says; Mistral's own default.
  const Settings& settings = source.settings;
  MOXIE_TRY_ASSIGN(int64_t layers, settings.Integer(keys::kLayers, {1, kMaxLayers}));
  const std::string because = settings.Name(keys::kLayers);
  const Range extra{0, source.is_gguf() ? layers - 1 : kMaxLayers, because};
  MOXIE_TRY_ASSIGN(config.prediction_layers, settings.IntegerOr(keys::kExtraLayers, extra, 0));
  if (source.is_gguf()) layers -= config.prediction_layers;  // block_count includes them.
  config.layers.assign(static_cast<size_t>(layers), {});
  MOXIE_TRY_ASSIGN(config.dim, settings.Integer(keys::kDim, {1, kMaxDim}));
  MOXIE_TRY(ReadVocab(source, config));
  if (settings.layout() == FileLayout::kConsolidated) {
    MOXIE_TRY_ASSIGN(config.context_length,
                     settings.IntegerOr(keys::kContext, {1, kMaxContext}, kConsolidatedContext));
  } else {
    MOXIE_TRY_ASSIGN(config.context_length, settings.Integer(keys::kContext, {1, kMaxContext}));
  }
  MOXIE_TRY_ASSIGN(config.norm_eps, settings.Number(keys::kNormEps, 0, 0.1));
  if (source.is_gguf()) {
    config.tied_embeddings = !source.HasTensor("output.weight");
  } else {
    MOXIE_TRY_ASSIGN(config.tied_embeddings, settings.BooleanOr(keys::kTied, false));
  }
  MOXIE_TRY_ASSIGN(const std::string activation, settings.TextOr(keys::kActivation, "silu"));
  constexpr std::string_view kSilu = "silu", kSwish = "swish";
  if (activation != kSilu && activation != kSwish) {
    return settings.Unsupported(keys::kActivation, "only \"silu\" is supported");
  }
  return {};
}

}  // namespace

Result<ModelConfig> ReadConfig(const ConfigSource& source) {
  const Settings& settings = source.settings;
  MOXIE_TRY_ASSIGN(const Family* family, DetectFamily(source));
  MOXIE_TRY(RefuseForeign(settings));
  ModelConfig config;
  config.family = family->name;
  config.name = DisplayName(source.files);
  if (source.is_gguf()) {
    const auto name = settings.values().find("general.name");
    if (name != settings.values().end() && !name->second.text.empty()) {
      config.name = name->second.text;
    }
  }
  MOXIE_TRY(ReadShape(source, config));
  MOXIE_TRY(family->read(source, config));
  const bool latent = config.attention.latent.kv_rank > 0;
  const int64_t dims = latent ? config.attention.latent.rope_dim : config.attention.head_dim;
  MOXIE_TRY(ReadRope(source, *family, dims, config));
  if (settings.Has(keys::kQuantization) && !family->transposed_experts) {
    return settings.Unsupported(keys::kQuantization,
                                "quantised folders are not supported (GGUF is)");
  }
  return config;
}

Result<ModelConfig> ReadModelConfig(const ModelFiles& files) {
  MOXIE_TRY_ASSIGN(const Settings settings, ReadSettings(files));
  return ReadConfig({settings, files});
}

}  // namespace moxie
