#include <algorithm>

#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_text.h"

namespace moxie::jinja {
namespace {

Value Iterator(std::vector<Value> items) {
  return Sequence::Make(Sequence::Kind::kIterator, std::move(items));
}

// "a.0.b" names an item within an item; parts of digits are integers.
std::vector<Value> AttributePath(const Value& attribute) {
  if (attribute.IsNone()) return {};
  if (!attribute.IsString()) return {attribute};
  std::vector<Value> path;
  const std::string& text = attribute.string();
  for (size_t at = 0; at <= text.size();) {
    const size_t dot = std::min(text.find('.', at), text.size());
    const std::string part = text.substr(at, dot - at);
    const bool digits = !part.empty() && part.size() < 18 &&
                        part.find_first_not_of("0123456789") == std::string::npos;
    path.push_back(digits ? Value(static_cast<int64_t>(std::stoll(part))) : Value(part));
    at = dot + 1;
  }
  return path;
}

Value Follow(Runtime& runtime, Value item, const std::vector<Value>& path, const Value& otherwise) {
  for (const Value& part : path) {
    item = GetItem(runtime, item, part);
    if (item.IsUndefined() && !otherwise.IsNone()) item = otherwise;
  }
  return item;
}

Value FoldCase(Runtime& runtime, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.IsString()) return value;
  runtime.ChargeBytes(value.string().size());
  return Value(Lower(value.string()));
}

struct Keyed {
  Value key, item;
};

void SortByKey(Runtime& runtime, bool reverse, std::vector<Keyed>* items) {
  std::stable_sort(items->begin(), items->end(), [&](const Keyed& a, const Keyed& b) {
    runtime.Charge(1);
    return reverse ? runtime.IsLess(b.key, a.key) : runtime.IsLess(a.key, b.key);
  });
}

std::vector<Value> ItemsOf(std::vector<Keyed> keyed) {
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (Keyed& each : keyed) items.push_back(std::move(each.item));
  return items;
}

Value Sort(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "sort", {"reverse", "case_sensitive", "attribute"});
  std::vector<std::vector<Value>> paths;
  if (p.Has(2) && p[2].IsString()) {
    const std::string& text = p[2].string();
    for (size_t at = 0; at <= text.size();) {
      const size_t comma = std::min(text.find(',', at), text.size());
      paths.push_back(AttributePath(Value(text.substr(at, comma - at))));
      at = comma + 1;
    }
  } else {
    paths.push_back(AttributePath(p.Or(2, Value())));
  }
  std::vector<Keyed> keyed;
  const SequencePtr all = Iterate(runtime, input);
  for (const Value& item : all->items) {
    runtime.Charge(static_cast<int64_t>(paths.size()));
    std::vector<Value> key;
    key.reserve(paths.size());
    for (const auto& path : paths)
      key.push_back(FoldCase(runtime, Follow(runtime, item, path, {}), p.Truth(1, false)));
    keyed.push_back({Value::List(std::move(key)), item});
  }
  SortByKey(runtime, p.Truth(0, false), &keyed);
  return Value::List(ItemsOf(std::move(keyed)));
}

Value DictSort(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "dictsort", {"case_sensitive", "by", "reverse"});
  const std::string by = p.String(1, "key");
  if (by != "key" && by != "value") throw Failure{"dictsort sorts by key or value"};
  const DictPtr* dict = input.If<DictPtr>();
  if (dict == nullptr) ThrowType("dictsort expects a mapping, not", input);
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : (*dict)->entries) {
    runtime.Charge(2);
    keyed.push_back({FoldCase(runtime, by == "key" ? key : value, p.Truth(0, false)),
                     Value::Tuple({key, value})});
  }
  SortByKey(runtime, p.Truth(2, false), &keyed);
  return Value::List(ItemsOf(std::move(keyed)));
}

Value Unique(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "unique", {"case_sensitive", "attribute"});
  const std::vector<Value> path = AttributePath(p.Or(1, Value()));
  Dict seen;
  std::vector<Value> items;
  const SequencePtr all = Iterate(runtime, input);
  for (const Value& item : all->items) {
    const Value key = FoldCase(runtime, Follow(runtime, item, path, {}), p.Truth(0, false));
    runtime.Charge(1 + Cost(key));
    if (seen.Find(key) != nullptr) continue;
    seen.Set(key, Value());
    items.push_back(item);
  }
  return Iterator(std::move(items));
}

template <bool kMax>
Value Extreme(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, kMax ? "max" : "min", {"case_sensitive", "attribute"});
  const std::vector<Value> path = AttributePath(p.Or(1, Value()));
  std::optional<Keyed> best;
  const SequencePtr all = Iterate(runtime, input);
  for (const Value& item : all->items) {
    runtime.Charge(1);
    Value key = FoldCase(runtime, Follow(runtime, item, path, {}), p.Truth(0, false));
    if (!best.has_value() ||
        (kMax ? runtime.IsLess(best->key, key) : runtime.IsLess(key, best->key)))
      best = Keyed{std::move(key), item};
  }
  if (!best.has_value()) return Value::MakeUndefined("no aggregated item, the sequence was empty");
  return best->item;
}

