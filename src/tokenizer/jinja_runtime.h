#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace moxie::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// What functions, filters, tests and methods may ask of the running interpreter.
class Runtime {
 public:
  virtual ~Runtime() = default;
  /// Takes `steps` from those that remain; throws Failure when none are left. Whoever walks or
  /// makes values charges Cost() of them, or bytes / 64, or their number, before doing so; this
  /// bounds memory as well as time.
  virtual void Charge(int64_t steps) = 0;
  virtual Value Call(const Value& callee, Arguments arguments) = 0;
  /// Keeps a namespace, which may hold itself, so that it can be emptied at the end.
  virtual Value MakeNamespace() = 0;

  void ChargeBytes(size_t bytes) { Charge(static_cast<int64_t>(bytes / 64)); }
  /// Charged forms of the functions of jinja_value.h and jinja_text.h.
  std::string Text(const Value& value);
  bool AreEqual(const Value& a, const Value& b);
  bool IsLess(const Value& a, const Value& b);
};

/// A function that templates can call: a global, or a method with its object bound.
struct Function : Object {
  using Body = std::function<Value(Runtime&, const Arguments&)>;
  Function(std::string function_name, Body function_body, int held_depth = 0)
      : Object(Kind::kFunction), name(std::move(function_name)), body(std::move(function_body)) {
    depth = held_depth;
  }
  const std::string name;
  const Body body;
};

/// Binds arguments to parameter names as Python does.
class Parameters {
 public:
  /// Throws Failure for one too many, an unknown one, one given twice, or a missing one of the
  /// first `required`.
  Parameters(const Arguments& arguments, std::string_view function,
             std::initializer_list<std::string_view> names, size_t required = 0);

  bool Has(size_t i) const { return values_[i].has_value(); }
  const Value& operator[](size_t i) const { return *values_[i]; }
  Value Or(size_t i, Value otherwise) const;
  int64_t Integer(size_t i, int64_t otherwise) const;
  std::string String(size_t i, std::string_view otherwise) const;
  bool Truth(size_t i, bool otherwise) const;

 private:
  std::string function_;
  std::vector<std::string_view> names_;
  std::vector<std::optional<Value>> values_;
};

using Filter = Value (*)(Runtime&, const Value& input, const Arguments&);
using Test = bool (*)(Runtime&, const Value& input, const Arguments&);
using Method = Value (*)(Runtime&, const Value& self, const Arguments&);

/// Null where there is none of that name.
Filter FindFilter(std::string_view name);
Test FindTest(std::string_view name);
/// For filters and tests that name others: throw Failure where there is none.
Value CallFilter(Runtime& runtime, std::string_view name, const Value& input, const Arguments&);
bool CallTest(Runtime& runtime, std::string_view name, const Value& input, const Arguments&);
/// A global function (range, dict, namespace, raise_exception, …).
std::optional<Value> FindGlobal(std::string_view name);

/// object.name: a method or attribute first, then an item. Undefined where there is neither.
Value GetAttribute(const Value& object, const std::string& name);
/// object[index]: an item first, then a method or attribute.
Value GetItem(Runtime& runtime, const Value& object, const Value& index);
/// object[start:stop:step]; none for absent parts.
Value GetSlice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
               const Value& step);
/// A method of a string, list, tuple, dict or range with the object bound; undefined for those that
/// would change it; nothing where there is none of that name.
std::optional<Value> FindMethod(const Value& object, const std::string& name);
/// A method, or an attribute of a namespace, loop, macro or group; nothing where there is none.
std::optional<Value> FindMember(const Value& object, const std::string& name);

/// The items that a for loop visits; throws Failure where the value cannot be iterated over. What
/// an iterator gives out it gives out once.
SequencePtr Iterate(Runtime& runtime, const Value& value);
/// len(value); nothing where it has none.
std::optional<int64_t> LengthOf(const Value& value);
/// Python's `item in container`.
bool Contains(Runtime& runtime, const Value& container, const Value& item);

[[noreturn]] void ThrowType(std::string_view what, const Value& value);

}  // namespace moxie::jinja
