#include "sampling/grammar.h"

#include <algorithm>
#include <tuple>

#include "tokenizer/unicode.h"

namespace moxie {
namespace {

/// Adds byte strings of equal length from one to another, in the order of their bytes, between two
/// states. Bytes but the first lie between `least` and `most`.
class OrderedBytes {
 public:
  using State = GrammarBuilder::State;

  OrderedBytes(GrammarBuilder* builder, State from, char least, char most, State to)
      : builder_(builder), from_(from), least_(least), most_(most), any_{to} {}

  void Add(std::string_view low, std::string_view high) { AddFrom(from_, low, high); }

 private:
  /// A state from which any `count` bytes lead to the end.
  State Any(size_t count) {
    while (any_.size() <= count) {
      const State state = builder_->NewState();
      builder_->AddBytes(state, static_cast<uint8_t>(least_), static_cast<uint8_t>(most_),
                         any_.back());
      any_.push_back(state);
    }
    return any_[count];
  }

  void AddFrom(State from, std::string_view low, std::string_view high) {
    auto first = static_cast<uint8_t>(low[0]);
    auto last = static_cast<uint8_t>(high[0]);
    if (low.size() == 1) return builder_->AddBytes(from, first, last, any_[0]);
    const std::string least(low.size() - 1, least_);
    const std::string most(low.size() - 1, most_);
    const auto add_one = [&](uint8_t byte, std::string_view rest_low, std::string_view rest_high) {
      const State next = builder_->NewState();
      builder_->AddBytes(from, byte, byte, next);
      AddFrom(next, rest_low, rest_high);
    };
    if (first == last) return add_one(first, low.substr(1), high.substr(1));
    if (low.substr(1) != least) add_one(first++, low.substr(1), most);
    if (high.substr(1) != most) add_one(last--, least, high.substr(1));
    if (first <= last) builder_->AddBytes(from, first, last, Any(low.size() - 1));
  }

  GrammarBuilder* builder_;
  State from_;
  char least_;
  char most_;
  std::vector<State> any_;
};

}  // namespace

std::vector<CodePointRange> NormalizeRanges(std::vector<CodePointRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const CodePointRange& a, const CodePointRange& b) { return a.first < b.first; });
  std::vector<CodePointRange> merged;
  const auto add = [&](char32_t first, char32_t last) {
    if (first > last) return;
    if (!merged.empty() && first <= merged.back().last + 1) {
      merged.back().last = std::max(merged.back().last, last);
    } else {
      merged.push_back({first, last});
    }
  };
  for (const CodePointRange& range : ranges) {
    add(range.first, std::min<char32_t>(range.last, 0xD7FF));
    add(std::max<char32_t>(range.first, 0xE000), std::min<char32_t>(range.last, 0x10FFFF));
  }
  return merged;
}

