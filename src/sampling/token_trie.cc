#include "sampling/token_trie.h"

#include <algorithm>
#include <array>
#include <unordered_map>

namespace moxie {
namespace {

/// Bytes in 64 kinds, so that a set of them is one word: letters and digits in groups that grammars
/// rarely divide, all other ASCII characters one by one, and the bytes of longer characters by
/// what they begin.
constexpr std::array<uint8_t, 256> MakeKinds() {
  std::array<uint8_t, 256> kinds = {};
  uint8_t next = 9;
  for (int byte = 0; byte < 256; ++byte) {
    uint8_t kind = 0;
    if (byte >= 0xF0) {
      kind = 0;
    } else if (byte >= 0xE0) {
      kind = 1;
    } else if (byte >= 0xC0) {
      kind = 2;
    } else if (byte >= 0x80) {
      kind = 3;
    } else if (byte >= '0' && byte <= '9') {
      kind = 4;
    } else if ((byte >= 'a' && byte <= 'f')) {
      kind = 5;
    } else if (byte >= 'g' && byte <= 'z') {
      kind = 6;
    } else if (byte >= 'A' && byte <= 'Z') {
      kind = 7;
    } else if ((byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7F) {
      kind = 8;
    } else {
      kind = next++;
    }
    kinds[static_cast<size_t>(byte)] = kind;
  }
  return kinds;
}

constexpr std::array<uint8_t, 256> kKindOf = MakeKinds();

uint64_t KindBit(uint8_t byte) { return uint64_t{1} << kKindOf[byte]; }

}  // namespace

TokenTrie::TokenTrie(std::vector<Token> tokens) {
  std::sort(tokens.begin(), tokens.end(), [](const Token& a, const Token& b) {
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.id < b.id;
  });
  std::vector<uint32_t> path;  // Nodes along the token before.
  std::string_view before;
  const auto leave = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back()) {
      Node& node = nodes_[path.back()];
      node.next = static_cast<uint32_t>(nodes_.size());
      if (path.size() > 1)
        nodes_[path[path.size() - 2]].kinds_below |= node.kinds_below | KindBit(node.byte);
    }
  };
  for (const Token& token : tokens) {
    const auto [a, b] =
        std::mismatch(token.bytes.begin(), token.bytes.end(), before.begin(), before.end());
    leave(static_cast<size_t>(a - token.bytes.begin()));
    for (auto c = a; c != token.bytes.end(); ++c) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.first_token = static_cast<uint32_t>(ids_.size()),
                        .depth = static_cast<uint16_t>(path.size()),
                        .byte = static_cast<uint8_t>(*c)});
      max_depth_ = std::max(max_depth_, static_cast<uint16_t>(path.size()));
    }
    ids_.push_back(token.id);
    before = token.bytes;
  }
  leave(0);
  nodes_.push_back({.first_token = static_cast<uint32_t>(ids_.size())});
}

/// One walk: the parse states met on the way, numbered, and the moves between them as far as they
/// were needed. Numbers make a step of the walk one look into a table.
class TokenTrie::Walk {
 public:
  static constexpr int32_t kDead = -1;

  Walk(Parser* parser, const ParseState& state, const StackPool& pool, bool aliased)
      : parser_(parser), classes_(static_cast<size_t>(parser->grammar().byte_classes)) {
    start_ = Number(parser->Move(state, pool, aliased, &pool_));
  }

  int32_t start() const { return start_; }

  int32_t Next(int32_t from, uint8_t byte) {
    const size_t cell = static_cast<size_t>(from) * classes_ + parser_->grammar().byte_class[byte];
    if (moves_[cell] == kUnknown) {
      const int32_t to =
          Number(parser_->StepByte(states_[static_cast<size_t>(from)], byte, &pool_));
      moves_[cell] = to;
    }
    return moves_[cell];
  }

  /// The kinds of bytes that all lead from a state to itself.
  uint64_t LoopKinds(int32_t state) {
    const auto at = static_cast<size_t>(state);
    if (!loops_known_[at]) {
      uint64_t leaving = 0;
      for (int byte = 0; byte < 256; ++byte) {
        if (Next(state, static_cast<uint8_t>(byte)) != state)
          leaving |= KindBit(static_cast<uint8_t>(byte));
      }
      loops_[at] = ~leaving;
      loops_known_[at] = true;
    }
    return loops_[at];
  }

 private:
  static constexpr int32_t kUnknown = -2;

  int32_t Number(ParseState state) {
    if (state.places.empty()) return state.can_end ? Add(std::move(state)) : kDead;
    return Add(std::move(state));
  }

  int32_t Add(ParseState state) {
    const auto [entry, is_new] =
        numbers_.emplace(state.print, static_cast<int32_t>(states_.size()));
    if (is_new) {
      states_.push_back(std::move(state));
      moves_.resize(moves_.size() + classes_, kUnknown);
      loops_.push_back(0);
      loops_known_.push_back(false);
    }
    return entry->second;
  }

  Parser* parser_;
  size_t classes_;
  StackPool pool_;
  int32_t start_ = 0;
  std::vector<ParseState> states_;
  std::vector<int32_t> moves_;  // [states, classes]
  std::vector<uint64_t> loops_;
  std::vector<bool> loops_known_;
  std::unordered_map<Fingerprint, int32_t, FingerprintHash> numbers_;
};

void TokenTrie::Allow(Parser* parser, const ParseState& state, const StackPool& pool, bool aliased,
                      int64_t work_limit, TokenMask* mask) const {
  Walk walk(parser, state, pool, aliased);
  if (walk.start() == Walk::kDead) return;
  std::vector<int32_t> at_depth(size_t{max_depth_} + 1);
  at_depth[0] = walk.start();
  // Below a node with fewer tokens than this, looking whether all of them loop does not pay.
  constexpr uint32_t kWorthwhile = 8;
  for (uint32_t n = 0; n + 1 < nodes_.size();) {
    const Node& node = nodes_[n];
    const int32_t now = walk.Next(at_depth[node.depth - 1], node.byte);
    if (parser->work > work_limit) return;
    if (now == Walk::kDead) {
      n = node.next;
      continue;
    }
    at_depth[node.depth] = now;
    const Node& after = nodes_[node.next];
    uint32_t end = nodes_[n + 1].first_token;
    const bool all = after.first_token - node.first_token >= kWorthwhile &&
                     (node.kinds_below & ~walk.LoopKinds(now)) == 0;
    if (all) end = after.first_token;
    for (uint32_t t = node.first_token; t < end; ++t) SetToken(mask, ids_[t]);
    n = all ? node.next : n + 1;
  }
}

}  // namespace moxie
