#include "forward/decoder.h"

#include <algorithm>
#include <string>
#include <vector>

#include "forward/grouped_attention.h"
#include "forward/latent_attention.h"
#include "forward/moe.h"
#include "quant/dequantize.h"

namespace moxie {
namespace {

size_t Size(int64_t n) { return static_cast<size_t>(n); }

Error Invalid(std::string message) {
  return {ErrorCode::kInvalidInput, "forward pass: " + std::move(message)};
}

std::unique_ptr<AttentionBlock> MakeAttention(const ModelConfig& config,
                                              const ModelWeights& weights, const Rope& rope,
                                              AdapterTerms& adapters, const KernelSet& kernels,
                                              ThreadPool& threads, int64_t max_tokens) {
  if (config.attention.latent.kv_rank > 0)
    return std::make_unique<LatentAttention>(config, weights, rope, adapters, kernels, threads,
                                             max_tokens);
  return std::make_unique<GroupedAttention>(config, weights, rope, adapters, kernels, threads,
                                            max_tokens);
}

/// Tokens that are multiplied at once.
int64_t BlockTokens(const Decoder::Options& options) {
  return options.block_tokens > 0 ? std::min(options.block_tokens, options.max_tokens)
                                  : options.max_tokens;
}

/// Rows that pass through one kind of matrix at once: every choice of an expert, or a shared one.
int64_t AdapterRows(const ModelConfig& config, const Decoder::Options& options) {
  return BlockTokens(options) * (config.router.used + 1);
}

class TransformerDecoder : public Decoder {
 public:
  TransformerDecoder(const ModelConfig& config, const ModelWeights& weights, ExpertStore& experts,
                     const KernelSet& kernels, ThreadPool& threads, const Options& options)
      : config_(config),
        weights_(weights),
        kernels_(kernels),
        threads_(threads),
        options_(options),
        block_tokens_(BlockTokens(options)),
        rope_(config.rope, block_tokens_),
        adapters_(options.adapters, std::ssize(config.layers), kernels, threads,
                  AdapterRows(config, options)),
        attention_(
            MakeAttention(config, weights, rope_, adapters_, kernels, threads, block_tokens_)),
        feed_forward_(config, weights, experts, adapters_, kernels, threads,
                      {.tokens = options.max_tokens, .block = block_tokens_}),
        head_(kernels),
        head_products_(1),
        hidden_(Size(options.max_tokens * config.dim)),
        normed_(hidden_.size()),
        update_(hidden_.size()) {
    places_.reserve(Size(options.max_tokens));
    positions_.reserve(Size(options.max_tokens));
    chunks_.reserve(Size(options.max_tokens));
    pieces_.reserve(Size(options.max_tokens));
    logit_tokens_.reserve(Size(options.max_logit_rows));
    sequences_.reserve(Size(options.max_tokens));
    head_types_.Add(weights.output);
    head_.Reserve(options.max_logit_rows, config.dim, head_types_);
  }

  Result<void> Forward(std::span<const SequenceChunk> chunks, KvCache& cache,
                       std::span<float> logits, const ForwardObservers& observers,
                       const ForwardStart& start) override {
    const ScopedSpan pass(observers.profile, Part::kPass);
    MOXIE_TRY(Plan(chunks, cache, std::ssize(logits)));
    for (size_t i = 0; i < chunks_.size(); ++i) {
      auto reserved = cache.Reserve(chunks_[i].sequence, chunks_[i].tokens);
      if (reserved) continue;
      RollBack(cache);
      return reserved;
    }
    Embed(chunks);
    if (!start.hidden.empty()) {
      MOXIE_CHECK(std::ssize(start.hidden) == tokens() * config_.dim);
      std::ranges::copy(start.hidden, hidden_.begin());
    }
    auto done = RunLayers(cache, observers, start.layer);
    if (!done) {
      RollBack(cache);
      return done;
    }
    {
      const ScopedSpan head(observers.profile, Part::kHead);
      WriteLogits(logits);
    }
    for (const BatchChunk& chunk : chunks_) cache.Commit(chunk.sequence, chunk.tokens);
    return {};
  }

