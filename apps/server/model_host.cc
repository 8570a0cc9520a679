#include "server/model_host.h"

#include <optional>

#include "server/api.h"
#include "server/patience.h"

namespace moxie::server {

Result<std::shared_ptr<ModelHost>> ModelHost::Open(ModelHead head, Post post) {
  MOXIE_TRY_ASSIGN(ModelDescription description, head.Describe());
  description.tensors = {};
  const ModelOptions options = head.options();
  MOXIE_TRY_ASSIGN(std::unique_ptr<Model> model, Model::Open(std::move(head)));
  return std::shared_ptr<ModelHost>(
      new ModelHost(std::move(description), options, std::move(model), std::move(post)));
}

ModelHost::ModelHost(ModelDescription description, const ModelOptions& options,
                     std::unique_ptr<Model> model, Post post)
    : description_(std::move(description)),
      options_(options),
      model_(std::move(model)),
      constraints_(model_->tokenizer()),
      engine_(std::make_unique<Engine>(*model_)),
      post_(std::move(post)),
      opened_at_(UnixTime()),
      thread_([this] { Work(); }) {}

ModelHost::~ModelHost() { Stop(); }

void ModelHost::Stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  engine_ = nullptr;
}

void ModelHost::Work() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !engine_->idle(); });
      if (stopping_) return;
    }
    engine_->Step();
  }
}

Result<RequestId> ModelHost::Submit(Request request, TokenHandler on_token,
                                    FinishHandler on_finish) {
  const auto token_handler = std::make_shared<TokenHandler>(std::move(on_token));
  // What the end takes is taken now, for the end may be that there is no memory.
  const auto end = std::make_shared<std::optional<Result<Completion>>>();
  const auto finish = std::make_shared<std::function<void()>>(
      [end, on_finish = std::move(on_finish)] { on_finish(std::move(**end)); });
  Result<RequestId> id = engine_->Submit(
      std::move(request),
      [post = post_, token_handler](const Event& event) {
        if (event.token < 0 && event.text.empty()) return true;
        Token token{event.token,
                    std::string(event.text),
                    {event.logprobs.begin(), event.logprobs.end()},
                    event.routing != nullptr ? *event.routing : TokenRouting()};
        post([token_handler, token = std::move(token)] { (*token_handler)(token); });
        return true;
      },
      [post = post_, end, finish](RequestId, Result<Completion> result) {
        end->emplace(std::move(result));
        WithPatience([&] { post([finish] { (*finish)(); }); });
      });
  // The lock orders the request before the worker's look at the engine, or after its wait.
  { const std::lock_guard lock(mutex_); }
  wake_.notify_one();
  return id;
}

void ModelHost::Cancel(RequestId request) {
  if (engine_ != nullptr) engine_->Cancel(request);
}

}  // namespace moxie::server
