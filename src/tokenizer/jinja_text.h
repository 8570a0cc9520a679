#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_value.h"

/// Python's str, as UTF-8: code points, character classes, and how values are written. Every text
/// here is valid UTF-8.
namespace moxie::jinja {

std::u32string Decode(std::string_view utf8);
std::string Encode(std::u32string_view text);
void AppendCodePoint(char32_t c, std::string* out);
bool IsValidUtf8(std::string_view text);
/// The number of code points.
int64_t Length(const Text& text);

enum class CharClass : uint8_t {
  kAlpha,
  kDecimal,
  kDigit,
  kNumeric,
  kPrintable,
  kSpace,
  kLower,
  kUpper,
  kTitle
};
/// Whether str.isalpha and its like hold for one character.
bool IsClass(char32_t c, CharClass which);
inline bool IsSpace(char32_t c) { return IsClass(c, CharClass::kSpace); }

/// Removes white space at the ends chosen.
std::string Strip(std::string_view text, bool left, bool right);
/// Removes any of the code points in `chars` at the ends chosen.
std::string Strip(std::string_view text, std::string_view chars, bool left, bool right);

std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
std::string Capitalize(std::string_view text);
std::string Title(std::string_view text);
std::string SwapCase(std::string_view text);
std::string FoldCase(std::string_view text);

std::vector<std::string> SplitLines(std::string_view text, bool keep_ends);
/// str.replace; `count` < 0: all.
std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to,
                       int64_t count);
/// markupsafe.escape of plain text.
std::string EscapeHtml(std::string_view text);

/// repr of a float.
std::string FloatRepr(double value);
/// str(value) and repr(value).
std::string Str(const Value& value);
std::string Repr(const Value& value);

}  // namespace moxie::jinja
