#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moxie/result.h"
#include "moxie/tokenizer.h"

namespace moxie {

/// What a grammar may be at most, so that a hostile one costs bounded memory and time.
inline constexpr size_t kMaxGrammarStates = 400'000;
inline constexpr size_t kMaxGrammarEdges = 2'000'000;
inline constexpr uint32_t kUnboundedRepeat = UINT32_MAX;

/// Tokens of up to so many bytes are judged without knowing how far a long bounded repetition has
/// come (GrammarState::alias).
inline constexpr uint32_t kRepeatHorizon = 32;

/// An inclusive range of Unicode code points.
struct CodePointRange {
  char32_t first = 0;
  char32_t last = 0;
};

/// Sorted, disjoint and without surrogates.
std::vector<CodePointRange> NormalizeRanges(std::vector<CodePointRange> ranges);
/// All code points but those of `ranges`, which are normalised.
std::vector<CodePointRange> ComplementRanges(std::span<const CodePointRange> ranges);

/// A compiled grammar: a recursive transition network over bytes (Woods, CACM 13(10), 1970), the
/// form that every kind of constraint is compiled to. Each rule is a non-deterministic automaton
/// without empty moves, whose edges take one byte, one token, or whatever another rule takes.
/// Immutable.
struct Grammar {
  struct ByteEdge {
    uint8_t first = 0;
    uint8_t last = 0;
    uint32_t to = 0;
  };
  struct CallEdge {
    uint32_t start = 0;   ///< first state of the rule called
    uint32_t resume = 0;  ///< where to go on when that rule has ended
  };
  struct TokenEdge {
    TokenId token = 0;
    uint32_t to = 0;
  };
  struct State {
    uint32_t bytes_begin = 0, bytes_end = 0;  ///< its range of byte_edges
    uint32_t calls_begin = 0, calls_end = 0;
    uint32_t tokens_begin = 0, tokens_end = 0;
    bool final = false;  ///< its rule may end here
    /// A state that takes the same strings of up to kRepeatHorizon bytes, shared by all states in
    /// the midst of one long repetition; else the state itself.
    uint32_t alias = 0;
    bool only_final() const {
      return final && bytes_begin == bytes_end && calls_begin == calls_end &&
             tokens_begin == tokens_end;
    }
  };

  std::vector<State> states;
  std::vector<ByteEdge> byte_edges;
  std::vector<CallEdge> call_edges;
  std::vector<TokenEdge> token_edges;
  uint32_t start = 0;
  /// Bytes that no edge tells apart have the same class.
  std::array<uint8_t, 256> byte_class = {};
  int byte_classes = 0;
};

/// Builds a grammar from parts (Thompson's construction, CACM 11(6), 1968). A part is a piece of an
/// automaton with one entry and one exit, and is used once. Where a limit is hit, Finish says so;
/// the methods until then stay cheap.
class GrammarBuilder {
 public:
  using State = uint32_t;
  using Rule = uint32_t;
  struct Part {
    State entry = 0;
    State exit = 0;
  };

  State NewState();
  void AddEmpty(State from, State to);
  void AddBytes(State from, uint8_t first, uint8_t last, State to);
  void AddToken(State from, TokenId token, State to);
  void AddCall(State from, Rule rule, State to);
  /// The strings from `low` to `high`, which are equally long, in the order of their bytes; bytes
  /// but the first lie between `least` and `most`.
  void AddBetween(State from, std::string_view low, std::string_view high, char least, char most,
                  State to);
  /// The UTF-8 forms of normalised ranges.
  void AddCodePoints(State from, std::span<const CodePointRange> ranges, State to);

  Part Empty();
  Part Never();  ///< takes nothing at all
  Part Literal(std::string_view bytes);
  /// Any one of the strings; common beginnings are shared.
  Part OneOf(std::vector<std::string> strings);
  Part CodePoints(std::span<const CodePointRange> ranges);
  Part Token(TokenId token);
  Part Call(Rule rule);
  Part Sequence(std::span<const Part> parts);
  Part Sequence(std::initializer_list<Part> parts) { return Sequence(std::span(parts)); }
  Part Choice(std::span<const Part> parts);
  Part Choice(std::initializer_list<Part> parts) { return Choice(std::span(parts)); }
  Part Optional(Part part);
  /// `part` from `min` to `max` times (kUnboundedRepeat: without end).
  Part Repeat(Part part, uint32_t min, uint32_t max);
  /// `rule` so many times, each but the first after `separator`.
  Part RepeatSeparated(Rule rule, Rule separator, uint32_t min, uint32_t max);

  /// A rule that may be called before it is defined.
  Rule Declare(std::string name);
  void Define(Rule rule, Part part);
  Rule MakeRule(std::string name, Part part);
  const std::string& name(Rule rule) const { return rules_[rule].name; }

  /// The first limit that was exceeded, if any.
  Result<void> Check() const;

  /// Errors: kInvalidInput where a rule is not defined, calls itself before it takes a byte (left
  /// recursion), or a limit is exceeded; where no text at all satisfies `start`.
  Result<Grammar> Finish(Rule start);

 private:
  friend class GrammarFinisher;
  struct CallTo {
    Rule rule;
    State to;
  };
  struct Draft {
    std::vector<State> empty;
    std::vector<Grammar::ByteEdge> bytes;
    std::vector<CallTo> calls;
    std::vector<Grammar::TokenEdge> tokens;
    State alias = UINT32_MAX;
    bool alias_needs_progress = false;  ///< the alias holds only if the repeated rule takes a byte
    Rule repeated = 0;
  };
  struct RuleDraft {
    std::string name;
    State start = UINT32_MAX;
    State exit = UINT32_MAX;
  };

  std::vector<State> RepeatChain(Rule rule, uint32_t min, uint32_t max);
  void CountEdge();

  std::vector<Draft> states_;
  std::vector<RuleDraft> rules_;
  size_t edges_ = 0;
};

}  // namespace moxie
