#include "sampling/json_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tokenizer/unicode.h"

namespace moxie {
namespace {

constexpr uint32_t kMostDigits = 30;
constexpr uint32_t kMostIndentation = 64;
constexpr CodePointRange kAllCharacters[] = {{0, 0xD7FF}, {0xE000, 0x10FFFF}};

std::string Dump(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::u32string CodePointsOf(const std::string& text) {
  std::u32string points;
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter c = DecodeUtf8(text, at);
    points += c.code_point;
    at += c.length;
  }
  return points;
}

}  // namespace

JsonText::Part JsonText::Space() {
  if (!spaced_) return builder_.Empty();
  if (!space_) {
    const Part blank = builder_.Never();
    builder_.AddBytes(blank.entry, ' ', ' ', blank.exit);
    builder_.AddBytes(blank.entry, '\t', '\t', blank.exit);
    const Part line =
        builder_.Sequence({builder_.Literal("\n"), builder_.Repeat(blank, 0, kMostIndentation)});
    space_ = builder_.MakeRule("space",
                               builder_.Choice({builder_.Empty(), builder_.Literal(" "), line}));
  }
  return builder_.Call(*space_);
}

JsonText::Rule JsonText::Separator() {
  if (!separator_)
    separator_ =
        builder_.MakeRule("comma", builder_.Sequence({Space(), builder_.Literal(","), Space()}));
  return *separator_;
}

JsonText::Part JsonText::Array(Part items) {
  return builder_.Sequence({builder_.Literal("["), Space(), items, Space(), builder_.Literal("]")});
}

JsonText::Part JsonText::Object(Part members) {
  return builder_.Sequence(
      {builder_.Literal("{"), Space(), members, Space(), builder_.Literal("}")});
}

JsonText::Part JsonText::Member(Part key, Part value) {
  return builder_.Sequence({key, builder_.Literal(":"), Space(), value});
}

JsonText::Rule JsonText::AnyValue() {
  if (value_) return *value_;
  value_ = builder_.Declare("value");
  builder_.Define(*value_, builder_.Choice({builder_.Call(AnyObject()), builder_.Call(AnyArray()),
                                            builder_.Call(AnyString()), builder_.Call(AnyNumber()),
                                            builder_.OneOf({"true", "false", "null"})}));
  return *value_;
}

JsonText::Rule JsonText::AnyArray() {
  if (array_) return *array_;
  array_ = builder_.Declare("array");
  builder_.Define(*array_,
                  Array(builder_.RepeatSeparated(AnyValue(), Separator(), 0, kUnboundedRepeat)));
  return *array_;
}

JsonText::Rule JsonText::AnyObject() {
  if (object_) return *object_;
  object_ = builder_.Declare("object");
  const Rule member =
      builder_.MakeRule("member", Member(builder_.Call(AnyString()), builder_.Call(AnyValue())));
  builder_.Define(*object_,
                  Object(builder_.RepeatSeparated(member, Separator(), 0, kUnboundedRepeat)));
  return *object_;
}

/// One character between quotes, in each of its spellings.
JsonText::Rule JsonText::Character() {
  if (character_) return *character_;
  const Part character = builder_.Never();
  const std::vector<CodePointRange> plain = {
      {0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0xD7FF}, {0xE000, 0x10FFFF}};
  builder_.AddCodePoints(character.entry, plain, character.exit);
  const State escape = builder_.NewState();
  builder_.AddBytes(character.entry, '\\', '\\', escape);
  for (const char c : std::string("\"\\/bfnrt")) {
    const auto byte = static_cast<uint8_t>(c);
    builder_.AddBytes(escape, byte, byte, character.exit);
  }
  const auto hex = [&](State from, const char* digits, State to) {
    for (const char* d = digits; *d != '\0'; ++d) {
      const auto byte = static_cast<uint8_t>(*d);
      builder_.AddBytes(from, byte, byte, to);
    }
  };
  const char* const all = "0123456789abcdefABCDEF";
  const State unit = builder_.NewState();
  const State two = builder_.NewState();
  const State one = builder_.NewState();
  builder_.AddBytes(escape, 'u', 'u', unit);
  const State three = builder_.NewState();
  hex(unit, "0123456789abcefABCEF", three);
  hex(three, all, two);
  hex(two, all, one);
  hex(one, all, character.exit);
  // Units from D800 to DFFF come in pairs, one below DC00 and one from there on.
  const State surrogate = builder_.NewState();
  hex(unit, "dD", surrogate);
  hex(surrogate, "01234567", two);
  const Part rest = builder_.Never();
  hex(surrogate, "89abAB", rest.entry);
  const State second = builder_.NewState();
  hex(rest.entry, all, second);
  hex(second, all, rest.exit);
  const Part low = builder_.Sequence({builder_.Literal("\\u"), builder_.OneOf({"d", "D"})});
  builder_.AddEmpty(rest.exit, low.entry);
  hex(low.exit, "cdefCDEF", two);
  character_ = builder_.MakeRule("character", character);
  return *character_;
}

JsonText::Rule JsonText::StringOf(uint32_t min, uint32_t max) {
  return builder_.MakeRule("string",
                           builder_.Sequence({builder_.Literal("\""),
                                              builder_.Repeat(builder_.Call(Character()), min, max),
                                              builder_.Literal("\"")}));
}

JsonText::Part JsonText::Digits(uint32_t min, uint32_t max) {
  const Part digit = builder_.Never();
  builder_.AddBytes(digit.entry, '0', '9', digit.exit);
  return builder_.Repeat(digit, min, max);
}

JsonText::Rule JsonText::AnyInteger() {
  if (!integer_) {
    const Part first = builder_.Never();
    builder_.AddBytes(first.entry, '1', '9', first.exit);
    const Part natural = builder_.Choice(
        {builder_.Literal("0"), builder_.Sequence({first, Digits(0, kMostDigits - 1)})});
    integer_ = builder_.MakeRule(
        "integer", builder_.Sequence({builder_.Optional(builder_.Literal("-")), natural}));
  }
  return *integer_;
}

JsonText::Rule JsonText::AnyNumber() {
  if (!number_) {
    const auto fraction = [&] {
      return builder_.Optional(builder_.Sequence({builder_.Literal("."), Digits(1, kMostDigits)}));
    };
    const Part plain = builder_.Sequence({builder_.Call(AnyInteger()), fraction()});
    std::vector<std::string> exponents;
    for (int i = 0; i <= 307; ++i) {
      exponents.push_back(std::to_string(i));
      if (i < 10) exponents.push_back("0" + std::to_string(i));
    }
    const Part scientific =
        builder_.Sequence({builder_.Optional(builder_.Literal("-")), Digits(1, 1), fraction(),
                           builder_.OneOf({"e", "E"}), builder_.OneOf({"", "+", "-"}),
                           builder_.OneOf(std::move(exponents))});
    number_ = builder_.MakeRule("number", builder_.Choice({plain, scientific}));
  }
  return *number_;
}

JsonText::Part JsonText::Value(const nlohmann::ordered_json& value) {
  if (!value.is_structured()) return builder_.Literal(Dump(value));
  std::vector<Part> items;
  for (const auto& [key, item] : value.items()) {
    if (!items.empty()) items.push_back(builder_.Call(Separator()));
    items.push_back(value.is_array() ? Value(item)
                                     : Member(builder_.Literal(Dump(key)), Value(item)));
  }
  const Part inside = builder_.Sequence(items);
  return value.is_array() ? Array(inside) : Object(inside);
}

void JsonText::AddCharacters(State from, std::span<const CodePointRange> ranges, State to) {
  std::vector<CodePointRange> plain;
  std::vector<std::string> escaped;
  for (CodePointRange range : ranges) {
    for (; range.first < 0x20 && range.first <= range.last; ++range.first)
      escaped.push_back(Dump(std::string(1, static_cast<char>(range.first))));
    for (const char32_t special : {U'"', U'\\'}) {
      if (special < range.first || special > range.last) continue;
      escaped.push_back(Dump(std::string(1, static_cast<char>(special))));
      if (special > range.first) plain.push_back({range.first, special - 1});
      range.first = special + 1;
    }
    if (range.first <= range.last) plain.push_back(range);
  }
  builder_.AddCodePoints(from, plain, to);
  if (escaped.empty()) return;
  for (std::string& text : escaped) text = text.substr(1, text.size() - 2);
  const Part part = builder_.OneOf(std::move(escaped));
  builder_.AddEmpty(from, part.entry);
  builder_.AddEmpty(part.exit, to);
}

JsonText::Part JsonText::StringOtherThan(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  const Part part{builder_.NewState(), builder_.NewState()};
  const State begin = builder_.NewState();
  const State other = builder_.NewState();
  builder_.AddBytes(part.entry, '"', '"', begin);
  AddCharacters(other, kAllCharacters, other);
  builder_.AddBytes(other, '"', '"', part.exit);
  // A trie of the names; whatever leaves it is another string.
  struct Open {
    State state;
    size_t depth;
    std::vector<std::u32string> names;  // All alike in the first `depth` characters.
  };
  std::vector<Open> open(1);
  open[0] = {begin, 0, {}};
  for (const std::string& name : names) open[0].names.push_back(CodePointsOf(name));
  while (!open.empty()) {
    const Open node = std::move(open.back());
    open.pop_back();
    bool is_name = false;
    std::vector<CodePointRange> next;
    for (size_t i = 0; i < node.names.size();) {
      if (node.names[i].size() == node.depth) {
        is_name = true;
        ++i;
        continue;
      }
      const char32_t c = node.names[i][node.depth];
      Open child{builder_.NewState(), node.depth + 1, {}};
      for (; i < node.names.size() && node.names[i][node.depth] == c; ++i)
        child.names.push_back(node.names[i]);
      next.push_back({c, c});
      AddCharacters(node.state, std::span(next).last(1), child.state);
      open.push_back(std::move(child));
    }
    if (!is_name) builder_.AddBytes(node.state, '"', '"', part.exit);
    AddCharacters(node.state, ComplementRanges(NormalizeRanges(next)), other);
  }
  return part;
}

}  // namespace moxie
