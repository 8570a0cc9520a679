#pragma once

#include <cstdint>

#include "memory/kv_cache.h"
#include "memory/resident_weights.h"
#include "model/config.h"
#include "model/weights.h"
#include "moxie/model.h"

namespace moxie {

/// What the plan cannot work out from the model's shapes: parts that others account for.
struct PlanInputs {
  KvCache::Options cache;
  int64_t activation_bytes = 0;  ///< Decoder::BytesFor, logits and sampling
  int64_t adapter_bytes = 0;     ///< of LoRA adapters, float32
  int64_t tokenizer_bytes = 0;   ///< vocabulary, template, metadata, tables of tensors
  int64_t process_bytes = 0;     ///< resident besides these, before weights are read
  int64_t head_peak_bytes = 0;   ///< resident at most while the files' heads were read
  int threads = 1;
  int64_t budget_bytes = 0;  ///< 0: none
};

/// Where memory goes, and what a budget leaves for experts.
struct MemoryPlan {
  MemoryNeed need;           ///< with experts as many as the budget allows, or all
  int64_t weight_bytes = 0;  ///< of all weights together
  int64_t least_total = 0;   ///< the smallest budget that works
  int64_t all_total = 0;     ///< with all weights in memory
  int64_t expert_slots = 0;  ///< experts in memory at once where the rest is read as needed;
                             ///< 0: all weights stay in memory
  int64_t experts = 0;       ///< that can be read as needed
  int64_t expert_bytes = 0;  ///< that reading one takes: ExpertSlotBytes
  double hit_rate = 1;       ///< of experts that a token asks for, found in memory where routing is
                             ///< even and independent (arXiv:2401.04088, section 5, finds it nearly
                             ///< so): the cached share, whatever the policy
};

/// The peak of a run, before a weight is read. `weights` may be an outline, and `places` then those
/// of an outline. The engine takes memory by the same numbers, so they are what happens and not an
/// estimate of it; what is left to judgement (code that is not touched yet, stacks, the allocator's
/// own) is below 4 MiB and counted from above.
///
/// Where need.total() exceeds the budget, the model cannot run in it.
MemoryPlan PlanMemory(const ModelConfig& config, const ModelWeights& weights,
                      const WeightPlaces& places, const PlanInputs& inputs);

}  // namespace moxie
