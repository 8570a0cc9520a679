#include "quant/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/half.h"
#include "quant/codebooks.h"
#include "quant/dequantize.h"

namespace moxie {
namespace {

using Floats = std::vector<float>;

constexpr DType kSearched[] = {DType::kQ4_0, DType::kQ4_1,   DType::kQ5_0,   DType::kQ5_1,
                               DType::kQ2_K, DType::kQ3_K,   DType::kQ4_K,   DType::kQ5_K,
                               DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4,
                               DType::kQ8_0, DType::kTQ1_0,  DType::kTQ2_0};

Floats RoundTrip(DType type, const Floats& x, const Floats* importance = nullptr) {
  const auto elements = static_cast<int64_t>(x.size());
  std::vector<std::byte> bytes(static_cast<size_t>(*BytesOf(type, elements)));
  Quantize(type, x.data(), elements, importance != nullptr ? importance->data() : nullptr,
           bytes.data());
  Floats out(x.size());
  Dequantize(type, bytes.data(), elements, out.data());
  return out;
}

double ErrorOf(const Floats& x, const Floats& y, const Floats* importance = nullptr) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double weight = importance != nullptr ? (*importance)[i] : 1;
    sum += weight * (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
  }
  return sum;
}

Floats Normal(size_t count, uint32_t seed, float mean = 0, float deviation = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(mean, deviation);
  Floats x(count);
  for (float& value : x) value = normal(generator);
  return x;
}

Floats Importances(size_t count, uint32_t seed) {
  Floats weights = Normal(count, seed);
  for (float& weight : weights) weight = weight * weight + 0.01f;
  return weights;
}

Floats Integers(int lowest, int highest) {
  Floats values;
  for (int value = lowest; value <= highest; ++value) values.push_back(static_cast<float>(value));
  return values;
}

// The least error of elements [begin, end) of x when each takes the nearest of scale * value +
// base.
double NearestError(const Floats& x, const Floats& weights, size_t begin, size_t end,
                    const Floats& values, double scale, double base) {
  double sum = 0;
  for (size_t i = begin; i < end; ++i) {
    double least = std::numeric_limits<double>::infinity();
    for (float value : values) least = std::min(least, std::abs(x[i] - scale * value - base));
    sum += weights[i] * least * least;
  }
  return sum;
}

// Every finite half-precision scale is tried.
double LeastErrorOfAllHalves(const Floats& x, const Floats& weights, const Floats& values) {
  double least = std::numeric_limits<double>::infinity();
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float scale = HalfToFloat(static_cast<uint16_t>(bits));
    // Scales far from those that could cover the elements cannot win.
    if (!std::isfinite(scale) || std::abs(scale) < 1e-3f || std::abs(scale) > 8) continue;
    least = std::min(least, NearestError(x, weights, 0, x.size(), values, scale, 0));
  }
  return least;
}

struct ScaledFormat {
  DType type;
  Floats values;
};

std::vector<ScaledFormat> ScaledFormats() {
  return {{DType::kQ4_0, Integers(-8, 7)},
          {DType::kQ5_0, Integers(-16, 15)},
          {DType::kIQ4_NL, Floats(kIq4Values.begin(), kIq4Values.end())}};
}

TEST(Quantize, FindsTheBestScaleOfAll) {
  for (const ScaledFormat& format : ScaledFormats()) {
    SCOPED_TRACE(NameOf(format.type));
    double found = 0;
    double least = 0;
    for (uint32_t seed = 0; seed < 12; ++seed) {
      const Floats x = Normal(32, seed);
      const Floats weights = seed % 2 == 0 ? Floats(32, 1.0f) : Importances(32, 100 + seed);
      found += ErrorOf(x, RoundTrip(format.type, x, &weights), &weights);
      least += LeastErrorOfAllHalves(x, weights, format.values);
    }
    EXPECT_GE(found, least * (1 - 1e-5));
    EXPECT_LE(found, least * 1.01);
  }
}

