#include "tokenizer/normalizer.h"

#include <algorithm>
#include <cstring>

namespace moxie {

namespace {

constexpr std::string_view kEscapedSpace = "\xE2\x96\x81";

/// Maps each character by `map(code_point, out)`.
template <class Map>
std::string MapCharacters(std::string_view text, Map map) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter c = DecodeUtf8(text, at);
    map(c.code_point, &out);
    at += c.length;
  }
  return out;
}

std::string Lowercase(std::string_view text) {
  return MapCharacters(text, [](char32_t c, std::string* out) {
    if (c == 0x130) {
      out->append("i\xCC\x87");  // The one character whose lower case is two.
    } else {
      AppendUtf8(ToLower(c), out);
    }
  });
}

std::string StripAccents(std::string_view text) {
  return MapCharacters(text, [](char32_t c, std::string* out) {
    if (!IsIn(kMarks, c)) AppendUtf8(c, out);
  });
}

// The control characters and spaces of SentencePiece's "nmt" rules.
std::string Nmt(std::string_view text) {
  return MapCharacters(text, [](char32_t c, std::string* out) {
    const bool removed = (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F ||
                         c == 0x8F || c == 0x9F;
    const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == 0xFFFD;
    if (!removed) AppendUtf8(space ? ' ' : c, out);
  });
}

std::string StripSpaces(std::string_view text, bool left, bool right) {
  size_t begin = 0;
  size_t end = 0;
  bool begun = !left;
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter c = DecodeUtf8(text, at);
    const bool space = IsWhitespace(c.code_point);
    if (!space && !begun) {
      begin = at;
      begun = true;
    }
    at += c.length;
    if (!space || !right) end = at;
  }
  return begun && begin < end ? std::string(text.substr(begin, end - begin)) : std::string();
}

// tokenizer.json's reference looks up whole grapheme clusters of up to five bytes, then characters,
// and takes the shortest rule.
std::string Precompiled(std::string_view text, const CharsMap& chars_map) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const std::string_view cluster = text.substr(at, GraphemeLength(text.substr(at)));
    at += cluster.size();
    if (cluster.size() < 6) {
      const CharsMap::Match match = chars_map.Shortest(cluster);
      if (match.length != 0) {
        out.append(match.replacement);
        continue;
      }
    }
    for (size_t i = 0; i < cluster.size(); i += CharacterLength(cluster[i])) {
      const std::string_view character = cluster.substr(i, CharacterLength(cluster[i]));
      const CharsMap::Match match = chars_map.Shortest(character);
      out.append(match.length != 0 ? match.replacement : character);
    }
  }
  return out;
}

}  // namespace

Result<CharsMap> CharsMap::Parse(std::string_view blob) {
  uint32_t trie_bytes = 0;
  if (blob.size() > sizeof trie_bytes) std::memcpy(&trie_bytes, blob.data(), sizeof trie_bytes);
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes >= blob.size() - sizeof trie_bytes) {
    return Error{ErrorCode::kInvalidInput,
                 "precompiled_charsmap: its trie's size must be a multiple of 4 below the map's"};
  }
  CharsMap map;
  map.units_.resize(trie_bytes / 4);
  std::memcpy(map.units_.data(), blob.data() + sizeof trie_bytes, trie_bytes);
  map.replacements_ = blob.substr(sizeof trie_bytes + trie_bytes);
  return map;
}

// The units are those of Darts-clone: https://github.com/s-yata/darts-clone.
CharsMap::Match CharsMap::Search(std::string_view text, bool longest) const {
  const auto offset = [](uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); };
  Match match;
  size_t node = offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (byte == 0 || node >= units_.size()) break;
    const uint32_t unit = units_[node];
    if ((unit & ((1u << 31) | 0xFF)) != byte) break;
    node ^= offset(unit);
    if (((unit >> 8) & 1) == 0) continue;
    if (node >= units_.size()) break;
    const size_t start = units_[node] & 0x7FFFFFFFu;
    if (start >= replacements_.size()) break;
    const size_t end = std::min(replacements_.find('\0', start), replacements_.size());
    match = {i + 1, std::string_view(replacements_).substr(start, end - start)};
    if (!longest) break;
  }
  return match;
}

