#pragma once

#include "core/page_buffer.h"
#include "engine/sizing.h"
#include "forward/decoder.h"
#include "model/config.h"
#include "model/weights.h"
#include "moxie/model.h"

namespace moxie {

/// Where a forward pass spends its time, in seconds.
struct PassSeconds {
  double experts = 0;  ///< chosen experts and shared ones
  double head = 0;     ///< logits
  double rest = 0;     ///< attention, routers, dense feed-forwards, norms
  double total() const { return experts + head + rest; }
};

/// What a model does on this machine with all weights in memory.
struct ProbedSpeeds {
  PassSeconds decode;   ///< a pass of one token
  PassSeconds prefill;  ///< a pass's share of one prompt token, its logits for the whole prompt
};

/// Measures some layers of a model in the real forward pass, with weights that are bytes of 0 in
/// the types and shapes of `weights` (an outline will do) and routing that is even, and works out
/// the whole: every kind of layer counts as often as the model has it, the head as many rows. The
/// layers' weights exceed the caches, as a real model's do. Takes some tenths of a second and at
/// most about the memory of one layer or 256 MiB.
///
/// `memory` is what the weights lie in; it grows as needed, and serves the next model as well.
/// `options` must be complete. Errors: kOverBudget where that memory is not to be had.
Result<ProbedSpeeds> ProbeSpeeds(const ModelConfig& config, const ModelWeights& weights,
                                 const ModelOptions& options, const RunSizes& sizes,
                                 const KernelSet& kernels, ThreadPool& threads,
                                 int64_t prompt_tokens, PageBuffer& memory);

}  // namespace moxie
