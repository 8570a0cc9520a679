#include "convert/knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <queue>

namespace moxie {
namespace {

constexpr double kLeastRerouting = 1e-24;  // At none a root's tangent would be infinitely steep.

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

/// ChooseWithin for divergences that add up.
std::vector<size_t> ChooseBySteps(std::span<const std::vector<TypeOption>> units, int64_t budget) {
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

std::vector<TypeOption> OptionsOf(std::span<const std::vector<TypeOption>> units,
                                  std::span<const size_t> chosen) {
  std::vector<TypeOption> options;
  for (size_t u = 0; u < chosen.size(); ++u) options.push_back(units[u][chosen[u]]);
  return options;
}

/// The sums of the layers' squares.
std::map<int64_t, double> Rerouting(std::span<const TypeOption> options) {
  std::map<int64_t, double> squares;
  for (const TypeOption& option : options) squares[option.layer] += option.rerouting;
  return squares;
}

}  // namespace

double DivergenceOfAll(std::span<const TypeOption> options) {
  double sum = 0;
  for (const TypeOption& option : options) sum += option.divergence;
  for (const auto& [layer, square] : Rerouting(options)) sum += std::sqrt(square);
  return sum;
}

void ShareRerouting(std::span<TypeOption> options) {
  auto squares = Rerouting(options);
  for (TypeOption& option : options) {
    if (option.rerouting > 0)
      option.divergence += option.rerouting / std::sqrt(squares[option.layer]);
    option.rerouting = 0;
  }
}

std::vector<size_t> ChooseWithin(std::span<const std::vector<TypeOption>> units, int64_t budget) {
  std::vector<std::vector<TypeOption>> straight(units.begin(), units.end());
  for (std::vector<TypeOption>& options : straight) {  // To begin with, as if each were alone.
    for (TypeOption& option : options) option.divergence += std::sqrt(option.rerouting);
  }
  std::vector<size_t> best;
  double least = std::numeric_limits<double>::infinity();
  while (true) {
    std::vector<size_t> chosen = ChooseBySteps(straight, budget);
    if (chosen.empty()) return chosen;
    const std::vector<TypeOption> options = OptionsOf(units, chosen);
    const double divergence = DivergenceOfAll(options);
    if (!(divergence < least)) return best;
    least = divergence;
    best = std::move(chosen);
    auto squares = Rerouting(options);
    for (size_t u = 0; u < units.size(); ++u) {
      for (size_t i = 0; i < units[u].size(); ++i) {
        const TypeOption& option = units[u][i];
        const double root = std::sqrt(std::max(squares[option.layer], kLeastRerouting));
        straight[u][i].divergence = option.divergence + option.rerouting / (2 * root);
      }
    }
  }
}

}  // namespace moxie
