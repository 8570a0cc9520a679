#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moxie::jinja {

struct Token {
  enum class Kind : uint8_t {
    kData,           ///< text outside tags, whitespace control already applied
    kVariableBegin,  ///< {{
    kVariableEnd,
    kBlockBegin,  ///< {%
    kBlockEnd,
    kName,
    kString,  ///< text holds the unescaped characters
    kInteger,
    kFloat,
    kOperator,  ///< text holds it: "+", "==", "//"
    kEnd,
  };
  Kind kind = Kind::kEnd;
  int line = 1;
  std::string text;

  bool IsName(std::string_view name) const { return kind == Kind::kName && text == name; }
  bool IsOperator(std::string_view op) const { return kind == Kind::kOperator && text == op; }
};

/// Splits a template into tokens, with trim_blocks and lstrip_blocks on; the last is kEnd.
/// Throws Failure with its line.
std::vector<Token> Tokenize(std::string_view source);

}  // namespace moxie::jinja
