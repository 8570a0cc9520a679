#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "forward/adapters.h"
#include "forward/attention.h"
#include "forward/linear.h"
#include "forward/rope.h"

namespace moxie {

/// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1): the cache keeps one
/// row a position, the compressed latent and a rotated key that all heads share. The matrices that
/// expand the latent to keys and values are applied to queries and results instead, so a step
/// reads the latents once for all heads and never expands them:
///   q . (Wk c) = (Wk^T q) . c        sum_i p_i (Wv c_i) = Wv (sum_i p_i c_i)
class LatentAttention : public AttentionBlock {
 public:
  /// As GroupedAttention's.
  LatentAttention(const ModelConfig& config, const ModelWeights& weights, const Rope& rope,
                  AdapterTerms& adapters, const KernelSet& kernels, ThreadPool& threads,
                  int64_t max_tokens);
  static int64_t BytesFor(const ModelConfig& config, const ModelWeights& weights,
                          const KernelSet& kernels, int threads, int64_t max_tokens);

  void Run(int64_t layer, const Batch& batch, KvCache& cache, const float* x, float* out) override;

 private:
  /// Per layer: each head's part of kv_b.
  struct Expansion {
    std::vector<WeightMatrix> keys;    ///< [heads] of [kv_rank, nope_dim]: Wk, transposed
    std::vector<WeightMatrix> values;  ///< [heads] of [value_dim, kv_rank]: Wv, a view
    std::vector<std::byte> bytes;      ///< of the keys
  };
  static Expansion Split(const LatentConfig& latent, int64_t heads, const WeightMatrix& kv_b);
  static int64_t ExpansionBytes(const LatentConfig& latent, int64_t heads, DType kv_b);
  /// What each layer's products ask of the buffers.
  struct Types {
    WeightTypes input, query, output;
  };
  static Types TypesOf(const LatentConfig& latent, const AttentionWeights& weights);
  /// Elements of the buffers of floats, and the bytes of head_rows_.
  struct Sizes {
    int64_t q_a, q, kv, queries, latents, attended;
    int64_t head_rows;
  };
  static Sizes SizesFor(const ModelConfig& config, const ModelWeights& weights,
                        const KernelSet& kernels, int64_t max_tokens);

  void Project(const LayerWeights& layer, size_t index, int64_t tokens, const float* x);
  void StoreToken(const LayerWeights& layer, int64_t index, const TokenPlace& place, int64_t token,
                  KvCache& cache);
  void AbsorbKeys(size_t index, int64_t tokens, int64_t key_width);
  void ExpandValues(size_t index, int64_t tokens);
  void MultiplyHeads(const std::vector<WeightMatrix>& matrices, int64_t tokens, const float* x,
                     int64_t x_head_stride, float* out, int64_t out_head_stride);

  const ModelConfig& config_;
  const LatentConfig& latent_;
  const ModelWeights& weights_;
  const Rope& rope_;
  AdapterTerms& adapters_;
  const KernelSet& kernels_;
  ThreadPool& threads_;
  PagedAttention attention_;
  std::vector<Expansion> expansions_;  ///< [layers]
  std::vector<Types> types_;           ///< [layers]
  ActivationRows input_, compressed_, output_;
  ProductList products_;
  std::vector<std::byte> head_rows_;  ///< [heads, tokens] converted inputs of per-head products
  std::vector<float> q_a_;            ///< [tokens, q_rank]
  std::vector<float> q_;              ///< [tokens, heads, nope_dim + rope_dim]
  std::vector<float> kv_;             ///< [tokens, kv_rank + rope_dim]
  std::vector<float> queries_;        ///< [tokens, heads, key_width]
  std::vector<float> latents_;        ///< [tokens, heads, kv_rank] attended
  std::vector<float> attended_;       ///< [tokens, heads, value_dim]
};

}  // namespace moxie
