#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "moxie/result.h"
#include "tokenizer/unicode.h"

namespace moxie {

/// A set of characters, as one bracket expression, escape or literal of a pattern writes it.
struct CharacterClass {
  struct Item {
    char32_t first = 0;
    char32_t last = 0;  ///< first > last: the item is `categories` or `property` instead
    CategorySet categories = 0;
    bool (*property)(char32_t) = nullptr;
    bool negated = false;
  };
  std::vector<Item> items;
  bool negated = false;
  std::array<bool, 128> ascii = {};  ///< the answers for ASCII, filled by Finish

  void Finish();
  bool Contains(char32_t c) const { return c < 128 ? ascii[c] : Evaluate(c); }

 private:
  bool Evaluate(char32_t c) const;
};

/// The regular expressions that tokenizers' files contain, matched as Oniguruma does (which Hugging
/// Face's `tokenizers` uses): Unicode classes, groups, alternation, greedy, lazy and possessive
/// repetition, look-ahead, anchors, `(?i:`. No captures or back references.
///
/// The Unicode tables are moxie's own, so results do not depend on a library's version.
/// Immutable; safe to use concurrently.
class Regex {
 public:
  /// What \d, \w and \s mean. kUnicode: Oniguruma's classes. kPortable: what every dialect agrees
  /// on, so that a text that matches here matches in JavaScript, Python and RE2 too: ASCII alone
  /// where the escape adds to a set, all of Unicode's where it takes away (\D, [^\d]).
  enum class Escapes : uint8_t { kUnicode, kPortable };

  /// Errors: kUnsupported (a construct named with its position), kInvalidInput (malformed).
  static Result<Regex> Compile(std::string_view pattern, Escapes escapes = Escapes::kUnicode);

  /// Calls `found(begin, end)` for each match, leftmost first, none empty, none overlapping.
  /// `text` must be well-formed UTF-8. Time is bounded by a constant times the text's length: a
  /// pattern that backtracks more than that finds nothing in the rest of the text.
  template <class Found>
  void ForEachMatch(std::string_view text, Found found) const {
    int64_t budget = Budget(text.size());
    for (size_t at = 0; at < text.size();) {
      const std::optional<Match> match = FindFrom(text, at, &budget);
      if (!match) return;
      found(match->begin, match->end);
      at = match->end;
    }
  }

  struct Match {
    size_t begin = 0;
    size_t end = 0;
  };

  /// An instruction of the compiled program (Thompson's, run by backtracking).
  struct Instruction {
    enum class Kind : uint8_t {
      kClass,       ///< one character of class `a`
      kRepeat,      ///< `min` to `max` characters of class `a`, greedy; possessive if `b`
      kSplit,       ///< try `a`, then `b`
      kJump,        ///< go to `a`
      kLook,        ///< look-ahead: the program from the next instruction up to kMatch; then `a`;
                    ///< negative if `b`
      kLookBehind,  ///< the same, starting `min` characters before
      kAtomic,      ///< the same, and go on from where it ended
      kLineStart,
      kLineEnd,
      kTextStart,
      kTextEnd,
      kWordBoundary,
      kNotWordBoundary,
      kMatch,
    };
    Kind kind = Kind::kMatch;
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t min = 0;
    uint32_t max = 0;
  };

  /// For those who run it in another way. It starts at its first instruction.
  const std::vector<Instruction>& program() const { return program_; }
  const std::vector<CharacterClass>& classes() const { return classes_; }

 private:
  friend class RegexParser;
  struct Frame;

  static int64_t Budget(size_t text_size);
  std::optional<Match> FindFrom(std::string_view text, size_t at, int64_t* budget) const;
  std::optional<size_t> Run(uint32_t start, std::string_view text, size_t at,
                            int64_t* budget) const;
  bool Step(const Instruction& instruction, std::string_view text, size_t* at,
            std::vector<Frame>* frames, uint32_t* next, int64_t* budget) const;
  bool Look(const Instruction& instruction, uint32_t body, std::string_view text, size_t* at,
            int64_t* budget) const;
  bool Holds(Instruction::Kind anchor, std::string_view text, size_t at) const;
  size_t SkipRun(const Instruction& repeat, std::string_view text, size_t at) const;

  std::vector<Instruction> program_;
  std::vector<CharacterClass> classes_;
};

}  // namespace moxie
