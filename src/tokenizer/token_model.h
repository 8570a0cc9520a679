#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "moxie/tokenizer.h"

namespace moxie {

/// Buffers that one call of Tokenizer::Encode reuses from word to word.
struct Workspace {
  struct Symbol {
    TokenId id;
    int32_t previous;
    int32_t next;
    uint32_t start;  ///< offset in the word
  };
  struct Candidate {
    uint32_t rank;
    uint32_t position;
    TokenId merged;
  };
  struct BestPath {
    double score;
    TokenId id;
    uint32_t start;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> candidates;
  std::vector<BestPath> paths;
  std::unordered_map<TokenId, std::pair<TokenId, TokenId>> parts;  ///< of pieces not to be output
};

/// The last step of encoding: a normalised, pre-split word to ids. Immutable.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the ids of `word`. O(n log n) in its length.
  virtual void Encode(std::string_view word, Workspace* workspace,
                      std::vector<TokenId>* ids) const = 0;
};

/// Words longer than this are cut at a character's border: offsets are 32 bits wide.
constexpr size_t kMaxWordBytes = size_t{1} << 30;

}  // namespace moxie
