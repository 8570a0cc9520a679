#pragma once

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_runtime.h"

/// Python's operators.
namespace moxie::jinja {

Value Apply(Runtime& runtime, BinaryOperator op, const Value& a, const Value& b);
Value Apply(UnaryOperator op, const Value& a);
bool Apply(Runtime& runtime, Comparator op, const Value& a, const Value& b);

/// `format % value`, printf's manner (Python library reference, "printf-style String Formatting").
std::string FormatPercent(Runtime& runtime, const std::string& format, const Value& value);
/// `format.format(arguments)` (Python library reference, "Format String Syntax").
std::string FormatBraces(Runtime& runtime, const std::string& format, const Arguments& arguments);
/// JSON as Python's json.dumps writes it. `separators` are the text between items and after keys.
struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
std::string DumpJson(Runtime& runtime, const Value& value, const JsonStyle& style);
/// Throws Failure for text that is no JSON object, or nests too deep.
DictPtr ParseJsonObject(std::string_view text);

}  // namespace moxie::jinja