std::vector<CodePointRange> ComplementRanges(std::span<const CodePointRange> ranges) {
  std::vector<CodePointRange> complement;
  char32_t next = 0;
  for (const CodePointRange& range : ranges) {
    if (range.first > next) complement.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  complement.push_back({next, 0x10FFFF});
  return NormalizeRanges(std::move(complement));
}

GrammarBuilder::State GrammarBuilder::NewState() {
  // Beyond the limit one state stands for all: Check refuses the grammar, memory stays bounded.
  if (states_.size() > kMaxGrammarStates) return 0;
  states_.emplace_back();
  return static_cast<State>(states_.size() - 1);
}

void GrammarBuilder::CountEdge() { ++edges_; }

void GrammarBuilder::AddEmpty(State from, State to) {
  CountEdge();
  if (edges_ <= kMaxGrammarEdges) states_[from].empty.push_back(to);
}

void GrammarBuilder::AddBytes(State from, uint8_t first, uint8_t last, State to) {
  CountEdge();
  if (edges_ <= kMaxGrammarEdges) states_[from].bytes.push_back({first, last, to});
}

void GrammarBuilder::AddToken(State from, TokenId token, State to) {
  CountEdge();
  if (edges_ <= kMaxGrammarEdges) states_[from].tokens.push_back({token, to});
}

void GrammarBuilder::AddCall(State from, Rule rule, State to) {
  CountEdge();
  if (edges_ <= kMaxGrammarEdges) states_[from].calls.push_back({rule, to});
}

void GrammarBuilder::AddBetween(State from, std::string_view low, std::string_view high, char least,
                                char most, State to) {
  OrderedBytes(this, from, least, most, to).Add(low, high);
}

void GrammarBuilder::AddCodePoints(State from, std::span<const CodePointRange> ranges, State to) {
  static constexpr char32_t kLengthEnds[] = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
  OrderedBytes edges(this, from, '\x80', '\xBF', to);
  for (CodePointRange range : ranges) {
    for (const char32_t end : kLengthEnds) {
      if (range.first > range.last || range.first > end) continue;
      std::string low;
      std::string high;
      AppendUtf8(range.first, &low);
      AppendUtf8(std::min(range.last, end), &high);
      edges.Add(low, high);
      range.first = end + 1;
    }
  }
}

GrammarBuilder::Part GrammarBuilder::Empty() {
  const Part part = Never();
  AddEmpty(part.entry, part.exit);
  return part;
}

GrammarBuilder::Part GrammarBuilder::Never() {
  const State entry = NewState();
  return {entry, NewState()};
}

GrammarBuilder::Part GrammarBuilder::Literal(std::string_view bytes) {
  Part part{NewState(), 0};
  part.exit = part.entry;
  for (const char c : bytes) {
    const State next = NewState();
    AddBytes(part.exit, static_cast<uint8_t>(c), static_cast<uint8_t>(c), next);
    part.exit = next;
  }
  if (bytes.empty()) {
    part.exit = NewState();
    AddEmpty(part.entry, part.exit);
  }
  return part;
}

GrammarBuilder::Part GrammarBuilder::OneOf(std::vector<std::string> strings) {
  std::sort(strings.begin(), strings.end());
  const Part part = Never();
  // The states along the string before, so that the next one leaves it where they differ.
  std::vector<State> path = {part.entry};
  std::string_view before;
  for (const std::string& text : strings) {
    const auto [a, b] = std::mismatch(text.begin(), text.end(), before.begin(), before.end());
    path.resize(static_cast<size_t>(a - text.begin()) + 1);
    for (auto c = a; c != text.end(); ++c) {
      path.push_back(NewState());
      AddBytes(path.end()[-2], static_cast<uint8_t>(*c), static_cast<uint8_t>(*c), path.back());
    }
    AddEmpty(path.back(), part.exit);
    before = text;
  }
  return part;
}

GrammarBuilder::Part GrammarBuilder::CodePoints(std::span<const CodePointRange> ranges) {
  const Part part = Never();
  AddCodePoints(part.entry, ranges, part.exit);
  return part;
}

GrammarBuilder::Part GrammarBuilder::Token(TokenId token) {
  const Part part = Never();
  AddToken(part.entry, token, part.exit);
  return part;
}

GrammarBuilder::Part GrammarBuilder::Call(Rule rule) {
  const Part part = Never();
  AddCall(part.entry, rule, part.exit);
  return part;
}

GrammarBuilder::Part GrammarBuilder::Sequence(std::span<const Part> parts) {
  if (parts.empty()) return Empty();
  for (size_t i = 1; i < parts.size(); ++i) AddEmpty(parts[i - 1].exit, parts[i].entry);
  return {parts.front().entry, parts.back().exit};
}

GrammarBuilder::Part GrammarBuilder::Choice(std::span<const Part> parts) {
  const Part choice = Never();
  for (const Part& part : parts) {
    AddEmpty(choice.entry, part.entry);
    AddEmpty(part.exit, choice.exit);
  }
  return choice;
}

GrammarBuilder::Part GrammarBuilder::Optional(Part part) { return Choice({part, Empty()}); }

GrammarBuilder::Part GrammarBuilder::Repeat(Part part, uint32_t min, uint32_t max) {
  if (max == 0) return Empty();
  if (min == 1 && max == 1) return part;
  if (min == 0 && max == 1) return Optional(part);
  if (max == kUnboundedRepeat && min <= 1) {
    const State loop = NewState();
    const Part repeated{min == 0 ? loop : part.entry, NewState()};
    AddEmpty(loop, part.entry);
    AddEmpty(part.exit, loop);
    AddEmpty(loop, repeated.exit);
    return repeated;
  }
  const std::vector<State> chain = RepeatChain(MakeRule("a repeated part", part), min, max);
  return {chain.front(), chain.back()};
}

/// States before each repetition, and the exit.
std::vector<GrammarBuilder::State> GrammarBuilder::RepeatChain(Rule rule, uint32_t min,
                                                               uint32_t max) {
  const bool bounded = max != kUnboundedRepeat;
  const uint32_t length = bounded ? max : min;
  const State exit = NewState();
  const State must = NewState();
  const State may = NewState();
  AddCall(must, rule, must);
  AddCall(may, rule, may);
  AddEmpty(may, exit);
  std::vector<State> chain;
  for (uint32_t i = 0; i <= length && states_.size() <= kMaxGrammarStates; ++i) {
    const bool last = i == length;
    const State state = last && !bounded ? may : NewState();
    if (i > 0) AddCall(chain.back(), rule, state);
    if (i >= min && (last ? bounded : true)) AddEmpty(state, exit);
    if (i + kRepeatHorizon < min) {
      states_[state].alias = must;
      states_[state].alias_needs_progress = true;
      states_[state].repeated = rule;
    } else if (bounded && i >= min && max - i > kRepeatHorizon) {
      states_[state].alias = may;
    }
    chain.push_back(state);
  }
  chain.push_back(exit);
  return chain;
}

GrammarBuilder::Part GrammarBuilder::RepeatSeparated(Rule rule, Rule separator, uint32_t min,
                                                     uint32_t max) {
  if (max == 0) return Empty();
  const uint32_t more = max == kUnboundedRepeat ? max : max - 1;
  const Part rest = Sequence({Call(separator), Call(rule)});
  const Part whole = Sequence({Call(rule), Repeat(rest, min == 0 ? 0 : min - 1, more)});
  return min == 0 ? Optional(whole) : whole;
}

GrammarBuilder::Rule GrammarBuilder::Declare(std::string name) {
  if (rules_.size() <= kMaxGrammarStates) rules_.push_back({.name = std::move(name)});
  return static_cast<Rule>(rules_.size() - 1);
}

void GrammarBuilder::Define(Rule rule, Part part) {
  rules_[rule].start = part.entry;
  rules_[rule].exit = part.exit;
}

GrammarBuilder::Rule GrammarBuilder::MakeRule(std::string name, Part part) {
  const Rule rule = Declare(std::move(name));
  Define(rule, part);
  return rule;
}

Result<void> GrammarBuilder::Check() const {
  const auto too_large = [](const char* what, size_t limit) {
    return Error{ErrorCode::kInvalidInput, std::string("it needs more than ") +
                                               std::to_string(limit) + " " + what +
                                               " as an automaton, which is the limit"};
  };
  if (states_.size() > kMaxGrammarStates) return too_large("states", kMaxGrammarStates);
  if (rules_.size() > kMaxGrammarStates) return too_large("rules", kMaxGrammarStates);
  if (edges_ > kMaxGrammarEdges) return too_large("edges", kMaxGrammarEdges);
  return {};
}

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
