#include "tokenizer/jinja_filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_text.h"

namespace moxie::jinja {
namespace {

Value Trim(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "trim", {"chars"});
  const std::string text = runtime.Text(input);
  if (!p.Has(0) || p[0].IsNone()) return Value(Strip(text, true, true), input.IsMarkup());
  return Value(Strip(text, p.String(0, ""), true, true), input.IsMarkup());
}

template <std::string (*Map)(std::string_view)>
Value Mapped(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "a filter of text", {});
  return Value(Map(runtime.Text(input)), input.IsMarkup());
}

// Unlike str.title: words begin after white space and a few brackets only.
std::string TitleFilter(std::string_view text) {
  std::string out;
  std::u32string word;
  bool in_separator = false;
  const auto flush = [&] {
    if (word.empty()) return;
    out += Upper(Encode(word.substr(0, 1))) + Lower(Encode(word.substr(1)));
    word.clear();
  };
  for (const char32_t c : Decode(text)) {
    const bool separator =
        IsSpace(c) || std::u32string_view(U"-({[<").find(c) != std::u32string::npos;
    if (separator != in_separator) flush();
    in_separator = separator;
    word += c;
  }
  flush();
  return out;
}

Value StringFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "string", {});
  return input.IsString() ? input : Value(runtime.Text(input));
}

Value Safe(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "safe", {});
  return Value(runtime.Text(input), true);
}

Value Escape(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "escape", {});
  if (input.IsMarkup()) return input;
  return Value(EscapeHtml(runtime.Text(input)), true);
}

Value ForceEscape(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "forceescape", {});
  return Value(EscapeHtml(runtime.Text(input)), true);
}

Value Replace(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "replace", {"old", "new", "count"}, 2);
  const std::string text = runtime.Text(input);
  const std::string from = runtime.Text(p[0]);
  const std::string to = runtime.Text(p[1]);
  const int64_t count = p.Has(2) && p[2].IsNone() ? -1 : p.Integer(2, -1);
  const size_t most = text.size() / std::max<size_t>(from.size(), 1) + 1;
  if (to.size() > from.size()) runtime.ChargeBytes(most * (to.size() - from.size()));
  return ReplaceAll(text, from, to, count);
}

Value Indent(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "indent", {"width", "first", "blank"});
  if (!input.IsString()) ThrowType("indent expects a string, not", input);
  const bool text_width = p.Has(0) && p[0].IsString();
  const int64_t width = text_width ? 0 : p.Integer(0, 4);
  if (width > 1 << 16) throw Failure{"indent's width is too large"};
  const std::string indent =
      text_width ? p[0].string()
                 : std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  const bool blank = p.Truth(2, false);
  const std::vector<std::string> lines = SplitLines(input.string() + "\n", false);
  runtime.ChargeBytes(2 * input.string().size() + lines.size() * indent.size());
  std::string out = p.Truth(1, false) ? indent : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if (i > 0 && (blank || !lines[i].empty())) out += indent;
    out += lines[i];
  }
  return Value(std::move(out), input.IsMarkup());
}

Value Truncate(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "truncate", {"length", "killwords", "end", "leeway"});
  if (!input.IsString()) ThrowType("truncate expects a string, not", input);
  runtime.ChargeBytes(input.string().size());
  const int64_t length = p.Integer(0, 255);
  const std::string end = p.String(2, "...");
  const int64_t leeway = p.Has(3) && p[3].IsNone() ? 5 : p.Integer(3, 5);
  const int64_t end_length = Length(Text{end, false, false});
  if (length < end_length || leeway < 0) throw Failure{"truncate's length or leeway is too small"};
  const std::u32string text = Decode(input.string());
  if (static_cast<int64_t>(text.size()) <= length + std::min<int64_t>(leeway, INT32_MAX))
    return input;
  std::string kept = Encode(text.substr(0, static_cast<size_t>(length - end_length)));
  if (!p.Truth(1, false)) kept = kept.substr(0, kept.rfind(' '));
  return kept + end;
}

