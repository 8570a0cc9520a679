#include <algorithm>
#include <string>

#include "tokenizer/regex.h"
#include "tokenizer/regex_class_parser.h"

namespace moxie {

namespace {

using Instruction = Regex::Instruction;
using Kind = Instruction::Kind;
using Program = std::vector<Instruction>;

constexpr size_t kMaxInstructions = 20'000;
constexpr int kMaxDepth = 50;
constexpr uint32_t kMaxRepeat = 1000;
constexpr uint32_t kUnbounded = UINT32_MAX;

/// A part of the pattern: its program (jump targets relative to its start), the characters it
/// takes at least, and exactly where that is the same for all its matches.
struct Part {
  Program program;
  uint32_t min_length = 0;
  bool fixed_length = true;
};

struct Quantifier {
  uint32_t min = 1;
  uint32_t max = 1;
  bool lazy = false;
  bool possessive = false;
};

/// Appends `from`, moving its jump targets.
void Append(const Program& from, Program* to) {
  const auto base = static_cast<uint32_t>(to->size());
  for (Instruction instruction : from) {
    switch (instruction.kind) {
      case Kind::kSplit:
        instruction.b += base;
        [[fallthrough]];
      case Kind::kJump:
      case Kind::kLook:
      case Kind::kLookBehind:
      case Kind::kAtomic:
        instruction.a += base;
        break;
      default:
        break;
    }
    to->push_back(instruction);
  }
}

Instruction Split(size_t first, size_t second) {
  return {
      .kind = Kind::kSplit, .a = static_cast<uint32_t>(first), .b = static_cast<uint32_t>(second)};
}

/// `body` followed by kMatch, under a kLook, kLookBehind or kAtomic instruction.
Program Enclose(Kind kind, bool negative, uint32_t behind, const Program& body) {
  Program program = {{.kind = kind,
                      .a = static_cast<uint32_t>(body.size() + 2),
                      .b = negative ? 1u : 0u,
                      .min = behind}};
  Append(body, &program);
  program.push_back({.kind = Kind::kMatch});
  return program;
}

}  // namespace

/// Recursive descent over the pattern; nesting is limited to kMaxDepth.
class RegexParser : RegexClassParser {
 public:
  RegexParser(std::string_view pattern, Regex::Escapes escapes)
      : RegexClassParser(pattern, escapes) {}

  Result<Regex> Parse() {
    MOXIE_TRY_ASSIGN(const Part whole, Alternatives(0));
    if (!AtEnd()) return Malformed("a ) without its (");
    regex_.program_ = whole.program;
    regex_.program_.push_back({.kind = Kind::kMatch});
    for (CharacterClass& set : regex_.classes_) set.Finish();
    return std::move(regex_);
  }

 private:
  Result<Part> Alternatives(int depth) {
    if (depth > kMaxDepth) return Unsupported("nesting over 50 levels");
    std::vector<Part> parts;
    do {
      MOXIE_TRY_ASSIGN(Part part, Sequence(depth));
      parts.push_back(std::move(part));
    } while (Take("|"));
    Part result = std::move(parts.back());
    for (size_t i = parts.size() - 1; i-- > 0;) {
      const Part& first = parts[i];
      // split first, rest; first; jump end; rest
      Program program = {Split(1, first.program.size() + 2)};
      Append(first.program, &program);
      const size_t end = program.size() + 1 + result.program.size();
      program.push_back({.kind = Kind::kJump, .a = static_cast<uint32_t>(end)});
      Append(result.program, &program);
      if (program.size() > kMaxInstructions) return Unsupported("a pattern of this size");
      result.fixed_length =
          result.fixed_length && first.fixed_length && first.min_length == result.min_length;
      result.min_length = std::min(first.min_length, result.min_length);
      result.program = std::move(program);
    }
    return result;
  }

  Result<Part> Sequence(int depth) {
    Part result;
    while (!AtEnd() && Peek() != '|' && Peek() != ')') {
      if (Take("(?i)")) {
        // Applies to the rest of the enclosing group, alternatives included (Ruby's rule).
        ignore_case_ = true;
        continue;
      }
      MOXIE_TRY_ASSIGN(Part part, Atom(depth));
      MOXIE_TRY_ASSIGN(part, Repeated(std::move(part)));
      Append(part.program, &result.program);
      if (result.program.size() > kMaxInstructions) return Unsupported("a pattern of this size");
      result.fixed_length = result.fixed_length && part.fixed_length;
      result.min_length += part.min_length;
    }
    return result;
  }

