#include "tokenizer/jinja_parser.h"

#include <utility>

namespace moxie::jinja {
namespace {

class TemplateParser {
 public:
  explicit TemplateParser(std::vector<Token> tokens) : parser_(std::move(tokens)) {}

  Block Parse() {
    Block block = ParseBlock({});
    return block;
  }

 private:
  using Names = std::initializer_list<std::string_view>;
  using Level = ExpressionParser::Level;

  // Parses up to the tag that starts with one of `ends`, whose name is left to be read.
  Block ParseBlock(Names ends) {
    const Level level(&parser_);
    Block block;
    for (;;) {
      const Token& token = parser_.Peek();
      const int line = token.line;
      switch (token.kind) {
        case Token::Kind::kData:
          block.push_back({line, Data{parser_.Next().text}});
          break;
        case Token::Kind::kVariableBegin: {
          parser_.Next();
          block.push_back({line, Print{parser_.ParseTuple(true, false)}});
          if (parser_.Peek().kind != Token::Kind::kVariableEnd) parser_.FailUnexpected("'}}'");
          parser_.Next();
          break;
        }
        case Token::Kind::kBlockBegin:
          parser_.Next();
          for (const std::string_view end : ends) {
            if (parser_.Peek().IsName(end)) return block;
          }
          ParseStatement(&block);
          ExpectBlockEnd();
          break;
        default:
          if (ends.size() == 0 && token.kind == Token::Kind::kEnd) return block;
          parser_.FailUnexpected("{% " + std::string(*(ends.end() - 1)) + " %}");
      }
    }
  }

  void ExpectBlockEnd() {
    if (parser_.Peek().kind != Token::Kind::kBlockEnd) parser_.FailUnexpected("'%}'");
    parser_.Next();
  }

  // The body after a tag's head; ends before the name of the closing tag.
  Block ParseBody(Names ends) {
    parser_.SkipOperator(":");
    ExpectBlockEnd();
    return ParseBlock(ends);
  }

  // The body after a tag's head, and the name of its only closing tag.
  Block ParseWholeBody(std::string_view end) {
    Block block = ParseBody({end});
    parser_.ExpectName(end);
    return block;
  }

  void ParseStatement(Block* block) {
    const int line = parser_.Peek().line;
    const std::string tag = parser_.ExpectIdentifier("a tag's name");
    if (tag == "if") {
      block->push_back({line, ParseIf()});
    } else if (tag == "for") {
      block->push_back({line, ParseFor()});
    } else if (tag == "set") {
      block->push_back(ParseSet(line));
    } else if (tag == "macro") {
      block->push_back({line, ParseMacro()});
    } else if (tag == "call") {
      block->push_back({line, ParseCallBlock()});
    } else if (tag == "filter") {
      ExpressionPtr filter = parser_.ParseFilters(nullptr, true);
      block->push_back({line, FilterBlock{std::move(filter), ParseWholeBody("endfilter")}});
    } else if (tag == "with") {
      block->push_back({line, ParseWith()});
    } else if (tag == "generation") {
      block->push_back({line, Generation{ParseWholeBody("endgeneration")}});
    } else if (tag == "print") {
      ParsePrint(line, block);
    } else if (tag == "break" || tag == "continue") {
      if (loop_depth_ == 0) throw Failure{"'" + tag + "' stands outside a loop", line};
      if (tag == "break") {
        block->push_back({line, Break{}});
      } else {
        block->push_back({line, Continue{}});
      }
    } else {
      FailUnknownTag(tag, line);
    }
  }

  [[noreturn]] static void FailUnknownTag(const std::string& tag, int line) {
    for (const std::string_view loading : {"include", "import", "from", "extends", "block"}) {
      if (tag == loading)
        throw Failure{"{% " + tag + " %} is refused: a chat template stands alone", line};
    }
    throw Failure{"{% " + tag + " %} is no known tag, or has no opening tag", line};
  }

  If ParseIf() {
    If node;
    for (;;) {
      ExpressionPtr test = parser_.ParseTuple(false, false);
      node.branches.emplace_back(std::move(test), ParseBody({"elif", "else", "endif"}));
      if (parser_.SkipName("elif")) continue;
      if (parser_.SkipName("else")) {
        node.otherwise = ParseWholeBody("endif");
      } else {
        parser_.ExpectName("endif");
      }
      return node;
    }
  }

