#include "engine/scheduler.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

namespace moxie {
namespace {

/// Logits of one pass for scoring prompts take no more than this: their chunks are cut to fit.
constexpr int64_t kScoreBytes = 16 << 20;

bool NeedsNoPass(const RunningRequest& request) {
  return request.request().max_tokens == 0 && !request.computes_whole_prompt();
}

/// What is done for one request alone, or the error that it ends with where there is no memory.
template <class Work>
auto WithMemory(RunningRequest& request, Work work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return std::move(request.no_memory);
  }
}

}  // namespace

Scheduler::Scheduler(Model::Parts& parts)
    : parts_(parts),
      prefixes_(*parts.cache),
      routing_(parts.config),
      hidden_(std::ssize(parts.config.layers), parts.config.dim) {
  const auto most = static_cast<size_t>(parts.options.parallel);
  chunks_.reserve(most);
  batch_.reserve(most);
  running_.reserve(most);
  finished_.reserve(most);
  stats_.requests.reserve(most);
}

Scheduler::~Scheduler() {
  for (const auto& request : running_) parts_.cache->FreeSequence(request->sequence);
  while (prefixes_.size() > 0) prefixes_.EvictOldest();
}

Result<void> Scheduler::Check(const Request& request) const {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt == 0) return Error{ErrorCode::kInvalidInput, "the prompt has no tokens"};
  if (prompt >= parts_.options.context)
    return Error{ErrorCode::kInvalidInput,
                 "the prompt has " + std::to_string(prompt) + " tokens, but the context of " +
                     std::to_string(parts_.options.context) + " must hold it and an answer"};
  for (const TokenId id : request.prompt) {
    if (id < 0 || id >= parts_.config.vocab_size)
      return Error{ErrorCode::kInvalidInput, "token id " + std::to_string(id) +
                                                 " is outside the vocabulary of " +
                                                 std::to_string(parts_.config.vocab_size)};
  }
  return {};
}

Result<RequestId> Scheduler::Submit(Request request, EventHandler on_event,
                                    Engine::FinishHandler on_finish) {
  MOXIE_TRY(Check(request));
  MOXIE_TRY_ASSIGN(Sampler sampler,
                   Sampler::Create(request.sampling, static_cast<int32_t>(parts_.config.vocab_size),
                                   request.prompt));
  const std::lock_guard lock(mutex_);
  const RequestId id = last_id_ + 1;
  waiting_.Push(std::make_unique<RunningRequest>(id, std::move(request), std::move(on_event),
                                                 std::move(on_finish), *parts_.tokenizer,
                                                 std::move(sampler), parts_.options.context));
  ++unfinished_;
  return last_id_ = id;
}

void Scheduler::Cancel(RequestId request) {
  const std::lock_guard lock(mutex_);
  cancelled_.insert(request);
}

bool Scheduler::idle() const {
  const std::lock_guard lock(mutex_);
  return unfinished_ == 0;
}

void Scheduler::Step() {
  TakeCancelled();
  Admit();
  batch_.clear();
  adding_ = nullptr;
  bool computed = false;
  try {
    ComposeBatch();
    computed = !chunks_.empty() && Compute();
  } catch (const std::bad_alloc&) {
    if (adding_ != nullptr) batch_.assign(1, adding_);  // The others have lost nothing.
    FailBatch([](RunningRequest& request) { return std::move(request.no_memory); });
  }
  if (computed) TakeResults();
}

bool Scheduler::Compute() {
  ChargeUsers();
  pass_start_ = RunningRequest::Clock::now();
  const ForwardObservers observers{.routing = parts_.config.is_mixture() ? &routing_ : nullptr,
                                   .hidden = hidden_.wanted() ? &hidden_ : nullptr,
                                   .profile = profile_,
                                   .layers = parts_.experts_on_disk() ? this : nullptr};
  const Result<void> done = parts_.decoder->Forward(chunks_, *parts_.cache, logits_, observers);
  if (!done && done.error().code != ErrorCode::kCancelled)
    FailBatch([&](RunningRequest&) { return done.error(); });
  return done.has_value();
}

