#include "model/weights.h"

#include <string>
#include <utility>

#include "model/experts.h"
#include "model/latent.h"
#include "model/names.h"
#include "model/tensor_finder.h"

namespace moxie {
namespace {

/// Loads one layer's tensors by role.
class LayerLoader {
 public:
  LayerLoader(TensorFinder& finder, const ModelFiles& files, const ModelConfig& config,
              int64_t number, ModelWeights& model)
      : finder_(finder),
        files_(files),
        config_(config),
        names_(NamesOf(files.layout)),
        prefix_(WithNumber(names_.layer_prefix, number)),
        sparse_(config.layers[static_cast<size_t>(number)].sparse),
        model_(model),
        layer_(model.layers[static_cast<size_t>(number)]) {}

  Result<void> Load() {
    MOXIE_TRY(Vector(names_.attention_norm, config_.dim, layer_.attention_norm));
    MOXIE_TRY(Vector(names_.ffn_norm, config_.dim, layer_.ffn_norm));
    if (config_.attention.latent.kv_rank > 0) {
      MOXIE_TRY(
          LoadLatentAttention(finder_, names_, config_, prefix_, layer_.attention, model_.owned));
    } else {
      MOXIE_TRY(LoadAttention());
    }
    return sparse_ ? LoadMixture() : LoadDense();
  }

 private:
  Role Weight(const Spellings& names) const { return {names, prefix_, ".weight"}; }
  Role Bias(const Spellings& names) const { return {names, prefix_, ".bias"}; }

  Result<void> Vector(const Spellings& names, int64_t elements, std::vector<float>& out) {
    MOXIE_TRY_ASSIGN(out, finder_.Vector(Weight(names), elements));
    return {};
  }

  Result<void> Matrix(const Spellings& names, int64_t rows, int64_t cols, WeightMatrix& out) {
    MOXIE_TRY_ASSIGN(const StoredMatrix stored, finder_.Matrix(Weight(names), rows, cols));
    out = stored.matrix;
    return {};
  }

  Result<void> LoadAttention() {
    const AttentionConfig& a = config_.attention;
    const int64_t q_rows = a.heads * a.head_dim;
    const int64_t kv_rows = a.kv_heads * a.head_dim;
    AttentionWeights& w = layer_.attention;
    if (finder_.Has(Weight(names_.qkv))) {
      MOXIE_TRY(LoadFusedQkv(q_rows, kv_rows));
    } else {
      MOXIE_TRY(Matrix(names_.q, q_rows, config_.dim, w.q));
      MOXIE_TRY(Matrix(names_.k, kv_rows, config_.dim, w.k));
      MOXIE_TRY(Matrix(names_.v, kv_rows, config_.dim, w.v));
    }
    MOXIE_TRY(Matrix(names_.attention_output, config_.dim, q_rows, w.output));
    if (a.qkv_bias && w.q_bias.empty()) {
      MOXIE_TRY_ASSIGN(w.q_bias, finder_.Vector(Bias(names_.q), q_rows));
      MOXIE_TRY_ASSIGN(w.k_bias, finder_.Vector(Bias(names_.k), kv_rows));
      MOXIE_TRY_ASSIGN(w.v_bias, finder_.Vector(Bias(names_.v), kv_rows));
    }
    if (a.output_bias) {
      MOXIE_TRY_ASSIGN(w.output_bias, finder_.Vector(Bias(names_.attention_output), config_.dim));
    }
    if (a.qk_norm != QkNorm::kNone) {
      const bool whole = a.qk_norm == QkNorm::kWhole;
      MOXIE_TRY(Vector(names_.q_norm, whole ? q_rows : a.head_dim, w.q_norm));
      MOXIE_TRY(Vector(names_.k_norm, whole ? kv_rows : a.head_dim, w.k_norm));
    }
    if (a.sinks) {
      MOXIE_TRY_ASSIGN(w.sinks, finder_.Vector({names_.sinks, prefix_, ""}, a.heads));
    }
    return {};
  }

  /// Newer GGUFs may hold q, k and v as one matrix, in that order.
  Result<void> LoadFusedQkv(int64_t q_rows, int64_t kv_rows) {
    AttentionWeights& w = layer_.attention;
    const int64_t rows = q_rows + 2 * kv_rows;
    MOXIE_TRY_ASSIGN(const TensorInfo* qkv, finder_.Need(Weight(names_.qkv), {rows, config_.dim}));
    w.q = finder_.Rows(*qkv, 0, q_rows, config_.dim).matrix;
    w.k = finder_.Rows(*qkv, q_rows, kv_rows, config_.dim).matrix;
    w.v = finder_.Rows(*qkv, q_rows + kv_rows, kv_rows, config_.dim).matrix;
    if (!config_.attention.qkv_bias || !finder_.Has(Bias(names_.qkv))) return {};
    MOXIE_TRY_ASSIGN(const auto bias, finder_.Vector(Bias(names_.qkv), rows));
    w.q_bias.assign(bias.begin(), bias.begin() + q_rows);
    w.k_bias.assign(bias.begin() + q_rows, bias.begin() + q_rows + kv_rows);
    w.v_bias.assign(bias.begin() + q_rows + kv_rows, bias.end());
    return {};
  }

