#pragma once

#include <cstdint>

#include "moxie/constraint.h"
#include "support/fake_tokenizer.h"

namespace moxie::fuzz {

inline const ConstraintCompiler& Compiler() {
  static const testing::FakeTokenizer tokenizer({"aa", "{\"", "\":", "\xC3\xA4", "00"});
  static const ConstraintCompiler compiler(tokenizer);
  return compiler;
}

/// Checks an error's form, or follows the constraint for some tokens: what the mask allows is
/// taken, and a stop token is allowed exactly where the text is complete.
inline void Walk(const Result<ConstraintPtr>& constraint, size_t seed) {
  if (!constraint) {
    MOXIE_CHECK(!constraint.error().message.empty());
    return;
  }
  ConstraintState state(*constraint);
  for (int step = 0; step < 12; ++step) {
    const auto mask = state.Mask();
    if (!mask) return;
    // The next allowed token from some place on, so that walks differ.
    const size_t bits = mask->size() * 64;
    size_t token = bits;
    for (size_t i = 0; i < bits; ++i) {
      const size_t id = (seed * 31 + static_cast<size_t>(step) * 97 + i) % bits;
      if (id < 261 && ((*mask)[id / 64] >> (id % 64) & 1) != 0) token = id;
      if (token != bits) break;
    }
    MOXIE_CHECK(state.can_end() == (((*mask)[261 / 64] >> (261 % 64) & 1) != 0));
    if (token == bits) return;
    MOXIE_CHECK(state.Advance(static_cast<TokenId>(token)));
  }
}

}  // namespace moxie::fuzz
