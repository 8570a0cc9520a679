#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "forward/input_observer.h"
#include "kernels/kernel_set.h"
#include "memory/expert_store.h"
#include "memory/kv_cache.h"
#include "model/adapter.h"
#include "model/config.h"
#include "model/weights.h"
#include "moxie/profile.h"
#include "moxie/result.h"

namespace moxie {

/// Which positions of a chunk need logits.
enum class LogitRows : uint8_t { kNone, kLast, kAll };

/// The next tokens of one sequence: a prefill chunk or a single decode step. A forward pass takes
/// any mix of them, each sequence at most once.
struct SequenceChunk {
  SequenceId sequence = 0;
  std::span<const int32_t> tokens;
  LogitRows logits = LogitRows::kLast;
};

/// Sees the routing of each mixture layer as it is decided. Called from the thread that called
/// Forward; the spans are valid during the call only.
class RoutingObserver {
 public:
  virtual ~RoutingObserver() = default;

  ///   logits  [tokens, experts]  router logits
  ///   ids     [tokens, used]     chosen experts, heaviest first
  ///   weights [tokens, used]     their weights as applied
  /// Tokens are in the order of the chunks.
  virtual void OnRouting(int64_t layer, std::span<const float> logits, std::span<const int32_t> ids,
                         std::span<const float> weights) = 0;
};

/// Sees the residual stream: the embeddings (index 0), then the output of each layer, the last
/// one after the final norm; for tests and importance. [tokens, dim]
class HiddenObserver {
 public:
  virtual ~HiddenObserver() = default;
  virtual void OnHidden(int64_t index, std::span<const float> hidden) = 0;
};

/// Hears of each layer that a pass has finished, in the thread that called Forward.
class LayerObserver {
 public:
  virtual ~LayerObserver() = default;
  /// `done` of `all` layers. False gives the pass up (kCancelled).
  virtual bool OnLayer(int64_t done, int64_t all) = 0;
};

/// Where a pass begins: at the embeddings, or at a layer whose input is known from an earlier pass
/// of the same chunks (HiddenObserver), to see what changes from there on without computing what
/// does not.
struct ForwardStart {
  int64_t layer = 0;
  std::span<const float> hidden = {};  ///< [tokens, dim] that layer's input, or empty for layer 0
};

struct ForwardObservers {
  RoutingObserver* routing = nullptr;
  HiddenObserver* hidden = nullptr;
  Profile* profile = nullptr;
  InputObserver* inputs = nullptr;
  LayerObserver* layers = nullptr;
};

/// The forward pass of a decoder-only transformer (arXiv:1706.03762; mixture layers after
/// arXiv:2401.04088) over a ragged batch of sequences. Everything that differs between families
/// is read from ModelConfig.
///
/// For one kernel set and cache type the results do not depend on the number of threads or on where
/// experts lie, bit for bit, and with a batch-invariant kernel set not on what else is in the batch
/// or how a sequence is cut into chunks either: kernels compute every row alike (kernel_set.h),
/// attention walks pages that are fixed by position, and experts' outputs are summed in the order
/// of choice. Other sets choose the activations' form by the number of tokens of the block. What a
/// pass of several blocks computes are the same calls of kernels as in a pass for each. One call at
/// a time; all referenced objects must outlive it. Buffers for `max_tokens` are taken at
/// creation, nothing is allocated afterwards.
class Decoder {
 public:
  struct Options {
    int64_t max_tokens = 512;      ///< tokens of one forward pass, over all chunks
    int64_t max_logit_rows = 512;  ///< rows of logits of one forward pass
    int64_t block_tokens = 0;      ///< tokens multiplied at once, where a pass has more: each layer
                                   ///< takes a pass block by block, but asks for each expert once.
                                   ///< 0: a pass is one block
    std::vector<const AdapterWeights*> adapters =
        {};  ///< applied together; must outlive the decoder
  };

  static Result<std::unique_ptr<Decoder>> Create(const ModelConfig& config,
                                                 const ModelWeights& weights, ExpertStore& experts,
                                                 const KernelSet& kernels, ThreadPool& threads,
                                                 const Options& options);
  virtual ~Decoder() = default;

  /// The bytes of a decoder's buffers, from the sizes and types of `weights` alone: their bytes
  /// need not be there (OutlineWeights).
  static int64_t BytesFor(const ModelConfig& config, const ModelWeights& weights,
                          const KernelSet& kernels, int threads, const Options& options);

  /// Runs the chunks and appends their keys and values to `cache`.
  ///   logits  [rows, vocab]  out: rows in chunk order, as each chunk's LogitRows asks
  /// A pass that starts at a later layer stores no keys and values of those before it, so its
  /// sequences must begin with it and cannot go on from layer 0.
  ///
  /// Errors: kInvalidInput (a token id outside the vocabulary, sizes beyond the options),
  /// kOverBudget (no free pages), kIo from the expert store, kCancelled by an observer. After an
  /// error the sequences' lengths are as before.
  virtual Result<void> Forward(std::span<const SequenceChunk> chunks, KvCache& cache,
                               std::span<float> logits, const ForwardObservers& observers = {},
                               const ForwardStart& start = {}) = 0;
};

}  // namespace moxie
