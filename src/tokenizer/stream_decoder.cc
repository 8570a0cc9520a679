#include "moxie/tokenizer.h"
#include "tokenizer/unicode.h"

namespace moxie {

namespace {

/// Whether the ill-formed bytes at `at`, which reach the text's end, can still become a character.
bool IsUnfinished(std::string_view text, size_t at, uint32_t length) {
  const auto first = static_cast<unsigned char>(text[at]);
  return first >= 0xC2 && first <= 0xF4 && at + length == text.size() &&
         length < CharacterLength(text[at]);
}

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {}

std::string StreamDecoder::Add(TokenId id) {
  if (skip_special_ && tokenizer_.IsSpecial(id)) return {};
  const std::string bytes = first_ ? tokenizer_.FirstBytes(id) : tokenizer_.Bytes(id);
  if (first_ && !tokenizer_.Bytes(id).empty()) first_ = false;
  pending_ += bytes;
  std::string text;
  size_t at = 0;
  while (at < pending_.size()) {
    const DecodedCharacter c = DecodeUtf8(pending_, at);
    if (!c.valid && IsUnfinished(pending_, at, c.length)) break;
    text.append(c.valid ? std::string_view(pending_).substr(at, c.length) : kReplacementUtf8);
    at += c.length;
  }
  pending_.erase(0, at);
  return text;
}

std::string StreamDecoder::Finish() {
  std::string text = ReplaceInvalidUtf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace moxie
