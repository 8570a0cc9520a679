#include <algorithm>
#include <span>

#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_text.h"

namespace moxie::jinja {
namespace {

// A method of Markup gives Markup, and escapes the plain text that it is given.
Value Like(const Value& self, std::string text) { return Value(std::move(text), self.IsMarkup()); }

std::string ArgumentText(const Value& self, const Parameters& p, size_t i) {
  const std::string text = p.String(i, "");
  return self.IsMarkup() && !p[i].IsMarkup() ? EscapeHtml(text) : text;
}

template <std::string (*Map)(std::string_view)>
Value Mapped(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "a string's method", {});
  runtime.ChargeBytes(self.string().size());
  return Like(self, Map(self.string()));
}

template <bool kLeft, bool kRight>
Value StripMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "strip", {"chars"});
  runtime.ChargeBytes(self.string().size());
  if (!p.Has(0) || p[0].IsNone()) return Like(self, Strip(self.string(), kLeft, kRight));
  const std::string chars = p.String(0, "");
  // Each character is looked for among `chars`.
  runtime.ChargeBytes(self.string().size() * std::min<size_t>(chars.size(), 64));
  return Like(self, Strip(self.string(), chars, kLeft, kRight));
}

// The part of a string that Python's optional start and end choose.
std::string Window(const Value& self, const Parameters& p, size_t first, int64_t* offset) {
  const std::u32string text = Decode(self.string());
  const auto size = static_cast<int64_t>(text.size());
  const auto bound = [&](size_t i, int64_t otherwise) {
    if (!p.Has(i) || p[i].IsNone()) return otherwise;
    const int64_t at = p.Integer(i, 0);
    return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size + 1);
  };
  const int64_t begin = bound(first, 0);
  const int64_t end = std::min(bound(first + 1, size), size);
  *offset = begin;
  if (begin > end) {
    *offset = -1;  // Not even the empty string is found here.
    return {};
  }
  return Encode(std::u32string_view(text).substr(static_cast<size_t>(begin),
                                                 static_cast<size_t>(end - begin)));
}

template <bool kStart>
Value Affix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, kStart ? "startswith" : "endswith", {"prefix", "start", "end"}, 1);
  runtime.ChargeBytes(self.string().size());
  int64_t offset = 0;
  const bool whole = !p.Has(1);
  const std::string window = whole ? std::string() : Window(self, p, 1, &offset);
  const std::string_view text = whole ? std::string_view(self.string()) : window;
  const auto matches = [&](const Value& affix) {
    if (!affix.IsString()) ThrowType("startswith and endswith expect a string, not", affix);
    if (offset < 0) return false;
    return kStart ? text.starts_with(affix.string()) : text.ends_with(affix.string());
  };
  if (TypeName(p[0]) != "tuple") return matches(p[0]);
  const auto& choices = (*p[0].If<SequencePtr>())->items;
  runtime.Charge(static_cast<int64_t>(choices.size()));
  return std::any_of(choices.begin(), choices.end(), matches);
}

enum class Find : uint8_t { kFirst, kLast, kCount };

template <Find kWhat, bool kThrows>
Value FindIn(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "find", {"sub", "start", "end"}, 1);
  const std::string sub = p.String(0, "");
  runtime.ChargeBytes(2 * self.string().size());
  int64_t offset = 0;
  const std::string text = Window(self, p, 1, &offset);
  if (kWhat == Find::kCount) {
    if (offset < 0) return int64_t{0};
    if (sub.empty()) return Length(jinja::Text{text, false, false}) + 1;
    int64_t count = 0;
    for (size_t at = text.find(sub); at != std::string::npos; at = text.find(sub, at + sub.size()))
      ++count;
    return count;
  }
  const size_t at = kWhat == Find::kFirst ? text.find(sub) : text.rfind(sub);
  if (at == std::string::npos || offset < 0) {
    if (kThrows) throw Failure{"substring not found"};
    return int64_t{-1};
  }
  return offset + Length(jinja::Text{text.substr(0, at), false, false});
}

template <bool (*kTest)(char32_t)>
bool AllCharacters(const Value& self) {
  const std::u32string text = Decode(self.string());
  return !text.empty() && std::all_of(text.begin(), text.end(), kTest);
}

template <CharClass kClass>
Value IsAll(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "a string's method", {});
  runtime.ChargeBytes(self.string().size());
  const auto test = [](char32_t c) { return IsClass(c, kClass); };
  const std::u32string text = Decode(self.string());
  if (text.empty()) return kClass == CharClass::kPrintable;
  return std::all_of(text.begin(), text.end(), test);
}

bool IsAlphanumeric(char32_t c) {
  return IsClass(c, CharClass::kAlpha) || IsClass(c, CharClass::kDecimal) ||
         IsClass(c, CharClass::kDigit) || IsClass(c, CharClass::kNumeric);
}

