#include "memory/plan.h"

#include <algorithm>

#include "model/outline.h"

namespace moxie {
namespace {

// The main thread's stack, the allocator's own and whatever grows with nothing.
constexpr int64_t kProcessBytes = 512 << 10;
// Pages of a worker's stack that are touched, and its thread-local data.
constexpr int64_t kThreadBytes = 64 << 10;

}  // namespace

MemoryPlan PlanMemory(const ModelConfig& config, const ModelWeights& weights,
                      const PlanInputs& inputs) {
  const WeightBytes bytes = CountBytes(config, weights);
  MemoryPlan plan;
  plan.weight_bytes = bytes.matrices + bytes.vectors + bytes.experts;
  plan.expert_bytes = bytes.experts;
  plan.largest_expert = bytes.largest_expert;
  MemoryNeed& need = plan.need;
  need.weights = bytes.matrices + bytes.vectors + inputs.adapter_bytes;
  need.experts = bytes.experts;
  need.kv_cache = KvCache::BytesFor(config, inputs.cache);
  need.activations = inputs.activation_bytes;
  need.tokenizer = inputs.tokenizer_bytes;
  need.program = inputs.program_bytes + kProcessBytes + (inputs.threads - 1) * kThreadBytes;
  plan.least_total = need.total();
  if (bytes.experts == 0 || !inputs.can_stream) return plan;

  // Streaming works from one layer's chosen experts on.
  const int64_t least = std::min(bytes.experts, config.router.used * bytes.largest_expert);
  const int64_t others = need.total() - need.experts + inputs.io_bytes;
  plan.least_total = std::min(plan.least_total, others + least);
  if (inputs.budget_bytes == 0 || need.total() <= inputs.budget_bytes) return plan;
  plan.streamed = true;
  need.io_buffers = inputs.io_bytes;
  need.experts = std::clamp(inputs.budget_bytes - others, least, bytes.experts);
  plan.expert_share = static_cast<double>(need.experts) / static_cast<double>(bytes.experts);
  return plan;
}

}  // namespace moxie
