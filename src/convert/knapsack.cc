#include "convert/knapsack.h"

#include <algorithm>
#include <numeric>
#include <queue>

namespace moxie {
namespace {

/// Divergence saved for each further byte between two options.
double Slope(const TypeOption& from, const TypeOption& to) {
  return (from.divergence - to.divergence) / static_cast<double>(to.bytes - from.bytes);
}

/// The options on the lower convex hull of divergence over bytes, smallest first: each step saves
/// less a byte than the one before.
std::vector<size_t> Hull(const std::vector<TypeOption>& options) {
  std::vector<size_t> order(options.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, [&](size_t a, size_t b) {
    const TypeOption &x = options[a], &y = options[b];
    return x.bytes != y.bytes ? x.bytes < y.bytes : x.divergence < y.divergence;
  });
  std::vector<size_t> hull;
  for (const size_t i : order) {
    if (!hull.empty() && options[i].divergence >= options[hull.back()].divergence) continue;
    while (hull.size() > 1 && Slope(options[hull[hull.size() - 2]], options[hull.back()]) <=
                                  Slope(options[hull.back()], options[i]))
      hull.pop_back();
    hull.push_back(i);
  }
  return hull;
}

struct Step {
  double slope;
  size_t unit;
  bool operator<(const Step& other) const {  // The steepest first, then the earliest unit.
    return slope != other.slope ? slope < other.slope : unit > other.unit;
  }
};

}  // namespace

std::vector<size_t> ChooseWithin(std::span<const std::vector<TypeOption>> units, int64_t budget) {
  std::vector<std::vector<size_t>> hulls;
  std::vector<size_t> place(units.size());  // Where on its hull each unit stands.
  std::priority_queue<Step> steps;
  int64_t left = budget;
  const auto offer = [&](size_t u) {
    const std::vector<size_t>& hull = hulls[u];
    if (place[u] + 1 == hull.size()) return;
    steps.push({Slope(units[u][hull[place[u]]], units[u][hull[place[u] + 1]]), u});
  };
  for (size_t u = 0; u < units.size(); ++u) {
    hulls.push_back(Hull(units[u]));
    left -= units[u][hulls[u].front()].bytes;
    offer(u);
  }
  if (left < 0) return {};
  while (!steps.empty()) {
    const size_t u = steps.top().unit;
    steps.pop();
    const int64_t more =
        units[u][hulls[u][place[u] + 1]].bytes - units[u][hulls[u][place[u]]].bytes;
    if (more > left) continue;
    left -= more;
    ++place[u];
    offer(u);
  }
  std::vector<size_t> chosen;
  for (size_t u = 0; u < units.size(); ++u) chosen.push_back(hulls[u][place[u]]);
  return chosen;
}

}  // namespace moxie
