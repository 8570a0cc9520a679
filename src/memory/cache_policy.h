#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace moxie {

/// Which cached item to give up: the one with the least decayed count of uses (LRFU: Lee et al.,
/// SIGMETRICS 1999). A use counts half after `half_life` further uses of anything; a half life of 0
/// is LRU, an infinite one LFU.
///
/// Items keep their counts while they are not cached.
class CachePolicy {
 public:
  CachePolicy(int64_t items, double half_life)
      : half_life_(half_life), ranks_(static_cast<size_t>(items), kNever) {}

  /// Counts a use of an item.
  void Use(int64_t item) {
    ++now_;
    double& rank = ranks_[static_cast<size_t>(item)];
    if (half_life_ <= 0) {
      rank = static_cast<double>(now_);
      return;
    }
    // The count decays as 2^(-age / half_life), so its logarithm falls equally fast for all items:
    // what is compared is log2(count) + time / half_life, which does not change while time goes by.
    const double fresh = static_cast<double>(now_) / half_life_;
    rank = rank == kNever ? fresh : fresh + std::log2(1 + std::exp2(rank - fresh));
  }

  /// Items of the least rank are given up first.
  double Rank(int64_t item) const { return ranks_[static_cast<size_t>(item)]; }

 private:
  static constexpr double kNever = -1e300;
  double half_life_;
  int64_t now_ = 0;
  std::vector<double> ranks_;
};

/// The default, in uses (docs/memory.md). LRU finds nothing at all where one token asks for more
/// experts than the cache holds, since layers take turns; long memory finds the cached share.
inline constexpr double kCacheHalfLife = 4096;

}  // namespace moxie
