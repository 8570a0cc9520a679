#pragma once

#include "model/settings.h"

namespace moxie {

/// The settings that several families share, and their spelling in each layout: config.json's,
/// a GGUF's below its architecture's prefix (llama.cpp's llama-arch.cpp), params.json's.
namespace keys {

inline constexpr Key kLayers = {{"num_hidden_layers"}, "block_count", "n_layers"};
inline constexpr Key kExtraLayers = {{"num_nextn_predict_layers"}, "nextn_predict_layers"};
inline constexpr Key kDim = {{"hidden_size"}, "embedding_length", "dim"};
inline constexpr Key kVocab = {{"vocab_size"}, "vocab_size", "vocab_size"};
inline constexpr Key kContext = {{"max_position_embeddings"}, "context_length", "max_seq_len"};
inline constexpr Key kNormEps = {{"rms_norm_eps"}, "attention.layer_norm_rms_epsilon", "norm_eps"};
inline constexpr Key kTied = {{"tie_word_embeddings"}, {}, "tied_embeddings"};
inline constexpr Key kActivation = {{"hidden_act", "hidden_activation"}, "hidden_activation"};
inline constexpr Key kQuantization = {{"quantization_config"}, {}, "quantization"};
inline constexpr Key kQuantMethod = {{"quantization_config.quant_method"}};

inline constexpr Key kHeads = {{"num_attention_heads"}, "attention.head_count", "n_heads"};
inline constexpr Key kKvHeads = {{"num_key_value_heads"}, "attention.head_count_kv", "n_kv_heads"};
inline constexpr Key kHeadDim = {{"head_dim"}, "attention.key_length", "head_dim"};
inline constexpr Key kValueDim = {{}, "attention.value_length"};
inline constexpr Key kAttentionBias = {{"attention_bias"}};
inline constexpr Key kWindow = {{"sliding_window"}, "attention.sliding_window", "sliding_window"};
inline constexpr Key kWindowPattern = {{}, "attention.sliding_window_pattern"};
inline constexpr Key kLayerTypes = {{"layer_types"}};
inline constexpr Key kUseWindow = {{"use_sliding_window"}};
inline constexpr Key kMaxWindowLayers = {{"max_window_layers"}};
inline constexpr Key kClip = {{"clip_qkv"}, "attention.clamp_kqv"};

inline constexpr Key kFfnDim = {{"intermediate_size"}, "feed_forward_length", "hidden_dim"};
inline constexpr Key kExpertFfnDim = {{"moe_intermediate_size"}, "expert_feed_forward_length"};
inline constexpr Key kSharedFfnDim = {{"shared_expert_intermediate_size"},
                                      "expert_shared_feed_forward_length"};
inline constexpr Key kExperts = {
    {"num_local_experts", "num_experts", "n_routed_experts"}, "expert_count", "moe.num_experts"};
inline constexpr Key kExpertsUsed = {
    {"num_experts_per_tok", "experts_per_token"}, "expert_used_count", "moe.num_experts_per_tok"};
inline constexpr Key kRenormalise = {{"norm_topk_prob"}, "expert_weights_norm"};
inline constexpr Key kGatingFunction = {{}, "expert_gating_func"};
inline constexpr Key kDenseLayers = {{"mlp_only_layers"}};
inline constexpr Key kSparseStep = {{"decoder_sparse_step"}};

inline constexpr Key kRopeParameters = {{"rope_parameters", "rope_scaling"}};
inline constexpr Key kRopeBase = {
    {"rope_parameters.rope_theta", "rope_scaling.rope_theta", "rope_theta"},
    "rope.freq_base",
    "rope_theta"};
inline constexpr Key kRopeDims = {{}, "rope.dimension_count"};
inline constexpr Key kRopeType = {{"rope_parameters.rope_type", "rope_scaling.rope_type"},
                                  "rope.scaling.type"};
inline constexpr Key kRopeOldType = {{"rope_parameters.type", "rope_scaling.type"}};
inline constexpr Key kRopeFactor = {{"rope_parameters.factor", "rope_scaling.factor"},
                                    "rope.scaling.factor"};
inline constexpr Key kRopeOldFactor = {{}, "rope.scale_linear"};
inline constexpr Key kRopeContext = {
    {"rope_parameters.original_max_position_embeddings",
     "rope_scaling.original_max_position_embeddings", "original_max_position_embeddings"},
    "rope.scaling.original_context_length"};
inline constexpr Key kRopeLow = {
    {"rope_parameters.low_freq_factor", "rope_scaling.low_freq_factor"}};
inline constexpr Key kRopeHigh = {
    {"rope_parameters.high_freq_factor", "rope_scaling.high_freq_factor"}};
inline constexpr Key kRopeBetaFast = {{"rope_parameters.beta_fast", "rope_scaling.beta_fast"},
                                      "rope.scaling.yarn_beta_fast"};
inline constexpr Key kRopeBetaSlow = {{"rope_parameters.beta_slow", "rope_scaling.beta_slow"},
                                      "rope.scaling.yarn_beta_slow"};
inline constexpr Key kRopeTruncate = {{"rope_parameters.truncate", "rope_scaling.truncate"}};
inline constexpr Key kRopeAttention = {
    {"rope_parameters.attention_factor", "rope_scaling.attention_factor"},
    "rope.scaling.yarn_attn_factor"};
inline constexpr Key kRopeMscale = {{"rope_parameters.mscale", "rope_scaling.mscale"}};
inline constexpr Key kRopeMscaleAll = {
    {"rope_parameters.mscale_all_dim", "rope_scaling.mscale_all_dim"}};
/// A tenth of mscale_all_dim, as llama.cpp's converter writes it.
inline constexpr Key kRopeLogMultiplier = {{}, "rope.scaling.yarn_log_multiplier"};

}  // namespace keys
}  // namespace moxie
