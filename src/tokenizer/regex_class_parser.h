#pragma once

#include <string>
#include <string_view>

#include "tokenizer/regex.h"

namespace moxie {

/// Reads single characters, escapes and bracket expressions of a regular expression at a place that
/// moves along.
class RegexClassParser {
 protected:
  RegexClassParser(std::string_view pattern, Regex::Escapes escapes)
      : pattern_(pattern), portable_(escapes == Regex::Escapes::kPortable) {}

  Error Fail(ErrorCode code, std::string what) const {
    return Error{code, "regular expression: " + std::move(what) + " at byte " +
                           std::to_string(at_) + " of \"" + std::string(pattern_.substr(0, 200)) +
                           "\""};
  }
  Error Malformed(std::string what) const {
    return Fail(ErrorCode::kInvalidInput, std::move(what));
  }
  Error Unsupported(std::string what) const {
    return Fail(ErrorCode::kUnsupported, std::move(what) + " is not supported");
  }

  bool AtEnd() const { return at_ >= pattern_.size(); }
  char Peek() const { return AtEnd() ? '\0' : pattern_[at_]; }
  bool Take(std::string_view text) {
    if (pattern_.substr(at_, text.size()) != text) return false;
    at_ += text.size();
    return true;
  }
  Result<char32_t> Character();

  /// \d or, as `upper`, \D, and their like. `inverted`: within [^...].
  CharacterClass::Item ClassEscape(bool (*unicode)(char32_t), bool (*ascii)(char32_t), bool upper,
                                   bool inverted) const;
  /// What follows a backslash.
  Result<CharacterClass::Item> Escape(bool inverted);
  Result<CharacterClass::Item> Hexadecimal(int digits);
  Result<CharacterClass::Item> Property(bool negated);
  /// A bracket expression after its [.
  Result<CharacterClass> Bracket();
  Result<CharacterClass::Item> BracketItem(bool inverted);

  std::string_view pattern_;
  bool portable_;
  size_t at_ = 0;
};

}  // namespace moxie
