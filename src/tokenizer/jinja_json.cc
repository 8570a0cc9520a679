#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_text.h"

namespace moxie::jinja {
namespace {

void AppendEscape(uint32_t unit, std::string* out) {
  *out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) *out += "0123456789abcdef"[unit >> shift & 0xf];
}

std::string Quote(std::string_view text, bool ensure_ascii) {
  std::string out = "\"";
  const auto append = [&](char32_t c) {
    static constexpr std::string_view kFrom = "\"\\\n\r\t\f\b";
    static constexpr std::string_view kTo = "\"\\nrtfb";
    const size_t known = c < 0x80 ? kFrom.find(static_cast<char>(c)) : std::string_view::npos;
    if (known != std::string_view::npos) {
      out += '\\';
      out += kTo[known];
    } else if (c < 0x20 || (c >= 0x7f && ensure_ascii && c < 0x10000)) {
      AppendEscape(c, &out);
    } else if (c >= 0x10000 && ensure_ascii) {
      AppendEscape(0xd800 + ((c - 0x10000) >> 10), &out);
      AppendEscape(0xdc00 + ((c - 0x10000) & 0x3ff), &out);
    } else {
      AppendCodePoint(c, &out);
    }
  };
  for (const char32_t c : Decode(text)) append(c);
  return out + "\"";
}

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  void Write(const Value& value, std::string* out) {
    if (value.IsString()) {
      *out += Quote(value.string(), style_.ensure_ascii);
    } else if (value.IsNone()) {
      *out += "null";
    } else if (const bool* b = value.If<bool>()) {
      *out += *b ? "true" : "false";
    } else if (const double* d = value.If<double>()) {
      *out += Number(*d);
    } else if (value.IsNumber()) {
      *out += Repr(value);
    } else if (const DictPtr* dict = value.If<DictPtr>()) {
      WriteDict(**dict, out);
    } else if (TypeName(value) == "list" || TypeName(value) == "tuple") {
      WriteList(**value.If<SequencePtr>(), out);
    } else {
      throw Failure{"a value of type '" + std::string(TypeName(value)) + "' has no JSON form"};
    }
  }

 private:
  static std::string Number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(value);
  }

  // JSON's keys are strings: Python writes scalars as their JSON text.
  static std::string Key(const Value& key) {
    if (key.IsString()) return key.string();
    if (key.IsNone()) return "null";
    if (const bool* b = key.If<bool>()) return *b ? "true" : "false";
    if (const double* d = key.If<double>()) return Number(*d);
    if (key.IsNumber()) return Repr(key);
    throw Failure{"a key of type '" + std::string(TypeName(key)) + "' has no JSON form"};
  }

  void NewLine(std::string* out) {
    if (!style_.indent.has_value()) return;
    runtime_.ChargeBytes(style_.indent->size() * static_cast<size_t>(level_));
    *out += '\n';
    for (int i = 0; i < level_; ++i) *out += *style_.indent;
  }

  template <class Items, class WriteItem>
  void WriteItems(char open, char close, const Items& items, std::string* out, WriteItem write) {
    *out += open;
    if (!items.empty()) {
      ++level_;
      bool first = true;
      for (const auto& item : items) {
        if (!first) *out += style_.item_separator;
        first = false;
        NewLine(out);
        write(item);
      }
      --level_;
      NewLine(out);
    }
    *out += close;
  }

  void WriteList(const Sequence& sequence, std::string* out) {
    WriteItems('[', ']', sequence.items, out, [&](const Value& item) { Write(item, out); });
  }

  void WriteDict(const Dict& dict, std::string* out) {
    auto entries = dict.entries;
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [&](const auto& a, const auto& b) {
        return runtime_.IsLess(a.first, b.first);
      });
    }
    WriteItems('{', '}', entries, out, [&](const auto& entry) {
      *out += Quote(Key(entry.first), style_.ensure_ascii) + style_.key_separator;
      Write(entry.second, out);
    });
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  int level_ = 0;
};

// Builds values from the parser's events, without recursion.
class JsonReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  Value result;
  std::string error;

  bool null() override { return Add(Value()); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(int64_t value) override { return Add(value); }
  bool number_unsigned(uint64_t value) override {
    if (value <= INT64_MAX) return Add(static_cast<int64_t>(value));
    return AddBig(std::to_string(value));
  }
  bool number_float(double value, const std::string& text) override {
    if (text.find_first_of(".eE") == std::string::npos) return AddBig(text);
    return Add(value);
  }
  bool string(std::string& value) override { return Add(Value(std::move(value))); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(true); }
  bool start_array(size_t) override { return Open(false); }
  bool key(std::string& name) override {
    open_.back().keys.emplace_back(std::move(name));
    return true;
  }
  bool end_object() override {
    auto dict = std::make_shared<Dict>();
    Level level = Close();
    for (size_t i = 0; i < level.values.size(); ++i)
      dict->Set(level.keys[i], std::move(level.values[i]));
    return Add(DictPtr(std::move(dict)));
  }
  bool end_array() override { return Add(Value::List(Close().values)); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    error = "not valid JSON at byte " + std::to_string(position);
    return false;
  }

 private:
  struct Level {
    std::vector<Value> keys, values;
  };

  bool AddBig(std::string digits) {
    return Add(BigInt{std::make_shared<const std::string>(std::move(digits))});
  }
  bool Add(Value value) {
    if (open_.empty()) {
      result = std::move(value);
    } else {
      open_.back().values.push_back(std::move(value));
    }
    return true;
  }
  bool Open(bool) {
    open_.emplace_back();
    if (open_.size() <= kMaxValueDepth / 2) return true;
    error = "nested deeper than " + std::to_string(kMaxValueDepth / 2) + " levels";
    return false;
  }
  Level Close() {
    Level level = std::move(open_.back());
    open_.pop_back();
    return level;
  }

  std::vector<Level> open_;
};

}  // namespace

std::string DumpJson(Runtime& runtime, const Value& value, const JsonStyle& style) {
  runtime.Charge(2 * Cost(value));
  std::string out;
  JsonWriter(runtime, style).Write(value, &out);
  runtime.ChargeBytes(out.size());
  return out;
}

DictPtr ParseJsonObject(std::string_view text) {
  JsonReader reader;
  const bool parsed = nlohmann::json::sax_parse(text, &reader);
  if (!parsed) throw Failure{"the template's variables are " + reader.error};
  const DictPtr* dict = reader.result.If<DictPtr>();
  if (dict == nullptr) throw Failure{"the template's variables are no JSON object"};
  return *dict;
}

}  // namespace moxie::jinja
