#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_text.h"

namespace moxie::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;

/// One replacement's layout: the parts that printf's manner and str.format have in common.
struct Spec {
  std::string fill = " ";
  char align = '\0';  // '<', '>', '^', '=' (after the sign), or by the value's type
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  int64_t width = 0;
  char grouping = '\0';
  int64_t precision = -1;
  char type = '\0';
};

int64_t ParseNumber(std::string_view text, size_t* at) {
  int64_t value = 0;
  while (*at < text.size() && text[*at] >= '0' && text[*at] <= '9') {
    value = value * 10 + (text[(*at)++] - '0');
    if (value > kMaxWidth) throw Failure{"a format's width or precision is too large"};
  }
  return value;
}

void Group(char separator, size_t every, std::string* digits) {
  for (size_t at = digits->size(); at > every;) {
    at -= every;
    digits->insert(at, 1, separator);
  }
}

// Lays out sign, prefix and body within the width. Numbers go right, text left, unless told.
std::string Pad(const Spec& spec, const std::string& sign, const std::string& body,
                bool is_number) {
  std::string whole = sign + body;
  const int64_t missing = spec.width - Length(Text{whole, false, false});
  if (missing <= 0) return whole;
  const char align = spec.align != '\0' ? spec.align : is_number ? '>' : '<';
  const int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string before, after;
  for (int64_t i = 0; i < left; ++i) before += spec.fill;
  for (int64_t i = left; i < missing; ++i) after += spec.fill;
  if (align == '=') return sign + before + body;
  return before + whole + after;
}

std::string SignText(const Spec& spec, bool negative) {
  if (negative) return "-";
  return spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string FormatInteger(const Spec& spec, int64_t value) {
  const char lower = static_cast<char>(spec.type | 0x20);
  const int base = lower == 'x' ? 16 : lower == 'o' ? 8 : lower == 'b' ? 2 : 10;
  const uint64_t magnitude =
      value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  std::array<char, 72> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), magnitude, base).ptr;
  std::string digits(buffer.data(), end);
  if (spec.precision > static_cast<int64_t>(digits.size()))
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  if (spec.grouping != '\0') Group(spec.grouping, base == 10 ? 3 : 4, &digits);
  std::string sign = SignText(spec, value < 0);
  if (spec.alternate && base != 10) sign += std::string("0") + lower;
  if (spec.type == 'X') {
    digits = Upper(digits);
    sign = Upper(sign);
  }
  return Pad(spec, sign, digits, true);
}

std::string FloatDigits(double magnitude, char type, int64_t precision) {
  if (precision > 400) throw Failure{"a format's precision is above 400"};
  std::string buffer(precision < 0 ? 512 : static_cast<size_t>(precision) + 400, '\0');
  char* const begin = buffer.data();
  char* const end = begin + buffer.size();
  const int digits = static_cast<int>(precision < 0 ? 6 : precision);
  std::to_chars_result result{};
  switch (type) {
    case 'e':
      result = std::to_chars(begin, end, magnitude, std::chars_format::scientific, digits);
      break;
    case 'g':
      result =
          std::to_chars(begin, end, magnitude, std::chars_format::general, std::max(digits, 1));
      break;
    default:
      result = std::to_chars(begin, end, magnitude, std::chars_format::fixed, digits);
  }
  buffer.resize(static_cast<size_t>(result.ptr - begin));
  return buffer;
}

std::string FormatFloat(const Spec& spec, double value) {
  const double magnitude = std::abs(value);
  std::string body;
  if (!std::isfinite(value)) {
    body = std::isnan(value) ? "nan" : "inf";
  } else if (spec.type == '\0') {
    body = spec.precision < 0 ? FloatRepr(magnitude) : FloatDigits(magnitude, 'g', spec.precision);
    if (body.find_first_of(".e") == std::string::npos) body += ".0";
  } else if (spec.type == '%') {
    body = FloatDigits(magnitude * 100, 'f', spec.precision) + "%";
  } else {
    body = FloatDigits(magnitude, static_cast<char>(spec.type | 0x20), spec.precision);
  }
  if (spec.grouping != '\0') {
    const size_t point = std::min(body.find_first_of(".e%"), body.size());
    std::string whole = body.substr(0, point);
    Group(spec.grouping, 3, &whole);
    body = whole + body.substr(point);
  }
  if (spec.type >= 'A' && spec.type <= 'Z') body = Upper(body);
  return Pad(spec, SignText(spec, std::signbit(value) && !std::isnan(value)), body, true);
}

