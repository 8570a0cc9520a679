#include <algorithm>
#include <map>

#include "core/dtype.h"
#include "engine/model_parts.h"

namespace moxie {
namespace {

/// The matrices that one token is multiplied with.
struct Work {
  int64_t operations = 0;
  std::map<DType, int64_t> bytes;

  void Add(const WeightMatrix& matrix, int64_t times = 1) {
    if (matrix.empty()) return;
    operations += 2 * times * matrix.rows * matrix.cols;
    bytes[matrix.type] += times * matrix.rows * BytesOf(matrix.type, matrix.cols).value_or(0);
  }
  void Add(const FeedForwardWeights& ffn, int64_t times = 1) {
    for (const StoredMatrix* stored : {&ffn.gate, &ffn.up, &ffn.down}) Add(stored->matrix, times);
  }
};

Work WorkPerToken(const ModelConfig& config, const ModelWeights& weights) {
  Work work;
  work.Add(weights.output);  // Of the embedding only one row is read.
  for (const LayerWeights& layer : weights.layers) {
    const AttentionWeights& a = layer.attention;
    for (const WeightMatrix* m : {&a.q, &a.k, &a.v, &a.output, &a.q_a, &a.kv_a, &a.kv_b})
      work.Add(*m);
    work.Add(layer.router);
    work.Add(layer.dense);
    work.Add(layer.shared);
    if (!layer.experts.empty()) work.Add(layer.experts.front(), config.router.used);
  }
  return work;
}

}  // namespace

int64_t Model::bytes_per_token() const {
  int64_t sum = 0;
  for (const auto& [type, bytes] : WorkPerToken(parts_->config, parts_->weights).bytes)
    sum += bytes;
  return sum;
}

int64_t Model::operations_per_token() const {
  // A prompt's logits are computed for its last token alone.
  const WeightMatrix& output = parts_->weights.output;
  return WorkPerToken(parts_->config, parts_->weights).operations - 2 * output.rows * output.cols;
}

std::string_view Model::main_type() const {
  const Work work = WorkPerToken(parts_->config, parts_->weights);
  const auto most = std::max_element(work.bytes.begin(), work.bytes.end(),
                                     [](auto& a, auto& b) { return a.second < b.second; });
  return NameOf(most->first);
}

}  // namespace moxie
