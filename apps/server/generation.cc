#include "server/generation.h"

#include <limits>
#include <new>
#include <random>

#include "server/patience.h"

namespace moxie::server {
namespace {

/// Why a request has no answer: for want of memory, that may pass.
ApiError WhyNot(const Error& error) {
  return error.code == ErrorCode::kOverBudget ? NoMemory() : FromError(error);
}

/// The requests of one call while they run. Lives as long as one of them does.
class Generation : public std::enable_shared_from_this<Generation> {
 public:
  Generation(Server& server, std::shared_ptr<ModelHost> host, std::unique_ptr<Answer> answer)
      : server_(server), host_(std::move(host)), answer_(std::move(answer)) {}

  void Start(Exchange& exchange, std::vector<Request> requests) {
    exchange.OnGone([self = weak_from_this()] {
      if (const auto generation = self.lock()) generation->Abandon();
    });
    left_ = requests.size();
    ids_.reserve(left_);
    last_token_.assign(left_, std::chrono::steady_clock::now());
    answering_.resize(left_);
    server_.unfinished += static_cast<int64_t>(left_);
    for (size_t choice = 0; choice < requests.size(); ++choice) {
      const Result<RequestId> id = Submit(choice, std::move(requests[choice]));
      if (id) {
        ids_.push_back(*id);
        continue;
      }
      // The rest will never run.
      const size_t rest = requests.size() - choice;
      left_ -= rest;
      server_.unfinished -= static_cast<int64_t>(rest);
      return Tell([&] { Fail(WhyNot(id.error())); });
    }
  }

 private:
  Result<RequestId> Submit(size_t choice, Request request) {
    try {
      return host_->Submit(
          std::move(request),
          [self = shared_from_this(), choice](const Token& token) { self->OnToken(choice, token); },
          [self = shared_from_this(), choice](Result<Completion> result) {
            self->OnFinish(choice, std::move(result));
          });
    } catch (const std::bad_alloc&) {
      return Error{ErrorCode::kOverBudget, {}};
    }
  }

  void OnToken(size_t choice, const Token& token) {
    if (token.id >= 0) {
      const auto now = std::chrono::steady_clock::now();
      const std::chrono::duration<double> since = now - std::exchange(last_token_[choice], now);
      Latencies& latencies = server_.latencies;
      (answering_[choice] ? latencies.between_tokens : latencies.first_token).Add(since.count());
      answering_[choice] = true;
    }
    Tell([&] { answer_->OnToken(choice, token); });
  }

  void OnFinish(size_t choice, Result<Completion> result) {
    --left_;
    --server_.unfinished;
    if (result) server_.latencies.queue.Add(result->timings.queue_s);
    Tell([&] {
      if (!result) return Fail(WhyNot(result.error()));
      answer_->OnChoice(choice, std::move(*result));
      if (left_ == 0) answer_->OnEnd();
    });
    if (left_ > 0) return;
    // The engine's thread may hold this object last, and must not be the one to end the host.
    answer_ = nullptr;
    host_ = nullptr;
  }

  /// Has the client told something; that there is no memory for it, where there is none.
  template <class Work>
  void Tell(Work work) {
    if (answer_ == nullptr) return;
    try {
      work();
    } catch (const std::bad_alloc&) {
      try {
        WithPatience([&] { Fail(NoMemory()); });
      } catch (const std::bad_alloc&) {
        if (answer_ != nullptr) answer_->Abort();
        Abandon();
      }
    }
  }

  void Fail(const ApiError& error) {
    if (answer_ != nullptr) answer_->OnError(error);
    Abandon();
  }

  void Abandon() {
    answer_ = nullptr;
    if (host_ == nullptr) return;
    WithPatience([&] {
      for (const RequestId id : ids_) host_->Cancel(id);
    });
  }

