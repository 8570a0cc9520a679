#include "tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

namespace moxie {

namespace {

// Planes 0 and 1 in one look-up; beyond them runs are long and a search is cheap.
constexpr size_t kTableSize = 0x20000;

size_t RunOf(char32_t c) {
  const auto after =
      std::upper_bound(kCategoryRuns.begin(), kCategoryRuns.end(), static_cast<uint32_t>(c),
                       [](uint32_t value, uint32_t run) { return value < (run & 0xFFFFFFu); });
  return static_cast<size_t>(after - kCategoryRuns.begin()) - 1;
}

std::vector<Category> BuildTable() {
  std::vector<Category> table(kTableSize);
  for (size_t run = 0; run < kCategoryRunCount; ++run) {
    const size_t begin = kCategoryRuns[run] & 0xFFFFFFu;
    const size_t end =
        run + 1 < kCategoryRunCount ? kCategoryRuns[run + 1] & 0xFFFFFFu : kTableSize;
    const auto category = static_cast<Category>(kCategoryRuns[run] >> 24);
    for (size_t c = begin; c < std::min(end, kTableSize); ++c) table[c] = category;
  }
  return table;
}

bool IsContinuation(std::string_view text, size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
}

struct CodePointRange {
  char32_t first;
  char32_t last;
};

// What normalisation concerns and Unicode 9.0 did not have: Hugging Face's `tokenizers` normalises
// by that version, so to it these are ordinary characters.
constexpr CodePointRange kSinceUnicode9[] = {
    {0x7FD, 0x7FD},     {0x897, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0xECE, 0xECE},
    {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},
    {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x107BA},
    {0x10D24, 0x10D27}, {0x10D69, 0x10D6D}, {0x10EAB, 0x10EAC}, {0x10EFC, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x11380, 0x113E2}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930},
    {0x11935, 0x11935}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99},
    {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x16100, 0x1612F}, {0x16D63, 0x16D6A}, {0x16FF0, 0x16FF1}, {0x1E030, 0x1E08F},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
    {0x1E5EE, 0x1E5EF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

bool IsSinceUnicode9(utf8proc_int32_t c) {
  const auto code_point = static_cast<char32_t>(c);
  if (code_point < kSinceUnicode9[0].first) return false;
  const auto* range =
      std::lower_bound(std::begin(kSinceUnicode9), std::end(kSinceUnicode9), code_point,
                       [](const CodePointRange& r, char32_t value) { return r.last < value; });
  return range != std::end(kSinceUnicode9) && range->first <= code_point;
}

int CombiningClass(utf8proc_int32_t c) {
  if (c < 0x300 || IsSinceUnicode9(c)) return 0;
  return utf8proc_get_property(c)->combining_class;
}

std::vector<utf8proc_int32_t> Decompose(std::string_view text, bool compatible) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE |
                                                      (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter decoded = DecodeUtf8(text, at);
    at += decoded.length;
    const auto c = static_cast<utf8proc_int32_t>(decoded.code_point);
    utf8proc_int32_t parts[32];
    int boundary = 0;
    const auto count = IsSinceUnicode9(c) ? 0
                                          : utf8proc_decompose_char(c, parts, std::size(parts),
                                                                    options, &boundary);
    if (count < 1 || count > static_cast<utf8proc_ssize_t>(std::size(parts))) {
      characters.push_back(c);
    } else {
      characters.insert(characters.end(), parts, parts + count);
    }
  }
  return characters;
}

// Canonical order: each run of marks sorted by combining class. utf8proc's own loop is quadratic in
// a run's length.
void Reorder(std::vector<utf8proc_int32_t>* characters) {
  for (auto run = characters->begin(); run != characters->end();) {
    if (CombiningClass(*run) == 0) {
      ++run;
      continue;
    }
    const auto end = std::find_if(run, characters->end(),
                                  [](utf8proc_int32_t c) { return CombiningClass(c) == 0; });
    std::stable_sort(run, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return CombiningClass(a) < CombiningClass(b);
    });
    run = end;
  }
}

