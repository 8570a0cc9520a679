#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/half.h"
#include "kernels/kernel_set.h"
#include "quant/blocks.h"
#include "quant/dequantize.h"

// Norms, exponentials and the two halves of attention: every usable set against float64.

namespace moxie {
namespace {

constexpr double kUnit = 0x1p-24;  // Half a unit in the last place of 1.

std::vector<float> RandomFloats(size_t count, float magnitude, std::mt19937& random) {
  std::uniform_real_distribution<float> uniform(-magnitude, magnitude);
  std::vector<float> values(count);
  for (float& v : values) v = uniform(random);
  return values;
}

template <class Check>
void ForEachUsableSet(Check check) {
  for (const KernelSet* set : AllKernelSets()) {
    if (!set->usable()) continue;
    SCOPED_TRACE(set->name);
    check(*set);
  }
}

TEST(Vectors, RmsNorm) {
  std::mt19937 random(1);
  ForEachUsableSet([&](const KernelSet& set) {
    for (const size_t n : {1, 7, 8, 15, 17, 576, 4096}) {
      for (const float magnitude : {1.0f, 1e-20f, 1e15f}) {
        const std::vector<float> x = RandomFloats(n, magnitude, random);
        const std::vector<float> scale = RandomFloats(n, 2, random);
        std::vector<float> out(n);
        set.rms_norm(x.data(), scale.data(), static_cast<int64_t>(n), 1e-5f, out.data());
        double squares = 0;
        for (const float v : x) squares += static_cast<double>(v) * static_cast<double>(v);
        const double root =
            std::sqrt(squares / static_cast<double>(n) + static_cast<double>(1e-5f));
        for (size_t i = 0; i < n; ++i) {
          const double want = static_cast<double>(x[i]) / root * static_cast<double>(scale[i]);
          // Three roundings: of the factor and of two products.
          ASSERT_NEAR(static_cast<double>(out[i]), want, std::fabs(want) * 3.01 * kUnit + 1e-44);
        }
      }
    }
  });
}

TEST(Vectors, ExpMinusMax) {
  ForEachUsableSet([&](const KernelSet& set) {
    std::vector<float> x;
    for (float v = 0; v > -86; v = v * 1.0003f - 1e-5f) x.push_back(v);
    const std::vector<float> before = x;
    const float sum = set.exp_minus_max(x.data(), static_cast<int64_t>(x.size()), 0.0f);
    double want_sum = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = std::exp(static_cast<double>(before[i]));
      want_sum += static_cast<double>(x[i]);
      ASSERT_NEAR(static_cast<double>(x[i]), want, want * 4 * kUnit) << before[i];  // 2 ulp
    }
    EXPECT_NEAR(static_cast<double>(sum), want_sum, want_sum * 2 * kUnit);
  });
}

TEST(Vectors, ExpMinusMaxOfMaskedAndExtremeScores) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  ForEachUsableSet([&](const KernelSet& set) {
    for (const size_t n : {3, 8, 11}) {
      std::vector<float> x(n, 5.0f);
      x[0] = -kInfinity;
      x[1] = -1e30f;
      EXPECT_EQ(set.exp_minus_max(x.data(), static_cast<int64_t>(n), 5.0f),
                static_cast<float>(n - 2));
      EXPECT_EQ(x[0], 0.0f);
      EXPECT_EQ(x[1], 0.0f);
      EXPECT_EQ(x[n - 1], 1.0f);
      x[2] = std::nanf("");
      EXPECT_TRUE(std::isnan(set.exp_minus_max(x.data(), static_cast<int64_t>(n), 0.0f)));
    }
  });
}

TEST(Vectors, SiluMultiply) {
  std::mt19937 random(2);
  ForEachUsableSet([&](const KernelSet& set) {
    for (const size_t n : {1, 7, 8, 17, 1536}) {
      std::vector<float> gate = RandomFloats(n, 30, random);
      if (n > 8) gate[3] = -1000, gate[4] = 1000;
      const std::vector<float> before = gate;
      const std::vector<float> up = RandomFloats(n, 3, random);
      set.silu_multiply(gate.data(), up.data(), static_cast<int64_t>(n));
      for (size_t i = 0; i < n; ++i) {
        const double g = static_cast<double>(before[i]);
        const double want = g / (1 + std::exp(-g)) * static_cast<double>(up[i]);
        // The exponential's 2 ulp, then a sum, a quotient and a product.
        ASSERT_NEAR(static_cast<double>(gate[i]), want, std::fabs(want) * 8 * kUnit + 1e-35);
      }
    }
  });
}

