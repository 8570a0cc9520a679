#pragma once

#include <cstdint>
#include <vector>

#include "core/function_ref.h"
#include "forward/adapters.h"
#include "forward/feed_forward.h"
#include "forward/linear.h"
#include "memory/expert_store.h"
#include "model/config.h"
#include "model/weights.h"
#include "moxie/result.h"

namespace moxie {

struct ForwardObservers;
class InputObserver;
class RoutingObserver;

/// The feed-forward half of every layer: a dense feed-forward, or a sparse mixture (Mixtral,
/// arXiv:2401.04088, section 2.1) with or without shared experts.
///
/// Tokens are grouped by expert, each expert's matrices are passed over once for all its tokens of
/// a block, and the store is asked for each expert once for all blocks;
/// and a token's outputs are summed in the order of its choices, in float64: the result does not
/// depend on which expert was ready first, nor on the other tokens.
class FeedForwardLayers {
 public:
  /// What Run may be given at most, and how much of it is multiplied at once.
  struct Most {
    int64_t tokens = 0;
    int64_t block = 0;
  };
  FeedForwardLayers(const ModelConfig& config, const ModelWeights& weights, ExpertStore& experts,
                    AdapterTerms& adapters, const KernelSet& kernels, ThreadPool& threads,
                    const Most& most);
  /// The bytes of one's buffers.
  static int64_t BytesFor(const ModelConfig& config, const ModelWeights& weights,
                          const KernelSet& kernels, const Most& most);

  ///   x    [tokens, dim]
  ///   out  [tokens, dim]
  /// Errors: kInvalidInput where a router logit is not finite; what the expert store reports.
  Result<void> Run(int64_t layer, int64_t tokens, const float* x, const ForwardObservers& observers,
                   float* out);

 private:
  /// What the layers ask of the buffers.
  struct Needs {
    std::vector<WeightTypes> input_types;  ///< [layers]
    FeedForward::Room room;
  };
  static Needs NeedsOf(const ModelConfig& config, const ModelWeights& weights,
                       const KernelSet& kernels, int64_t block_tokens);
  void Convert(int64_t layer, int64_t first, int64_t count, const float* x);
  /// Calls visit(first, count) for each block of that many tokens.
  void ForEachBlock(int64_t tokens, FunctionRef<void(int64_t first, int64_t count)> visit) const;
  void RunDense(int64_t layer, int64_t tokens, const float* x, InputObserver* inputs, float* out);
  Result<void> RunMixture(int64_t layer, int64_t tokens, const float* x,
                          const ForwardObservers& observers, float* out);
  Result<void> Choose(int64_t layer, int64_t tokens, const float* x, RoutingObserver* observer);
  void GroupByExpert(int64_t tokens);
  Result<void> RunExperts(int64_t layer, int64_t tokens, const float* x, InputObserver* inputs);
  void AddTask(int64_t layer, const ExpertStore::Ready& expert, int64_t first, int64_t count);
  void Combine(const LayerWeights& layer, int64_t token, const float* x, float* out) const;

  const ModelConfig& config_;
  const ModelWeights& weights_;
  ExpertStore& store_;
  AdapterTerms& adapters_;
  const KernelSet& kernels_;
  ThreadPool& threads_;
  const int64_t block_tokens_;
  FeedForward feed_forward_;
  std::vector<WeightTypes> input_types_;  ///< [layers] of router, experts, shared or dense
  ActivationRows input_;                  ///< of a block
  int64_t converted_first_ = -1;          ///< that block's first token, -1: none of this layer
  ProductList router_;
  std::vector<int32_t> all_tokens_;    ///< 0, 1, 2, ...
  std::vector<float> logits_;          ///< [tokens, experts]
  std::vector<int32_t> ids_;           ///< [tokens, used]
  std::vector<float> choice_weights_;  ///< [tokens, used]
  std::vector<int32_t> first_slot_;    ///< [experts + 1] a slot is a token's visit to an expert
  std::vector<int32_t> slot_tokens_;   ///< [tokens * used] by expert, then by token
  std::vector<int32_t> slots_;         ///< [tokens, used] the slot of each choice
  std::vector<int32_t> chosen_;        ///< experts with at least one token
  std::vector<FeedForwardTask> tasks_;
  std::vector<float> slot_out_;    ///< [tokens * used, dim]
  std::vector<float> shared_out_;  ///< [tokens, dim]
};

}  // namespace moxie
