#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/half.h"
#include "kernels/kernel_set.h"
#include "quant/blocks.h"
#include "quant/dequantize.h"

namespace moxie {
namespace {

constexpr float kLargestScale = 0.02f;

/// A format's stored numbers: `halves` are the offsets of its binary16 fields, and the constant
/// part of a weight is at most `offset` times the largest of them.
struct FormatCase {
  DType type;
  std::vector<size_t> halves;
  double offset = 0;
};

std::vector<FormatCase> Formats() {
  return {
      {DType::kF32, {}},
      {DType::kF16, {}},
      {DType::kBF16, {}},
      {DType::kQ4_0, {0}, 8},
      {DType::kQ4_1, {0, 2}, 1},
      {DType::kQ5_0, {0}, 16},
      {DType::kQ5_1, {0, 2}, 1},
      {DType::kQ8_0, {0}},
      {DType::kQ2_K, {offsetof(BlockQ2_K, d), offsetof(BlockQ2_K, dmin)}, 15},
      {DType::kQ3_K, {offsetof(BlockQ3_K, d)}, 128},
      {DType::kQ4_K, {0, 2}, 63},
      {DType::kQ5_K, {0, 2}, 63},
      {DType::kQ6_K, {offsetof(BlockQ6_K, d)}, 4096},
      {DType::kIQ1_S, {0}, 18},
      {DType::kIQ1_M, {}, 18},
      {DType::kIQ2_XXS, {0}, 172},
      {DType::kIQ2_XS, {0}, 172},
      {DType::kIQ2_S, {0}, 172},
      {DType::kIQ3_XXS, {0}, 496},
      {DType::kIQ3_S, {0}, 465},
      {DType::kIQ4_NL, {0}},
      {DType::kIQ4_XS, {0}},
      {DType::kMXFP4, {}, 156},
      {DType::kTQ1_0, {offsetof(BlockTQ1_0, d)}, 1},
      {DType::kTQ2_0, {offsetof(BlockTQ2_0, d)}, 1},
      {DType::kI8, {}},
  };
}

class Random {
 public:
  float Uniform(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(engine_);
  }
  int Integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }

