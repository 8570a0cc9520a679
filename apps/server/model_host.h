#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "moxie/constraint.h"
#include "moxie/generate.h"
#include "moxie/model.h"
#include "server/constraint_cache.h"

namespace moxie::server {

/// A token of an answer, copied out of the engine's Event.
struct Token {
  TokenId id = -1;  ///< -1: text alone that had been held back
  std::string text;
  std::vector<TokenLogprob> logprobs;
  TokenRouting routing;  ///< empty unless asked for
};

/// An opened model, its engine, and the thread that runs it.
class ModelHost {
 public:
  /// Calls a task in the server's thread.
  using Post = std::function<void(std::function<void()>)>;
  using TokenHandler = std::function<void(const Token&)>;
  using FinishHandler = std::function<void(Result<Completion>)>;

  /// Errors: those of Model::Open.
  static Result<std::shared_ptr<ModelHost>> Open(ModelHead head, Post post);
  ~ModelHost();
  ModelHost(const ModelHost&) = delete;
  ModelHost& operator=(const ModelHost&) = delete;

  const Model& model() const { return *model_; }
  const Engine& engine() const { return *engine_; }
  const ModelDescription& description() const { return description_; }
  const ModelOptions& options() const { return options_; }
  /// Indices, among all layers, of those with experts.
  const std::vector<int64_t>& mixture_layers() const { return description_.mixture_layer_indices; }
  const ConstraintCompiler& constraints() const { return constraints_; }
  ConstraintCache& constraint_cache() { return constraint_cache_; }
  int64_t opened_at() const { return opened_at_; }

  /// Queues a request. The handlers are called in the server's thread, `on_finish` once, last.
  /// Errors: those of Engine::Submit.
  Result<RequestId> Submit(Request request, TokenHandler on_token, FinishHandler on_finish);
  void Cancel(RequestId request);

  /// Ends what is under way without a word, and the thread. Nothing can be submitted afterwards.
  void Stop();

 private:
  ModelHost(ModelDescription description, const ModelOptions& options, std::unique_ptr<Model> model,
            Post post);
  void Work();

  ModelDescription description_;
  ModelOptions options_;
  std::unique_ptr<Model> model_;
  ConstraintCompiler constraints_;
  ConstraintCache constraint_cache_;
  std::unique_ptr<Engine> engine_;
  Post post_;
  int64_t opened_at_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace moxie::server
