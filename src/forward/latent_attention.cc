#include "forward/latent_attention.h"

#include <algorithm>
#include <cstring>

#include "quant/dequantize.h"

namespace moxie {
namespace {

size_t Size(int64_t n) { return static_cast<size_t>(n); }

bool Is16Bit(DType type) { return type == DType::kBF16 || type == DType::kF16; }

}  // namespace

/// Wk is transposed once: 16-bit weights as they are, others as float32, so nothing is rounded.
LatentAttention::Expansion LatentAttention::Split(const LatentConfig& latent, int64_t heads,
                                                  const WeightMatrix& kv_b) {
  const int64_t rank = latent.kv_rank, nope = latent.nope_dim;
  const DType type = Is16Bit(kv_b.type) ? kv_b.type : DType::kF32;
  const int64_t element = TraitsOf(type).block_bytes;
  Expansion expansion;
  expansion.bytes.resize(Size(heads * nope * rank * element));
  std::vector<float> decoded(Size(rank));
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t first_row = head * (nope + latent.value_dim);
    std::byte* keys = expansion.bytes.data() + head * nope * rank * element;
    for (int64_t n = 0; n < nope; ++n) {
      const std::byte* row = kv_b.row(first_row + n);
      if (type == DType::kF32) {
        Dequantize(kv_b.type, row, rank, decoded.data());
        row = reinterpret_cast<const std::byte*>(decoded.data());
      }
      for (int64_t c = 0; c < rank; ++c)
        std::memcpy(keys + (c * nope + n) * element, row + c * element, Size(element));
    }
    expansion.keys.push_back(
        {.type = type, .rows = rank, .cols = nope, .row_stride = nope * element, .data = keys});
    expansion.values.push_back({.type = kv_b.type,
                                .rows = latent.value_dim,
                                .cols = rank,
                                .row_stride = kv_b.row_stride,
                                .data = kv_b.row(first_row + nope)});
  }
  return expansion;
}

LatentAttention::LatentAttention(const ModelConfig& config, const ModelWeights& weights,
                                 const Rope& rope, AdapterTerms& adapters, const KernelSet& kernels,
                                 ThreadPool& threads, int64_t max_tokens)
    : config_(config),
      latent_(config.attention.latent),
      weights_(weights),
      rope_(rope),
      adapters_(adapters),
      kernels_(kernels),
      threads_(threads),
      attention_(kernels, threads, config.attention.heads, 1, config.attention.latent.kv_rank,
                 max_tokens),
      input_(kernels),
      compressed_(kernels),
      output_(kernels),
      products_(Size(std::max<int64_t>(2, config.attention.heads))) {
  for (const LayerWeights& layer : weights.layers) {
    const AttentionWeights& attention = layer.attention;
    WeightTypes& input = input_types_.emplace_back();
    input.Add(latent_.q_rank > 0 ? attention.q_a : attention.q);
    input.Add(attention.kv_a);
    query_types_.emplace_back().Add(attention.q);
    output_types_.emplace_back().Add(attention.output);
    expansions_.push_back(Split(latent_, config.attention.heads, attention.kv_b));
  }
  Reserve(max_tokens);
}

void LatentAttention::Reserve(int64_t max_tokens) {
  const int64_t heads = config_.attention.heads;
  const int64_t key_dim = latent_.kv_rank + latent_.rope_dim;
  int64_t head_row_bytes = 0;
  for (size_t i = 0; i < expansions_.size(); ++i) {
    input_.Reserve(max_tokens, config_.dim, input_types_[i]);
    if (latent_.q_rank > 0) compressed_.Reserve(max_tokens, latent_.q_rank, query_types_[i]);
    output_.Reserve(max_tokens, heads * latent_.value_dim, output_types_[i]);
    for (const WeightMatrix* matrix : {&expansions_[i].keys[0], &expansions_[i].values[0]})
      head_row_bytes = std::max(head_row_bytes,
                                kernels_.activation_format(matrix->type, matrix->cols).row_bytes);
  }
  head_rows_.resize(Size(heads * max_tokens * head_row_bytes));
  q_a_.resize(Size(max_tokens * latent_.q_rank));
  q_.resize(Size(max_tokens * heads * (latent_.nope_dim + latent_.rope_dim)));
  kv_.resize(Size(max_tokens * key_dim));
  queries_.resize(Size(max_tokens * heads * KvCache::PaddedWidth(DType::kQ8_0, key_dim)));
  latents_.resize(Size(max_tokens * heads * latent_.kv_rank));
  attended_.resize(Size(max_tokens * heads * latent_.value_dim));
}

void LatentAttention::Run(int64_t layer, const Batch& batch, KvCache& cache, const float* x,
                          float* out) {
  const auto index = static_cast<size_t>(layer);
  const LayerWeights& weights = weights_.layers[index];
  const int64_t tokens = batch.tokens();
  const int64_t out_dim = config_.attention.heads * latent_.value_dim;

  Project(weights, index, tokens, x);
  ForEachToken(threads_, tokens,
               [&](int64_t t) { StoreToken(weights, layer, batch.places[Size(t)], t, cache); });
  AbsorbKeys(index, tokens, cache.key_width());

  const AttentionRule rule{.scale = static_cast<float>(config_.attention.score_scale),
                           .softcap = static_cast<float>(config_.attention.score_softcap),
                           .window = config_.layers[index].window,
                           .sinks = weights.attention.sinks};
  attention_.Run(rule, layer, batch, cache, queries_.data(), latents_.data());
  ExpandValues(index, tokens);

  output_.Begin(tokens, out_dim, output_types_[index]);
  ForEachToken(threads_, tokens,
               [&](int64_t t) { output_.Convert(t, attended_.data() + t * out_dim); });
  const WeightMatrix& matrix = weights.attention.output;
  products_.Clear();
  adapters_.Clear();
  products_.Add({.weights = &matrix,
                 .activations = output_.Row(matrix.type, 0),
                 .activation_stride = output_.RowBytes(matrix.type),
                 .tokens = tokens,
                 .out = out,
                 .out_stride = config_.dim,
                 .bias = weights.attention.output_bias,
                 .terms = adapters_.Reduce(adapters_.layer(layer).output, tokens, [&](int64_t t) {
                   return attended_.data() + t * out_dim;
                 })});
  products_.Run(kernels_, threads_);
}

