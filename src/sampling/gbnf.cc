#include <charconv>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sampling/constraint_parts.h"
#include "tokenizer/unicode.h"

namespace moxie {
namespace {

using Part = GrammarBuilder::Part;

constexpr size_t kMaxTextBytes = size_t{1} << 20;
constexpr int kMaxDepth = 200;
constexpr uint32_t kMaxRepeat = 100'000;

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

/// Recursive descent over a grammar in llama.cpp's notation; nesting is limited to kMaxDepth.
///
///   rule:     name "::=" choice, up to the line's end
///   choice:   sequence ("|" sequence)*
///   sequence: (item ("*" | "+" | "?" | "{m}" | "{m,}" | "{m,n}")*)*
///   item:     "text" | [a-z] | [^a-z] | . | name | (choice) | <[token id]> | <token's text>
class GbnfParser {
 public:
  GbnfParser(std::string_view text, const Tokenizer& tokenizer, GrammarBuilder* builder)
      : text_(text), tokenizer_(tokenizer), builder_(builder) {}

  Result<GrammarBuilder::Rule> Parse() {
    if (text_.size() > kMaxTextBytes)
      return Error{ErrorCode::kInvalidInput, "it has " + std::to_string(text_.size()) +
                                                 " bytes, at most " +
                                                 std::to_string(kMaxTextBytes) + " are expected"};
    for (SkipSpace(true); !AtEnd(); SkipSpace(true)) MOXIE_TRY(ParseRule());
    const auto root = rules_.find("root");
    if (root == rules_.end())
      return Error{ErrorCode::kInvalidInput, "it has no rule \"root\" to begin with"};
    for (const auto& [name, rule] : rules_) {
      if (!rule.defined)
        return Error{ErrorCode::kInvalidInput,
                     "rule \"" + std::string(name) + "\" is used but not defined"};
    }
    return root->second.rule;
  }

 private:
  struct NamedRule {
    GrammarBuilder::Rule rule = 0;
    bool defined = false;
  };

  bool AtEnd() const { return at_ >= text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  bool Take(std::string_view what) {
    if (text_.substr(at_, what.size()) != what) return false;
    at_ += what.size();
    return true;
  }

  /// Spaces and comments; line ends too where a rule goes on over them.
  void SkipSpace(bool lines) {
    while (!AtEnd()) {
      const char c = Peek();
      if (c == '#') {
        while (!AtEnd() && Peek() != '\n' && Peek() != '\r') ++at_;
      } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
        ++at_;
      } else {
        return;
      }
    }
  }

  Error Fail(const std::string& what, ErrorCode code = ErrorCode::kInvalidInput) const {
    size_t line = 1;
    size_t column = 1;
    for (size_t i = 0; i < at_ && i < text_.size(); ++i) {
      column = text_[i] == '\n' ? 1 : column + 1;
      line += text_[i] == '\n' ? 1 : 0;
    }
    return {code,
            "line " + std::to_string(line) + ", column " + std::to_string(column) + ": " + what};
  }

  NamedRule& Named(std::string_view name) {
    const auto [entry, is_new] = rules_.try_emplace(name);
    if (is_new) entry->second.rule = builder_->Declare(std::string(name.substr(0, 100)));
    return entry->second;
  }

