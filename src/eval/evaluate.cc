#include "moxie/evaluate.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/divergence.h"
#include "engine/model_parts.h"
#include "engine/routing_recorder.h"

namespace moxie {
namespace {

/// Logits of one pass are kept under this, whatever the vocabulary.
constexpr int64_t kLogitBytes = int64_t{64} << 20;

/// Frees its sequence when it goes out of scope.
class ScopedSequence {
 public:
  static Result<ScopedSequence> Create(KvCache& cache) {
    MOXIE_TRY_ASSIGN(const SequenceId id, cache.CreateSequence());
    return ScopedSequence(cache, id);
  }
  ScopedSequence(ScopedSequence&& other) noexcept : cache_(other.cache_), id_(other.id_) {
    other.cache_ = nullptr;
  }
  ScopedSequence& operator=(ScopedSequence&&) = delete;
  ~ScopedSequence() {
    if (cache_ != nullptr) cache_->FreeSequence(id_);
  }
  SequenceId id() const { return id_; }

 private:
  ScopedSequence(KvCache& cache, SequenceId id) : cache_(&cache), id_(id) {}
  KvCache* cache_;
  SequenceId id_;
};

int64_t RowsPerPass(const Model::Parts& parts) {
  const int64_t fit = kLogitBytes / (4 * parts.config.vocab_size);
  return std::clamp<int64_t>(fit, 1, parts.options.batch_tokens);
}

/// -log of the softmax's probability of `token`, in double precision.
double NegativeLogLikelihood(std::span<const float> logits, TokenId token) {
  return LogSumOfExponentials(logits) - logits[static_cast<size_t>(token)];
}

struct LossSums {
  double loss = 0;
  double squares = 0;
  int64_t count = 0;

  void Add(double value) {
    loss += value;
    squares += value * value;
    ++count;
  }
};

/// Runs a window through one model, and keeps the logits of its second half piece by piece.
class WindowRun {
 public:
  static Result<WindowRun> Create(Model& model) {
    MOXIE_TRY_ASSIGN(ScopedSequence sequence, ScopedSequence::Create(*model.parts().cache));
    return WindowRun(model, std::move(sequence));
  }

  Result<void> Run(std::span<const TokenId> tokens, bool scored) {
    Model::Parts& parts = model_->parts();
    logits_.resize(scored ? tokens.size() * static_cast<size_t>(parts.config.vocab_size) : 0);
    const SequenceChunk chunk{sequence_.id(), tokens, scored ? LogitRows::kAll : LogitRows::kNone};
    return parts.decoder->Forward({&chunk, 1}, *parts.cache, logits_);
  }

  /// The logits of the i-th token of the last Run.
  std::span<const float> Row(size_t i) const {
    const auto vocab = static_cast<size_t>(model_->parts().config.vocab_size);
    return std::span(logits_).subspan(i * vocab, vocab);
  }