/// A prompt that waits for its experts may take minutes: who asked hears of each layer, as if so
/// much of the prompt's part were done, and a pass that nobody wants any more is given up.
bool Scheduler::OnLayer(int64_t done, int64_t all) {
  if (done == all) return true;  // TakeResults says so.
  bool wanted = false;
  for (size_t i = 0; i < chunks_.size(); ++i) {
    RunningRequest& request = *batch_[i];
    const int64_t computed = std::ssize(chunks_[i].tokens) * done / all;
    if (request.answering() || request.ReportPrompt(computed)) {
      wanted = true;
    } else {
      Cancel(request.id());
    }
  }
  return wanted;
}

void Scheduler::TakeCancelled() {
  RunningList ended;
  try {
    const std::lock_guard lock(mutex_);
    if (cancelled_.empty()) return;
    ended.reserve(running_.size() + static_cast<size_t>(waiting_.size()));
    const auto is_cancelled = [&](const RunningRequest& request) {
      return cancelled_.contains(request.id());
    };
    waiting_.TakeIf(is_cancelled, ended);
    for (auto& request : running_) {
      if (is_cancelled(*request)) ended.push_back(std::move(request));
    }
    std::erase(running_, nullptr);
    NoteRunning();
    cancelled_.clear();
  } catch (const std::bad_alloc&) {
    return;  // Nothing was taken: the next step will.
  }
  for (const auto& request : ended) End(*request, FinishReason::kCancelled);
}

/// Finishes it with what it has said so far.
void Scheduler::End(RunningRequest& request, FinishReason reason) {
  Finish(request, WithMemory(request, [&]() -> Result<Completion> {
           request.End(reason);
           return request.TakeCompletion();
         }));
}

void Scheduler::Admit() {
  while (std::unique_ptr<RunningRequest> next = TakeStartable()) {
    if (NeedsNoPass(*next)) {
      End(*next, FinishReason::kLength);
    } else {
      running_.push_back(std::move(next));
    }
  }
}

/// The request that is next, started; null where none waits or it must go on waiting.
std::unique_ptr<RunningRequest> Scheduler::TakeStartable() {
  for (;;) {
    RunningRequest* next = nullptr;
    {
      const std::lock_guard lock(mutex_);
      next = waiting_.Next();
    }
    if (next == nullptr) return nullptr;
    const Result<bool> started =
        WithMemory(*next, [&]() -> Result<bool> { return NeedsNoPass(*next) || Start(*next); });
    if (started && !*started) return nullptr;
    auto taken = [&] {
      const std::lock_guard lock(mutex_);
      return waiting_.Take(*next);
    }();
    if (started) return taken;
    Finish(*taken, started.error());
  }
}

int64_t Scheduler::FreePages() const {
  return parts_.cache->FreeTokens() / parts_.cache_options.page_tokens;
}

/// Pages that the running requests may still take.
int64_t Scheduler::PromisedPages() const {
  int64_t pages = 0;
  for (const auto& request : running_)
    pages += parts_.cache->PagesToGrow(request->sequence, request->most_tokens());
  return pages;
}

void Scheduler::MakeRoomForSequence() {
  const auto most = static_cast<size_t>(parts_.cache_options.max_sequences);
  while (prefixes_.size() > 0 && running_.size() + prefixes_.size() >= most)
    prefixes_.EvictOldest();
}

bool Scheduler::Start(RunningRequest& request) {
  if (std::ssize(running_) >= parts_.options.parallel) return false;
  KvCache& cache = *parts_.cache;
  PrefixCache::Match prefix;
  if (!request.computes_whole_prompt()) prefix = prefixes_.Find(request.tokens());
  MakeRoomForSequence();
  // A window may have rolled past the common beginning: then all is computed anew.
  Result<SequenceId> sequence =
      prefix.tokens > 0 ? cache.Fork(prefix.sequence, prefix.tokens) : cache.CreateSequence();
  if (!sequence) {
    prefix.tokens = 0;
    sequence = cache.CreateSequence();
  }
  if (!sequence) return false;
  const auto lacks_pages = [&] {
    return FreePages() < PromisedPages() + cache.PagesToGrow(*sequence, request.most_tokens());
  };
  while (prefixes_.size() > 0 && lacks_pages()) prefixes_.EvictOldest();
  if (lacks_pages()) {
    cache.FreeSequence(*sequence);
    return false;
  }
  request.sequence = *sequence;
  request.computed = prefix.tokens;
  request.MarkStarted(prefix.tokens);  // Takes memory: what it has by then, Finish gives back.
  CountReused(prefix.tokens);
  return true;
}

