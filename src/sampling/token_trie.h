#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sampling/parse_state.h"

namespace moxie {

/// A set of token ids: bit id % 64 of word id / 64.
using TokenMask = std::vector<uint64_t>;

inline void SetToken(TokenMask* mask, TokenId id) {
  (*mask)[static_cast<size_t>(id) / 64] |= uint64_t{1} << (static_cast<size_t>(id) % 64);
}

/// Byte strings of tokens as a trie, laid out depth first so that a walk runs through memory in
/// order and the tokens below a node stand together. Immutable.
class TokenTrie {
 public:
  struct Token {
    std::string bytes;  ///< not empty
    TokenId id = 0;
  };
  explicit TokenTrie(std::vector<Token> tokens);

  /// Adds to `mask` the tokens whose bytes the grammar takes from `state` on. Stops early where
  /// `parser->work` exceeds `work_limit`; the mask is then incomplete.
  void Allow(Parser* parser, const ParseState& state, const StackPool& pool, bool aliased,
             int64_t work_limit, TokenMask* mask) const;

 private:
  struct Node {
    uint32_t next = 0;         ///< the node after all below this one
    uint32_t first_token = 0;  ///< in ids_; its own come first, then those below it
    uint16_t depth = 0;        ///< bytes, at least 1
    uint8_t byte = 0;
    uint64_t kinds_below = 0;  ///< the kinds (KindOf) of the bytes that lead on from here
  };
  class Walk;

  std::vector<Node> nodes_;  ///< the last one is a sentinel, whose first_token is the count of all
  std::vector<TokenId> ids_;
  uint16_t max_depth_ = 0;
};

}  // namespace moxie