 private:
  WindowRun(Model& model, ScopedSequence sequence)
      : model_(&model), sequence_(std::move(sequence)) {}
  Model* model_;
  ScopedSequence sequence_;
  std::vector<float> logits_;
};

struct DivergenceSums {
  LossSums base;
  double divergence = 0;
  double squares = 0;
  int64_t same_choice = 0;
};

void Compare(std::span<const float> base, std::span<const float> row, TokenId next,
             DivergenceSums& sums) {
  sums.base.Add(NegativeLogLikelihood(base, next));
  const double divergence = KullbackLeibler(base, LogSumOfExponentials(base), row);
  sums.divergence += divergence;
  sums.squares += divergence * divergence;
  const auto choice = [](std::span<const float> r) {
    return std::ranges::max_element(r) - r.begin();
  };
  sums.same_choice += choice(base) == choice(row) ? 1 : 0;
}

/// Scores the second half of a window: the logits of position p judge token p + 1. With a `base`
/// the divergence from its probabilities, too.
Result<void> ScoreWindow(Model& model, Model* base, std::span<const TokenId> window, LossSums& sums,
                         DivergenceSums& divergence) {
  const Model::Parts& parts = model.parts();
  MOXIE_TRY_ASSIGN(WindowRun run, WindowRun::Create(model));
  std::optional<WindowRun> base_run;
  if (base != nullptr) {
    MOXIE_TRY_ASSIGN(WindowRun created, WindowRun::Create(*base));
    base_run.emplace(std::move(created));
  }
  const auto size = static_cast<int64_t>(window.size());
  const int64_t first_scored = size / 2;
  const int64_t rows_per_pass = RowsPerPass(parts);
  // The last token's own logits judge nothing, so it is not run.
  for (int64_t begin = 0; begin < size - 1;) {
    const bool scored = begin >= first_scored;
    const int64_t end = scored ? std::min(begin + rows_per_pass, size - 1)
                               : std::min(begin + parts.options.batch_tokens, first_scored);
    const auto tokens =
        window.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    MOXIE_TRY(run.Run(tokens, scored));
    if (base_run) MOXIE_TRY(base_run->Run(tokens, scored));
    for (size_t i = 0; scored && i < tokens.size(); ++i) {
      const TokenId next = window[static_cast<size_t>(begin) + i + 1];
      sums.Add(NegativeLogLikelihood(run.Row(i), next));
      if (base_run) Compare(base_run->Row(i), run.Row(i), next, divergence);
    }
    begin = end;
  }
  return {};
}

Perplexity Summarise(const LossSums& sums, int64_t windows) {
  Perplexity result;
  result.tokens = sums.count;
  result.windows = windows;
  const auto n = static_cast<double>(sums.count);
  const double mean = sums.loss / n;
  const double variance = sums.squares / n - mean * mean;
  result.perplexity = std::exp(mean);
  if (sums.count > 1 && variance > 0)
    result.standard_error = std::sqrt(variance / (n - 1)) * result.perplexity;
  return result;
}

Divergence Summarise(const DivergenceSums& sums, int64_t windows) {
  Divergence result;
  const auto n = static_cast<double>(sums.base.count);
  result.mean = sums.divergence / n;
  const double variance = sums.squares / n - result.mean * result.mean;
  if (sums.base.count > 1 && variance > 0) result.standard_error = std::sqrt(variance / (n - 1));
  result.same_choice = static_cast<double>(sums.same_choice) / n;
  result.base_perplexity = Summarise(sums.base, windows).perplexity;
  return result;
}

Error Cancelled() { return {ErrorCode::kCancelled, "cancelled"}; }

}  // namespace

Result<void> ComputeLogits(Model& model, std::span<const TokenId> ids, const LogitsHandler& on_rows,
                           RoutingTrace* routing, const ProgressHandler& progress) {
  Model::Parts& parts = model.parts();
  const auto count = static_cast<int64_t>(ids.size());
  if (count == 0) return Error{ErrorCode::kInvalidInput, "no token ids, expected at least one"};
  if (count > model.context())
    return Error{ErrorCode::kInvalidInput, std::to_string(count) +
                                               " token ids, but the context is " +
                                               std::to_string(model.context())};
  MOXIE_TRY_ASSIGN(const ScopedSequence sequence, ScopedSequence::Create(*parts.cache));
  RoutingTracer tracer(parts.config, routing);
  const int64_t rows_per_pass = RowsPerPass(parts);
  std::vector<float> logits;
  for (int64_t begin = 0; begin < count; begin += rows_per_pass) {
    const auto tokens = ids.subspan(static_cast<size_t>(begin),
                                    static_cast<size_t>(std::min(rows_per_pass, count - begin)));
    logits.resize(tokens.size() * static_cast<size_t>(parts.config.vocab_size));
    const SequenceChunk chunk{sequence.id(), tokens, LogitRows::kAll};
    MOXIE_TRY(parts.decoder->Forward({&chunk, 1}, *parts.cache, logits,
                                     {.routing = routing != nullptr ? &tracer : nullptr}));
    MOXIE_TRY(on_rows(begin, logits));
    if (progress && !progress(static_cast<double>(begin + static_cast<int64_t>(tokens.size())) /
                              static_cast<double>(count)))
      return Cancelled();
  }
  return {};
}

Result<Perplexity> MeasurePerplexity(Model& model, std::string_view text,
                                     const PerplexityOptions& options,
                                     const ProgressHandler& progress, Model* base) {
  if (base != nullptr &&
      (base->vocab_size() != model.vocab_size() || base->parts().options.context < options.window))
    return Error{ErrorCode::kInvalidInput,
                 "the base has a vocabulary of " + std::to_string(base->vocab_size()) +
                     " and a context of " + std::to_string(base->context()) + ", but needs " +
                     std::to_string(model.vocab_size()) + " and at least " +
                     std::to_string(options.window)};
  const int64_t window = options.window;
  if (window < 4 || window > model.context())
    return Error{ErrorCode::kInvalidInput, "the window is " + std::to_string(window) +
                                               " tokens, but must be 4.." +
                                               std::to_string(model.context()) + " (context)"};
  const Tokenizer& tokenizer = model.tokenizer();
  std::vector<TokenId> ids = tokenizer.Encode(text, {.add_special = true, .parse_special = false});
  if (static_cast<int64_t>(ids.size()) < 2 * window)
    return Error{ErrorCode::kInvalidInput, "the text has " + std::to_string(ids.size()) +
                                               " tokens, but needs at least " +
                                               std::to_string(2 * window) + " (two windows of " +
                                               std::to_string(window) + ")"};
  int64_t windows = static_cast<int64_t>(ids.size()) / window;
  if (options.chunks > 0) windows = std::min(windows, options.chunks);
  LossSums sums;
  DivergenceSums divergence;
  for (int64_t i = 0; i < windows; ++i) {
    const auto span =
        std::span(ids).subspan(static_cast<size_t>(i * window), static_cast<size_t>(window));
    if (tokenizer.adds_bos() && tokenizer.bos()) span[0] = *tokenizer.bos();
    MOXIE_TRY(ScoreWindow(model, base, span, sums, divergence));
    if (progress && !progress(static_cast<double>(i + 1) / static_cast<double>(windows)))
      return Cancelled();
  }
  Perplexity result = Summarise(sums, windows);
  if (base != nullptr) result.divergence = Summarise(divergence, windows);
  return result;
}

}  // namespace moxie
