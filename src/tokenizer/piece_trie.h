#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "moxie/tokenizer.h"

namespace moxie {

/// A set of byte strings with ids, searched for the prefixes of a text. Immutable.
class PieceTrie {
 public:
  struct Match {
    size_t length = 0;  ///< 0: none
    TokenId id = -1;
  };

  PieceTrie() = default;
  /// Empty strings are left out; of equal strings one is kept. The views are not kept.
  explicit PieceTrie(std::vector<std::pair<std::string_view, TokenId>> pieces);

  bool empty() const { return nodes_.empty(); }

  /// Calls `found(length, id)` for each string that `text` continues with at `at`, shortest first.
  template <class Found>
  void ForEachPrefix(std::string_view text, size_t at, Found found) const {
    if (empty()) return;
    uint32_t node = 0;
    for (size_t i = at; i < text.size(); ++i) {
      node = Child(node, static_cast<uint8_t>(text[i]));
      if (node == 0) return;
      if (nodes_[node].id >= 0) found(i + 1 - at, nodes_[node].id);
    }
  }

  /// The longest string that `text` continues with at `at`.
  Match Longest(std::string_view text, size_t at) const {
    Match match;
    ForEachPrefix(text, at, [&](size_t length, TokenId id) { match = {length, id}; });
    return match;
  }

 private:
  struct Node {
    uint32_t children = 0;  // Index of the first; children stand in the order of their labels.
    uint16_t child_count = 0;
    uint8_t label = 0;
    TokenId id = -1;
  };

  uint32_t Child(uint32_t node, uint8_t label) const;  // 0: none (the root is nobody's child)

  std::vector<Node> nodes_;
  std::array<uint32_t, 256> root_children_ = {};
};

}  // namespace moxie
