#include <cmath>
#include <string>

#include "core/printable.h"
#include "model/family.h"
#include "model/keys.h"

namespace moxie {

Result<void> ReadAttention(const ConfigSource& source, ModelConfig& config) {
  const Settings& settings = source.settings;
  AttentionConfig& attention = config.attention;
  MOXIE_TRY_ASSIGN(attention.heads, settings.Integer(keys::kHeads, {1, kMaxHeads}));
  const std::string heads_name = settings.Name(keys::kHeads);
  MOXIE_TRY_ASSIGN(
      attention.kv_heads,
      settings.IntegerOr(keys::kKvHeads, {1, attention.heads, heads_name}, attention.heads));
  if (attention.heads % attention.kv_heads != 0) {
    return settings.Invalid(
        keys::kKvHeads, "must divide " + heads_name + " (" + std::to_string(attention.heads) + ")");
  }
  if (settings.Has(keys::kHeadDim)) {
    MOXIE_TRY_ASSIGN(attention.head_dim, settings.Integer(keys::kHeadDim, {2, kMaxHeadDim}));
  } else if (config.dim % attention.heads != 0) {
    return settings.Invalid(keys::kDim, "must be a multiple of " + heads_name + " (" +
                                            std::to_string(attention.heads) + ")");
  } else {
    attention.head_dim = config.dim / attention.heads;
  }
  if (attention.head_dim % 2 != 0) {
    const bool given = settings.Has(keys::kHeadDim);
    return settings.Invalid(
        given ? keys::kHeadDim : keys::kDim,
        "must give heads an even size (" + std::to_string(attention.head_dim) + ")");
  }
  MOXIE_TRY_ASSIGN(const int64_t value_dim,
                   settings.IntegerOr(keys::kValueDim, {1, kMaxHeadDim}, attention.head_dim));
  if (value_dim != attention.head_dim) {
    return settings.Unsupported(keys::kValueDim, "must equal " + settings.Name(keys::kHeadDim) +
                                                     " (" + std::to_string(attention.head_dim) +
                                                     ")");
  }
  attention.score_scale = 1.0 / std::sqrt(static_cast<double>(attention.head_dim));
  if (source.is_gguf()) {
    attention.qkv_bias =
        source.HasTensor("blk.0.attn_q.bias") || source.HasTensor("blk.0.attn_qkv.bias");
    attention.output_bias = source.HasTensor("blk.0.attn_output.bias");
  } else {
    MOXIE_TRY_ASSIGN(const bool bias, settings.BooleanOr(keys::kAttentionBias, false));
    attention.qkv_bias = attention.output_bias = bias;
  }
  return {};
}

Result<void> ReadUniformWindow(const ConfigSource& source, ModelConfig& config) {
  MOXIE_TRY_ASSIGN(const int64_t window,
                   source.settings.IntegerOr(keys::kWindow, {0, kMaxContext}, 0));
  for (LayerConfig& layer : config.layers) layer.window = window;
  return {};
}

namespace {

/// Whether each layer slides by `layer_types`, or nothing where the file does not say.
Result<std::vector<bool>> ReadLayerTypes(const Settings& settings, size_t layers) {
  MOXIE_TRY_ASSIGN(const auto types, settings.TextsOr(keys::kLayerTypes, {}));
  std::vector<bool> slides;
  if (!settings.Has(keys::kLayerTypes)) return slides;
  if (types.size() != layers) {
    return settings.Invalid(
        keys::kLayerTypes,
        "must have " + std::to_string(layers) + " entries (" + settings.Name(keys::kLayers) + ")");
  }
  for (const std::string& type : types) {
    if (type != "sliding_attention" && type != "full_attention") {
      return Error{ErrorCode::kUnsupported,
                   settings.where() + ": layer_types has \"" + Printable(type, 60) +
                       "\", but only sliding_attention and full_attention are supported"};
    }
    slides.push_back(type == "sliding_attention");
  }
  return slides;
}

}  // namespace

Result<void> ReadOptionalWindow(const ConfigSource& source, ModelConfig& config,
                                bool (*slides)(int64_t layer, int64_t max_window_layers)) {
  const Settings& settings = source.settings;
  if (source.is_gguf()) return ReadUniformWindow(source, config);
  MOXIE_TRY_ASSIGN(const bool used, settings.BooleanOr(keys::kUseWindow, false));
  MOXIE_TRY_ASSIGN(const auto types, ReadLayerTypes(settings, config.layers.size()));
  if (!used || !settings.Has(keys::kWindow)) return {};
  MOXIE_TRY_ASSIGN(const int64_t window, settings.Integer(keys::kWindow, {1, kMaxContext}));
  MOXIE_TRY_ASSIGN(const int64_t full,
                   settings.IntegerOr(keys::kMaxWindowLayers, {0, kMaxLayers},
                                      static_cast<int64_t>(config.layers.size())));
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const bool here = types.empty() ? slides(static_cast<int64_t>(i), full) : types[i];
    config.layers[i].window = here ? window : 0;
  }
  return {};
}

