#include <charconv>
#include <cmath>

#include "tokenizer/jinja_text.h"

namespace moxie::jinja {
namespace {

void AppendHex(char32_t c, size_t digits, std::string* out) {
  for (size_t i = digits; i-- > 0;) out->push_back("0123456789abcdef"[c >> (4 * i) & 0xf]);
}

std::string StringRepr(std::string_view text) {
  const bool prefers_double =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = prefers_double ? '"' : '\'';
  std::string out(1, quote);
  for (const char32_t c : Decode(text)) {
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (IsClass(c, CharClass::kPrintable)) {
      AppendCodePoint(c, &out);
    } else if (c < 0x100) {
      out += "\\x";
      AppendHex(c, 2, &out);
    } else if (c < 0x10000) {
      out += "\\u";
      AppendHex(c, 4, &out);
    } else {
      out += "\\U";
      AppendHex(c, 8, &out);
    }
  }
  out += quote;
  return out;
}

std::string JoinReprs(const std::vector<Value>& items) {
  std::string out;
  for (const Value& item : items) {
    if (!out.empty()) out += ", ";
    out += Repr(item);
  }
  return out;
}

std::string DictRepr(const Dict& dict) {
  std::string out;
  for (const auto& [key, value] : dict.entries) {
    if (!out.empty()) out += ", ";
    out += Repr(key) + ": " + Repr(value);
  }
  return "{" + out + "}";
}

std::string SequenceRepr(const Sequence& sequence) {
  const std::string items = JoinReprs(sequence.items);
  switch (sequence.kind) {
    case Sequence::Kind::kList:
      return "[" + items + "]";
    case Sequence::Kind::kTuple:
    case Sequence::Kind::kGroup:
      return sequence.items.size() == 1 ? "(" + items + ",)" : "(" + items + ")";
    case Sequence::Kind::kKeys:
      return "dict_keys([" + items + "])";
    case Sequence::Kind::kValues:
      return "dict_values([" + items + "])";
    case Sequence::Kind::kItems:
      return "dict_items([" + items + "])";
    case Sequence::Kind::kIterator:
      return "<generator object>";
  }
  return {};
}

std::string ObjectRepr(const Value& value) {
  // A namespace may hold itself, so its attributes are not written.
  if (ObjectAs<Namespace>(value, Object::Kind::kNamespace) != nullptr) return "<Namespace>";
  if (const auto* range = ObjectAs<Range>(value, Object::Kind::kRange)) {
    std::string out = "range(" + std::to_string(range->start) + ", " + std::to_string(range->stop);
    if (range->step != 1) out += ", " + std::to_string(range->step);
    return out + ")";
  }
  return "<" + std::string(TypeName(value)) + ">";
}

}  // namespace

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  // "-d.ddde+XX": Python writes exponents from -4 to 15 as plain digits.
  std::string digits;
  const char* p = buffer;
  const bool negative = *p == '-';
  for (p += negative ? 1 : 0; p != end && *p != 'e'; ++p) {
    if (*p != '.') digits += *p;
  }
  int exponent = 0;
  const char* number = p + 1;
  if (*number == '+') ++number;
  std::from_chars(number, end, exponent);

  std::string out = negative ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    out += digits.substr(0, 1);
    if (digits.size() > 1) out += "." + digits.substr(1);
    out += exponent < 0 ? "e-" : "e+";
    const std::string magnitude = std::to_string(std::abs(exponent));
    return out + (magnitude.size() < 2 ? "0" : "") + magnitude;
  }
  if (exponent < 0)
    return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string Repr(const Value& value) {
  if (value.IsUndefined()) return "Undefined";
  if (value.IsNone()) return "None";
  if (const bool* b = value.If<bool>()) return *b ? "True" : "False";
  if (const int64_t* i = value.If<int64_t>()) return std::to_string(*i);
  if (const BigInt* big = value.If<BigInt>()) return *big->digits;
  if (const double* d = value.If<double>()) return FloatRepr(*d);
  if (value.IsMarkup()) return "Markup(" + StringRepr(value.string()) + ")";
  if (value.IsString()) return StringRepr(value.string());
  if (const DictPtr* dict = value.If<DictPtr>()) return DictRepr(**dict);
  if (const SequencePtr* sequence = value.If<SequencePtr>()) return SequenceRepr(**sequence);
  return ObjectRepr(value);
}

std::string Str(const Value& value) {
  if (value.IsString()) return value.string();
  if (value.IsUndefined()) return "";
  return Repr(value);
}

}  // namespace moxie::jinja
