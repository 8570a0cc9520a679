#pragma once

#include <optional>
#include <string>

#include "sampling/grammar.h"

namespace moxie {

/// One end of a range of numbers, as a decimal text without an exponent ("-12.5").
struct NumberBound {
  std::string decimal;
  bool excluded = false;
};

/// Integers within bounds, as JSON writes them.
GrammarBuilder::Part IntegersBetween(const std::optional<NumberBound>& least,
                                     const std::optional<NumberBound>& most,
                                     GrammarBuilder* builder);

/// Numbers within bounds, without an exponent. Where a bound is excluded they have so few digits
/// that no double closer to it could be meant.
GrammarBuilder::Part NumbersBetween(const std::optional<NumberBound>& least,
                                    const std::optional<NumberBound>& most,
                                    GrammarBuilder* builder);

}  // namespace moxie
