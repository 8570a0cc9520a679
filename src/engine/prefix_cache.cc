#include "engine/prefix_cache.h"

#include <algorithm>

namespace moxie {

int64_t CommonPrefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  const size_t shorter = std::min(a.size(), b.size());
  const auto end = a.begin() + static_cast<ptrdiff_t>(shorter);
  return std::mismatch(a.begin(), end, b.begin()).first - a.begin();
}

PrefixCache::Match PrefixCache::Find(std::span<const TokenId> prompt) {
  Match best;
  auto best_kept = kept_.end();
  for (auto kept = kept_.begin(); kept != kept_.end(); ++kept) {
    const int64_t length = CommonPrefix(kept->tokens, prompt.first(prompt.size() - 1));
    if (length <= best.tokens) continue;
    best = {kept->sequence, length};
    best_kept = kept;
  }
  if (best_kept != kept_.end()) std::rotate(best_kept, best_kept + 1, kept_.end());
  return best;
}

void PrefixCache::EvictOldest() {
  if (kept_.empty()) return;
  cache_.FreeSequence(kept_.front().sequence);
  kept_.erase(kept_.begin());
}

}  // namespace moxie
