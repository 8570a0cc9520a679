#include "tokenizer/jinja_runtime.h"

#include <algorithm>

#include "tokenizer/jinja_text.h"

namespace moxie::jinja {
namespace {

// An index counted from the end where negative; nothing outside the sequence.
std::optional<size_t> ResolveIndex(const Value& index, int64_t size) {
  if (!index.IsInteger()) return std::nullopt;
  const int64_t at = index.integer() < 0 ? index.integer() + size : index.integer();
  if (at < 0 || at >= size) return std::nullopt;
  return static_cast<size_t>(at);
}

std::optional<Value> FindItem(Runtime& runtime, const Value& object, const Value& index) {
  if (const DictPtr* dict = object.If<DictPtr>()) {
    runtime.Charge(Cost(index));
    const bool hashable =
        !index.IsMapping() && (index.If<SequencePtr>() == nullptr || TypeName(index) == "tuple");
    const Value* found = hashable ? (*dict)->Find(index) : nullptr;
    return found != nullptr ? std::optional<Value>(*found) : std::nullopt;
  }
  if (const SequencePtr* sequence = object.If<SequencePtr>()) {
    if (!(*sequence)->IsListOrTuple()) return std::nullopt;
    const auto at = ResolveIndex(index, static_cast<int64_t>((*sequence)->items.size()));
    return at.has_value() ? std::optional<Value>((*sequence)->items[*at]) : std::nullopt;
  }
  if (const TextPtr* text = object.If<TextPtr>()) {
    const bool ascii = (*text)->ascii;
    if (!ascii) runtime.ChargeBytes((*text)->bytes.size());
    const auto at = ResolveIndex(index, Length(**text));
    if (!at.has_value()) return std::nullopt;
    if (ascii) return Value((*text)->bytes.substr(*at, 1), (*text)->markup);
    return Value(Encode(Decode((*text)->bytes).substr(*at, 1)), (*text)->markup);
  }
  if (const auto* range = ObjectAs<Range>(object, Object::Kind::kRange)) {
    const auto at = ResolveIndex(index, range->size());
    if (at.has_value()) return Value(range->start + static_cast<int64_t>(*at) * range->step);
  }
  return std::nullopt;
}

Value MissingMember(const Value& object, std::string_view member) {
  const std::string type(TypeName(object));
  return Value::MakeUndefined(
      object.IsNone() ? "none has no attribute '" + std::string(member) + "'"
                      : "'" + type + " object' has no attribute '" + std::string(member) + "'");
}

int64_t SliceBound(const Value& bound, int64_t size, int64_t otherwise, bool forward) {
  if (bound.IsNone()) return otherwise;
  if (!bound.IsInteger()) ThrowType("a slice's bound must be an integer, not", bound);
  const int64_t least = forward ? 0 : -1;
  const int64_t most = forward ? size : size - 1;
  const int64_t at = bound.integer() < 0 ? bound.integer() + size : bound.integer();
  return std::clamp(at, least, most);
}

struct SliceRange {
  int64_t first, last, step;
};

// What a slice picks from a sequence of `size`: Python's slice.indices.
SliceRange ResolveSlice(int64_t size, const Value& start, const Value& stop,
                        const Value& step_value) {
  if (!step_value.IsNone() && !step_value.IsInteger())
    ThrowType("a slice's step must be an integer, not", step_value);
  const int64_t step = step_value.IsNone() ? 1 : step_value.integer();
  if (step == 0) throw Failure{"a slice's step cannot be zero"};
  const bool forward = step > 0;
  return {SliceBound(start, size, forward ? 0 : size - 1, forward),
          SliceBound(stop, size, forward ? size : -1, forward), step};
}

std::vector<size_t> SliceIndices(int64_t size, const Value& start, const Value& stop,
                                 const Value& step) {
  const SliceRange slice = ResolveSlice(size, start, stop, step);
  std::vector<size_t> indices;
  int64_t at = slice.first;
  while (slice.step > 0 ? at < slice.last : at > slice.last) {
    indices.push_back(static_cast<size_t>(at));
    if (__builtin_add_overflow(at, slice.step, &at)) break;
  }
  return indices;
}

Value SliceOfRange(const Range& range, const SliceRange& slice) {
  const auto at = [&](int64_t index) {
    int64_t value = 0;
    if (__builtin_mul_overflow(index, range.step, &value) ||
        __builtin_add_overflow(range.start, value, &value))
      throw Failure{"an integer grows beyond 64 bits"};
    return value;
  };
  int64_t step = 0;
  if (__builtin_mul_overflow(range.step, slice.step, &step))
    throw Failure{"an integer grows beyond 64 bits"};
  return ObjectPtr(std::make_shared<Range>(at(slice.first), at(slice.last), step));
}

}  // namespace

void ThrowType(std::string_view what, const Value& value) {
  RequireDefined(value);
  throw Failure{std::string(what) + " '" + std::string(TypeName(value)) + "'"};
}

std::string Runtime::Text(const Value& value) {
  Charge(Cost(value));
  return Str(value);
}

bool Runtime::AreEqual(const Value& a, const Value& b) {
  Charge(std::min(Cost(a), Cost(b)));
  return Equal(a, b);
}

bool Runtime::IsLess(const Value& a, const Value& b) {
  Charge(std::min(Cost(a), Cost(b)));
  return Compare(a, b) < 0;
}

Parameters::Parameters(const Arguments& arguments, std::string_view function,
                       std::initializer_list<std::string_view> names, size_t required)
    : function_(function), names_(names), values_(names.size()) {
  if (arguments.positional.size() > names_.size()) {
    throw Failure{function_ + " takes at most " + std::to_string(names_.size()) +
                  " arguments, but got " + std::to_string(arguments.positional.size())};
  }
  std::copy(arguments.positional.begin(), arguments.positional.end(), values_.begin());
  for (const auto& [name, value] : arguments.named) {
    const auto at = std::find(names_.begin(), names_.end(), name);
    if (at == names_.end()) throw Failure{function_ + " has no argument '" + name + "'"};
    auto& slot = values_[static_cast<size_t>(at - names_.begin())];
    if (slot.has_value()) throw Failure{function_ + " got the argument '" + name + "' twice"};
    slot = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i].has_value())
      throw Failure{function_ + " needs the argument '" + std::string(names_[i]) + "'"};
  }
}

