#pragma once

#include <atomic>
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

/// Softmax attention (arXiv:1706.03762, section 3.2.1) of queries over the pages of a cache.
///
/// Positions are cut into segments of some hundreds. Within a segment a query keeps a running
/// maximum and sum (arXiv:2205.14135, algorithm 1) page by page; segments are then joined in order
/// (arXiv:2311.01282, section 3.1). Segments and pages are fixed by position, so a query's result
/// does not depend on chunks, batch or threads.
///
/// Some queries of a chunk and the heads that share a key head pass over a page together. Where
/// there are many such tiles, as in a prompt, each walks all its segments; where there are few, as
/// in decoding, segments are shared out too.
class PagedAttention {
 public:
  struct Shape {
    int64_t heads = 1, kv_heads = 1;  ///< equal groups of heads share a key head, in order
                                      ///< (arXiv:2305.13245)
    int64_t key_dim = 1, value_dim = 1;
    int64_t max_chunks = 1;  ///< of a batch
  };
  PagedAttention(const Shape& shape, const KernelSet& kernels, ThreadPool& threads);

  /// The batch's keys and values must have been stored.
  ///   queries [tokens, heads, cache.key_width()]  zeros beyond the head's dimension
  ///   out     [tokens, heads, value_dim]
  void Run(const AttentionRule& rule, int64_t layer, const Batch& batch, const KvCache& cache,
           const float* queries, float* out);

  /// Bytes of the buffers that an object for this many threads takes at creation.
  static int64_t BytesFor(const Shape& shape, const KernelSet& kernels, int threads);

 private:
  struct Tile;
  struct Call;
  /// A softmax so far, of a tile's rows: a row is a query and a head.
  struct State {
    double* totals = nullptr;  ///< [rows] sums of exponentials
    float* maxima = nullptr;   ///< [rows] of the scores; exponentials are relative to them
    float* sums = nullptr;     ///< [rows, value_width] weighted sums of values
  };
  /// Where buffers lie: first the states, then a scratch of queries and scores for each thread.
  struct Layout {
    Layout(const Shape& shape, const KernelSet& kernels, int threads);
    int64_t states, state_rows, state_floats, query_floats, scratch_floats, floats;
  };

  bool AtOnce(const Call& call, const BatchChunk& chunk) const;
  int64_t QueriesPerTile(const Call& call, const BatchChunk& chunk) const;  ///< tokens, that is
  Tile TileAt(const Call& call, int64_t index) const;
  State StateAt(int64_t index);
  void Start(const Call& call, const Tile& tile, const State& whole) const;
  void AddSegment(const Call& call, const Tile& tile, int64_t segment, int worker,
                  const State& part);
  void AddSegmentAtOnce(const Call& call, const Tile& tile, int64_t segment, float* scratch,
                        const State& part) const;
  void AddPages(const Call& call, const Tile& tile, int64_t segment, float* queries,
                const State& part) const;
  void AddRows(const Call& call, const Tile& tile, int64_t position, const CacheRows& keys,
               const CacheRows& values, float* scratch, const State& part) const;
  float Exponentials(const Call& call, int64_t begin, int64_t end, int64_t count, float* scores,
                     float max, double& total) const;
  static void Join(const Tile& tile, int64_t width, const State& part, const State& whole);
  void Finish(const Call& call, const Tile& tile, const State& whole) const;
  void RunTiles(const Call& call, int64_t tiles);
  void RunSegments(const Call& call, int64_t tiles, int64_t segments);

  Shape shape_;
  const KernelSet& kernels_;
  ThreadPool& threads_;
  int64_t group_;           ///< heads that share a key head
  int64_t heads_per_tile_;  ///< of a group
  Layout layout_;
  std::vector<float> floats_;
  std::vector<double> totals_;                    ///< of the states
  std::vector<std::atomic<int32_t>> unfinished_;  ///< segments of each tile
  std::vector<int64_t> first_tile_;               ///< of each chunk of the present batch
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
