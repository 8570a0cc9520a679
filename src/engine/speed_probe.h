#pragma once

#include "core/page_buffer.h"
#include "engine/sizing.h"
#include "forward/decoder.h"
#include "model/config.h"
#include "model/weights.h"
#include "moxie/model.h"
#include "moxie/plan.h"

namespace moxie {

/// What a model does on this machine with all weights in memory.
struct ProbedSpeeds {
  TokenSeconds decode;   ///< a pass of one token
  TokenSeconds prefill;  ///< a prompt token's share of a pass, the logits' for the whole prompt
  /// Laying weights out anew while loading, where the kernels want that: experts, and all others.
  double pack_experts_s = 0, pack_others_s = 0;
};

struct ProbeOptions {
  int64_t prompt_tokens = 0;
  bool streamed = false;  ///< experts lie as files have them, not packed
  bool patient = false;   ///< about half a second instead of some tenths
};

/// Measures some layers of a model in the real forward pass, with weights that are bytes at random
/// in the types and shapes of `weights` (an outline will do) and routing that is even, and works
/// out the whole: every kind of layer counts as often as the model has it, the head as many rows.
/// The layers' weights exceed the caches, as a real model's do. Takes at most about the memory of
/// one layer or 256 MiB.
///
/// `memory` is what the weights lie in; it grows as needed, and serves the next model as well.
/// `options` must be complete. Errors: kOverBudget where that memory is not to be had.
Result<ProbedSpeeds> ProbeSpeeds(const ModelConfig& config, const ModelWeights& weights,
                                 const ModelOptions& options, const RunSizes& sizes,
                                 const KernelSet& kernels, ThreadPool& threads,
                                 const ProbeOptions& probe, PageBuffer& memory);

}  // namespace moxie
