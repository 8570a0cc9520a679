#include "model/adapter_config.h"

#include <cmath>
#include <utility>

#include "core/printable.h"

namespace moxie {
namespace {

using Kind = SettingValue::Kind;

constexpr double kMaxAlpha = 1e6;

/// Settings that change what an adapter means; they must be absent, false or empty.
constexpr std::string_view kUnsupported[] = {"use_dora",
                                             "use_qalora",
                                             "use_bdlora",
                                             "lora_bias",
                                             "fan_in_fan_out",
                                             "modules_to_save",
                                             "layer_replication",
                                             "alora_invocation_tokens",
                                             "trainable_token_indices",
                                             "arrow_config",
                                             "velora_config",
                                             "kasa_config",
                                             "monteclora_config"};

/// Initialisations that also change the base weights, so that the adapter alone is not enough.
constexpr std::string_view kBaseChanging[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};

bool Empty(const SettingValue& value) {
  if (value.kind == Kind::kBoolean) return !value.boolean;
  if (value.kind == Kind::kList) return value.list.empty();
  return value.kind == Kind::kNull;
}

Result<void> RefuseUnsupported(const Settings& settings) {
  const Key type_key{{"peft_type"}};
  MOXIE_TRY_ASSIGN(const std::string type, settings.TextOr(type_key, "LORA"));
  if (type.compare("LORA") != 0)
    return settings.Unsupported(type_key, "only \"LORA\" is supported");
  for (const std::string_view name : kUnsupported) {
    const Key key{{name}};
    MOXIE_TRY_ASSIGN(const SettingValue* value, settings.Find(key));
    if (value != nullptr && !Empty(*value)) {
      return settings.Unsupported(key, "only plain LoRA is supported");
    }
  }
  const Key bias_key{{"bias"}};
  MOXIE_TRY_ASSIGN(const std::string bias, settings.TextOr(bias_key, "none"));
  if (bias.compare("none") != 0) {
    return settings.Unsupported(bias_key, "only \"none\" is supported");
  }
  const Key init_key{{"init_lora_weights"}};
  MOXIE_TRY_ASSIGN(const SettingValue* init, settings.Find(init_key));
  for (const std::string_view name : kBaseChanging) {
    if (init != nullptr && init->kind == Kind::kText && init->text.starts_with(name)) {
      return settings.Unsupported(init_key,
                                  "initialisations that change the base are not supported");
    }
  }
  return {};
}

/// PEFT reads a pattern's key as a regular expression; published ones are plain module names.
Result<void> ReadAlphas(const Settings& settings, AdapterConfig& config) {
  constexpr std::string_view kPrefix = "alpha_pattern.";
  const auto& values = settings.values();
  for (auto it = values.lower_bound(kPrefix); it != values.end() && it->first.starts_with(kPrefix);
       ++it) {
    const Key key{{it->first}};
    const std::string module = it->first.substr(kPrefix.size());
    if (module.find_first_of("\\^$*+?()[]{}|") != std::string::npos) {
      return settings.Unsupported(key, "patterns must be plain module names");
    }
    MOXIE_TRY_ASSIGN(const double alpha, settings.Number(key, -kMaxAlpha, kMaxAlpha));
    config.alphas.emplace_back(module, alpha);
  }
  return {};
}

Result<void> ReadTargets(const Settings& settings, std::string_view name,
                         std::vector<std::string>& targets) {
  const Key key{{name}};
  MOXIE_TRY_ASSIGN(const SettingValue* value, settings.Find(key));
  if (value == nullptr || value->kind == Kind::kText) return {};  // A pattern: tensors alone count.
  MOXIE_TRY_ASSIGN(const auto names, settings.TextsOr(key, {}));
  targets.insert(targets.end(), names.begin(), names.end());
  return {};
}

}  // namespace

bool NamesModule(std::string_view module, std::string_view suffix) {
  if (!module.ends_with(suffix)) return false;
  return module.size() == suffix.size() || module[module.size() - suffix.size() - 1] == '.';
}

double AdapterConfig::ScaleOf(const std::string& module, int64_t rank) const {
  double chosen = alpha;
  for (const auto& [name, own] : alphas) {
    if (NamesModule(module, name)) {
      chosen = own;
      break;
    }
  }
  const auto r = static_cast<double>(rank);
  return chosen / (root_scale ? std::sqrt(r) : r);
}

Result<AdapterConfig> ReadAdapterConfig(const Settings& settings) {
  MOXIE_TRY(RefuseUnsupported(settings));
  AdapterConfig config;
  MOXIE_TRY_ASSIGN(config.alpha, settings.Number(Key{{"lora_alpha"}}, -kMaxAlpha, kMaxAlpha));
  MOXIE_TRY_ASSIGN(config.root_scale, settings.BooleanOr(Key{{"use_rslora"}}, false));
  MOXIE_TRY(ReadAlphas(settings, config));
  MOXIE_TRY(ReadTargets(settings, "target_modules", config.targets));
  MOXIE_TRY(ReadTargets(settings, "target_parameters", config.targets));
  return config;
}

}  // namespace moxie
