#include "engine/prefix_cache.h"

#include <algorithm>

namespace moxie {
namespace {

size_t CommonPrefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  const size_t shorter = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(shorter), b.begin()).first -
      a.begin());
}

}  // namespace

PrefixCache::Taken PrefixCache::Take(std::span<const TokenId> prompt) {
  size_t best_length = 0;
  auto best = kept_.end();
  for (auto kept = kept_.begin(); kept != kept_.end(); ++kept) {
    const size_t length = CommonPrefix(kept->tokens, prompt.first(prompt.size() - 1));
    if (length > best_length) {
      best_length = length;
      best = kept;
    }
  }
  if (best == kept_.end()) return {};
  if (best_length < best->tokens.size() &&
      !cache_.Truncate(best->sequence, static_cast<int64_t>(best_length)))
    return {};
  const Taken taken{best->sequence, static_cast<int64_t>(best_length), best->pages};
  kept_.erase(best);
  return taken;
}

int64_t PrefixCache::EvictOldest() {
  if (kept_.empty()) return 0;
  const Kept oldest = std::move(kept_.front());
  kept_.erase(kept_.begin());
  cache_.FreeSequence(oldest.sequence);
  return oldest.pages;
}

}  // namespace moxie
