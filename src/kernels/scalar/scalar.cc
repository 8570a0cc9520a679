#include "kernels/scalar/scalar.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "quant/dequantize.h"
#include "quant/quantize.h"

namespace moxie {
namespace {

constexpr int64_t kChunk = 256;  // A multiple of every type's block.
constexpr int64_t kLanes = 16;
constexpr int64_t kTokenTile = 32;

/// sum_i a[i] * b[i] for n <= kChunk: 16 partial sums in float32, which the compiler keeps in
/// vector registers, then float64. Element i always goes to partial sum i mod 16.
double DotChunk(const float* a, const float* b, int64_t n) {
  float partial[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) partial[lane] += a[i + lane] * b[i + lane];
  }
  for (int64_t lane = 0; i + lane < n; ++lane) partial[lane] += a[i + lane] * b[i + lane];
  double sum = 0;
  for (const float p : partial) sum += static_cast<double>(p);
  return sum;
}

bool Always() { return true; }

ActivationFormat Format(DType, int64_t cols, int64_t) {
  return {.id = 0, .row_bytes = cols * static_cast<int64_t>(sizeof(float)), .slice = 1};
}

void ConvertActivations(const ActivationFormat&, int64_t cols, const float* const* rows, int64_t,
                        std::byte* out) {
  std::memcpy(out, rows[0], static_cast<size_t>(cols) * sizeof(float));
}

/// One row of weights times up to kTokenTile tokens; each chunk is decoded once for all of them.
void MultiplyRow(const WeightMatrix& weights, int64_t row, const std::byte* activations,
                 int64_t tokens, float* out, int64_t out_stride) {
  const int64_t row_bytes = weights.cols * static_cast<int64_t>(sizeof(float));
  const DTypeTraits& traits = TraitsOf(weights.type);
  const std::byte* bytes = weights.row(row);
  double sums[kTokenTile] = {};
  for (int64_t begin = 0; begin < weights.cols; begin += kChunk) {
    const int64_t n = std::min(kChunk, weights.cols - begin);
    float decoded[kChunk];
    Dequantize(weights.type, bytes, n, decoded);
    bytes += n / traits.block_elements * traits.block_bytes;
    for (int64_t t = 0; t < tokens; ++t) {
      const auto* x = reinterpret_cast<const float*>(activations + t * row_bytes);
      sums[t] += DotChunk(decoded, x + begin, n);
    }
  }
  for (int64_t t = 0; t < tokens; ++t) out[t * out_stride + row] = static_cast<float>(sums[t]);
}

void MatMul(const ActivationFormat&, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride) {
  const int64_t row_bytes = weights.cols * static_cast<int64_t>(sizeof(float));
  for (int64_t begin = 0; begin < tokens; begin += kTokenTile) {
    const int64_t n = std::min(kTokenTile, tokens - begin);
    for (int64_t row = row_begin; row < row_end; ++row) {
      MultiplyRow(weights, row, activations + begin * row_bytes, n, out + begin * out_stride,
                  out_stride);
    }
  }
}

/// Calls `use(d, value)` for each element of a cache row, decoded.
template <class Use>
void ForEachElement(const CacheRows& rows, int64_t row, Use use) {
  const int64_t block = rows.type == DType::kQ8_0 ? 32 : 1;
  const DTypeTraits& traits = TraitsOf(rows.type);
  const std::byte* bytes = rows.data + row * rows.stride;
  float decoded[kChunk];
  for (int64_t begin = 0; begin < rows.dim; begin += kChunk) {
    const int64_t n = std::min(kChunk, rows.dim - begin);
    Dequantize(rows.type, bytes + begin / block * traits.block_bytes, n, decoded);
    for (int64_t d = 0; d < n; ++d) use(begin + d, decoded[d]);
  }
}

void AttentionScores(const CacheRows& keys, const float* queries, int64_t count, float scale,
                     float* scores, int64_t scores_stride) {
  for (int64_t q = 0; q < count; ++q) {
    const float* query = queries + q * keys.dim;
    for (int64_t i = 0; i < keys.rows; ++i) {
      double sum = 0;
      ForEachElement(keys, i, [&](int64_t d, float value) {
        sum += static_cast<double>(query[d]) * static_cast<double>(value);
      });
      scores[q * scores_stride + i] = static_cast<float>(sum * static_cast<double>(scale));
    }
  }
}

void AttentionValues(const CacheRows& values, const float* weights, int64_t weights_stride,
                     int64_t count, float* out) {
  for (int64_t q = 0; q < count; ++q) {
    for (int64_t i = 0; i < values.rows; ++i) {
      const float weight = weights[q * weights_stride + i];
      float* sums = out + q * values.dim;
      ForEachElement(values, i, [&](int64_t d, float value) { sums[d] += weight * value; });
    }
  }
}

void RmsNorm(const float* x, const float* scale, int64_t n, float eps, float* out) {
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const double mean = squares / static_cast<double>(n);
  const auto factor = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * factor * scale[i];
}

float ExpMinusMax(float* x, int64_t n, float max) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    x[i] = std::exp(x[i] - max);
    sum += static_cast<double>(x[i]);
  }
  return static_cast<float>(sum);
}

void SiluMultiply(float* gate, const float* up, int64_t n) {
  for (int64_t i = 0; i < n; ++i) gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

void AddScaled(float a, const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}

constexpr KernelSet kScalar = {
    .name = "scalar",
    .usable = Always,
    .needs = "nothing",
    .activation_format = Format,
    .convert_activations = ConvertActivations,
    .matmul = MatMul,
    .attention_scores = AttentionScores,
    .attention_values = AttentionValues,
    .rms_norm = RmsNorm,
    .exp_minus_max = ExpMinusMax,
    .silu_multiply = SiluMultiply,
    .add_scaled = AddScaled,
    .quantize = Quantize,
};

}  // namespace

const KernelSet& ScalarKernels() { return kScalar; }

}  // namespace moxie
