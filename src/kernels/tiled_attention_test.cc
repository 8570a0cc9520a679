#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/half.h"
#include "kernels/kernel_set.h"
#include "quant/blocks.h"
#include "quant/dequantize.h"

// TiledAttention of every set that has it, against softmax attention in float64.

namespace moxie {
namespace {

constexpr double kUnit = 0x1p-24;  // Half a unit in the last place of 1.

/// The most by which a product errs before it is added. Of split ones (amx/attention.cc) it is
/// 2^-17 of it for what is left of each factor, and 2^-16 for low times low.
double ProductError(const KernelSet& set) { return set.name == "amx" ? 0x1p-15 : 0; }

/// Additions in a row: one for each element, or 18 for each 32 of each of three split products.
double Additions(int64_t elements) {
  return 54 * static_cast<double>((elements + 31) / 32) * kUnit;
}

/// Queries, and rows of keys and values that lie apart.
struct Problem {
  int64_t key_dim, value_dim, rows, count;
  DType type;
  std::vector<std::vector<std::byte>> stored_keys, stored_values;
  std::vector<std::vector<float>> keys, values, queries;
  std::vector<int32_t> begin, end;
  float scale = 0.125f;

  static void Draw(DType type, int64_t rows, int64_t dim, std::mt19937& random,
                   std::vector<std::vector<std::byte>>& stored,
                   std::vector<std::vector<float>>& decoded) {
    std::normal_distribution<float> normal;
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<std::byte>& row = stored.emplace_back(static_cast<size_t>(*BytesOf(type, dim)));
      for (int64_t d = 0; d < dim; ++d) {
        const float value = normal(random);
        const uint16_t half = FloatToHalf(type == DType::kF16 ? value : value / 100);
        if (type == DType::kF32) std::memcpy(row.data() + 4 * d, &value, 4);
        if (type == DType::kF16) std::memcpy(row.data() + 2 * d, &half, 2);
        if (type == DType::kQ8_0) {
          std::byte* block = row.data() + d / 32 * 34;
          if (d % 32 == 0) std::memcpy(block, &half, 2);
          block[2 + d % 32] = static_cast<std::byte>(random());
        }
      }
      decoded.emplace_back(static_cast<size_t>(dim));
      Dequantize(type, row.data(), dim, decoded.back().data());
    }
  }

