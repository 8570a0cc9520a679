#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/constraint.h"
#include "moxie/model.h"
#include "moxie/profile.h"
#include "moxie/result.h"
#include "moxie/routing.h"
#include "moxie/sampling.h"

namespace moxie {

class Scheduler;

using RequestId = int64_t;

/// Why an answer ended.
enum class FinishReason : uint8_t {
  kStop,       ///< a token that ends a turn, or a stop string
  kLength,     ///< max_tokens reached, or the context full; or a constraint lets nothing follow,
               ///< though the answer is not complete (nested more than 1,000 deep)
  kCancelled,  ///< the caller asked
};

/// "stop", "length" or "cancelled".
std::string_view NameOf(FinishReason reason);

/// How the hidden states of a prompt, after the final norm, become one vector.
enum class Pooling : uint8_t { kNone, kMean, kLast };

/// A prompt to be continued.
struct Request {
  std::vector<TokenId> prompt;  ///< at least one token, less than the model's context
  SamplingOptions sampling;
  int64_t max_tokens = -1;         ///< tokens of the answer at most; -1: as the context allows
  std::vector<std::string> stop;   ///< the answer ends before any of these
  bool end_at_stop_tokens = true;  ///< whether tokens that end a turn end the answer
  int32_t top_logprobs = -1;       ///< -1: no log-probabilities; 0: the chosen token's; n: and the
                                   ///< n most probable ones'
  int32_t prompt_logprobs = -1;    ///< the same for each token of the prompt but the first, in
                                   ///< Completion::prompt_logprobs; nothing is reused then
  Pooling pooling = Pooling::kNone;  ///< fill Completion::embedding; nothing is reused then
  bool show_special = false;         ///< special tokens' text is part of the answer's text
  std::string user;                  ///< whose it is: users are served equally
  int32_t priority = 0;              ///< lower ones start first, whoever's they are
  bool observe_routing = false;      ///< fill Completion::routing
  bool trace_routing = false;        ///< fill Event::routing
  bool record_routing = false;       ///< fill Completion::routing_trace, of a mixture
  /// What the answer must look like, or nothing. It ends where nothing can follow, also where
  /// end_at_stop_tokens is off; stop strings may still cut it.
  ConstraintPtr constraint;
};

/// Which experts the pass that chose a token went through, at its last position.
struct TokenRouting {
  std::vector<std::vector<int32_t>> experts;  ///< [mixture layers][used], heaviest first
  std::vector<std::vector<float>> weights;    ///< the same, as applied
};

/// One step of an answer, or of the prompt before it. Valid during the call only.
struct Event {
  RequestId request = 0;
  int64_t prompt_done = 0;  ///< tokens of the prompt computed so far
  TokenId token = -1;       ///< the new token, or -1: none (a part of the prompt, held-back text)
  std::string_view text;    ///< whole characters that can no longer become part of a stop string
  std::span<const TokenLogprob> logprobs;  ///< the chosen token's, then the most probable ones'
  const TokenRouting* routing = nullptr;   ///< with a token, where asked for and there is a mixture
};

/// Called for each event, in the thread that runs the engine. False cancels the request.
using EventHandler = std::function<bool(const Event&)>;

/// Where a request's time went, in seconds.
struct Timings {
  double queue_s = 0;    ///< until its first forward pass
  double prefill_s = 0;  ///< from there to the first token
  double decode_s = 0;   ///< from there to the last one
};

/// A finished answer.
struct Completion {
  std::string text;
  std::vector<TokenId> ids;  ///< as generated, the token that ended it left out
  FinishReason finish_reason = FinishReason::kLength;
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;  ///< of the prompt, found in the cache
  Timings timings;
  /// Where asked for, one entry a token of the prompt: its log-probability, then the most probable
  /// tokens'. The first is empty.
  std::vector<std::vector<TokenLogprob>> prompt_logprobs;
  std::vector<float> embedding;  ///< [dim] the prompt's pooled hidden states, where asked for
  RoutingShares routing;       ///< of prompt and answer, where asked for and the model is a mixture
  RoutingTrace routing_trace;  ///< of the same tokens, those found in the cache left out

  /// Tokens computed a second; 0 where nothing was timed.
  double prefill_tokens_per_s() const;
  double decode_tokens_per_s() const;
};

/// How far a running request is.
struct RunningStats {
  RequestId request = 0;
  int64_t prompt_tokens = 0;
  int64_t prompt_done = 0;  ///< computed or found in the cache
  int64_t generated_tokens = 0;
};

/// What an engine has done since it was made, and what it is doing.
struct EngineStats {
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t passes = 0;
  double busy_s = 0;                   ///< that the passes took
  int64_t prompt_tokens = 0;           ///< computed
  int64_t reused_tokens = 0;           ///< of prompts, found in the cache
  int64_t generated_tokens = 0;        ///< chosen
  int64_t kv_pages = 0;                ///< of the cache
  int64_t kv_pages_used = 0;           ///< held by requests under way or kept for later prompts
  std::vector<RunningStats> requests;  ///< the running ones
  RoutingShares routing;               ///< of every token computed; empty for dense models
  ExpertTraffic expert_store;  ///< up to the last pass; zeros where all experts lie in memory
  ExpertTraffic decode_expert_store;  ///< of those, in passes that read no prompt
};

/// Runs many requests at once on one model: continuous batching (Orca, OSDI '22). Each step is one
/// forward pass over whatever is due: the next token of every running answer, and as much of the
/// waiting prompts as fits. A request is admitted when the cache has room for all it may need; by
/// priority, then so that users get equally many tokens computed, then by arrival. Keys and values
/// of finished requests stay until room is needed, and a new prompt that begins like one of them
/// takes over its beginning.
///
/// For one file, kernel set, prompt and seed the answer is the same at any thread count. Submit,
/// Cancel and idle may be called from any thread; Step by one thread at a time.
class Engine {
 public:
  /// `model` must outlive the engine.
  explicit Engine(Model& model);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  using FinishHandler = std::function<void(RequestId, Result<Completion>)>;

  /// Queues a request. `on_event` and `on_finish` are called from Step; on_finish once, last.
  ///
  /// Errors: kInvalidInput for an empty or too long prompt, ids outside the vocabulary, or sampling
  /// options out of range.
  Result<RequestId> Submit(Request request, EventHandler on_event, FinishHandler on_finish);

  /// Ends a request at the next step; what it has said so far is kept.
  void Cancel(RequestId request);

  /// From any thread.
  EngineStats Stats() const;

  /// Whether nothing is queued or running.
  bool idle() const;

  /// One forward pass and what follows from it. A failure of the machine (such as a read error)
  /// finishes the requests of this pass with that Error.
  void Step();

  /// Adds the spans of all later steps to `profile`, which must outlive them; null: no more.
  void Record(Profile* profile);

  /// Submits one request and steps until it is finished.
  Result<Completion> Run(Request request, const EventHandler& on_event = {});

 private:
  std::unique_ptr<Scheduler> scheduler_;
};

}  // namespace moxie
