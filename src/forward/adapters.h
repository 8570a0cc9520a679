#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/function_ref.h"
#include "core/thread_pool.h"
#include "forward/linear.h"
#include "kernels/kernel_set.h"
#include "model/adapter.h"

namespace moxie {

/// The pairs that all adapters together have for one matrix.
using LoraPairs = std::vector<const LoraPair*>;

struct FeedForwardPairs {
  LoraPairs gate, up, down;
};

struct LayerPairs {
  LoraPairs q, k, v, output, router;
  FeedForwardPairs dense, shared;
  std::vector<FeedForwardPairs> experts;  ///< [experts], or empty where none is adapted
};

/// The low-rank halves of adapters (LoRA, arXiv:2106.09685) beside the products of a forward pass:
/// Reduce computes A x before a product, the product's terms then add scale * B (A x). Any number
/// of adapters apply at once, in the order given. Without adapters nothing is stored or computed.
class AdapterTerms {
 public:
  /// `max_rows`: the most rows that pass through one kind of matrix between two calls of Clear.
  AdapterTerms(std::span<const AdapterWeights* const> adapters, int64_t layers,
               const KernelSet& kernels, ThreadPool& threads, int64_t max_rows);
  /// The bytes of one's buffers.
  static int64_t BytesFor(std::span<const AdapterWeights* const> adapters, int64_t max_rows);

  /// The pairs of a layer; empty lists where it has none.
  const LayerPairs& layer(int64_t index) const { return layers_[static_cast<size_t>(index)]; }

  /// Forgets all terms: their products have been computed.
  void Clear();

  /// A x for each of `rows` rows; row(i) gives its floats. The result lives until Clear.
  std::span<const LowRankTerm> Reduce(const LoraPairs& pairs, int64_t rows,
                                      FunctionRef<const float*(int64_t row)> row);

 private:
  const KernelSet& kernels_;
  ThreadPool& threads_;
  std::vector<LayerPairs> layers_;
  std::vector<LowRankTerm> terms_;
  std::vector<float> reduced_;
  size_t reduced_used_ = 0;
};

}  // namespace moxie
