#include "sampling/regex_grammar.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sampling/constraint_parts.h"
#include "tokenizer/regex.h"

namespace moxie {
namespace {

using Kind = Regex::Instruction::Kind;
using State = GrammarBuilder::State;

constexpr size_t kMaxPatternBytes = 16'384;

/// The characters of classes. Those that Unicode's tables define are looked up once each.
class ClassRanges {
 public:
  std::vector<CodePointRange> Of(const CharacterClass& set) {
    std::vector<CodePointRange> ranges;
    for (const CharacterClass::Item& item : set.items) {
      std::vector<CodePointRange> own = OfItem(item);
      if (item.negated) own = ComplementRanges(own);
      ranges.insert(ranges.end(), own.begin(), own.end());
    }
    ranges = NormalizeRanges(std::move(ranges));
    return set.negated ? ComplementRanges(ranges) : ranges;
  }

 private:
  std::vector<CodePointRange> OfItem(const CharacterClass::Item& item) {
    if (item.property == nullptr && item.categories == 0)
      return NormalizeRanges({{item.first, item.last}});
    const auto [entry, is_new] = known_.try_emplace({item.property, item.categories});
    if (!is_new) return entry->second;
    std::vector<CodePointRange> found;
    for (char32_t c = 0; c <= 0x10FFFF; ++c) {
      const bool in = item.property != nullptr ? item.property(c) : IsIn(item.categories, c);
      if (!in) continue;
      if (found.empty() || found.back().last + 1 != c) found.push_back({c, c});
      found.back().last = c;
    }
    return entry->second = NormalizeRanges(std::move(found));
  }

  std::map<std::pair<bool (*)(char32_t), CategorySet>, std::vector<CodePointRange>> known_;
};

/// Follows the program of a Regex from instruction to instruction. A state of the grammar is an
/// instruction and how much of the text is known to lie before or after it.
class ProgramReader {
 public:
  ProgramReader(const Regex& regex, const RegexUse& use, GrammarBuilder* builder)
      : regex_(regex), use_(use), builder_(builder), whole_(builder->Never()) {}

  Result<GrammarBuilder::Part> Read() {
    builder_->AddEmpty(whole_.entry, StateOf(0, Phase::kStart));
    if (use_.search) AnyText(whole_.entry, StateOf(0, Phase::kWithin));
    while (!open_.empty()) {
      const auto [at, phase] = open_.back();
      open_.pop_back();
      MOXIE_TRY(ReadInstruction(at, phase));
      MOXIE_TRY(builder_->Check());
    }
    return whole_;
  }

 private:
  enum class Phase : uint8_t {
    kStart,   ///< nothing has been taken
    kWithin,  ///< something has
    kEnd,     ///< nothing may be taken any more
  };

  State StateOf(uint32_t at, Phase phase) {
    const auto [entry, is_new] = states_.try_emplace({at, phase}, 0);
    if (is_new) {
      entry->second = builder_->NewState();
      open_.emplace_back(at, phase);
    }
    return entry->second;
  }

  void AddCharacters(State from, std::span<const CodePointRange> ranges, State to) {
    if (use_.add_characters) return use_.add_characters(from, ranges, to);
    builder_->AddCodePoints(from, ranges, to);
  }

  /// One character or more.
  void AnyText(State from, State to) {
    static constexpr CodePointRange kAll[] = {{0, 0xD7FF}, {0xE000, 0x10FFFF}};
    const State loop = builder_->NewState();
    builder_->AddEmpty(from, loop);
    AddCharacters(loop, kAll, loop);
    AddCharacters(loop, kAll, to);
  }

  void TakeClass(State from, uint32_t set, State to) {
    AddCharacters(from, ranges_.Of(regex_.classes()[set]), to);
  }

  Result<void> ReadInstruction(uint32_t at, Phase phase) {
    const Regex::Instruction& instruction = regex_.program()[at];
    const State from = StateOf(at, phase);
    const bool ended = phase == Phase::kEnd;
    switch (instruction.kind) {
      case Kind::kClass:
        if (!ended) TakeClass(from, instruction.a, StateOf(at + 1, Phase::kWithin));
        return {};
      case Kind::kRepeat:
        return ReadRepeat(instruction, at, phase);
      case Kind::kSplit:
        builder_->AddEmpty(from, StateOf(instruction.a, phase));
        builder_->AddEmpty(from, StateOf(instruction.b, phase));
        return {};
      case Kind::kJump:
        builder_->AddEmpty(from, StateOf(instruction.a, phase));
        return {};
      case Kind::kLineStart:
      case Kind::kTextStart:
        if (phase == Phase::kStart) builder_->AddEmpty(from, StateOf(at + 1, phase));
        return {};
      case Kind::kLineEnd:
      case Kind::kTextEnd:
        builder_->AddEmpty(from, StateOf(at + 1, Phase::kEnd));
        return {};
      case Kind::kMatch:
        builder_->AddEmpty(from, whole_.exit);
        if (use_.search && !ended) AnyText(from, whole_.exit);
        return {};
      default:
        return Error{ErrorCode::kUnsupported,
                     "regular expression: look-around, word boundaries and possessive repetition "
                     "are not supported"};
    }
  }

  Result<void> ReadRepeat(const Regex::Instruction& repeat, uint32_t at, Phase phase) {
    if (repeat.b != 0)
      return Error{ErrorCode::kUnsupported,
                   "regular expression: possessive repetition is not supported"};
    const State from = StateOf(at, phase);
    if (repeat.min == 0) builder_->AddEmpty(from, StateOf(at + 1, phase));
    if (phase == Phase::kEnd || repeat.max == 0) return {};
    const GrammarBuilder::Part one = builder_->Never();
    TakeClass(one.entry, repeat.a, one.exit);
    const GrammarBuilder::Part many = builder_->Repeat(one, std::max(repeat.min, 1U), repeat.max);
    builder_->AddEmpty(from, many.entry);
    builder_->AddEmpty(many.exit, StateOf(at + 1, Phase::kWithin));
    return {};
  }

  const Regex& regex_;
  const RegexUse& use_;
  GrammarBuilder* builder_;
  GrammarBuilder::Part whole_;
  ClassRanges ranges_;
  std::map<std::pair<uint32_t, Phase>, State> states_;
  std::vector<std::pair<uint32_t, Phase>> open_;
};

}  // namespace

Result<GrammarBuilder::Part> AddRegexPart(std::string_view pattern, const RegexUse& use,
                                          GrammarBuilder* builder) {
  if (pattern.size() > kMaxPatternBytes)
    return Error{ErrorCode::kInvalidInput, "regular expression: it has " +
                                               std::to_string(pattern.size()) + " bytes, at most " +
                                               std::to_string(kMaxPatternBytes) + " are expected"};
  MOXIE_TRY_ASSIGN(const Regex regex, Regex::Compile(pattern, Regex::Escapes::kPortable));
  return ProgramReader(regex, use, builder).Read();
}

Result<GrammarBuilder::Rule> AddRegex(std::string_view pattern, GrammarBuilder* builder) {
  MOXIE_TRY_ASSIGN(const GrammarBuilder::Part part, AddRegexPart(pattern, {}, builder));
  return builder->MakeRule("root", part);
}

}  // namespace moxie