// Where no importance is given, an element at 3.4 times the root mean square of its block counts
// twice, and further ones by the sixth power.
TEST(Quantize, CountsOutliersMoreWhereNoImportanceIsGiven) {
  for (const ScaledFormat& format : ScaledFormats()) {
    SCOPED_TRACE(NameOf(format.type));
    double found = 0;
    double least = 0;
    for (uint32_t seed = 0; seed < 12; ++seed) {
      Floats x = Normal(32, seed);
      x[seed] *= 20;
      double squares = 0;
      for (const float value : x) squares += double{value} * value;
      Floats weights;
      for (const float value : x) {
        const double ratio = value / std::sqrt(squares / 32) / 3.4;
        weights.push_back(static_cast<float>(1 + std::pow(ratio, 6)));
      }
      found += ErrorOf(x, RoundTrip(format.type, x), &weights);
      least += LeastErrorOfAllHalves(x, weights, format.values);
    }
    EXPECT_LE(found, least * 1.03);
  }
}

TEST(Quantize, FindsTheBestTernaryScale) {
  const Floats x = Normal(256, 5);
  const Floats weights(256, 1.0f);
  const double least = LeastErrorOfAllHalves(x, weights, Integers(-1, 1));
  for (DType type : {DType::kTQ1_0, DType::kTQ2_0}) {
    EXPECT_LE(ErrorOf(x, RoundTrip(type, x)), least * 1.001) << NameOf(type);
  }
}

TEST(Quantize, FindsTheBestPowerOfTwo) {
  const Floats values(kMxfp4Values.begin(), kMxfp4Values.end());
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const Floats x = Normal(32, seed, 0, std::ldexp(1.0f, static_cast<int>(seed) - 20));
    const Floats weights(32, 1.0f);
    double least = std::numeric_limits<double>::infinity();
    for (int e = 0; e < 254; ++e) {
      least = std::min(least, NearestError(x, weights, 0, 32, values, std::ldexp(1.0, e - 128), 0));
    }
    EXPECT_LE(ErrorOf(x, RoundTrip(DType::kMXFP4, x)), least * (1 + 1e-6)) << seed;
  }
}

// A fine grid of scales and offsets around those that just cover the elements.
TEST(Quantize, FindsTheBestScaleAndOffset) {
  for (int highest : {15, 31}) {
    const DType type = highest == 15 ? DType::kQ4_1 : DType::kQ5_1;
    SCOPED_TRACE(NameOf(type));
    double found = 0;
    double least = 0;
    for (uint32_t seed = 0; seed < 8; ++seed) {
      const Floats x = Normal(32, seed, 0.5f);
      const Floats weights = seed % 2 == 0 ? Floats(32, 1.0f) : Importances(32, 100 + seed);
      const auto [low, high] = std::minmax_element(x.begin(), x.end());
      const double step = double{*high - *low} / highest;
      double best = std::numeric_limits<double>::infinity();
      for (int s = -40; s <= 40; ++s) {
        const double scale = step * (1 + 0.1 * s / highest);
        for (int m = -40; m <= 40; ++m) {
          const double base = *low + step * 0.05 * m;
          best = std::min(best, NearestError(x, weights, 0, 32, Integers(0, highest), scale, base));
        }
      }
      found += ErrorOf(x, RoundTrip(type, x, &weights), &weights);
      least += best;
    }
    EXPECT_LE(found, least * 1.05);
  }
}

// For each of several common scales, the best integer of every group, by trying them all.
double LeastErrorOfSuperScales(const Floats& x, const Floats& weights, size_t group,
                               const Floats& values, int lowest, int highest) {
  double extreme = 0;
  for (float value : x) extreme = std::max(extreme, std::abs(double{value}));
  double least = std::numeric_limits<double>::infinity();
  for (int k = -4; k <= 4; ++k) {
    const double d = extreme / (std::abs(double{values.front()}) * -lowest) * (1 + 0.04 * k);
    double total = 0;
    for (size_t begin = 0; begin < x.size(); begin += group) {
      double best = std::numeric_limits<double>::infinity();
      for (int scale = lowest; scale <= highest; ++scale) {
        best = std::min(best, NearestError(x, weights, begin, begin + group, values, d * scale, 0));
      }
      total += best;
    }
    least = std::min(least, total);
  }
  return least;
}

