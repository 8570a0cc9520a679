#pragma once

#include <string>
#include <vector>

#include "server/generation.h"
#include "server/model_call.h"

namespace moxie::server {

/// How an answer in OpenAI's form is wanted.
struct AnswerForm {
  std::string model;
  bool stream = false;
  bool usage_chunk = false;
  bool logprobs = false;
  int64_t n = 1;  ///< choices of each prompt
};

/// Reads stream, stream_options and n.
AnswerForm ReadAnswerForm(Fields& fields, const std::string& model, const RequestLimits& limits);

/// What OpenAI's completions and chats have in common: one object with all choices, or a stream of
/// chunks with a piece of one choice each.
class OpenAiAnswer : public Answer {
 public:
  /// The answer's "object", whole and in pieces, and what its id begins with.
  struct Names {
    const char* object;
    const char* chunk_object;
    const char* id;
  };

  OpenAiAnswer(ExchangePtr to, AnswerForm form, const Names& names, size_t choices);
  void OnEnd() override;

 protected:
  const AnswerForm& form() const { return form_; }
  size_t choices() const { return finished_.size(); }
  Usage& usage() { return usage_; }
  void StartStream() { StartEventStream(exchange()); }
  /// Writes a piece of one choice; `extra` is what else the chunk has, or null.
  void WriteChunk(OrderedJson choice, const OrderedJson& extra = nullptr);
  /// Keeps a whole choice until all are there.
  void Keep(size_t choice, OrderedJson json) { finished_[choice] = std::move(json); }
  /// Chooses among the kept ones before they are sent.
  virtual std::vector<OrderedJson> TakeKept() { return std::move(finished_); }

 private:
  OrderedJson Head(const char* object) const;

  AnswerForm form_;
  Names names_;
  std::string id_;
  int64_t created_;
  std::vector<OrderedJson> finished_;
  Usage usage_;
};

}  // namespace moxie::server