Value Center(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "center", {"width"});
  const Value text(runtime.Text(input));
  const Value method = GetAttribute(text, "center");
  return runtime.Call(method, {{p.Or(0, int64_t{80})}, {}});
}

Value FormatFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty())
    throw Failure{"format takes positional or named arguments, not both"};
  const std::string format = runtime.Text(input);
  if (arguments.named.empty())
    return FormatPercent(runtime, format, Value::Tuple(arguments.positional));
  auto dict = std::make_shared<Dict>();
  for (const auto& [name, value] : arguments.named) dict->Set(Value(name), value);
  return FormatPercent(runtime, format, DictPtr(std::move(dict)));
}

Value WordCount(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "wordcount", {});
  int64_t count = 0;
  bool inside = false;
  for (const char32_t c : Decode(runtime.Text(input))) {
    const bool word = c == '_' || IsClass(c, CharClass::kAlpha) ||
                      IsClass(c, CharClass::kDecimal) || IsClass(c, CharClass::kDigit) ||
                      IsClass(c, CharClass::kNumeric);
    count += word && !inside ? 1 : 0;
    inside = word;
  }
  return count;
}

// Python takes white space around a number and single underscores within it.
std::optional<std::string> NumberText(std::string_view text) {
  std::string out;
  const std::string stripped = Strip(text, true, true);
  const auto digit = [&](size_t i) {
    return i < stripped.size() && std::isxdigit(static_cast<unsigned char>(stripped[i])) != 0;
  };
  for (size_t i = 0; i < stripped.size(); ++i) {
    if (stripped[i] != '_') {
      out += stripped[i];
    } else if (i == 0 || !digit(i - 1) || !digit(i + 1)) {
      return std::nullopt;
    }
  }
  return out;
}

std::optional<Value> ParseInteger(std::string_view text, int64_t base) {
  std::optional<std::string> number = NumberText(text);
  if (!number.has_value() || (base != 0 && (base < 2 || base > 36))) return std::nullopt;
  std::string digits = *number;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.erase(0, 1);
  const char letter =
      digits.size() > 2 && digits[0] == '0' ? static_cast<char>(digits[1] | 0x20) : '\0';
  const int64_t prefixed = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
  if (prefixed != 0 && (base == 0 || base == prefixed)) {
    digits.erase(0, 2);
    base = prefixed;
  } else if (base == 0) {
    base = 10;
  }
  if (negative) digits.insert(0, 1, '-');
  if (digits.find('-', 1) != std::string::npos) return std::nullopt;
  int64_t value = 0;
  const char* const end = digits.data() + digits.size();
  const auto [rest, error] = std::from_chars(digits.data(), end, value, static_cast<int>(base));
  if (rest != end) return std::nullopt;
  if (error == std::errc::result_out_of_range) throw Failure{"an integer grows beyond 64 bits"};
  if (error != std::errc{}) return std::nullopt;
  return value;
}

std::optional<double> ParseFloat(std::string_view text) {
  std::optional<std::string> number = NumberText(text);
  if (!number.has_value()) return std::nullopt;
  std::string digits = Lower(*number);
  const bool signed_text = digits.starts_with('-') || digits.starts_with('+');
  const double sign = digits.starts_with('-') ? -1.0 : 1.0;
  if (signed_text) digits.erase(0, 1);
  if (digits == "inf" || digits == "infinity") return sign * HUGE_VAL;
  if (digits == "nan") return std::nan("");
  if (digits.empty() || digits.find_first_not_of("0123456789.e+-") != std::string::npos ||
      digits[0] == '-' || digits[0] == '+')
    return std::nullopt;
  double value = 0;
  const char* const end = digits.data() + digits.size();
  const auto [rest, error] = std::from_chars(digits.data(), end, value);
  if (rest != end) return std::nullopt;
  if (error == std::errc::result_out_of_range) {
    const size_t exponent = digits.find("e-");
    value = exponent == std::string::npos ? HUGE_VAL : 0.0;
  } else if (error != std::errc{}) {
    return std::nullopt;
  }
  return sign * value;
}

