#include "quant/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/kernel_set.h"

namespace moxie {
namespace {

constexpr DType kTypes[] = {
    DType::kF16,    DType::kBF16,   DType::kQ4_0,  DType::kQ4_1,  DType::kQ5_0, DType::kQ5_1,
    DType::kQ8_0,   DType::kQ2_K,   DType::kQ3_K,  DType::kQ4_K,  DType::kQ5_K, DType::kQ6_K,
    DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4, DType::kTQ1_0, DType::kTQ2_0};

/// Numbers of many magnitudes; `wild` ones are no numbers, infinite, subnormal or huge here and
/// there, and whole stretches are zero.
std::vector<float> Numbers(size_t count, uint32_t seed, bool wild) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& v : x) v = normal(random);
  if (!wild) return x;
  constexpr float kSpecial[] = {std::numeric_limits<float>::quiet_NaN(),
                                std::numeric_limits<float>::infinity(),
                                -std::numeric_limits<float>::infinity(),
                                std::numeric_limits<float>::max(),
                                std::numeric_limits<float>::denorm_min(),
                                -1e-30f,
                                1e5f,
                                0};
  for (size_t i = 0; i < count; ++i) {
    const auto dice = static_cast<size_t>(random() % 100);
    if (dice < 8) x[i] = kSpecial[dice];
    if (i / 16 % 7 == 3) x[i] *= 1e-8f;
    if (i / 16 % 7 == 5) x[i] = 0;
  }
  return x;
}

// Lanes are groups, so no width rounds otherwise than the portable one.
TEST(QuantizeKernels, WriteTheSameBits) {
  for (const KernelSet* set : AllKernelSets()) {
    if (!set->usable()) continue;
    for (const DType type : kTypes) {
      const int64_t block = TraitsOf(type).block_elements;
      for (const int64_t blocks : {1, 2, 15, 16, 17, 35}) {
        for (uint32_t variant = 0; variant < 4; ++variant) {
          const auto elements = static_cast<size_t>(block * blocks);
          const std::vector<float> x = Numbers(elements, variant, variant % 2 == 1);
          std::vector<float> weights = Numbers(elements, 10 + variant, variant % 2 == 1);
          for (float& w : weights) w = variant % 2 == 1 ? w : w * w;
          const float* const importance = variant < 2 ? nullptr : weights.data();
          const auto bytes =
              static_cast<size_t>(BytesOf(type, static_cast<int64_t>(elements)).value());
          std::vector<std::byte> want(bytes), got(bytes);
          Quantize(type, x.data(), static_cast<int64_t>(elements), importance, want.data());
          set->quantize(type, x.data(), static_cast<int64_t>(elements), importance, got.data());
          ASSERT_EQ(std::memcmp(want.data(), got.data(), bytes), 0)
              << set->name << " " << NameOf(type) << ", " << blocks << " blocks, " << variant;
        }
      }
    }
  }
}

}  // namespace
}  // namespace moxie
