// Constraints on made-up vocabularies: what they accept, and that their masks are what trying each
// token on a plain simulation of the grammar gives.
#include "moxie/constraint.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "sampling/constraint_parts.h"
#include "support/fake_tokenizer.h"

namespace moxie {
namespace {

using testing::FakeTokenizer;

/// How far `text` can be said byte by byte, and whether it is complete there.
struct Said {
  size_t bytes = 0;
  bool complete = false;
};

Said Say(const ConstraintPtr& constraint, std::string_view text) {
  ConstraintState state(constraint);
  for (size_t i = 0; i < text.size(); ++i) {
    if (!state.Advance(static_cast<uint8_t>(text[i]))) return {i, false};
  }
  return {text.size(), state.can_end()};
}

bool Accepts(const ConstraintPtr& constraint, std::string_view text) {
  const Said said = Say(constraint, text);
  return said.bytes == text.size() && said.complete;
}

ConstraintPtr Must(Result<ConstraintPtr> result) {
  EXPECT_TRUE(result) << result.error().message;
  return result ? *result : nullptr;
}

std::string MessageOf(const Result<ConstraintPtr>& result) {
  return result ? "(no error)" : result.error().message;
}

TEST(Constraint, ChoiceIsOneOfTheTexts) {
  const FakeTokenizer tokenizer;
  const ConstraintCompiler compiler(tokenizer);
  const auto constraint = Must(compiler.Choice({"yes", "yesterday", "no", "ünter"}));
  for (const char* text : {"yes", "yesterday", "no", "ünter"})
    EXPECT_TRUE(Accepts(constraint, text));
  for (const char* text : {"", "y", "yest", "yess", "n", "noo", "ü"})
    EXPECT_FALSE(Accepts(constraint, text)) << text;
  EXPECT_EQ(Say(constraint, "yestern").bytes, 6U);
}

TEST(Constraint, EndsExactlyWhereTheTextIsComplete) {
  const FakeTokenizer tokenizer({"es", "est"});
  const ConstraintCompiler compiler(tokenizer);
  ConstraintState state(Must(compiler.Choice({"yes", "yesterday"})));
  const TokenId stop = tokenizer.stop_tokens()[0];
  const auto allows = [&](TokenId id) {
    const auto mask = state.Mask();
    EXPECT_TRUE(mask);
    return ((*mask)[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0;
  };
  EXPECT_FALSE(allows(stop));
  EXPECT_FALSE(state.Advance(stop));
  ASSERT_TRUE(state.Advance('y'));
  EXPECT_TRUE(allows(256));
  EXPECT_TRUE(allows(257));
  ASSERT_TRUE(state.Advance(256));
  EXPECT_TRUE(allows(stop));
  EXPECT_TRUE(allows('t'));
  EXPECT_TRUE(state.can_end());
  EXPECT_FALSE(state.must_end());
  for (const char c : std::string("terday")) ASSERT_TRUE(state.Advance(c));
  EXPECT_TRUE(state.must_end());
}

TEST(Constraint, GbnfOfLlamaCpp) {
  const FakeTokenizer tokenizer({}, {"</s>", "<think>", "</think>"});
  const ConstraintCompiler compiler(tokenizer);
  // Arithmetic, with a comment, alternatives over lines, classes, escapes and repetition.
  const auto sums =
      Must(compiler.Gbnf("root ::= (expr \"=\" ws term \"\\n\"){1,2}\n"
                         "expr ::= term ([-+*/] term)*  # left to right\n"
                         "term ::= ident | num |\n  \"(\" ws expr \")\" ws\n"
                         "ident ::= [a-z] [a-z0-9_]* ws\n"
                         "num ::= [0-9]+ ws\nws ::= [ \\t\\n]{0,3}\n"));
  EXPECT_TRUE(Accepts(sums, "a+1*(b_2 -3)=x\n"));
  EXPECT_TRUE(Accepts(sums, "1=2\n(((3)))=4\n"));
  EXPECT_FALSE(Accepts(sums, "1=2\n3=4\n5=6\n"));
  EXPECT_FALSE(Accepts(sums, "1+=2\n"));
  EXPECT_FALSE(Accepts(sums, "(1=2\n"));
  const auto characters = Must(compiler.Gbnf("root ::= [^\\x41-\\u00fc\"]+ . \"\\U0001F600\""));
  EXPECT_TRUE(Accepts(characters, "1ýäÄ😀" + std::string()) == false);  // ä and Ä are excluded.
  EXPECT_TRUE(Accepts(characters, "1ý€x😀"));
  EXPECT_FALSE(Accepts(characters, "\xff\xff😀"));
  const auto thought = Must(compiler.Gbnf("root ::= <think> [a-z]* <[258]> [0-9]"));
  ConstraintState state(thought);
  EXPECT_FALSE(state.Advance('a'));
  EXPECT_TRUE(state.Advance(257));
  EXPECT_TRUE(state.Advance('a'));
  EXPECT_FALSE(state.Advance(257));
  EXPECT_TRUE(state.Advance(258));
  EXPECT_TRUE(state.Advance('7'));
  EXPECT_TRUE(state.must_end());
}

TEST(Constraint, BadGrammarsAreRefusedInOneSentence) {
  const FakeTokenizer tokenizer;
  const ConstraintCompiler compiler(tokenizer);
  EXPECT_EQ(MessageOf(compiler.Gbnf("root ::= a\na ::= \"x\"? root \"y\"")),
            "grammar: rule \"root\" calls itself before it takes a character (left recursion)");
  EXPECT_EQ(MessageOf(compiler.Gbnf("root ::= nothing")),
            "grammar: rule \"nothing\" is used but not defined");
  EXPECT_EQ(MessageOf(compiler.Gbnf("other ::= \"x\"")),
            "grammar: it has no rule \"root\" to begin with");
  EXPECT_EQ(MessageOf(compiler.Gbnf("root ::= \"x\" root")),
            "grammar: no text at all satisfies it");
  EXPECT_EQ(MessageOf(compiler.Gbnf("root ::= [a-")),
            "grammar: line 1, column 13: the grammar ends within a text or a class");
  EXPECT_EQ(MessageOf(compiler.Gbnf("root ::= " + std::string(60'000, '('))),
            "grammar: line 1, column 211: parentheses are nested more than 200 deep");
  EXPECT_NE(MessageOf(compiler.Gbnf("root ::= (\"a\"{90000} \"b\"{90000} \"c\"{90000}){90000} "
                                    "\"d\"{90000}")),
            "(no error)");
  EXPECT_NE(MessageOf(compiler.Gbnf("root ::= \"x\"{100001}")), "(no error)");
  EXPECT_NE(MessageOf(compiler.Regex("(?=a)b")), "(no error)");
  EXPECT_NE(MessageOf(compiler.Regex(std::string(60'000, '('))), "(no error)");
  EXPECT_NE(MessageOf(compiler.Regex("(((x{1000}){1000}){1000}){1000}")), "(no error)");
  EXPECT_NE(MessageOf(compiler.Choice({})), "(no error)");
}

TEST(Constraint, BadSchemasAreRefusedInOneSentence) {
  const FakeTokenizer tokenizer;
  const ConstraintCompiler compiler(tokenizer);
  EXPECT_EQ(MessageOf(compiler.JsonSchema(
                R"({"properties": {"a": {"type": "array", "uniqueItems": true}}})")),
            "JSON schema: #/properties/a: the keyword \"uniqueItems\" is not supported");
  EXPECT_EQ(MessageOf(compiler.JsonSchema(R"({"type": "strin"})")),
            "JSON schema: #: \"type\" must be object, array, string, number, integer, boolean or "
            "null, or a list of these");
  EXPECT_EQ(MessageOf(compiler.JsonSchema(R"({"minLength": "x"})")),
            "JSON schema: #: \"minLength\" must be a whole number from 0 to 1000000000");
  EXPECT_EQ(MessageOf(compiler.JsonSchema(R"({"$ref": "https://example.com/schema"})")),
            "JSON schema: #: \"$ref\" must name a place in this schema, but "
            "\"https://example.com/schema\" does not");
  EXPECT_EQ(MessageOf(compiler.JsonSchema(R"({"oneOf": [{"type": "string"}, {"minLength": 2}]})")),
            "JSON schema: #: schemas 0 and 1 of \"oneOf\" might both hold; use \"anyOf\", or tell "
            "them apart by a type or a constant");
  EXPECT_EQ(MessageOf(compiler.JsonSchema("false")), "JSON schema: no text at all satisfies it");
  const char* const kRefused[] = {
      "",
      "{",
      "[]",
      "7",
      R"({"$ref": "#"})",
      R"({"allOf": [{"$ref": "#"}]})",
      R"({"type": "string", "maxLength": 999999999, "minLength": 999999})",
      R"({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})",
      R"({"$ref": "#/~2"})",
      R"({"properties": []})",
      R"({"prefixItems": "x"})",
      R"({"anyOf": [1]})",
      R"-({"pattern": "(?=x)"})-",
      R"({"format": "regex"})"};
  for (const char* const text : kRefused)
    EXPECT_NE(MessageOf(compiler.JsonSchema(text)), "(no error)") << text;
  std::string deep;
  for (int i = 0; i < 60'000; ++i) deep += R"({"items":)";
  EXPECT_NE(MessageOf(compiler.JsonSchema(deep + "{}" + std::string(60'000, '}'))), "(no error)");
}

TEST(Constraint, JsonWithoutSpacesOrFurtherProperties) {
  const FakeTokenizer tokenizer;
  const ConstraintCompiler compiler(tokenizer);
  const char* const schema =
      R"({"properties": {"a": {"type": "integer"}, "b": {}}, "required": ["b"]})";
  const auto open = Must(compiler.JsonSchema(schema));
  const auto closed = Must(compiler.JsonSchema(schema, {.additional_properties = false}));
  const auto tight = Must(compiler.JsonSchema(schema, {.whitespace = false}));
  EXPECT_TRUE(Accepts(open, "{\n  \"a\": 1,\n  \"b\": [1, {}], \"c\":2\n}"));
  EXPECT_FALSE(Accepts(open, "{\"a\":1, \"b\":1, \"a\":2}"));
  EXPECT_FALSE(Accepts(open, "{\"a\":1}"));
  EXPECT_TRUE(Accepts(closed, "{\"b\": 1}"));
  EXPECT_FALSE(Accepts(closed, "{\"b\": 1, \"c\": 2}"));
  EXPECT_TRUE(Accepts(tight, "{\"a\":1,\"b\":[1,{}]}"));
  EXPECT_FALSE(Accepts(tight, "{\"b\": 1}"));
  const auto object = Must(compiler.JsonObject());
  EXPECT_TRUE(Accepts(object, "{\"\\ud83d\\ude00\": [true, null, -1.5e-3, \"ä\"]}"));
  EXPECT_FALSE(Accepts(object, "{\"\\ud83d\": 1}"));
  EXPECT_FALSE(Accepts(object, "[]"));
  EXPECT_FALSE(Accepts(object, "{\"a\": \"\xff\"}"));
  EXPECT_FALSE(Accepts(object, "{\"a\": 01}"));
}

TEST(Constraint, DeepRecursionEndsInsteadOfCrashing) {
  const FakeTokenizer tokenizer({"(((((((((("});
  const ConstraintCompiler compiler(tokenizer);
  ConstraintState state(Must(compiler.Gbnf("root ::= \"(\" root \")\" | \"x\"")));
  int depth = 0;
  while (depth < 60'000 && state.Advance('(')) ++depth;
  EXPECT_GE(depth, 900);
  EXPECT_LT(depth, 1100);
  ASSERT_TRUE(state.Mask());
  ASSERT_TRUE(state.Advance('x'));
  for (int i = 0; i < depth; ++i) ASSERT_TRUE(state.Advance(')'));
  EXPECT_TRUE(state.must_end());
}

TEST(Constraint, AmbiguousGrammarsStayCheap) {
  const FakeTokenizer tokenizer;
  const ConstraintCompiler compiler(tokenizer);
  // Two readings of every letter: 2^2000 stacks, if they were kept apart.
  const auto constraint =
      Must(compiler.Gbnf("root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"d\""));
  const std::string text =
      std::string(500, 'a') + "d" + std::string(250, 'b') + std::string(250, 'c');
  EXPECT_TRUE(Accepts(constraint, text));
  const auto explosive = Must(compiler.Regex("(a|b)*a(a|b){300}"));
  EXPECT_TRUE(Accepts(explosive, std::string(700, 'a')));
  EXPECT_FALSE(Accepts(explosive, "b" + std::string(300, 'a')));
}

/// The grammar followed as plainly as possible: a set of states, each with its own stack.
class PlainParser {
 public:
  using Item = std::pair<uint32_t, std::vector<uint32_t>>;
  explicit PlainParser(const Grammar& grammar) : grammar_(grammar) {}

  std::set<Item> Start() { return Closed({{grammar_.start, {}}}); }

  std::set<Item> Step(const std::set<Item>& from, uint8_t byte) {
    std::set<Item> reached;
    for (const auto& [id, stack] : from) {
      const auto& state = grammar_.states[id];
      for (uint32_t e = state.bytes_begin; e < state.bytes_end; ++e) {
        const auto& edge = grammar_.byte_edges[e];
        if (edge.first <= byte && byte <= edge.last) reached.insert({edge.to, stack});
      }
    }
    return Closed(std::move(reached));
  }

  bool CanEnd(const std::set<Item>& items) {
    return std::any_of(items.begin(), items.end(), [&](const Item& item) {
      return item.second.empty() && grammar_.states[item.first].final;
    });
  }

 private:
  std::set<Item> Closed(std::set<Item> items) {
    std::vector<Item> open(items.begin(), items.end());
    const auto add = [&](Item item) {
      if (items.insert(item).second) open.push_back(std::move(item));
    };
    while (!open.empty()) {
      const auto [id, stack] = open.back();
      open.pop_back();
      const auto& state = grammar_.states[id];
      for (uint32_t c = state.calls_begin; c < state.calls_end; ++c) {
        std::vector<uint32_t> deeper = stack;
        deeper.push_back(grammar_.call_edges[c].resume);
        add({grammar_.call_edges[c].start, deeper});
      }
      if (!state.final || stack.empty()) continue;
      std::vector<uint32_t> rest = stack;
      rest.pop_back();
      add({stack.back(), rest});
    }
    return items;
  }

  const Grammar& grammar_;
};

std::vector<std::string> RandomPieces(std::mt19937* random, std::string_view letters, int count) {
  std::set<std::string> pieces;
  while (static_cast<int>(pieces.size()) < count) {
    std::string piece;
    const size_t length = (*random)() % 8 == 0 ? 30 + (*random)() % 12 : 2 + (*random)() % 5;
    while (piece.size() < length) piece += letters[(*random)() % letters.size()];
    pieces.insert(piece);
  }
  return {pieces.begin(), pieces.end()};
}

/// Says random allowed tokens and compares each mask with what PlainParser gives.
void CompareMasks(const ConstraintPtr& constraint, const FakeTokenizer& tokenizer,
                  std::mt19937* random) {
  PlainParser plain(constraint->impl().grammar);
  ConstraintState state(constraint);
  std::set<PlainParser::Item> items = plain.Start();
  for (int step = 0; step < 60; ++step) {
    const auto mask = state.Mask();
    ASSERT_TRUE(mask) << mask.error().message;
    std::vector<TokenId> allowed;
    for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
      const bool got = ((*mask)[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0;
      bool want = plain.CanEnd(items);
      if (!tokenizer.IsSpecial(id)) {
        std::set<PlainParser::Item> reached = items;
        for (const char c : tokenizer.Bytes(id))
          reached = plain.Step(reached, static_cast<uint8_t>(c));
        want = !reached.empty();
      } else if (id != tokenizer.stop_tokens()[0]) {
        want = false;
      }
      ASSERT_EQ(got, want) << "token " << id << " \"" << tokenizer.Piece(id) << "\"";
      if (got && !tokenizer.IsSpecial(id)) allowed.push_back(id);
    }
    ASSERT_EQ(state.can_end(), plain.CanEnd(items));
    if (allowed.empty()) {
      EXPECT_TRUE(state.must_end());
      return;
    }
    const TokenId token = allowed[(*random)() % allowed.size()];
    ASSERT_TRUE(state.Advance(token));
    for (const char c : tokenizer.Bytes(token)) items = plain.Step(items, static_cast<uint8_t>(c));
  }
}

TEST(Constraint, MasksAreWhatTryingEachTokenGives) {
  std::mt19937 random(7);
  const struct {
    const char* grammar;
    const char* letters;
  } kCases[] = {
      {"root ::= \"(\" root \")\" root | [a-c]*", "()abc"},
      {"root ::= ([a-c]{50,90} \";\"){2,3}", "abc;"},
      {"root ::= (\"a\" | \"ab\"){0,200} \"c\"", "abc"},
      {"root ::= ((\"a\"?) \"b\"?){40,100} \"c\"", "abc"},
      {"root ::= s\ns ::= \"a\" s \"b\" | \"a\" s \"c\" | \"\"", "abc"},
      {"root ::= \"\\\"\" [^\"\\\\]{0,80} \"\\\"\" (\",\" root)?", "\"a,\xC3\xA4\xE2\x82\xAC"},
      {"root ::= [\\u00e0-\\u20ac]+ \"x\"*", "\xC3\xA4\xE2\x82\xACx"},
      {"root ::= a* b\na ::= \"x\" b | \"y\"\nb ::= \"x\" \"y\"? a?", "xy"},
  };
  for (const auto& each : kCases) {
    SCOPED_TRACE(each.grammar);
    const FakeTokenizer tokenizer(RandomPieces(&random, each.letters, 60), {"</s>", "<s>"});
    const ConstraintCompiler compiler(tokenizer);
    const auto constraint = Must(compiler.Gbnf(each.grammar));
    ASSERT_NE(constraint, nullptr);
    for (int round = 0; round < 4; ++round) CompareMasks(constraint, tokenizer, &random);
  }
}

}  // namespace
}  // namespace moxie
