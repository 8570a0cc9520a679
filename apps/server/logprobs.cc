#include "server/logprobs.h"

#include <algorithm>
#include <cstdio>

namespace moxie::server {
namespace {

bool IsUtf8(const std::string& text) {
  try {
    // The library's own check, which dumping strictly makes.
    static_cast<void>(Json(text).dump());
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

size_t Characters(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace

std::string TokenText(const Tokenizer& tokenizer, TokenId id) {
  if (tokenizer.IsSpecial(id)) return tokenizer.Piece(id);
  std::string bytes = tokenizer.Bytes(id);
  if (IsUtf8(bytes)) return bytes;
  std::string text = "bytes:";
  for (const char c : bytes) {
    char escaped[5];
    std::snprintf(escaped, sizeof(escaped), "\\x%02x", static_cast<unsigned char>(c));
    text += escaped;
  }
  return text;
}

double Bounded(float logprob) { return std::max(static_cast<double>(logprob), -9999.0); }

void TextLogprobs::Add(TokenId id, std::span<const TokenLogprob> logprobs) {
  const std::string text = TokenText(tokenizer_, id);
  tokens_.push_back(text);
  offsets_.push_back(offset_);
  offset_ += Characters(text);
  if (logprobs.empty()) {
    values_.push_back(nullptr);
    tops_.push_back(nullptr);
    return;
  }
  values_.push_back(Bounded(logprobs[0].logprob));
  OrderedJson top = OrderedJson::object();
  // Best first: of two tokens with one text the likelier stays.
  for (const TokenLogprob& entry : logprobs.subspan(1))
    top.emplace(TokenText(tokenizer_, entry.id), Bounded(entry.logprob));
  top.emplace(text, Bounded(logprobs[0].logprob));
  tops_.push_back(std::move(top));
}

OrderedJson TextLogprobs::TakeJson() {
  const auto take = [](OrderedJson& list) { return std::exchange(list, OrderedJson::array()); };
  return {{"tokens", take(tokens_)},
          {"token_logprobs", take(values_)},
          {"top_logprobs", take(tops_)},
          {"text_offset", take(offsets_)}};
}

OrderedJson ChatLogprob(const Tokenizer& tokenizer, TokenId id,
                        std::span<const TokenLogprob> logprobs) {
  const auto entry = [&](TokenId token, float logprob) {
    const std::string bytes =
        tokenizer.IsSpecial(token) ? tokenizer.Piece(token) : tokenizer.Bytes(token);
    OrderedJson numbers = OrderedJson::array();
    for (const char c : bytes) numbers.push_back(static_cast<unsigned char>(c));
    return OrderedJson{{"token", TokenText(tokenizer, token)},
                       {"logprob", Bounded(logprob)},
                       {"bytes", std::move(numbers)}};
  };
  OrderedJson json = entry(id, logprobs[0].logprob);
  OrderedJson tops = OrderedJson::array();
  for (const TokenLogprob& top : logprobs.subspan(1)) tops.push_back(entry(top.id, top.logprob));
  json["top_logprobs"] = std::move(tops);
  return json;
}

}  // namespace moxie::server
