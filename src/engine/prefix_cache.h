#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "memory/kv_cache.h"
#include "moxie/tokenizer.h"

namespace moxie {

/// Sequences of finished requests whose keys and values are kept because a later prompt may begin
/// alike. They hold pages that nobody else can have until Evict gives them up, oldest first.
class PrefixCache {
 public:
  explicit PrefixCache(KvCache& cache) : cache_(cache) {}

  struct Kept {
    SequenceId sequence = 0;
    std::vector<TokenId> tokens;  ///< whose keys and values the sequence holds
    int64_t pages = 0;            ///< accounted to it
  };

  void Keep(Kept kept) { kept_.push_back(std::move(kept)); }

  /// Takes out the sequence that shares most tokens with the beginning of `prompt`, cut back to
  /// these; at least one token of the prompt is left to compute. Nothing where none shares any, or
  /// where the cache no longer holds what the cut would need (a window has rolled on).
  struct Taken {
    SequenceId sequence = -1;
    int64_t tokens = 0;
    int64_t pages = 0;
  };
  Taken Take(std::span<const TokenId> prompt);

  /// Frees the sequence that was kept longest ago; returns the pages that were accounted to it.
  /// 0 where nothing is kept.
  int64_t EvictOldest();

  size_t size() const { return kept_.size(); }

 private:
  KvCache& cache_;
  std::vector<Kept> kept_;  // Oldest first.
};

}  // namespace moxie
