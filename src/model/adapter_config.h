#pragma once

#include <string>
#include <vector>

#include "model/settings.h"

namespace moxie {

/// What adapter_config.json says that moxie needs (PEFT's LoraConfig).
struct AdapterConfig {
  double alpha = 0;
  bool root_scale = false;  ///< alpha / sqrt(r) instead of alpha / r (use_rslora)
  /// Module names, as suffixes ("q_proj", "layers.0.mlp.experts"), with an alpha of their own.
  std::vector<std::pair<std::string, double>> alphas;
  /// Suffixes of modules and parameters that the adapter means to change; empty where it says so by
  /// a pattern.
  std::vector<std::string> targets;

  /// The factor of B (A x) for a module of that name and rank.
  double ScaleOf(const std::string& module, int64_t rank) const;
};

/// Whether `module` is `suffix` or ends in `.suffix`.
bool NamesModule(std::string_view module, std::string_view suffix);

/// Reads and checks the settings; whatever asks for more than plain LoRA is kUnsupported.
Result<AdapterConfig> ReadAdapterConfig(const Settings& settings);

}  // namespace moxie
