#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tokenizer/jinja_value.h"

/// The syntax tree of a template. Immutable after parsing; its depth is bounded by the parser.
namespace moxie::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using Block = std::vector<Statement>;

struct Literal {
  Value value;
};
struct Name {
  std::string name;
};
struct ListLiteral {
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
};
struct DictLiteral {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> items;
};
enum class UnaryOperator : uint8_t { kNot, kNegate, kPlus };
struct Unary {
  UnaryOperator op;
  ExpressionPtr operand;
};
enum class BinaryOperator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower
};
struct Binary {
  BinaryOperator op;
  ExpressionPtr left, right;
};
/// `a and b`, `a or b`: the value of the operand that decides.
struct Logical {
  bool is_and;
  ExpressionPtr left, right;
};
/// a ~ b ~ c
struct Concatenation {
  std::vector<ExpressionPtr> parts;
};
enum class Comparator : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};
/// a < b <= c
struct Comparison {
  ExpressionPtr first;
  std::vector<std::pair<Comparator, ExpressionPtr>> rest;
};
/// value if test else otherwise; `otherwise` may be absent.
struct Conditional {
  ExpressionPtr test, value, otherwise;
};
struct Attribute {
  ExpressionPtr object;
  std::string name;
};
struct Subscript {
  ExpressionPtr object, index;
};
/// object[start:stop:step]; each part may be absent.
struct Slice {
  ExpressionPtr object, start, stop, step;
};
struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr spread_positional, spread_named;  ///< *args, **kwargs; may be absent
};
struct Call {
  ExpressionPtr callee;
  CallArguments arguments;
};
/// input|name(arguments); no input in a filter block's first filter.
struct FilterCall {
  ExpressionPtr input;
  std::string name;
  CallArguments arguments;
};
/// input is name(arguments)
struct TestCall {
  ExpressionPtr input;
  std::string name;
  CallArguments arguments;
};

struct Expression {
  int line = 0;
  int depth = 1;  ///< of the tree below, this node included
  std::variant<Literal, Name, ListLiteral, DictLiteral, Unary, Binary, Logical, Concatenation,
               Comparison, Conditional, Attribute, Subscript, Slice, Call, FilterCall, TestCall>
      node;
};

/// What `set` and `for` assign to: a name, a namespace's attribute, or a tuple of targets.
struct Target {
  int line = 0;
  std::string name;
  std::string attribute;  ///< not empty: of the namespace `name`
  std::vector<Target> targets;
  bool is_tuple = false;
};

struct Data {
  std::string text;
};
struct Print {
  ExpressionPtr value;
};
struct If {
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  Block otherwise;
};
struct For {
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr filter;  ///< the loop's `if`; may be absent
  Block body, otherwise;
  bool recursive = false;
};
struct Set {
  Target target;
  ExpressionPtr value;
};
/// {% set target %}…{% endset %}: `filter` has no innermost input, and may be absent.
struct SetBlock {
  Target target;
  ExpressionPtr filter;
  Block body;
};
/// A macro's parameters and body; also the body of a call block.
struct MacroBody {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  ///< of the last parameters
  Block body;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};
struct DefineMacro {
  std::unique_ptr<MacroBody> macro;
};
struct CallBlock {
  ExpressionPtr call;  ///< always a Call
  std::unique_ptr<MacroBody> caller;
};
struct FilterBlock {
  ExpressionPtr filter;
  Block body;
};
struct With {
  std::vector<std::pair<Target, ExpressionPtr>> bindings;
  Block body;
};
/// {% generation %}: marks the assistant's text; it prints as it is.
struct Generation {
  Block body;
};
struct Break {};
struct Continue {};

struct Statement {
  int line = 0;
  std::variant<Data, Print, If, For, Set, SetBlock, DefineMacro, CallBlock, FilterBlock, With,
               Generation, Break, Continue>
      node;
};

}  // namespace moxie::jinja