Value Join(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "join", {"d", "attribute"});
  const std::string separator = runtime.Text(p.Or(0, ""));
  const std::vector<Value> path = AttributePath(p.Or(1, Value()));
  std::string out;
  const SequencePtr all = Iterate(runtime, input);
  for (size_t i = 0; i < all->items.size(); ++i) {
    if (i > 0) out += separator;
    const std::string text = runtime.Text(Follow(runtime, all->items[i], path, {}));
    runtime.ChargeBytes(text.size() + separator.size() + 64);
    out += text;
  }
  return out;
}

Value First(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "first", {});
  const SequencePtr* sequence = input.If<SequencePtr>();
  if (sequence != nullptr && (*sequence)->kind == Sequence::Kind::kIterator) {
    if ((*sequence)->position < (*sequence)->items.size())
      return (*sequence)->items[(*sequence)->position++];
  } else {
    const SequencePtr all = Iterate(runtime, input);
    if (!all->items.empty()) return all->items.front();
  }
  return Value::MakeUndefined("no first item, the sequence was empty");
}

Value Last(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "last", {});
  if (TypeName(input) == "generator") ThrowType("last expects a sequence, not", input);
  const SequencePtr all = Iterate(runtime, input);
  if (!all->items.empty()) return all->items.back();
  return Value::MakeUndefined("no last item, the sequence was empty");
}

Value LengthFilter(Runtime&, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "length", {});
  const auto length = LengthOf(input);
  if (!length.has_value()) ThrowType("length expects a sequence, not", input);
  return *length;
}

Value ListFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "list", {});
  return Value::List(Iterate(runtime, input)->items);
}

Value Items(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "items", {});
  if (input.IsUndefined()) return Iterator({});
  if (!input.IsMapping()) ThrowType("items expects a mapping, not", input);
  return Iterator(Iterate(runtime, runtime.Call(*FindMember(input, "items"), {}))->items);
}

Value Reverse(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "reverse", {});
  if (input.IsString()) {
    runtime.ChargeBytes(input.string().size());
    std::u32string text = Decode(input.string());
    std::reverse(text.begin(), text.end());
    return Value(Encode(text), input.IsMarkup());
  }
  std::vector<Value> items = Iterate(runtime, input)->items;
  runtime.Charge(static_cast<int64_t>(items.size()));
  std::reverse(items.begin(), items.end());
  if (TypeName(input) == "generator") return Value::List(std::move(items));
  return Iterator(std::move(items));
}

Value Sum(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "sum", {"attribute", "start"});
  const std::vector<Value> path = AttributePath(p.Or(0, Value()));
  Value total = p.Or(1, int64_t{0});
  if (total.IsString()) ThrowType("sum expects numbers, not", total);
  const SequencePtr all = Iterate(runtime, input);
  for (const Value& item : all->items) {
    runtime.Charge(1);
    total = Apply(runtime, BinaryOperator::kAdd, total, Follow(runtime, item, path, {}));
  }
  return total;
}

Value Batch(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "batch", {"linecount", "fill_with"}, 1);
  const int64_t size = p.Integer(0, 1);
  std::vector<Value> batches;
  std::vector<Value> batch;
  const SequencePtr all = Iterate(runtime, input);
  for (const Value& item : all->items) {
    runtime.Charge(2);
    if (static_cast<int64_t>(batch.size()) == size) {
      batches.push_back(Value::List(std::exchange(batch, {})));
    }
    batch.push_back(item);
  }
  if (!batch.empty()) {
    while (p.Has(1) && !p[1].IsNone() && static_cast<int64_t>(batch.size()) < size) {
      runtime.Charge(1);
      batch.push_back(p[1]);
    }
    batches.push_back(Value::List(std::move(batch)));
  }
  return Iterator(std::move(batches));
}

Value SliceFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "slice", {"slices", "fill_with"}, 1);
  const int64_t slices = p.Integer(0, 1);
  const SequencePtr all = Iterate(runtime, input);
  if (slices == 0) throw Failure{"slice cannot make 0 slices"};
  runtime.Charge(std::max<int64_t>(slices, 0) + static_cast<int64_t>(all->items.size()));
  const auto count = static_cast<int64_t>(all->items.size());
  std::vector<Value> result;
  auto at = all->items.begin();
  for (int64_t i = 0; i < slices; ++i) {
    const int64_t size = count / slices + (i < count % slices ? 1 : 0);
    std::vector<Value> slice(at, at + size);
    at += size;
    if (p.Has(1) && !p[1].IsNone() && i >= count % slices) slice.push_back(p[1]);
    result.push_back(Value::List(std::move(slice)));
  }
  return Iterator(std::move(result));
}

