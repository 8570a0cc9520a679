#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_operators.h"

namespace moxie::jinja {

Value Interpreter::EvaluateNode(const Literal& node) { return node.value; }

Value Interpreter::EvaluateNode(const Name& node) {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [name, value] : scope->variables) {
      if (name == node.name) return value;
    }
  }
  if (const Value* value = variables_->Find(std::string_view(node.name))) return *value;
  if (auto global = FindGlobal(node.name)) return *std::move(global);
  return Value::MakeUndefined("'" + node.name + "' is undefined");
}

Value Interpreter::EvaluateNode(const ListLiteral& node) {
  std::vector<Value> items;
  for (const ExpressionPtr& item : node.items) items.push_back(Evaluate(*item));
  return node.is_tuple ? Value::Tuple(std::move(items)) : Value::List(std::move(items));
}

Value Interpreter::EvaluateNode(const DictLiteral& node) {
  auto dict = std::make_shared<Dict>();
  for (const auto& [key_node, value_node] : node.items) {
    const Value key = Evaluate(*key_node);
    Charge(Cost(key));
    dict->Set(key, Evaluate(*value_node));
  }
  return DictPtr(std::move(dict));
}

Value Interpreter::EvaluateNode(const Unary& node) {
  return Apply(node.op, Evaluate(*node.operand));
}

Value Interpreter::EvaluateNode(const Binary& node) {
  const Value left = Evaluate(*node.left);
  return Apply(*this, node.op, left, Evaluate(*node.right));
}

Value Interpreter::EvaluateNode(const Logical& node) {
  Value left = Evaluate(*node.left);
  return Truthy(left) == node.is_and ? Evaluate(*node.right) : std::move(left);
}

Value Interpreter::EvaluateNode(const Concatenation& node) {
  std::string text;
  for (const ExpressionPtr& part : node.parts) text += Text(Evaluate(*part));
  ChargeBytes(text.size());
  return text;
}

Value Interpreter::EvaluateNode(const Comparison& node) {
  Value left = Evaluate(*node.first);
  for (const auto& [op, operand] : node.rest) {
    Value right = Evaluate(*operand);
    if (!Apply(*this, op, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::EvaluateNode(const Conditional& node) {
  if (Truthy(Evaluate(*node.test))) return Evaluate(*node.value);
  if (node.otherwise != nullptr) return Evaluate(*node.otherwise);
  return Value::MakeUndefined("the inline if has no else, and its condition is false");
}

Value Interpreter::EvaluateNode(const Attribute& node) {
  return GetAttribute(Evaluate(*node.object), node.name);
}

Value Interpreter::EvaluateNode(const Subscript& node) {
  const Value object = Evaluate(*node.object);
  return GetItem(*this, object, Evaluate(*node.index));
}

Value Interpreter::EvaluateNode(const Slice& node) {
  const Value object = Evaluate(*node.object);
  const Value start = EvaluateOptional(node.start);
  const Value stop = EvaluateOptional(node.stop);
  return GetSlice(*this, object, start, stop, EvaluateOptional(node.step));
}

Value Interpreter::EvaluateNode(const jinja::Call& node) {
  const Value callee = Evaluate(*node.callee);
  return Call(callee, EvaluateArguments(node.arguments));
}

Value Interpreter::EvaluateNode(const FilterCall& node) {
  const Value input = node.input != nullptr ? Evaluate(*node.input) : filter_inputs_.back();
  return CallFilter(*this, node.name, input, EvaluateArguments(node.arguments));
}

Value Interpreter::EvaluateNode(const TestCall& node) {
  const Value input = Evaluate(*node.input);
  return CallTest(*this, node.name, input, EvaluateArguments(node.arguments));
}

Value Interpreter::EvaluateOptional(const ExpressionPtr& expression) {
  return expression != nullptr ? Evaluate(*expression) : Value();
}

Arguments Interpreter::EvaluateArguments(const CallArguments& arguments) {
  Arguments result;
  for (const ExpressionPtr& argument : arguments.positional)
    result.positional.push_back(Evaluate(*argument));
  for (const auto& [name, argument] : arguments.named)
    result.named.emplace_back(name, Evaluate(*argument));
  if (arguments.spread_positional != nullptr) {
    const Value spread = Evaluate(*arguments.spread_positional);
    const SequencePtr all = Iterate(*this, spread);
    for (const Value& item : all->items) {
      Charge(1);
      result.positional.push_back(item);
    }
  }
  if (arguments.spread_named != nullptr) {
    const Value spread = Evaluate(*arguments.spread_named);
    const DictPtr* dict = spread.If<DictPtr>();
    if (dict == nullptr) ThrowType("** expects a mapping, not", spread);
    for (const auto& [key, value] : (*dict)->entries) {
      Charge(1);
      if (!key.IsString()) ThrowType("a named argument's name must be a string, not", key);
      result.named.emplace_back(key.string(), value);
    }
  }
  return result;
}

Value Interpreter::ApplyFilters(const Expression& filter, Value input) {
  filter_inputs_.push_back(std::move(input));
  Value result = Evaluate(filter);
  filter_inputs_.pop_back();
  return result;
}

}  // namespace moxie::jinja