void Compose(std::vector<utf8proc_int32_t>* characters) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  auto out = characters->begin();
  for (auto at = characters->begin(); at != characters->end();) {
    const auto end = std::find_if(at, characters->end(), IsSinceUnicode9);
    if (end == at) {
      *out++ = *at++;
      continue;
    }
    const auto length = utf8proc_normalize_utf32(&*at, end - at, options);
    out = std::copy_n(at, length, out);
    at = end;
  }
  characters->erase(out, characters->end());
}

}  // namespace

Category CategoryOf(char32_t c) {
  static const std::vector<Category> kTable = BuildTable();
  if (c < kTableSize) return kTable[c];
  return static_cast<Category>(kCategoryRuns[RunOf(c)] >> 24);
}

bool IsWhitespace(char32_t c) {
  if (c <= 0x20) return c == 0x20 || (c >= 9 && c <= 13);
  return c == 0x85 || (c >= 0xA0 && IsIn(kSeparators, c));
}

bool IsWord(char32_t c) {
  constexpr CategorySet kWord =
      kLetters | kMarks | SetOf(Category::kNd) | SetOf(Category::kNl) | SetOf(Category::kPc);
  return IsIn(kWord, c) || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
         (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

char32_t ToLower(char32_t c) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

char32_t ToUpper(char32_t c) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}

DecodedCharacter DecodeUtf8(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return {first, 1, true};
  const DecodedCharacter invalid = {kReplacementCharacter, 1, false};
  if (first < 0xC2 || first > 0xF4) return invalid;
  const uint32_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and values over U+10FFFF.
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (at + 1 >= text.size() || byte(at + 1) < low || byte(at + 1) > high) return invalid;
  char32_t c = first & (0x7Fu >> length);
  for (uint32_t i = 1; i < length; ++i) {
    if (!IsContinuation(text, at + i)) return {kReplacementCharacter, i, false};
    c = (c << 6) | (byte(at + i) & 0x3Fu);
  }
  return {c, length, true};
}

void AppendUtf8(char32_t c, std::string* out) {
  const auto push = [&](char32_t b) { out->push_back(static_cast<char>(b)); };
  if (c < 0x80) {
    push(c);
  } else if (c < 0x800) {
    push(0xC0 | (c >> 6));
    push(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    push(0xE0 | (c >> 12));
    push(0x80 | ((c >> 6) & 0x3F));
    push(0x80 | (c & 0x3F));
  } else {
    push(0xF0 | (c >> 18));
    push(0x80 | ((c >> 12) & 0x3F));
    push(0x80 | ((c >> 6) & 0x3F));
    push(0x80 | (c & 0x3F));
  }
}

bool IsValidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter c = DecodeUtf8(text, at);
    if (!c.valid) return false;
    at += c.length;
  }
  return true;
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter c = DecodeUtf8(text, at);
    out.append(c.valid ? text.substr(at, c.length) : kReplacementUtf8);
    at += c.length;
  }
  return out;
}

std::string Normalize(std::string_view text, NormalForm form) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; })) {
    return std::string(text);
  }
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  std::vector<utf8proc_int32_t> characters = Decompose(text, compatible);
  Reorder(&characters);
  if (form == NormalForm::kNfc || form == NormalForm::kNfkc) Compose(&characters);
  std::string out;
  out.reserve(text.size());
  for (const utf8proc_int32_t c : characters) AppendUtf8(static_cast<char32_t>(c), &out);
  return out;
}

size_t GraphemeLength(std::string_view text) {
  if (text.empty()) return 0;
  DecodedCharacter previous = DecodeUtf8(text, 0);
  size_t at = previous.length;
  utf8proc_int32_t state = 0;
  while (at < text.size()) {
    const DecodedCharacter next = DecodeUtf8(text, at);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(previous.code_point),
                                         static_cast<utf8proc_int32_t>(next.code_point), &state)) {
      break;
    }
    at += next.length;
    previous = next;
  }
  return at;
}

}  // namespace moxie
