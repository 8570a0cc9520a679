#include "forward/grouped_attention.h"

#include <algorithm>

namespace moxie {
namespace {

PagedAttention::Shape ShapeOf(const AttentionConfig& attention, int64_t max_tokens) {
  return {.heads = attention.heads,
          .kv_heads = attention.kv_heads,
          .key_dim = attention.head_dim,
          .value_dim = attention.head_dim,
          .max_chunks = max_tokens};
}

}  // namespace

GroupedAttention::Sizes GroupedAttention::SizesFor(const AttentionConfig& attention,
                                                   int64_t max_tokens) {
  const int64_t width = KvCache::PaddedWidth(DType::kQ8_0, attention.head_dim);
  const int64_t padded = width == attention.head_dim ? 0 : attention.heads * width;
  return {.q = max_tokens * attention.heads * attention.head_dim,
          .kv = max_tokens * attention.kv_heads * attention.head_dim,
          .queries = max_tokens * padded};
}

WeightTypes GroupedAttention::InputTypes(const AttentionWeights& weights) {
  WeightTypes types;
  types.Add(weights.q);
  types.Add(weights.k);
  types.Add(weights.v);
  return types;
}

WeightTypes GroupedAttention::OutputTypes(const AttentionWeights& weights) {
  WeightTypes types;
  types.Add(weights.output);
  return types;
}

int64_t GroupedAttention::BytesFor(const ModelConfig& config, const ModelWeights& weights,
                                   const KernelSet& kernels, int threads, int64_t max_tokens) {
  const AttentionConfig& attention = config.attention;
  const Sizes sizes = SizesFor(attention, max_tokens);
  int64_t input = 0, output = 0;
  for (const LayerWeights& layer : weights.layers) {
    input = std::max(input, ActivationRows::BytesFor(kernels, max_tokens, config.dim,
                                                     InputTypes(layer.attention)));
    output = std::max(
        output, ActivationRows::BytesFor(kernels, max_tokens, attention.heads * attention.head_dim,
                                         OutputTypes(layer.attention)));
  }
  const int64_t floats = 2 * sizes.q + 2 * sizes.kv + sizes.queries;
  return input + output + floats * static_cast<int64_t>(sizeof(float)) +
         PagedAttention::BytesFor(ShapeOf(attention, max_tokens), kernels, threads);
}

GroupedAttention::GroupedAttention(const ModelConfig& config, const ModelWeights& weights,
                                   const Rope& rope, AdapterTerms& adapters,
                                   const KernelSet& kernels, ThreadPool& threads,
                                   int64_t max_tokens)
    : config_(config),
      weights_(weights),
      rope_(rope),
      adapters_(adapters),
      kernels_(kernels),
      threads_(threads),
      attention_(ShapeOf(config.attention, max_tokens), kernels, threads),
      input_(kernels),
      output_(kernels),
      products_(3) {
  const AttentionConfig& attention = config.attention;
  const int64_t q_dim = attention.heads * attention.head_dim;
  for (const LayerWeights& layer : weights.layers) {
    input_types_.push_back(InputTypes(layer.attention));
    output_types_.push_back(OutputTypes(layer.attention));
    input_.Reserve(max_tokens, config.dim, input_types_.back());
    output_.Reserve(max_tokens, q_dim, output_types_.back());
  }
  const Sizes sizes = SizesFor(attention, max_tokens);
  q_.resize(static_cast<size_t>(sizes.q));
  k_.resize(static_cast<size_t>(sizes.kv));
  v_.resize(static_cast<size_t>(sizes.kv));
  queries_.resize(static_cast<size_t>(sizes.queries));
  attended_.resize(q_.size());
}

void GroupedAttention::Run(int64_t layer, const Batch& batch, KvCache& cache, const float* x,
                           float* out) {
  const AttentionConfig& attention = config_.attention;
  const AttentionWeights& weights = weights_.layers[static_cast<size_t>(layer)].attention;
  const ScopedSpan span(batch.profile, Part::kAttention, layer);
  const int64_t tokens = batch.tokens();
  const int64_t q_dim = attention.heads * attention.head_dim;

  input_.Begin(tokens, config_.dim, input_types_[static_cast<size_t>(layer)]);
  Project(layer, tokens, x);
  ForEachToken(threads_, tokens, [&](int64_t t) {
    FinishToken(layer, batch.places[static_cast<size_t>(t)], t, cache);
  });

  const AttentionRule rule{.scale = static_cast<float>(attention.score_scale),
                           .softcap = static_cast<float>(attention.score_softcap),
                           .window = config_.layers[static_cast<size_t>(layer)].window,
                           .sinks = weights.sinks};
  const bool padded = cache.key_width() != attention.head_dim;
  attention_.Run(rule, layer, batch, cache, padded ? queries_.data() : q_.data(), attended_.data());

  if (batch.inputs != nullptr) {
    batch.inputs->OnRows({layer, MatrixRole::kAttention}, x, tokens, config_.dim);
    batch.inputs->OnRows({layer, MatrixRole::kAttentionOutput}, attended_.data(), tokens, q_dim);
  }
  output_.Begin(tokens, q_dim, output_types_[static_cast<size_t>(layer)]);
  output_.Convert(threads_, [&](int64_t t) { return attended_.data() + t * q_dim; });
  products_.Clear();
  adapters_.Clear();
  products_.Add({.weights = &weights.output,
                 .activations = output_.For(weights.output.type),
                 .tokens = tokens,
                 .out = out,
                 .out_stride = config_.dim,
                 .bias = weights.output_bias,
                 .terms = adapters_.Reduce(adapters_.layer(layer).output, tokens, [&](int64_t t) {
                   return attended_.data() + t * q_dim;
                 })});
  products_.Run(kernels_, threads_);
}

void GroupedAttention::Project(int64_t layer, int64_t tokens, const float* x) {
  const AttentionWeights& weights = weights_.layers[static_cast<size_t>(layer)].attention;
  const LayerPairs& pairs = adapters_.layer(layer);
  const auto row = [&](int64_t t) { return x + t * config_.dim; };
  input_.Convert(threads_, row);
  products_.Clear();
  adapters_.Clear();
  const auto add = [&](const WeightMatrix& matrix, std::span<const float> bias,
                       const LoraPairs& lora, std::vector<float>& out) {
    products_.Add({.weights = &matrix,
                   .activations = input_.For(matrix.type),
                   .tokens = tokens,
                   .out = out.data(),
                   .out_stride = matrix.rows,
                   .bias = bias,
                   .terms = adapters_.Reduce(lora, tokens, row)});
  };
  add(weights.q, weights.q_bias, pairs.q, q_);
  add(weights.k, weights.k_bias, pairs.k, k_);
  add(weights.v, weights.v_bias, pairs.v, v_);
  products_.Run(kernels_, threads_);
}

void GroupedAttention::FinishHeads(int64_t layer, int64_t token, float* heads, int64_t count,
                                   std::span<const float> norm) const {
  const AttentionConfig& attention = config_.attention;
  const int64_t dim = count * attention.head_dim;
  const auto eps = static_cast<float>(config_.norm_eps);
  if (!norm.empty()) {
    const int64_t width = attention.qk_norm == QkNorm::kPerHead ? attention.head_dim : dim;
    for (int64_t at = 0; at < dim; at += width)
      kernels_.rms_norm(heads + at, norm.data(), width, eps, heads + at);
  }
  if (attention.clip_qkv > 0) {
    const auto limit = static_cast<float>(attention.clip_qkv);
    for (int64_t i = 0; i < dim; ++i) heads[i] = std::clamp(heads[i], -limit, limit);
  }
  if (!config_.layers[static_cast<size_t>(layer)].rope) return;
  for (int64_t head = 0; head < count; ++head)
    rope_.Rotate(token, heads + head * attention.head_dim);
}

void GroupedAttention::FinishToken(int64_t layer, const TokenPlace& place, int64_t token,
                                   KvCache& cache) {
  const AttentionConfig& attention = config_.attention;
  const AttentionWeights& weights = weights_.layers[static_cast<size_t>(layer)].attention;
  const int64_t head_dim = attention.head_dim;
  const int64_t kv_dim = attention.kv_heads * head_dim;
  float* q = q_.data() + token * attention.heads * head_dim;
  float* k = k_.data() + token * kv_dim;
  float* v = v_.data() + token * kv_dim;
  FinishHeads(layer, token, q, attention.heads, weights.q_norm);
  FinishHeads(layer, token, k, attention.kv_heads, weights.k_norm);
  if (attention.clip_qkv > 0) {
    const auto limit = static_cast<float>(attention.clip_qkv);
    for (int64_t i = 0; i < kv_dim; ++i) v[i] = std::clamp(v[i], -limit, limit);
  }
  cache.Store(place.sequence, layer, place.position, k, v);

  const int64_t width = cache.key_width();
  if (width == head_dim) return;
  for (int64_t head = 0; head < attention.heads; ++head) {
    float* row = queries_.data() + (token * attention.heads + head) * width;
    std::fill(std::copy_n(q + head * head_dim, head_dim, row), row + width, 0.0f);
  }
}

}  // namespace moxie
