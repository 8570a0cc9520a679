#include "engine/work_per_token.h"

#include <algorithm>

#include "engine/model_parts.h"

namespace moxie {
namespace {

TokenWork::Products ProductsOf(const WeightMatrix& matrix) {
  if (matrix.empty()) return {};
  return {.operations = 2 * matrix.rows * matrix.cols,
          .bytes = matrix.rows * BytesOf(matrix.type, matrix.cols).value_or(0)};
}

void Add(const WeightMatrix& matrix, int64_t times, TokenWork& work) {
  if (matrix.empty()) return;
  const TokenWork::Products products = ProductsOf(matrix);
  TokenWork::Products& sum = work.layers[matrix.type];
  sum.operations += times * products.operations;
  sum.bytes += times * products.bytes;
}

void Add(const FeedForwardWeights& ffn, int64_t times, TokenWork& work) {
  for (const StoredMatrix* stored : {&ffn.gate, &ffn.up, &ffn.down})
    Add(stored->matrix, times, work);
}

}  // namespace

int64_t TokenWork::TotalBytes() const {
  int64_t sum = head.bytes;
  for (const auto& [type, products] : layers) sum += products.bytes;
  return sum;
}

DType TokenWork::MainType() const {
  std::map<DType, int64_t> bytes;
  for (const auto& [type, products] : layers) bytes[type] += products.bytes;
  bytes[head_type] += head.bytes;
  return std::max_element(bytes.begin(), bytes.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

TokenWork WorkPerToken(const ModelConfig& config, const ModelWeights& weights) {
  TokenWork work;
  work.head = ProductsOf(weights.output);
  work.head_type = weights.output.type;
  for (const LayerWeights& layer : weights.layers) {
    const AttentionWeights& a = layer.attention;
    for (const WeightMatrix* m : {&a.q, &a.k, &a.v, &a.output, &a.q_a, &a.kv_a, &a.kv_b})
      Add(*m, 1, work);
    Add(layer.router, 1, work);
    Add(layer.dense, 1, work);
    Add(layer.shared, 1, work);
    if (!layer.experts.empty()) Add(layer.experts.front(), config.router.used, work);
  }
  return work;
}

int64_t Model::bytes_per_token() const {
  return WorkPerToken(parts_->config, parts_->weights).TotalBytes();
}

int64_t Model::cache_bytes_per_token(int64_t context) const {
  const KvCache& cache = *parts_->cache;
  const bool latent = parts_->config.attention.latent.kv_rank > 0;  // Values lie in keys' rows.
  const int64_t width = cache.key_width() + (latent ? 0 : cache.value_width());
  const int64_t row_bytes = cache.kv_heads() * BytesOf(cache.type(), width).value_or(0);
  int64_t rows = 0;
  for (const LayerConfig& layer : parts_->config.layers)
    rows += layer.window > 0 ? std::min(layer.window, context) : context;
  return rows * row_bytes;
}

int64_t Model::operations_per_token() const {
  int64_t sum = 0;
  for (const auto& [type, products] : WorkPerToken(parts_->config, parts_->weights).layers)
    sum += products.operations;
  return sum;
}

std::string_view Model::main_type() const {
  return NameOf(WorkPerToken(parts_->config, parts_->weights).MainType());
}

}  // namespace moxie
