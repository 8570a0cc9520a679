#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "memory/kv_cache.h"
#include "moxie/tokenizer.h"

namespace moxie {

/// Sequences of finished requests whose keys and values are kept because later prompts may begin
/// alike. A prompt takes the beginning that it shares by forking: pages are shared by reference
/// count, so the branches of one beginning hold it once, and giving up a sequence frees the pages
/// that nobody else holds.
class PrefixCache {
 public:
  explicit PrefixCache(KvCache& cache) : cache_(cache) {}

  struct Kept {
    SequenceId sequence = 0;
    std::vector<TokenId> tokens;  ///< whose keys and values the sequence holds
  };

  void Keep(Kept kept) { kept_.push_back(std::move(kept)); }

  /// The kept sequence that shares most tokens with the beginning of `prompt`, at least one token
  /// of which is left to compute; it now counts as the newest. Tokens 0 where none shares any.
  struct Match {
    SequenceId sequence = -1;
    int64_t tokens = 0;
  };
  Match Find(std::span<const TokenId> prompt);

  /// Frees the sequence that was kept or found longest ago, if there is one.
  void EvictOldest();

  size_t size() const { return kept_.size(); }

 private:
  KvCache& cache_;
  std::vector<Kept> kept_;  // Oldest first.
};

/// How many tokens two sequences have in common at their beginnings.
int64_t CommonPrefix(std::span<const TokenId> a, std::span<const TokenId> b);

}  // namespace moxie
