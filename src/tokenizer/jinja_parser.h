#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_lexer.h"

namespace moxie::jinja {

/// The syntax tree of a template; throws Failure with its line.
Block ParseTemplate(std::string_view source);

/// A stream of tokens with the expressions' grammar on top (Jinja 3.1's). Every level of nesting is
/// counted, so that neither parsing nor walking nor freeing the tree exhausts the stack.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& Peek(size_t ahead = 0) const {
    return tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
  }
  Token Next();
  bool SkipName(std::string_view name);
  bool SkipOperator(std::string_view op);
  void ExpectName(std::string_view name);
  void ExpectOperator(std::string_view op);
  std::string ExpectIdentifier(std::string_view what);
  [[noreturn]] void FailUnexpected(std::string_view expected) const;
  [[noreturn]] void Fail(std::string message) const;

  ExpressionPtr ParseExpression(bool with_conditional = true);
  /// Expressions with commas between them make a tuple without parentheses. It ends at the tag's
  /// end, a closing parenthesis, or the name `end`.
  ExpressionPtr ParseTuple(bool with_conditional, bool parenthesised, std::string_view end = {});
  /// A chain of filters after `|`, applied to `input`; with `inline_first`, no `|` comes first.
  ExpressionPtr ParseFilters(ExpressionPtr input, bool inline_first);
  Target ParseTarget(bool with_namespace, std::string_view end = {});

  /// Every name read since the last reset: a macro's hidden parameters are found by their use.
  std::set<std::string>& names_used() { return names_used_; }

  /// Counts a level of nesting for as long as it lives.
  class Level {
   public:
    explicit Level(ExpressionParser* parser);
    ~Level() { --parser_->depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    ExpressionParser* parser_;
  };

 private:
  template <class Node>
  ExpressionPtr Make(int line, Node node);
  ExpressionPtr ParseConditional();
  ExpressionPtr ParseLogical(bool is_and);
  ExpressionPtr ParseNot();
  ExpressionPtr ParseComparison();
  ExpressionPtr ParseSum();
  ExpressionPtr ParseConcatenation();
  ExpressionPtr ParseProduct();
  ExpressionPtr ParsePower();
  ExpressionPtr ParseUnary(bool with_filters);
  ExpressionPtr ParsePrimary();
  ExpressionPtr ParseNumber();
  ExpressionPtr ParseList();
  ExpressionPtr ParseDict();
  ExpressionPtr ParsePostfix(ExpressionPtr value);
  ExpressionPtr ParseFiltersAndTests(ExpressionPtr value);
  ExpressionPtr ParseSubscript(ExpressionPtr object);
  ExpressionPtr ParseCall(ExpressionPtr callee);
  CallArguments ParseArguments();
  ExpressionPtr ParseTest(ExpressionPtr input);
  bool AtTupleEnd(std::string_view end) const;

  std::vector<Token> tokens_;
  size_t position_ = 0;
  int depth_ = 0;
  std::set<std::string> names_used_;
};

}  // namespace moxie::jinja