  Problem(DType of, int64_t k, int64_t v, int64_t r, int64_t c, std::mt19937& random)
      : key_dim(k), value_dim(v), rows(r), count(c), type(of) {
    Draw(type, rows, key_dim, random, stored_keys, keys);
    Draw(type, rows, value_dim, random, stored_values, values);
    std::vector<std::vector<std::byte>> unused;
    Draw(DType::kF32, count, key_dim, random, unused, queries);
    for (int64_t q = 0; q < count; ++q) {
      // Causal with a window, as far as there are rows; some see none, some all.
      const int64_t last = rows - count + q + 1;
      begin.push_back(static_cast<int32_t>(std::clamp<int64_t>(last - rows / 2 - 3, 0, rows)));
      end.push_back(static_cast<int32_t>(std::clamp<int64_t>(last, 0, rows)));
      if (q % 5 == 4) begin.back() = 0, end.back() = static_cast<int32_t>(rows);
    }
  }
};

struct Results {
  std::vector<float> maxima, sums;
  std::vector<double> totals;
};

/// Queries [first, first + count) of the problem and the `rows` first of its rows.
Results Attend(const KernelSet& set, const Problem& problem, int64_t first, int64_t count,
               int64_t rows) {
  constexpr float kUntouched = 77;
  std::vector<const std::byte*> keys, values;
  int64_t least = rows;
  for (int64_t q = first; q < first + count; ++q)
    least = std::min<int64_t>(least, problem.begin[static_cast<size_t>(q)]);
  for (int64_t r = 0; r < rows; ++r) {
    const auto at = static_cast<size_t>(r);
    keys.push_back(r < least ? nullptr : problem.stored_keys[at].data());
    values.push_back(r < least ? nullptr : problem.stored_values[at].data());
  }
  std::vector<const float*> queries;
  for (const auto& query : problem.queries) queries.push_back(query.data());
  const AttentionTile tile{.type = problem.type,
                           .rows = rows,
                           .key_dim = problem.key_dim,
                           .value_dim = problem.value_dim,
                           .keys = keys.data(),
                           .values = values.data(),
                           .count = count,
                           .queries = queries.data() + first,
                           .begin = problem.begin.data() + first,
                           .end = problem.end.data() + first,
                           .scale = problem.scale};
  const TiledAttention& attention = *set.tiled_attention;
  // What an earlier tile left in the scratch must not matter.
  std::vector<float> scratch(
      static_cast<size_t>(attention.scratch_bytes(problem.key_dim, problem.value_dim) / 4 + 1),
      std::nanf(""));
  const auto n = static_cast<size_t>(count);
  Results results{
      .maxima = std::vector<float>(n + 1, kUntouched),
      .sums = std::vector<float>(n * static_cast<size_t>(problem.value_dim) + 1, kUntouched),
      .totals = std::vector<double>(n + 1, kUntouched)};
  attention.attend(tile, reinterpret_cast<std::byte*>(scratch.data()), results.maxima.data(),
                   results.totals.data(), results.sums.data());
  EXPECT_EQ(results.maxima.back(), kUntouched);
  EXPECT_EQ(results.sums.back(), kUntouched);
  EXPECT_EQ(results.totals.back(), static_cast<double>(kUntouched));
  results.maxima.pop_back();
  results.sums.pop_back();
  results.totals.pop_back();
  return results;
}

void ExpectFormula(const KernelSet& set, const Problem& problem, const Results& got, size_t q) {
  const auto first = static_cast<size_t>(problem.begin[q]),
             end = static_cast<size_t>(problem.end[q]);
  const size_t dim = static_cast<size_t>(problem.value_dim);
  if (first >= end) {
    ASSERT_EQ(got.maxima[q], -std::numeric_limits<float>::infinity());
    ASSERT_EQ(got.totals[q], 0);
    for (size_t d = 0; d < dim; ++d) ASSERT_EQ(got.sums[q * dim + d], 0);
    return;
  }
  std::vector<double> scores;
  double max = -std::numeric_limits<double>::infinity(), magnitude = 0;
  for (size_t i = first; i < end; ++i) {
    double score = 0, terms = 0;
    for (size_t d = 0; d < problem.queries[q].size(); ++d) {
      const double term = static_cast<double>(problem.scale) *
                          static_cast<double>(problem.queries[q][d]) *
                          static_cast<double>(problem.keys[i][d]);
      score += term;
      terms += std::fabs(term);
    }
    scores.push_back(score);
    max = std::max(max, score);
    magnitude = std::max(magnitude, terms);
  }
  // A score's error: of products, of sums, and some roundings (scales, logarithms' bases, the
  // difference from the maximum).
  const double error = (ProductError(set) + Additions(problem.key_dim) + 12 * kUnit) * magnitude;
  const double exponentials = std::expm1(error) + 8 * kUnit;
  const auto got_max = static_cast<double>(got.maxima[q]);
  ASSERT_NEAR(got_max, max, error);

  double total = 0;
  std::vector<double> sums(dim), magnitudes(dim);
  for (size_t i = first; i < end; ++i) {
    const double weight = std::exp(scores[i - first] - max);
    total += weight;
    for (size_t d = 0; d < dim; ++d) {
      const double term = weight * static_cast<double>(problem.values[i][d]);
      sums[d] += term;
      magnitudes[d] += std::fabs(term);
    }
  }
  const double factor = std::exp(got_max - max);
  ASSERT_NEAR(got.totals[q] * factor, total, total * (exponentials + 72 * kUnit));
  // Exponentials below the least normal number may count as that or as nothing.
  const double least = 256 * 0x1p-126 * 8;
  for (size_t d = 0; d < dim; ++d) {
    const double bound =
        exponentials + ProductError(set) + Additions(AttentionTile::kMaxRows) + 4 * kUnit;
    ASSERT_NEAR(static_cast<double>(got.sums[q * dim + d]) * factor, sums[d],
                magnitudes[d] * bound * (1 + 0x1p-10) + least)
        << "query " << q << " element " << d;
  }
}

template <class Check>
void ForEachTiledSet(Check check) {
  for (const KernelSet* set : AllKernelSets()) {
    EXPECT_EQ(BatchInvariant(*set).tiled_attention, nullptr) << set->name;
    if (!set->usable() || set->tiled_attention == nullptr) continue;
    SCOPED_TRACE(set->name);
    check(*set);
  }
}

/// Calls check(problem) for ragged and usual shapes.
template <class Check>
void ForEachProblem(std::mt19937& random, Check check) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0}) {
    const std::vector<std::pair<int64_t, int64_t>> dims =
        type == DType::kQ8_0 ? std::vector<std::pair<int64_t, int64_t>>{{64, 64}, {160, 96}}
                             : std::vector<std::pair<int64_t, int64_t>>{
                                   {1, 1}, {7, 17}, {33, 47}, {64, 64}, {128, 128}, {192, 160}};
    for (const auto& [key_dim, value_dim] : dims) {
      for (const auto& [rows, count] : std::vector<std::pair<int64_t, int64_t>>{
               {1, 1}, {3, 15}, {33, 17}, {129, 33}, {160, 8}, {255, 48}, {256, 128}}) {
        if (rows * key_dim > 160 * 128 && type != DType::kF32) continue;  // Emulated, it is slow.
        SCOPED_TRACE(std::string(NameOf(type)) + " dims " + std::to_string(key_dim) + " " +
                     std::to_string(value_dim) + " rows " + std::to_string(rows) + " queries " +
                     std::to_string(count));
        check(Problem(type, key_dim, value_dim, rows, count, random));
      }
    }
  }
}

