#include "model/outline.h"

#include <algorithm>
#include <string>

#include "model/names.h"

namespace moxie {
namespace {

constexpr std::byte kNoBytes{};  // What the matrices' data points to.

/// Lays out one layer's matrices and vectors.
class LayerOutline {
 public:
  LayerOutline(const ModelConfig& config, int64_t number, TypeOfTensor type_of)
      : config_(config),
        names_(NamesOf(FileLayout::kGguf)),
        prefix_(WithNumber(names_.layer_prefix, number)),
        type_of_(type_of) {}

  void Fill(bool sparse, LayerWeights& out) const {
    const auto dim = static_cast<size_t>(config_.dim);
    out.attention_norm.resize(dim);
    out.ffn_norm.resize(dim);
    if (config_.post_norms) {
      out.post_attention_norm.resize(dim);
      out.post_ffn_norm.resize(dim);
    }
    if (config_.attention.latent.kv_rank > 0) {
      FillLatent(out.attention);
    } else {
      FillGrouped(out.attention);
    }
    if (sparse) {
      FillMixture(out);
    } else {
      out.dense = FeedForward(names_.gate, names_.up, names_.down, config_.ffn_dim);
      AddBiases(config_.ffn_bias, config_.ffn_dim, out.dense);
    }
  }

  WeightMatrix Matrix(const Spellings& names, int64_t rows, int64_t cols) const {
    const DType type = type_of_(prefix_ + std::string(names[0]) + ".weight", cols);
    return {type, rows, cols, BytesOf(type, cols).value_or(0), &kNoBytes};
  }

 private:
  void FillGrouped(AttentionWeights& out) const {
    const AttentionConfig& a = config_.attention;
    const int64_t q = a.heads * a.head_dim, kv = a.kv_heads * a.head_dim;
    out.q = Matrix(names_.q, q, config_.dim);
    out.k = Matrix(names_.k, kv, config_.dim);
    out.v = Matrix(names_.v, kv, config_.dim);
    out.output = Matrix(names_.attention_output, config_.dim, q);
    if (a.qkv_bias) {
      out.q_bias.resize(static_cast<size_t>(q));
      out.k_bias.resize(static_cast<size_t>(kv));
      out.v_bias.resize(static_cast<size_t>(kv));
    }
    if (a.output_bias) out.output_bias.resize(static_cast<size_t>(config_.dim));
    if (a.qk_norm != QkNorm::kNone) {
      const bool whole = a.qk_norm == QkNorm::kWhole;
      out.q_norm.resize(static_cast<size_t>(whole ? q : a.head_dim));
      out.k_norm.resize(static_cast<size_t>(whole ? kv : a.head_dim));
    }
    if (a.sinks) out.sinks.resize(static_cast<size_t>(a.heads));
  }

  void FillLatent(AttentionWeights& out) const {
    const AttentionConfig& a = config_.attention;
    const LatentConfig& latent = a.latent;
    const int64_t q_rows = a.heads * (latent.nope_dim + latent.rope_dim);
    if (latent.q_rank > 0) {
      out.q_a = Matrix(names_.q_a, latent.q_rank, config_.dim);
      out.q_a_norm.resize(static_cast<size_t>(latent.q_rank));
      out.q = Matrix(names_.q_b, q_rows, latent.q_rank);
    } else {
      out.q = Matrix(names_.q, q_rows, config_.dim);
    }
    out.kv_a = Matrix(names_.kv_a, latent.kv_rank + latent.rope_dim, config_.dim);
    out.kv_a_norm.resize(static_cast<size_t>(latent.kv_rank));
    out.kv_b = Matrix(names_.kv_b, a.heads * (latent.nope_dim + latent.value_dim), latent.kv_rank);
    out.output = Matrix(names_.attention_output, config_.dim, a.heads * latent.value_dim);
  }

  void FillMixture(LayerWeights& out) const {
    const RouterConfig& router = config_.router;
    const auto experts = static_cast<size_t>(router.experts);
    out.router = Matrix(names_.router, router.experts, config_.dim);
    if (router.logit_bias) out.router_bias.resize(experts);
    if (router.selection_bias) out.router_selection_bias.resize(experts);
    FeedForwardWeights expert = FeedForward(names_.experts_gate, names_.experts_up,
                                            names_.experts_down, config_.expert_ffn_dim);
    if (!config_.experts_gated) expert.gate.matrix = {};
    AddBiases(config_.expert_bias, config_.expert_ffn_dim, expert);
    out.experts.assign(experts, expert);
    PlaceExperts(out.experts);
    if (config_.shared_expert == SharedExpert::kNone) return;
    out.shared = FeedForward(names_.shared_gate, names_.shared_up, names_.shared_down,
                             config_.shared_ffn_dim);
    if (config_.shared_expert == SharedExpert::kSigmoidGated)
      out.shared_gate.resize(static_cast<size_t>(config_.dim));
  }