/// x -> queries (through their own low rank where the model has one) and the latents.
void LatentAttention::Project(const LayerWeights& layer, size_t index, int64_t tokens,
                              const float* x) {
  const AttentionWeights& weights = layer.attention;
  const bool low_rank = latent_.q_rank > 0;
  const auto product = [&](const WeightMatrix& matrix, const ActivationRows& rows,
                           std::span<const float> bias, std::vector<float>& out) {
    products_.Add({.weights = &matrix,
                   .activations = rows.Row(matrix.type, 0),
                   .activation_stride = rows.RowBytes(matrix.type),
                   .tokens = tokens,
                   .out = out.data(),
                   .out_stride = matrix.rows,
                   .bias = bias});
  };
  input_.Begin(tokens, config_.dim, input_types_[index]);
  ForEachToken(threads_, tokens, [&](int64_t t) { input_.Convert(t, x + t * config_.dim); });
  products_.Clear();
  product(weights.kv_a, input_, weights.k_bias, kv_);
  product(low_rank ? weights.q_a : weights.q, input_, weights.q_bias, low_rank ? q_a_ : q_);
  products_.Run(kernels_, threads_);
  if (!low_rank) return;

  compressed_.Begin(tokens, latent_.q_rank, query_types_[index]);
  ForEachToken(threads_, tokens, [&](int64_t t) {
    float* row = q_a_.data() + t * latent_.q_rank;
    kernels_.rms_norm(row, weights.q_a_norm.data(), latent_.q_rank,
                      static_cast<float>(config_.norm_eps), row);
    compressed_.Convert(t, row);
  });
  products_.Clear();
  product(weights.q, compressed_, {}, q_);
  products_.Run(kernels_, threads_);
}

/// Norms the latent, rotates the shared key and the queries' rotated parts, fills the cache.
void LatentAttention::StoreToken(const LayerWeights& layer, int64_t index, const TokenPlace& place,
                                 int64_t token, KvCache& cache) {
  const int64_t heads = config_.attention.heads, rank = latent_.kv_rank;
  const int64_t q_dim = latent_.nope_dim + latent_.rope_dim, width = cache.key_width();
  const bool rotate = config_.layers[Size(index)].rope;
  float* row = kv_.data() + token * (rank + latent_.rope_dim);
  kernels_.rms_norm(row, layer.attention.kv_a_norm.data(), rank,
                    static_cast<float>(config_.norm_eps), row);
  if (rotate) rope_.Rotate(token, row + rank);
  cache.Store(place.sequence, index, place.position, row, nullptr);
  for (int64_t head = 0; head < heads; ++head) {
    const float* part = q_.data() + (token * heads + head) * q_dim + latent_.nope_dim;
    float* query = queries_.data() + (token * heads + head) * width;
    float* end = std::copy_n(part, latent_.rope_dim, query + rank);
    if (rotate) rope_.Rotate(token, query + rank);
    std::fill(end, query + width, 0.0f);
  }
}

void LatentAttention::AbsorbKeys(size_t index, int64_t tokens, int64_t key_width) {
  MultiplyHeads(expansions_[index].keys, tokens, q_.data(), latent_.nope_dim + latent_.rope_dim,
                queries_.data(), key_width);
}

void LatentAttention::ExpandValues(size_t index, int64_t tokens) {
  MultiplyHeads(expansions_[index].values, tokens, latents_.data(), latent_.kv_rank,
                attended_.data(), latent_.value_dim);
}

/// out[t, head] = matrices[head] x[t, head] for every head, heads being `head_stride` floats apart.
void LatentAttention::MultiplyHeads(const std::vector<WeightMatrix>& matrices, int64_t tokens,
                                    const float* x, int64_t x_head_stride, float* out,
                                    int64_t out_head_stride) {
  const int64_t heads = std::ssize(matrices);
  const DType type = matrices[0].type;
  const int64_t cols = matrices[0].cols;
  const int64_t row_bytes = kernels_.activation_format(type, cols).row_bytes;
  ForEachToken(threads_, tokens, [&](int64_t t) {
    for (int64_t head = 0; head < heads; ++head)
      kernels_.convert_activations(type, cols, x + (t * heads + head) * x_head_stride,
                                   head_rows_.data() + (head * tokens + t) * row_bytes);
  });
  products_.Clear();
  for (int64_t head = 0; head < heads; ++head)
    products_.Add({.weights = &matrices[Size(head)],
                   .activations = head_rows_.data() + head * tokens * row_bytes,
                   .activation_stride = row_bytes,
                   .tokens = tokens,
                   .out = out + head * out_head_stride,
                   .out_stride = heads * out_head_stride});
  products_.Run(kernels_, threads_);
}

}  // namespace moxie
