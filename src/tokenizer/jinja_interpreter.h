#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/chat_template.h"
#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_runtime.h"

namespace moxie::jinja {

/// The variables of one block; a name is looked for here, then in the parents.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string, Value>> variables;

  void Set(const std::string& name, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

/// A macro with the scope it was defined in; also what a call block passes as `caller`.
struct Macro : Object {
  Macro(const MacroBody* macro_body, ScopePtr defined_in)
      : Object(Kind::kMacro), body(macro_body), scope(std::move(defined_in)) {}
  const MacroBody* const body;
  const ScopePtr scope;
};

/// The `loop` variable. Calling it runs the loop's body over other items, where it is recursive.
struct Loop : Object {
  Loop(const For* for_node, SequencePtr loop_items, ScopePtr outer_scope, int64_t nesting)
      : Object(Kind::kLoop),
        node(for_node),
        items(std::move(loop_items)),
        outer(std::move(outer_scope)),
        depth0(nesting) {
    depth = 1 + items->depth;
  }
  const For* const node;
  const SequencePtr items;
  const ScopePtr outer;
  const int64_t depth0;
  size_t index = 0;
  bool ended = false;
  Value last_changed;  ///< what loop.changed saw last; not a tuple before the first call
};

/// One rendering of a template.
class Interpreter : public Runtime {
 public:
  Interpreter(DictPtr variables, const TemplateLimits& limits);
  ~Interpreter() override;
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  /// Throws Failure.
  std::string Render(const Block& program);

  void Charge(int64_t steps) override;
  Value Call(const Value& callee, Arguments arguments) override;
  Value MakeNamespace() override;

 private:
  enum class Flow : uint8_t { kNormal, kBreak, kContinue };
  class Nesting;

  Flow Run(const Block& block);
  Flow RunStatement(const Statement& statement);
  Flow RunNode(const Data& node);
  Flow RunNode(const Print& node);
  Flow RunNode(const If& node);
  Flow RunNode(const For& node);
  Flow RunNode(const Set& node);
  Flow RunNode(const SetBlock& node);
  Flow RunNode(const DefineMacro& node);
  Flow RunNode(const CallBlock& node);
  Flow RunNode(const FilterBlock& node);
  Flow RunNode(const With& node);
  Flow RunNode(const Generation& node);
  Flow RunNode(const Break&) { return Flow::kBreak; }
  Flow RunNode(const Continue&) { return Flow::kContinue; }

  /// Runs a block in a scope of its own, below `parent`, into a string.
  std::string Capture(const Block& block, ScopePtr scope, Flow* flow);
  Flow RunLoop(const For& node, const Value& iterable, ScopePtr outer, int64_t nesting);
  SequencePtr FilterItems(const For& node, const SequencePtr& items, const ScopePtr& outer);
  void Assign(const Target& target, const Value& value);
  void Emit(std::string_view text);
  ScopePtr NewScope(ScopePtr parent);
  /// A macro that closes over the current scope.
  Value MakeMacro(const MacroBody& body);
  std::string CallMacro(const Macro& macro, Arguments arguments);
  void BindHidden(const MacroBody& body, Arguments arguments, Scope* scope);
  std::string CallLoop(const Loop& loop, const Arguments& arguments);

  Value Evaluate(const Expression& expression);
  Value EvaluateNode(const Literal& node);
  Value EvaluateNode(const Name& node);
  Value EvaluateNode(const ListLiteral& node);
  Value EvaluateNode(const DictLiteral& node);
  Value EvaluateNode(const Unary& node);
  Value EvaluateNode(const Binary& node);
  Value EvaluateNode(const Logical& node);
  Value EvaluateNode(const Concatenation& node);
  Value EvaluateNode(const Comparison& node);
  Value EvaluateNode(const Conditional& node);
  Value EvaluateNode(const Attribute& node);
  Value EvaluateNode(const Subscript& node);
  Value EvaluateNode(const Slice& node);
  Value EvaluateNode(const jinja::Call& node);
  Value EvaluateNode(const FilterCall& node);
  Value EvaluateNode(const TestCall& node);
  Value EvaluateOptional(const ExpressionPtr& expression);
  Arguments EvaluateArguments(const CallArguments& arguments);
  /// A chain of filters without innermost input, applied to text.
  Value ApplyFilters(const Expression& filter, Value input);

  const DictPtr variables_;
  const TemplateLimits limits_;
  int64_t steps_left_;
  int64_t nesting_ = 0;
  int64_t calls_ = 0;
  int64_t emitted_bytes_ = 0;
  ScopePtr scope_;
  std::string* out_ = nullptr;
  std::vector<Value> filter_inputs_;
  // Macros and namespaces may form rings; these are emptied at the end so that all is freed.
  std::vector<ScopePtr> captured_;
  std::vector<ObjectPtr> namespaces_;
};

}  // namespace moxie::jinja
