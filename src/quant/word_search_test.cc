#include "quant/word_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "quant/dequantize.h"

namespace moxie::lanes {
namespace {

constexpr int kElements = 32;
using Group = std::vector<float>;

/// Groups of all sizes and shapes: with one or several outliers, sparse ones, and a constant one.
Group RandomGroup(uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Group x(kElements);
  for (float& value : x) value = std::ldexp(normal(random), static_cast<int>(seed % 20) - 12);
  if (seed % 3 == 1) x[random() % kElements] *= 8;
  if (seed % 7 == 2) {
    for (int i = 0; i < 28; ++i) x[random() % kElements] = 0;
  }
  if (seed % 31 == 5) std::ranges::fill(x, -0.25f);
  return x;
}

/// Sixteen groups, side by side.
std::vector<float> SideBySide(uint32_t seed) {
  std::vector<float> batch(kElements * kBatch);
  for (uint32_t g = 0; g < kBatch; ++g) {
    const Group x = RandomGroup(seed * kBatch + g);
    for (size_t i = 0; i < kElements; ++i) batch[i * kBatch + g] = x[i];
  }
  return batch;
}

// ---- Integers ----------------------------------------------------------------------------------

template <int N>
void TestWords() {
  SCOPED_TRACE(N);
  const int corners[] = {-32767, -32766, -16385, -16384, -4096, -2,    -1,    0,
                         1,      3,      16383,  16384,  16385, 32766, 32767, -32768};
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    int16_t a[2 * N], b[2 * N];
    int32_t sums[N];
    for (int k = 0; k < 2 * N; ++k) {
      a[k] = static_cast<int16_t>(round % 2 == 0 ? corners[random() % 16] : random());
      b[k] = static_cast<int16_t>(round % 4 < 2 ? corners[random() % 15] : random());
      if (b[k] == -32768) b[k] = 0;  // Twice that is excluded.
    }
    // As far from zero as the greatest products leave room for.
    for (int32_t& sum : sums) sum = static_cast<int32_t>(random() % 131071) - 65535;
    const auto x = Load<Words<N>>(a), y = Load<Words<N>>(b);
    int16_t products[2 * N], added[2 * N];
    int32_t paired[N];
    Store(products, MultiplyRounded(x, y));
    Store(added, AddSaturated(x, y));
    Store(paired, AddPairs(Load<Ints<N>>(sums), x, y));
    for (int k = 0; k < 2 * N; ++k) {
      ASSERT_EQ(products[k], (a[k] * b[k] + 0x4000) >> 15) << a[k] << " * " << b[k];
      ASSERT_EQ(added[k], std::clamp(a[k] + b[k], -32768, 32767)) << a[k] << " + " << b[k];
    }
    for (int k = 0; k < N; ++k)
      ASSERT_EQ(paired[k], sums[k] + a[2 * k] * b[2 * k] + a[2 * k + 1] * b[2 * k + 1]);
  }
}

TEST(WordSearch, IntegersOfAllWidthsAreExact) {
  TestWords<4>();
  TestWords<8>();
  TestWords<16>();
}

// ---- The twin, in double precision -------------------------------------------------------------

/// What one of the four groups of a WordGroups<4> holds.
struct Read {
  double x[kElements];
  double weight[kElements];
};

Read ReadOf(const WordGroups<4>& groups, int lane) {
  Read read = {};
  for (int j = 0; j < kPairs; ++j) {
    int16_t x[8], weight[8];
    Store(x, groups.x[j]);
    Store(weight, groups.weight[j]);
    for (const int half : {0, 1}) {
      const int element = half == 0 ? FirstOfPair(j) : SecondOfPair(j);
      read.x[element] = x[2 * lane + half];
      read.weight[element] = weight[2 * lane + half] / 64.0;
    }
  }
  return read;
}

double NearestOf(double ratio) { return std::clamp(std::floor(ratio + 0.5), -8.0, 7.0); }

/// The weighed error of a scale with every element at its nearest code.
double ErrorOf(const Read& group, double scale) {
  double sum = 0;
  for (int i = 0; i < kElements; ++i) {
    const double code = scale != 0 ? NearestOf(group.x[i] / scale) : 0;
    sum += group.weight[i] * std::pow(group.x[i] - scale * code, 2);
  }
  return sum;
}

/// The best of the four starts' least-squares scales.
double FitOf(const Read& group) {
  double best = 0, most = 0;
  for (const float start : kWordStarts) {
    double xv = 0, vv = 0;
    for (int i = 0; i < kElements; ++i) {
      const double code = NearestOf(group.x[i] / kWordRange * start);
      xv += group.weight[i] * code * group.x[i];
      vv += group.weight[i] * code * code;
    }
    if (vv > 0 && xv * xv / vv > most) {
      most = xv * xv / vv;
      best = xv / vv;
    }
  }
  return best;
}

TEST(WordSearch, NearestCodesAreThoseOfTheNumbers) {
  for (const float start : kWordStarts) {
    for (int x = -32767; x <= 32767; ++x) {
      const Words<4> code = NearestOfWords(Words<4>{} + static_cast<int16_t>(x),
                                           Words<4>{} + static_cast<int16_t>(start * 2048));
      // Products are rounded to 4096ths of a code, and of 2^15 instead of 32767.
      const double exact = std::clamp(double{start} * x / kWordRange, -8.0, 7.0);
      ASSERT_LE(std::abs(code[0] - exact), 0.5 + 1.0 / 4096 + start / kWordRange) << x;
    }
  }
}

TEST(WordSearch, ReadsElementsAndWeighsThemAsFloatsAreWeighed) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const std::vector<float> batch = SideBySide(seed);
    for (int first = 0; first < kBatch; first += 4) {
      WordGroups<4> groups;
      ReadWords<4>(batch.data() + first, groups);
      for (int lane = 0; lane < 4; ++lane) {
        const Read read = ReadOf(groups, lane);
        double squares = 0, extreme = 0;
        for (const double x : read.x) {
          squares += x * x;
          extreme = std::max(extreme, std::abs(x));
        }
        EXPECT_EQ(extreme, kWordRange);
        for (int i = 0; i < kElements; ++i) {
          const double x = batch[static_cast<size_t>(i * kBatch + first + lane)];
          // Half a step, and the rounding of the quotient and the product.
          EXPECT_NEAR(read.x[i], x / groups.step[lane], 0.5 + 4 * 0x1p-24 * kWordRange);
          // Squares and their ratio, to 2^-12, the ratio's square, to 2^-9, and its cube, to 2^-6,
          // are rounded in turn; the inverse is cut to an integer.
          const double r = read.x[i] * read.x[i] / (squares / 32) / (3.4 * 3.4);
          const double bound =
              3 * (r + 0.001) * (r + 0.001) * 1.7 / 4096 + (r + 0.001) * 0.5 / 512 + 0.5 / 64;
          EXPECT_NEAR(read.weight[i], 1 + r * r * r, bound) << r;
        }
      }
    }
  }
}