Value Parameters::Or(size_t i, Value otherwise) const {
  if (Has(i)) return *values_[i];
  return otherwise;
}

int64_t Parameters::Integer(size_t i, int64_t otherwise) const {
  if (!Has(i)) return otherwise;
  if (!values_[i]->IsInteger())
    ThrowType(function_ + " expects an integer as '" + std::string(names_[i]) + "', not",
              *values_[i]);
  return values_[i]->integer();
}

std::string Parameters::String(size_t i, std::string_view otherwise) const {
  if (!Has(i)) return std::string(otherwise);
  if (!values_[i]->IsString())
    ThrowType(function_ + " expects a string as '" + std::string(names_[i]) + "', not",
              *values_[i]);
  return values_[i]->string();
}

bool Parameters::Truth(size_t i, bool otherwise) const {
  return Has(i) ? Truthy(*values_[i]) : otherwise;
}

Value CallFilter(Runtime& runtime, std::string_view name, const Value& input,
                 const Arguments& arguments) {
  const Filter filter = FindFilter(name);
  if (filter == nullptr) throw Failure{"there is no filter '" + std::string(name) + "'"};
  return filter(runtime, input, arguments);
}

bool CallTest(Runtime& runtime, std::string_view name, const Value& input,
              const Arguments& arguments) {
  const Test test = FindTest(name);
  if (test == nullptr) throw Failure{"there is no test '" + std::string(name) + "'"};
  return test(runtime, input, arguments);
}

Value GetAttribute(const Value& object, const std::string& name) {
  RequireDefined(object);
  if (auto member = FindMember(object, name)) return *std::move(member);
  if (const DictPtr* dict = object.If<DictPtr>()) {
    if (const Value* found = (*dict)->Find(std::string_view(name))) return *found;
  }
  return MissingMember(object, name);
}

Value GetItem(Runtime& runtime, const Value& object, const Value& index) {
  RequireDefined(object);
  if (auto item = FindItem(runtime, object, index)) return *std::move(item);
  if (index.IsString()) {
    if (auto member = FindMember(object, index.string())) return *std::move(member);
    return MissingMember(object, index.string());
  }
  return MissingMember(object, runtime.Text(index));
}

