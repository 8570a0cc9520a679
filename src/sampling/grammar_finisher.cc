#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

#include "sampling/grammar.h"

namespace moxie {

/// Removes empty moves, what cannot be reached and what cannot be finished.
class GrammarFinisher {
 public:
  GrammarFinisher(const GrammarBuilder& builder, GrammarBuilder::Rule start)
      : builder_(builder), start_rule_(start) {}

  Result<Grammar> Run() {
    for (const auto& rule : builder_.rules_) {
      if (rule.start == UINT32_MAX)
        return Error{ErrorCode::kInvalidInput, "rule \"" + rule.name + "\" is not defined"};
    }
    is_exit_.assign(builder_.states_.size(), false);
    for (const auto& rule : builder_.rules_) is_exit_[rule.exit] = true;
    MOXIE_TRY(CollectStates());
    nullable_ = CanEnd(true);
    MOXIE_TRY(CheckLeftRecursion());
    productive_ = CanEnd(false);
    if (!productive_[0]) return Error{ErrorCode::kInvalidInput, "no text at all satisfies it"};
    return Flatten();
  }

 private:
  struct Node {
    std::vector<Grammar::ByteEdge> bytes;
    std::vector<GrammarBuilder::CallTo> calls;  // `to` is a node.
    std::vector<Grammar::TokenEdge> tokens;
    bool final = false;
    uint32_t alias = 0;
    bool alias_needs_progress = false;
    GrammarBuilder::Rule repeated = 0;
  };

  uint32_t NodeOf(GrammarBuilder::State state) {
    if (node_of_.empty()) node_of_.assign(builder_.states_.size(), UINT32_MAX);
    if (node_of_[state] == UINT32_MAX) {
      node_of_[state] = static_cast<uint32_t>(states_.size());
      states_.push_back(state);
    }
    return node_of_[state];
  }

  uint32_t StartOf(GrammarBuilder::Rule rule) { return NodeOf(builder_.rules_[rule].start); }

  Result<void> CollectStates() {
    StartOf(start_rule_);
    std::vector<uint32_t> seen(builder_.states_.size(), UINT32_MAX);
    size_t edges = 0;
    for (uint32_t n = 0; n < states_.size(); ++n) {
      Node node;
      std::vector<GrammarBuilder::State> open = {states_[n]};
      seen[states_[n]] = n;
      while (!open.empty()) {
        const GrammarBuilder::State state = open.back();
        open.pop_back();
        const auto& draft = builder_.states_[state];
        node.final = node.final || is_exit_[state];
        for (const auto& edge : draft.bytes)
          node.bytes.push_back({edge.first, edge.last, NodeOf(edge.to)});
        for (const auto& edge : draft.tokens) node.tokens.push_back({edge.token, NodeOf(edge.to)});
        for (const auto& call : draft.calls) {
          StartOf(call.rule);
          node.calls.push_back({call.rule, NodeOf(call.to)});
        }
        for (const GrammarBuilder::State next : draft.empty) {
          if (seen[next] == n) continue;
          seen[next] = n;
          open.push_back(next);
        }
        edges += 1 + draft.bytes.size() + draft.calls.size();
        if (edges > 4 * kMaxGrammarEdges)
          return Error{
              ErrorCode::kInvalidInput,
              "it has too many optional parts in a row to become an automaton of at most " +
                  std::to_string(kMaxGrammarEdges) + " edges"};
      }
      const auto& draft = builder_.states_[states_[n]];
      node.alias = draft.alias == UINT32_MAX ? n : NodeOf(draft.alias);
      node.alias_needs_progress = draft.alias_needs_progress;
      node.repeated = draft.repeated;
      nodes_.push_back(std::move(node));
    }
    return {};
  }

  /// Which nodes can reach the end of their rule; `without_bytes`: taking nothing on the way.
  std::vector<char> CanEnd(bool without_bytes) {
    struct Dependent {
      uint32_t node;  // Can end where this one can, and `other` too.
      uint32_t other;
    };
    std::vector<char> can_end(nodes_.size(), 0);
    std::vector<std::vector<Dependent>> dependents(nodes_.size());
    std::vector<uint32_t> open;
    const auto mark = [&](uint32_t node) {
      if (can_end[node]) return;
      can_end[node] = 1;
      open.push_back(node);
    };
    for (uint32_t n = 0; n < nodes_.size(); ++n) {
      const Node& node = nodes_[n];
      if (node.final) mark(n);
      for (const auto& call : node.calls) {
        const uint32_t start = StartOf(call.rule);
        dependents[start].push_back({n, call.to});
        dependents[call.to].push_back({n, start});
      }
      if (without_bytes) continue;
      // The state that stands for the beginning of a long repetition has no way out of its own.
      if (node.alias != n) mark(node.alias);
      for (const auto& edge : node.bytes) dependents[edge.to].push_back({n, edge.to});
      for (const auto& edge : node.tokens) dependents[edge.to].push_back({n, edge.to});
    }
    while (!open.empty()) {
      const uint32_t to = open.back();
      open.pop_back();
      for (const Dependent& each : dependents[to]) {
        if (can_end[each.other]) mark(each.node);
      }
    }
    return can_end;
  }

