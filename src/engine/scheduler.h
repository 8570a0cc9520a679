#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "engine/hidden_pooler.h"
#include "engine/model_parts.h"
#include "engine/prefix_cache.h"
#include "engine/routing_recorder.h"
#include "engine/running_request.h"
#include "engine/waiting_queue.h"
#include "moxie/generate.h"

namespace moxie {

/// Decides what each forward pass computes (continuous batching: Yu et al., Orca, OSDI '22).
///
/// A pass holds one token of every running answer, then as much of the running prompts as
/// fits (pass_tokens), in order of admission. A waiting request starts when a sequence and pages
/// for its prompt and its longest possible answer can be had, so a running one never lacks pages;
/// which one is next, WaitingQueue says.
/// A prompt shares the pages of its beginning with finished requests and with running ones; while
/// an earlier request still computes that beginning, the later one waits for it.
/// A large request that is next waits until it fits; only a more urgent one or one of a user who
/// had less goes before it.
/// Where the system refuses memory, the request that it was for ends with an error, or all of a
/// pass where it was for all of them.
class Scheduler : private LayerObserver {
 public:
  explicit Scheduler(Model::Parts& parts);
  /// Frees all its sequences; requests that are not finished end without a word.
  ~Scheduler() override;
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // As documented at Engine.
  Result<RequestId> Submit(Request request, EventHandler on_event, Engine::FinishHandler on_finish);
  void Cancel(RequestId request);
  bool idle() const;
  EngineStats Stats() const;
  void Step();
  void Record(Profile* profile) { profile_ = profile; }

 private:
  using RunningList = std::vector<std::unique_ptr<RunningRequest>>;

  Result<void> Check(const Request& request) const;
  void TakeCancelled();
  void Admit();
  std::unique_ptr<RunningRequest> TakeStartable();
  bool Start(RunningRequest& request);
  void ComposeBatch();
  void ChargeUsers();
  void AddChunk(RunningRequest& request, int64_t tokens, bool score);
  void UpdateStats(int64_t prompt_tokens, int64_t generated);
  void NoteRunning();
  bool Compute();
  void TakeResults();
  Result<std::optional<Completion>> TakeRows(RunningRequest& request, const SequenceChunk& chunk,
                                             std::span<const float> rows);
  void End(RunningRequest& request, FinishReason reason);
  template <class ErrorOf>
  void FailBatch(ErrorOf error_of);
  bool OnLayer(int64_t done, int64_t all) override;
  void KeepPrefix(SequenceId sequence, std::span<const TokenId> tokens, int64_t computed);
  void Finish(RunningRequest& request, Result<Completion> result);
  bool WaitsForBeginning(RunningRequest& request);
  void MakeRoomForSequence();
  void CountReused(int64_t tokens);
  int64_t FreePages() const;
  int64_t PromisedPages() const;

  Model::Parts& parts_;
  PrefixCache prefixes_;
  RoutingCounter routing_;
  HiddenPooler hidden_;

  // What one pass computes: chunk i continues batch_[i].
  std::vector<SequenceChunk> chunks_;
  std::vector<RunningRequest*> batch_;
  RunningRequest* adding_ = nullptr;  ///< whose chunk is being made
  std::vector<std::pair<std::unique_ptr<RunningRequest>, Result<Completion>>> finished_;
  std::vector<float> logits_;
  int64_t logit_rows_ = 0;
  Profile* profile_ = nullptr;
  RunningRequest::Clock::time_point pass_start_;

  RunningList running_;  // In order of admission.

  mutable std::mutex mutex_;  // Guards what follows: Submit and Cancel come from any thread.
  WaitingQueue waiting_;
  std::set<RequestId> cancelled_;
  RequestId last_id_ = 0;
  EngineStats stats_;       // All but routing and waiting.
  int64_t unfinished_ = 0;  // Submitted, on_finish not yet called.
};

}  // namespace moxie
