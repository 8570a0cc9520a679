#pragma once

#include <memory>
#include <vector>

#include "server/json.h"
#include "server/server.h"

namespace moxie::server {

/// Writes what a model generates in one protocol's form. Called in the server's thread: OnToken any
/// number of times and OnChoice once for each choice, choices mixed as they come; then OnEnd once.
class Answer {
 public:
  explicit Answer(ExchangePtr to) : exchange_(std::move(to)) {}
  virtual ~Answer() = default;
  virtual void OnToken(size_t choice, const Token& token) = 0;
  virtual void OnChoice(size_t choice, Completion completion) = 0;
  virtual void OnEnd() = 0;
  /// Instead of what is still missing. In OpenAI's form, as an event where a stream has begun.
  virtual void OnError(const ApiError& error);
  /// Instead of OnError, where there is no memory for that.
  void Abort() { exchange_->Abort(); }

 protected:
  Exchange& exchange() const { return *exchange_; }

 private:
  ExchangePtr exchange_;
};

/// Runs the requests, one a choice, and has `answer` write what comes. The client's leaving cancels
/// all of them. Refuses (through `answer`) where too much is unfinished already.
void Generate(Server& server, const ExchangePtr& exchange, const std::shared_ptr<ModelHost>& host,
              std::vector<Request> requests, std::unique_ptr<Answer> answer);

/// The request of what all protocols' bodies may have: whose it is (the key and the field user, or
/// the connection), priority, and the sampling fields: temperature, top_p, seed, stop, logit_bias,
/// ... of OpenAI's, and top_k, min_p, typical_p, repeat_penalty, repeat_last_n, ignore_eos.
/// Neither prompt nor max_tokens nor logprobs are among them.
Request ReadRequest(Fields& fields, const Call& call, const RequestLimits& limits);

/// One for each choice of one prompt: their seeds follow each other, so that choices differ.
std::vector<Request> Repeat(const Request& request, int64_t choices);

/// A server-sent event. `event` may be empty.
std::string ServerSentEvent(const OrderedJson& data, const std::string& event = "");
void StartEventStream(Exchange& exchange);

/// "usage" as OpenAI's completions and chats have it.
struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t completion_tokens = 0;

  /// Choices of one prompt share its tokens: `first` says whether this is the prompt's first.
  void Add(const Completion& completion, bool first);
  OrderedJson ToJson() const;
};

}  // namespace moxie::server
