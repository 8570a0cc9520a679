#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "moxie/result.h"
#include "sampling/grammar.h"

namespace moxie {

/// How a regular expression becomes part of a grammar.
struct RegexUse {
  /// Whether the text need only contain a match (JSON Schema's `pattern`) or be one.
  bool search = false;
  /// How one character of the text is written between two states; UTF-8 where absent. The ranges
  /// are normalised.
  std::function<void(GrammarBuilder::State from, std::span<const CodePointRange> ranges,
                     GrammarBuilder::State to)>
      add_characters;
};

/// The texts that match `pattern`. ^ and $ stand for the text's beginning and end.
///
/// Errors: kInvalidInput for a malformed pattern; kUnsupported for look-around, word boundaries and
/// possessive repetition, which no automaton of bounded size follows.
Result<GrammarBuilder::Part> AddRegexPart(std::string_view pattern, const RegexUse& use,
                                          GrammarBuilder* builder);

}  // namespace moxie