  Result<Part> Atom(int depth) {
    if (Take("(")) return Group(depth);
    if (Peek() == '*' || Peek() == '+' || Peek() == '?') return Malformed("nothing to repeat");
    if (Take("[")) {
      MOXIE_TRY_ASSIGN(CharacterClass set, Bracket());
      return OneOf(std::move(set));
    }
    if (Take(".")) {
      CharacterClass set{.items = {{.first = '\n', .last = '\n'}}, .negated = true};
      // JavaScript's line ends.
      if (portable_) set.items.insert(set.items.end(), {{'\r', '\r'}, {0x2028, 0x2029}});
      return OneOf(std::move(set));
    }
    if (Take("^")) return Anchor(Kind::kLineStart);
    if (Take("$")) return Anchor(Kind::kLineEnd);
    if (Take("\\A")) return Anchor(Kind::kTextStart);
    if (Take("\\z")) return Anchor(Kind::kTextEnd);
    if (Take("\\b")) return Anchor(Kind::kWordBoundary);
    if (Take("\\B")) return Anchor(Kind::kNotWordBoundary);
    CharacterClass set;
    if (Take("\\")) {
      MOXIE_TRY_ASSIGN(const CharacterClass::Item item, Escape(false));
      set.items.push_back(item);
    } else {
      MOXIE_TRY_ASSIGN(const char32_t c, Character());
      set.items.push_back({.first = c, .last = c});
    }
    return OneOf(std::move(set));
  }

  Result<Part> Group(int depth) {
    const bool outer_case = ignore_case_;
    Kind kind = Kind::kJump;  // Stands for a plain group.
    bool negative = false;
    if (Take("?:")) {
    } else if (Take("?i:")) {
      ignore_case_ = true;
    } else if (Take("?-i:")) {
      ignore_case_ = false;
    } else if (Take("?=") || Take("?!")) {
      kind = Kind::kLook;
      negative = pattern_[at_ - 1] == '!';
    } else if (Take("?<=") || Take("?<!")) {
      kind = Kind::kLookBehind;
      negative = pattern_[at_ - 1] == '!';
    } else if (Take("?>")) {
      kind = Kind::kAtomic;
    } else if (Peek() == '?') {
      return Unsupported("this kind of group");
    }
    MOXIE_TRY_ASSIGN(Part body, Alternatives(depth + 1));
    if (!Take(")")) return Malformed("a ( without its )");
    ignore_case_ = outer_case;
    if (kind == Kind::kJump) return body;
    if (kind == Kind::kLookBehind && !body.fixed_length) {
      return Unsupported("a look-behind of varying length");
    }
    Part part;
    part.program =
        Enclose(kind, negative, kind == Kind::kLookBehind ? body.min_length : 0, body.program);
    if (kind == Kind::kAtomic) {
      part.min_length = body.min_length;
      part.fixed_length = body.fixed_length;
    }
    return part;
  }

  static Part Anchor(Kind kind) {
    Part part;
    part.program = {{.kind = kind}};
    return part;
  }

  Part OneOf(CharacterClass set) {
    if (ignore_case_) AddOtherCases(&set);
    regex_.classes_.push_back(std::move(set));
    Part part;
    part.program = {{.kind = Kind::kClass, .a = static_cast<uint32_t>(regex_.classes_.size() - 1)}};
    part.min_length = 1;
    return part;
  }

  /// Adds the case variants of single characters and short ranges, and the two letters whose
  /// lower case is ASCII although they are not: long s and the Kelvin sign.
  static void AddOtherCases(CharacterClass* set) {
    const std::vector<CharacterClass::Item> written = set->items;
    const auto add = [&](char32_t c) { set->items.push_back({.first = c, .last = c}); };
    for (const CharacterClass::Item& item : written) {
      if (item.property != nullptr || item.categories != 0) continue;
      const char32_t last = std::min<char32_t>(item.last, item.first + 0x500);
      for (char32_t c = item.first; c <= last; ++c) {
        const char32_t lower = ToLower(c);
        add(lower);
        add(ToUpper(lower));
        if (lower == 's') add(0x17F);
        if (lower == 'k') add(0x212A);
        if (lower == 0xE5) add(0x212B);
      }
    }
  }

