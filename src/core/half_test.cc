#include "core/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace moxie {
namespace {

// The definitions, straight from IEEE 754-2008 section 3.4: a sign bit, then `exponent` and
// `mantissa` bits. Computed in double, which holds every value of both formats.
double ValueOf(uint32_t bits, int exponent_bits, int mantissa_bits) {
  const double sign = (bits >> (exponent_bits + mantissa_bits)) & 1u ? -1.0 : 1.0;
  const int exponent = static_cast<int>((bits >> mantissa_bits) & ((1u << exponent_bits) - 1));
  const double fraction =
      std::ldexp(static_cast<double>(bits & ((1u << mantissa_bits) - 1)), -mantissa_bits);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == 2 * bias + 1) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  return exponent == 0 ? sign * std::ldexp(fraction, 1 - bias)
                       : sign * std::ldexp(1 + fraction, exponent - bias);
}

struct Format {
  int exponent_bits;
  int mantissa_bits;
  uint32_t infinity;
  float (*widen)(uint16_t);
  uint16_t (*narrow)(float);
};

constexpr Format kHalf = {5, 10, 0x7c00, HalfToFloat, FloatToHalf};
constexpr Format kBfloat16 = {8, 7, 0x7f80, Bfloat16ToFloat, FloatToBfloat16};

void ExpectAllBitsWiden(const Format& format) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float got = format.widen(static_cast<uint16_t>(bits));
    const double want = ValueOf(bits, format.exponent_bits, format.mantissa_bits);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got)) << bits;
      ASSERT_TRUE(std::isnan(format.widen(format.narrow(got)))) << bits;
      continue;
    }
    ASSERT_EQ(static_cast<double>(got), want) << bits;
    ASSERT_EQ(std::signbit(got), bits >= 0x8000) << bits;
    ASSERT_EQ(format.narrow(got), bits);
  }
}

// Between two neighbours of the format, floats below the midpoint go down, above it up, and the
// midpoint to the even one. Past the greatest finite number the neighbour is 2^(its exponent + 1).
void ExpectNarrowingRoundsToNearestEven(const Format& format) {
  for (uint32_t sign : {0u, 0x8000u}) {
    for (uint32_t low = 0; low < format.infinity; ++low) {
      const double below = ValueOf(low, format.exponent_bits, format.mantissa_bits);
      const double step =
          low + 1 < format.infinity
              ? ValueOf(low + 1, format.exponent_bits, format.mantissa_bits) - below
              : below - ValueOf(low - 1, format.exponent_bits, format.mantissa_bits);
      const auto middle = static_cast<float>(below + step / 2);
      ASSERT_EQ(static_cast<double>(middle), below + step / 2) << low;
      const float factor = sign != 0 ? -1.0f : 1.0f;
      const float inf = std::numeric_limits<float>::infinity();
      ASSERT_EQ(format.narrow(factor * std::nextafter(middle, 0.0f)), sign | low);
      ASSERT_EQ(format.narrow(factor * middle), sign | (low + (low & 1u)));
      ASSERT_EQ(format.narrow(factor * std::nextafter(middle, inf)), sign | (low + 1));
    }
    ASSERT_EQ(format.narrow(sign != 0 ? -INFINITY : INFINITY), sign | format.infinity);
  }
}

TEST(Half, AllBitsWidenExactlyAndComeBack) { ExpectAllBitsWiden(kHalf); }
TEST(Half, NarrowingRoundsToNearestEven) { ExpectNarrowingRoundsToNearestEven(kHalf); }
TEST(Bfloat16, AllBitsWidenExactlyAndComeBack) { ExpectAllBitsWiden(kBfloat16); }
TEST(Bfloat16, NarrowingRoundsToNearestEven) { ExpectNarrowingRoundsToNearestEven(kBfloat16); }

}  // namespace
}  // namespace moxie
