#pragma once

#include <memory>
#include <vector>

#include "forward/adapters.h"
#include "forward/attention.h"
#include "forward/linear.h"
#include "forward/rope.h"

namespace moxie {

/// Grouped-query attention (arXiv:2305.13245) with what families add to it: biases, norms of
/// queries and keys, clipping, rotary embedding of all or some dimensions.
class GroupedAttention : public AttentionBlock {
 public:
  /// `rope` must have been prepared for the batch's tokens. All arguments must outlive this.
  GroupedAttention(const ModelConfig& config, const ModelWeights& weights, const Rope& rope,
                   AdapterTerms& adapters, const KernelSet& kernels, ThreadPool& threads,
                   int64_t max_tokens);
  /// The bytes of one's buffers.
  static int64_t BytesFor(const ModelConfig& config, const ModelWeights& weights,
                          const KernelSet& kernels, int threads, int64_t max_tokens);

  void Run(int64_t layer, const Batch& batch, KvCache& cache, const float* x, float* out) override;

 private:
  /// Elements of the buffers of floats.
  struct Sizes {
    int64_t q, kv, queries;
  };
  static Sizes SizesFor(const AttentionConfig& attention, int64_t max_tokens);
  static WeightTypes InputTypes(const AttentionWeights& weights);
  static WeightTypes OutputTypes(const AttentionWeights& weights);

  void Project(int64_t layer, int64_t tokens, const float* x);
  void FinishHeads(int64_t layer, int64_t token, float* heads, int64_t count,
                   std::span<const float> norm) const;
  void FinishToken(int64_t layer, const TokenPlace& place, int64_t token, KvCache& cache);

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const Rope& rope_;
  AdapterTerms& adapters_;
  const KernelSet& kernels_;
  ThreadPool& threads_;
  PagedAttention attention_;
  std::vector<WeightTypes> input_types_, output_types_;  ///< [layers]
  ActivationRows input_, output_;
  ProductList products_;
  std::vector<float> q_, k_, v_;  ///< [tokens, heads or kv_heads, head_dim]
  std::vector<float> queries_;    ///< [tokens, heads, key_width], where rows are padded
  std::vector<float> attended_;   ///< [tokens, heads, head_dim]
};

}  // namespace moxie