std::string SentencePieceNormalizer::Apply(std::string_view text) const {
  const auto next = [&](std::string_view rest) -> CharsMap::Match {
    const size_t fixed = user_defined.Longest(rest, 0).length;
    if (fixed != 0) return {fixed, rest.substr(0, fixed)};
    if (chars_map != nullptr) {
      const CharsMap::Match match = chars_map->Longest(rest);
      if (match.length != 0) return match;
    }
    const DecodedCharacter c = DecodeUtf8(rest, 0);
    if (!c.valid) return {1, kReplacementUtf8};
    return {c.length, rest.substr(0, c.length)};
  };
  const std::string_view space = escape_whitespaces ? kEscapedSpace : std::string_view(" ");

  while (remove_extra_whitespaces && !text.empty()) {
    const CharsMap::Match match = next(text);
    if (match.replacement != " ") break;
    text.remove_prefix(match.length);
  }
  std::string out;
  if (text.empty()) return out;
  out.reserve(text.size() + text.size() / 2);
  if (add_dummy_prefix && !treat_whitespace_as_suffix) out.append(space);
  bool after_space = remove_extra_whitespaces;
  while (!text.empty()) {
    const CharsMap::Match match = next(text);
    std::string_view piece = match.replacement;
    while (after_space && !piece.empty() && piece.front() == ' ') piece.remove_prefix(1);
    for (const char c : piece) {
      if (c == ' ') {
        out.append(space);
      } else {
        out.push_back(c);
      }
    }
    if (!piece.empty()) after_space = remove_extra_whitespaces && piece.back() == ' ';
    text.remove_prefix(match.length);
  }
  while (remove_extra_whitespaces && out.ends_with(space)) out.resize(out.size() - space.size());
  if (add_dummy_prefix && treat_whitespace_as_suffix) out.append(space);
  return out;
}

std::string ReplaceAll(std::string_view text, std::string_view pattern, std::string_view by) {
  std::string out;
  size_t at = 0;
  while (!pattern.empty()) {
    const size_t found = text.find(pattern, at);
    if (found == std::string_view::npos) break;
    out.append(text.substr(at, found - at)).append(by);
    at = found + pattern.size();
  }
  return out.append(text.substr(at));
}

std::string ReplaceAll(std::string_view text, const Regex& pattern, std::string_view by) {
  std::string out;
  size_t at = 0;
  pattern.ForEachMatch(text, [&](size_t begin, size_t end) {
    out.append(text.substr(at, begin - at)).append(by);
    at = end;
  });
  return out.append(text.substr(at));
}

std::string NormalizerStep::Apply(std::string_view input) const {
  switch (kind) {
    case Kind::kNfc:
      return Normalize(input, NormalForm::kNfc);
    case Kind::kNfd:
      return Normalize(input, NormalForm::kNfd);
    case Kind::kNfkc:
      return Normalize(input, NormalForm::kNfkc);
    case Kind::kNfkd:
      return Normalize(input, NormalForm::kNfkd);
    case Kind::kLowercase:
      return Lowercase(input);
    case Kind::kStripAccents:
      return StripAccents(input);
    case Kind::kStrip:
      return StripSpaces(input, strip_left, strip_right);
    case Kind::kPrepend:
      return input.empty() ? std::string() : text + std::string(input);
    case Kind::kReplace:
      return regex != nullptr ? ReplaceAll(input, *regex, text) : ReplaceAll(input, pattern, text);
    case Kind::kPrecompiled:
      return Precompiled(input, *chars_map);
    case Kind::kNmt:
      return Nmt(input);
    case Kind::kByteLevel:
      return BytesToCharacters(input);
    case Kind::kSentencePiece:
      return sentence_piece->Apply(input);
  }
  return std::string(input);
}

std::string Apply(const Normalizer& normalizer, std::string_view text) {
  std::string out(text);
  for (const NormalizerStep& step : normalizer) out = step.Apply(out);
  return out;
}

}  // namespace moxie
