#include "tokenizer/jinja_text.h"

#include <algorithm>
#include <array>

#include "tokenizer/jinja_case_tables.h"

namespace moxie::jinja {
namespace {

bool InRanges(char32_t c, std::span<const CodeRange> ranges) {
  const auto it = std::upper_bound(ranges.begin(), ranges.end(), c,
                                   [](char32_t x, const CodeRange& r) { return x < r.first; });
  return it != ranges.begin() && c <= std::prev(it)->last;
}

bool IsCased(char32_t c) {
  return InRanges(c, kLowerCaseRanges) || InRanges(c, kUpperCaseRanges) ||
         InRanges(c, kTitleCaseRanges);
}

void AppendMapped(char32_t c, const CaseTable& table, std::u32string* out) {
  const auto run = std::upper_bound(table.runs.begin(), table.runs.end(), c,
                                    [](char32_t x, const CaseRun& r) { return x < r.first; });
  if (run != table.runs.begin()) {
    const CaseRun& found = *std::prev(run);
    if (c <= found.last && (c - found.first) % found.stride == 0) {
      out->push_back(static_cast<char32_t>(static_cast<int64_t>(c) + found.delta));
      return;
    }
  }
  const auto expansion =
      std::lower_bound(table.expansions.begin(), table.expansions.end(), c,
                       [](const CaseExpansion& e, char32_t x) { return e.from < x; });
  if (expansion != table.expansions.end() && expansion->from == c) {
    for (const char32_t to : expansion->to) {
      if (to != 0) out->push_back(to);
    }
    return;
  }
  out->push_back(c);
}

// A capital sigma ends a word, and is then written ς, when a cased letter stands before it and none
// after it, looking through characters that do not count (Unicode, SpecialCasing: Final_Sigma).
bool IsFinalSigma(std::u32string_view text, size_t at) {
  size_t before = at;
  while (before > 0 && InRanges(text[before - 1], kCaseIgnorableRanges)) --before;
  if (before == 0 || !IsCased(text[before - 1])) return false;
  size_t after = at + 1;
  while (after < text.size() && InRanges(text[after], kCaseIgnorableRanges)) ++after;
  return after == text.size() || !IsCased(text[after]);
}

void AppendLower(std::u32string_view text, size_t at, std::u32string* out) {
  constexpr char32_t kCapitalSigma = 0x3a3;
  if (text[at] == kCapitalSigma) {
    out->push_back(IsFinalSigma(text, at) ? 0x3c2 : 0x3c3);
  } else {
    AppendMapped(text[at], kLowerTable, out);
  }
}

std::string MapAscii(std::string_view text, char first, char last) {
  std::string out(text);
  for (char& c : out) {
    if (c >= first && c <= last) c = static_cast<char>(c ^ 0x20);
  }
  return out;
}

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<signed char>(c) >= 0; });
}

// The code point at `at` and its length.
std::pair<char32_t, size_t> DecodeOne(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[at + i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xe0) return {(lead & 0x1f) << 6 | (byte(1) & 0x3f), 2};
  if (lead < 0xf0) return {(lead & 0xf) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f), 3};
  return {(lead & 7) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f), 4};
}

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

template <class Drop>
std::string StripWhere(std::string_view text, bool left, bool right, Drop drop) {
  size_t begin = 0;
  while (left && begin < text.size()) {
    const auto [c, length] = DecodeOne(text, begin);
    if (!drop(c)) break;
    begin += length;
  }
  size_t end = text.size();
  while (right && end > begin) {
    size_t last = end - 1;
    while (IsContinuation(text[last])) --last;
    if (!drop(DecodeOne(text, last).first)) break;
    end = last;
  }
  return std::string(text.substr(begin, end - begin));
}

}  // namespace

