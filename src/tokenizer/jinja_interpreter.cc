#include "tokenizer/jinja_interpreter.h"

#include <algorithm>

#include "tokenizer/jinja_operators.h"

namespace moxie::jinja {
namespace {

// Levels of the tree, through all calls, that may be under evaluation at once. Each takes about a
// kilobyte of the stack.
constexpr int64_t kMaxNesting = 1500;

// What loop.changed keeps may refer to the loop itself, so it must go with the loop's end.
class LoopEnd {
 public:
  explicit LoopEnd(Loop* loop) : loop_(loop) {}
  ~LoopEnd() {
    loop_->ended = true;
    loop_->last_changed = Value();
  }
  LoopEnd(const LoopEnd&) = delete;
  LoopEnd& operator=(const LoopEnd&) = delete;

 private:
  Loop* loop_;
};

}  // namespace

void Scope::Set(const std::string& name, Value value) {
  for (auto& [existing, slot] : variables) {
    if (existing == name) {
      slot = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

class Interpreter::Nesting {
 public:
  explicit Nesting(Interpreter* interpreter) : interpreter_(interpreter) {
    interpreter_->Charge(1);
    if (interpreter_->nesting_ >= kMaxNesting)
      throw Failure{"evaluation nests deeper than " + std::to_string(kMaxNesting) + " levels"};
    ++interpreter_->nesting_;
  }
  ~Nesting() { --interpreter_->nesting_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  Interpreter* interpreter_;
};

Interpreter::Interpreter(DictPtr variables, const TemplateLimits& limits)
    : variables_(std::move(variables)), limits_(limits), steps_left_(limits.steps) {}

Interpreter::~Interpreter() {
  // Every scope and namespace that anything else may refer to is held here, so emptying them one by
  // one frees no long chain at once.
  std::vector<Value> values;
  for (const ScopePtr& scope : captured_) {
    for (auto& [name, value] : scope->variables) values.push_back(std::move(value));
    scope->variables.clear();
  }
  for (const ObjectPtr& object : namespaces_) {
    auto& attributes = static_cast<Namespace*>(object.get())->attributes;
    for (auto& [name, value] : attributes.entries) values.push_back(std::move(value));
    attributes = Dict();
  }
}

std::string Interpreter::Render(const Block& program) {
  Flow flow = Flow::kNormal;
  return Capture(program, NewScope(nullptr), &flow);
}

void Interpreter::Charge(int64_t steps) {
  if (steps > steps_left_) {
    throw Failure{"the template needs more than " + std::to_string(limits_.steps) +
                  " steps, the limit"};
  }
  steps_left_ -= steps;
}

Value Interpreter::MakeNamespace() {
  Charge(2);
  namespaces_.push_back(std::make_shared<Namespace>());
  return namespaces_.back();
}

void Interpreter::Emit(std::string_view text) {
  emitted_bytes_ += static_cast<int64_t>(text.size());
  if (emitted_bytes_ > limits_.output_bytes) {
    throw Failure{"the template writes more than " + std::to_string(limits_.output_bytes) +
                  " bytes, the limit"};
  }
  ChargeBytes(text.size());
  out_->append(text);
}

ScopePtr Interpreter::NewScope(ScopePtr parent) {
  Charge(1);
  auto scope = std::make_shared<Scope>();
  scope->parent = std::move(parent);
  return scope;
}

std::string Interpreter::Capture(const Block& block, ScopePtr scope, Flow* flow) {
  std::string text;
  std::string* const outer_out = std::exchange(out_, &text);
  ScopePtr outer_scope = std::exchange(scope_, std::move(scope));
  *flow = Run(block);
  scope_ = std::move(outer_scope);
  out_ = outer_out;
  return text;
}

Interpreter::Flow Interpreter::Run(const Block& block) {
  for (const Statement& statement : block) {
    const Flow flow = RunStatement(statement);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunStatement(const Statement& statement) {
  const Nesting nesting(this);
  try {
    return std::visit([this](const auto& node) { return RunNode(node); }, statement.node);
  } catch (Failure& failure) {
    if (failure.line == 0) failure.line = statement.line;
    throw;
  }
}

Value Interpreter::Evaluate(const Expression& expression) {
  const Nesting nesting(this);
  try {
    return std::visit([this](const auto& node) { return EvaluateNode(node); }, expression.node);
  } catch (Failure& failure) {
    if (failure.line == 0) failure.line = expression.line;
    throw;
  }
}

Interpreter::Flow Interpreter::RunNode(const Data& node) {
  Emit(node.text);
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunNode(const Print& node) {
  Emit(Text(Evaluate(*node.value)));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunNode(const If& node) {
  for (const auto& [test, body] : node.branches) {
    if (Truthy(Evaluate(*test))) return Run(body);
  }
  return Run(node.otherwise);
}

Interpreter::Flow Interpreter::RunNode(const For& node) {
  return RunLoop(node, Evaluate(*node.iterable), scope_, 0);
}

SequencePtr Interpreter::FilterItems(const For& node, const SequencePtr& items,
                                     const ScopePtr& outer) {
  std::vector<Value> kept;
  for (const Value& item : items->items) {
    scope_ = NewScope(outer);
    Assign(node.target, item);
    if (Truthy(Evaluate(*node.filter))) kept.push_back(item);
  }
  return Sequence::Make(Sequence::Kind::kList, std::move(kept));
}

Interpreter::Flow Interpreter::RunLoop(const For& node, const Value& iterable, ScopePtr outer,
                                       int64_t nesting) {
  const ScopePtr before = scope_;
  SequencePtr items = Iterate(*this, iterable);
  if (node.filter != nullptr) items = FilterItems(node, items, outer);
  const auto loop = std::make_shared<Loop>(&node, items, std::move(outer), nesting);
  const LoopEnd end(loop.get());
  for (; loop->index < items->items.size(); ++loop->index) {
    scope_ = NewScope(loop->outer);
    scope_->Set("loop", ObjectPtr(loop));
    Assign(node.target, items->items[loop->index]);
    if (Run(node.body) == Flow::kBreak) break;
  }
  scope_ = loop->outer;
  Flow flow = Flow::kNormal;
  if (items->items.empty()) flow = Run(node.otherwise);
  scope_ = before;
  return flow;
}

void Interpreter::Assign(const Target& target, const Value& value) {
  if (target.is_tuple) {
    const SequencePtr items = Iterate(*this, value);
    if (items->items.size() != target.targets.size()) {
      throw Failure{"cannot assign " + std::to_string(items->items.size()) + " values to " +
                        std::to_string(target.targets.size()) + " names",
                    target.line};
    }
    for (size_t i = 0; i < items->items.size(); ++i) Assign(target.targets[i], items->items[i]);
    return;
  }
  if (target.attribute.empty()) {
    scope_->Set(target.name, value);
    return;
  }
  const Value object = EvaluateNode(Name{target.name});
  auto* const space = ObjectAs<Namespace>(object, Object::Kind::kNamespace);
  if (space == nullptr) throw Failure{"'" + target.name + "' is no namespace", target.line};
  if (target.attribute.starts_with('_'))
    throw Failure{"a namespace's attribute may not start with an underscore", target.line};
  space->attributes.Set(Value(target.attribute), value);
}

Interpreter::Flow Interpreter::RunNode(const Set& node) {
  Assign(node.target, Evaluate(*node.value));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunNode(const SetBlock& node) {
  Flow flow = Flow::kNormal;
  Value value = Capture(node.body, NewScope(scope_), &flow);
  if (flow != Flow::kNormal) return flow;
  if (node.filter != nullptr) value = ApplyFilters(*node.filter, std::move(value));
  Assign(node.target, value);
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunNode(const FilterBlock& node) {
  Flow flow = Flow::kNormal;
  Value value = Capture(node.body, NewScope(scope_), &flow);
  if (flow != Flow::kNormal) return flow;
  Emit(Text(ApplyFilters(*node.filter, std::move(value))));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunNode(const With& node) {
  const ScopePtr outer = scope_;
  const ScopePtr inner = NewScope(outer);
  for (const auto& [target, expression] : node.bindings) {
    const Value value = Evaluate(*expression);
    scope_ = inner;
    Assign(target, value);
    scope_ = outer;
  }
  scope_ = inner;
  const Flow flow = Run(node.body);
  scope_ = outer;
  return flow;
}

Interpreter::Flow Interpreter::RunNode(const Generation& node) {
  const ScopePtr outer = scope_;
  scope_ = NewScope(outer);
  const Flow flow = Run(node.body);
  scope_ = outer;
  return flow;
}

Value Interpreter::MakeMacro(const MacroBody& body) {
  Charge(2);
  if (captured_.empty() || captured_.back() != scope_) captured_.push_back(scope_);
  return ObjectPtr(std::make_shared<Macro>(&body, scope_));
}

Interpreter::Flow Interpreter::RunNode(const DefineMacro& node) {
  scope_->Set(node.macro->name, MakeMacro(*node.macro));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunNode(const CallBlock& node) {
  const auto& call = std::get<jinja::Call>(node.call->node);
  const Value callee = Evaluate(*call.callee);
  Arguments arguments = EvaluateArguments(call.arguments);
  arguments.named.emplace_back("caller", MakeMacro(*node.caller));
  Emit(Text(Call(callee, std::move(arguments))));
  return Flow::kNormal;
}

// The parameters that a body has by naming them: caller, varargs and kwargs.
void Interpreter::BindHidden(const MacroBody& body, Arguments arguments, Scope* scope) {
  const auto caller = std::find_if(arguments.named.begin(), arguments.named.end(),
                                   [](const auto& n) { return n.first == "caller"; });
  if (body.uses_caller) {
    if (caller != arguments.named.end()) {
      scope->Set("caller", caller->second);
      arguments.named.erase(caller);
    } else {
      scope->Set("caller", Value::MakeUndefined("no caller defined"));
    }
  }
  if (body.uses_kwargs) {
    auto dict = std::make_shared<Dict>();
    for (const auto& [name, value] : arguments.named) dict->Set(Value(name), value);
    scope->Set("kwargs", DictPtr(std::move(dict)));
  } else if (!arguments.named.empty()) {
    throw Failure{"macro '" + body.name + "' takes no argument '" + arguments.named[0].first + "'"};
  }
  if (body.uses_varargs) {
    scope->Set("varargs", Value::Tuple(std::move(arguments.positional)));
  } else if (!arguments.positional.empty()) {
    throw Failure{"macro '" + body.name + "' takes at most " +
                  std::to_string(body.parameters.size()) + " arguments"};
  }
}

std::string Interpreter::CallMacro(const Macro& macro, Arguments arguments) {
  const MacroBody& body = *macro.body;
  const ScopePtr inner = NewScope(macro.scope);
  const size_t given = std::min(arguments.positional.size(), body.parameters.size());
  const size_t required = body.parameters.size() - body.defaults.size();
  const ScopePtr outer = std::exchange(scope_, inner);
  bool takes_caller = false;
  for (size_t i = 0; i < body.parameters.size(); ++i) {
    const std::string& name = body.parameters[i];
    takes_caller = takes_caller || name == "caller";
    const auto named = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& n) { return n.first == name; });
    if (i < given) {
      inner->Set(name, arguments.positional[i]);
    } else if (named != arguments.named.end()) {
      inner->Set(name, named->second);
      arguments.named.erase(named);
    } else if (i >= required) {
      inner->Set(name, Evaluate(*body.defaults[i - required]));
    } else {
      inner->Set(name, Value::MakeUndefined("parameter '" + name + "' was not provided"));
    }
  }
  arguments.positional.erase(arguments.positional.begin(),
                             arguments.positional.begin() + static_cast<std::ptrdiff_t>(given));
  if (!takes_caller || !body.uses_caller) BindHidden(body, std::move(arguments), inner.get());
  Flow flow = Flow::kNormal;
  std::string text = Capture(body.body, inner, &flow);
  scope_ = outer;
  return text;
}

std::string Interpreter::CallLoop(const Loop& loop, const Arguments& arguments) {
  const Parameters p(arguments, "loop", {"iterable"}, 1);
  if (!loop.node->recursive) throw Failure{"only a loop marked 'recursive' can be called"};
  std::string text;
  std::string* const outer_out = std::exchange(out_, &text);
  RunLoop(*loop.node, p[0], loop.outer, loop.depth0 + 1);
  out_ = outer_out;
  return text;
}

Value Interpreter::Call(const Value& callee, Arguments arguments) {
  RequireDefined(callee);
  if (calls_ >= limits_.depth)
    throw Failure{"calls nest deeper than " + std::to_string(limits_.depth) + " levels, the limit"};
  Charge(1);
  ++calls_;
  Value result;
  if (const auto* function = ObjectAs<Function>(callee, Object::Kind::kFunction)) {
    result = function->body(*this, arguments);
  } else if (const auto* macro = ObjectAs<Macro>(callee, Object::Kind::kMacro)) {
    result = CallMacro(*macro, std::move(arguments));
  } else if (const auto* loop = ObjectAs<Loop>(callee, Object::Kind::kLoop)) {
    result = CallLoop(*loop, arguments);
  } else {
    ThrowType("cannot call a value of type", callee);
  }
  --calls_;
  return result;
}

}  // namespace moxie::jinja