  std::string_view TakeName() {
    const size_t begin = at_;
    while (!AtEnd() && IsNameCharacter(Peek())) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  Result<void> ParseRule() {
    const std::string_view name = TakeName();
    if (name.empty()) return Fail("expected the name of a rule");
    SkipSpace(false);
    if (!Take("::=")) return Fail("expected ::= after the rule's name");
    SkipSpace(true);
    if (Named(name).defined)
      return Fail("rule \"" + std::string(name.substr(0, 100)) + "\" is defined twice");
    MOXIE_TRY_ASSIGN(const Part part, ParseChoice(0));
    NamedRule& rule = Named(name);
    builder_->Define(rule.rule, part);
    rule.defined = true;
    if (!AtEnd() && Peek() != '\n' && Peek() != '\r')
      return Fail("expected the end of the rule's line");
    return builder_->Check();
  }

  Result<Part> ParseChoice(int depth) {
    if (depth > kMaxDepth)
      return Fail("parentheses are nested more than " + std::to_string(kMaxDepth) + " deep");
    std::vector<Part> parts;
    do {
      SkipSpace(true);
      MOXIE_TRY_ASSIGN(const Part part, ParseSequence(depth));
      parts.push_back(part);
    } while (Take("|"));
    return parts.size() == 1 ? parts[0] : builder_->Choice(parts);
  }

  Result<Part> ParseSequence(int depth) {
    std::vector<Part> parts;
    while (true) {
      SkipSpace(depth > 0);
      if (AtEnd() || Peek() == '\n' || Peek() == '\r' || Peek() == '|' || Peek() == ')') break;
      MOXIE_TRY_ASSIGN(Part part, ParseItem(depth));
      MOXIE_TRY_ASSIGN(part, ParseRepetitions(part, depth));
      parts.push_back(part);
    }
    return builder_->Sequence(parts);
  }

  Result<Part> ParseItem(int depth) {
    if (Take("(")) {
      MOXIE_TRY_ASSIGN(const Part part, ParseChoice(depth + 1));
      if (!Take(")")) return Fail("expected ) after this");
      return part;
    }
    if (Take("\"")) return ParseLiteral();
    if (Take("[")) return ParseClass();
    if (Take(".")) return builder_->CodePoints(AnyCharacter());
    if (Peek() == '<') return ParseToken();
    if (Take("!<"))
      return Fail("a negated token (!<...>) is not supported", ErrorCode::kUnsupported);
    const std::string_view name = TakeName();
    if (name.empty())
      return Fail("expected a text, a class, a rule's name or a parenthesis, not \"" +
                  std::string(1, Peek()) + "\"");
    return builder_->Call(Named(name).rule);
  }

  static std::vector<CodePointRange> AnyCharacter() { return NormalizeRanges({{0, 0x10FFFF}}); }

  Result<Part> ParseRepetitions(Part part, int depth) {
    for (int count = 0;; ++count) {
      SkipSpace(depth > 0);
      uint32_t min = 0;
      uint32_t max = kUnboundedRepeat;
      if (Take("*")) {
      } else if (Take("+")) {
        min = 1;
      } else if (Take("?")) {
        max = 1;
      } else if (Take("{")) {
        MOXIE_TRY(ParseBounds(&min, &max));
      } else {
        return part;
      }
      if (count == 8) return Fail("too many repetitions of one item");
      part = builder_->Repeat(part, min, max);
    }
  }

  Result<void> ParseBounds(uint32_t* min, uint32_t* max) {
    SkipSpace(true);
    MOXIE_TRY_ASSIGN(*min, ParseNumber());
    SkipSpace(true);
    *max = *min;
    if (Take(",")) {
      SkipSpace(true);
      *max = kUnboundedRepeat;
      if (Peek() != '}') {
        MOXIE_TRY_ASSIGN(*max, ParseNumber());
      }
    }
    SkipSpace(true);
    if (!Take("}")) return Fail("expected } after the number of repetitions");
    if (*max < *min) return Fail("the repetition's maximum is less than its minimum");
    return {};
  }

  Result<uint32_t> ParseNumber() {
    uint32_t value = 0;
    const char* const begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (end == begin) return Fail("expected a number of repetitions");
    if (error != std::errc() || value > kMaxRepeat)
      return Fail("more than " + std::to_string(kMaxRepeat) + " repetitions");
    at_ += static_cast<size_t>(end - begin);
    return value;
  }

  Result<char32_t> ParseCharacter() {
    if (AtEnd()) return Fail("the grammar ends within a text or a class");
    if (Take("\\")) return ParseEscape();
    const DecodedCharacter c = DecodeUtf8(text_, at_);
    if (!c.valid) return Fail("invalid UTF-8");
    at_ += c.length;
    return c.code_point;
  }

  Result<char32_t> ParseEscape() {
    const char c = Peek();
    ++at_;
    switch (c) {
      case 'x':
        return ParseHexadecimal(2);
      case 'u':
        return ParseHexadecimal(4);
      case 'U':
        return ParseHexadecimal(8);
      case 't':
        return U'\t';
      case 'r':
        return U'\r';
      case 'n':
        return U'\n';
      case '\\':
      case '"':
      case '[':
      case ']':
      case '^':
      case '-':
        return static_cast<char32_t>(c);
      default:
        --at_;
        return Fail("an unknown escape");
    }
  }

  Result<char32_t> ParseHexadecimal(size_t digits) {
    uint32_t value = 0;
    const std::string_view text = text_.substr(std::min(at_, text_.size()), digits);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (text.size() != digits || end != text.data() + digits || error != std::errc() ||
        value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
      return Fail("expected " + std::to_string(digits) +
                  " hexadecimal digits of a character's number");
    at_ += digits;
    return static_cast<char32_t>(value);
  }

  Result<Part> ParseLiteral() {
    std::string bytes;
    while (!Take("\"")) {
      MOXIE_TRY_ASSIGN(const char32_t c, ParseCharacter());
      AppendUtf8(c, &bytes);
    }
    return builder_->Literal(bytes);
  }

  Result<Part> ParseClass() {
    const bool negated = Take("^");
    std::vector<CodePointRange> ranges;
    while (!Take("]")) {
      MOXIE_TRY_ASSIGN(const char32_t first, ParseCharacter());
      char32_t last = first;
      if (Peek() == '-' && text_.substr(at_ + 1, 1) != "]") {
        ++at_;
        MOXIE_TRY_ASSIGN(last, ParseCharacter());
        if (last < first) return Fail("a range whose end is before its beginning");
      }
      ranges.push_back({first, last});
    }
    ranges = NormalizeRanges(std::move(ranges));
    return builder_->CodePoints(negated ? ComplementRanges(ranges) : ranges);
  }

  Result<Part> ParseToken() {
    const size_t close = text_.find('>', at_);
    if (close == std::string_view::npos) return Fail("a < without its >");
    const std::string_view piece = text_.substr(at_, close + 1 - at_);
    if (!piece.starts_with("<[")) {
      const std::optional<TokenId> token = tokenizer_.FindPiece(piece);
      if (!token)
        return Fail("the vocabulary has no token \"" + std::string(piece.substr(0, 100)) + "\"");
      at_ = close + 1;
      return builder_->Token(*token);
    }
    TokenId token = -1;
    const char* const end = text_.data() + close - 1;
    const auto [read, error] = std::from_chars(text_.data() + at_ + 2, end, token);
    if (error != std::errc() || read != end || *end != ']' || token < 0 ||
        token >= tokenizer_.vocab_size())
      return Fail("expected <[id]> with a token's id below " +
                  std::to_string(tokenizer_.vocab_size()));
    at_ = close + 1;
    return builder_->Token(token);
  }

  std::string_view text_;
  const Tokenizer& tokenizer_;
  GrammarBuilder* builder_;
  size_t at_ = 0;
  std::map<std::string_view, NamedRule> rules_;
};

}  // namespace

Result<GrammarBuilder::Rule> AddGbnf(std::string_view text, const Tokenizer& tokenizer,
                                     GrammarBuilder* builder) {
  return GbnfParser(text, tokenizer, builder).Parse();
}

}  // namespace moxie