TEST(WordSearch, FindsTheScaleThatDoublesFind) {
  int groups_seen = 0, equal = 0;
  for (uint32_t seed = 0; seed < 100; ++seed) {
    const std::vector<float> batch = SideBySide(seed);
    for (int first = 0; first < kBatch; first += 4) {
      WordGroups<4> groups;
      ReadWords<4>(batch.data() + first, groups);
      const Floats<4> scales = FitWords<4>(groups);
      for (int lane = 0; lane < 4; ++lane) {
        const Read read = ReadOf(groups, lane);
        const double scale = scales[lane] / groups.step[lane];
        const double twin = FitOf(read);
        EXPECT_LE(ErrorOf(read, scale), 1.02 * ErrorOf(read, twin) + 1e-3) << seed;
        ++groups_seen;
        equal += std::abs(scale - twin) <= 1e-6 * std::abs(twin) ? 1 : 0;
      }
    }
  }
  // One of 32 elements is within a 2000th of a tie, from which codes may differ, in 3 % of groups.
  EXPECT_GE(equal, groups_seen * 95 / 100);
}

TEST(WordSearch, ComesCloseToTheBestOfAllScales) {
  double found = 0, least = 0;
  for (uint32_t seed = 0; seed < 16; ++seed) {
    const std::vector<float> batch = SideBySide(seed);
    WordGroups<4> groups;
    ReadWords<4>(batch.data(), groups);
    const Floats<4> scales = FitWords<4>(groups);
    for (int lane = 0; lane < 4; ++lane) {
      const Read read = ReadOf(groups, lane);
      double best = ErrorOf(read, kWordRange);
      for (int k = -2000; k <= 2000; ++k) {
        if (k != 0) best = std::min(best, ErrorOf(read, kWordRange / (k * 0.01)));
      }
      found += ErrorOf(read, scales[lane] / groups.step[lane]);
      least += best;
    }
  }
  EXPECT_GE(found, least * 0.999);
  EXPECT_LE(found, least * 1.025);
}

// ---- Blocks ------------------------------------------------------------------------------------

TEST(WordSearch, BlocksHoldTheNearestCodesWhateverTheNumberOfLanes) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const std::vector<float> batch = SideBySide(seed);
    BlockQ4_0 blocks[kBatch], eight[kBatch], sixteen[kBatch];
    EncodeWordBatch<4>(batch.data(), blocks);
    EncodeWordBatch<8>(batch.data(), eight);
    EncodeWordBatch<16>(batch.data(), sixteen);
    EXPECT_EQ(std::memcmp(blocks, eight, sizeof blocks), 0);
    EXPECT_EQ(std::memcmp(blocks, sixteen, sizeof blocks), 0);
    for (size_t g = 0; g < kBatch; ++g) {
      float decoded[kElements];
      Dequantize(DType::kQ4_0, reinterpret_cast<const std::byte*>(&blocks[g]), kElements, decoded);
      const double d = blocks[g].d.value();
      ASSERT_NE(d, 0);
      for (size_t i = 0; i < kElements; ++i) {
        const double ratio = batch[i * kBatch + g] / d;
        // Beside what NearestCodesAreThoseOfTheNumbers allows, elements are rounded to words.
        const double code = decoded[i] / d;
        EXPECT_LE(std::abs(code - std::clamp(ratio, -8.0, 7.0)), 0.5 + 1e-3) << seed;
      }
    }
  }
}

TEST(WordSearch, GroupsOfZerosAreZeros) {
  std::vector<float> batch = SideBySide(0);
  for (size_t i = 0; i < kElements; ++i) batch[i * kBatch + 3] = i % 2 == 0 ? 0.0f : -0.0f;
  BlockQ4_0 blocks[kBatch];
  EncodeWordBatch<4>(batch.data(), blocks);
  float decoded[kElements];
  Dequantize(DType::kQ4_0, reinterpret_cast<const std::byte*>(&blocks[3]), kElements, decoded);
  for (const float value : decoded) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace moxie::lanes