 private:
  Result<void> Plan(std::span<const SequenceChunk> chunks, const KvCache& cache,
                    int64_t logit_floats);
  Result<void> CheckSequences();
  void RollBack(KvCache& cache);
  void Embed(std::span<const SequenceChunk> chunks);
  Result<void> RunLayers(KvCache& cache, const ForwardObservers& observers, int64_t first);
  void Attend(int64_t layer, KvCache& cache, const ForwardObservers& observers);
  void CutIntoPieces(int64_t begin, int64_t end);
  void Norm(const std::vector<float>& scale);
  void AddUpdate(const std::vector<float>& post_norm);
  void WriteLogits(std::span<float> logits);

  int64_t tokens() const { return std::ssize(places_); }

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const KernelSet& kernels_;
  ThreadPool& threads_;
  const Options options_;
  const int64_t block_tokens_;
  Rope rope_;
  AdapterTerms adapters_;
  std::unique_ptr<AttentionBlock> attention_;
  FeedForwardLayers feed_forward_;
  WeightTypes head_types_;
  ActivationRows head_;
  ProductList head_products_;
  std::vector<float> hidden_;  ///< [tokens, dim] the residual stream
  std::vector<float> normed_;  ///< [tokens, dim]
  std::vector<float> update_;  ///< [tokens, dim] what a block adds to the stream
  // The present batch.
  std::vector<BatchChunk> chunks_;
  std::vector<BatchChunk> pieces_;  ///< of chunks, in the present block
  std::vector<TokenPlace> places_;
  std::vector<int64_t> positions_;
  std::vector<int64_t> logit_tokens_;  ///< tokens whose logits are asked for
  std::vector<SequenceId> sequences_;  ///< sorted, to find repetitions
};

/// Checks the chunks and lays them out as a batch.
Result<void> TransformerDecoder::Plan(std::span<const SequenceChunk> chunks, const KvCache& cache,
                                      int64_t logit_floats) {
  chunks_.clear();
  places_.clear();
  positions_.clear();
  logit_tokens_.clear();
  for (const SequenceChunk& chunk : chunks) {
    const int64_t count = std::ssize(chunk.tokens);
    if (count == 0) return Invalid("a chunk has no tokens");
    if (tokens() + count > options_.max_tokens)
      return Invalid("the chunks have more than the " + std::to_string(options_.max_tokens) +
                     " tokens that the decoder was made for");
    for (const int32_t token : chunk.tokens) {
      if (token < 0 || token >= config_.vocab_size)
        return Invalid("token id " + std::to_string(token) + ", but the vocabulary has " +
                       std::to_string(config_.vocab_size));
    }
    const int64_t length = cache.Length(chunk.sequence);
    const int64_t first = tokens();
    chunks_.push_back({chunk.sequence, first, count, length});
    for (int64_t i = 0; i < count; ++i) {
      places_.push_back({chunk.sequence, length + i});
      positions_.push_back(length + i);
    }
    const int64_t rows = chunk.logits == LogitRows::kAll    ? count
                         : chunk.logits == LogitRows::kLast ? 1
                                                            : 0;
    if (std::ssize(logit_tokens_) + rows > options_.max_logit_rows)
      return Invalid("more than the " + std::to_string(options_.max_logit_rows) +
                     " rows of logits that the decoder was made for");
    for (int64_t i = count - rows; i < count; ++i) logit_tokens_.push_back(first + i);
  }
  if (std::ssize(logit_tokens_) * config_.vocab_size > logit_floats)
    return Invalid("the logits have room for " + std::to_string(logit_floats) +
                   " numbers, but need " +
                   std::to_string(std::ssize(logit_tokens_) * config_.vocab_size));
  return CheckSequences();
}

Result<void> TransformerDecoder::CheckSequences() {
  sequences_.clear();
  for (const BatchChunk& chunk : chunks_) sequences_.push_back(chunk.sequence);
  std::ranges::sort(sequences_);
  if (std::ranges::adjacent_find(sequences_) != sequences_.end())
    return Invalid("a sequence has two chunks");
  return {};
}

void TransformerDecoder::RollBack(KvCache& cache) {
  for (const BatchChunk& chunk : chunks_) cache.Rollback(chunk.sequence);
}

void TransformerDecoder::Embed(std::span<const SequenceChunk> chunks) {
  const WeightMatrix& embedding = weights_.embedding;
  float* row = hidden_.data();
  for (const SequenceChunk& chunk : chunks) {
    for (const int32_t token : chunk.tokens) {
      const std::byte* stored = embedding.row(token);
      if (const int64_t together = embedding.packed_rows; together > 0) {
        auto* const unpacked = reinterpret_cast<std::byte*>(normed_.data());  // Not used yet.
        kernels_.unpack_row(embedding.type, embedding.row_stride,
                            embedding.row(token / together * together), token % together, unpacked);
        stored = unpacked;
      }
      Dequantize(embedding.type, stored, config_.dim, row);
      row += config_.dim;
    }
  }
  if (config_.embedding_scale == 1.0) return;
  const auto scale = static_cast<float>(config_.embedding_scale);
  std::for_each(hidden_.data(), row, [&](float& value) { value *= scale; });
}

Result<void> TransformerDecoder::RunLayers(KvCache& cache, const ForwardObservers& observers,
                                           int64_t first) {
  const auto show = [&](int64_t index, const std::vector<float>& rows) {
    if (observers.hidden == nullptr) return;
    observers.hidden->OnHidden(index, std::span(rows).first(Size(tokens() * config_.dim)));
  };
  const int64_t layers = std::ssize(weights_.layers);
  show(first, hidden_);
  for (int64_t i = first; i < layers; ++i) {
    const ScopedSpan span(observers.profile, Part::kLayer, i);
    const LayerWeights& layer = weights_.layers[Size(i)];
    Norm(layer.attention_norm);
    Attend(i, cache, observers);
    AddUpdate(layer.post_attention_norm);
    Norm(layer.ffn_norm);
    MOXIE_TRY(feed_forward_.Run(i, tokens(), normed_.data(), observers, update_.data()));
    AddUpdate(layer.post_ffn_norm);
    if (i + 1 < layers) show(i + 1, hidden_);
    if (observers.layers != nullptr && !observers.layers->OnLayer(i + 1, layers))
      return Error{ErrorCode::kCancelled, "the pass was given up"};
  }
  if (observers.hidden == nullptr && logit_tokens_.empty()) return {};
  Norm(weights_.output_norm);
  show(layers, normed_);
  return {};
}

/// Attention block by block: what a block needs of those before it is in the cache by then.
void TransformerDecoder::Attend(int64_t layer, KvCache& cache, const ForwardObservers& observers) {
  for (int64_t begin = 0; begin < tokens(); begin += block_tokens_) {
    const int64_t end = std::min(begin + block_tokens_, tokens());
    const auto first = Size(begin), count = Size(end - begin);
    CutIntoPieces(begin, end);
    rope_.Prepare(std::span(positions_).subspan(first, count));
    const Batch block{.chunks = pieces_,
                      .places = std::span(places_).subspan(first, count),
                      .profile = observers.profile,
                      .inputs = observers.inputs};
    attention_->Run(layer, block, cache, normed_.data() + begin * config_.dim,
                    update_.data() + begin * config_.dim);
  }
}

/// The parts of chunks that lie in a block, numbered from its first token.
void TransformerDecoder::CutIntoPieces(int64_t begin, int64_t end) {
  pieces_.clear();
  for (const BatchChunk& chunk : chunks_) {
    const int64_t from = std::max(begin, chunk.first_token);
    const int64_t to = std::min(end, chunk.first_token + chunk.tokens);
    if (from >= to) continue;
    pieces_.push_back(
        {chunk.sequence, from - begin, to - from, chunk.first_position + from - chunk.first_token});
  }
}

void TransformerDecoder::Norm(const std::vector<float>& scale) {
  ForEachToken(threads_, tokens(), [&](int64_t t) {
    kernels_.rms_norm(hidden_.data() + t * config_.dim, scale.data(), config_.dim,
                      static_cast<float>(config_.norm_eps), normed_.data() + t * config_.dim);
  });
}

/// Adds a block's output to the residual stream, normed first where the family does (Grok-1).
void TransformerDecoder::AddUpdate(const std::vector<float>& post_norm) {
  ForEachToken(threads_, tokens(), [&](int64_t t) {
    float* update = update_.data() + t * config_.dim;
    if (!post_norm.empty())
      kernels_.rms_norm(update, post_norm.data(), config_.dim, static_cast<float>(config_.norm_eps),
                        update);
    kernels_.add_scaled(1.0f, update, config_.dim, hidden_.data() + t * config_.dim);
  });
}

void TransformerDecoder::WriteLogits(std::span<float> logits) {
  if (logit_tokens_.empty()) return;
  const int64_t rows = std::ssize(logit_tokens_);
  head_.Begin(rows, config_.dim, head_types_);
  head_.Convert(threads_, [&](int64_t row) {
    return normed_.data() + logit_tokens_[Size(row)] * config_.dim;
  });
  const WeightMatrix& output = weights_.output;
  head_products_.Clear();
  head_products_.Add({.weights = &output,
                      .activations = head_.For(output.type),
                      .tokens = rows,
                      .out = logits.data(),
                      .out_stride = config_.vocab_size});
  head_products_.Run(kernels_, threads_);
  if (config_.logit_scale == 1.0) return;
  const auto scale = static_cast<float>(config_.logit_scale);
  for (float& logit : logits.first(Size(rows * config_.vocab_size))) logit *= scale;
}

}  // namespace

int64_t Decoder::BytesFor(const ModelConfig& config, const ModelWeights& weights,
                          const KernelSet& kernels, int threads, const Options& options) {
  const int64_t tokens = options.max_tokens;
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  constexpr auto kPlaces = static_cast<int64_t>(2 * sizeof(BatchChunk) + sizeof(TokenPlace) +
                                                sizeof(int64_t) + sizeof(SequenceId));
  const bool latent = config.attention.latent.kv_rank > 0;
  const auto attention = latent ? LatentAttention::BytesFor : GroupedAttention::BytesFor;
  WeightTypes head;
  head.Add(weights.output);
  return tokens * (3 * config.dim * kFloat + kPlaces) +
         options.max_logit_rows * static_cast<int64_t>(sizeof(int64_t)) +
         ActivationRows::BytesFor(kernels, options.max_logit_rows, config.dim, head) +
         Rope::BytesFor(config.rope, BlockTokens(options)) +
         AdapterTerms::BytesFor(options.adapters, AdapterRows(config, options)) +
         attention(config, weights, kernels, threads, BlockTokens(options)) +
         FeedForwardLayers::BytesFor(config, weights, kernels,
                                     {.tokens = tokens, .block = BlockTokens(options)});
}

Result<std::unique_ptr<Decoder>> Decoder::Create(const ModelConfig& config,
                                                 const ModelWeights& weights, ExpertStore& experts,
                                                 const KernelSet& kernels, ThreadPool& threads,
                                                 const Options& options) {
  if (options.max_tokens < 1 || options.max_logit_rows < 0)
    return Invalid("the numbers of tokens and of logit rows must be positive");
  try {
    return std::unique_ptr<Decoder>(
        std::make_unique<TransformerDecoder>(config, weights, experts, kernels, threads, options));
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kOverBudget, "forward pass: no memory for the buffers of " +
                                             std::to_string(options.max_tokens) + " tokens"};
  }
}

}  // namespace moxie