Value IsAlnum(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "isalnum", {});
  runtime.ChargeBytes(self.string().size());
  return AllCharacters<IsAlphanumeric>(self);
}

Value IsAsciiMethod(Runtime&, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "isascii", {});
  return (*self.If<TextPtr>())->ascii;
}

// Cased characters exist, and all are of the wanted case.
template <CharClass kWanted, CharClass kOther>
Value IsCase(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "a string's method", {});
  runtime.ChargeBytes(self.string().size());
  bool any = false;
  for (const char32_t c : Decode(self.string())) {
    if (IsClass(c, kOther) || IsClass(c, CharClass::kTitle)) return false;
    any = any || IsClass(c, kWanted);
  }
  return any;
}

Value IsTitle(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "istitle", {});
  runtime.ChargeBytes(self.string().size());
  bool any = false;
  bool inside = false;
  for (const char32_t c : Decode(self.string())) {
    const bool upper = IsClass(c, CharClass::kUpper) || IsClass(c, CharClass::kTitle);
    const bool lower = IsClass(c, CharClass::kLower);
    if ((upper && inside) || (lower && !inside)) return false;
    any = any || upper || lower;
    inside = upper || lower;
  }
  return any;
}

Value Join(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "join", {"iterable"}, 1);
  const SequencePtr items = Iterate(runtime, p[0]);
  std::string out;
  for (size_t i = 0; i < items->items.size(); ++i) {
    const Value& item = items->items[i];
    if (!item.IsString()) ThrowType("join expects strings, not", item);
    runtime.ChargeBytes(item.string().size() + self.string().size() + 64);
    if (i > 0) out += self.string();
    out += self.IsMarkup() && !item.IsMarkup() ? EscapeHtml(item.string()) : item.string();
  }
  return Like(self, std::move(out));
}

Value Replace(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "replace", {"old", "new", "count"}, 2);
  const std::string from = ArgumentText(self, p, 0);
  const std::string to = ArgumentText(self, p, 1);
  // At most one replacement for each `from`, or for each character.
  const size_t most = self.string().size() / std::max<size_t>(from.size(), 1) + 1;
  runtime.ChargeBytes(self.string().size());
  if (to.size() > from.size()) runtime.ChargeBytes(most * (to.size() - from.size()));
  return Like(self, ReplaceAll(self.string(), from, to, p.Integer(2, -1)));
}

std::vector<std::string> SplitSpace(std::string_view text, int64_t most) {
  std::vector<std::string> parts;
  std::string rest = Strip(text, true, false);
  const std::u32string all = Decode(rest);
  size_t i = 0;
  while (i < all.size()) {
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(Encode(std::u32string_view(all).substr(i)));
      break;
    }
    size_t end = i;
    while (end < all.size() && !IsSpace(all[end])) ++end;
    parts.push_back(Encode(std::u32string_view(all).substr(i, end - i)));
    for (i = end; i < all.size() && IsSpace(all[i]);) ++i;
  }
  return parts;
}

std::vector<std::string> SplitSpaceRight(std::string_view text, int64_t most) {
  std::vector<std::string> parts;
  const std::u32string all = Decode(Strip(text, false, true));
  size_t end = all.size();
  while (end > 0) {
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(Encode(std::u32string_view(all).substr(0, end)));
      break;
    }
    size_t begin = end;
    while (begin > 0 && !IsSpace(all[begin - 1])) --begin;
    parts.push_back(Encode(std::u32string_view(all).substr(begin, end - begin)));
    for (end = begin; end > 0 && IsSpace(all[end - 1]);) --end;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> SplitAt(std::string_view text, std::string_view separator, int64_t most) {
  std::vector<std::string> parts;
  size_t at = 0;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t found = text.find(separator, at);
    if (found == std::string_view::npos) break;
    parts.emplace_back(text.substr(at, found - at));
    at = found + separator.size();
  }
  parts.emplace_back(text.substr(at));
  return parts;
}

std::vector<std::string> SplitAtRight(std::string_view text, std::string_view separator,
                                      int64_t most) {
  std::vector<std::string> parts;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t found = text.rfind(separator);
    if (found == std::string_view::npos) break;
    parts.emplace_back(text.substr(found + separator.size()));
    text = text.substr(0, found);
  }
  parts.emplace_back(text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

Value TextList(Runtime& runtime, const Value& self, std::vector<std::string> parts) {
  runtime.Charge(static_cast<int64_t>(2 * parts.size()));
  std::vector<Value> items;
  items.reserve(parts.size());
  for (std::string& part : parts) items.push_back(Like(self, std::move(part)));
  return Value::List(std::move(items));
}

template <bool kRight>
Value Split(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "split", {"sep", "maxsplit"});
  const int64_t most = p.Integer(1, -1);
  const std::string& text = self.string();
  // Every character may become a part of its own.
  runtime.Charge(static_cast<int64_t>(text.size() / 16));
  if (!p.Has(0) || p[0].IsNone())
    return TextList(runtime, self, kRight ? SplitSpaceRight(text, most) : SplitSpace(text, most));
  const std::string separator = p.String(0, "");
  if (separator.empty()) throw Failure{"split got an empty separator"};
  return TextList(runtime, self,
                  kRight ? SplitAtRight(text, separator, most) : SplitAt(text, separator, most));
}

