#include "sampling/grammar.h"

#include <algorithm>

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

}  // namespace moxie
