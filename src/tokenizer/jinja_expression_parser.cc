#include <algorithm>
#include <charconv>
#include <cmath>

#include "tokenizer/jinja_parser.h"

namespace moxie::jinja {
namespace {

constexpr int kMaxParseDepth = 300;
constexpr int kMaxTreeDepth = 500;

// Calls `visit` with every subexpression of a node; absent ones are null.
template <class Visit>
void VisitChildren(const CallArguments& arguments, Visit visit) {
  for (const auto& e : arguments.positional) visit(e);
  for (const auto& [name, e] : arguments.named) visit(e);
  visit(arguments.spread_positional);
  visit(arguments.spread_named);
}

template <class Node, class Visit>
void VisitChildren(const Node& node, Visit visit) {
  if constexpr (requires { node.left; }) {
    visit(node.left);
    visit(node.right);
  } else if constexpr (requires { node.operand; }) {
    visit(node.operand);
  } else if constexpr (requires { node.parts; }) {
    for (const auto& e : node.parts) visit(e);
  } else if constexpr (requires { node.rest; }) {
    visit(node.first);
    for (const auto& [op, e] : node.rest) visit(e);
  } else if constexpr (requires { node.test; }) {
    visit(node.test);
    visit(node.value);
    visit(node.otherwise);
  } else if constexpr (requires { node.step; }) {
    for (const ExpressionPtr* e : {&node.object, &node.start, &node.stop, &node.step}) visit(*e);
  } else if constexpr (requires { node.index; }) {
    visit(node.object);
    visit(node.index);
  } else if constexpr (requires { node.object; }) {
    visit(node.object);
  } else if constexpr (requires { node.callee; }) {
    visit(node.callee);
    VisitChildren(node.arguments, visit);
  } else if constexpr (requires { node.input; }) {
    visit(node.input);
    VisitChildren(node.arguments, visit);
  }
}

template <class Visit>
void VisitChildren(const ListLiteral& node, Visit visit) {
  for (const auto& e : node.items) visit(e);
}

template <class Visit>
void VisitChildren(const DictLiteral& node, Visit visit) {
  for (const auto& [key, value] : node.items) {
    visit(key);
    visit(value);
  }
}

bool IsConstantName(std::string_view name) {
  return name == "true" || name == "True" || name == "false" || name == "False" || name == "none" ||
         name == "None";
}

Value ConstantValue(std::string_view name) {
  if (name == "none" || name == "None") return {};
  return name == "true" || name == "True";
}

}  // namespace

ExpressionParser::Level::Level(ExpressionParser* parser) : parser_(parser) {
  if (++parser_->depth_ > kMaxParseDepth) {
    --parser_->depth_;
    parser_->Fail("the template nests deeper than " + std::to_string(kMaxParseDepth) + " levels");
  }
}

Token ExpressionParser::Next() {
  Token token = Peek();
  if (position_ + 1 < tokens_.size()) ++position_;
  return token;
}

bool ExpressionParser::SkipName(std::string_view name) {
  if (!Peek().IsName(name)) return false;
  Next();
  return true;
}

bool ExpressionParser::SkipOperator(std::string_view op) {
  if (!Peek().IsOperator(op)) return false;
  Next();
  return true;
}

void ExpressionParser::ExpectName(std::string_view name) {
  if (!SkipName(name)) FailUnexpected("'" + std::string(name) + "'");
}

void ExpressionParser::ExpectOperator(std::string_view op) {
  if (!SkipOperator(op)) FailUnexpected("'" + std::string(op) + "'");
}

std::string ExpressionParser::ExpectIdentifier(std::string_view what) {
  if (Peek().kind != Token::Kind::kName) FailUnexpected(what);
  return Next().text;
}

void ExpressionParser::Fail(std::string message) const {
  throw Failure{std::move(message), Peek().line};
}

void ExpressionParser::FailUnexpected(std::string_view expected) const {
  const Token& token = Peek();
  const std::string found = token.kind == Token::Kind::kData  ? "text"
                            : token.kind == Token::Kind::kEnd ? token.text
                                                              : "'" + token.text + "'";
  Fail("expected " + std::string(expected) + ", found " + found);
}

template <class Node>
ExpressionPtr ExpressionParser::Make(int line, Node node) {
  auto made = std::make_unique<Expression>();
  made->line = line;
  VisitChildren(node, [&](const ExpressionPtr& child) {
    if (child != nullptr) made->depth = std::max(made->depth, child->depth + 1);
  });
  // Chains such as a + b + c + … are parsed by a loop, yet make a deep tree.
  if (made->depth > kMaxTreeDepth)
    Fail("an expression has more than " + std::to_string(kMaxTreeDepth) + " levels");
  made->node = std::move(node);
  return made;
}

ExpressionPtr ExpressionParser::ParseExpression(bool with_conditional) {
  const Level level(this);
  return with_conditional ? ParseConditional() : ParseLogical(false);
}

ExpressionPtr ExpressionParser::ParseConditional() {
  const int line = Peek().line;
  ExpressionPtr value = ParseLogical(false);
  while (SkipName("if")) {
    ExpressionPtr test = ParseLogical(false);
    ExpressionPtr otherwise;
    if (SkipName("else")) {
      const Level level(this);
      otherwise = ParseConditional();
    }
    value = Make(line, Conditional{std::move(test), std::move(value), std::move(otherwise)});
  }
  return value;
}

ExpressionPtr ExpressionParser::ParseLogical(bool is_and) {
  const auto operand = [&] { return is_and ? ParseNot() : ParseLogical(true); };
  ExpressionPtr left = operand();
  while (Peek().IsName(is_and ? "and" : "or")) {
    const int line = Next().line;
    ExpressionPtr right = operand();
    left = Make(line, Logical{is_and, std::move(left), std::move(right)});
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseNot() {
  if (!Peek().IsName("not")) return ParseComparison();
  const Level level(this);
  const int line = Next().line;
  ExpressionPtr operand = ParseNot();
  return Make(line, Unary{UnaryOperator::kNot, std::move(operand)});
}

ExpressionPtr ExpressionParser::ParseComparison() {
  static constexpr std::pair<std::string_view, Comparator> kComparators[] = {
      {"==", Comparator::kEqual},  {"!=", Comparator::kNotEqual},
      {"<", Comparator::kLess},    {"<=", Comparator::kLessEqual},
      {">", Comparator::kGreater}, {">=", Comparator::kGreaterEqual},
  };
  const int line = Peek().line;
  ExpressionPtr first = ParseSum();
  std::vector<std::pair<Comparator, ExpressionPtr>> rest;
  for (;;) {
    const auto* found = std::find_if(std::begin(kComparators), std::end(kComparators),
                                     [&](const auto& c) { return Peek().IsOperator(c.first); });
    if (found != std::end(kComparators)) {
      Next();
      rest.emplace_back(found->second, ParseSum());
    } else if (SkipName("in")) {
      rest.emplace_back(Comparator::kIn, ParseSum());
    } else if (Peek().IsName("not") && Peek(1).IsName("in")) {
      Next();
      Next();
      rest.emplace_back(Comparator::kNotIn, ParseSum());
    } else {
      break;
    }
  }
  if (rest.empty()) return first;
  return Make(line, Comparison{std::move(first), std::move(rest)});
}

ExpressionPtr ExpressionParser::ParseSum() {
  ExpressionPtr left = ParseConcatenation();
  while (Peek().IsOperator("+") || Peek().IsOperator("-")) {
    const Token token = Next();
    ExpressionPtr right = ParseConcatenation();
    const auto op = token.text == "+" ? BinaryOperator::kAdd : BinaryOperator::kSubtract;
    left = Make(token.line, Binary{op, std::move(left), std::move(right)});
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseConcatenation() {
  const int line = Peek().line;
  ExpressionPtr first = ParseProduct();
  if (!Peek().IsOperator("~")) return first;
  Concatenation node;
  node.parts.push_back(std::move(first));
  while (SkipOperator("~")) {
    node.parts.push_back(ParseProduct());
  }
  return Make(line, std::move(node));
}

ExpressionPtr ExpressionParser::ParseProduct() {
  static constexpr std::pair<std::string_view, BinaryOperator> kOperators[] = {
      {"*", BinaryOperator::kMultiply},
      {"/", BinaryOperator::kDivide},
      {"//", BinaryOperator::kFloorDivide},
      {"%", BinaryOperator::kModulo}};
  ExpressionPtr left = ParsePower();
  for (;;) {
    const auto* found = std::find_if(std::begin(kOperators), std::end(kOperators),
                                     [&](const auto& o) { return Peek().IsOperator(o.first); });
    if (found == std::end(kOperators)) return left;
    const int line = Next().line;
    ExpressionPtr right = ParsePower();
    left = Make(line, Binary{found->second, std::move(left), std::move(right)});
  }
}

ExpressionPtr ExpressionParser::ParsePower() {
  ExpressionPtr left = ParseUnary(true);
  while (Peek().IsOperator("**")) {
    const int line = Next().line;
    ExpressionPtr right = ParseUnary(true);
    left = Make(line, Binary{BinaryOperator::kPower, std::move(left), std::move(right)});
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseUnary(bool with_filters) {
  const Level level(this);
  ExpressionPtr value;
  if (Peek().IsOperator("-") || Peek().IsOperator("+")) {
    const Token token = Next();
    ExpressionPtr operand = ParseUnary(false);
    const auto op = token.text == "-" ? UnaryOperator::kNegate : UnaryOperator::kPlus;
    value = Make(token.line, Unary{op, std::move(operand)});
  } else {
    value = ParsePrimary();
  }
  value = ParsePostfix(std::move(value));
  return with_filters ? ParseFiltersAndTests(std::move(value)) : std::move(value);
}

ExpressionPtr ExpressionParser::ParsePrimary() {
  const int line = Peek().line;
  switch (Peek().kind) {
    case Token::Kind::kName: {
      const Token token = Next();
      if (IsConstantName(token.text)) return Make(line, Literal{ConstantValue(token.text)});
      names_used_.insert(token.text);
      return Make(line, Name{token.text});
    }
    case Token::Kind::kString: {
      std::string text = Next().text;
      while (Peek().kind == Token::Kind::kString) text += Next().text;
      return Make(line, Literal{Value(std::move(text))});
    }
    case Token::Kind::kInteger:
    case Token::Kind::kFloat:
      return ParseNumber();
    default:
      break;
  }
  if (SkipOperator("(")) {
    ExpressionPtr inner = ParseTuple(true, true);
    ExpectOperator(")");
    return inner;
  }
  if (Peek().IsOperator("[")) return ParseList();
  if (Peek().IsOperator("{")) return ParseDict();
  FailUnexpected("an expression");
}

ExpressionPtr ExpressionParser::ParseNumber() {
  const Token token = Next();
  const char* const end = token.text.data() + token.text.size();
  if (token.kind == Token::Kind::kFloat) {
    double value = 0;
    const auto [rest, error] = std::from_chars(token.text.data(), end, value);
    if (error != std::errc{}) {
      // Python's literals round to infinity or zero; which one the exponent's sign tells.
      value = token.text.find('-') == std::string::npos ? HUGE_VAL : 0.0;
    }
    return Make(token.line, Literal{Value(value)});
  }
  const char letter = token.text.size() > 1 ? static_cast<char>(token.text[1] | 0x20) : '0';
  const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
  int64_t value = 0;
  const auto [rest, error] =
      std::from_chars(token.text.data() + (base == 10 ? 0 : 2), end, value, base);
  if (error == std::errc::result_out_of_range)
    throw Failure{"the integer " + token.text + " does not fit 64 bits", token.line};
  if (error != std::errc{} || rest != end)
    throw Failure{"'" + token.text + "' is not a number", token.line};
  return Make(token.line, Literal{Value(value)});
}

bool ExpressionParser::AtTupleEnd(std::string_view end) const {
  const Token& token = Peek();
  return token.kind == Token::Kind::kVariableEnd || token.kind == Token::Kind::kBlockEnd ||
         token.IsOperator(")") || (!end.empty() && token.IsName(end));
}

ExpressionPtr ExpressionParser::ParseTuple(bool with_conditional, bool parenthesised,
                                           std::string_view end) {
  const Level level(this);
  const int line = Peek().line;
  ListLiteral tuple{.items = {}, .is_tuple = true};
  bool has_comma = false;
  while (!AtTupleEnd(end)) {
    tuple.items.push_back(ParseExpression(with_conditional));
    if (!SkipOperator(",")) break;
    has_comma = true;
  }
  if (!has_comma && tuple.items.size() == 1) return std::move(tuple.items[0]);
  if (!has_comma && !parenthesised) FailUnexpected("an expression");
  return Make(line, std::move(tuple));
}

ExpressionPtr ExpressionParser::ParseList() {
  const int line = Next().line;
  ListLiteral list;
  while (!Peek().IsOperator("]")) {
    list.items.push_back(ParseExpression());
    if (!SkipOperator(",")) break;
  }
  ExpectOperator("]");
  return Make(line, std::move(list));
}

ExpressionPtr ExpressionParser::ParseDict() {
  const int line = Next().line;
  DictLiteral dict;
  while (!Peek().IsOperator("}")) {
    ExpressionPtr key = ParseExpression();
    ExpectOperator(":");
    ExpressionPtr value = ParseExpression();
    dict.items.emplace_back(std::move(key), std::move(value));
    if (!SkipOperator(",")) break;
  }
  ExpectOperator("}");
  return Make(line, std::move(dict));
}

ExpressionPtr ExpressionParser::ParsePostfix(ExpressionPtr value) {
  for (;;) {
    if (Peek().IsOperator(".") || Peek().IsOperator("[")) {
      value = ParseSubscript(std::move(value));
    } else if (Peek().IsOperator("(")) {
      value = ParseCall(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::ParseFiltersAndTests(ExpressionPtr value) {
  for (;;) {
    if (Peek().IsOperator("|")) {
      value = ParseFilters(std::move(value), false);
    } else if (Peek().IsName("is")) {
      value = ParseTest(std::move(value));
    } else if (Peek().IsOperator("(")) {
      value = ParseCall(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::ParseSubscript(ExpressionPtr object) {
  const int line = Peek().line;
  if (SkipOperator(".")) {
    if (Peek().kind == Token::Kind::kName)
      return Make(line, Attribute{std::move(object), Next().text});
    if (Peek().kind != Token::Kind::kInteger) FailUnexpected("a name or a number after '.'");
    return Make(line, Subscript{std::move(object), ParseNumber()});
  }
  ExpectOperator("[");
  ExpressionPtr parts[3];
  size_t colons = 0;
  for (;; ++colons) {
    if (!Peek().IsOperator(":") && !Peek().IsOperator("]")) parts[colons] = ParseExpression();
    if (colons == 2 || !SkipOperator(":")) break;
  }
  if (colons == 0 && parts[0] == nullptr) FailUnexpected("an index");
  if (colons == 0 && Peek().IsOperator(",")) {
    ListLiteral tuple{.items = {}, .is_tuple = true};
    tuple.items.push_back(std::move(parts[0]));
    while (SkipOperator(",")) {
      tuple.items.push_back(ParseExpression());
    }
    parts[0] = Make(line, std::move(tuple));
  }
  ExpectOperator("]");
  if (colons == 0) return Make(line, Subscript{std::move(object), std::move(parts[0])});
  return Make(line, Slice{std::move(object), std::move(parts[0]), std::move(parts[1]),
                          std::move(parts[2])});
}

ExpressionPtr ExpressionParser::ParseCall(ExpressionPtr callee) {
  const int line = Peek().line;
  CallArguments arguments = ParseArguments();
  return Make(line, Call{std::move(callee), std::move(arguments)});
}

CallArguments ExpressionParser::ParseArguments() {
  CallArguments arguments;
  ExpectOperator("(");
  while (!Peek().IsOperator(")")) {
    if (Peek().IsOperator("*") || Peek().IsOperator("**")) {
      const bool named = Next().text == "**";
      ExpressionPtr& slot = named ? arguments.spread_named : arguments.spread_positional;
      if (slot != nullptr || arguments.spread_named != nullptr)
        Fail("a call has more than one '*' or '**' argument, or one out of order");
      slot = ParseExpression();
    } else if (Peek().kind == Token::Kind::kName && Peek(1).IsOperator("=")) {
      if (arguments.spread_named != nullptr) Fail("a named argument follows '**'");
      std::string name = Next().text;
      Next();
      const bool repeated = std::any_of(arguments.named.begin(), arguments.named.end(),
                                        [&](const auto& n) { return n.first == name; });
      if (repeated) Fail("the argument '" + name + "' is given twice");
      arguments.named.emplace_back(std::move(name), ParseExpression());
    } else {
      if (!arguments.named.empty() || arguments.spread_positional != nullptr ||
          arguments.spread_named != nullptr)
        Fail("a positional argument follows a named one");
      arguments.positional.push_back(ParseExpression());
    }
    if (!SkipOperator(",")) break;
  }
  ExpectOperator(")");
  return arguments;
}

ExpressionPtr ExpressionParser::ParseFilters(ExpressionPtr input, bool inline_first) {
  while (inline_first || SkipOperator("|")) {
    inline_first = false;
    const int line = Peek().line;
    std::string name = ExpectIdentifier("a filter's name");
    while (SkipOperator(".")) name += "." + ExpectIdentifier("a filter's name");
    CallArguments arguments;
    if (Peek().IsOperator("(")) arguments = ParseArguments();
    input = Make(line, FilterCall{std::move(input), std::move(name), std::move(arguments)});
  }
  return input;
}

ExpressionPtr ExpressionParser::ParseTest(ExpressionPtr input) {
  const int line = Next().line;
  const bool negated = SkipName("not");
  std::string name = ExpectIdentifier("a test's name");
  while (SkipOperator(".")) name += "." + ExpectIdentifier("a test's name");
  CallArguments arguments;
  const Token& token = Peek();
  const bool starts_value =
      token.kind == Token::Kind::kName || token.kind == Token::Kind::kString ||
      token.kind == Token::Kind::kInteger || token.kind == Token::Kind::kFloat ||
      token.IsOperator("[") || token.IsOperator("{");
  if (token.IsOperator("(")) {
    arguments = ParseArguments();
  } else if (starts_value && !token.IsName("else") && !token.IsName("or") && !token.IsName("and")) {
    if (token.IsName("is")) Fail("tests with 'is' cannot be chained");
    const Level level(this);
    arguments.positional.push_back(ParsePostfix(ParsePrimary()));
  }
  ExpressionPtr test =
      Make(line, TestCall{std::move(input), std::move(name), std::move(arguments)});
  if (!negated) return test;
  return Make(line, Unary{UnaryOperator::kNot, std::move(test)});
}

Target ExpressionParser::ParseTarget(bool with_namespace, std::string_view end) {
  const Level level(this);
  Target tuple{.line = Peek().line, .name = {}, .attribute = {}, .targets = {}, .is_tuple = true};
  bool has_comma = false;
  while (!AtTupleEnd(end) && !Peek().IsOperator("=")) {
    if (SkipOperator("(")) {
      tuple.targets.push_back(ParseTarget(with_namespace));
      ExpectOperator(")");
    } else {
      Target target{
          .line = Peek().line, .name = {}, .attribute = {}, .targets = {}, .is_tuple = false};
      target.name = ExpectIdentifier("a name to assign to");
      if (IsConstantName(target.name)) Fail("cannot assign to '" + target.name + "'");
      if (with_namespace && SkipOperator(".")) target.attribute = ExpectIdentifier("an attribute");
      tuple.targets.push_back(std::move(target));
    }
    if (!SkipOperator(",")) break;
    has_comma = true;
  }
  if (tuple.targets.empty()) FailUnexpected("a name to assign to");
  if (!has_comma && tuple.targets.size() == 1) return std::move(tuple.targets[0]);
  return tuple;
}

}  // namespace moxie::jinja