  Server& server_;
  std::shared_ptr<ModelHost> host_;
  std::unique_ptr<Answer> answer_;
  std::vector<RequestId> ids_;
  std::vector<std::chrono::steady_clock::time_point> last_token_;
  std::vector<bool> answering_;
  size_t left_ = 0;
};

uint64_t RandomSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

/// Whom a request is counted for: the key's holder, and the one whom this names; where nobody is
/// named, the connection.
std::string ReadUser(Fields& fields, const Call& call) {
  constexpr size_t kMostBytes = 256;
  const std::string user = fields.String("user");
  if (user.size() > kMostBytes)
    fields.Fail("user", " has more than " + std::to_string(kMostBytes) + " bytes");
  if (call.key.empty() && user.empty()) return call.http.client;
  return call.key + "/" + user;
}

void ReadLogitBias(Fields& fields, const RequestLimits& limits, SamplingOptions& sampling) {
  const Json* biases = fields.Object("logit_bias");
  if (biases == nullptr) return;
  if (static_cast<int64_t>(biases->size()) > limits.logit_biases)
    return fields.Fail("logit_bias",
                       " has more than " + std::to_string(limits.logit_biases) + " entries");
  for (const auto& [key, value] : biases->items()) {
    const bool digits =
        !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
    const double bias = value.is_number() ? value.get<double>() : 1000;
    if (!digits || bias < -100 || bias > 100)
      return fields.Fail("logit_bias", " must map token ids to numbers from -100 to 100");
    sampling.logit_bias.emplace_back(std::stoi(key), static_cast<float>(bias));
  }
}

}  // namespace

void Answer::OnError(const ApiError& error) { SendError(exchange(), error); }

void Generate(Server& server, const ExchangePtr& exchange, const std::shared_ptr<ModelHost>& host,
              std::vector<Request> requests, std::unique_ptr<Answer> answer) {
  const auto more = static_cast<int64_t>(requests.size());
  if (server.unfinished > 0 && server.unfinished + more > server.options().limits.unfinished)
    return answer->OnError(QueueFull(server.unfinished, "answers to finish"));
  std::make_shared<Generation>(server, host, std::move(answer))
      ->Start(*exchange, std::move(requests));
}

Request ReadRequest(Fields& fields, const Call& call, const RequestLimits& limits) {
  Request request;
  request.user = ReadUser(fields, call);
  constexpr int64_t kMostPriority = 1000;
  request.priority =
      static_cast<int32_t>(fields.Integer("priority", 0, -kMostPriority, kMostPriority));
  SamplingOptions& sampling = request.sampling;
  const auto number = [&](const char* name, double absent, double least, double most) {
    return static_cast<float>(fields.Number(name, absent, least, most));
  };
  sampling.temperature = number("temperature", 1, 0, 100);
  sampling.top_p = number("top_p", 1, 0, 1);
  sampling.min_p = number("min_p", 0, 0, 1);
  sampling.typical_p = number("typical_p", 1, 1e-6, 1);
  // -1 and 0 both mean all, in vLLM's and llama.cpp's way.
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  const int64_t top_k = fields.Integer("top_k", 0, -1, kMost);
  sampling.top_k = static_cast<int32_t>(std::max<int64_t>(top_k, 0));
  const char* penalty = fields.Has("repetition_penalty") ? "repetition_penalty" : "repeat_penalty";
  sampling.repeat_penalty = number(penalty, 1, 1e-3, 1e3);
  sampling.repeat_last_n = static_cast<int32_t>(fields.Integer("repeat_last_n", 64, -1, kMost));
  sampling.presence_penalty = number("presence_penalty", 0, -2, 2);
  sampling.frequency_penalty = number("frequency_penalty", 0, -2, 2);
  constexpr int64_t kMostSeed = std::numeric_limits<int64_t>::max();
  sampling.seed = fields.Has("seed")
                      ? static_cast<uint64_t>(fields.Integer("seed", 0, -kMostSeed, kMostSeed))
                      : RandomSeed();
  ReadLogitBias(fields, limits, sampling);
  const char* stop = fields.Has("stop_sequences") ? "stop_sequences" : "stop";
  request.stop = fields.Strings(stop, static_cast<size_t>(limits.stop_strings),
                                static_cast<size_t>(limits.stop_bytes));
  request.end_at_stop_tokens = !fields.Bool("ignore_eos", false);
  return request;
}

std::vector<Request> Repeat(const Request& request, int64_t choices) {
  std::vector<Request> all(static_cast<size_t>(choices), request);
  for (size_t i = 0; i < all.size(); ++i) all[i].sampling.seed += i;
  return all;
}

std::string ServerSentEvent(const OrderedJson& data, const std::string& event) {
  const std::string name = event.empty() ? "" : "event: " + event + "\n";
  return name + "data: " + ToText(data) + "\n\n";
}

void StartEventStream(Exchange& exchange) {
  exchange.StartStream({.content_type = "text/event-stream; charset=utf-8",
                        .headers = {{"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}}});
}

void Usage::Add(const Completion& completion, bool first) {
  if (first) {
    prompt_tokens += completion.prompt_tokens;
    cached_tokens += completion.reused_tokens;
  }
  completion_tokens += static_cast<int64_t>(completion.ids.size());
}

OrderedJson Usage::ToJson() const {
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", completion_tokens},
          {"total_tokens", prompt_tokens + completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", cached_tokens}}}};
}

}  // namespace moxie::server