  Result<Quantifier> ReadQuantifier() {
    Quantifier q;
    if (Take("*")) {
      q = {.min = 0, .max = kUnbounded};
    } else if (Take("+")) {
      q = {.min = 1, .max = kUnbounded};
    } else if (Take("?")) {
      q = {.min = 0, .max = 1};
    } else if (Peek() == '{') {
      return ReadBraces();
    } else {
      return q;
    }
    // After {n,m} a + is another repetition (Ruby's rule), after these it means possessive.
    if (Take("?")) {
      q.lazy = true;
    } else if (Take("+")) {
      q.possessive = true;
    }
    return q;
  }

  Result<Quantifier> ReadBraces() {
    const auto number = [&]() -> std::optional<uint32_t> {
      if (Peek() < '0' || Peek() > '9') return std::nullopt;
      uint32_t value = 0;
      while (Peek() >= '0' && Peek() <= '9') {
        value = std::min(value * 10 + static_cast<uint32_t>(Peek() - '0'), kMaxRepeat + 1);
        ++at_;
      }
      return value;
    };
    ++at_;
    Quantifier q;
    const auto min = number();
    q.min = min.value_or(0);
    q.max = q.min;
    bool has_max = min.has_value();
    if (Take(",")) {
      const auto max = number();
      has_max = has_max || max.has_value();
      q.max = max.value_or(kUnbounded);
    }
    if (!Take("}") || !has_max) return Malformed("a malformed {n,m}");
    if (q.min > kMaxRepeat || (q.max != kUnbounded && q.max > kMaxRepeat)) {
      return Unsupported("a repetition over 1000");
    }
    if (q.max < q.min) return Malformed("a {n,m} whose n is over its m");
    q.lazy = Take("?");
    return q;
  }

  /// Applies the quantifiers that follow `part`.
  Result<Part> Repeated(Part part) {
    for (int count = 0;; ++count) {
      const size_t before = at_;
      MOXIE_TRY_ASSIGN(const Quantifier q, ReadQuantifier());
      if (at_ == before) return part;
      if (count == 4) return Unsupported("a repetition of repetitions");
      MOXIE_TRY_ASSIGN(part, Repeat(part, q));
    }
  }

  Result<Part> Repeat(const Part& body, Quantifier q) {
    Part part;
    part.min_length = body.min_length * q.min;
    part.fixed_length = body.fixed_length && q.min == q.max;
    const bool one_class = body.program.size() == 1 && body.program[0].kind == Kind::kClass;
    if (one_class && !q.lazy) {
      part.program = {{.kind = Kind::kRepeat,
                       .a = body.program[0].a,
                       .b = q.possessive ? 1u : 0u,
                       .min = q.min,
                       .max = q.max}};
      return part;
    }
    if (q.max == kUnbounded && body.min_length == 0) {
      return Unsupported("an unbounded repetition of what may be empty");
    }
    const size_t copies = q.max == kUnbounded ? q.min + 1 : q.max;
    if (body.program.size() * copies > kMaxInstructions || part.min_length > 100'000) {
      return Unsupported("a pattern of this size");
    }
    Program& program = part.program;
    for (uint32_t i = 0; i < q.min; ++i) Append(body.program, &program);
    const auto enter_or_leave = [&](size_t enter, size_t leave) {
      return q.lazy ? Split(leave, enter) : Split(enter, leave);
    };
    const size_t size = body.program.size();
    if (q.max == kUnbounded) {
      const size_t loop = program.size();
      program.push_back(enter_or_leave(loop + 1, loop + size + 2));
      Append(body.program, &program);
      program.push_back({.kind = Kind::kJump, .a = static_cast<uint32_t>(loop)});
    } else {
      const size_t end = program.size() + (q.max - q.min) * (size + 1);
      for (uint32_t i = q.min; i < q.max; ++i) {
        program.push_back(enter_or_leave(program.size() + 1, end));
        Append(body.program, &program);
      }
    }
    if (q.possessive) part.program = Enclose(Kind::kAtomic, false, 0, program);
    return part;
  }

  bool ignore_case_ = false;
  Regex regex_;
};

Result<Regex> Regex::Compile(std::string_view pattern, Escapes escapes) {
  return RegexParser(pattern, escapes).Parse();
}

}  // namespace moxie
