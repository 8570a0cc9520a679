#include "tokenizer/jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

namespace moxie::jinja {
namespace {

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

constexpr int64_t kMaxCost = int64_t{1} << 40;

// Counts `child` into a container's depth and cost.
void Include(const Value& child, int* depth, int64_t* cost) {
  *depth = std::max(*depth, 1 + Depth(child));
  *cost = std::min(*cost + 1 + Cost(child), kMaxCost);
  if (*depth > kMaxValueDepth)
    throw Failure{"values nest deeper than " + std::to_string(kMaxValueDepth) + " levels"};
}

bool SameSequenceKind(const Sequence& a, const Sequence& b) { return a.kind == b.kind; }

// An int and a double compare exactly in Python, and so here: not by rounding the int.
std::partial_ordering CompareIntDouble(int64_t a, double b) {
  if (std::isnan(b)) return std::partial_ordering::unordered;
  if (b >= 0x1p63) return std::partial_ordering::less;
  if (b < -0x1p63) return std::partial_ordering::greater;
  const double floor = std::floor(b);
  const auto whole = static_cast<int64_t>(floor);
  if (a != whole) return a <=> whole;
  return floor < b ? std::partial_ordering::less : std::partial_ordering::equivalent;
}

std::partial_ordering Reverse(std::partial_ordering order) {
  if (order == std::partial_ordering::less) return std::partial_ordering::greater;
  if (order == std::partial_ordering::greater) return std::partial_ordering::less;
  return order;
}

std::partial_ordering CompareNumbers(const Value& a, const Value& b) {
  if (a.IsInteger() && b.IsInteger()) return a.integer() <=> b.integer();
  if (a.IsInteger() && b.Is<double>()) return CompareIntDouble(a.integer(), *b.If<double>());
  if (a.Is<double>() && b.IsInteger())
    return Reverse(CompareIntDouble(b.integer(), *a.If<double>()));
  return a.number() <=> b.number();
}

}  // namespace

Value::Value(std::string value, bool markup) {
  const bool ascii = IsAscii(value);
  data_ = std::make_shared<const Text>(Text{std::move(value), ascii, markup});
}

Value Value::MakeUndefined(std::string why) {
  return Undefined{std::make_shared<const std::string>(std::move(why))};
}

Value Value::List(std::vector<Value> items) {
  return Sequence::Make(Sequence::Kind::kList, std::move(items));
}

Value Value::Tuple(std::vector<Value> items) {
  return Sequence::Make(Sequence::Kind::kTuple, std::move(items));
}

double Value::number() const {
  if (IsInteger()) return static_cast<double>(integer());
  if (const double* d = If<double>()) return *d;
  const std::string& digits = *If<BigInt>()->digits;
  double result = HUGE_VAL;
  std::from_chars(digits.data(), digits.data() + digits.size(), result);
  return result;
}

SequencePtr Sequence::Make(Kind kind, std::vector<Value> items) {
  auto sequence = std::make_shared<Sequence>();
  sequence->kind = kind;
  for (const Value& item : items) Include(item, &sequence->depth, &sequence->cost);
  sequence->items = std::move(items);
  return sequence;
}

std::optional<size_t> Dict::Locate(const Value& key, size_t hash) const {
  const auto [first, last] = index_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    if (Equal(entries[it->second].first, key)) return it->second;
  }
  return std::nullopt;
}

const Value* Dict::Find(const Value& key) const {
  const auto at = Locate(key, Hash(key));
  return at.has_value() ? &entries[*at].second : nullptr;
}

const Value* Dict::Find(std::string_view key) const {
  const auto [first, last] = index_.equal_range(std::hash<std::string_view>{}(key));
  for (auto it = first; it != last; ++it) {
    const Value& candidate = entries[it->second].first;
    if (candidate.IsString() && candidate.string() == key) return &entries[it->second].second;
  }
  return nullptr;
}

void Dict::Set(const Value& key, Value value) {
  const size_t hash = Hash(key);
  Include(key, &depth, &cost);
  Include(value, &depth, &cost);
  if (const auto at = Locate(key, hash)) {
    entries[*at].second = std::move(value);
    return;
  }
  index_.emplace(hash, entries.size());
  entries.emplace_back(key, std::move(value));
}

int64_t Range::size() const {
  // Widened: stop - start may not fit, and the sandbox refuses long ranges only afterwards.
  const auto span = static_cast<__int128>(stop) - start;
  const __int128 by = step;
  const __int128 count = step > 0 ? (span + by - 1) / by : (span + by + 1) / by;
  const bool empty = step > 0 ? span <= 0 : span >= 0;
  return empty ? 0 : static_cast<int64_t>(std::min<__int128>(count, INT64_MAX));
}

std::string_view TypeName(const Value& value) {
  if (value.IsUndefined()) return "Undefined";
  if (value.IsNone()) return "NoneType";
  if (value.Is<bool>()) return "bool";
  if (value.Is<int64_t>() || value.Is<BigInt>()) return "int";
  if (value.Is<double>()) return "float";
  if (value.IsString()) return value.IsMarkup() ? "Markup" : "str";
  if (value.IsMapping()) return "dict";
  if (const SequencePtr* sequence = value.If<SequencePtr>()) {
    constexpr std::string_view kNames[] = {"list",        "tuple",      "tuple",    "dict_keys",
                                           "dict_values", "dict_items", "generator"};
    return kNames[static_cast<size_t>((*sequence)->kind)];
  }
  constexpr std::string_view kNames[] = {"namespace", "Macro", "LoopContext", "function", "range"};
  return kNames[static_cast<size_t>((*value.If<ObjectPtr>())->kind)];
}

