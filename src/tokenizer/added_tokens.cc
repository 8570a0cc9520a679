#include "tokenizer/added_tokens.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace moxie {

namespace {

size_t PreviousStart(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

// Joiners count as word characters here, unlike in Oniguruma's \w: this is Rust's.
bool IsWordCharacter(char32_t c) { return IsWord(c) || c == 0x200C || c == 0x200D; }

bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  const bool word_before =
      begin > 0 && IsWordCharacter(DecodeUtf8(text, PreviousStart(text, begin)).code_point);
  const bool word_after = end < text.size() && IsWordCharacter(DecodeUtf8(text, end).code_point);
  return !word_before && !word_after;
}

size_t SpacesBefore(std::string_view text, size_t at, size_t floor) {
  while (at > floor) {
    const size_t previous = PreviousStart(text, at);
    if (!IsWhitespace(DecodeUtf8(text, previous).code_point)) break;
    at = previous;
  }
  return std::max(at, floor);
}

size_t SpacesAfter(std::string_view text, size_t at) {
  while (at < text.size()) {
    const DecodedCharacter c = DecodeUtf8(text, at);
    if (!IsWhitespace(c.code_point)) break;
    at += c.length;
  }
  return at;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens,
                                     const std::vector<std::string>& patterns)
    : tokens_(std::move(tokens)) {
  std::vector<std::pair<std::string_view, TokenId>> pieces;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    pieces.emplace_back(patterns[i], static_cast<TokenId>(i));
  }
  trie_ = PieceTrie(std::move(pieces));
}

std::vector<AddedTokenMatcher::Segment> AddedTokenMatcher::Cut(std::string_view text,
                                                               bool parse_special) const {
  std::vector<Segment> segments;
  size_t covered = 0;
  for (size_t at = trie_.empty() ? text.size() : 0; at < text.size();) {
    const PieceTrie::Match match = trie_.Longest(text, at);
    if (match.length == 0) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + match.length;
    at = end;  // A refused match uses its text up as well.
    const AddedToken& token = tokens_[static_cast<size_t>(match.id)];
    if (token.special && !parse_special) continue;
    if (token.single_word && !StandsAlone(text, begin, end)) continue;
    if (token.lstrip) begin = SpacesBefore(text, begin, std::min(begin, covered));
    if (token.rstrip) end = SpacesAfter(text, end);
    if (covered < begin) segments.push_back({text.substr(covered, begin - covered), covered});
    segments.push_back({text.substr(begin, end - begin), begin, &token});
    covered = end;
  }
  if (covered < text.size()) segments.push_back({text.substr(covered), covered});
  return segments;
}

}  // namespace moxie
