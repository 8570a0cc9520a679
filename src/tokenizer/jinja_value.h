#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

/// The values of the chat template interpreter: Python's, as far as a sandboxed Jinja template can
/// make or see them. Everything but a Namespace and an iterator is immutable, so values are shared
/// freely within one rendering. Not thread-safe across threads while rendering.
namespace moxie::jinja {

/// Thrown inside the interpreter only, and turned into an Error at ChatTemplate's interface: an
/// interpreter may fail at every step of every expression. `line` 0: the statement being run.
struct Failure {
  std::string message;
  int line = 0;
};

/// Containers nest at most this deep, so that printing, comparing and freeing them may recurse.
constexpr int kMaxValueDepth = 500;

class Value;
struct Sequence;
struct Dict;
struct Object;

/// A name or attribute that does not exist; `why` is the sentence that its use raises.
struct Undefined {
  std::shared_ptr<const std::string> why;
};
struct None {};
/// An integer beyond int64_t, from JSON: it can be printed and compared, not calculated with.
struct BigInt {
  std::shared_ptr<const std::string> digits;
};
/// UTF-8 text; `markup` is markupsafe's type, which escapes the plain text that is added to it.
struct Text {
  std::string bytes;
  bool ascii = true;
  bool markup = false;
};

using TextPtr = std::shared_ptr<const Text>;
using SequencePtr = std::shared_ptr<const Sequence>;
using DictPtr = std::shared_ptr<const Dict>;
using ObjectPtr = std::shared_ptr<Object>;

class Value {
 public:
  using Variant = std::variant<Undefined, None, bool, int64_t, double, BigInt, TextPtr, SequencePtr,
                               DictPtr, ObjectPtr>;

  Value() : data_(None{}) {}
  Value(bool value) : data_(value) {}                           // NOLINT
  Value(int64_t value) : data_(value) {}                        // NOLINT
  Value(double value) : data_(value) {}                         // NOLINT
  Value(BigInt value) : data_(std::move(value)) {}              // NOLINT
  Value(Undefined value) : data_(std::move(value)) {}           // NOLINT
  Value(SequencePtr value) : data_(std::move(value)) {}         // NOLINT
  Value(DictPtr value) : data_(std::move(value)) {}             // NOLINT
  Value(ObjectPtr value) : data_(std::move(value)) {}           // NOLINT
  Value(std::string value, bool markup = false);                // NOLINT
  Value(std::string_view value) : Value(std::string(value)) {}  // NOLINT
  Value(const char* value) : Value(std::string(value)) {}       // NOLINT

  static Value MakeUndefined(std::string why);
  static Value List(std::vector<Value> items);
  static Value Tuple(std::vector<Value> items);

  template <class T>
  bool Is() const {
    return std::holds_alternative<T>(data_);
  }
  template <class T>
  const T* If() const {
    return std::get_if<T>(&data_);
  }
  const Variant& data() const { return data_; }

  bool IsUndefined() const { return Is<Undefined>(); }
  bool IsNone() const { return Is<None>(); }
  bool IsString() const { return Is<TextPtr>(); }
  bool IsMarkup() const { return IsString() && (*If<TextPtr>())->markup; }
  bool IsMapping() const { return Is<DictPtr>(); }
  /// Python's int includes bool.
  bool IsInteger() const { return Is<int64_t>() || Is<bool>(); }
  bool IsNumber() const { return IsInteger() || Is<double>() || Is<BigInt>(); }

  /// The bytes of a string; only if IsString().
  const std::string& string() const { return (*If<TextPtr>())->bytes; }
  /// The value of a bool or an int; only if IsInteger().
  int64_t integer() const { return Is<bool>() ? (*If<bool>() ? 1 : 0) : *If<int64_t>(); }
  /// The value of any number.
  double number() const;

 private:
  Variant data_;
};

/// Everything that Python iterates over in order and that holds its items.
struct Sequence {
  /// A group is groupby's tuple, whose two items also have names.
  enum class Kind : uint8_t { kList, kTuple, kGroup, kKeys, kValues, kItems, kIterator };
  Kind kind = Kind::kList;
  int depth = 1;
  int64_t cost = 1;  ///< see Cost()
  std::vector<Value> items;
  mutable size_t position = 0;  ///< what an iterator has given out already

  bool IsTuple() const { return kind == Kind::kTuple || kind == Kind::kGroup; }
  bool IsListOrTuple() const { return kind == Kind::kList || IsTuple(); }
  static SequencePtr Make(Kind kind, std::vector<Value> items);
};

/// Keys in order of insertion. Any hashable value is a key, and 1, 1.0 and true are the same one.
struct Dict {
  int depth = 1;
  int64_t cost = 1;  ///< see Cost()
  std::vector<std::pair<Value, Value>> entries;

  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  /// Replaces the value of an equal key in its place, or appends.
  void Set(const Value& key, Value value);

 private:
  std::optional<size_t> Locate(const Value& key, size_t hash) const;
  std::unordered_multimap<size_t, size_t> index_;
};

/// Values with an identity: namespaces, macros, loops, functions and ranges.
struct Object {
  enum class Kind : uint8_t { kNamespace, kMacro, kLoop, kFunction, kRange };
  explicit Object(Kind k) : kind(k) {}
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;
  const Kind kind;
  int depth = 0;  ///< that of the values it holds and does not share with the interpreter
};

struct Namespace : Object {
  Namespace() : Object(Kind::kNamespace) {}
  Dict attributes;
};

struct Range : Object {
  Range(int64_t first, int64_t end, int64_t by)
      : Object(Kind::kRange), start(first), stop(end), step(by) {}
  int64_t size() const;
  int64_t start, stop, step;
};

/// The object as T if it is one of T's kind.
template <class T>
T* ObjectAs(const Value& value, Object::Kind kind) {
  const ObjectPtr* object = value.If<ObjectPtr>();
  return object != nullptr && (*object)->kind == kind ? static_cast<T*>(object->get()) : nullptr;
}

/// Python's name of the value's type: "int", "str", "NoneType".
std::string_view TypeName(const Value& value);
/// How deep a value nests; 0 for scalars.
int Depth(const Value& value);
/// The steps that walking all of a value takes: one for each item at every level and for every 64
/// bytes of text. Values that hold one value twice, and that one another twice, are small in memory
/// but not to walk; whoever walks a value charges this first.
int64_t Cost(const Value& value);
/// Python's bool(value).
bool Truthy(const Value& value);
/// Python's a == b.
bool Equal(const Value& a, const Value& b);
/// Python's a <=> b of numbers, strings, lists and tuples; throws Failure for other pairs.
std::partial_ordering Compare(const Value& a, const Value& b);
/// Python's hash(value); throws Failure for lists and dicts.
size_t Hash(const Value& value);
/// Throws the Failure of an undefined value; nothing for others.
void RequireDefined(const Value& value);

}  // namespace moxie::jinja
