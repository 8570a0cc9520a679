#include "convert/knapsack.h"

#include <gtest/gtest.h>

#include <cmath>
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

/// The least DivergenceOfAll of any choice within the budget, by trying all.
double BestOfAll(const Units& units, int64_t budget, std::vector<TypeOption> chosen = {}) {
  if (budget < 0) return std::numeric_limits<double>::infinity();
  if (chosen.size() == units.size()) return DivergenceOfAll(chosen);
  double best = std::numeric_limits<double>::infinity();
  for (const TypeOption& option : units[chosen.size()]) {
    chosen.push_back(option);
    best = std::min(best, BestOfAll(units, budget - option.bytes, chosen));
    chosen.pop_back();
  }
  return best;
}

TEST(Knapsack, SquaresOfReroutingAddUpWithinLayers) {
  const std::vector<TypeOption> options = {{.divergence = 1, .rerouting = 9, .layer = 0},
                                           {.divergence = 2, .rerouting = 16, .layer = 0},
                                           {.rerouting = 4, .layer = 1},
                                           {.divergence = 0.5, .layer = 1}};
  EXPECT_DOUBLE_EQ(DivergenceOfAll(options), 3.5 + 5 + 2);
  std::vector<TypeOption> shared = options;
  ShareRerouting(shared);
  EXPECT_DOUBLE_EQ(shared[0].divergence, 1 + 9.0 / 5);
  EXPECT_DOUBLE_EQ(DivergenceOfAll(shared), DivergenceOfAll(options));
}

TEST(Knapsack, ComesCloseToTheBestWithRerouting) {
  std::mt19937 random(8);
  double found = 0, as_if_alone = 0, least = 0;
  for (int round = 0; round < 300; ++round) {
    Units units(6), alone(6);
    for (size_t u = 0; u < units.size(); ++u) {
      for (int64_t bytes = 1; bytes <= 4; ++bytes) {  // Squared errors fall by the bits.
        const double error = std::exp2(-2.0 * static_cast<double>(bytes));
        units[u].push_back({.bytes = bytes,
                            .divergence = error * static_cast<double>(random() % 100),
                            .rerouting = error * static_cast<double>(random() % 40000),
                            .layer = static_cast<int64_t>(u / 3)});
        alone[u].push_back(units[u].back());
        alone[u].back().divergence += std::sqrt(alone[u].back().rerouting);
        alone[u].back().rerouting = 0;
      }
    }
    const auto cost = [&](const std::vector<size_t>& chosen) {
      std::vector<TypeOption> options;
      for (size_t u = 0; u < units.size(); ++u) options.push_back(units[u][chosen[u]]);
      return DivergenceOfAll(options);
    };
    const int64_t budget = 6 + static_cast<int64_t>(random() % 18);
    const double own = cost(ChooseWithin(units, budget));
    const double other = cost(ChooseWithin(alone, budget));
    EXPECT_LE(own, other) << "at least what is best were each alone";
    found += own;
    as_if_alone += other;
    least += BestOfAll(units, budget);
  }
  EXPECT_GE(found, least);
  EXPECT_LE(found, 1.01 * least);
  EXPECT_GT(as_if_alone, 1.015 * least) << "squares decide";
}

}  // namespace
}  // namespace moxie