int Depth(const Value& value) {
  if (const SequencePtr* sequence = value.If<SequencePtr>()) return (*sequence)->depth;
  if (const DictPtr* dict = value.If<DictPtr>()) return (*dict)->depth;
  if (const ObjectPtr* object = value.If<ObjectPtr>()) return (*object)->depth;
  return 0;
}

int64_t Cost(const Value& value) {
  if (value.IsString()) return static_cast<int64_t>(value.string().size() / 64);
  if (const SequencePtr* sequence = value.If<SequencePtr>()) return (*sequence)->cost;
  if (const DictPtr* dict = value.If<DictPtr>()) return (*dict)->cost;
  return 0;
}

bool Truthy(const Value& value) {
  if (value.IsUndefined() || value.IsNone()) return false;
  if (value.IsInteger()) return value.integer() != 0;
  if (const double* d = value.If<double>()) return *d != 0;
  if (value.IsString()) return !value.string().empty();
  if (const SequencePtr* sequence = value.If<SequencePtr>())
    return (*sequence)->kind == Sequence::Kind::kIterator || !(*sequence)->items.empty();
  if (const DictPtr* dict = value.If<DictPtr>()) return !(*dict)->entries.empty();
  if (const auto* range = ObjectAs<Range>(value, Object::Kind::kRange)) return range->size() > 0;
  return true;
}

bool Equal(const Value& a, const Value& b) {
  if (a.Is<BigInt>() && b.Is<BigInt>()) return *a.If<BigInt>()->digits == *b.If<BigInt>()->digits;
  if (a.IsNumber() && b.IsNumber()) return CompareNumbers(a, b) == 0;
  if (a.data().index() != b.data().index()) return false;
  if (a.IsUndefined() || a.IsNone()) return true;
  if (a.IsString()) return a.string() == b.string();
  if (const SequencePtr* sequence = a.If<SequencePtr>()) {
    const Sequence& left = **sequence;
    const Sequence& right = **b.If<SequencePtr>();
    if (&left == &right) return true;
    if (!SameSequenceKind(left, right) || left.kind == Sequence::Kind::kIterator ||
        left.kind == Sequence::Kind::kValues)
      return false;
    return std::equal(left.items.begin(), left.items.end(), right.items.begin(), right.items.end(),
                      Equal);
  }
  if (const DictPtr* dict = a.If<DictPtr>()) {
    const Dict& left = **dict;
    const Dict& right = **b.If<DictPtr>();
    if (left.entries.size() != right.entries.size()) return false;
    return std::all_of(left.entries.begin(), left.entries.end(), [&](const auto& entry) {
      const Value* other = right.Find(entry.first);
      return other != nullptr && Equal(entry.second, *other);
    });
  }
  const auto* left = ObjectAs<Range>(a, Object::Kind::kRange);
  const auto* right = ObjectAs<Range>(b, Object::Kind::kRange);
  if (left != nullptr && right != nullptr) {
    const int64_t size = left->size();
    return size == right->size() && (size == 0 || left->start == right->start) &&
           (size < 2 || left->step == right->step);
  }
  return *a.If<ObjectPtr>() == *b.If<ObjectPtr>();
}

std::partial_ordering Compare(const Value& a, const Value& b) {
  RequireDefined(a);
  RequireDefined(b);
  if (a.IsNumber() && b.IsNumber()) return CompareNumbers(a, b);
  // UTF-8 sorts as its code points do.
  if (a.IsString() && b.IsString()) return a.string() <=> b.string();
  const SequencePtr* left = a.If<SequencePtr>();
  const SequencePtr* right = b.If<SequencePtr>();
  if (left == nullptr || right == nullptr || !SameSequenceKind(**left, **right) ||
      !(*left)->IsListOrTuple()) {
    throw Failure{"cannot order '" + std::string(TypeName(a)) + "' and '" +
                  std::string(TypeName(b)) + "'"};
  }
  const std::vector<Value>& x = (*left)->items;
  const std::vector<Value>& y = (*right)->items;
  for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    if (!Equal(x[i], y[i])) return Compare(x[i], y[i]);
  }
  return x.size() <=> y.size();
}

size_t Hash(const Value& value) {
  if (value.IsString()) return std::hash<std::string_view>{}(value.string());
  if (value.IsInteger()) return std::hash<int64_t>{}(value.integer());
  if (const double* d = value.If<double>()) {
    const bool whole = std::floor(*d) == *d && std::abs(*d) < 0x1p62;
    return whole ? std::hash<int64_t>{}(static_cast<int64_t>(*d)) : std::hash<double>{}(*d);
  }
  if (const BigInt* big = value.If<BigInt>()) return std::hash<std::string>{}(*big->digits);
  if (value.IsNone()) return 0x9e3779b9;
  if (value.IsUndefined()) return 0x7f4a7c15;
  const SequencePtr* sequence = value.If<SequencePtr>();
  if (sequence != nullptr && (*sequence)->IsTuple()) {
    size_t hash = 0x2545f491;
    for (const Value& item : (*sequence)->items) hash = hash * 1000003 ^ Hash(item);
    return hash;
  }
  if (const ObjectPtr* object = value.If<ObjectPtr>()) return std::hash<Object*>{}(object->get());
  throw Failure{"unhashable type: '" + std::string(TypeName(value)) + "'"};
}

void RequireDefined(const Value& value) {
  if (const Undefined* undefined = value.If<Undefined>()) throw Failure{*undefined->why};
}

}  // namespace moxie::jinja