  /// Depth first over the nodes that are reached without a byte; a node met again while it is open
  /// through a call is a left recursion.
  Result<void> CheckLeftRecursion() {
    // Rule r leads to rule q where q may begin at r's beginning.
    const size_t rules = builder_.rules_.size();
    std::vector<std::vector<GrammarBuilder::Rule>> leads(rules);
    std::vector<uint32_t> seen(nodes_.size(), UINT32_MAX);
    for (GrammarBuilder::Rule rule = 0; rule < rules; ++rule) {
      if (node_of_[builder_.rules_[rule].start] == UINT32_MAX) continue;
      std::vector<uint32_t> open = {StartOf(rule)};
      seen[open[0]] = rule;
      while (!open.empty()) {
        const uint32_t node = open.back();
        open.pop_back();
        for (const auto& call : nodes_[node].calls) {
          leads[rule].push_back(call.rule);
          if (nullable_[StartOf(call.rule)] && seen[call.to] != rule) {
            seen[call.to] = rule;
            open.push_back(call.to);
          }
        }
      }
    }
    enum : char { kNew, kOpen, kDone };
    std::vector<char> state(rules, kNew);
    for (GrammarBuilder::Rule root = 0; root < rules; ++root) {
      if (state[root] != kNew) continue;
      std::vector<std::pair<GrammarBuilder::Rule, size_t>> path = {{root, 0}};
      state[root] = kOpen;
      while (!path.empty()) {
        auto& [rule, next] = path.back();
        if (next == leads[rule].size()) {
          state[rule] = kDone;
          path.pop_back();
          continue;
        }
        const GrammarBuilder::Rule to = leads[rule][next++];
        if (state[to] == kOpen)
          return Error{ErrorCode::kInvalidInput,
                       "rule \"" + builder_.rules_[to].name +
                           "\" calls itself before it takes a character (left recursion)"};
        if (state[to] == kNew) {
          state[to] = kOpen;
          path.emplace_back(to, 0);
        }
      }
    }
    return {};
  }

  Grammar Flatten() {
    Grammar grammar;
    for (uint32_t n = 0; n < nodes_.size(); ++n) {
      Node& node = nodes_[n];
      Grammar::State state;
      state.final = node.final;
      const bool usable = !node.alias_needs_progress || !nullable_[StartOf(node.repeated)];
      state.alias = usable ? node.alias : n;
      state.bytes_begin = static_cast<uint32_t>(grammar.byte_edges.size());
      AppendUnique(node.bytes, &grammar.byte_edges,
                   [](const Grammar::ByteEdge& e) { return std::tuple(e.first, e.last, e.to); });
      state.bytes_end = static_cast<uint32_t>(grammar.byte_edges.size());
      state.calls_begin = static_cast<uint32_t>(grammar.call_edges.size());
      for (const auto& call : node.calls) {
        if (productive_[StartOf(call.rule)] && productive_[call.to])
          grammar.call_edges.push_back({StartOf(call.rule), call.to});
      }
      state.calls_end = static_cast<uint32_t>(grammar.call_edges.size());
      state.tokens_begin = static_cast<uint32_t>(grammar.token_edges.size());
      AppendUnique(node.tokens, &grammar.token_edges,
                   [](const Grammar::TokenEdge& e) { return std::tuple(e.token, e.to); });
      state.tokens_end = static_cast<uint32_t>(grammar.token_edges.size());
      grammar.states.push_back(state);
      node = {};
    }
    FindByteClasses(&grammar);
    return grammar;
  }

  template <class Edge, class Key>
  void AppendUnique(std::vector<Edge>& edges, std::vector<Edge>* out, Key key) {
    std::erase_if(edges, [&](const Edge& edge) { return !productive_[edge.to]; });
    std::sort(edges.begin(), edges.end(),
              [&](const Edge& a, const Edge& b) { return key(a) < key(b); });
    const auto end = std::unique(edges.begin(), edges.end(),
                                 [&](const Edge& a, const Edge& b) { return key(a) == key(b); });
    out->insert(out->end(), edges.begin(), end);
  }

  static void FindByteClasses(Grammar* grammar) {
    std::array<bool, 257> begins = {};
    for (const auto& edge : grammar->byte_edges) {
      begins[edge.first] = true;
      begins[edge.last + 1] = true;
    }
    int next = 0;
    for (size_t byte = 0; byte < 256; ++byte) {
      if (byte > 0 && begins[byte]) ++next;
      grammar->byte_class[byte] = static_cast<uint8_t>(next);
    }
    grammar->byte_classes = next + 1;
  }

  const GrammarBuilder& builder_;
  GrammarBuilder::Rule start_rule_;
  std::vector<bool> is_exit_;
  std::vector<uint32_t> node_of_;              // By state; UINT32_MAX: not reached.
  std::vector<GrammarBuilder::State> states_;  // By node.
  std::vector<Node> nodes_;
  std::vector<char> nullable_;    // By node: whether its rule may end there at once,
  std::vector<char> productive_;  // or at all.
};

Result<Grammar> GrammarBuilder::Finish(Rule start) {
  MOXIE_TRY(Check());
  return GrammarFinisher(*this, start).Run();
}

}  // namespace moxie
