#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "formats/model_files.h"
#include "moxie/result.h"

namespace moxie {

/// Which dimensions of a head rotate together: (2i, 2i+1) as in Meta's and GGUF's llama layout,
/// or (i, i + n/2) as in Hugging Face's.
enum class RopeLayout : uint8_t { kInterleaved, kHalf };

enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3, kYarn };

/// Rotary position embedding (arXiv:2104.09864) and its extensions to longer contexts.
struct RopeConfig {
  int64_t dims = 0;  ///< rotated dimensions of a head, even; the rest pass through
  double base = 10000.0;
  RopeLayout layout = RopeLayout::kHalf;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  double original_context = 0;
  double low_frequency_factor = 1.0;   ///< llama3
  double high_frequency_factor = 4.0;  ///< llama3
  double beta_fast = 32.0;             ///< YaRN (arXiv:2309.00071)
  double beta_slow = 1.0;
  bool truncate = true;                  ///< YaRN: round the ramp's borders to whole dimensions
  double attention_factor = 1.0;         ///< multiplies cos and sin, resolved by the family
  std::vector<float> frequency_factors;  ///< GGUF's rope_freqs: divides each frequency, or empty
};

enum class QkNorm : uint8_t {
  kNone,
  kPerHead,  ///< RMSNorm over each head (Qwen3)
  kWhole,    ///< RMSNorm over all heads at once (OLMoE)
};

/// Latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1). Unused where kv_rank is 0.
struct LatentConfig {
  int64_t q_rank = 0;  ///< 0: queries are projected directly
  int64_t kv_rank = 0;
  int64_t nope_dim = 0;
  int64_t rope_dim = 0;
  int64_t value_dim = 0;
};

struct AttentionConfig {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  double score_scale = 0;    ///< multiplies q.k
  double score_softcap = 0;  ///< c > 0: c * tanh(score / c) (Grok-1)
  double clip_qkv = 0;       ///< c > 0: q, k, v are clamped to [-c, c] (OLMoE, DBRX)
  QkNorm qk_norm = QkNorm::kNone;
  bool sinks = false;        ///< a learned logit a head in the softmax's denominator (gpt-oss)
  bool qkv_bias = false;     ///< biases on q, k and v (Qwen2)
  bool output_bias = false;  ///< and on the output projection
  LatentConfig latent;
};

enum class GateKind : uint8_t {
  kSoftmaxThenTopK,  ///< Mixtral (renormalised), OLMoE, Qwen2-MoE, Grok-1 (not)
  kTopKThenSoftmax,  ///< gpt-oss
  kSigmoid,          ///< DeepSeek-V3: select on sigmoid + bias in groups, weight by the sigmoid
};

struct RouterConfig {
  int64_t experts = 0;
  int64_t used = 0;
  GateKind gate = GateKind::kSoftmaxThenTopK;
  bool renormalise = true;
  double scale = 1.0;           ///< multiplies the weights (DeepSeek's routed_scaling_factor)
  int64_t groups = 1;           ///< DeepSeek: experts fall into groups,
  int64_t groups_used = 1;      ///< of which the best by the sum of their two best scores stay
  bool logit_bias = false;      ///< a bias an expert on the logits (gpt-oss)
  bool selection_bias = false;  ///< a bias an expert that only selection sees (DeepSeek-V3)
};

enum class Activation : uint8_t {
  kSilu,          ///< silu(gate) * up
  kGelu,          ///< gelu(gate) * up, tanh form
  kClampedSwiglu  ///< (up + 1) * gate * sigmoid(1.702 gate), both clamped (gpt-oss)
};

enum class SharedExpert : uint8_t { kNone, kAdded, kSigmoidGated };

/// What differs from layer to layer.
struct LayerConfig {
  bool sparse = false;  ///< a mixture, else one dense feed-forward
  int64_t window = 0;   ///< tokens a position sees, itself included; 0: all before it
  bool rope = true;
};

/// Everything that the forward pass needs to know of a model, whatever file it came from.
/// The axes are data: a new family sets fields, the forward pass reads them.
struct ModelConfig {
  std::string family;  ///< "mixtral", "mistral", "llama", "qwen2", "qwen2moe", "qwen3", ...
  std::string name;    ///< general.name or the folder's name
  int64_t dim = 0;
  int64_t vocab_size = 0;
  int64_t context_length = 0;  ///< trained context
  double norm_eps = 1e-5;
  bool post_norms = false;  ///< RMSNorm also after attention and feed-forward (Grok-1)
  double embedding_scale = 1.0;
  double logit_scale = 1.0;
  bool tied_embeddings = false;
  AttentionConfig attention;
  RopeConfig rope;
  Activation activation = Activation::kSilu;
  double activation_limit = 0;  ///< clamped SwiGLU
  double activation_alpha = 1.702;
  int64_t ffn_dim = 0;  ///< of dense layers
  int64_t expert_ffn_dim = 0;
  int64_t shared_ffn_dim = 0;
  SharedExpert shared_expert = SharedExpert::kNone;
  bool experts_gated = true;  ///< false: down(activation(up x)), in the catalogue's plans only
  bool ffn_bias = false;      ///< biases on gate, up and down of dense layers
  bool expert_bias = false;   ///< and of experts (gpt-oss)
  RouterConfig router;
  std::vector<LayerConfig> layers;
  int64_t prediction_layers = 0;  ///< layers of the file after these that predict further tokens;
                                  ///< not loaded (DeepSeek-V3)

  bool is_mixture() const { return router.experts > 0; }
};

/// Reads and checks the configuration of opened files: config.json, params.json or a GGUF's
/// metadata. Every number is checked for range and consistency before anything depends on it.
///
/// Errors: kInvalidInput such as `config.json: num_experts_per_tok is 9, but must be 1..8
/// (num_local_experts)`; kUnsupported for a family or setting that moxie does not know.
Result<ModelConfig> ReadModelConfig(const ModelFiles& files);

}  // namespace moxie
