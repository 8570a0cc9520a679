#include <algorithm>

#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_text.h"

namespace moxie::jinja {
namespace {

void TakesNone(const Arguments& arguments) { const Parameters p(arguments, "a test", {}); }

template <bool (*kTest)(const Value&)>
bool Simple(Runtime&, const Value& input, const Arguments& arguments) {
  TakesNone(arguments);
  return kTest(input);
}

template <Comparator kOp>
bool Compared(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "a comparing test", {"other"}, 1);
  return Apply(runtime, kOp, input, p[0]);
}

template <int64_t kRemainder>
bool Parity(Runtime& runtime, const Value& input, const Arguments& arguments) {
  TakesNone(arguments);
  const Value remainder = Apply(runtime, BinaryOperator::kModulo, input, int64_t{2});
  return Equal(remainder, kRemainder);
}

bool DivisibleBy(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "divisibleby", {"num"}, 1);
  return Equal(Apply(runtime, BinaryOperator::kModulo, input, p[0]), int64_t{0});
}

bool IsDefined(const Value& v) { return !v.IsUndefined(); }
bool IsUndefined(const Value& v) { return v.IsUndefined(); }
bool IsNone(const Value& v) { return v.IsNone(); }
bool IsBoolean(const Value& v) { return v.Is<bool>(); }
bool IsTrue(const Value& v) { return v.Is<bool>() && Truthy(v); }
bool IsFalse(const Value& v) { return v.Is<bool>() && !Truthy(v); }
bool IsInteger(const Value& v) { return v.Is<int64_t>() || v.Is<BigInt>(); }
bool IsFloat(const Value& v) { return v.Is<double>(); }
bool IsNumber(const Value& v) { return v.IsNumber(); }
bool IsString(const Value& v) { return v.IsString(); }
bool IsMapping(const Value& v) { return v.IsMapping(); }
bool IsEscaped(const Value& v) { return v.IsMarkup(); }

// Python's: it has a length and can be indexed, so a mapping and an undefined value are ones too.
bool IsSequence(const Value& v) {
  const SequencePtr* sequence = v.If<SequencePtr>();
  if (sequence != nullptr) return (*sequence)->IsListOrTuple();
  return LengthOf(v).has_value();
}

bool IsIterable(const Value& v) {
  return v.IsUndefined() || v.IsString() || v.IsMapping() || v.If<SequencePtr>() != nullptr ||
         ObjectAs<Range>(v, Object::Kind::kRange) != nullptr || TypeName(v) == "LoopContext";
}

bool IsCallable(const Value& v) {
  const ObjectPtr* object = v.If<ObjectPtr>();
  if (object == nullptr) return v.IsUndefined();
  return (*object)->kind == Object::Kind::kMacro || (*object)->kind == Object::Kind::kFunction ||
         (*object)->kind == Object::Kind::kLoop;
}

template <CharClass kWanted>
bool IsAllCase(Runtime& runtime, const Value& input, const Arguments& arguments) {
  TakesNone(arguments);
  const Value text(runtime.Text(input));
  const char* const method = kWanted == CharClass::kLower ? "islower" : "isupper";
  return Truthy(runtime.Call(*FindMember(text, method), {}));
}

bool SameAs(Runtime&, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "sameas", {"other"}, 1);
  const Value& other = p[0];
  if (input.data().index() != other.data().index()) return false;
  if (const SequencePtr* sequence = input.If<SequencePtr>())
    return *sequence == *other.If<SequencePtr>();
  if (const DictPtr* dict = input.If<DictPtr>()) return *dict == *other.If<DictPtr>();
  return Equal(input, other);
}

bool In(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "in", {"seq"}, 1);
  return Contains(runtime, p[0], input);
}

bool IsFilter(Runtime&, const Value& input, const Arguments& arguments) {
  TakesNone(arguments);
  return input.IsString() && FindFilter(input.string()) != nullptr;
}

bool IsTest(Runtime&, const Value& input, const Arguments& arguments) {
  TakesNone(arguments);
  return input.IsString() && FindTest(input.string()) != nullptr;
}

struct NamedTest {
  std::string_view name;
  Test test;
};

constexpr NamedTest kTests[] = {
    {"odd", Parity<1>},
    {"even", Parity<0>},
    {"divisibleby", DivisibleBy},
    {"defined", Simple<IsDefined>},
    {"undefined", Simple<IsUndefined>},
    {"filter", IsFilter},
    {"test", IsTest},
    {"none", Simple<IsNone>},
    {"boolean", Simple<IsBoolean>},
    {"false", Simple<IsFalse>},
    {"true", Simple<IsTrue>},
    {"integer", Simple<IsInteger>},
    {"float", Simple<IsFloat>},
    {"lower", IsAllCase<CharClass::kLower>},
    {"upper", IsAllCase<CharClass::kUpper>},
    {"string", Simple<IsString>},
    {"mapping", Simple<IsMapping>},
    {"number", Simple<IsNumber>},
    {"sequence", Simple<IsSequence>},
    {"iterable", Simple<IsIterable>},
    {"callable", Simple<IsCallable>},
    {"sameas", SameAs},
    {"escaped", Simple<IsEscaped>},
    {"in", In},
    {"==", Compared<Comparator::kEqual>},
    {"eq", Compared<Comparator::kEqual>},
    {"equalto", Compared<Comparator::kEqual>},
    {"!=", Compared<Comparator::kNotEqual>},
    {"ne", Compared<Comparator::kNotEqual>},
    {">", Compared<Comparator::kGreater>},
    {"gt", Compared<Comparator::kGreater>},
    {"greaterthan", Compared<Comparator::kGreater>},
    {">=", Compared<Comparator::kGreaterEqual>},
    {"ge", Compared<Comparator::kGreaterEqual>},
    {"<", Compared<Comparator::kLess>},
    {"lt", Compared<Comparator::kLess>},
    {"lessthan", Compared<Comparator::kLess>},
    {"<=", Compared<Comparator::kLessEqual>},
    {"le", Compared<Comparator::kLessEqual>},
};

}  // namespace

Test FindTest(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTests), std::end(kTests),
                                   [&](const NamedTest& test) { return test.name == name; });
  return found != std::end(kTests) ? found->test : nullptr;
}

}  // namespace moxie::jinja
