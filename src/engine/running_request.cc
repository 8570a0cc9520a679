#include "engine/running_request.h"

#include <algorithm>
#include <utility>

namespace moxie {
namespace {

double Seconds(RunningRequest::Clock::time_point from, RunningRequest::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

RunningRequest::RunningRequest(RequestId id, Request request, EventHandler on_event,
                               Engine::FinishHandler finish, const Tokenizer& tokenizer,
                               Sampler sampler, int64_t context)
    : on_finish(std::move(finish)),
      id_(id),
      request_(std::move(request)),
      on_event_(std::move(on_event)),
      tokenizer_(tokenizer),
      sampler_(std::move(sampler)),
      decoder_(tokenizer, !request_.show_special),
      stop_strings_(request_.stop),
      tokens_(request_.prompt),
      submitted_(Clock::now()) {
  if (request_.constraint) constraint_.emplace(request_.constraint);
  const auto prompt = static_cast<int64_t>(tokens_.size());
  most_answer_ = context - prompt;
  if (request_.max_tokens >= 0) most_answer_ = std::min(most_answer_, request_.max_tokens);
  most_tokens_ = prompt + most_answer_;
  completion_.prompt_tokens = prompt;
  pooled_.pooling = request_.pooling;
  started_ = first_token_ = last_token_ = submitted_;
}

void RunningRequest::MarkStarted(int64_t reused) {
  started_ = first_token_ = last_token_ = Clock::now();
  completion_.reused_tokens = reused;
  // So that no token of the answer allocates. Pages that are never written to cost nothing.
  constexpr int64_t kTextBytesPerToken = 8;
  tokens_.reserve(static_cast<size_t>(most_tokens_));
  completion_.ids.reserve(static_cast<size_t>(most_answer_));
  completion_.text.reserve(static_cast<size_t>(most_answer_ * kTextBytesPerToken));
}

/// The next token; nothing where a constraint lets none follow.
Result<std::optional<TokenId>> RunningRequest::Choose(std::span<const float> logits) {
  if (!constraint_) {
    MOXIE_TRY_ASSIGN(const TokenId token, sampler_.Sample(logits));
    return std::optional(token);
  }
  MOXIE_TRY_ASSIGN(const std::span<const uint64_t> allowed, constraint_->Mask());
  if (std::all_of(allowed.begin(), allowed.end(), [](uint64_t word) { return word == 0; }))
    return std::optional<TokenId>();
  MOXIE_TRY_ASSIGN(const TokenId token, sampler_.Sample(logits, allowed));
  MOXIE_CHECK(constraint_->Advance(token));
  return std::optional(token);
}

void RunningRequest::ScorePrompt(int64_t first, std::span<const float> rows, int64_t vocab_size) {
  auto& scores = completion_.prompt_logprobs;
  if (scores.empty()) scores.emplace_back();
  for (int64_t i = 0; i * vocab_size < std::ssize(rows); ++i) {
    const auto next = static_cast<size_t>(first + i + 1);
    if (next >= request_.prompt.size()) return;
    scores.push_back(TokenLogprobs(
        rows.subspan(static_cast<size_t>(i * vocab_size), static_cast<size_t>(vocab_size)),
        request_.prompt[next], request_.prompt_logprobs));
  }
}

Result<bool> RunningRequest::Advance(std::span<const float> logits) {
  if (most_answer_ == 0) {
    End(FinishReason::kLength);
    return true;
  }
  MOXIE_TRY_ASSIGN(const std::optional<TokenId> choice, Choose(logits));
  if (!choice) {
    End(FinishReason::kLength);
    return true;
  }
  const TokenId token = *choice;
  last_token_ = Clock::now();
  if (!answering()) first_token_ = last_token_;
  const std::vector<TokenId>& stops = tokenizer_.stop_tokens();
  if ((request_.end_at_stop_tokens || constraint_) &&
      std::find(stops.begin(), stops.end(), token) != stops.end()) {
    End(FinishReason::kStop);
    return true;
  }
  completion_.ids.push_back(token);
  tokens_.push_back(token);
  const std::string text = stop_strings_.Add(decoder_.Add(token));
  completion_.text += text;
  const bool wanted = Emit(token, text, logits);
  if (stop_strings_.found()) {
    completion_.finish_reason = FinishReason::kStop;
    return true;
  }
  if (!wanted) {
    End(FinishReason::kCancelled);
    return true;
  }
  if (constraint_ && constraint_->must_end()) {
    End(FinishReason::kStop);
    return true;
  }
  if (static_cast<int64_t>(completion_.ids.size()) < most_answer_) return false;
  End(FinishReason::kLength);
  return true;
}

void RunningRequest::End(FinishReason reason) {
  completion_.finish_reason = reason;
  std::string rest = stop_strings_.Add(decoder_.Finish());
  if (stop_strings_.found()) {
    completion_.finish_reason = FinishReason::kStop;
  } else {
    rest += stop_strings_.Finish();
  }
  completion_.text += rest;
  if (!rest.empty()) Emit(-1, rest, {});
}

bool RunningRequest::ReportPrompt(int64_t more) {
  prompt_more_ = more;
  const bool wanted = Emit(-1, "", {});
  prompt_more_ = 0;
  return wanted;
}

bool RunningRequest::Emit(TokenId token, const std::string& text, std::span<const float> logits) {
  if (!on_event_) return true;
  std::vector<TokenLogprob> logprobs;
  if (request_.top_logprobs >= 0 && token >= 0)
    logprobs = TokenLogprobs(logits, token, request_.top_logprobs);
  const bool routed = token >= 0 && !token_routing_.experts.empty();
  return on_event_({.request = id_,
                    .prompt_done = std::min(computed + prompt_more_, completion_.prompt_tokens),
                    .token = token,
                    .text = text,
                    .logprobs = std::span(logprobs),
                    .routing = routed ? &token_routing_ : nullptr});
}

RoutingCounter::Owner RunningRequest::routing(const ModelConfig& config) {
  if (request_.record_routing && !tracer_) tracer_.emplace(config, &completion_.routing_trace);
  return {.shares = request_.observe_routing ? &completion_.routing : nullptr,
          .tracer = tracer_ ? &*tracer_ : nullptr,
          .last = request_.trace_routing ? &token_routing_ : nullptr};
}

Completion RunningRequest::TakeCompletion() {
  completion_.timings = {.queue_s = Seconds(submitted_, started_),
                         .prefill_s = Seconds(started_, first_token_),
                         .decode_s = Seconds(first_token_, last_token_)};
  completion_.embedding = pooled_.Vector();
  return std::move(completion_);
}

}  // namespace moxie