void AppendCodePoint(char32_t c, std::string* out) {
  const auto tail = [&](int shift) {
    out->push_back(static_cast<char>(0x80 | ((c >> shift) & 0x3f)));
  };
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xc0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xe0 | c >> 12));
    tail(6);
    tail(0);
  } else {
    out->push_back(static_cast<char>(0xf0 | c >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::u32string Decode(std::string_view utf8) {
  std::u32string out;
  out.reserve(utf8.size());
  for (size_t i = 0; i < utf8.size();) {
    const auto [c, length] = DecodeOne(utf8, i);
    out.push_back(c);
    i += length;
  }
  return out;
}

std::string Encode(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) AppendCodePoint(c, &out);
  return out;
}

bool IsValidUtf8(std::string_view text) {
  constexpr std::array<char32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80   ? 1
                          : lead < 0xc0 ? 0
                          : lead < 0xe0 ? 2
                          : lead < 0xf0 ? 3
                          : lead < 0xf8 ? 4
                                        : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t k = 1; k < length; ++k) {
      if (!IsContinuation(text[i + k])) return false;
    }
    const char32_t c = DecodeOne(text, i).first;
    if (c < kLeast[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
    i += length;
  }
  return true;
}

int64_t Length(const Text& text) {
  if (text.ascii) return static_cast<int64_t>(text.bytes.size());
  return std::count_if(text.bytes.begin(), text.bytes.end(),
                       [](char c) { return !IsContinuation(c); });
}

bool IsClass(char32_t c, CharClass which) {
  switch (which) {
    case CharClass::kAlpha:
      return InRanges(c, kAlphaRanges);
    case CharClass::kDecimal:
      return InRanges(c, kDecimalRanges);
    case CharClass::kDigit:
      return InRanges(c, kDigitRanges);
    case CharClass::kNumeric:
      return InRanges(c, kNumericRanges);
    case CharClass::kPrintable:
      return !InRanges(c, kUnprintableRanges);
    case CharClass::kLower:
      return InRanges(c, kLowerCaseRanges);
    case CharClass::kUpper:
      return InRanges(c, kUpperCaseRanges);
    case CharClass::kTitle:
      return InRanges(c, kTitleCaseRanges);
    case CharClass::kSpace:
      return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
             c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
             c == 0x202f || c == 0x205f || c == 0x3000;
  }
  return false;
}

std::string Strip(std::string_view text, bool left, bool right) {
  return StripWhere(text, left, right, IsSpace);
}

std::string Strip(std::string_view text, std::string_view chars, bool left, bool right) {
  const std::u32string set = Decode(chars);
  return StripWhere(text, left, right,
                    [&](char32_t c) { return set.find(c) != std::u32string::npos; });
}

std::string Upper(std::string_view text) {
  if (IsAscii(text)) return MapAscii(text, 'a', 'z');
  std::u32string out;
  for (const char32_t c : Decode(text)) AppendMapped(c, kUpperTable, &out);
  return Encode(out);
}

std::string Lower(std::string_view text) {
  if (IsAscii(text)) return MapAscii(text, 'A', 'Z');
  const std::u32string in = Decode(text);
  std::u32string out;
  for (size_t i = 0; i < in.size(); ++i) AppendLower(in, i, &out);
  return Encode(out);
}

std::string Capitalize(std::string_view text) {
  const std::u32string in = Decode(text);
  std::u32string out;
  for (size_t i = 0; i < in.size(); ++i) {
    if (i == 0) {
      AppendMapped(in[i], kTitleTable, &out);
    } else {
      AppendLower(in, i, &out);
    }
  }
  return Encode(out);
}

std::string Title(std::string_view text) {
  const std::u32string in = Decode(text);
  std::u32string out;
  bool inside = false;
  for (size_t i = 0; i < in.size(); ++i) {
    if (inside) {
      AppendLower(in, i, &out);
    } else {
      AppendMapped(in[i], kTitleTable, &out);
    }
    inside = IsCased(in[i]);
  }
  return Encode(out);
}

std::string FoldCase(std::string_view text) {
  std::u32string out;
  for (const char32_t c : Decode(text)) AppendMapped(c, kFoldTable, &out);
  return Encode(out);
}

std::string SwapCase(std::string_view text) {
  const std::u32string in = Decode(text);
  std::u32string out;
  for (size_t i = 0; i < in.size(); ++i) {
    if (InRanges(in[i], kUpperCaseRanges)) {
      AppendLower(in, i, &out);
    } else if (InRanges(in[i], kLowerCaseRanges)) {
      AppendMapped(in[i], kUpperTable, &out);
    } else {
      out.push_back(in[i]);
    }
  }
  return Encode(out);
}

std::vector<std::string> SplitLines(std::string_view text, bool keep_ends) {
  const auto is_end = [](char32_t c) {
    return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
  };
  std::vector<std::string> lines;
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    const auto [c, length] = DecodeOne(text, i);
    size_t end = i + length;
    if (is_end(c)) {
      if (c == '\r' && end < text.size() && text[end] == '\n') ++end;
      lines.emplace_back(text.substr(start, (keep_ends ? end : i) - start));
      start = end;
    }
    i = end;
  }
  if (start < text.size()) lines.emplace_back(text.substr(start));
  return lines;
}

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to,
                       int64_t count) {
  std::string out;
  size_t at = 0;
  while (count != 0) {
    // An empty pattern matches before every code point and at the end.
    const size_t found = text.find(from, at);
    if (found == std::string_view::npos) break;
    out.append(text.substr(at, found - at)).append(to);
    at = found + from.size();
    if (count > 0) --count;
    if (!from.empty()) continue;
    if (at >= text.size()) return out;
    const size_t length = DecodeOne(text, at).second;
    out.append(text.substr(at, length));
    at += length;
  }
  return out.append(text.substr(at));
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace moxie::jinja