Value GetSlice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
               const Value& step) {
  RequireDefined(object);
  if (const TextPtr* text = object.If<TextPtr>()) {
    runtime.ChargeBytes((*text)->bytes.size());
    const std::u32string characters = Decode((*text)->bytes);
    std::u32string out;
    for (const size_t i : SliceIndices(static_cast<int64_t>(characters.size()), start, stop, step))
      out += characters[i];
    return Value(Encode(out), (*text)->markup);
  }
  if (const auto* range = ObjectAs<Range>(object, Object::Kind::kRange))
    return SliceOfRange(*range, ResolveSlice(range->size(), start, stop, step));
  const SequencePtr* sequence = object.If<SequencePtr>();
  if (sequence == nullptr || !(*sequence)->IsListOrTuple())
    ThrowType("cannot slice a value of type", object);
  const auto indices =
      SliceIndices(static_cast<int64_t>((*sequence)->items.size()), start, stop, step);
  runtime.Charge(static_cast<int64_t>(indices.size()));
  std::vector<Value> items;
  items.reserve(indices.size());
  for (const size_t i : indices) items.push_back((*sequence)->items[i]);
  return (*sequence)->IsTuple() ? Value::Tuple(std::move(items)) : Value::List(std::move(items));
}

SequencePtr Iterate(Runtime& runtime, const Value& value) {
  using Kind = Sequence::Kind;
  if (value.IsUndefined()) return Sequence::Make(Kind::kList, {});
  if (const SequencePtr* sequence = value.If<SequencePtr>()) {
    if ((*sequence)->kind != Kind::kIterator) return *sequence;
    const size_t from = std::exchange((*sequence)->position, (*sequence)->items.size());
    if (from == 0) return *sequence;
    const auto& all = (*sequence)->items;
    return Sequence::Make(
        Kind::kList,
        std::vector<Value>(all.begin() + static_cast<std::ptrdiff_t>(from), all.end()));
  }
  std::vector<Value> items;
  if (const DictPtr* dict = value.If<DictPtr>()) {
    runtime.Charge(static_cast<int64_t>((*dict)->entries.size()));
    for (const auto& [key, item] : (*dict)->entries) items.push_back(key);
  } else if (const TextPtr* text = value.If<TextPtr>()) {
    runtime.Charge(Length(**text));
    for (const char32_t c : Decode((*text)->bytes))
      items.emplace_back(Encode(std::u32string(1, c)));
  } else if (const auto* range = ObjectAs<Range>(value, Object::Kind::kRange)) {
    runtime.Charge(range->size());
    for (int64_t i = 0; i < range->size(); ++i) items.emplace_back(range->start + i * range->step);
  } else {
    ThrowType("cannot iterate over a value of type", value);
  }
  return Sequence::Make(Kind::kList, std::move(items));
}

std::optional<int64_t> LengthOf(const Value& value) {
  if (value.IsUndefined()) return 0;
  if (const TextPtr* text = value.If<TextPtr>()) return Length(**text);
  if (const DictPtr* dict = value.If<DictPtr>())
    return static_cast<int64_t>((*dict)->entries.size());
  if (const auto* range = ObjectAs<Range>(value, Object::Kind::kRange)) return range->size();
  const SequencePtr* sequence = value.If<SequencePtr>();
  if (sequence == nullptr || (*sequence)->kind == Sequence::Kind::kIterator) return std::nullopt;
  return static_cast<int64_t>((*sequence)->items.size());
}

bool Contains(Runtime& runtime, const Value& container, const Value& item) {
  if (const TextPtr* text = container.If<TextPtr>()) {
    if (!item.IsString()) ThrowType("'in <string>' needs a string on its left, not", item);
    runtime.ChargeBytes((*text)->bytes.size());
    return (*text)->bytes.find(item.string()) != std::string::npos;
  }
  if (const DictPtr* dict = container.If<DictPtr>()) {
    runtime.Charge(Cost(item));
    return (*dict)->Find(item) != nullptr;
  }
  const SequencePtr items = Iterate(runtime, container);
  return std::any_of(items->items.begin(), items->items.end(),
                     [&](const Value& each) { return runtime.AreEqual(each, item); });
}

}  // namespace moxie::jinja