Value TruncateToInteger(double value) {
  const double whole = std::trunc(value);
  if (std::isnan(value)) throw Failure{"cannot turn NaN into an integer"};
  if (!(std::abs(whole) < 0x1p63)) throw Failure{"an integer grows beyond 64 bits"};
  return static_cast<int64_t>(whole);
}

Value Int(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "int", {"default", "base"});
  RequireDefined(input);
  Value otherwise = p.Or(0, int64_t{0});
  if (input.IsInteger()) return input.integer();
  if (input.Is<BigInt>()) return input;
  if (input.Is<double>()) {
    if (std::isnan(input.number())) return otherwise;
    return TruncateToInteger(input.number());
  }
  if (!input.IsString()) return otherwise;
  runtime.ChargeBytes(input.string().size());
  if (const auto value = ParseInteger(input.string(), p.Integer(1, 10))) return *value;
  const auto value = ParseFloat(input.string());
  return value.has_value() && std::isfinite(*value) ? TruncateToInteger(*value) : otherwise;
}

Value Float(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "float", {"default"});
  RequireDefined(input);
  Value otherwise = p.Or(0, 0.0);
  if (input.IsNumber()) return input.number();
  if (!input.IsString()) return otherwise;
  runtime.ChargeBytes(input.string().size());
  const auto value = ParseFloat(input.string());
  return value.has_value() ? Value(*value) : otherwise;
}

Value Abs(Runtime&, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "abs", {});
  if (const double* d = input.If<double>()) return std::abs(*d);
  if (!input.IsInteger()) ThrowType("abs expects a number, not", input);
  return input.integer() < 0 ? Apply(UnaryOperator::kNegate, input) : Value(input.integer());
}

// Rounds half to even in decimal, as Python does from the exact digits.
double RoundTo(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 340) return value;
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(std::min<int64_t>(-precision, 330)));
    const double scaled = value / scale;
    return std::isfinite(scale) ? std::nearbyint(scaled) * scale : std::copysign(0.0, value);
  }
  std::string buffer(800, '\0');
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::fixed, static_cast<int>(precision))
                       .ptr;
  double rounded = value;
  std::from_chars(buffer.data(), end, rounded);
  return rounded;
}

Value Round(Runtime&, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "round", {"precision", "method"});
  const int64_t precision = p.Integer(0, 0);
  const std::string method = p.String(1, "common");
  if (method != "common" && method != "ceil" && method != "floor")
    throw Failure{"round's method must be common, ceil or floor"};
  if (!input.IsNumber()) ThrowType("round expects a number, not", input);
  if (method == "common") {
    if (input.IsInteger() && precision >= 0) return input.integer();
    const double rounded = RoundTo(input.number(), precision);
    return input.IsInteger() ? TruncateToInteger(rounded) : Value(rounded);
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.number() * scale;
  if (!std::isfinite(scaled)) throw Failure{"round's result is no number"};
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

Value Default(Runtime&, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "default", {"default_value", "boolean"});
  const bool replaces = input.IsUndefined() || (p.Truth(1, false) && !Truthy(input));
  return replaces ? p.Or(0, "") : input;
}

Value ToJson(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  RequireDefined(input);
  JsonStyle style;
  style.ensure_ascii = p.Truth(0, false);
  if (p.Has(1) && !p[1].IsNone()) {
    const int64_t width = p[1].IsString() ? 0 : p.Integer(1, 0);
    if (width > 1024) throw Failure{"tojson's indent is too large"};
    style.indent = p[1].IsString()
                       ? p[1].string()
                       : std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    style.item_separator = ",";
  }
  if (p.Has(2) && !p[2].IsNone()) {
    const SequencePtr pair = Iterate(runtime, p[2]);
    if (pair->items.size() != 2 || !pair->items[0].IsString() || !pair->items[1].IsString())
      throw Failure{"tojson's separators must be two strings"};
    style.item_separator = pair->items[0].string();
    style.key_separator = pair->items[1].string();
  }
  style.sort_keys = p.Truth(3, false);
  return DumpJson(runtime, input, style);
}

