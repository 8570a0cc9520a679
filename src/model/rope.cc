#include <algorithm>
#include <cmath>
#include <string>

#include "model/family.h"
#include "model/keys.h"
#include "quant/dequantize.h"

namespace moxie {
namespace {

constexpr double kMaxFactor = 1e6;
constexpr double kMaxBase = 1e15;

/// A rope setting that we do not know might change every angle, so it is refused.
Result<void> RefuseUnknown(const Settings& settings) {
  constexpr std::string_view kKnown[] = {"rope_type",
                                         "type",
                                         "rope_theta",
                                         "factor",
                                         "low_freq_factor",
                                         "high_freq_factor",
                                         "beta_fast",
                                         "beta_slow",
                                         "truncate",
                                         "mscale",
                                         "mscale_all_dim",
                                         "attention_factor",
                                         "finetuned",
                                         "partial_rotary_factor",
                                         "original_max_position_embeddings"};
  for (const std::string_view object : keys::kRopeParameters.hugging_face) {
    if (object.empty()) continue;
    const std::string prefix = std::string(object) + ".";
    for (auto it = settings.values().lower_bound(prefix);
         it != settings.values().end() && it->first.starts_with(prefix); ++it) {
      const std::string_view name = std::string_view(it->first).substr(prefix.size());
      if (std::find(std::begin(kKnown), std::end(kKnown), name) == std::end(kKnown)) {
        const Key key{{it->first}};
        return settings.Unsupported(key, "this setting is not supported");
      }
    }
  }
  return {};
}

Result<RopeScaling> ReadScaling(const ConfigSource& source) {
  const Settings& settings = source.settings;
  if (source.is_gguf()) {
    const bool scaled = settings.Has(keys::kRopeFactor) || settings.Has(keys::kRopeOldFactor);
    MOXIE_TRY_ASSIGN(const std::string type,
                     settings.TextOr(keys::kRopeType, scaled ? "linear" : "none"));
    if (type == "none") return RopeScaling::kNone;
    if (type == "linear") return scaled ? RopeScaling::kLinear : RopeScaling::kNone;
    if (type == "yarn") return RopeScaling::kYarn;
    return settings.Unsupported(keys::kRopeType, "none, linear and yarn are supported");
  }
  const Key& key = settings.Has(keys::kRopeType) ? keys::kRopeType : keys::kRopeOldType;
  MOXIE_TRY_ASSIGN(const SettingValue* object, settings.Find(Key{{"rope_scaling"}}));
  if (object != nullptr && object->kind == SettingValue::Kind::kObject && !settings.Has(key)) {
    return settings.Invalid(keys::kRopeOldType, "must name the kind of scaling");
  }
  MOXIE_TRY_ASSIGN(const std::string type, settings.TextOr(key, "default"));
  if (type == "default") return RopeScaling::kNone;
  if (type == "linear") return RopeScaling::kLinear;
  if (type == "llama3") return RopeScaling::kLlama3;
  if (type == "yarn") return RopeScaling::kYarn;
  return settings.Unsupported(key, "default, linear, llama3 and yarn are supported");
}

Result<void> ReadLlama3(const Settings& settings, RopeConfig& rope) {
  MOXIE_TRY_ASSIGN(rope.low_frequency_factor, settings.Number(keys::kRopeLow, 1e-3, kMaxFactor));
  MOXIE_TRY_ASSIGN(rope.high_frequency_factor, settings.Number(keys::kRopeHigh, 1e-3, kMaxFactor));
  if (rope.high_frequency_factor <= rope.low_frequency_factor) {
    return settings.Invalid(keys::kRopeHigh, "must be above low_freq_factor");
  }
  return {};
}

Result<void> ReadYarn(const ConfigSource& source, RopeConfig& rope) {
  const Settings& settings = source.settings;
  MOXIE_TRY_ASSIGN(rope.beta_fast, settings.NumberOr(keys::kRopeBetaFast, 0, kMaxFactor, 32));
  MOXIE_TRY_ASSIGN(rope.beta_slow, settings.NumberOr(keys::kRopeBetaSlow, 0, kMaxFactor, 1));
  // Zero means the default, as in transformers.
  if (rope.beta_fast == 0) rope.beta_fast = 32;
  if (rope.beta_slow == 0) rope.beta_slow = 1;
  if (rope.beta_fast < rope.beta_slow) {
    return settings.Invalid(keys::kRopeBetaFast, "must not be below beta_slow");
  }
  MOXIE_TRY_ASSIGN(rope.truncate, settings.BooleanOr(keys::kRopeTruncate, rope.truncate));
  double mscale = 0;
  double mscale_all = 0;
  if (source.is_gguf()) {
    // llama.cpp keeps one of the two only, and takes the other to be equal.
    MOXIE_TRY_ASSIGN(mscale_all, settings.NumberOr(keys::kRopeLogMultiplier, 0, 100, 0));
    mscale = mscale_all;
  } else {
    MOXIE_TRY_ASSIGN(mscale, settings.NumberOr(keys::kRopeMscale, 0, 1000, 0));
    MOXIE_TRY_ASSIGN(mscale_all, settings.NumberOr(keys::kRopeMscaleAll, 0, 1000, 0));
  }
  const bool both = mscale != 0 && mscale_all != 0;
  const double inferred =
      both ? YarnMscale(rope.factor, mscale) / YarnMscale(rope.factor, mscale_all)
           : YarnMscale(rope.factor, 1);
  MOXIE_TRY_ASSIGN(rope.attention_factor,
                   settings.NumberOr(keys::kRopeAttention, 1e-6, kMaxFactor, inferred));
  return {};
}

/// GGUF's rope_freqs: llama3's scaling, already worked out.
Result<void> ReadFrequencyFactors(const ConfigSource& source, RopeConfig& rope) {
  const TensorInfo* tensor = source.files.tensors.Find("rope_freqs.weight");
  if (!source.is_gguf() || tensor == nullptr) return {};
  const std::string where = source.settings.where() + ": tensor rope_freqs.weight ";
  if (tensor->elements() != rope.dims / 2 || tensor->type != DType::kF32) {
    return Error{ErrorCode::kInvalidInput, where + "has " + std::to_string(tensor->elements()) +
                                               " elements of " + std::string(NameOf(tensor->type)) +
                                               ", but must have " + std::to_string(rope.dims / 2) +
                                               " of f32"};
  }
  rope.frequency_factors.resize(static_cast<size_t>(rope.dims / 2));
  Dequantize(tensor->type, source.files.tensors.Bytes(*tensor).data(), tensor->elements(),
             rope.frequency_factors.data());
  for (const float factor : rope.frequency_factors) {
    if (!(factor > 0) || !std::isfinite(factor)) {
      return Error{ErrorCode::kInvalidInput,
                   where + "has " + std::to_string(factor) + ", but factors must be above 0"};
    }
  }
  return {};
}

}  // namespace

double YarnMscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

Result<void> ReadRope(const ConfigSource& source, const Family& family, int64_t dims,
                      ModelConfig& config) {
  const Settings& settings = source.settings;
  RopeConfig& rope = config.rope;
  MOXIE_TRY(RefuseUnknown(settings));
  MOXIE_TRY_ASSIGN(rope.dims, settings.IntegerOr(keys::kRopeDims, {2, dims, "head size"}, dims));
  if (rope.dims % 2 != 0) return settings.Invalid(keys::kRopeDims, "must be even");
  double base = family.rope_base;
  if (settings.layout() == FileLayout::kConsolidated) {
    // mistral-inference: models with a window are of the time before the base was raised.
    base = config.layers.front().window > 0 ? 1e4 : 1e6;
    rope.layout = RopeLayout::kInterleaved;
  } else if (source.is_gguf()) {
    base = 1e4;
    rope.layout = family.gguf_interleaved ? RopeLayout::kInterleaved : RopeLayout::kHalf;
  }
  MOXIE_TRY_ASSIGN(rope.base, settings.NumberOr(keys::kRopeBase, 1, kMaxBase, base));
  if (rope.base <= 1) return settings.Invalid(keys::kRopeBase, "must be above 1");
  MOXIE_TRY(ReadFrequencyFactors(source, rope));
  MOXIE_TRY_ASSIGN(rope.scaling, ReadScaling(source));
  if (rope.scaling == RopeScaling::kNone) return {};
  const Key& factor = settings.Has(keys::kRopeFactor)      ? keys::kRopeFactor
                      : settings.Has(keys::kRopeOldFactor) ? keys::kRopeOldFactor
                                                           : keys::kRopeFactor;
  MOXIE_TRY_ASSIGN(rope.factor, settings.Number(factor, source.is_gguf() ? 0 : 1, kMaxFactor));
  if (rope.factor == 0) rope.factor = 1;  // llama.cpp writes 0 for none.
  MOXIE_TRY_ASSIGN(rope.original_context,
                   settings.NumberOr(keys::kRopeContext, 1, static_cast<double>(kMaxContext),
                                     static_cast<double>(config.context_length)));
  if (rope.scaling == RopeScaling::kLlama3) return ReadLlama3(settings, rope);
  if (rope.scaling == RopeScaling::kYarn) return ReadYarn(source, rope);
  return {};
}

}  // namespace moxie