  Result<void> LoadDense() {
    const int64_t ffn = config_.ffn_dim;
    FeedForwardWeights& w = layer_.dense;
    MOXIE_TRY(LoadFeedForward(names_.gate, names_.up, names_.down, ffn, w));
    if (!config_.ffn_bias) return {};
    MOXIE_TRY_ASSIGN(w.gate_bias, finder_.Vector(Bias(names_.gate), ffn));
    MOXIE_TRY_ASSIGN(w.up_bias, finder_.Vector(Bias(names_.up), ffn));
    MOXIE_TRY_ASSIGN(w.down_bias, finder_.Vector(Bias(names_.down), config_.dim));
    return {};
  }

  Result<void> LoadFeedForward(const Spellings& gate, const Spellings& up, const Spellings& down,
                               int64_t ffn, FeedForwardWeights& w) {
    MOXIE_TRY_ASSIGN(w.gate, finder_.Matrix(Weight(gate), ffn, config_.dim));
    MOXIE_TRY_ASSIGN(w.up, finder_.Matrix(Weight(up), ffn, config_.dim));
    MOXIE_TRY_ASSIGN(w.down, finder_.Matrix(Weight(down), config_.dim, ffn));
    return {};
  }

  Result<void> LoadMixture() {
    const int64_t experts = config_.router.experts;
    MOXIE_TRY(Matrix(names_.router, experts, config_.dim, layer_.router));
    if (config_.router.logit_bias) {
      MOXIE_TRY_ASSIGN(layer_.router_bias, finder_.Vector(Bias(names_.router), experts));
    }
    if (config_.router.selection_bias) {
      MOXIE_TRY_ASSIGN(layer_.router_selection_bias,
                       finder_.Vector({names_.selection_bias, prefix_, ""}, experts));
    }
    MOXIE_TRY(LoadExperts(finder_, files_, config_, prefix_, layer_, model_.owned));
    if (config_.shared_expert == SharedExpert::kNone) return {};
    MOXIE_TRY(LoadFeedForward(names_.shared_gate, names_.shared_up, names_.shared_down,
                              config_.shared_ffn_dim, layer_.shared));
    if (config_.shared_expert == SharedExpert::kAdded) return {};
    return Vector(names_.shared_router, config_.dim, layer_.shared_gate);
  }

  TensorFinder& finder_;
  const ModelFiles& files_;
  const ModelConfig& config_;
  const TensorNames& names_;
  const std::string prefix_;
  const bool sparse_;
  ModelWeights& model_;
  LayerWeights& layer_;
};

}  // namespace

bool LiesInFiles(const FeedForwardWeights& weights) {
  return weights.gate.file >= 0 && weights.up.file >= 0 && weights.down.file >= 0;
}

void ForEachSharedMatrix(ModelWeights& weights, FunctionRef<void(WeightMatrix&)> visit) {
  const auto present = [&](WeightMatrix& matrix) {
    if (!matrix.empty()) visit(matrix);
  };
  present(weights.embedding);
  present(weights.output);
  for (LayerWeights& layer : weights.layers) {
    AttentionWeights& a = layer.attention;
    for (WeightMatrix* matrix : {&a.q, &a.k, &a.v, &a.output, &a.q_a, &a.kv_a, &a.kv_b})
      present(*matrix);
    present(layer.router);
    for (FeedForwardWeights* ffn : {&layer.dense, &layer.shared}) {
      for (StoredMatrix* stored : {&ffn->gate, &ffn->up, &ffn->down}) present(stored->matrix);
    }
  }
}

Result<ModelWeights> LoadWeights(const ModelFiles& files, const ModelConfig& config) {
  const TensorNames& names = NamesOf(files.layout);
  TensorFinder finder(files);
  ModelWeights model;
  MOXIE_TRY_ASSIGN(const StoredMatrix embedding,
                   finder.Matrix({names.embedding}, config.vocab_size, config.dim));
  model.embedding = embedding.matrix;
  if (config.tied_embeddings) {
    model.output = model.embedding;
    static_cast<void>(finder.Find({names.output}));  // Some writers repeat the tied matrix.
  } else {
    MOXIE_TRY_ASSIGN(const StoredMatrix output,
                     finder.Matrix({names.output}, config.vocab_size, config.dim));
    model.output = output.matrix;
  }
  MOXIE_TRY_ASSIGN(model.output_norm, finder.Vector({names.output_norm}, config.dim));
  if (!config.rope.frequency_factors.empty()) {
    // Already read with the configuration.
    constexpr Spellings kFactors = {"rope_freqs"};
    static_cast<void>(finder.Find({kFactors}));
  }
  model.layers.resize(config.layers.size());
  for (size_t i = 0; i < config.layers.size(); ++i) {
    LayerLoader loader(finder, files, config, static_cast<int64_t>(i), model);
    MOXIE_TRY(loader.Load());
  }
  MOXIE_TRY(finder.RefuseUnused(config));
  return model;
}

}  // namespace moxie