std::string Quote(std::string_view text, bool slash_is_safe) {
  std::string out;
  for (const char c : text) {
    const bool safe = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' ||
                      c == '-' || c == '~' || (slash_is_safe && c == '/');
    if (safe && static_cast<unsigned char>(c) < 0x80) {
      out += c;
    } else if (c == ' ' && !slash_is_safe) {
      out += '+';
    } else {
      out += '%';
      out += "0123456789ABCDEF"[static_cast<unsigned char>(c) >> 4];
      out += "0123456789ABCDEF"[static_cast<unsigned char>(c) & 0xf];
    }
  }
  return out;
}

Value UrlEncode(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "urlencode", {});
  if (input.IsString() || (!input.IsMapping() && input.If<SequencePtr>() == nullptr))
    return Quote(runtime.Text(input), true);
  const Value pairs = input.IsMapping() ? runtime.Call(GetAttribute(input, "items"), {}) : input;
  std::string out;
  const SequencePtr all = Iterate(runtime, pairs);
  for (const Value& pair : all->items) {
    const SequencePtr parts = Iterate(runtime, pair);
    if (parts->items.size() != 2) throw Failure{"urlencode expects pairs"};
    if (!out.empty()) out += '&';
    out += Quote(runtime.Text(parts->items[0]), false) + "=" +
           Quote(runtime.Text(parts->items[1]), false);
  }
  return out;
}

Value FileSizeFormat(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "filesizeformat", {"binary"});
  const bool binary = p.Truth(0, false);
  const double base = binary ? 1024 : 1000;
  const Value number = Float(runtime, input, {{Value()}, {}});
  if (number.IsNone()) ThrowType("filesizeformat expects a number, not", input);
  const double bytes = number.number();
  if (bytes == 1) return "1 Byte";
  if (bytes < base) return runtime.Text(TruncateToInteger(bytes)) + " Bytes";
  constexpr std::string_view kPrefixes = "KMGTPEZY";
  double unit = base * base;
  size_t i = 0;
  for (; i + 1 < kPrefixes.size() && bytes >= unit; ++i) unit *= base;
  const std::string letter(1, !binary && i == 0 ? 'k' : kPrefixes[i]);
  return FormatPercent(runtime, "%.1f ", base * bytes / unit) + letter + (binary ? "iB" : "B");
}

constexpr NamedFilter kFilters[] = {
    {"abs", Abs},
    {"capitalize", Mapped<Capitalize>},
    {"center", Center},
    {"d", Default},
    {"default", Default},
    {"e", Escape},
    {"escape", Escape},
    {"filesizeformat", FileSizeFormat},
    {"float", Float},
    {"forceescape", ForceEscape},
    {"format", FormatFilter},
    {"indent", Indent},
    {"int", Int},
    {"lower", Mapped<Lower>},
    {"replace", Replace},
    {"round", Round},
    {"safe", Safe},
    {"string", StringFilter},
    {"title", Mapped<TitleFilter>},
    {"tojson", ToJson},
    {"trim", Trim},
    {"truncate", Truncate},
    {"upper", Mapped<Upper>},
    {"urlencode", UrlEncode},
    {"wordcount", WordCount},
};

}  // namespace

std::span<const NamedFilter> ScalarFilters() { return kFilters; }

Filter FindFilter(std::string_view name) {
  for (const auto filters : {ScalarFilters(), SequenceFilters()}) {
    for (const NamedFilter& filter : filters) {
      if (filter.name == name) return filter.filter;
    }
  }
  return nullptr;
}

}  // namespace moxie::jinja
