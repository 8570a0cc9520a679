#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "forward/activation.h"
#include "forward/adapters.h"
#include "forward/input_observer.h"
#include "forward/linear.h"
#include "kernels/kernel_set.h"
#include "memory/expert_store.h"

namespace moxie {

/// One gated feed-forward (a dense layer's, an expert or a shared expert) and the tokens that pass
/// through it.
struct FeedForwardTask {
  ExpertView weights;
  std::span<const int32_t> tokens;          ///< rows of the input
  float* out = nullptr;                     ///< [tokens, dim], in the order of `tokens`
  const FeedForwardPairs* pairs = nullptr;  ///< of adapters, or null
  MatrixPlace place = {};                   ///< for the observer; its role does not matter
};

/// Computes out = down(activation(gate x) * up x) for many feed-forwards at once, between few
/// barriers: all gates and ups, then all downs, which need not be in memory before. A dense
/// feed-forward and a mixture's experts are computed by the same code, so equal weights give equal
/// bits.
class FeedForward {
 public:
  FeedForward(const GatedActivation& activation, int64_t dim, AdapterTerms& adapters,
              const KernelSet& kernels, ThreadPool& threads)
      : activation_(activation),
        dim_(dim),
        adapters_(adapters),
        kernels_(kernels),
        threads_(threads) {}

  /// What one kind of task may ask for at most.
  struct Demand {
    int64_t tasks = 0;
    int64_t rows = 0;  ///< tokens of all these tasks together
    int64_t ffn = 0;
    WeightTypes input_types;  ///< of gate and up
    WeightTypes down_types;
  };
  /// What the buffers hold at most.
  struct Room {
    int64_t tasks = 0;
    int64_t rows = 0;                     ///< of all tasks together
    int64_t inner = 0;                    ///< floats of gate, and as many of up
    int64_t gathered = 0, converted = 0;  ///< bytes

    /// Grows to what a Run with tasks of all these kinds together asks for.
    void Include(std::span<const Demand> demands, const KernelSet& kernels, int64_t dim);
    int64_t bytes() const;
  };
  void Reserve(const Room& room);

  /// `x` holds the input rows in the forms of every task's gate and up, `floats` as they were
  /// before, [rows, dim]. Allocates nothing.
  void RunGates(std::span<const FeedForwardTask> tasks, const ActivationRows& x,
                const float* floats, InputObserver* observer = nullptr);
  /// The rest of the same tasks.
  void RunDowns(std::span<const FeedForwardTask> tasks);

 private:
  struct Work {
    Product gate, up, down;

    const float* ActivatedRow(int64_t t) const { return gate.out + t * gate.out_stride; }
  };

  /// Rows to convert together.
  struct Panel {
    ActivationFormat format;
    int64_t cols = 0;
    const float* x = nullptr;
    std::span<const int32_t> tokens = {};  ///< whose rows of x; empty: the first `count`
    int64_t count = 0;
    std::byte* out = nullptr;
  };

  Activations Rows(std::span<const int32_t> tokens, const ActivationRows& x, const float* floats,
                   DType weights);
  int64_t TileFloats(std::span<const FeedForwardTask> tasks, int64_t pass_tokens) const;
  void Plan(std::span<const FeedForwardTask> tasks, const ActivationRows& x, const float* floats);
  void PlanDown(Work& work, int64_t pass_tokens);
  static void AddPanels(Panel panel, int64_t rows, std::vector<Panel>& panels);
  void MultiplyGate(const Work& work, int64_t begin, int64_t end) const;
  void ActivateTile(const Work& work, int64_t begin, int64_t end, int worker);
  void Convert(std::span<const Panel> panels) const;
  void Show(std::span<const FeedForwardTask> tasks, const float* floats,
            InputObserver& observer) const;

  GatedActivation activation_;
  int64_t dim_;
  AdapterTerms& adapters_;
  const KernelSet& kernels_;
  ThreadPool& threads_;
  std::vector<float> gate_, up_;      ///< of all tasks, or each worker's of a tile
  int64_t tile_floats_ = 0;           ///< a worker's; 0: all tasks'
  std::vector<std::byte> gathered_;   ///< input rows in the order of tasks
  std::vector<std::byte> converted_;  ///< activated rows in the forms of the downs
  int64_t gathered_bytes_ = 0;        ///< used so far in this Run
  int64_t converted_bytes_ = 0;
  std::vector<Panel> gathers_, conversions_;  ///< that fill gathered_ and converted_
  std::vector<Work> work_;
  RowTiles gate_tiles_, down_tiles_;
};

}  // namespace moxie
