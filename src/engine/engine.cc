#include <optional>
#include <utility>

#include "engine/scheduler.h"
#include "moxie/generate.h"

namespace moxie {

std::string_view NameOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "";
}

double Completion::prefill_tokens_per_s() const {
  const auto computed = static_cast<double>(prompt_tokens - reused_tokens);
  return timings.prefill_s > 0 ? computed / timings.prefill_s : 0;
}

double Completion::decode_tokens_per_s() const {
  // The first token came out of the prompt's pass.
  return timings.decode_s > 0 && ids.size() > 1
             ? static_cast<double>(ids.size() - 1) / timings.decode_s
             : 0;
}

Engine::Engine(Model& model) : scheduler_(std::make_unique<Scheduler>(model.parts())) {}
Engine::~Engine() = default;

Result<RequestId> Engine::Submit(Request request, EventHandler on_event, FinishHandler on_finish) {
  return scheduler_->Submit(std::move(request), std::move(on_event), std::move(on_finish));
}

void Engine::Cancel(RequestId request) { scheduler_->Cancel(request); }
EngineStats Engine::Stats() const { return scheduler_->Stats(); }
bool Engine::idle() const { return scheduler_->idle(); }
void Engine::Step() { scheduler_->Step(); }
void Engine::Record(Profile* profile) { scheduler_->Record(profile); }

Result<Completion> Engine::Run(Request request, const EventHandler& on_event) {
  std::optional<Result<Completion>> finished;
  MOXIE_TRY_ASSIGN(const RequestId id,
                   Submit(std::move(request), on_event, [&](RequestId, Result<Completion> result) {
                     finished.emplace(std::move(result));
                   }));
  static_cast<void>(id);
  while (!finished) Step();
  return std::move(*finished);
}

}  // namespace moxie