TEST(TiledAttention, IsTheFormula) {
  std::mt19937 random(1);
  ForEachTiledSet([&](const KernelSet& set) {
    ForEachProblem(random, [&](Problem problem) {
      for (const float scale : {0.125f, -3.0f}) {
        problem.scale = scale;
        const Results got = Attend(set, problem, 0, problem.count, problem.rows);
        for (int64_t q = 0; q < problem.count; ++q)
          ExpectFormula(set, problem, got, static_cast<size_t>(q));
      }
    });
  });
}

TEST(TiledAttention, OtherQueriesAndRowsThatAreNotSeenLeaveEveryBitAlone) {
  std::mt19937 random(2);
  ForEachTiledSet([&](const KernelSet& set) {
    ForEachProblem(random, [&](const Problem& problem) {
      const Results all = Attend(set, problem, 0, problem.count, problem.rows);
      const auto same = [&](int64_t first, int64_t count, int64_t rows) {
        const Results some = Attend(set, problem, first, count, rows);
        for (int64_t q = 0; q < count; ++q) {
          const auto to = static_cast<size_t>(q), from = static_cast<size_t>(first + q);
          ASSERT_EQ(some.maxima[to], all.maxima[from]);
          ASSERT_EQ(some.totals[to], all.totals[from]);
          const auto dim = static_cast<size_t>(problem.value_dim);
          ASSERT_EQ(std::memcmp(some.sums.data() + to * dim, all.sums.data() + from * dim,
                                dim * sizeof(float)),
                    0)
              << "query " << from << " of " << count << " from " << first;
        }
      };
      if (problem.key_dim > 64) return;
      for (int64_t first = 0; first < problem.count; first = 3 * first + 5) {
        const int64_t count = std::max<int64_t>(1, (problem.count - first) / 2);
        const auto end = problem.end.begin() + first;
        same(first, 1, std::max(1, *end));
        same(first, count, std::max(1, *std::max_element(end, end + count)));
      }
    });
  });
}

// One key's score is so far above the others that nothing is left of these; then a score is no
// number, which must show.
TEST(TiledAttention, ExtremeScores) {
  std::mt19937 random(3);
  ForEachTiledSet([&](const KernelSet& set) {
    Problem problem(DType::kF32, 64, 64, 200, 20, random);
    for (auto& query : problem.queries) std::fill(query.begin(), query.end(), 1.0f);
    const auto set_keys = [&](size_t row, float value) {
      for (size_t d = 0; d < 64; ++d)
        std::memcpy(problem.stored_keys[row].data() + 4 * d, &value, 4);
    };
    for (size_t row = 0; row < 200; ++row) set_keys(row, row % 2 == 0 ? -1e30f : -50.0f);
    set_keys(130, 1000);
    problem.scale = 1;
    Results got = Attend(set, problem, 0, 20, 200);
    for (size_t q = 4; q < 20; q += 5) {  // Those see all.
      EXPECT_NEAR(static_cast<double>(got.maxima[q]), 64000,
                  64000 * (ProductError(set) + Additions(64) + 4 * kUnit));
      EXPECT_EQ(got.totals[q], 1);
      for (size_t d = 0; d < 64; ++d) {
        const auto value = static_cast<double>(problem.values[130][d]);
        EXPECT_NEAR(static_cast<double>(got.sums[q * 64 + d]), value,
                    std::fabs(value) * 0x1p-17 + 1e-30);
      }
    }
    set_keys(7, std::nanf(""));
    got = Attend(set, problem, 0, 20, 200);
    for (size_t q = 0; q < 20; ++q) EXPECT_EQ(std::isnan(got.totals[q]), q % 5 == 4) << q;
  });
}

}  // namespace
}  // namespace moxie
