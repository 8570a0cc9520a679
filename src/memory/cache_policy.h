#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moxie {

/// Which cached expert to give up: the one that is least likely to be asked for soon.
///
/// Layers take turns, so when an expert can be asked for next is known: at its layer's next visit,
/// a distance of 1 to `layers` layers away. Its rank is the probability that it is asked for then,
/// divided by that distance: what keeping it until then is expected to save for the time that it
/// takes up room. The probability is the expert's decayed share of its layer's visits, times what
/// being among the last visit's experts, or not, has meant lately over all layers. Where nothing is
/// known all are equally probable, and the layers that have just been visited give up theirs first,
/// so that a part of each token's experts stays, where LRU would keep none.
///
/// Allocates nothing after creation. Not thread-safe.
class NextUsePolicy {
 public:
  NextUsePolicy(int64_t layers, int64_t experts);

  /// The experts that a pass asks for in a layer, once a layer and pass.
  void Visit(int64_t layer, std::span<const int32_t> experts);

  /// Experts of the least rank are given up first, as of the last visit.
  double Rank(int64_t layer, int64_t expert) const;

  /// What it keeps in memory for each expert of each layer, its share of the layer's included.
  static constexpr int64_t kExpertBytes = 32;

 private:
  /// How many experts were asked for, of those that could have been; decayed.
  struct Share {
    double asked = 0, all = 0;
    double value() const { return asked / all; }
  };
  struct Expert {
    double uses = 0;        ///< decayed by visits of its layer
    int64_t last_use = -1;  ///< number of the layer's visit
  };

  const int64_t layers_, experts_;
  int64_t layer_ = 0;                   ///< visited last
  std::vector<int64_t> visits_;         ///< [layers]
  std::vector<double> decayed_visits_;  ///< [layers]
  std::vector<Expert> uses_;            ///< [layers, experts]
  Share repeated_, fresh_;  ///< of experts that were, and were not, asked for at the visit before
};

/// LRFU (Lee et al., SIGMETRICS 1999), which the above is measured against: gives up the expert
/// with the least decayed count of uses. A use counts half after `half_life` further uses of
/// anything; a half life of 0 is LRU, an infinite one LFU. Counts stay while experts are not
/// cached.
class LrfuPolicy {
 public:
  LrfuPolicy(int64_t layers, int64_t experts, double half_life);
  void Visit(int64_t layer, std::span<const int32_t> experts);
  double Rank(int64_t layer, int64_t expert) const;

 private:
  const int64_t experts_;
  const double half_life_;
  int64_t now_ = 0;
  std::vector<double> ranks_;
};

}  // namespace moxie