TEST(Vectors, AddScaled) {
  std::mt19937 random(3);
  ForEachUsableSet([&](const KernelSet& set) {
    for (const size_t n : {1, 7, 8, 17, 576}) {
      const std::vector<float> x = RandomFloats(n, 2, random);
      std::vector<float> y = RandomFloats(n, 2, random);
      const std::vector<float> before = y;
      set.add_scaled(0.3f, x.data(), static_cast<int64_t>(n), y.data());
      for (size_t i = 0; i < n; ++i) {
        const double product = static_cast<double>(0.3f) * static_cast<double>(x[i]);
        const double magnitude = std::fabs(product) + std::fabs(static_cast<double>(before[i]));
        ASSERT_NEAR(static_cast<double>(y[i]), product + static_cast<double>(before[i]),
                    2 * kUnit * magnitude);
      }
    }
  });
}

/// Cache rows of `type`, `stride` bytes apart, and what they decode to.
struct Rows {
  std::vector<std::byte> bytes;
  std::vector<float> decoded;
  int64_t stride = 0;
};

Rows RandomRows(DType type, int64_t rows, int64_t head_dim, std::mt19937& random) {
  Rows result;
  const int64_t row_bytes = *BytesOf(type, head_dim);
  result.stride = row_bytes + 12;
  result.bytes.resize(static_cast<size_t>(rows * result.stride));
  result.decoded.resize(static_cast<size_t>(rows * head_dim));
  const std::vector<float> values = RandomFloats(result.decoded.size(), 1, random);
  for (int64_t r = 0; r < rows; ++r) {
    std::byte* row = result.bytes.data() + r * result.stride;
    for (int64_t d = 0; d < head_dim; ++d) {
      const float value = values[static_cast<size_t>(r * head_dim + d)];
      const uint16_t half = FloatToHalf(type == DType::kF16 ? value : value / 100);
      if (type == DType::kF32) std::memcpy(row + 4 * d, &value, 4);
      if (type == DType::kF16) std::memcpy(row + 2 * d, &half, 2);
      if (type == DType::kQ8_0) {
        std::byte* block = row + d / 32 * 34;
        if (d % 32 == 0) std::memcpy(block, &half, 2);
        block[2 + d % 32] = static_cast<std::byte>(random());
      }
    }
    Dequantize(type, row, head_dim, result.decoded.data() + r * head_dim);
  }
  return result;
}

std::vector<int64_t> HeadDims(DType type) {
  if (type == DType::kQ8_0) return {32, 64, 128, 160};
  return {1, 7, 8, 17, 64, 80, 128, 192};
}

TEST(Vectors, AttentionScores) {
  std::mt19937 random(4);
  ForEachUsableSet([&](const KernelSet& set) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0}) {
      for (const int64_t head_dim : HeadDims(type)) {
        for (const int64_t rows : {1, 3, 33}) {
          const Rows k = RandomRows(type, rows, head_dim, random);
          const std::vector<float> q = RandomFloats(static_cast<size_t>(head_dim), 2, random);
          std::vector<float> scores(static_cast<size_t>(rows));
          set.attention_scores(type, q.data(), k.bytes.data(), k.stride, rows, head_dim, 0.125f,
                               scores.data());
          for (int64_t i = 0; i < rows; ++i) {
            double want = 0;
            double magnitude = 0;
            for (int64_t d = 0; d < head_dim; ++d) {
              const double term =
                  0.125 * static_cast<double>(q[static_cast<size_t>(d)]) *
                  static_cast<double>(k.decoded[static_cast<size_t>(i * head_dim + d)]);
              want += term;
              magnitude += std::fabs(term);
            }
            ASSERT_NEAR(static_cast<double>(scores[static_cast<size_t>(i)]), want,
                        static_cast<double>(head_dim + 2) * kUnit * magnitude)
                << NameOf(type) << " " << head_dim;
          }
        }
      }
    }
  });
}

TEST(Vectors, AttentionValues) {
  std::mt19937 random(5);
  ForEachUsableSet([&](const KernelSet& set) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0}) {
      for (const int64_t head_dim : HeadDims(type)) {
        for (const int64_t rows : {1, 3, 33}) {
          const Rows v = RandomRows(type, rows, head_dim, random);
          const std::vector<float> p = RandomFloats(static_cast<size_t>(rows), 1, random);
          std::vector<float> out = RandomFloats(static_cast<size_t>(head_dim), 1, random);
          const std::vector<float> before = out;
          set.attention_values(type, p.data(), v.bytes.data(), v.stride, rows, head_dim,
                               out.data());
          for (int64_t d = 0; d < head_dim; ++d) {
            double want = static_cast<double>(before[static_cast<size_t>(d)]);
            double magnitude = std::fabs(want);
            for (int64_t i = 0; i < rows; ++i) {
              const double term =
                  static_cast<double>(p[static_cast<size_t>(i)]) *
                  static_cast<double>(v.decoded[static_cast<size_t>(i * head_dim + d)]);
              want += term;
              magnitude += std::fabs(term);
            }
            ASSERT_NEAR(static_cast<double>(out[static_cast<size_t>(d)]), want,
                        static_cast<double>(rows + 2) * kUnit * magnitude)
                << NameOf(type) << " " << head_dim;
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace moxie