std::string FormatText(const Spec& spec, const std::string& text) {
  if (spec.precision < 0) return Pad(spec, "", text, false);
  const std::u32string all = Decode(text);
  return Pad(spec, "", Encode(all.substr(0, static_cast<size_t>(spec.precision))), false);
}

std::string ToAscii(const std::string& repr) {
  std::string out;
  for (const char32_t c : Decode(repr)) {
    if (c < 0x80) {
      out += static_cast<char>(c);
      continue;
    }
    const size_t digits = c < 0x100 ? 2 : c < 0x10000 ? 4 : 8;
    out += c < 0x100 ? "\\x" : c < 0x10000 ? "\\u" : "\\U";
    for (size_t i = digits; i-- > 0;) out += "0123456789abcdef"[c >> (4 * i) & 0xf];
  }
  return out;
}

bool IsOneOf(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

// ---- printf's manner

class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const std::string& format, const Value& value)
      : runtime_(runtime), format_(format), value_(value) {
    const SequencePtr* sequence = value.If<SequencePtr>();
    if (sequence != nullptr && (*sequence)->IsTuple()) tuple_ = sequence->get();
  }

  std::string Run() {
    while (at_ < format_.size()) {
      const size_t percent = std::min(format_.find('%', at_), format_.size());
      out_.append(format_, at_, percent - at_);
      at_ = percent + 1;
      if (percent < format_.size()) Convert();
    }
    runtime_.ChargeBytes(out_.size());
    const bool is_container = value_.IsMapping() || TypeName(value_) == "list";
    const size_t given = tuple_ != nullptr ? tuple_->items.size() : is_container ? 0 : 1;
    if (used_ < given) throw Failure{"not all arguments of a % format were used"};
    return std::move(out_);
  }

 private:
  char Character() const {
    if (at_ >= format_.size()) throw Failure{"a % format ends too early"};
    return format_[at_];
  }

  Value NextArgument() {
    if (tuple_ != nullptr) {
      if (used_ >= tuple_->items.size()) throw Failure{"a % format has too few arguments"};
      return tuple_->items[used_++];
    }
    if (used_++ > 0) throw Failure{"a % format has too few arguments"};
    return value_;
  }

  int64_t Size() {
    if (Character() != '*') return ParseNumber(format_, &at_);
    ++at_;
    const Value size = NextArgument();
    if (!size.IsInteger() || std::abs(size.integer()) > kMaxWidth)
      throw Failure{"'*' in a % format wants a small integer"};
    return size.integer();
  }

  std::optional<Value> KeyedArgument() {
    if (Character() != '(') return std::nullopt;
    const size_t close = format_.find(')', at_);
    if (close == std::string::npos) throw Failure{"a key of a % format is not closed"};
    const DictPtr* dict = value_.If<DictPtr>();
    if (dict == nullptr) throw Failure{"a % format with keys wants a mapping"};
    const std::string key = format_.substr(at_ + 1, close - at_ - 1);
    at_ = close + 1;
    const Value* found = (*dict)->Find(std::string_view(key));
    if (found == nullptr) throw Failure{"a % format's mapping has no key '" + key + "'"};
    return *found;
  }

  void Convert() {
    std::optional<Value> keyed = KeyedArgument();
    Spec spec;
    bool left = false;
    for (; IsOneOf(Character(), "-+ #0"); ++at_) {
      const char flag = Character();
      left = left || flag == '-';
      spec.zero = spec.zero || flag == '0';
      spec.alternate = spec.alternate || flag == '#';
      if (flag == '+' || (flag == ' ' && spec.sign != '+')) spec.sign = flag;
    }
    spec.width = Size();
    if (spec.width < 0) {
      left = true;
      spec.width = -spec.width;
    }
    if (Character() == '.') {
      ++at_;
      spec.precision = std::max<int64_t>(Size(), 0);
    }
    while (IsOneOf(Character(), "hlL")) ++at_;
    spec.type = Character();
    ++at_;
    if (spec.type == '%') {
      out_ += '%';
      return;
    }
    spec.align = left ? '<' : '>';
    const Value value = keyed.has_value() ? *keyed : NextArgument();
    runtime_.ChargeBytes(static_cast<size_t>(spec.width));
    out_ += Format(spec, left, value);
  }

  std::string Format(Spec spec, bool left, const Value& value) {
    if (IsOneOf(spec.type, "sra")) {
      const std::string text = spec.type == 's' ? runtime_.Text(value) : Represent(value);
      return FormatText(spec, spec.type == 'a' ? ToAscii(text) : text);
    }
    if (spec.type == 'c') {
      if (value.IsInteger() && value.integer() >= 0 && value.integer() <= 0x10ffff)
        return FormatText(spec, Encode(std::u32string(1, static_cast<char32_t>(value.integer()))));
      if (value.IsString() && Length(**value.If<TextPtr>()) == 1)
        return FormatText(spec, value.string());
      ThrowType("%c wants one character, not", value);
    }
    if (spec.zero && !left) {
      spec.align = '=';
      spec.fill = "0";
    }
    if (IsOneOf(spec.type, "diuxXo")) return FormatWhole(spec, value);
    if (!IsOneOf(spec.type, "eEfFgG"))
      throw Failure{"a % format has the unknown type '" + std::string(1, spec.type) + "'"};
    if (!value.IsNumber()) ThrowType("a % format wants a number, not", value);
    return FormatFloat(spec, value.number());
  }

  std::string FormatWhole(const Spec& spec, const Value& value) {
    if (value.IsInteger()) return FormatInteger(spec, value.integer());
    if (value.Is<double>() && !IsOneOf(spec.type, "xXo")) {
      const double whole = std::trunc(value.number());
      if (std::abs(whole) < 0x1p63) return FormatInteger(spec, static_cast<int64_t>(whole));
    }
    ThrowType("a % format wants an integer, not", value);
  }

  std::string Represent(const Value& value) {
    runtime_.Charge(Cost(value));
    return Repr(value);
  }

  Runtime& runtime_;
  const std::string& format_;
  const Value& value_;
  const Sequence* tuple_ = nullptr;
  size_t at_ = 0;
  size_t used_ = 0;
  std::string out_;
};

