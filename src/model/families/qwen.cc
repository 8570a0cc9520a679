#include "model/families/families.h"
#include "model/keys.h"

namespace moxie {
namespace {

constexpr Key kQkvBias = {{"qkv_bias"}};

bool SlidesAboveBorder(int64_t layer, int64_t max_window_layers) {
  return layer >= max_window_layers;
}

bool SlidesEveryOther(int64_t layer, int64_t max_window_layers) {
  return layer % 2 == 0 && layer < max_window_layers;
}

bool SlidesEverywhere(int64_t /*layer*/, int64_t /*max_window_layers*/) { return true; }

/// The dense feed-forward: of every layer, or of a mixture's dense ones.
Result<void> ReadFfn(const ConfigSource& source, ModelConfig& config) {
  MOXIE_TRY_ASSIGN(config.ffn_dim, source.settings.Integer(keys::kFfnDim, {1, kMaxFfnDim}));
  return {};
}

/// Qwen2's attention has biases on q, k and v only.
Result<void> ReadQwen2Attention(const ConfigSource& source, ModelConfig& config) {
  MOXIE_TRY(ReadAttention(source, config));
  if (source.is_gguf()) return {};
  MOXIE_TRY_ASSIGN(config.attention.qkv_bias, source.settings.BooleanOr(kQkvBias, true));
  config.attention.output_bias = false;
  return {};
}

Result<void> ReadQwen2(const ConfigSource& source, ModelConfig& config) {
  MOXIE_TRY(ReadQwen2Attention(source, config));
  MOXIE_TRY(ReadOptionalWindow(source, config, SlidesAboveBorder));
  return ReadFfn(source, config);
}

Result<void> ReadQwen3(const ConfigSource& source, ModelConfig& config) {
  MOXIE_TRY(ReadAttention(source, config));
  config.attention.qk_norm = QkNorm::kPerHead;
  MOXIE_TRY(ReadOptionalWindow(source, config, SlidesAboveBorder));
  return ReadFfn(source, config);
}

Result<void> ReadMixture(const ConfigSource& source, bool renormalise, ModelConfig& config) {
  MOXIE_TRY(ReadFfn(source, config));
  MOXIE_TRY(ReadExperts(source, keys::kExpertFfnDim, config));
  MOXIE_TRY(ReadDenseLayers(source, config));
  MOXIE_TRY_ASSIGN(config.router.renormalise,
                   source.settings.BooleanOr(keys::kRenormalise, renormalise));
  return {};
}

Result<void> ReadQwen2Moe(const ConfigSource& source, ModelConfig& config) {
  MOXIE_TRY(ReadQwen2Attention(source, config));
  MOXIE_TRY(ReadOptionalWindow(source, config, SlidesEveryOther));
  MOXIE_TRY(ReadMixture(source, false, config));
  const Key& shared = source.is_gguf() && !source.settings.Has(keys::kSharedFfnDim)
                          ? keys::kFfnDim
                          : keys::kSharedFfnDim;
  MOXIE_TRY_ASSIGN(config.shared_ffn_dim, source.settings.Integer(shared, {1, kMaxFfnDim}));
  config.shared_expert = SharedExpert::kSigmoidGated;
  return {};
}

Result<void> ReadQwen3Moe(const ConfigSource& source, ModelConfig& config) {
  MOXIE_TRY(ReadAttention(source, config));
  config.attention.qk_norm = QkNorm::kPerHead;
  MOXIE_TRY(ReadOptionalWindow(source, config, SlidesEverywhere));
  // A GGUF of this family is renormalised without saying so, as all published models are.
  return ReadMixture(source, source.is_gguf(), config);
}

}  // namespace

/// Qwen2 and 2.5 (arXiv:2407.10671): biases on q, k and v.
const Family kQwen2 = {.name = "qwen2",
                       .model_type = "qwen2",
                       .architecture = "Qwen2ForCausalLM",
                       .gguf = "qwen2",
                       .read = ReadQwen2};

/// Qwen2-MoE: a sigmoid-gated shared expert beside the others, weights not renormalised.
const Family kQwen2Moe = {.name = "qwen2moe",
                          .model_type = "qwen2_moe",
                          .architecture = "Qwen2MoeForCausalLM",
                          .gguf = "qwen2moe",
                          .read = ReadQwen2Moe};

/// Qwen3 (arXiv:2505.09388): RMSNorm on each head of q and k.
const Family kQwen3 = {.name = "qwen3",
                       .model_type = "qwen3",
                       .architecture = "Qwen3ForCausalLM",
                       .gguf = "qwen3",
                       .read = ReadQwen3};

const Family kQwen3Moe = {.name = "qwen3moe",
                          .model_type = "qwen3_moe",
                          .architecture = "Qwen3MoeForCausalLM",
                          .gguf = "qwen3moe",
                          .read = ReadQwen3Moe};

}  // namespace moxie
