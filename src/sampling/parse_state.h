#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "sampling/grammar.h"

namespace moxie {

/// A 128-bit hash that stands for what was hashed: equal hashes are taken for equal things.
struct Fingerprint {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const Fingerprint&) const = default;
  void Add(uint64_t value);
  void Add(const Fingerprint& other) {
    Add(other.low);
    Add(other.high);
  }
};

struct FingerprintHash {
  size_t operator()(const Fingerprint& print) const { return static_cast<size_t>(print.low); }
};

/// The calls that are open at a point of a text, for all readings of it at once: a set of frames,
/// each where to go on and the set of frames below it (a graph-structured stack: Tomita, 1987, with
/// equal nodes stored once). Sets are numbered; the numbers are valid in their own pool only.
class StackPool {
 public:
  struct Frame {
    uint32_t resume = 0;
    uint32_t below = 0;
  };
  /// Frames deeper than this are not pushed: what would nest so deep cannot be said.
  static constexpr uint32_t kMaxDepth = 1000;
  /// `resume` of the frame below all others.
  static constexpr uint32_t kBottom = UINT32_MAX;

  StackPool();

  uint32_t bottom() const { return 0; }
  uint32_t Push(uint32_t resume, uint32_t below);
  uint32_t Union(uint32_t a, uint32_t b);
  uint32_t depth(uint32_t stack) const { return nodes_[stack].depth; }
  const Fingerprint& print(uint32_t stack) const { return nodes_[stack].print; }
  size_t size() const { return nodes_.size(); }
  std::span<const Frame> frames(uint32_t stack) const {
    return std::span(frames_).subspan(nodes_[stack].begin, nodes_[stack].count);
  }
  /// Steps spent in unions; they count as work of the caller.
  int64_t work = 0;

 private:
  struct Node {
    uint32_t begin = 0;
    uint32_t count = 0;
    uint32_t depth = 0;
    Fingerprint print;
  };
  /// `frames` sorted by resume, none twice.
  uint32_t Intern(std::span<const Frame> frames);

  std::vector<Node> nodes_;
  std::vector<Frame> frames_;
  std::unordered_map<Fingerprint, uint32_t, FingerprintHash> ids_;
};

/// Where a grammar stands after some text: for each state that can take a byte or a token next, the
/// open calls.
struct ParseState {
  struct Place {
    uint32_t state = 0;
    uint32_t stack = 0;
  };
  std::vector<Place> places;  ///< in the order of states
  bool can_end = false;
  Fingerprint print;  ///< of all of it; independent of the pool
  bool dead() const { return places.empty() && !can_end; }
};

/// Follows a text through a grammar. Holds scratch space; not thread-safe.
class Parser {
 public:
  /// `grammar` must outlive the parser.
  explicit Parser(const Grammar& grammar);

  ParseState Start(StackPool* pool);
  ParseState StepByte(const ParseState& from, uint8_t byte, StackPool* pool);
  ParseState StepToken(const ParseState& from, TokenId token, StackPool* pool);
  /// Both, joined: a token that the grammar names may also be read as text.
  ParseState Join(const ParseState& a, const ParseState& b, StackPool* pool);

  /// The same state in another pool. `aliased`: with what stands for states in the midst of a long
  /// repetition (Grammar::State::alias) in their place.
  ParseState Move(const ParseState& from, const StackPool& pool, bool aliased, StackPool* to);

  const Grammar& grammar() const { return grammar_; }
  int64_t work = 0;  ///< steps taken so far, for limits

 private:
  void Reach(uint32_t state, uint32_t stack, StackPool* pool);
  ParseState Close(StackPool* pool);

  const Grammar& grammar_;
  // States reached and their stacks, while a ParseState is computed.
  std::vector<uint32_t> slot_;  ///< by state: index into reached_, or UINT32_MAX
  std::vector<ParseState::Place> reached_;
  std::vector<uint32_t> open_;  ///< indices into reached_ whose moves are still to be made
  std::vector<char> is_open_;
  bool can_end_ = false;
};

}  // namespace moxie