TEST(Quantize, SuperBlocksOfScalesComeCloseToTheBest) {
  struct Format {
    DType type;
    size_t group;
    Floats values;
    int lowest;
    int highest;
  };
  const Format formats[] = {
      {DType::kQ3_K, 16, Integers(-4, 3), -32, 31},
      {DType::kQ6_K, 16, Integers(-32, 31), -128, 127},
      {DType::kIQ4_XS, 32, Floats(kIq4Values.begin(), kIq4Values.end()), -32, 31}};
  for (const Format& format : formats) {
    SCOPED_TRACE(NameOf(format.type));
    const Floats x = Normal(256, 11);
    for (const Floats& weights : {Floats(256, 1.0f), Importances(256, 12)}) {
      const double found = ErrorOf(x, RoundTrip(format.type, x, &weights), &weights);
      const double least = LeastErrorOfSuperScales(x, weights, format.group, format.values,
                                                   format.lowest, format.highest);
      EXPECT_LE(found, least * 1.05);
    }
  }
}

// The same for scales and offsets: all pairs of integers for each group.
TEST(Quantize, SuperBlocksOfLinesComeCloseToTheBest) {
  struct Format {
    DType type;
    size_t group;
    int highest_code;
    int highest_scale;
  };
  for (const Format& format : {Format{DType::kQ2_K, 16, 3, 15}, Format{DType::kQ4_K, 32, 15, 63},
                               Format{DType::kQ5_K, 32, 31, 63}}) {
    SCOPED_TRACE(NameOf(format.type));
    const Floats x = Normal(256, 21);
    const Floats weights(256, 1.0f);
    const auto [low, high] = std::minmax_element(x.begin(), x.end());
    const double d = double{*high - *low} / (format.highest_code * format.highest_scale);
    const double dmin = -double{*low} / format.highest_scale;
    double least = 0;
    for (size_t begin = 0; begin < 256; begin += format.group) {
      double best = std::numeric_limits<double>::infinity();
      for (int s = 0; s <= format.highest_scale; ++s) {
        for (int m = 0; m <= format.highest_scale; ++m) {
          best = std::min(best, NearestError(x, weights, begin, begin + format.group,
                                             Integers(0, format.highest_code), d * s, -dmin * m));
        }
      }
      least += best;
    }
    EXPECT_LE(ErrorOf(x, RoundTrip(format.type, x)), least * 1.05);
  }
}

TEST(Quantize, WhatWasDecodedEncodesToItself) {
  for (DType type : kSearched) {
    SCOPED_TRACE(NameOf(type));
    const Floats x = Normal(1024, 31, 0.1f);
    const Floats once = RoundTrip(type, x);
    const Floats twice = RoundTrip(type, once);
    // A scale alone has one encoding. A line whose codes do not reach both ends may come back one
    // code higher, its offset rounded anew; a super-block has many encodings of nearly the same.
    const bool super_block = type == DType::kQ2_K || type == DType::kQ3_K || type == DType::kQ4_K ||
                             type == DType::kQ5_K || type == DType::kQ6_K || type == DType::kIQ4_XS;
    const bool line = type == DType::kQ4_1 || type == DType::kQ5_1;
    const double allowed = super_block ? 0.1 : line ? 1e-4 : 0;
    EXPECT_LE(ErrorOf(once, twice), allowed * ErrorOf(x, once));
  }
}

TEST(Quantize, ZeroWeightElementsDoNotCount) {
  for (DType type : kSearched) {
    SCOPED_TRACE(NameOf(type));
    Floats x = Normal(256, 41);
    Floats weights(256, 1.0f);
    const double plain = ErrorOf(x, RoundTrip(type, x, &weights));
    x[7] = x[100] = 1000;
    weights[7] = weights[100] = 0;
    EXPECT_LE(ErrorOf(x, RoundTrip(type, x, &weights), &weights), plain * 1.1);
  }
}

