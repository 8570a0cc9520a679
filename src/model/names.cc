#include "model/names.h"

#include <charconv>

namespace moxie {
namespace {

constexpr TensorNames kHuggingFaceNames = {
    .embedding = {"model.embed_tokens"},
    .output = {"lm_head"},
    .output_norm = {"model.norm"},
    .layer_prefix = "model.layers.#.",
    .attention_norm = {"input_layernorm"},
    .ffn_norm = {"post_attention_layernorm"},
    .q = {"self_attn.q_proj"},
    .k = {"self_attn.k_proj"},
    .v = {"self_attn.v_proj"},
    .qkv = {},
    .attention_output = {"self_attn.o_proj"},
    .q_norm = {"self_attn.q_norm"},
    .k_norm = {"self_attn.k_norm"},
    .sinks = {"self_attn.sinks"},
    .q_a = {"self_attn.q_a_proj"},
    .q_a_norm = {"self_attn.q_a_layernorm"},
    .q_b = {"self_attn.q_b_proj"},
    .kv_a = {"self_attn.kv_a_proj_with_mqa"},
    .kv_a_norm = {"self_attn.kv_a_layernorm"},
    .kv_b = {"self_attn.kv_b_proj"},
    .gate = {"mlp.gate_proj"},
    .up = {"mlp.up_proj"},
    .down = {"mlp.down_proj"},
    .router = {"block_sparse_moe.gate", "mlp.gate", "mlp.router"},
    .selection_bias = {"mlp.gate.e_score_correction_bias"},
    .expert_gate = {"block_sparse_moe.experts.#.w1", "mlp.experts.#.gate_proj", "mlp.experts.#.w1"},
    .expert_up = {"block_sparse_moe.experts.#.w3", "mlp.experts.#.up_proj", "mlp.experts.#.w3"},
    .expert_down = {"block_sparse_moe.experts.#.w2", "mlp.experts.#.down_proj", "mlp.experts.#.w2"},
    .experts_gate = {},
    .experts_up = {},
    .experts_down = {"mlp.experts.down_proj"},
    .experts_gate_up = {"mlp.experts.gate_up_proj"},
    .shared_gate = {"mlp.shared_expert.gate_proj", "mlp.shared_experts.gate_proj"},
    .shared_up = {"mlp.shared_expert.up_proj", "mlp.shared_experts.up_proj"},
    .shared_down = {"mlp.shared_expert.down_proj", "mlp.shared_experts.down_proj"},
    .shared_router = {"mlp.shared_expert_gate"},
};

constexpr TensorNames kGgufNames = {
    .embedding = {"token_embd"},
    .output = {"output"},
    .output_norm = {"output_norm"},
    .layer_prefix = "blk.#.",
    .attention_norm = {"attn_norm"},
    .ffn_norm = {"ffn_norm", "post_attention_norm"},  // gpt-oss has the second
    .q = {"attn_q"},
    .k = {"attn_k"},
    .v = {"attn_v"},
    .qkv = {"attn_qkv"},
    .attention_output = {"attn_output"},
    .q_norm = {"attn_q_norm"},
    .k_norm = {"attn_k_norm"},
    .sinks = {"attn_sinks.weight"},
    .q_a = {"attn_q_a"},
    .q_a_norm = {"attn_q_a_norm"},
    .q_b = {"attn_q_b"},
    .kv_a = {"attn_kv_a_mqa"},
    .kv_a_norm = {"attn_kv_a_norm"},
    .kv_b = {"attn_kv_b"},
    .gate = {"ffn_gate"},
    .up = {"ffn_up"},
    .down = {"ffn_down"},
    .router = {"ffn_gate_inp"},
    .selection_bias = {"exp_probs_b.bias", "exp_probs_b"},
    .expert_gate = {"ffn_gate.#"},
    .expert_up = {"ffn_up.#"},
    .expert_down = {"ffn_down.#"},
    .experts_gate = {"ffn_gate_exps"},
    .experts_up = {"ffn_up_exps"},
    .experts_down = {"ffn_down_exps"},
    .experts_gate_up = {"ffn_gate_up_exps"},
    .shared_gate = {"ffn_gate_shexp"},
    .shared_up = {"ffn_up_shexp"},
    .shared_down = {"ffn_down_shexp"},
    .shared_router = {"ffn_gate_inp_shexp"},
};

constexpr TensorNames kConsolidatedNames = {
    .embedding = {"tok_embeddings"},
    .output = {"output"},
    .output_norm = {"norm"},
    .layer_prefix = "layers.#.",
    .attention_norm = {"attention_norm"},
    .ffn_norm = {"ffn_norm"},
    .q = {"attention.wq"},
    .k = {"attention.wk"},
    .v = {"attention.wv"},
    .qkv = {},
    .attention_output = {"attention.wo"},
    .q_norm = {},
    .k_norm = {},
    .sinks = {},
    .q_a = {},
    .q_a_norm = {},
    .q_b = {},
    .kv_a = {},
    .kv_a_norm = {},
    .kv_b = {},
    .gate = {"feed_forward.w1"},
    .up = {"feed_forward.w3"},
    .down = {"feed_forward.w2"},
    .router = {"feed_forward.gate", "block_sparse_moe.gate"},
    .selection_bias = {},
    .expert_gate = {"feed_forward.experts.#.w1", "block_sparse_moe.experts.#.w1"},
    .expert_up = {"feed_forward.experts.#.w3", "block_sparse_moe.experts.#.w3"},
    .expert_down = {"feed_forward.experts.#.w2", "block_sparse_moe.experts.#.w2"},
    .experts_gate = {"block_sparse_moe.w1"},
    .experts_up = {"block_sparse_moe.w3"},
    .experts_down = {"block_sparse_moe.w2"},
    .experts_gate_up = {},
    .shared_gate = {},
    .shared_up = {},
    .shared_down = {},
    .shared_router = {},
};

}  // namespace

const TensorNames& NamesOf(FileLayout layout) {
  switch (layout) {
    case FileLayout::kGguf:
      return kGgufNames;
    case FileLayout::kConsolidated:
      return kConsolidatedNames;
    case FileLayout::kHuggingFace:
      break;
  }
  return kHuggingFaceNames;
}

std::string WithNumber(std::string_view pattern, int64_t number) {
  const size_t place = pattern.find('#');
  if (place == std::string_view::npos) return std::string(pattern);
  return std::string(pattern.substr(0, place)) + std::to_string(number) +
         std::string(pattern.substr(place + 1));
}

int64_t LayerOf(FileLayout layout, std::string_view name) {
  const std::string_view prefix = NamesOf(layout).layer_prefix;
  const std::string_view head = prefix.substr(0, prefix.find('#'));
  if (!name.starts_with(head)) return -1;
  name.remove_prefix(head.size());
  int64_t layer = -1;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data(), end, layer);
  const bool whole = parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '.';
  return whole ? layer : -1;
}

std::string DisplayName(const ModelFiles& files) {
  const auto& path = files.path;  // A folder may be given as "folder/".
  return (path.has_filename() ? path.filename() : path.parent_path().filename()).string();
}

bool IsIgnorable(FileLayout layout, std::string_view name) {
  constexpr std::string_view kBuffers[] = {"rotary_emb.inv_freq", "rotary_emb.cos_cached",
                                           "rotary_emb.sin_cached"};
  for (const std::string_view buffer : kBuffers) {
    if (name.ends_with(buffer)) return true;
  }
  if (layout == FileLayout::kConsolidated) return name == "rope.freqs";
  return layout == FileLayout::kGguf && name.ends_with(".attn_rot_embd");
}

}  // namespace moxie
