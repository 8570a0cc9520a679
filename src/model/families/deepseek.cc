#include <cmath>
#include <string>

#include "model/families/families.h"
#include "model/keys.h"

namespace moxie {
namespace {

constexpr Key kQRank = {{"q_lora_rank"}, "attention.q_lora_rank"};
constexpr Key kKvRank = {{"kv_lora_rank"}, "attention.kv_lora_rank"};
constexpr Key kNopeDim = {{"qk_nope_head_dim"}};
constexpr Key kRopeDim = {{"qk_rope_head_dim"}, "rope.dimension_count"};
constexpr Key kValueDim = {{"v_head_dim"}, "attention.value_length_mla"};
constexpr Key kKeyDim = {{}, "attention.key_length_mla"};
constexpr Key kRopeInterleave = {{"rope_interleave"}};
constexpr Key kGroups = {{"n_group"}, "expert_group_count"};
constexpr Key kGroupsUsed = {{"topk_group"}, "expert_group_used_count"};
constexpr Key kScale = {{"routed_scaling_factor"}, "expert_weights_scale"};
constexpr Key kShared = {{"n_shared_experts"}, "expert_shared_count"};
constexpr Key kLeadingDense = {{"first_k_dense_replace"}, "leading_dense_block_count"};
constexpr Key kFrequency = {{"moe_layer_freq"}};
constexpr Key kScoring = {{"scoring_func"}};
constexpr Key kTopKMethod = {{"topk_method"}};
constexpr int64_t kSigmoidGating = 2;  // llama.cpp's number for it.

Result<void> ReadLatent(const ConfigSource& source, ModelConfig& config) {
  const Settings& settings = source.settings;
  AttentionConfig& attention = config.attention;
  LatentConfig& latent = attention.latent;
  MOXIE_TRY_ASSIGN(attention.heads, settings.Integer(keys::kHeads, {1, kMaxHeads}));
  // Every head has keys and values of its own, whatever the file says of the shared latent.
  attention.kv_heads = attention.heads;
  MOXIE_TRY_ASSIGN(latent.q_rank, settings.IntegerOr(kQRank, {1, kMaxHeadDim}, 0));
  MOXIE_TRY_ASSIGN(latent.kv_rank, settings.Integer(kKvRank, {1, kMaxHeadDim}));
  MOXIE_TRY_ASSIGN(latent.rope_dim, settings.Integer(kRopeDim, {2, kMaxHeadDim}));
  if (latent.rope_dim % 2 != 0) return settings.Invalid(kRopeDim, "must be even");
  if (source.is_gguf()) {
    // Files from before the split of kv_b give a head's sizes under the plain names.
    const Key& key_dim = settings.Has(kKeyDim) ? kKeyDim : keys::kHeadDim;
    const Key& value_dim = settings.Has(kValueDim) ? kValueDim : keys::kValueDim;
    MOXIE_TRY_ASSIGN(
        attention.head_dim,
        settings.Integer(key_dim, {latent.rope_dim + 1, 2 * kMaxHeadDim, "rope.dimension_count"}));
    latent.nope_dim = attention.head_dim - latent.rope_dim;
    MOXIE_TRY_ASSIGN(latent.value_dim, settings.Integer(value_dim, {1, kMaxHeadDim}));
  } else {
    MOXIE_TRY_ASSIGN(latent.nope_dim, settings.Integer(kNopeDim, {1, kMaxHeadDim}));
    MOXIE_TRY_ASSIGN(latent.value_dim, settings.Integer(kValueDim, {1, kMaxHeadDim}));
    attention.head_dim = latent.nope_dim + latent.rope_dim;
    MOXIE_TRY_ASSIGN(const bool bias, settings.BooleanOr(keys::kAttentionBias, false));
    if (bias) return settings.Unsupported(keys::kAttentionBias, "only false is supported");
  }
  attention.score_scale = 1.0 / std::sqrt(static_cast<double>(attention.head_dim));
  return {};
}

/// YaRN's second scale: DeepSeek multiplies the scores by mscale_all_dim's, squared.
Result<void> ScaleScores(const ConfigSource& source, ModelConfig& config) {
  const Settings& settings = source.settings;
  double mscale_all = 0;
  if (source.is_gguf()) {
    MOXIE_TRY_ASSIGN(mscale_all, settings.NumberOr(keys::kRopeLogMultiplier, 0, 100, 0));
    // The tenth is a float32: 0.1f * 10 is not 1, but rounds to it.
    mscale_all = static_cast<double>(static_cast<float>(mscale_all * 10));
  } else {
    MOXIE_TRY_ASSIGN(mscale_all, settings.NumberOr(keys::kRopeMscaleAll, 0, 1000, 0));
  }
  if (mscale_all == 0) return {};
  MOXIE_TRY_ASSIGN(const double factor, settings.NumberOr(keys::kRopeFactor, 0, 1e6, 1));
  const double mscale = YarnMscale(factor, mscale_all);
  config.attention.score_scale *= mscale * mscale;
  return {};
}

Result<void> ReadGroups(const Settings& settings, RouterConfig& router) {
  MOXIE_TRY_ASSIGN(
      router.groups,
      settings.IntegerOr(kGroups, {0, router.experts, settings.Name(keys::kExperts)}, 1));
  if (router.groups == 0) router.groups = 1;  // GGUF: not grouped.
  if (router.experts % router.groups != 0) {
    return settings.Invalid(kGroups, "must divide " + settings.Name(keys::kExperts) + " (" +
                                         std::to_string(router.experts) + ")");
  }
  const int64_t each = router.experts / router.groups;
  if (router.groups > 1 && each < 2) {
    return settings.Invalid(kGroups, "must leave each group at least two experts");
  }
  MOXIE_TRY_ASSIGN(router.groups_used, settings.IntegerOr(kGroupsUsed,
                                                          {router.groups == 1 ? 0 : 1,
                                                           router.groups, settings.Name(kGroups)},
                                                          router.groups));
  if (router.groups_used == 0) router.groups_used = 1;
  if (router.used > router.groups_used * each) {
    return settings.Invalid(keys::kExpertsUsed, "must be 1.." +
                                                    std::to_string(router.groups_used * each) +
                                                    " (" + settings.Name(kGroupsUsed) +
                                                    " groups of " + std::to_string(each) + ")");
  }
  return {};
}

Result<void> ReadGate(const ConfigSource& source, ModelConfig& config) {
  const Settings& settings = source.settings;
  RouterConfig& router = config.router;
  router.gate = GateKind::kSigmoid;
  if (source.is_gguf()) {
    MOXIE_TRY_ASSIGN(const int64_t gating, settings.IntegerOr(keys::kGatingFunction, {0, 255}, 0));
    if (gating != kSigmoidGating) {
      return settings.Unsupported(keys::kGatingFunction, "only 2 (sigmoid) is supported");
    }
    for (size_t i = 0; i < config.layers.size(); ++i) {
      const bool bias = source.HasTensor("blk." + std::to_string(i) + ".exp_probs_b.bias");
      router.selection_bias = router.selection_bias || bias;
    }
  } else {
    MOXIE_TRY_ASSIGN(const std::string scoring, settings.TextOr(kScoring, "sigmoid"));
    if (scoring != "sigmoid")
      return settings.Unsupported(kScoring, "only \"sigmoid\" is supported");
    MOXIE_TRY_ASSIGN(const std::string method, settings.TextOr(kTopKMethod, "noaux_tc"));
    if (method != "noaux_tc") {
      return settings.Unsupported(kTopKMethod, "only \"noaux_tc\" is supported");
    }
    router.selection_bias = true;
  }
  MOXIE_TRY_ASSIGN(router.renormalise, settings.BooleanOr(keys::kRenormalise, !source.is_gguf()));
  MOXIE_TRY_ASSIGN(router.scale, settings.NumberOr(kScale, 0, 1e6, source.is_gguf() ? 1.0 : 2.5));
  if (router.scale == 0) router.scale = 1;  // GGUF: not scaled.
  // A float32 in a GGUF, and as such multiplied in the published code.
  router.scale = static_cast<double>(static_cast<float>(router.scale));
  return ReadGroups(settings, router);
}

Result<void> Read(const ConfigSource& source, ModelConfig& config) {
  const Settings& settings = source.settings;
  MOXIE_TRY(ReadLatent(source, config));
  MOXIE_TRY(ScaleScores(source, config));
  MOXIE_TRY_ASSIGN(config.ffn_dim, settings.Integer(keys::kFfnDim, {1, kMaxFfnDim}));
  MOXIE_TRY(ReadExperts(source, keys::kExpertFfnDim, config));
  MOXIE_TRY(ReadGate(source, config));
  const auto layers = static_cast<int64_t>(config.layers.size());
  MOXIE_TRY_ASSIGN(const int64_t dense,
                   settings.IntegerOr(kLeadingDense, {0, layers, settings.Name(keys::kLayers)}, 0));
  for (int64_t i = 0; i < layers; ++i) config.layers[static_cast<size_t>(i)].sparse = i >= dense;
  MOXIE_TRY_ASSIGN(const int64_t frequency, settings.IntegerOr(kFrequency, {1, kMaxLayers}, 1));
  if (frequency != 1) return settings.Unsupported(kFrequency, "only 1 is supported");
  MOXIE_TRY_ASSIGN(const int64_t shared, settings.IntegerOr(kShared, {0, 1024}, 0));
  config.shared_expert = shared > 0 ? SharedExpert::kAdded : SharedExpert::kNone;
  config.shared_ffn_dim = shared * config.expert_ffn_dim;
  MOXIE_TRY_ASSIGN(const bool interleave, settings.BooleanOr(kRopeInterleave, true));
  config.rope.layout = interleave ? RopeLayout::kInterleaved : RopeLayout::kHalf;
  return {};
}

}  // namespace

/// DeepSeek-V3 (arXiv:2412.19437): latent attention, sigmoid gate with groups and a bias for
/// selection, shared experts, dense first layers.
const Family kDeepSeek = {.name = "deepseek3",
                          .model_type = "deepseek_v3",
                          .architecture = "DeepseekV3ForCausalLM",
                          .gguf = "deepseek2",
                          .gguf_interleaved = true,
                          .read = Read};

}  // namespace moxie
