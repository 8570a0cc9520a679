#include "tokenizer/jinja_operators.h"

#include <cmath>
#include <limits>

#include "tokenizer/jinja_text.h"

namespace moxie::jinja {
namespace {

[[noreturn]] void ThrowOverflow() { throw Failure{"an integer grows beyond 64 bits"}; }

[[noreturn]] void ThrowOperands(std::string_view op, const Value& a, const Value& b) {
  throw Failure{"unsupported operands of " + std::string(op) + ": '" + std::string(TypeName(a)) +
                "' and '" + std::string(TypeName(b)) + "'"};
}

// Rounds towards minus infinity, as Python does.
Value FloorDivide(int64_t a, int64_t b) {
  if (b == 0) throw Failure{"integer division by zero"};
  if (b == -1) {
    int64_t negated = 0;
    if (__builtin_sub_overflow(int64_t{0}, a, &negated)) ThrowOverflow();
    return negated;
  }
  const int64_t quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

// The remainder has the divisor's sign.
Value Modulo(int64_t a, int64_t b) {
  if (b == 0) throw Failure{"integer modulo by zero"};
  if (b == -1) return int64_t{0};
  const int64_t remainder = a % b;
  return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

double FloatModulo(double a, double b) {
  if (b == 0) throw Failure{"float modulo by zero"};
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  return remainder == 0 ? std::copysign(0.0, b) : remainder;
}

double FloatFloorDivide(double a, double b) {
  if (b == 0) throw Failure{"float floor division by zero"};
  // As CPython: from the remainder, since a / b may round up to the next integer.
  const double quotient = (a - FloatModulo(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

Value Power(const Value& a, const Value& b) {
  if (a.IsInteger() && b.IsInteger() && b.integer() >= 0) {
    int64_t base = a.integer();
    int64_t result = 1;
    for (int64_t exponent = b.integer(); exponent > 0; exponent >>= 1) {
      if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) ThrowOverflow();
      if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) ThrowOverflow();
    }
    return result;
  }
  const double x = a.number();
  const double y = b.number();
  if (x == 0 && y < 0) throw Failure{"zero cannot be raised to a negative power"};
  if (x < 0 && std::isfinite(y) && std::floor(y) != y)
    throw Failure{"complex numbers are not supported"};
  const double result = std::pow(x, y);
  if (std::isinf(result) && std::isfinite(x) && std::isfinite(y))
    throw Failure{"a float grows beyond its range"};
  return result;
}

Value IntegerArithmetic(BinaryOperator op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflows = false;
  switch (op) {
    case BinaryOperator::kAdd:
      overflows = __builtin_add_overflow(a, b, &result);
      break;
    case BinaryOperator::kSubtract:
      overflows = __builtin_sub_overflow(a, b, &result);
      break;
    case BinaryOperator::kMultiply:
      overflows = __builtin_mul_overflow(a, b, &result);
      break;
    case BinaryOperator::kFloorDivide:
      return FloorDivide(a, b);
    case BinaryOperator::kModulo:
      return Modulo(a, b);
    case BinaryOperator::kDivide:
      if (b == 0) throw Failure{"division by zero"};
      return static_cast<double>(a) / static_cast<double>(b);
    case BinaryOperator::kPower:
      return Power(a, b);
  }
  if (overflows) ThrowOverflow();
  return result;
}

Value FloatArithmetic(BinaryOperator op, double a, double b) {
  switch (op) {
    case BinaryOperator::kAdd:
      return a + b;
    case BinaryOperator::kSubtract:
      return a - b;
    case BinaryOperator::kMultiply:
      return a * b;
    case BinaryOperator::kDivide:
      if (b == 0) throw Failure{"division by zero"};
      return a / b;
    case BinaryOperator::kFloorDivide:
      return FloatFloorDivide(a, b);
    case BinaryOperator::kModulo:
      return FloatModulo(a, b);
    case BinaryOperator::kPower:
      return Power(a, b);
  }
  return {};
}

const Sequence* ListOrTuple(const Value& value) {
  const SequencePtr* sequence = value.If<SequencePtr>();
  return sequence != nullptr && (*sequence)->IsListOrTuple() ? sequence->get() : nullptr;
}

std::string Escaped(const Value& value) {
  return value.IsMarkup() ? value.string() : EscapeHtml(value.string());
}

Value Add(Runtime& runtime, const Value& a, const Value& b) {
  if (a.IsString() && b.IsString()) {
    runtime.ChargeBytes(a.string().size() + b.string().size());
    if (a.IsMarkup() || b.IsMarkup()) return Value(Escaped(a) + Escaped(b), true);
    return a.string() + b.string();
  }
  const Sequence* left = ListOrTuple(a);
  const Sequence* right = ListOrTuple(b);
  if (left == nullptr || right == nullptr || left->IsTuple() != right->IsTuple())
    ThrowOperands("+", a, b);
  runtime.Charge(static_cast<int64_t>(left->items.size() + right->items.size()));
  std::vector<Value> items = left->items;
  items.insert(items.end(), right->items.begin(), right->items.end());
  return left->IsTuple() ? Value::Tuple(std::move(items)) : Value::List(std::move(items));
}

Value Repeat(Runtime& runtime, const Value& value, int64_t count) {
  count = std::max<int64_t>(count, 0);
  const Sequence* sequence = ListOrTuple(value);
  const size_t unit = sequence != nullptr ? sequence->items.size() * 64 : value.string().size();
  if (unit > 0 && count > (int64_t{1} << 40) / static_cast<int64_t>(unit))
    throw Failure{"a repetition is too long"};
  runtime.ChargeBytes(unit * static_cast<size_t>(count));
  if (sequence != nullptr) {
    std::vector<Value> items;
    for (int64_t i = 0; i < count; ++i)
      items.insert(items.end(), sequence->items.begin(), sequence->items.end());
    return sequence->IsTuple() ? Value::Tuple(std::move(items)) : Value::List(std::move(items));
  }
  if (unit == 0) return value;
  std::string out;
  out.reserve(unit * static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) out += value.string();
  return Value(std::move(out), value.IsMarkup());
}

std::string_view Symbol(BinaryOperator op) {
  constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};
  return kSymbols[static_cast<size_t>(op)];
}

}  // namespace

Value Apply(Runtime& runtime, BinaryOperator op, const Value& a, const Value& b) {
  RequireDefined(a);
  if (op == BinaryOperator::kModulo && a.IsString())
    return Value(FormatPercent(runtime, a.string(), b), a.IsMarkup());
  RequireDefined(b);
  if (a.IsNumber() && b.IsNumber()) {
    if (a.Is<double>() || b.Is<double>()) return FloatArithmetic(op, a.number(), b.number());
    if (a.Is<BigInt>() || b.Is<BigInt>()) ThrowOverflow();
    if (op == BinaryOperator::kPower) return Power(a, b);
    return IntegerArithmetic(op, a.integer(), b.integer());
  }
  if (op == BinaryOperator::kAdd) return Add(runtime, a, b);
  if (op == BinaryOperator::kMultiply) {
    const auto repeats = [](const Value& v) { return v.IsString() || ListOrTuple(v) != nullptr; };
    if (repeats(a) && b.IsInteger()) return Repeat(runtime, a, b.integer());
    if (repeats(b) && a.IsInteger()) return Repeat(runtime, b, a.integer());
  }
  ThrowOperands(Symbol(op), a, b);
}

Value Apply(UnaryOperator op, const Value& a) {
  if (op == UnaryOperator::kNot) return !Truthy(a);
  RequireDefined(a);
  const bool negates = op == UnaryOperator::kNegate;
  if (const double* d = a.If<double>()) return negates ? -*d : *d;
  if (!a.IsInteger()) {
    throw Failure{std::string("unsupported operand of unary ") + (negates ? "-" : "+") + ": '" +
                  std::string(TypeName(a)) + "'"};
  }
  int64_t result = a.integer();
  if (negates && __builtin_sub_overflow(int64_t{0}, result, &result)) ThrowOverflow();
  return result;
}

bool Apply(Runtime& runtime, Comparator op, const Value& a, const Value& b) {
  switch (op) {
    case Comparator::kEqual:
      return runtime.AreEqual(a, b);
    case Comparator::kNotEqual:
      return !runtime.AreEqual(a, b);
    case Comparator::kIn:
      return Contains(runtime, b, a);
    case Comparator::kNotIn:
      return !Contains(runtime, b, a);
    default:
      break;
  }
  runtime.Charge(std::min(Cost(a), Cost(b)));
  const std::partial_ordering order = Compare(a, b);
  switch (op) {
    case Comparator::kLess:
      return order < 0;
    case Comparator::kLessEqual:
      return order <= 0;
    case Comparator::kGreater:
      return order > 0;
    default:
      return order >= 0;
  }
}

}  // namespace moxie::jinja
