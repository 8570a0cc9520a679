#pragma once

#include <cstdint>

#include "memory/kv_cache.h"
#include "model/config.h"
#include "model/weights.h"
#include "moxie/model.h"

namespace moxie {

/// What the plan cannot work out from the model's shapes: parts that others account for.
struct PlanInputs {
  KvCache::Options cache;
  int64_t activation_bytes = 0;  ///< Decoder::BytesFor, logits and sampling
  int64_t adapter_bytes = 0;     ///< of LoRA adapters, float32
  int64_t tokenizer_bytes = 0;   ///< vocabulary, template and metadata
  int64_t program_bytes = 0;     ///< code and libraries
  int64_t io_bytes = 0;          ///< buffers between disk and experts, where experts are streamed
  bool can_stream = false;       ///< whether experts may stay on disk
  int threads = 1;
  int64_t budget_bytes = 0;  ///< 0: none
};

/// Where memory goes, and what a budget leaves for experts.
struct MemoryPlan {
  MemoryNeed need;           ///< with experts as many as the budget allows, or all
  int64_t weight_bytes = 0;  ///< of all weights together
  int64_t expert_bytes = 0;  ///< of all experts together
  int64_t largest_expert = 0;
  int64_t least_total = 0;  ///< the smallest budget that works
  bool streamed = false;    ///< the budget holds some experts only; the rest are read as needed
  double expert_share = 1;  ///< of the experts' bytes that stay in memory; the expected hit rate,
                            ///< since routing is close to even (arXiv:2401.04088, section 5)
};

/// The peak of a run, before anything is loaded. `weights` may be an outline. The engine takes
/// memory by the same numbers, so they are what happens and not an estimate of it; what is left to
/// judgement is below 2 MiB (allocator and stacks) and counted from above.
///
/// With a budget below need.total() of the result the model cannot run.
MemoryPlan PlanMemory(const ModelConfig& config, const ModelWeights& weights,
                      const PlanInputs& inputs);

}  // namespace moxie
