#include "kernels/kernel_set.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/half.h"

namespace moxie {
namespace {

TEST(KernelSets, ScalarIsFirstAndUsable) {
  ASSERT_FALSE(AllKernelSets().empty());
  EXPECT_EQ(AllKernelSets()[0]->name, "scalar");
  EXPECT_TRUE(AllKernelSets()[0]->usable());
  EXPECT_EQ(FindKernelSet("scalar"), AllKernelSets()[0]);
  EXPECT_EQ(FindKernelSet("sse1"), nullptr);
  EXPECT_TRUE(BestKernelSet().usable());
}

// Says which sets the other tests run here. kernels_emulated_test runs all of them.
TEST(KernelSets, AllAreUsable) {
  std::string missing;
  for (const KernelSet* set : AllKernelSets()) {
    if (!set->usable()) missing += " " + std::string(set->name);
  }
  if (!missing.empty()) GTEST_SKIP() << "this machine lacks" << missing;
}

TEST(KernelSets, ScalarMatmulIsTheFormula) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const KernelSet& set = *FindKernelSet("scalar");
  for (const auto& [rows, cols, tokens] :
       std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {3, 15, 2}, {3, 17, 33}, {8, 4096, 5}}) {
    std::vector<uint16_t> w(static_cast<size_t>(rows * cols));
    std::vector<float> x(static_cast<size_t>(tokens * cols));
    for (auto& v : w) v = FloatToHalf(normal(random));
    for (auto& v : x) v = normal(random);
    std::vector<float> out(static_cast<size_t>(tokens * rows));
    const WeightMatrix weights{.type = DType::kF16,
                               .rows = rows,
                               .cols = cols,
                               .row_stride = cols * 2,
                               .data = reinterpret_cast<const std::byte*>(w.data())};
    const ActivationFormat format = set.activation_format(DType::kF16, cols, tokens);
    ASSERT_EQ(format.BytesOf(tokens), tokens * cols * 4);
    set.matmul(format, weights, 0, rows, reinterpret_cast<const std::byte*>(x.data()), tokens,
               out.data(), rows);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t r = 0; r < rows; ++r) {
        double want = 0;
        double magnitude = 0;
        for (int64_t c = 0; c < cols; ++c) {
          const double term =
              static_cast<double>(HalfToFloat(w[static_cast<size_t>(r * cols + c)])) *
              static_cast<double>(x[static_cast<size_t>(t * cols + c)]);
          want += term;
          magnitude += std::fabs(term);
        }
        // 16 products and additions in a row in float32, the rest in float64, one rounding.
        EXPECT_NEAR(out[static_cast<size_t>(t * rows + r)], want, 18 * 0x1p-24 * magnitude);
      }
    }
  }
}

}  // namespace
}  // namespace moxie