Result<void> ReadAlternatingWindow(const ConfigSource& source, ModelConfig& config,
                                   int64_t window) {
  const Settings& settings = source.settings;
  const size_t layers = config.layers.size();
  MOXIE_TRY_ASSIGN(const auto types, ReadLayerTypes(settings, layers));
  MOXIE_TRY_ASSIGN(const SettingValue* pattern, settings.Find(keys::kWindowPattern));
  std::vector<int64_t> slides;
  int64_t period = 2;
  if (pattern != nullptr && pattern->kind == SettingValue::Kind::kList) {
    MOXIE_TRY_ASSIGN(slides, settings.IntegersOr(keys::kWindowPattern, {0, 1}, {}));
    if (slides.size() < layers) {
      return settings.Invalid(keys::kWindowPattern,
                              "must have " + std::to_string(layers) + " entries (block_count)");
    }
  } else {
    MOXIE_TRY_ASSIGN(period, settings.IntegerOr(keys::kWindowPattern, {1, kMaxLayers}, 2));
  }
  for (size_t i = 0; i < layers; ++i) {
    bool here = static_cast<int64_t>(i) % period < period - 1;
    if (!types.empty()) here = types[i];
    if (!slides.empty()) here = slides[i] != 0;
    config.layers[i].window = here ? window : 0;
  }
  return {};
}

Result<void> ReadExperts(const ConfigSource& source, const Key& ffn, ModelConfig& config) {
  const Settings& settings = source.settings;
  RouterConfig& router = config.router;
  MOXIE_TRY_ASSIGN(router.experts, settings.Integer(keys::kExperts, {1, kMaxExperts}));
  const std::string because = settings.Name(keys::kExperts);
  MOXIE_TRY_ASSIGN(router.used, settings.Integer(keys::kExpertsUsed, {1, router.experts, because}));
  // GGUFs have a key of its own for every family, but not all writers use it.
  const Key& gguf = settings.Has(keys::kExpertFfnDim) ? keys::kExpertFfnDim : keys::kFfnDim;
  const Key& width = source.is_gguf() ? gguf : ffn;
  MOXIE_TRY_ASSIGN(config.expert_ffn_dim, settings.Integer(width, {1, kMaxFfnDim}));
  for (size_t i = 0; i < config.layers.size(); ++i) {
    // A GGUF does not list its dense layers: they are those without a router.
    const std::string prefix = "blk." + std::to_string(i) + ".";
    config.layers[i].sparse = !source.is_gguf() ||
                              source.HasTensor(prefix + "ffn_gate_inp.weight") ||
                              !source.HasTensor(prefix + "ffn_gate.weight");
  }
  return {};
}

Result<void> ReadDenseLayers(const ConfigSource& source, ModelConfig& config) {
  if (source.is_gguf()) return {};
  const Settings& settings = source.settings;
  const auto layers = static_cast<int64_t>(config.layers.size());
  MOXIE_TRY_ASSIGN(const int64_t step, settings.IntegerOr(keys::kSparseStep, {1, kMaxLayers}, 1));
  const std::string because = settings.Name(keys::kLayers);
  MOXIE_TRY_ASSIGN(const auto dense,
                   settings.IntegersOr(keys::kDenseLayers, {0, layers - 1, because}, {}));
  for (int64_t i = 0; i < layers; ++i) {
    config.layers[static_cast<size_t>(i)].sparse = (i + 1) % step == 0;
  }
  for (const int64_t i : dense) config.layers[static_cast<size_t>(i)].sparse = false;
  return {};
}

}  // namespace moxie
