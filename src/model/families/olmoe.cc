#include "model/families/families.h"
#include "model/keys.h"

namespace moxie {
namespace {

Result<void> Read(const ConfigSource& source, ModelConfig& config) {
  const Settings& settings = source.settings;
  MOXIE_TRY(ReadAttention(source, config));
  config.attention.qk_norm = QkNorm::kWhole;
  MOXIE_TRY_ASSIGN(config.attention.clip_qkv, settings.NumberOr(keys::kClip, 0, 1e9, 0));
  if (config.attention.clip_qkv == 0 && settings.Has(keys::kClip) && !source.is_gguf()) {
    return settings.Invalid(keys::kClip, "must be above 0");
  }
  MOXIE_TRY(ReadExperts(source, keys::kFfnDim, config));
  MOXIE_TRY_ASSIGN(config.router.renormalise, settings.BooleanOr(keys::kRenormalise, false));
  return {};
}

}  // namespace

/// OLMoE (arXiv:2409.02060): RMSNorm over the whole of q and k, optional clamping of q, k and v.
const Family kOlmoe = {.name = "olmoe",
                       .model_type = "olmoe",
                       .architecture = "OlmoeForCausalLM",
                       .gguf = "olmoe",
                       .read = Read};

}  // namespace moxie