void Scheduler::CountReused(int64_t tokens) {
  const std::lock_guard lock(mutex_);
  stats_.reused_tokens += tokens;
}

/// Before a prompt's first token is computed: whether its beginning is being computed for an
/// earlier request, so that waiting is cheaper; takes it over once it is there. Whole pages alone
/// are shared, which neither of the two will write.
bool Scheduler::WaitsForBeginning(RunningRequest& request) {
  if (request.begun || request.computes_whole_prompt()) return false;
  const std::span<const TokenId> prompt = request.tokens().first(request.tokens().size() - 1);
  for (const auto& earlier : running_) {
    if (earlier.get() == &request) break;
    int64_t common = CommonPrefix(earlier->tokens(), prompt);
    common -= common % parts_.cache_options.page_tokens;
    if (common <= request.computed) continue;
    if (earlier->computed < common) return true;
    MakeRoomForSequence();
    const Result<SequenceId> fork = parts_.cache->Fork(earlier->sequence, common);
    if (!fork) continue;
    parts_.cache->FreeSequence(request.sequence);
    CountReused(common - request.computed);
    request.sequence = *fork;
    request.computed = common;
    request.MarkReused(common);
  }
  return false;
}

void Scheduler::ComposeBatch() {
  chunks_.clear();
  batch_.clear();
  routing_.Clear();
  hidden_.Clear();
  logit_rows_ = 0;
  int64_t left = parts_.pass_tokens;
  const int64_t row_bytes = parts_.config.vocab_size * static_cast<int64_t>(sizeof(float));
  int64_t score_rows = std::clamp<int64_t>(kScoreBytes / row_bytes, 1, parts_.options.batch_tokens);
  for (const bool answering : {true, false}) {
    for (const auto& request : running_) {
      if (request->answering() != answering || left == 0) continue;
      if (!answering && WaitsForBeginning(*request)) continue;
      int64_t tokens = std::min({request->pending(), left, parts_.cache_options.max_chunk_tokens});
      const bool score = request->scores_prompt() && !answering;
      if (score) tokens = std::min(tokens, score_rows);
      if (tokens == 0) continue;
      if (score) score_rows -= tokens;
      request->begun = true;
      adding_ = request.get();
      AddChunk(*request, tokens, score);
      adding_ = nullptr;
      left -= tokens;
    }
  }
  logits_.resize(static_cast<size_t>(logit_rows_ * parts_.config.vocab_size));
}

void Scheduler::ChargeUsers() {
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < chunks_.size(); ++i)
    waiting_.Charge(batch_[i]->request().user, std::ssize(chunks_[i].tokens));
}

void Scheduler::AddChunk(RunningRequest& request, int64_t tokens, bool score) {
  const bool last = tokens == request.pending();
  logit_rows_ += score ? tokens : last ? 1 : 0;
  chunks_.push_back({.sequence = request.sequence,
                     .tokens = request.tokens().subspan(static_cast<size_t>(request.computed),
                                                        static_cast<size_t>(tokens)),
                     .logits = score  ? LogitRows::kAll
                               : last ? LogitRows::kLast
                                      : LogitRows::kNone});
  batch_.push_back(&request);
  hidden_.AddTokens(request.answering() ? nullptr : request.pooled(), tokens);
  if (parts_.config.is_mixture()) routing_.AddTokens(request.routing(parts_.config), tokens);
}

void Scheduler::TakeResults() {
  const ScopedSpan span(profile_, Part::kSampling);
  const auto vocab = static_cast<size_t>(parts_.config.vocab_size);
  size_t row = 0;
  int64_t prompt_tokens = 0, generated = 0;
  for (size_t i = 0; i < chunks_.size(); ++i) {
    RunningRequest& request = *batch_[i];
    const auto tokens = std::ssize(chunks_[i].tokens);
    if (!request.answering()) prompt_tokens += tokens;
    if (tokens == request.pending()) ++generated;
    const LogitRows logits = chunks_[i].logits;
    const int64_t rows = logits == LogitRows::kAll ? tokens : logits == LogitRows::kLast ? 1 : 0;
    const auto own = std::span(logits_).subspan(row, static_cast<size_t>(rows) * vocab);
    row += own.size();
    auto ended = WithMemory(request, [&] { return TakeRows(request, chunks_[i], own); });
    if (ended && !*ended) continue;
    const auto owner = std::ranges::find(running_, &request, &std::unique_ptr<RunningRequest>::get);
    finished_.emplace_back(std::move(*owner), ended ? Result<Completion>(*std::move(*ended))
                                                    : std::move(ended).error());
    running_.erase(owner);
  }
  // Whoever hears of an end finds it counted.
  UpdateStats(prompt_tokens, generated);
  for (auto& [request, result] : finished_) Finish(*request, std::move(result));
  finished_.clear();
}

