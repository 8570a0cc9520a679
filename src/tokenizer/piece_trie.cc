#include "tokenizer/piece_trie.h"

#include <algorithm>
#include <deque>

namespace moxie {

PieceTrie::PieceTrie(std::vector<std::pair<std::string_view, TokenId>> pieces) {
  std::erase_if(pieces, [](const auto& piece) { return piece.first.empty(); });
  if (pieces.empty()) return;
  std::sort(pieces.begin(), pieces.end());

  // Breadth first over ranges of the sorted strings that share a prefix of `depth` bytes.
  struct Range {
    uint32_t node;
    size_t begin, end, depth;
  };
  std::deque<Range> ranges = {{0, 0, pieces.size(), 0}};
  nodes_.emplace_back();
  while (!ranges.empty()) {
    Range range = ranges.front();
    ranges.pop_front();
    while (range.begin < range.end && pieces[range.begin].first.size() == range.depth) {
      nodes_[range.node].id = pieces[range.begin++].second;
    }
    nodes_[range.node].children = static_cast<uint32_t>(nodes_.size());
    for (size_t i = range.begin; i < range.end;) {
      const char label = pieces[i].first[range.depth];
      size_t end = i;
      while (end < range.end && pieces[end].first[range.depth] == label) ++end;
      ranges.push_back({static_cast<uint32_t>(nodes_.size()), i, end, range.depth + 1});
      nodes_.push_back({.label = static_cast<uint8_t>(label)});
      ++nodes_[range.node].child_count;
      i = end;
    }
  }
  for (uint32_t i = 0; i < nodes_[0].child_count; ++i) {
    root_children_[nodes_[nodes_[0].children + i].label] = nodes_[0].children + i;
  }
}

uint32_t PieceTrie::Child(uint32_t node, uint8_t label) const {
  if (node == 0) return root_children_[label];
  const Node* begin = nodes_.data() + nodes_[node].children;
  const Node* end = begin + nodes_[node].child_count;
  const Node* child = std::lower_bound(
      begin, end, label, [](const Node& a, uint8_t value) { return a.label < value; });
  if (child == end || child->label != label) return 0;
  return static_cast<uint32_t>(child - nodes_.data());
}

}  // namespace moxie