Value SplitLinesMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "splitlines", {"keepends"});
  runtime.Charge(static_cast<int64_t>(self.string().size() / 16));
  return TextList(runtime, self, SplitLines(self.string(), p.Truth(0, false)));
}

template <bool kRight>
Value Partition(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "partition", {"sep"}, 1);
  const std::string separator = p.String(0, "");
  if (separator.empty()) throw Failure{"partition got an empty separator"};
  const std::string& text = self.string();
  runtime.ChargeBytes(text.size());
  const size_t at = kRight ? text.rfind(separator) : text.find(separator);
  if (at == std::string::npos) {
    return kRight ? Value::Tuple({Like(self, ""), Like(self, ""), self})
                  : Value::Tuple({self, Like(self, ""), Like(self, "")});
  }
  return Value::Tuple({Like(self, text.substr(0, at)), Like(self, separator),
                       Like(self, text.substr(at + separator.size()))});
}

template <bool kPrefix>
Value RemoveAffix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "removeprefix", {"prefix"}, 1);
  const std::string affix = p.String(0, "");
  const std::string& text = self.string();
  runtime.ChargeBytes(text.size());
  if (kPrefix) return Like(self, text.starts_with(affix) ? text.substr(affix.size()) : text);
  return Like(self, text.ends_with(affix) ? text.substr(0, text.size() - affix.size()) : text);
}

enum class Align : uint8_t { kLeft, kRight, kCenter };

template <Align kAlign>
Value Justify(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "a string's method", {"width", "fillchar"}, 1);
  const std::string fill = p.String(1, " ");
  if (Length(jinja::Text{fill, false, false}) != 1) throw Failure{"fillchar must be one character"};
  const int64_t missing = p.Integer(0, 0) - Length(**self.If<TextPtr>());
  if (missing <= 0) return self;
  runtime.Charge(missing / 16);
  // CPython puts the odd character of centre to the left where the width is odd too.
  const int64_t left = kAlign == Align::kLeft    ? 0
                       : kAlign == Align::kRight ? missing
                                                 : missing / 2 + (missing & p.Integer(0, 0) & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += self.string();
  for (int64_t i = left; i < missing; ++i) out += fill;
  return Like(self, std::move(out));
}

Value ZeroFill(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "zfill", {"width"}, 1);
  const int64_t missing = p.Integer(0, 0) - Length(**self.If<TextPtr>());
  if (missing <= 0) return self;
  runtime.Charge(missing / 16);
  const std::string& text = self.string();
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  return Like(self, text.substr(0, sign) + std::string(static_cast<size_t>(missing), '0') +
                        text.substr(sign));
}

Value Format(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return Like(self, FormatBraces(runtime, self.string(), arguments));
}

Value FormatMap(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "format_map", {"mapping"}, 1);
  const DictPtr* dict = p[0].If<DictPtr>();
  if (dict == nullptr) ThrowType("format_map expects a mapping, not", p[0]);
  Arguments named;
  for (const auto& [key, value] : (*dict)->entries) {
    if (key.IsString()) named.named.emplace_back(key.string(), value);
  }
  return Like(self, FormatBraces(runtime, self.string(), named));
}

Value DictGet(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "get", {"key", "default"}, 1);
  runtime.Charge(Cost(p[0]));
  const Value* found = (*self.If<DictPtr>())->Find(p[0]);
  return found != nullptr ? *found : p.Or(1, Value());
}

template <Sequence::Kind kKind>
Value DictView(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "a dict's method", {});
  const Dict& dict = **self.If<DictPtr>();
  runtime.Charge(static_cast<int64_t>(2 * dict.entries.size()));
  std::vector<Value> items;
  for (const auto& [key, value] : dict.entries) {
    if (kKind == Sequence::Kind::kItems) {
      items.push_back(Value::Tuple({key, value}));
    } else {
      items.push_back(kKind == Sequence::Kind::kKeys ? key : value);
    }
  }
  return Sequence::Make(kKind, std::move(items));
}

Value Copy(Runtime&, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "copy", {});
  return self;
}

Value SequenceIndex(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "index", {"value"}, 1);
  const SequencePtr all = Iterate(runtime, self);
  for (size_t i = 0; i < all->items.size(); ++i) {
    runtime.Charge(1);
    if (runtime.AreEqual(all->items[i], p[0])) return static_cast<int64_t>(i);
  }
  throw Failure{"index: the value is not in the sequence"};
}

