#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/function_ref.h"
#include "core/matrix.h"
#include "formats/model_files.h"
#include "model/config.h"
#include "moxie/result.h"

namespace moxie {

/// A matrix and where its bytes lie: `file` >= 0 is an index into the model's files and `offset`
/// the matrix's first byte there, so that a store can read it instead of touching the mapping;
/// -1 where loading had to rearrange the bytes and the model owns them.
struct StoredMatrix {
  WeightMatrix matrix;
  int file = -1;
  uint64_t offset = 0;
};

/// One expert's (or a dense layer's) feed-forward. Biases are empty or float32.
struct FeedForwardWeights {
  StoredMatrix gate;  ///< [ffn, dim]
  StoredMatrix up;    ///< [ffn, dim]
  StoredMatrix down;  ///< [dim, ffn]
  std::vector<float> gate_bias, up_bias, down_bias;
};

/// Whether all its matrices can be read from files as they lie.
bool LiesInFiles(const FeedForwardWeights& weights);

struct AttentionWeights {
  WeightMatrix q;       ///< [heads * head_dim, dim]; latent with q_rank: [heads * qk_dim, q_rank]
  WeightMatrix k;       ///< [kv_heads * head_dim, dim]
  WeightMatrix v;       ///< [kv_heads * head_dim, dim]
  WeightMatrix output;  ///< [dim, heads * head_dim]
  std::vector<float> q_bias, k_bias, v_bias, output_bias;  ///< or empty
  std::vector<float> q_norm, k_norm;                       ///< per head or whole; or empty
  std::vector<float> sinks;                                ///< [heads] or empty
  // Latent attention (names after DeepSeek-V3's files).
  WeightMatrix q_a;   ///< [q_rank, dim], empty where q_rank is 0
  WeightMatrix kv_a;  ///< [kv_rank + rope_dim, dim]
  WeightMatrix kv_b;  ///< [heads * (nope_dim + value_dim), kv_rank]
  std::vector<float> q_a_norm, kv_a_norm;
};

struct LayerWeights {
  std::vector<float> attention_norm, ffn_norm;            ///< [dim]
  std::vector<float> post_attention_norm, post_ffn_norm;  ///< [dim] or empty
  AttentionWeights attention;
  FeedForwardWeights dense;                  ///< of a dense layer
  WeightMatrix router;                       ///< [experts, dim], float types
  std::vector<float> router_bias;            ///< added to the logits, or empty
  std::vector<float> router_selection_bias;  ///< added for selection only (DeepSeek-V3), or empty
  std::vector<FeedForwardWeights> experts;
  FeedForwardWeights shared;       ///< shared expert(s) as one, or empty
  std::vector<float> shared_gate;  ///< [dim], sigmoid gate of Qwen2-MoE, or empty
};

/// A model's weights by role: views into mapped files wherever the bytes can be used as they
/// lie, owned buffers where they cannot (transposed or differently packed experts).
/// Immutable after loading; safe to share between threads.
struct ModelWeights {
  WeightMatrix embedding;          ///< [vocab, dim]
  WeightMatrix output;             ///< [vocab, dim]; the embedding itself where tied
  std::vector<float> output_norm;  ///< [dim]
  std::vector<LayerWeights> layers;
  std::vector<std::unique_ptr<std::byte[]>> owned;
};

/// Calls `visit` for every matrix but the experts', absent ones left out.
void ForEachSharedMatrix(ModelWeights& weights, FunctionRef<void(WeightMatrix&)> visit);

/// Finds every weight that `config` calls for, under the names of the file's layout, and checks
/// its shape and type. A tensor that is missing or misshapen, or that the model does not use,
/// is an error that names it. `files` must outlive the result.
Result<ModelWeights> LoadWeights(const ModelFiles& files, const ModelConfig& config);

}  // namespace moxie
