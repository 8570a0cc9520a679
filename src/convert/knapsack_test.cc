#include "convert/knapsack.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

namespace moxie {
namespace {

using Units = std::vector<std::vector<TypeOption>>;

Units RandomUnits(std::mt19937& random) {
  Units units(2 + random() % 4);
  for (auto& options : units) {
    options.resize(1 + random() % 4);
    for (TypeOption& option : options) {
      option.bytes = static_cast<int64_t>(1 + random() % 40);
      option.divergence = static_cast<double>(random() % 1000);
    }
  }
  return units;
}

/// The least divergence of any choice within the budget, by trying all; infinite where none fits.
double Best(const Units& units, int64_t budget, size_t unit = 0) {
  if (budget < 0) return std::numeric_limits<double>::infinity();
  if (unit == units.size()) return 0;
  double best = std::numeric_limits<double>::infinity();
  for (const TypeOption& option : units[unit])
    best = std::min(best, option.divergence + Best(units, budget - option.bytes, unit + 1));
  return best;
}

double LargestDivergence(const Units& units) {
  double largest = 0;
  for (const auto& options : units)
    for (const TypeOption& option : options) largest = std::max(largest, option.divergence);
  return largest;
}

TEST(Knapsack, IsWithinOneStepOfTheBestOfAllChoices) {
  std::mt19937 random(7);
  int exact = 0, feasible = 0;
  for (int round = 0; round < 2000; ++round) {
    const Units units = RandomUnits(random);
    const int64_t budget = static_cast<int64_t>(random() % 160);
    const double best = Best(units, budget);
    const std::vector<size_t> chosen = ChooseWithin(units, budget);
    ASSERT_EQ(chosen.empty(), std::isinf(best));
    if (chosen.empty()) continue;
    ASSERT_EQ(chosen.size(), units.size());
    int64_t bytes = 0;
    double divergence = 0;
    for (size_t u = 0; u < units.size(); ++u) {
      bytes += units[u][chosen[u]].bytes;
      divergence += units[u][chosen[u]].divergence;
    }
    EXPECT_LE(bytes, budget);
    EXPECT_GE(divergence, best);
    EXPECT_LE(divergence, best + LargestDivergence(units));
    ++feasible;
    exact += divergence == best ? 1 : 0;
  }
  EXPECT_GT(feasible, 1000);
  EXPECT_GT(exact, feasible / 2) << "with a handful of units half of the budgets are met exactly";
}

TEST(Knapsack, TakesTheStepThatSavesMostAByte) {
  const Units units = {{{DType::kQ2_K, 10, 100}, {DType::kQ4_K, 20, 50}},
                       {{DType::kQ2_K, 10, 100}, {DType::kQ4_K, 20, 10}}};
  EXPECT_EQ(ChooseWithin(units, 30), (std::vector<size_t>{0, 1}));
  EXPECT_EQ(ChooseWithin(units, 40), (std::vector<size_t>{1, 1}));
  EXPECT_TRUE(ChooseWithin(units, 19).empty());
}

TEST(Knapsack, NeverPicksWhatAnotherBeatsInBoth) {
  const Units units = {{{DType::kQ4_0, 18, 30}, {DType::kIQ4_NL, 18, 20}, {DType::kQ4_1, 20, 25}}};
  for (const int64_t budget : {18, 19, 20, 100}) EXPECT_EQ(ChooseWithin(units, budget)[0], 1u);
}

}  // namespace
}  // namespace moxie