Value SequenceCount(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "count", {"value"}, 1);
  int64_t count = 0;
  const SequencePtr all = Iterate(runtime, self);
  for (const Value& item : all->items) {
    runtime.Charge(1);
    count += runtime.AreEqual(item, p[0]) ? 1 : 0;
  }
  return count;
}

struct Named {
  std::string_view name;
  Method method;
};

constexpr Named kStringMethods[] = {
    {"capitalize", Mapped<Capitalize>},
    {"casefold", Mapped<FoldCase>},
    {"center", Justify<Align::kCenter>},
    {"count", FindIn<Find::kCount, false>},
    {"endswith", Affix<false>},
    {"find", FindIn<Find::kFirst, false>},
    {"format", Format},
    {"format_map", FormatMap},
    {"index", FindIn<Find::kFirst, true>},
    {"isalnum", IsAlnum},
    {"isalpha", IsAll<CharClass::kAlpha>},
    {"isascii", IsAsciiMethod},
    {"isdecimal", IsAll<CharClass::kDecimal>},
    {"isdigit", IsAll<CharClass::kDigit>},
    {"islower", IsCase<CharClass::kLower, CharClass::kUpper>},
    {"isnumeric", IsAll<CharClass::kNumeric>},
    {"isprintable", IsAll<CharClass::kPrintable>},
    {"isspace", IsAll<CharClass::kSpace>},
    {"istitle", IsTitle},
    {"isupper", IsCase<CharClass::kUpper, CharClass::kLower>},
    {"join", Join},
    {"ljust", Justify<Align::kLeft>},
    {"lower", Mapped<Lower>},
    {"lstrip", StripMethod<true, false>},
    {"partition", Partition<false>},
    {"removeprefix", RemoveAffix<true>},
    {"removesuffix", RemoveAffix<false>},
    {"replace", Replace},
    {"rfind", FindIn<Find::kLast, false>},
    {"rindex", FindIn<Find::kLast, true>},
    {"rjust", Justify<Align::kRight>},
    {"rpartition", Partition<true>},
    {"rsplit", Split<true>},
    {"rstrip", StripMethod<false, true>},
    {"split", Split<false>},
    {"splitlines", SplitLinesMethod},
    {"startswith", Affix<true>},
    {"strip", StripMethod<true, true>},
    {"swapcase", Mapped<SwapCase>},
    {"title", Mapped<Title>},
    {"upper", Mapped<Upper>},
    {"zfill", ZeroFill},
};
constexpr Named kDictMethods[] = {
    {"copy", Copy},
    {"get", DictGet},
    {"items", DictView<Sequence::Kind::kItems>},
    {"keys", DictView<Sequence::Kind::kKeys>},
    {"values", DictView<Sequence::Kind::kValues>},
};
constexpr Named kListMethods[] = {
    {"copy", Copy}, {"count", SequenceCount}, {"index", SequenceIndex}};
constexpr Named kTupleMethods[] = {{"count", SequenceCount}, {"index", SequenceIndex}};
// What would change a list or dict in place; the sandbox knows these names and gives them no value.
constexpr std::string_view kRefused[] = {"append",     "clear",   "extend", "insert",
                                         "pop",        "popitem", "remove", "reverse",
                                         "setdefault", "sort",    "update"};

std::span<const Named> MethodsOf(const Value& object) {
  if (object.IsString()) return kStringMethods;
  if (object.IsMapping()) return kDictMethods;
  if (TypeName(object) == "list") return kListMethods;
  if (TypeName(object) == "tuple" || TypeName(object) == "range") return kTupleMethods;
  return {};
}

bool IsRefused(const Value& object, std::string_view name) {
  const bool list = TypeName(object) == "list";
  if (!list && !object.IsMapping()) return false;
  if (std::find(std::begin(kRefused), std::end(kRefused), name) == std::end(kRefused)) return false;
  const bool of_dict = name == "popitem" || name == "setdefault" || name == "update";
  const bool of_both = name == "clear" || name == "pop";
  return of_both || of_dict == object.IsMapping();
}

}  // namespace

std::optional<Value> FindMethod(const Value& object, const std::string& name) {
  for (const Named& candidate : MethodsOf(object)) {
    if (candidate.name != name) continue;
    const Method method = candidate.method;
    return Value(ObjectPtr(std::make_shared<Function>(
        name,
        [object, method](Runtime& runtime, const Arguments& arguments) {
          return method(runtime, object, arguments);
        },
        1 + Depth(object))));
  }
  if (IsRefused(object, name)) {
    return Value::MakeUndefined("'" + name + "' would change a " + std::string(TypeName(object)) +
                                ", which a chat template may not");
  }
  return std::nullopt;
}

}  // namespace moxie::jinja
