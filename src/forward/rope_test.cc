#include "forward/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace moxie {
namespace {

/// Relative error allowed: a few roundings of float32.
void ExpectFrequencies(const RopeConfig& config, const std::vector<float>& want) {
  const std::vector<float> got = RopeFrequencies(config);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 4e-7f * want[i]) << i;
}

TEST(Rope, FrequenciesAreThoseOfThePaper) {
  const std::vector<float> got =
      RopeFrequencies({.dims = 12, .base = 1e6, .frequency_factors = {}});
  // The exponent is rounded to float32, and so is what follows.
  const double allowed = std::log(1e6) * 0x1p-25 + 0x1p-23;
  for (size_t i = 0; i < got.size(); ++i) {
    const double want = std::pow(1e6, -2.0 * static_cast<double>(i) / 12);
    EXPECT_NEAR(static_cast<double>(got[i]), want, allowed * want);
  }
}

// Hugging Face's ROPE_INIT_FUNCTIONS (transformers 5.23) for the same settings.
TEST(Rope, ScalingsAgreeWithThePublishedCode) {
  ExpectFrequencies(
      {.dims = 10,
       .base = 1e4,
       .scaling = RopeScaling::kLinear,
       .factor = 2.5,
       .frequency_factors = {}},
      {0x1.99999ap-2f, 0x1.03ab3cp-4f, 0x1.493cecp-7f, 0x1.a1720cp-10f, 0x1.08a486p-12f});
  ExpectFrequencies(
      {.dims = 32,
       .base = 5e5,
       .scaling = RopeScaling::kLlama3,
       .factor = 8,
       .original_context = 8192,
       .low_frequency_factor = 1,
       .high_frequency_factor = 4,
       .frequency_factors = {}},
      {0x1.0p+0f, 0x1.c2ef78p-2f, 0x1.8d2760p-3f, 0x1.5dc95ap-4f, 0x1.341190p-5f, 0x1.0f5386p-6f,
       0x1.ddee9ep-8f, 0x1.a4ee40p-9f, 0x1.132ba4p-11f, 0x1.46831ap-14f, 0x1.1f91f0p-15f,
       0x1.fa8b86p-17f, 0x1.be2188p-18f, 0x1.88ec20p-19f, 0x1.5a0f4ep-20f, 0x1.30c94ep-21f});
  ExpectFrequencies(
      {.dims = 32,
       .base = 150000,
       .scaling = RopeScaling::kYarn,
       .factor = 32,
       .original_context = 4096,
       .truncate = false,
       .frequency_factors = {}},
      {0x1.0p+0f, 0x1.e62d44p-2f, 0x1.cda7f4p-3f, 0x1.b65f3ep-4f, 0x1.a04328p-5f, 0x1.3cc8dep-6f,
       0x1.bd5080p-8f, 0x1.127006p-9f, 0x1.dea878p-12f, 0x1.415b8cp-15f, 0x1.312650p-16f,
       0x1.21c258p-17f, 0x1.132518p-18f, 0x1.05448ap-19f, 0x1.f02e50p-21f, 0x1.d727d6p-22f});
  ExpectFrequencies({.dims = 16,
                     .base = 1e4,
                     .scaling = RopeScaling::kYarn,
                     .factor = 40,
                     .original_context = 4096,
                     .frequency_factors = {}},
                    {0x1.0p+0f, 0x1.43d136p-2f, 0x1.99999ap-4f, 0x1.87d1a0p-6f, 0x1.4fdf3ap-8f,
                     0x1.bd9292p-11f, 0x1.a36e2ep-16f, 0x1.094566p-17f});
}

TEST(Rope, FrequencyFactorsDivide) {
  const RopeConfig plain{.dims = 4, .base = 100, .frequency_factors = {}};
  RopeConfig divided = plain;
  divided.frequency_factors = {1, 8};
  EXPECT_EQ(RopeFrequencies(divided)[0], RopeFrequencies(plain)[0]);
  EXPECT_EQ(RopeFrequencies(divided)[1], RopeFrequencies(plain)[1] / 8);
}

// A pair turns as a complex number: x' = x e^(i m theta), arXiv:2104.09864, equation 13.
TEST(Rope, RotatesPairsOfEitherLayoutAndLeavesTheRest) {
  constexpr int64_t kDims = 6;
  const int64_t positions[] = {0, 1, 70};
  for (const RopeLayout layout : {RopeLayout::kHalf, RopeLayout::kInterleaved}) {
    const RopeConfig config{.dims = kDims,
                            .base = 50,
                            .layout = layout,
                            .attention_factor = 1.5,
                            .frequency_factors = {}};
    Rope rope(config, 3);
    rope.Prepare(positions);
    for (int64_t t = 0; t < 3; ++t) {
      std::vector<float> head = {1, -2, 3, 0.5f, 7, -4, 11, 13};
      const std::vector<float> before = head;
      rope.Rotate(t, head.data());
      for (size_t i = 0; i < kDims / 2; ++i) {
        const size_t a = layout == RopeLayout::kHalf ? i : 2 * i;
        const size_t b = layout == RopeLayout::kHalf ? i + kDims / 2 : 2 * i + 1;
        const double angle = static_cast<double>(positions[t]) *
                             std::pow(50.0, -2.0 * static_cast<double>(i) / kDims);
        const auto x = static_cast<double>(before[a]), y = static_cast<double>(before[b]);
        EXPECT_NEAR(head[a], 1.5 * (x * std::cos(angle) - y * std::sin(angle)), 2e-4);
        EXPECT_NEAR(head[b], 1.5 * (x * std::sin(angle) + y * std::cos(angle)), 2e-4);
      }
      EXPECT_EQ(head[6], 11);
      EXPECT_EQ(head[7], 13);
    }
  }
}

}  // namespace
}  // namespace moxie
