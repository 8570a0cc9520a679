#include "engine/scheduler.h"

#include <algorithm>
#include <string>
#include <utility>

namespace moxie {

Scheduler::Scheduler(Model::Parts& parts)
    : parts_(parts),
      prefixes_(*parts.cache),
      routing_(parts.config),
      free_pages_(parts.cache_options.capacity_tokens / parts.cache_options.page_tokens) {}

Scheduler::~Scheduler() {
  for (const auto& request : running_) parts_.cache->FreeSequence(request->sequence);
  while (prefixes_.size() > 0) prefixes_.EvictOldest();
}

int64_t Scheduler::PagesFor(int64_t tokens) const {
  const int64_t page = parts_.cache_options.page_tokens;
  return (tokens + page - 1) / page;
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
  const RequestId id = ++last_id_;
  ++unfinished_;
  waiting_.push_back(std::make_unique<RunningRequest>(id, std::move(request), std::move(on_event),
                                                      std::move(on_finish), *parts_.tokenizer,
                                                      std::move(sampler), parts_.options.context));
  return id;
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
  ComposeBatch();
  if (chunks_.empty()) return;
  const ForwardObservers observers{.routing = routing_wanted_ ? &routing_ : nullptr,
                                   .profile = profile_};
  const Result<void> done = parts_.decoder->Forward(chunks_, *parts_.cache, logits_, observers);
  if (done) {
    TakeResults();
  } else {
    FailBatch(done.error());
  }
}

void Scheduler::TakeCancelled() {
  std::vector<std::unique_ptr<RunningRequest>> ended;
  {
    const std::lock_guard lock(mutex_);
    if (cancelled_.empty()) return;
    const auto take = [&](auto& list) {
      for (auto& request : list) {
        if (cancelled_.contains(request->id())) ended.push_back(std::move(request));
      }
      std::erase(list, nullptr);
    };
    take(waiting_);
    take(running_);
    cancelled_.clear();
  }
  for (const auto& request : ended) {
    request->End(FinishReason::kCancelled);
    Finish(*request, request->TakeCompletion());
  }
}

void Scheduler::Admit() {
  while (true) {
    std::unique_ptr<RunningRequest> next;
    {
      const std::lock_guard lock(mutex_);
      if (waiting_.empty()) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    if (next->request().max_tokens == 0) {
      next->End(FinishReason::kLength);
      Finish(*next, next->TakeCompletion());
    } else if (Start(*next)) {
      running_.push_back(std::move(next));
    } else {
      const std::lock_guard lock(mutex_);
      waiting_.push_front(std::move(next));
      return;
    }
  }
}

bool Scheduler::Start(RunningRequest& request) {
  const int64_t need = PagesFor(request.most_tokens());
  const PrefixCache::Taken prefix = prefixes_.Take(request.tokens());
  free_pages_ += prefix.pages;
  const auto sequences = [&] {
    return running_.size() + prefixes_.size() + (prefix.sequence >= 0 ? 1 : 0);
  };
  const auto most = static_cast<size_t>(parts_.cache_options.max_sequences);
  while (prefixes_.size() > 0 &&
         (free_pages_ < need || (prefix.sequence < 0 && sequences() >= most)))
    free_pages_ += prefixes_.EvictOldest();
  SequenceId sequence = prefix.sequence;
  bool room = free_pages_ >= need && (sequence >= 0 || sequences() < most);
  if (room && sequence < 0) {
    const Result<SequenceId> created = parts_.cache->CreateSequence();
    room = created.has_value();
    if (room) sequence = *created;
  }
  if (!room) {
    if (prefix.sequence >= 0) KeepPrefix(prefix.sequence, request.tokens(), prefix.tokens);
    return false;
  }
  free_pages_ -= need;
  request.pages = need;
  request.sequence = sequence;
  request.computed = prefix.tokens;
  request.MarkStarted(prefix.tokens);
  return true;
}

void Scheduler::ComposeBatch() {
  chunks_.clear();
  batch_.clear();
  routing_.Clear();
  routing_wanted_ = false;
  int64_t left = parts_.options.batch_tokens;
  for (const bool answering : {true, false}) {
    for (const auto& request : running_) {
      if (request->answering() != answering || left == 0) continue;
      const int64_t tokens =
          std::min({request->pending(), left, parts_.cache_options.max_chunk_tokens});
      AddChunk(*request, tokens);
      left -= tokens;
    }
  }
  const auto rows = std::count_if(chunks_.begin(), chunks_.end(), [](const SequenceChunk& chunk) {
    return chunk.logits == LogitRows::kLast;
  });
  logits_.resize(static_cast<size_t>(rows * parts_.config.vocab_size));
}

void Scheduler::AddChunk(RunningRequest& request, int64_t tokens) {
  const bool last = tokens == request.pending();
  chunks_.push_back({.sequence = request.sequence,
                     .tokens = request.tokens().subspan(static_cast<size_t>(request.computed),
                                                        static_cast<size_t>(tokens)),
                     .logits = last ? LogitRows::kLast : LogitRows::kNone});
  batch_.push_back(&request);
  RoutingShares* const routing = parts_.config.is_mixture() ? request.routing() : nullptr;
  routing_.AddTokens(routing, tokens);
  routing_wanted_ = routing_wanted_ || routing != nullptr;
}

void Scheduler::TakeResults() {
  const ScopedSpan span(profile_, Part::kSampling);
  const auto vocab = static_cast<size_t>(parts_.config.vocab_size);
  size_t row = 0;
  std::vector<RunningRequest*> finished;
  for (size_t i = 0; i < chunks_.size(); ++i) {
    RunningRequest& request = *batch_[i];
    request.computed += static_cast<int64_t>(chunks_[i].tokens.size());
    if (chunks_[i].logits != LogitRows::kLast) {
      if (!request.ReportPrompt()) Cancel(request.id());
      continue;
    }
    const Result<bool> last = request.Advance(std::span(logits_).subspan(row * vocab, vocab));
    ++row;
    if (last && !*last) continue;
    finished.push_back(&request);
    Finish(request, last ? Result<Completion>(request.TakeCompletion()) : last.error());
  }
  Remove(finished);
}

void Scheduler::Remove(const std::vector<RunningRequest*>& finished) {
  std::erase_if(running_, [&](const auto& request) {
    return std::find(finished.begin(), finished.end(), request.get()) != finished.end();
  });
}

void Scheduler::FailBatch(const Error& error) {
  for (RunningRequest* request : batch_) {
    parts_.cache->FreeSequence(request->sequence);
    free_pages_ += request->pages;
    request->sequence = -1;
    Finish(*request, error);
  }
  Remove(batch_);
}

void Scheduler::KeepPrefix(SequenceId sequence, std::span<const TokenId> tokens, int64_t computed) {
  const auto held = tokens.first(static_cast<size_t>(computed));
  const int64_t pages = PagesFor(computed);
  free_pages_ -= pages;
  prefixes_.Keep({sequence, {held.begin(), held.end()}, pages});
}

void Scheduler::Finish(RunningRequest& request, Result<Completion> result) {
  if (request.sequence >= 0) {
    free_pages_ += request.pages;
    KeepPrefix(request.sequence, request.tokens(), request.computed);
    request.sequence = -1;
  }
  {
    const std::lock_guard lock(mutex_);
    --unfinished_;
  }
  if (request.on_finish) request.on_finish(request.id(), std::move(result));
}

}  // namespace moxie