// The arguments behind the first `count`.
Arguments Rest(const Arguments& arguments, size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

Value Map(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (!Truthy(input)) return Iterator({});
  const SequencePtr all = Iterate(runtime, input);
  std::vector<Value> mapped;
  const bool by_attribute = arguments.positional.empty() &&
                            std::any_of(arguments.named.begin(), arguments.named.end(),
                                        [](const auto& n) { return n.first == "attribute"; });
  if (by_attribute) {
    const Parameters p(arguments, "map", {"attribute", "default"});
    const std::vector<Value> path = AttributePath(p[0]);
    for (const Value& item : all->items) {
      runtime.Charge(1);
      mapped.push_back(Follow(runtime, item, path, p.Or(1, Value())));
    }
    return Iterator(std::move(mapped));
  }
  if (arguments.positional.empty()) throw Failure{"map needs a filter's name"};
  const std::string name = runtime.Text(arguments.positional[0]);
  const Arguments rest = Rest(arguments, 1);
  for (const Value& item : all->items) {
    runtime.Charge(1);
    mapped.push_back(CallFilter(runtime, name, item, rest));
  }
  return Iterator(std::move(mapped));
}

template <bool kKeeps, bool kByAttribute>
Value Select(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (!Truthy(input)) return Iterator({});
  const size_t offset = kByAttribute ? 1 : 0;
  if (arguments.positional.size() < offset) throw Failure{"selectattr needs an attribute's name"};
  const std::vector<Value> path =
      kByAttribute ? AttributePath(arguments.positional[0]) : std::vector<Value>();
  const bool has_test = arguments.positional.size() > offset;
  const std::string test = has_test ? runtime.Text(arguments.positional[offset]) : "";
  const Arguments rest = has_test ? Rest(arguments, offset + 1) : Arguments{};
  std::vector<Value> kept;
  const SequencePtr all = Iterate(runtime, input);
  for (const Value& item : all->items) {
    runtime.Charge(1);
    const Value value = Follow(runtime, item, path, {});
    const bool passes = has_test ? CallTest(runtime, test, value, rest) : Truthy(value);
    if (passes == kKeeps) kept.push_back(item);
  }
  return Iterator(std::move(kept));
}

Value Attr(Runtime&, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "attr", {"name"}, 1);
  const std::string name = p.String(0, "");
  RequireDefined(input);
  if (auto member = FindMember(input, name)) return *std::move(member);
  return Value::MakeUndefined("'" + std::string(TypeName(input)) + " object' has no attribute '" +
                              name + "'");
}

// Groups of equal attributes, as (grouper, list) pairs in the order of the sorted attributes.
Value GroupBy(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "groupby", {"attribute", "default", "case_sensitive"}, 1);
  const std::vector<Value> path = AttributePath(p[0]);
  const bool case_sensitive = p.Truth(2, false);
  std::vector<Keyed> keyed;
  const SequencePtr all = Iterate(runtime, input);
  for (const Value& item : all->items) {
    runtime.Charge(1);
    keyed.push_back(
        {FoldCase(runtime, Follow(runtime, item, path, p.Or(1, Value())), case_sensitive), item});
  }
  SortByKey(runtime, false, &keyed);
  std::vector<Value> groups;
  for (size_t at = 0; at < keyed.size();) {
    std::vector<Value> members;
    const size_t first = at;
    for (; at < keyed.size() && runtime.AreEqual(keyed[at].key, keyed[first].key); ++at)
      members.push_back(keyed[at].item);
    const Value grouper = Follow(runtime, members.front(), path, p.Or(1, Value()));
    groups.push_back(
        Sequence::Make(Sequence::Kind::kGroup, {grouper, Value::List(std::move(members))}));
  }
  return Value::List(std::move(groups));
}

constexpr NamedFilter kFilters[] = {
    {"attr", Attr},
    {"batch", Batch},
    {"count", LengthFilter},
    {"dictsort", DictSort},
    {"first", First},
    {"groupby", GroupBy},
    {"items", Items},
    {"join", Join},
    {"last", Last},
    {"length", LengthFilter},
    {"list", ListFilter},
    {"map", Map},
    {"max", Extreme<true>},
    {"min", Extreme<false>},
    {"reject", Select<false, false>},
    {"rejectattr", Select<false, true>},
    {"reverse", Reverse},
    {"select", Select<true, false>},
    {"selectattr", Select<true, true>},
    {"slice", SliceFilter},
    {"sort", Sort},
    {"sum", Sum},
    {"unique", Unique},
};

}  // namespace

std::span<const NamedFilter> SequenceFilters() { return kFilters; }

}  // namespace moxie::jinja