// ---- str.format's manner

Spec ParseSpec(std::string_view text) {
  Spec spec;
  const std::u32string characters = Decode(text);
  size_t at = 0;
  const auto is_align = [&](size_t i) {
    return i < characters.size() && characters[i] < 0x80 &&
           IsOneOf(static_cast<char>(characters[i]), "<>^=");
  };
  if (is_align(1)) {
    spec.fill = Encode(characters.substr(0, 1));
    spec.align = static_cast<char>(characters[1]);
    at = spec.fill.size() + 1;
  } else if (is_align(0)) {
    spec.align = static_cast<char>(characters[0]);
    at = 1;
  }
  const auto take = [&](std::string_view set) {
    return at < text.size() && IsOneOf(text[at], set) ? text[at++] : '\0';
  };
  if (const char sign = take("+- ")) spec.sign = sign;
  spec.alternate = take("#") != '\0';
  if (take("0") != '\0') {
    spec.zero = true;
    if (spec.align == '\0') {
      spec.align = '=';
      spec.fill = "0";
    }
  }
  spec.width = ParseNumber(text, &at);
  spec.grouping = take(",_");
  if (take(".") != '\0') {
    const size_t before = at;
    spec.precision = ParseNumber(text, &at);
    if (at == before) throw Failure{"a format's precision is missing"};
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) throw Failure{"'" + std::string(text) + "' is no format specification"};
  return spec;
}

std::string FormatValue(Runtime& runtime, const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return runtime.Text(value);
  Spec spec = ParseSpec(spec_text);
  runtime.ChargeBytes(static_cast<size_t>(spec.width));
  const bool is_number = value.IsNumber() && !(value.Is<bool>() && spec.type == '\0');
  if (is_number && IsOneOf(spec.type, "eEfFgG%")) return FormatFloat(spec, value.number());
  if (value.Is<double>() && spec.type == '\0') return FormatFloat(spec, value.number());
  if (is_number && value.IsInteger() && (spec.type == '\0' || IsOneOf(spec.type, "dnxXob"))) {
    if (spec.precision >= 0) throw Failure{"an integer's format has no precision"};
    return FormatInteger(spec, value.integer());
  }
  if (value.IsString() && (spec.type == 's' || spec.type == '\0')) {
    if (spec.align == '=' && !spec.zero) throw Failure{"'=' cannot align text"};
    if (spec.align == '=') spec.align = '<';
    return FormatText(spec, value.string());
  }
  throw Failure{"'" + std::string(spec_text) + "' cannot format a value of type '" +
                std::string(TypeName(value)) + "'"};
}

