#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "forward/batch.h"
#include "kernels/kernel_set.h"
#include "memory/kv_cache.h"
#include "model/config.h"
#include "model/weights.h"

namespace moxie {

/// What one layer's attention does beside the dot products.
struct AttentionRule {
  float scale = 1;     ///< multiplies q.k
  float softcap = 0;   ///< c > 0: c * tanh(score / c) (Grok-1)
  int64_t window = 0;  ///< positions seen, one's own included; 0: all before it
  /// [heads] logits in the softmax's denominator (gpt-oss), or empty.
  std::span<const float> sinks = {};
};

/// Softmax attention (arXiv:1706.03762, section 3.2.1) of queries over the pages of a cache, with
/// a running maximum and sum (arXiv:2205.14135, algorithm 1) page by page. Pages are fixed by
/// position, so a query's result does not depend on chunks, batch or threads.
class PagedAttention {
 public:
  /// `heads` query heads share `kv_heads` (arXiv:2305.13245) in equal groups, in order.
  PagedAttention(const KernelSet& kernels, ThreadPool& threads, int64_t heads, int64_t kv_heads,
                 int64_t value_dim, int64_t max_chunks);
  /// The bytes of one's buffers.
  static int64_t BytesFor(int threads, int64_t heads, int64_t kv_heads, int64_t value_dim);

  /// The batch's keys and values must have been stored.
  ///   queries [tokens, heads, cache.key_width()]  zeros beyond the head's dimension
  ///   out     [tokens, heads, value_dim]
  void Run(const AttentionRule& rule, int64_t layer, const Batch& batch, const KvCache& cache,
           const float* queries, float* out);

 private:
  struct Task;
  struct Scratch {
    std::vector<float> sums;     ///< [queries, heads, value_width] weighted sums of values
    std::vector<float> scores;   ///< [page_tokens]
    std::vector<float> maxima;   ///< [queries, heads]
    std::vector<double> totals;  ///< [queries, heads] sums of exponentials
  };
  static int64_t HeadsPerTask(int64_t heads, int64_t kv_heads);

  void RunTask(const AttentionRule& rule, int64_t layer, const KvCache& cache, const Task& task,
               const float* queries, float* out, Scratch& scratch) const;
  void AddPage(const AttentionRule& rule, const KvCache& cache, const KvCache::PageRows& rows,
               int64_t begin, int64_t end, const float* query, float& max, double& total,
               float* sum, float* scores) const;

  const KernelSet& kernels_;
  ThreadPool& threads_;
  int64_t heads_, kv_heads_, value_dim_;
  int64_t heads_per_task_;
  std::vector<Scratch> scratch_;     ///< one a worker
  std::vector<int64_t> first_task_;  ///< of each chunk of the present batch
};

/// A layer's attention from the normed residual stream to its output projection.
class AttentionBlock {
 public:
  virtual ~AttentionBlock() = default;

  /// Stores the batch's keys and values and attends to them.
  ///   x    [tokens, dim]
  ///   out  [tokens, dim]
  virtual void Run(int64_t layer, const Batch& batch, KvCache& cache, const float* x,
                   float* out) = 0;
};

}  // namespace moxie