 private:
  std::mt19937 engine_{7};
};

void PutHalf(std::byte* to, float value) {
  const uint16_t bits = FloatToHalf(value);
  std::memcpy(to, &bits, 2);
}

/// A row of random codes with scales up to kLargestScale (`scale` instead, if it is not 0).
std::vector<std::byte> RandomRow(const FormatCase& format, int64_t cols, float scale,
                                 Random& random) {
  const DTypeTraits& traits = TraitsOf(format.type);
  std::vector<std::byte> row(static_cast<size_t>(*BytesOf(format.type, cols)));
  for (std::byte& b : row) b = static_cast<std::byte>(random.Integer(0, 255));
  for (size_t at = 0; at < row.size(); at += static_cast<size_t>(traits.block_bytes)) {
    std::byte* block = row.data() + at;
    const auto value = [&] {
      return scale != 0 ? scale : random.Uniform(-kLargestScale, kLargestScale);
    };
    for (const size_t offset : format.halves) PutHalf(block + offset, value());
    if (format.type == DType::kF32) {
      const float f = scale != 0 ? static_cast<float>(random.Integer(-128, 127)) : value();
      std::memcpy(block, &f, 4);
    }
    const float small = scale != 0 ? static_cast<float>(random.Integer(-128, 127)) : value();
    if (format.type == DType::kF16) PutHalf(block, small);
    if (format.type == DType::kBF16) {
      const uint16_t bits = FloatToBfloat16(small);
      std::memcpy(block, &bits, 2);
    }
    if (format.type == DType::kMXFP4)
      block[0] = std::byte{static_cast<uint8_t>(scale != 0 ? 128 : random.Integer(100, 125))};
    if (format.type == DType::kIQ1_M) {  // The scale's nibbles are the top ones of four words.
      const uint16_t bits = FloatToHalf(value());
      for (size_t k = 0; k < 4; ++k) {
        std::byte& top = block[offsetof(BlockIQ1_M, scales) + 2 * k + 1];
        top = (top & std::byte{0x0f}) |
              std::byte{static_cast<uint8_t>(((bits >> (4 * k)) & 15) << 4)};
      }
    }
  }
  return row;
}

struct Case {
  WeightMatrix weights;
  std::vector<std::byte> bytes;
  std::vector<float> decoded;  // [rows, cols]
};

Case MakeCase(const FormatCase& format, int64_t rows, int64_t cols, float scale, Random& random) {
  Case result;
  const size_t padding = 1;  // Rows apart by an odd number of bytes, where the type allows that.
  const bool is_float = TraitsOf(format.type).block_elements == 1;
  const size_t stride = static_cast<size_t>(*BytesOf(format.type, cols)) + (is_float ? 0 : padding);
  result.bytes.resize(stride * static_cast<size_t>(rows));
  result.decoded.resize(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<std::byte> row = RandomRow(format, cols, scale, random);
    std::memcpy(result.bytes.data() + static_cast<size_t>(r) * stride, row.data(), row.size());
    Dequantize(format.type, row.data(), cols, result.decoded.data() + r * cols);
  }
  result.weights = {.type = format.type,
                    .rows = rows,
                    .cols = cols,
                    .row_stride = static_cast<int64_t>(stride),
                    .data = result.bytes.data()};
  return result;
}

/// The set's formats for few tokens and for many: one, or two.
std::vector<ActivationFormat> FormatsOf(const KernelSet& set, DType type, int64_t cols) {
  std::vector<ActivationFormat> formats = {set.activation_format(type, cols, 1)};
  const ActivationFormat many = set.activation_format(type, cols, 512);
  if (many.id != formats[0].id) formats.push_back(many);
  return formats;
}

/// Every usable set with each of its formats: use(set, format).
template <class Use>
void ForEachForm(DType type, int64_t cols, Use use) {
  for (const KernelSet* set : AllKernelSets()) {
    if (!set->usable()) continue;
    for (const ActivationFormat& format : FormatsOf(*set, type, cols)) {
      SCOPED_TRACE(testing::Message() << set->name << ", panels of " << format.panel);
      use(*set, format);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

std::vector<std::byte> Convert(const KernelSet& set, const ActivationFormat& format, int64_t cols,
                               const std::vector<float>& x) {
  const auto tokens = static_cast<int64_t>(x.size()) / cols;
  std::vector<std::byte> converted(static_cast<size_t>(format.BytesOf(tokens)));
  for (int64_t t = 0; t < tokens; t += format.panel) {
    std::vector<const float*> rows;
    for (int64_t i = t; i < std::min(t + format.panel, tokens); ++i)
      rows.push_back(x.data() + i * cols);
    set.convert_activations(format, cols, rows.data(), std::ssize(rows),
                            converted.data() + format.BytesOf(t));
  }
  return converted;
}

std::vector<float> Product(const KernelSet& set, const ActivationFormat& format,
                           const WeightMatrix& weights, const std::vector<float>& x) {
  const int64_t tokens = static_cast<int64_t>(x.size()) / weights.cols;
  std::vector<float> out(static_cast<size_t>(tokens * weights.rows), std::nanf(""));
  const std::vector<std::byte> converted = Convert(set, format, weights.cols, x);
  set.matmul(format, weights, 0, weights.rows, converted.data(), tokens, out.data(), weights.rows);
  return out;
}

struct Shape {
  int64_t rows;
  int64_t cols;
  int64_t tokens;
};

/// Ragged tails are where kernels break: columns in whole blocks, the rest in ones and threes.
std::vector<Shape> ShapesOf(DType type) {
  switch (TraitsOf(type).block_elements) {
    case 1:
      return {{1, 1, 1}, {3, 15, 2}, {3, 17, 5}, {8, 4096, 3}, {21, 300, 70}, {67, 352, 150}};
    case 32:
      return {{1, 32, 1}, {3, 96, 2}, {9, 288, 3}, {17, 576, 7}, {8, 4096, 4}, {35, 320, 133}};
    default:
      return {{1, 256, 1}, {3, 512, 2}, {9, 768, 3}, {17, 256, 7}, {8, 4096, 4}, {35, 512, 133}};
  }
}

bool IsFloat(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

/// Whether the set's form is one bfloat16 number, not integers or two of them.
bool IsBfloat16(DType type, const KernelSet& set, const ActivationFormat& format) {
  return set.name == "amx" && format.panel > 1 && type != DType::kBF16;
}

/// How far a set may be from the exact product of row `w` and activations `x`.
///
/// A sum of n float32 terms in any order errs by at most (n + 1) u sum|term|, u = 2^-24; a format
/// with a constant part has two terms for each weight.
///
/// Integer activations have steps, each 32 their own: the second largest / 127, but not below the
/// largest / 32600; bytes spare the largest only if it is above twice the second (AVX-512: the
/// largest outside its quad, at most the second), else it sets the step. Each activation is within
/// half a step and what rounding up to 32767 steps to float32 adds, at most 2^-7 of one.
///
/// bfloat16 has 8 significant bits: a weight, which float32 rounds before, errs by at
/// most 2^-8 + 2^-23 of itself, an activation by 2^-8, so a product by 2^-7 + 2^-16 + 2^-22 of
/// itself; products are exact in float32.
///
/// Float weights meet float32 activations, or bfloat16 ones those split in two, which err by 2^-17
/// of themselves and have two terms each.
double Tolerance(const FormatCase& format, const KernelSet& set, const ActivationFormat& form,
                 const float* w, const float* x, int64_t cols) {
  double magnitude = 0;
  double products = 0;
  double steps = 0;
  for (int64_t begin = 0; begin < cols; begin += 32) {
    double weight_sum = 0;
    std::array<double, 32> values = {};
    for (int64_t c = begin; c < std::min(cols, begin + 32); ++c) {
      const double weight = std::fabs(static_cast<double>(w[c]));
      const double value = std::fabs(static_cast<double>(x[c]));
      values[static_cast<size_t>(c - begin)] = value;
      weight_sum += weight;
      products += weight * value;
      magnitude += (weight + 2 * format.offset * static_cast<double>(kLargestScale)) * value;
    }
    std::sort(values.begin(), values.end());
    const bool shared = set.name != "scalar" && values[31] <= 2 * values[30];
    const double bytes = values[shared ? 31 : 30];
    steps += weight_sum * std::max(bytes / 127, values[31] / 32600) * (0.5 + 0x1p-7);
  }
  const double sums = (static_cast<double>(cols) + 4) * 0x1p-24 * magnitude;
  if (IsFloat(format.type)) return form.panel > 1 ? 2 * sums + 0x1p-17 * products : sums;
  return sums +
         (IsBfloat16(format.type, set, form) ? (0x1p-7 + 0x1p-16 + 0x1p-22) * products : steps);
}

class MatMulTest : public testing::TestWithParam<size_t> {
 protected:
  const FormatCase format_ = Formats()[GetParam()];
  Random random_;

  std::vector<float> RandomActivations(int64_t count) {
    std::vector<float> x(static_cast<size_t>(count));
    for (float& v : x) v = random_.Uniform(-2, 2);
    // Real activations have outliers, and a few massive ones.
    for (size_t i = 5; i < x.size(); i += 97) x[i] *= 100;
    for (size_t i = 40; i < x.size(); i += 1009) x[i] *= 20000;
    return x;
  }
};

TEST_P(MatMulTest, EverySetIsNearTheExactProduct) {
  for (const Shape& shape : ShapesOf(format_.type)) {
    ForEachForm(format_.type, shape.cols, [&](const KernelSet& set, const ActivationFormat& form) {
      SCOPED_TRACE(testing::Message()
                   << shape.rows << "x" << shape.cols << " tokens " << shape.tokens);
      const Case c = MakeCase(format_, shape.rows, shape.cols, 0, random_);
      const std::vector<float> x = RandomActivations(shape.tokens * shape.cols);
      const std::vector<float> out = Product(set, form, c.weights, x);
      for (int64_t t = 0; t < shape.tokens; ++t) {
        for (int64_t r = 0; r < shape.rows; ++r) {
          const float* w = c.decoded.data() + r * shape.cols;
          const float* xt = x.data() + t * shape.cols;
          double want = 0;
          for (int64_t i = 0; i < shape.cols; ++i) {
            want += static_cast<double>(w[i]) * static_cast<double>(xt[i]);
          }
          ASSERT_NEAR(static_cast<double>(out[static_cast<size_t>(t * shape.rows + r)]), want,
                      Tolerance(format_, set, form, w, xt, shape.cols))
              << "token " << t << " row " << r;
        }
      }
    });
  }
}

// Scales of 1 and activations that are integers in each set's own form: every partial result is an
// integer below 2^24, and nothing may be rounded. The unit is, in each 32, the second largest / 127
// if the largest is 32767 units at most, or 32599 with AVX-512; bfloat16 has 8 bits.
TEST_P(MatMulTest, IntegerSumsAreExact) {
  const auto exact = {DType::kF16,  DType::kQ4_0,   DType::kQ4_1,  DType::kQ5_0,
                      DType::kQ5_1, DType::kQ8_0,   DType::kTQ1_0, DType::kTQ2_0,
                      DType::kI8,   DType::kIQ4_NL, DType::kMXFP4, DType::kBF16};
  if (std::find(exact.begin(), exact.end(), format_.type) == exact.end()) {
    return;  // The others' own scales make fractions.
  }
  for (const Shape& shape : ShapesOf(format_.type)) {
    if (shape.cols > 600) continue;
    ForEachForm(format_.type, shape.cols, [&](const KernelSet& set, const ActivationFormat& form) {
      SCOPED_TRACE(shape.cols);
      const Case c = MakeCase(format_, shape.rows, shape.cols, 1, random_);
      std::vector<float> x(static_cast<size_t>(shape.tokens * shape.cols));
      for (float& v : x) v = static_cast<float>(random_.Integer(-9, 9));
      const float peak = IsBfloat16(format_.type, set, form) ? 32512
                         : set.name == "avx2"                ? 32767
                                                             : 32599;
      for (int64_t t = 0; t < shape.tokens; ++t) {
        for (int64_t i = 0; i + 32 <= shape.cols; i += 32) {
          float* group = x.data() + t * shape.cols + i;
          group[9] = 127;
          group[14] = -127;
          if (i % 256 == 0) group[0] = i % 512 == 0 ? peak : -peak;
        }
      }
      const std::vector<float> out = Product(set, form, c.weights, x);
      for (int64_t t = 0; t < shape.tokens; ++t) {
        for (int64_t r = 0; r < shape.rows; ++r) {
          double want = 0;
          for (int64_t i = 0; i < shape.cols; ++i) {
            want += static_cast<double>(c.decoded[static_cast<size_t>(r * shape.cols + i)]) *
                    static_cast<double>(x[static_cast<size_t>(t * shape.cols + i)]);
          }
          ASSERT_EQ(static_cast<double>(out[static_cast<size_t>(t * shape.rows + r)]), want);
        }
      }
    });
  }
}

// The contract: no split of rows and, panel by panel, of tokens changes a bit.
TEST_P(MatMulTest, SplitsAreBitEqual) {
  const Shape shape = ShapesOf(format_.type).back();
  ForEachForm(format_.type, shape.cols, [&](const KernelSet& set, const ActivationFormat& form) {
    const Case c = MakeCase(format_, shape.rows, shape.cols, 0, random_);
    const std::vector<float> x = RandomActivations(shape.tokens * shape.cols);
    const std::vector<float> whole = Product(set, form, c.weights, x);
    const std::vector<std::byte> converted = Convert(set, form, shape.cols, x);
    std::vector<float> split(whole.size(), std::nanf(""));
    int64_t token = 0;
    for (int64_t step = 1; token < shape.tokens; ++step) {
      const int64_t n = std::min(step * form.panel, shape.tokens - token);
      for (int64_t row = 0, rows = step; row < shape.rows; row += rows) {
        set.matmul(form, c.weights, row, std::min(row + rows, shape.rows),
                   converted.data() + form.BytesOf(token), n, split.data() + token * shape.rows,
                   shape.rows);
      }
      token += n;
    }
    EXPECT_EQ(std::memcmp(split.data(), whole.data(), whole.size() * sizeof(float)), 0);
  });
}

/// `c` with its rows packed for `set`, each of which must come back.
Case Packed(const KernelSet& set, Case c) {
  const int64_t together = set.packed_rows(c.weights.type);
  const int64_t row_bytes = *BytesOf(c.weights.type, c.weights.cols);
  std::vector<std::byte> rows(c.decoded.size() / static_cast<size_t>(c.weights.cols) *
                              static_cast<size_t>(row_bytes));
  std::vector<std::byte> packed(rows.size());
  for (int64_t r = 0; r < c.weights.rows; ++r)
    std::memcpy(rows.data() + r * row_bytes, c.weights.row(r), static_cast<size_t>(row_bytes));
  for (int64_t at = 0; at < std::ssize(rows); at += together * row_bytes)
    set.pack(c.weights.type, row_bytes, rows.data() + at, packed.data() + at);
  std::vector<std::byte> row(static_cast<size_t>(row_bytes));
  for (int64_t r = 0; r < c.weights.rows; ++r) {
    set.unpack_row(c.weights.type, row_bytes, packed.data() + r / together * together * row_bytes,
                   r % together, row.data());
    EXPECT_EQ(std::memcmp(row.data(), c.weights.row(r), row.size()), 0) << "row " << r;
  }
  c.bytes = std::move(packed);
  c.weights.row_stride = row_bytes;
  c.weights.packed_rows = static_cast<int32_t>(together);
  c.weights.data = c.bytes.data();
  return c;
}

// Loading packs what lies in memory; what is streamed stays as it is, and gives the same tokens.
TEST_P(MatMulTest, PackedRowsGiveTheSameBits) {
  for (const KernelSet* set : AllKernelSets()) {
    if (!set->usable() || set->packed_rows == nullptr || set->packed_rows(format_.type) == 0)
      continue;
    SCOPED_TRACE(set->name);
    for (const Shape& shape : ShapesOf(format_.type)) {
      const int64_t rows = set->packed_rows(format_.type) * shape.tokens;  // 1, 2, ... many
      const Case c = MakeCase(format_, rows, shape.cols, 0, random_);
      const Case packed = Packed(*set, c);
      const ActivationFormat form = set->activation_format(format_.type, shape.cols, shape.tokens);
      const std::vector<float> x = RandomActivations(shape.tokens * shape.cols);
      const std::vector<float> want = Product(*set, form, c.weights, x);
      const std::vector<float> got = Product(*set, form, packed.weights, x);
      ASSERT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)), 0)
          << rows << "x" << shape.cols;
    }
  }
}

TEST_P(MatMulTest, ExtremeActivations) {
  ForEachForm(format_.type, 512, [&](const KernelSet& set, const ActivationFormat& form) {
    const Case c = MakeCase(format_, 3, 512, 0, random_);
    std::vector<float> x(512, 0.0f);
    for (const float out : Product(set, form, c.weights, x)) EXPECT_EQ(out, 0.0f);
    for (const float special : {std::nanf(""), HUGE_VALF}) {
      x[300] = special;
      for (const float out : Product(set, form, c.weights, x)) EXPECT_FALSE(std::isfinite(out));
    }
    x[300] = 1e-42f;  // Subnormal, and so are its products.
    for (const float out : Product(set, form, c.weights, x)) EXPECT_NEAR(out, 0.0f, 1e-37f);
  });
}

// Twins: of one form, and of the bits that their set gives a single token.
TEST_P(MatMulTest, BatchInvariantSetsGiveManyTokensTheBitsOfOne) {
  const Shape shape = ShapesOf(format_.type).back();
  for (const KernelSet* set : AllKernelSets()) {
    if (!set->usable()) continue;
    SCOPED_TRACE(set->name);
    const KernelSet& twin = BatchInvariant(*set);
    EXPECT_EQ(twin.name, set->name);
    const std::vector<ActivationFormat> formats = FormatsOf(twin, format_.type, shape.cols);
    ASSERT_EQ(formats.size(), 1u);
    const Case c = MakeCase(format_, shape.rows, shape.cols, 0, random_);
    const std::vector<float> x = RandomActivations(shape.tokens * shape.cols);
    const std::vector<float> whole = Product(twin, formats[0], c.weights, x);
    for (int64_t t = 0; t < shape.tokens; ++t) {
      const std::vector<float> one(x.begin() + t * shape.cols, x.begin() + (t + 1) * shape.cols);
      const ActivationFormat form = set->activation_format(format_.type, shape.cols, 1);
      const std::vector<float> want = Product(*set, form, c.weights, one);
      ASSERT_TRUE(std::equal(want.begin(), want.end(), whole.begin() + t * shape.rows)) << t;
    }
  }
}

// Sets that convert activations alike differ in how they find the integers, and in nothing else.
TEST_P(MatMulTest, SetsOfOneFormGiveTheSameBits) {
  const KernelSet* first = nullptr;
  for (const KernelSet* set : AllKernelSets()) {
    if (!set->usable()) continue;
    const KernelSet& twin = BatchInvariant(*set);
    if (first == nullptr || twin.convert_activations != first->convert_activations) {
      first = &twin;
      continue;
    }
    SCOPED_TRACE(testing::Message() << first->name << " and " << set->name);
    for (const Shape& shape : ShapesOf(format_.type)) {
      const Case c = MakeCase(format_, shape.rows, shape.cols, 0, random_);
      const std::vector<float> x = RandomActivations(shape.tokens * shape.cols);
      const ActivationFormat form = twin.activation_format(format_.type, shape.cols, shape.tokens);
      const std::vector<float> want = Product(*first, form, c.weights, x);
      const std::vector<float> got = Product(twin, form, c.weights, x);
      ASSERT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)), 0)
          << shape.rows << "x" << shape.cols << " tokens " << shape.tokens;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, MatMulTest, testing::Range(size_t{0}, Formats().size()),
                         [](const testing::TestParamInfo<size_t>& parameter) {
                           return std::string(NameOf(Formats()[parameter.param].type));
                         });

}  // namespace
}  // namespace moxie