class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const Arguments& arguments)
      : runtime_(runtime), arguments_(arguments) {}

  std::string Run(std::string_view format, int level) {
    if (level > 2) throw Failure{"a format's replacements nest too deep"};
    std::string out;
    for (size_t at = 0; at < format.size();) {
      const char c = format[at++];
      if (c != '{' && c != '}') {
        out += c;
      } else if (at < format.size() && format[at] == c) {
        out += c;
        ++at;
      } else if (c == '}') {
        throw Failure{"a format has a single '}'"};
      } else {
        out += Replacement(format, &at, level);
      }
    }
    runtime_.ChargeBytes(out.size());
    return out;
  }

 private:
  // The text of "{field!conversion:spec}", `at` behind its '{'.
  std::string Replacement(std::string_view format, size_t* at, int level) {
    const size_t start = *at;
    int braces = 1;
    while (*at < format.size() && braces > 0) {
      braces += format[*at] == '{' ? 1 : format[*at] == '}' ? -1 : 0;
      ++*at;
    }
    if (braces > 0) throw Failure{"a format's '{' is not closed"};
    const std::string_view inside = format.substr(start, *at - start - 1);
    const size_t field_end = std::min(FieldEnd(inside), inside.size());
    Value value = Field(inside.substr(0, field_end));
    std::string_view rest = inside.substr(field_end);
    if (rest.starts_with('!')) {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':'))
        throw Failure{"a format's conversion must be one of !s, !r and !a"};
      value = Convert(value, rest[1]);
      rest.remove_prefix(2);
    }
    if (rest.starts_with(':')) rest.remove_prefix(1);
    return FormatValue(runtime_, value, Run(rest, level + 1));
  }

  static size_t FieldEnd(std::string_view inside) {
    bool in_brackets = false;
    for (size_t i = 0; i < inside.size(); ++i) {
      if (inside[i] == '[') in_brackets = true;
      if (inside[i] == ']') in_brackets = false;
      if (!in_brackets && (inside[i] == '!' || inside[i] == ':')) return i;
    }
    return inside.size();
  }

  Value Convert(const Value& value, char conversion) {
    if (conversion == 's') return Value(runtime_.Text(value));
    if (conversion != 'r' && conversion != 'a')
      throw Failure{"a format's conversion must be one of !s, !r and !a"};
    runtime_.Charge(Cost(value));
    return Value(conversion == 'r' ? Repr(value) : ToAscii(Repr(value)));
  }

  static std::optional<int64_t> AsIndex(std::string_view text) {
    int64_t index = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
    const bool whole = error == std::errc{} && end == text.data() + text.size() && index >= 0;
    return whole ? std::optional<int64_t>(index) : std::nullopt;
  }

  Value Field(std::string_view field) {
    const size_t name_end = std::min(field.find_first_of(".["), field.size());
    Value value = Argument(field.substr(0, name_end));
    for (size_t at = name_end; at < field.size();) {
      const bool attribute = field[at] == '.';
      const size_t begin = at + 1;
      const size_t end = attribute ? std::min(field.find_first_of(".[", begin), field.size())
                                   : field.find(']', begin);
      if (end == std::string_view::npos || end == begin || (!attribute && field[at] != '['))
        throw Failure{"'" + std::string(field) + "' is no field of a format"};
      const std::string_view name = field.substr(begin, end - begin);
      const auto index = AsIndex(name);
      value = attribute           ? GetAttribute(value, std::string(name))
              : index.has_value() ? GetItem(runtime_, value, *index)
                                  : GetItem(runtime_, value, Value(name));
      at = attribute ? end : end + 1;
    }
    return value;
  }

  Value Argument(std::string_view name) {
    const auto index = name.empty() ? std::optional<int64_t>(next_++) : AsIndex(name);
    if (index.has_value()) {
      if (*index >= static_cast<int64_t>(arguments_.positional.size()))
        throw Failure{"a format has no argument " + std::to_string(*index)};
      return arguments_.positional[static_cast<size_t>(*index)];
    }
    for (const auto& [key, value] : arguments_.named) {
      if (key == name) return value;
    }
    throw Failure{"a format has no argument '" + std::string(name) + "'"};
  }

  Runtime& runtime_;
  const Arguments& arguments_;
  int64_t next_ = 0;
};

}  // namespace

std::string FormatPercent(Runtime& runtime, const std::string& format, const Value& value) {
  return PercentFormatter(runtime, format, value).Run();
}

std::string FormatBraces(Runtime& runtime, const std::string& format, const Arguments& arguments) {
  return BraceFormatter(runtime, arguments).Run(format, 0);
}

}  // namespace moxie::jinja