TEST(Quantize, FiniteStaysFiniteAndNearlyRight) {
  const float largest = std::numeric_limits<float>::max();
  const float values[] = {0, -0.0f,  1e-45f, -1e-38f, 1e-8f, 6e-8f, -1e-5f,  1e-3f,
                          1, -70000, 1e6f,   -3e7f,   1e10f, 1e20f, largest, -largest};
  for (DType type : kSearched) {
    for (float first : values) {
      for (float second : values) {
        Floats x(256, second);
        for (size_t i = 0; i < x.size(); i += 3) x[i] = first;
        for (float y : RoundTrip(type, x)) {
          ASSERT_TRUE(std::isfinite(y)) << NameOf(type) << " of " << first << ", " << second;
        }
      }
    }
    EXPECT_EQ(RoundTrip(type, Floats(256, 0.0f)), Floats(256, 0.0f)) << NameOf(type);
    // Small enough for the scale to be subnormal, yet many steps of it.
    const Floats small = Normal(256, 51, 0, 1e-4f);
    const Floats large = Normal(256, 51, 0, 1);
    EXPECT_LE(ErrorOf(small, RoundTrip(type, small)),
              1.5e-8 * ErrorOf(large, RoundTrip(type, large)))
        << NameOf(type);
  }
}

// No number in, whatever out, but no undefined behaviour: the sanitizers look on.
TEST(Quantize, TakesInfinitiesAndNaN) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (DType type : kSearched) {
    for (float value : {inf, -inf, nan}) {
      Floats x = Normal(256, 61);
      x[3] = x[200] = value;
      Floats weights(256, 1.0f);
      weights[5] = value;
      weights[6] = -1;
      for (float y : RoundTrip(type, x, &weights)) EXPECT_TRUE(std::isfinite(y)) << NameOf(type);
      RoundTrip(type, x);
    }
  }
}

TEST(Quantize, SixteenBitFloatsRoundAndSaturate) {
  const float inf = std::numeric_limits<float>::infinity();
  const Floats x = {1.0f / 3, 70000, -1e30f, inf, -inf, 0x1.fffffep127f, 0x1p-24f, -0.0f};
  EXPECT_EQ(RoundTrip(DType::kF32, x), x);
  EXPECT_EQ(RoundTrip(DType::kF16, x),
            (Floats{0x1.554p-2f, 65504, -65504, inf, -inf, 65504, 0x1p-24f, 0}));
  EXPECT_EQ(RoundTrip(DType::kBF16, x),
            (Floats{0x1.56p-2f, 0x1.12p16f, -0x1.94p99f, inf, -inf, 0x1.fep127f, 0x1p-24f, 0}));
}

TEST(Quantize, SaysWhatItCanWrite) {
  for (DType type : kSearched) EXPECT_TRUE(CanQuantize(type));
  for (DType type : {DType::kF32, DType::kF16, DType::kBF16}) EXPECT_TRUE(CanQuantize(type));
  for (DType type : {DType::kIQ1_S, DType::kIQ2_XXS, DType::kI8, DType::kF64}) {
    EXPECT_FALSE(CanQuantize(type));
  }
}

// However many blocks are encoded at once, side by side or the last of a row.
TEST(Quantize, EncodesPiecesOfARowAlike) {
  for (const DType type : kSearched) {
    const auto block = static_cast<size_t>(TraitsOf(type).block_elements);
    const auto bytes = static_cast<size_t>(TraitsOf(type).block_bytes);
    constexpr size_t kBlocks = 35;
    Floats x = Normal(kBlocks * block, 3);
    x[5] = std::numeric_limits<float>::quiet_NaN();
    const Floats weights = Importances(x.size(), 4);
    for (const float* importance : {static_cast<const float*>(nullptr), weights.data()}) {
      std::vector<std::byte> whole(kBlocks * bytes), pieces(whole.size());
      Quantize(type, x.data(), static_cast<int64_t>(x.size()), importance, whole.data());
      for (size_t i = 0; i < kBlocks; ++i) {
        Quantize(type, x.data() + i * block, static_cast<int64_t>(block),
                 importance != nullptr ? importance + i * block : nullptr,
                 pieces.data() + i * bytes);
      }
      EXPECT_EQ(whole, pieces) << NameOf(type);
    }
  }
}

}  // namespace
}  // namespace moxie
