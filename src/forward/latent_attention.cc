#include "forward/latent_attention.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "quant/dequantize.h"

namespace moxie {
namespace {

PagedAttention::Shape ShapeOf(const AttentionConfig& attention, int64_t max_tokens) {
  return {.heads = attention.heads,
          .kv_heads = 1,
          .key_dim = attention.latent.kv_rank + attention.latent.rope_dim,
          .value_dim = attention.latent.kv_rank,
          .max_chunks = max_tokens};
}

size_t Size(int64_t n) { return static_cast<size_t>(n); }

/// The type of transposed keys: 16-bit weights stay as they are, others become float32, so that
/// nothing is rounded.
DType ExpandedType(DType type) {
  return type == DType::kBF16 || type == DType::kF16 ? type : DType::kF32;
}

}  // namespace

int64_t LatentAttention::ExpansionBytes(const LatentConfig& latent, int64_t heads, DType kv_b) {
  return heads * latent.nope_dim * latent.kv_rank * TraitsOf(ExpandedType(kv_b)).block_bytes;
}

/// Wk is transposed once.
LatentAttention::Expansion LatentAttention::Split(const LatentConfig& latent, int64_t heads,
                                                  const WeightMatrix& kv_b) {
  const int64_t rank = latent.kv_rank, nope = latent.nope_dim;
  const DType type = ExpandedType(kv_b.type);
  const int64_t element = TraitsOf(type).block_bytes;
  Expansion expansion;
  expansion.bytes.resize(Size(ExpansionBytes(latent, heads, kv_b.type)));
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
      attention_(ShapeOf(config.attention, max_tokens), kernels, threads),
      input_(kernels),
      compressed_(kernels),
      output_(kernels),
      products_(Size(std::max<int64_t>(2, config.attention.heads))) {
  const int64_t out_dim = config.attention.heads * latent_.value_dim;
  for (const LayerWeights& layer : weights.layers) {
    const Types& types = types_.emplace_back(TypesOf(latent_, layer.attention));
    expansions_.push_back(Split(latent_, config.attention.heads, layer.attention.kv_b));
    input_.Reserve(max_tokens, config.dim, types.input);
    if (latent_.q_rank > 0) compressed_.Reserve(max_tokens, latent_.q_rank, types.query);
    output_.Reserve(max_tokens, out_dim, types.output);
  }
  const Sizes sizes = SizesFor(config, weights, kernels, max_tokens);
  head_rows_.resize(Size(sizes.head_rows));
  q_a_.resize(Size(sizes.q_a));
  q_.resize(Size(sizes.q));
  kv_.resize(Size(sizes.kv));
  queries_.resize(Size(sizes.queries));
  latents_.resize(Size(sizes.latents));
  attended_.resize(Size(sizes.attended));
}

LatentAttention::Types LatentAttention::TypesOf(const LatentConfig& latent,
                                                const AttentionWeights& weights) {
  Types types;
  types.input.Add(latent.q_rank > 0 ? weights.q_a : weights.q);
  types.input.Add(weights.kv_a);
  types.query.Add(weights.q);
  types.output.Add(weights.output);
  return types;
}

LatentAttention::Sizes LatentAttention::SizesFor(const ModelConfig& config,
                                                 const ModelWeights& weights,
                                                 const KernelSet& kernels, int64_t max_tokens) {
  const LatentConfig& latent = config.attention.latent;
  const int64_t heads = config.attention.heads;
  const int64_t key_dim = latent.kv_rank + latent.rope_dim;
  int64_t head_bytes = 0;
  for (const LayerWeights& layer : weights.layers) {
    const DType type = layer.attention.kv_b.type;
    const auto bytes = [&](DType of, int64_t cols) {
      return ActivationBytes(kernels, of, cols, max_tokens, 1);
    };
    head_bytes = std::max(
        {head_bytes, bytes(ExpandedType(type), latent.nope_dim), bytes(type, latent.kv_rank)});
  }
  return {.q_a = max_tokens * latent.q_rank,
          .q = max_tokens * heads * (latent.nope_dim + latent.rope_dim),
          .kv = max_tokens * key_dim,
          .queries = max_tokens * heads * KvCache::PaddedWidth(DType::kQ8_0, key_dim),
          .latents = max_tokens * heads * latent.kv_rank,
          .attended = max_tokens * heads * latent.value_dim,
          .head_rows = heads * head_bytes};
}

int64_t LatentAttention::BytesFor(const ModelConfig& config, const ModelWeights& weights,
                                  const KernelSet& kernels, int threads, int64_t max_tokens) {
  const LatentConfig& latent = config.attention.latent;
  const int64_t heads = config.attention.heads;
  int64_t expansions = 0, input = 0, compressed = 0, output = 0;
  const auto rows = [&](int64_t cols, const WeightTypes& types, int64_t& most) {
    most = std::max(most, ActivationRows::BytesFor(kernels, max_tokens, cols, types));
  };
  for (const LayerWeights& layer : weights.layers) {
    const Types types = TypesOf(latent, layer.attention);
    rows(config.dim, types.input, input);
    if (latent.q_rank > 0) rows(latent.q_rank, types.query, compressed);
    rows(heads * latent.value_dim, types.output, output);
    expansions += ExpansionBytes(latent, heads, layer.attention.kv_b.type);
  }
  const Sizes s = SizesFor(config, weights, kernels, max_tokens);
  const int64_t floats = s.q_a + s.q + s.kv + s.queries + s.latents + s.attended;
  return expansions + input + compressed + output + s.head_rows +
         floats * static_cast<int64_t>(sizeof(float)) +
         PagedAttention::BytesFor(ShapeOf(config.attention, max_tokens), kernels, threads);
}

void LatentAttention::Run(int64_t layer, const Batch& batch, KvCache& cache, const float* x,
                          float* out) {
  const auto index = static_cast<size_t>(layer);
  const LayerWeights& weights = weights_.layers[index];
  const ScopedSpan span(batch.profile, Part::kAttention, layer);
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

  if (batch.inputs != nullptr) {
    batch.inputs->OnRows({layer, MatrixRole::kAttention}, x, tokens, config_.dim);
    if (latent_.q_rank > 0)
      batch.inputs->OnRows({layer, MatrixRole::kQueries}, q_a_.data(), tokens, latent_.q_rank);
    batch.inputs->OnRows({layer, MatrixRole::kAttentionOutput}, attended_.data(), tokens, out_dim);
  }
  output_.Begin(tokens, out_dim, types_[index].output);
  output_.Convert(threads_, [&](int64_t t) { return attended_.data() + t * out_dim; });
  const WeightMatrix& matrix = weights.attention.output;
  products_.Clear();
  adapters_.Clear();
  products_.Add({.weights = &matrix,
                 .activations = output_.For(matrix.type),
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
                   .activations = rows.For(matrix.type),
                   .tokens = tokens,
                   .out = out.data(),
                   .out_stride = matrix.rows,
                   .bias = bias});
  };
  input_.Begin(tokens, config_.dim, types_[index].input);
  input_.Convert(threads_, [&](int64_t t) { return x + t * config_.dim; });
  products_.Clear();
  product(weights.kv_a, input_, weights.k_bias, kv_);
  product(low_rank ? weights.q_a : weights.q, input_, weights.q_bias, low_rank ? q_a_ : q_);
  products_.Run(kernels_, threads_);
  if (!low_rank) return;

  compressed_.Begin(tokens, latent_.q_rank, types_[index].query);
  ForEachToken(threads_, tokens, [&](int64_t t) {
    float* row = q_a_.data() + t * latent_.q_rank;
    kernels_.rms_norm(row, weights.q_a_norm.data(), latent_.q_rank,
                      static_cast<float>(config_.norm_eps), row);
  });
  compressed_.Convert(threads_, [&](int64_t t) { return q_a_.data() + t * latent_.q_rank; });
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
  const ActivationFormat format = kernels_.activation_format(type, cols, tokens);
  const int64_t head_bytes = format.BytesOf(tokens);
  MOXIE_CHECK(heads * head_bytes <= std::ssize(head_rows_));
  ForEachToken(threads_, (tokens + format.panel - 1) / format.panel, [&](int64_t panel) {
    const int64_t begin = panel * format.panel;
    const int64_t count = std::min(format.panel, tokens - begin);
    std::array<const float*, kMaxPanel> rows;
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t i = 0; i < count; ++i)
        rows[Size(i)] = x + ((begin + i) * heads + head) * x_head_stride;
      kernels_.convert_activations(format, cols, rows.data(), count,
                                   head_rows_.data() + head * head_bytes + format.BytesOf(begin));
    }
  });
  products_.Clear();
  for (int64_t head = 0; head < heads; ++head)
    products_.Add({.weights = &matrices[Size(head)],
                   .activations = {format, head_rows_.data() + head * head_bytes},
                   .tokens = tokens,
                   .out = out + head * out_head_stride,
                   .out_stride = heads * out_head_stride});
  products_.Run(kernels_, threads_);
}

}  // namespace moxie