/// Has a request take the logits of its chunk; its answer where it has ended.
Result<std::optional<Completion>> Scheduler::TakeRows(RunningRequest& request,
                                                      const SequenceChunk& chunk,
                                                      std::span<const float> rows) {
  if (chunk.logits == LogitRows::kAll)
    request.ScorePrompt(request.computed, rows, parts_.config.vocab_size);
  request.computed += std::ssize(chunk.tokens);
  if (request.pending() > 0) {
    if (!request.ReportPrompt(0)) Cancel(request.id());
    return std::optional<Completion>();
  }
  MOXIE_TRY_ASSIGN(const bool last,
                   request.Advance(rows.last(static_cast<size_t>(parts_.config.vocab_size))));
  if (!last) return std::optional<Completion>();
  return std::optional(request.TakeCompletion());
}

void Scheduler::UpdateStats(int64_t prompt_tokens, int64_t generated) {
  const int64_t pages = parts_.cache_options.capacity_tokens / parts_.cache_options.page_tokens;
  const int64_t free_pages = std::min(FreePages(), pages);
  const ExpertTraffic traffic = parts_.experts->traffic();
  const std::chrono::duration<double> pass = RunningRequest::Clock::now() - pass_start_;
  const std::lock_guard lock(mutex_);
  ++stats_.passes;
  stats_.busy_s += pass.count();
  if (prompt_tokens == 0) stats_.decode_expert_store += traffic - stats_.expert_store;
  stats_.expert_store = traffic;
  stats_.prompt_tokens += prompt_tokens;
  stats_.generated_tokens += generated;
  stats_.kv_pages = pages;
  stats_.kv_pages_used = pages - free_pages;
  NoteRunning();
}

/// With the mutex held.
void Scheduler::NoteRunning() {
  stats_.running = std::ssize(running_);
  stats_.requests.clear();  // Which keeps its memory.
  for (const auto& request : running_) stats_.requests.push_back(request->Stats());
}

EngineStats Scheduler::Stats() const {
  EngineStats stats;
  {
    const std::lock_guard lock(mutex_);
    stats = stats_;
    stats.waiting = std::ssize(waiting_);
  }
  if (parts_.config.is_mixture()) stats.routing = routing_.Total();
  return stats;
}

/// Ends what was to be computed.
template <class ErrorOf>
void Scheduler::FailBatch(ErrorOf error_of) {
  for (RunningRequest* request : batch_) {
    parts_.cache->FreeSequence(request->sequence);
    request->sequence = -1;
    Finish(*request, error_of(*request));
  }
  std::erase_if(running_, [&](const auto& request) {
    return std::find(batch_.begin(), batch_.end(), request.get()) != batch_.end();
  });
  const std::lock_guard lock(mutex_);
  NoteRunning();
}

void Scheduler::KeepPrefix(SequenceId sequence, std::span<const TokenId> tokens, int64_t computed) {
  if (computed == 0) return parts_.cache->FreeSequence(sequence);
  const auto held = tokens.first(static_cast<size_t>(computed));
  try {
    prefixes_.Keep({sequence, {held.begin(), held.end()}});
  } catch (const std::bad_alloc&) {
    parts_.cache->FreeSequence(sequence);
  }
}

void Scheduler::Finish(RunningRequest& request, Result<Completion> result) {
  if (request.sequence >= 0) {
    KeepPrefix(request.sequence, request.tokens(), request.computed);
    request.sequence = -1;
  }
  {
    const std::lock_guard lock(mutex_);
    --unfinished_;
    waiting_.Leave(request.request().user);
  }
  if (request.on_finish) request.on_finish(request.id(), std::move(result));
}

}  // namespace moxie
