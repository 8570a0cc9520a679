#pragma once

#include <span>
#include <string>

#include "moxie/sampling.h"
#include "moxie/tokenizer.h"
#include "server/json.h"

namespace moxie::server {

/// A token's text in lists of log-probabilities: its bytes, and "bytes:\xe2\x80" where these are
/// not whole characters (as OpenAI's completions write them).
std::string TokenText(const Tokenizer& tokenizer, TokenId id);

/// A log-probability as JSON can write it: not less than -9999.
double Bounded(float logprob);

/// "logprobs" of text completions: tokens, token_logprobs, top_logprobs, text_offset. The chosen
/// token's value stands in top_logprobs too, as the very same number.
class TextLogprobs {
 public:
  explicit TextLogprobs(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// `logprobs` as Event has them; empty for the first token of a text, which has none.
  void Add(TokenId id, std::span<const TokenLogprob> logprobs);
  /// Everything since the last call.
  OrderedJson TakeJson();

 private:
  const Tokenizer& tokenizer_;
  size_t offset_ = 0;
  OrderedJson tokens_ = OrderedJson::array();
  OrderedJson values_ = OrderedJson::array();
  OrderedJson tops_ = OrderedJson::array();
  OrderedJson offsets_ = OrderedJson::array();
};

/// An entry of a chat's "logprobs.content".
OrderedJson ChatLogprob(const Tokenizer& tokenizer, TokenId id,
                        std::span<const TokenLogprob> logprobs);

}  // namespace moxie::server
