#include "sampling/parse_state.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

namespace moxie {

void Fingerprint::Add(uint64_t value) {
  // Two multiply-and-fold mixers with different odd constants.
  const auto fold = [](uint64_t a, uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  };
  low = fold(low ^ value ^ 0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9) + high;
  high = fold(high + value + 0x2545f4914f6cdd1d, 0x94d049bb133111eb) ^ (low << 1);
}

StackPool::StackPool() {
  const Frame bottom{kBottom, 0};
  // The bottom is below itself; nothing ever goes on there.
  nodes_.push_back({.begin = 0, .count = 1, .depth = 0, .print = {}});
  frames_.push_back(bottom);
  nodes_[0].print.Add(kBottom);
  ids_.emplace(nodes_[0].print, 0);
}

uint32_t StackPool::Intern(std::span<const Frame> frames) {
  Fingerprint print;
  uint32_t depth = 0;
  for (const Frame& frame : frames) {
    print.Add(frame.resume);
    if (frame.resume == kBottom) continue;
    print.Add(nodes_[frame.below].print);
    depth = std::max(depth, nodes_[frame.below].depth + 1);
  }
  const auto [entry, is_new] = ids_.emplace(print, static_cast<uint32_t>(nodes_.size()));
  if (is_new) {
    nodes_.push_back({.begin = static_cast<uint32_t>(frames_.size()),
                      .count = static_cast<uint32_t>(frames.size()),
                      .depth = depth,
                      .print = print});
    frames_.insert(frames_.end(), frames.begin(), frames.end());
  }
  return entry->second;
}

uint32_t StackPool::Push(uint32_t resume, uint32_t below) {
  const Frame frame{resume, below};
  return Intern({&frame, 1});
}

uint32_t StackPool::Union(uint32_t a, uint32_t b) {
  if (a == b) return a;
  std::vector<Frame> merged;
  const std::span<const Frame> first = frames(a);
  const std::span<const Frame> second = frames(b);
  work += static_cast<int64_t>(first.size() + second.size());
  std::set_union(first.begin(), first.end(), second.begin(), second.end(),
                 std::back_inserter(merged), [](const Frame& x, const Frame& y) {
                   return x.resume != y.resume ? x.resume < y.resume : x.below < y.below;
                 });
  // Frames that go on at one place are one frame over the union of what is below them. Both spans
  // are invalid from here on. The recursion is as deep as the stacks, at most kMaxDepth.
  size_t kept = 0;
  for (size_t i = 0; i < merged.size(); ++i) {
    if (kept > 0 && merged[kept - 1].resume == merged[i].resume) {
      merged[kept - 1].below = Union(merged[kept - 1].below, merged[i].below);
    } else {
      merged[kept++] = merged[i];
    }
  }
  merged.resize(kept);
  return Intern(merged);
}

Parser::Parser(const Grammar& grammar)
    : grammar_(grammar), slot_(grammar.states.size(), UINT32_MAX) {}

void Parser::Reach(uint32_t state, uint32_t stack, StackPool* pool) {
  ++work;
  uint32_t slot = slot_[state];
  if (slot == UINT32_MAX) {
    slot = static_cast<uint32_t>(reached_.size());
    slot_[state] = slot;
    reached_.push_back({state, stack});
    is_open_.push_back(1);
    open_.push_back(slot);
    return;
  }
  const uint32_t joined = pool->Union(reached_[slot].stack, stack);
  if (joined == reached_[slot].stack) return;
  reached_[slot].stack = joined;
  if (is_open_[slot]) return;
  is_open_[slot] = 1;
  open_.push_back(slot);
}

ParseState Parser::Close(StackPool* pool) {
  while (!open_.empty()) {
    const uint32_t slot = open_.back();
    open_.pop_back();
    is_open_[slot] = 0;
    const auto [id, stack] = reached_[slot];
    const Grammar::State& state = grammar_.states[id];
    for (uint32_t c = state.calls_begin; c < state.calls_end; ++c) {
      const Grammar::CallEdge& call = grammar_.call_edges[c];
      // A call at the very end of a rule leaves nothing to come back to.
      if (grammar_.states[call.resume].only_final()) {
        Reach(call.start, stack, pool);
      } else if (pool->depth(stack) < StackPool::kMaxDepth) {
        Reach(call.start, pool->Push(call.resume, stack), pool);
      }
    }
    if (!state.final) continue;
    for (size_t f = 0; f < pool->frames(stack).size(); ++f) {
      const StackPool::Frame frame = pool->frames(stack)[f];
      if (frame.resume == StackPool::kBottom) {
        can_end_ = true;
      } else {
        Reach(frame.resume, frame.below, pool);
      }
    }
  }
  ParseState result;
  result.can_end = std::exchange(can_end_, false);
  for (const ParseState::Place& place : reached_) {
    slot_[place.state] = UINT32_MAX;
    const Grammar::State& state = grammar_.states[place.state];
    if (state.bytes_begin != state.bytes_end || state.tokens_begin != state.tokens_end)
      result.places.push_back(place);
  }
  reached_.clear();
  is_open_.clear();
  std::sort(result.places.begin(), result.places.end(),
            [](const auto& a, const auto& b) { return a.state < b.state; });
  result.print.Add(result.can_end);
  for (const ParseState::Place& place : result.places) {
    result.print.Add(place.state);
    result.print.Add(pool->print(place.stack));
  }
  work += std::exchange(pool->work, 0);
  return result;
}

ParseState Parser::Start(StackPool* pool) {
  Reach(grammar_.start, pool->bottom(), pool);
  return Close(pool);
}

ParseState Parser::StepByte(const ParseState& from, uint8_t byte, StackPool* pool) {
  for (const ParseState::Place& place : from.places) {
    const Grammar::State& state = grammar_.states[place.state];
    for (uint32_t e = state.bytes_begin; e < state.bytes_end; ++e) {
      const Grammar::ByteEdge& edge = grammar_.byte_edges[e];
      if (edge.first > byte) break;  // Edges stand in the order of `first`.
      if (byte <= edge.last) Reach(edge.to, place.stack, pool);
    }
    work += 1 + (state.bytes_end - state.bytes_begin);
  }
  return Close(pool);
}

ParseState Parser::StepToken(const ParseState& from, TokenId token, StackPool* pool) {
  for (const ParseState::Place& place : from.places) {
    const Grammar::State& state = grammar_.states[place.state];
    for (uint32_t e = state.tokens_begin; e < state.tokens_end; ++e) {
      const Grammar::TokenEdge& edge = grammar_.token_edges[e];
      if (edge.token == token) Reach(edge.to, place.stack, pool);
    }
  }
  return Close(pool);
}

ParseState Parser::Join(const ParseState& a, const ParseState& b, StackPool* pool) {
  if (a.dead()) return b;
  if (b.dead()) return a;
  can_end_ = a.can_end || b.can_end;
  for (const ParseState* each : {&a, &b}) {
    for (const ParseState::Place& place : each->places) Reach(place.state, place.stack, pool);
  }
  return Close(pool);
}

ParseState Parser::Move(const ParseState& from, const StackPool& pool, bool aliased,
                        StackPool* to) {
  // What is below comes first, by a list instead of recursion: stacks may be deep.
  std::unordered_map<uint32_t, uint32_t> moved = {{pool.bottom(), to->bottom()}};
  const auto target = [&](uint32_t id) { return aliased ? grammar_.states[id].alias : id; };
  std::vector<uint32_t> open;
  for (const ParseState::Place& place : from.places) open.push_back(place.stack);
  while (!open.empty()) {
    const uint32_t stack = open.back();
    const std::span<const StackPool::Frame> frames = pool.frames(stack);
    const auto waiting = std::find_if(frames.begin(), frames.end(),
                                      [&](const auto& f) { return !moved.contains(f.below); });
    if (waiting != frames.end()) {
      open.push_back(waiting->below);
      continue;
    }
    open.pop_back();
    if (moved.contains(stack)) continue;
    std::optional<uint32_t> result;
    for (const StackPool::Frame& frame : frames) {
      const uint32_t one = frame.resume == StackPool::kBottom
                               ? to->bottom()
                               : to->Push(target(frame.resume), moved.at(frame.below));
      result = result ? to->Union(*result, one) : one;
    }
    moved.emplace(stack, *result);
  }
  can_end_ = from.can_end;
  for (const ParseState::Place& place : from.places)
    Reach(target(place.state), moved.at(place.stack), to);
  return Close(to);
}

}  // namespace moxie