  /// As in a GGUF: each kind of matrix stacked, one kind after another.
  static void PlaceExperts(std::vector<FeedForwardWeights>& experts) {
    uint64_t offset = 0;
    for (StoredMatrix FeedForwardWeights::*const kind :
         {&FeedForwardWeights::gate, &FeedForwardWeights::up, &FeedForwardWeights::down}) {
      for (FeedForwardWeights& expert : experts) {
        StoredMatrix& stored = expert.*kind;
        stored.file = 0;
        stored.offset = offset;
        offset += static_cast<uint64_t>(stored.matrix.bytes());
      }
    }
  }

  FeedForwardWeights FeedForward(const Spellings& gate, const Spellings& up, const Spellings& down,
                                 int64_t ffn) const {
    FeedForwardWeights out;
    out.gate.matrix = Matrix(gate, ffn, config_.dim);
    out.up.matrix = Matrix(up, ffn, config_.dim);
    out.down.matrix = Matrix(down, config_.dim, ffn);
    return out;
  }

  void AddBiases(bool has, int64_t ffn, FeedForwardWeights& out) const {
    if (!has) return;
    out.gate_bias.resize(static_cast<size_t>(ffn));
    out.up_bias.resize(static_cast<size_t>(ffn));
    out.down_bias.resize(static_cast<size_t>(config_.dim));
  }

  const ModelConfig& config_;
  const TensorNames& names_;
  const std::string prefix_;
  TypeOfTensor type_of_;
};

int64_t BytesOfMatrix(const WeightMatrix& matrix) {
  return matrix.empty() ? 0 : matrix.rows * BytesOf(matrix.type, matrix.cols).value_or(0);
}

int64_t BytesOfVectors(const FeedForwardWeights& ffn) {
  return static_cast<int64_t>((ffn.gate_bias.size() + ffn.up_bias.size() + ffn.down_bias.size()) *
                              sizeof(float));
}

int64_t BytesOfMatrices(const FeedForwardWeights& ffn) {
  return BytesOfMatrix(ffn.gate.matrix) + BytesOfMatrix(ffn.up.matrix) +
         BytesOfMatrix(ffn.down.matrix);
}

void CountLayer(const LayerWeights& layer, WeightBytes& out) {
  const AttentionWeights& a = layer.attention;
  for (const WeightMatrix* m :
       {&a.q, &a.k, &a.v, &a.output, &a.q_a, &a.kv_a, &a.kv_b, &layer.router})
    out.matrices += BytesOfMatrix(*m);
  out.matrices += BytesOfMatrices(layer.dense) + BytesOfMatrices(layer.shared);
  size_t floats = 0;
  for (const std::vector<float>* v :
       {&layer.attention_norm, &layer.ffn_norm, &layer.post_attention_norm, &layer.post_ffn_norm,
        &layer.router_bias, &layer.router_selection_bias, &layer.shared_gate, &a.q_bias, &a.k_bias,
        &a.v_bias, &a.output_bias, &a.q_norm, &a.k_norm, &a.sinks, &a.q_a_norm, &a.kv_a_norm})
    floats += v->size();
  out.vectors += static_cast<int64_t>(floats * sizeof(float)) + BytesOfVectors(layer.dense) +
                 BytesOfVectors(layer.shared);
  for (const FeedForwardWeights& expert : layer.experts) {
    const int64_t bytes = BytesOfMatrices(expert);
    out.experts += bytes;
    out.largest_expert = std::max(out.largest_expert, bytes);
    out.vectors += BytesOfVectors(expert);
  }
  out.sparse_layers += layer.experts.empty() ? 0 : 1;
}

}  // namespace

WeightBytes CountBytes(const ModelConfig& config, const ModelWeights& weights) {
  WeightBytes out;
  out.matrices = BytesOfMatrix(weights.embedding);
  if (!config.tied_embeddings) out.matrices += BytesOfMatrix(weights.output);
  out.vectors = static_cast<int64_t>(weights.output_norm.size() * sizeof(float));
  for (const LayerWeights& layer : weights.layers) CountLayer(layer, out);
  return out;
}

ModelWeights OutlineWeights(const ModelConfig& config, TypeOfTensor type_of) {
  ModelWeights out;
  const TensorNames& names = NamesOf(FileLayout::kGguf);
  const auto matrix = [&](const Spellings& spellings) {
    const DType type = type_of(std::string(spellings[0]) + ".weight", config.dim);
    return WeightMatrix{type, config.vocab_size, config.dim, BytesOf(type, config.dim).value_or(0),
                        &kNoBytes};
  };
  out.embedding = matrix(names.embedding);
  out.output = config.tied_embeddings ? out.embedding : matrix(names.output);
  out.output_norm.resize(static_cast<size_t>(config.dim));
  out.layers.resize(config.layers.size());
  for (size_t i = 0; i < out.layers.size(); ++i)
    LayerOutline(config, static_cast<int64_t>(i), type_of)
        .Fill(config.layers[i].sparse, out.layers[i]);
  return out;
}

DType TypeForRows(DType wanted, int64_t cols) {
  for (const DType type : {wanted, DType::kQ8_0}) {
    if (cols % TraitsOf(type).block_elements == 0) return type;
  }
  return DType::kF16;
}

}  // namespace moxie
