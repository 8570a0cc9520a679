#pragma once

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "engine/hidden_pooler.h"
#include "engine/routing_recorder.h"
#include "engine/stop_strings.h"
#include "memory/kv_cache.h"
#include "moxie/generate.h"
#include "sampling/sampler.h"
#include "tokenizer/tokenizer.h"

namespace moxie {

/// A request from submission to completion: what it has said and what is still to compute.
class RunningRequest {
 public:
  using Clock = std::chrono::steady_clock;

  RunningRequest(RequestId id, Request request, EventHandler on_event,
                 Engine::FinishHandler on_finish, const Tokenizer& tokenizer, Sampler sampler,
                 int64_t context);

  RequestId id() const { return id_; }
  const Request& request() const { return request_; }
  /// Tokens whose keys and values it may need in the cache at most.
  int64_t most_tokens() const { return most_tokens_; }
  /// Prompt and answer so far; the first `computed` of them are in the cache.
  std::span<const TokenId> tokens() const { return tokens_; }
  int64_t pending() const { return static_cast<int64_t>(tokens_.size()) - computed; }
  bool answering() const { return !completion_.ids.empty(); }

  /// Chooses the next token from `logits`, tells the listener, and returns whether that was the
  /// last one. Errors: those of Sampler::Sample.
  Result<bool> Advance(std::span<const float> logits);

  /// Takes the logits of prompt positions from `first` on: the log-probabilities of what follows
  /// each of them.
  void ScorePrompt(int64_t first, std::span<const float> rows, int64_t vocab_size);
  /// Whether the prompt's logits are wanted, all of them.
  bool scores_prompt() const { return request_.prompt_logprobs >= 0; }
  /// Where the prompt's hidden states go, or null.
  PooledStates* pooled() { return request_.pooling != Pooling::kNone ? &pooled_ : nullptr; }
  /// Whether every token of the prompt must go through the model, known or not.
  bool computes_whole_prompt() const {
    return scores_prompt() || request_.pooling != Pooling::kNone;
  }

  /// Tells the listener that a part of the prompt is computed, and in a pass that is not finished
  /// `more` tokens' worth. Returns whether it wants to go on.
  bool ReportPrompt(int64_t more);

  /// Where Advance has not ended it: ends it now, with what it has said so far.
  void End(FinishReason reason);

  RunningStats Stats() const {
    const auto prompt = static_cast<int64_t>(request_.prompt.size());
    return {.request = id_,
            .prompt_tokens = prompt,
            .prompt_done = std::min(computed, prompt),
            .generated_tokens = std::ssize(completion_.ids)};
  }

  void MarkStarted(int64_t reused);
  void MarkReused(int64_t tokens) { completion_.reused_tokens = tokens; }
  /// The finished answer; once.
  Completion TakeCompletion();
  /// What of its tokens' routing is wanted; of a model that is a mixture.
  RoutingCounter::Owner routing(const ModelConfig& config);

  /// Why it ends where the system refuses memory for it; made while there is some.
  Error no_memory = {ErrorCode::kOverBudget,
                     "the system has not the memory to go on with this request"};

  // The scheduler's book-keeping.
  SequenceId sequence = -1;
  int64_t computed = 0;
  bool begun = false;  ///< a token of it was computed
  Engine::FinishHandler on_finish;

 private:
  Result<std::optional<TokenId>> Choose(std::span<const float> logits);
  bool Emit(TokenId token, const std::string& text, std::span<const float> logits);

  RequestId id_;
  Request request_;
  EventHandler on_event_;
  const Tokenizer& tokenizer_;
  Sampler sampler_;
  std::optional<ConstraintState> constraint_;
  StreamDecoder decoder_;
  StopStrings stop_strings_;
  std::vector<TokenId> tokens_;
  int64_t most_tokens_;
  int64_t most_answer_;
  Completion completion_;
  int64_t prompt_more_ = 0;
  TokenRouting token_routing_;
  PooledStates pooled_;
  std::optional<RoutingTracer> tracer_;
  Clock::time_point submitted_, started_, first_token_, last_token_;
};

}  // namespace moxie
