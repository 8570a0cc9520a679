#include <gtest/gtest.h>

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
        // The exponential's 2 ulp, then a sum, a quotient and a product. Sets may stop at exp(88).
        const double stop = g < -87 ? std::fabs(g * static_cast<double>(up[i])) * std::exp(-87) : 0;
        ASSERT_NEAR(static_cast<double>(gate[i]), want, std::fabs(want) * 8 * kUnit + stop);
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

/// Cache rows of `type` and what they decode to.
struct StoredRows {
  std::vector<std::byte> bytes;
  std::vector<float> decoded;  ///< [rows, dim]
  CacheRows rows;
};

StoredRows RandomRows(DType type, int64_t rows, int64_t dim, std::mt19937& random) {
  StoredRows result;
  const int64_t stride = *BytesOf(type, dim) + 12;
  result.bytes.resize(static_cast<size_t>(rows * stride));
  result.decoded.resize(static_cast<size_t>(rows * dim));
  result.rows = {
      .type = type, .data = result.bytes.data(), .stride = stride, .rows = rows, .dim = dim};
  const std::vector<float> values = RandomFloats(result.decoded.size(), 1, random);
  for (int64_t r = 0; r < rows; ++r) {
    std::byte* row = result.bytes.data() + r * stride;
    for (int64_t d = 0; d < dim; ++d) {
      const float value = values[static_cast<size_t>(r * dim + d)];
      const uint16_t half = FloatToHalf(type == DType::kF16 ? value : value / 100);
      if (type == DType::kF32) std::memcpy(row + 4 * d, &value, 4);
      if (type == DType::kF16) std::memcpy(row + 2 * d, &half, 2);
      if (type == DType::kQ8_0) {
        std::byte* block = row + d / 32 * 34;
        if (d % 32 == 0) std::memcpy(block, &half, 2);
        block[2 + d % 32] = static_cast<std::byte>(random());
      }
    }
    Dequantize(type, row, dim, result.decoded.data() + r * dim);
  }
  return result;
}

/// Calls check(type, dim, rows, queries) for ragged and usual shapes.
template <class Check>
void ForEachAttentionShape(Check check) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0}) {
    const std::vector<int64_t> dims = type == DType::kQ8_0
                                          ? std::vector<int64_t>{32, 64, 128, 160}
                                          : std::vector<int64_t>{1, 7, 8, 17, 64, 80, 128, 192};
    for (const int64_t dim : dims) {
      for (const int64_t rows : {1, 3, 6, 33}) {
        for (const int64_t queries : {1, 2, 3, 4, 7, 8}) {
          SCOPED_TRACE(std::string(NameOf(type)) + " dim " + std::to_string(dim) + " rows " +
                       std::to_string(rows) + " queries " + std::to_string(queries));
          check(type, dim, rows, queries);
        }
      }
    }
  }
}

constexpr int64_t kPadding = 5;  // Between the scores of one query and the next.

TEST(Vectors, AttentionScores) {
  std::mt19937 random(4);
  ForEachUsableSet([&](const KernelSet& set) {
    ForEachAttentionShape([&](DType type, int64_t dim, int64_t rows, int64_t queries) {
      const StoredRows k = RandomRows(type, rows, dim, random);
      const std::vector<float> q = RandomFloats(static_cast<size_t>(queries * dim), 2, random);
      const int64_t stride = rows + kPadding;
      constexpr float kUntouched = 77;
      std::vector<float> scores(static_cast<size_t>(queries * stride), kUntouched);
      set.attention_scores(k.rows, q.data(), queries, 0.125f, scores.data(), stride);
      for (int64_t at = 0; at < queries * stride; ++at) {
        const int64_t query = at / stride, row = at % stride;
        const float score = scores[static_cast<size_t>(at)];
        if (row >= rows) {
          ASSERT_EQ(score, kUntouched);
          continue;
        }
        double want = 0, magnitude = 0;
        for (int64_t d = 0; d < dim; ++d) {
          const double term = 0.125 * static_cast<double>(q[static_cast<size_t>(query * dim + d)]) *
                              static_cast<double>(k.decoded[static_cast<size_t>(row * dim + d)]);
          want += term;
          magnitude += std::fabs(term);
        }
        ASSERT_NEAR(static_cast<double>(score), want,
                    static_cast<double>(dim + 2) * kUnit * magnitude);
        // The same bits without company.
        CacheRows alone = k.rows;
        alone.data += row * alone.stride;
        alone.rows = 1;
        float single = 0;
        set.attention_scores(alone, q.data() + query * dim, 1, 0.125f, &single, 1);
        ASSERT_EQ(score, single);
      }
    });
  });
}

TEST(Vectors, AttentionValues) {
  std::mt19937 random(5);
  ForEachUsableSet([&](const KernelSet& set) {
    ForEachAttentionShape([&](DType type, int64_t dim, int64_t rows, int64_t queries) {
      const StoredRows v = RandomRows(type, rows, dim, random);
      const int64_t stride = rows + kPadding;
      const auto weights = RandomFloats(static_cast<size_t>(queries * stride), 1, random);
      std::vector<float> out = RandomFloats(static_cast<size_t>(queries * dim), 1, random);
      const std::vector<float> before = out;
      set.attention_values(v.rows, weights.data(), stride, queries, out.data());
      for (int64_t query = 0; query < queries; ++query) {
        std::vector<float> single(before.begin() + query * dim, before.begin() + (query + 1) * dim);
        set.attention_values(v.rows, weights.data() + query * stride, stride, 1, single.data());
        for (int64_t d = 0; d < dim; ++d) {
          const auto at = static_cast<size_t>(query * dim + d);
          double want = static_cast<double>(before[at]);
          double magnitude = std::fabs(want);
          for (int64_t i = 0; i < rows; ++i) {
            const double term =
                static_cast<double>(weights[static_cast<size_t>(query * stride + i)]) *
                static_cast<double>(v.decoded[static_cast<size_t>(i * dim + d)]);
            want += term;
            magnitude += std::fabs(term);
          }
          ASSERT_NEAR(static_cast<double>(out[at]), want,
                      static_cast<double>(rows + 2) * kUnit * magnitude);
          ASSERT_EQ(out[at], single[static_cast<size_t>(d)]);
        }
      }
    });
  });
}

}  // namespace
}  // namespace moxie