  For ParseFor() {
    For node;
    node.target = parser_.ParseTarget(false, "in");
    parser_.ExpectName("in");
    node.iterable = parser_.ParseTuple(false, false, "recursive");
    if (parser_.SkipName("if")) node.filter = parser_.ParseExpression();
    node.recursive = parser_.SkipName("recursive");
    ++loop_depth_;
    node.body = ParseBody({"else", "endfor"});
    --loop_depth_;
    if (parser_.SkipName("else")) {
      node.otherwise = ParseWholeBody("endfor");
    } else {
      parser_.ExpectName("endfor");
    }
    return node;
  }

  Statement ParseSet(int line) {
    Target target = parser_.ParseTarget(true);
    if (parser_.SkipOperator("="))
      return {line, Set{std::move(target), parser_.ParseTuple(true, false)}};
    ExpressionPtr filter;
    if (parser_.SkipOperator("|")) filter = parser_.ParseFilters(nullptr, true);
    return {line, SetBlock{std::move(target), std::move(filter), ParseWholeBody("endset")}};
  }

  void ParseSignature(MacroBody* macro) {
    parser_.ExpectOperator("(");
    while (!parser_.Peek().IsOperator(")")) {
      if (!macro->parameters.empty()) parser_.ExpectOperator(",");
      macro->parameters.push_back(parser_.ExpectIdentifier("a parameter's name"));
      if (parser_.SkipOperator("=")) {
        macro->defaults.push_back(parser_.ParseExpression());
      } else if (!macro->defaults.empty()) {
        parser_.Fail("a parameter without default follows one with a default");
      }
    }
    parser_.ExpectOperator(")");
  }

  // Parses a macro's body. Its hidden parameters exist only where the body names them, and what a
  // loop around the macro allows is not allowed inside.
  void ParseMacroBody(std::string_view end, MacroBody* macro) {
    std::set<std::string> outer_names = std::exchange(parser_.names_used(), {});
    const int outer_loops = std::exchange(loop_depth_, 0);
    macro->body = ParseWholeBody(end);
    loop_depth_ = outer_loops;
    const std::set<std::string>& used = parser_.names_used();
    macro->uses_caller = used.count("caller") > 0;
    macro->uses_varargs = used.count("varargs") > 0;
    macro->uses_kwargs = used.count("kwargs") > 0;
    outer_names.insert(used.begin(), used.end());
    parser_.names_used() = std::move(outer_names);
  }

  DefineMacro ParseMacro() {
    auto macro = std::make_unique<MacroBody>();
    macro->name = parser_.ExpectIdentifier("a macro's name");
    ParseSignature(macro.get());
    ParseMacroBody("endmacro", macro.get());
    return {std::move(macro)};
  }

  CallBlock ParseCallBlock() {
    auto caller = std::make_unique<MacroBody>();
    caller->name = "caller";
    if (parser_.Peek().IsOperator("(")) ParseSignature(caller.get());
    ExpressionPtr call = parser_.ParseExpression();
    if (!std::holds_alternative<Call>(call->node)) parser_.Fail("a call block needs a call");
    ParseMacroBody("endcall", caller.get());
    return {std::move(call), std::move(caller)};
  }

  With ParseWith() {
    With node;
    while (parser_.Peek().kind != Token::Kind::kBlockEnd) {
      if (!node.bindings.empty()) parser_.ExpectOperator(",");
      Target target = parser_.ParseTarget(false);
      parser_.ExpectOperator("=");
      node.bindings.emplace_back(std::move(target), parser_.ParseExpression());
    }
    node.body = ParseWholeBody("endwith");
    return node;
  }

  void ParsePrint(int line, Block* block) {
    bool first = true;
    while (parser_.Peek().kind != Token::Kind::kBlockEnd) {
      if (!first) parser_.ExpectOperator(",");
      first = false;
      block->push_back({line, Print{parser_.ParseExpression()}});
    }
  }

  ExpressionParser parser_;
  int loop_depth_ = 0;
};

}  // namespace

Block ParseTemplate(std::string_view source) { return TemplateParser(Tokenize(source)).Parse(); }

}  // namespace moxie::jinja
