#include "memory/cache_policy.h"

#include <cmath>

namespace moxie {
namespace {

/// Of a use's weight, at each visit of its layer: half of it is left after 138.
constexpr double kDecay = 0.995;
/// Visits that an expert's share must be seen in to outweigh the mean of all.
constexpr double kPriorVisits = 4;
/// What both shares of all layers begin with and go back to, as slowly as 1 - kShareDecay a visit:
/// few observations must not decide, nor old ones.
constexpr double kPriorAsked = 8, kPriorAll = 32;
constexpr double kShareDecay = 0.998;
constexpr double kNeverUsed = -1e300;

}  // namespace

NextUsePolicy::NextUsePolicy(int64_t layers, int64_t experts)
    : layers_(layers),
      experts_(experts),
      visits_(static_cast<size_t>(layers)),
      decayed_visits_(static_cast<size_t>(layers)),
      uses_(static_cast<size_t>(layers * experts)),
      repeated_{kPriorAsked, kPriorAll},
      fresh_(repeated_) {}

void NextUsePolicy::Visit(int64_t layer, std::span<const int32_t> experts) {
  layer_ = layer;
  const std::span<Expert> uses = std::span(uses_).subspan(static_cast<size_t>(layer * experts_),
                                                          static_cast<size_t>(experts_));
  const int64_t visit = visits_[static_cast<size_t>(layer)]++;
  double& decayed_visits = decayed_visits_[static_cast<size_t>(layer)];
  decayed_visits = kDecay * decayed_visits + 1;
  for (Share* share : {&repeated_, &fresh_}) {
    share->asked += (1 - kShareDecay) * (kPriorAsked - share->asked);
    share->all += (1 - kShareDecay) * (kPriorAll - share->all);
  }
  const auto share_of = [&](const Expert& expert) -> Share& {
    return expert.last_use == visit - 1 ? repeated_ : fresh_;
  };
  for (Expert& expert : uses) {
    expert.uses *= kDecay;
    if (visit > 0) ++share_of(expert).all;
  }
  for (const int32_t id : experts) {
    Expert& expert = uses[static_cast<size_t>(id)];
    if (visit > 0) ++share_of(expert).asked;
    ++expert.uses;
    expert.last_use = visit;
  }
}

double NextUsePolicy::Rank(int64_t layer, int64_t expert) const {
  const Expert& known = uses_[static_cast<size_t>(layer * experts_ + expert)];
  const bool used_last = known.last_use == visits_[static_cast<size_t>(layer)] - 1;
  const double mean = (repeated_.asked + fresh_.asked) / (repeated_.all + fresh_.all);
  const double share = (known.uses + kPriorVisits * mean) /
                       (decayed_visits_[static_cast<size_t>(layer)] + kPriorVisits);
  const double probability = share * (used_last ? repeated_ : fresh_).value() / mean;
  const int64_t distance = (layer - layer_ + layers_ - 1) % layers_ + 1;
  return probability / static_cast<double>(distance);
}

LrfuPolicy::LrfuPolicy(int64_t layers, int64_t experts, double half_life)
    : experts_(experts),
      half_life_(half_life),
      ranks_(static_cast<size_t>(layers * experts), kNeverUsed) {}

void LrfuPolicy::Visit(int64_t layer, std::span<const int32_t> experts) {
  for (const int32_t expert : experts) {
    ++now_;
    double& rank = ranks_[static_cast<size_t>(layer * experts_ + expert)];
    if (half_life_ <= 0) {
      rank = static_cast<double>(now_);
      continue;
    }
    // The count decays as 2^(-age / half_life), so its logarithm falls equally fast for all
    // experts: what is compared is log2(count) + time / half_life, which does not change while time
    // goes by.
    const double fresh = static_cast<double>(now_) / half_life_;
    rank = rank == kNeverUsed ? fresh : fresh + std::log2(1 + std::exp2(rank - fresh));
  }
}

double LrfuPolicy::Rank(int64_t layer, int64_t expert) const {
  return ranks_[static_cast<size_t>(layer * experts_ + expert)];
}

}  // namespace moxie
