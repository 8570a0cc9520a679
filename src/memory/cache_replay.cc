#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "memory/cache_policy.h"
#include "moxie/routing.h"

namespace moxie {
namespace {

/// The experts that one token asks for in one layer.
struct Step {
  int64_t layer = 0;
  std::span<const int32_t> experts;
};

std::vector<Step> StepsOf(const RoutingTrace& trace) {
  std::vector<Step> steps;
  const auto used = static_cast<size_t>(trace.experts_per_token);
  for (size_t token = 0; token < static_cast<size_t>(trace.tokens); ++token) {
    for (size_t layer = 0; layer < trace.layers.size(); ++layer) {
      const std::span<const int32_t> all(trace.layers[layer].experts);
      steps.push_back({static_cast<int64_t>(layer), all.subspan(token * used, used)});
    }
  }
  return steps;
}

/// Belady's policy: the expert whose next use is furthest is given up first. Visits must be those
/// of `steps`, in order.
class BeladyPolicy {
 public:
  BeladyPolicy(const std::vector<Step>& steps, int64_t layers, int64_t experts)
      : experts_(experts), next_(steps.size()), upcoming_(static_cast<size_t>(layers * experts)) {
    std::vector<size_t> use(upcoming_.size(), std::numeric_limits<size_t>::max());
    for (size_t i = steps.size(); i-- > 0;) {
      for (const int32_t expert : steps[i].experts)
        next_[i].push_back(std::exchange(use[Index(steps[i].layer, expert)], i));
    }
  }

  void Visit(int64_t layer, std::span<const int32_t> experts) {
    for (size_t i = 0; i < experts.size(); ++i)
      upcoming_[Index(layer, experts[i])] = next_[step_][i];
    ++step_;
  }

  double Rank(int64_t layer, int64_t expert) const {
    return -static_cast<double>(upcoming_[Index(layer, expert)]);
  }

 private:
  size_t Index(int64_t layer, int64_t expert) const {
    return static_cast<size_t>(layer * experts_ + expert);
  }

  const int64_t experts_;
  size_t step_ = 0;
  std::vector<std::vector<size_t>> next_;  ///< [steps][experts] the step of the next use
  std::vector<size_t> upcoming_;           ///< [layers, experts]
};

/// What StreamedExpertStore does, without reading anything.
template <class Policy>
double HitRate(const std::vector<Step>& steps, int64_t cached, Policy policy) {
  std::vector<std::pair<int64_t, int64_t>> cache;  // Layer and expert.
  int64_t hits = 0, asked = 0;
  const auto find = [&](int64_t layer, int64_t expert) {
    return std::ranges::find(cache, std::pair(layer, expert));
  };
  std::vector<int64_t> missing;
  for (const Step& step : steps) {
    policy.Visit(step.layer, step.experts);
    missing.clear();
    for (const int32_t expert : step.experts) {
      ++asked;
      if (find(step.layer, expert) != cache.end()) {
        ++hits;
      } else {
        missing.push_back(expert);
      }
    }
    const auto wanted = [&](const std::pair<int64_t, int64_t>& item) {
      return item.first == step.layer &&
             std::ranges::find(step.experts, item.second) != step.experts.end();
    };
    for (const int64_t expert : missing) {
      if (std::ssize(cache) == cached) {
        const auto rank = [&](const std::pair<int64_t, int64_t>& item) {
          return wanted(item) ? std::numeric_limits<double>::infinity()
                              : policy.Rank(item.first, item.second);
        };
        cache.erase(std::ranges::min_element(cache, {}, rank));
      }
      cache.emplace_back(step.layer, expert);
    }
  }
  return asked > 0 ? static_cast<double>(hits) / static_cast<double>(asked) : 0;
}

}  // namespace

std::vector<CacheReplay> ReplayRouting(const RoutingTrace& trace, int64_t cached) {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  MOXIE_CHECK(cached >= trace.experts_per_token);
  const std::vector<Step> steps = StepsOf(trace);
  const int64_t layers = std::ssize(trace.layers), experts = trace.experts;
  const auto replay = [&](auto policy) { return HitRate(steps, cached, std::move(policy)); };
  return {{"next use", replay(NextUsePolicy(layers, experts))},
          {"LRU", replay(LrfuPolicy(layers, experts, 0))},
          {"LFU", replay(LrfuPolicy(layers, experts, kNever))},
          {"LRFU 4096", replay(LrfuPolicy(layers, experts, 4096))},
          {"Belady", replay(BeladyPolicy(steps, layers, experts))}};
}

}  // namespace moxie
