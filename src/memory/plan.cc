#include "memory/plan.h"

#include <algorithm>

#include "core/thread.h"
#include "memory/streamed_store.h"
#include "model/outline.h"

namespace moxie {
namespace {

// What a process that has read a model's head has not touched yet: the text, the program's data,
// what the allocator keeps. Measured (tests/memory/plan_test.py) as between 1.9 MiB less than
// nothing, where something else is counted too high, and nothing.
constexpr int64_t kProcessBytes = 1 << 20;

// Two processes that do the same differ by some pages, and more while heads are read, where the
// order of what threads allocate plays a part.
constexpr int64_t kPeakDifference = 256 << 10;
constexpr int64_t kHeadPeakDifference = 1 << 20;

/// The system's page tables for so much memory: 8 bytes a page, huge pages included, for which the
/// system keeps tables ready.
int64_t PageTableBytes(int64_t bytes) { return RoundUpToPage(bytes / kPageBytes * 8); }

/// Decides how many experts stay in memory, and accounts for it. Expects `need` without experts.
void PlanStreaming(const ModelWeights& weights, int64_t budget, MemoryPlan& plan) {
  MemoryNeed& need = plan.need;
  const auto store = [&](int64_t slots) { return StreamedStoreBytes(weights, slots); };
  need.experts = 0;
  need.io_buffers = FileReader::OwnBytes(StreamReaderOptions(weights));
  const int64_t others = need.total();
  plan.least_total = others + store(kLeastExpertSlots);
  plan.least_total += PageTableBytes(plan.least_total);
  budget -= PageTableBytes(budget);
  int64_t& slots = plan.expert_slots;
  slots = std::clamp((budget - others) / plan.expert_bytes, kLeastExpertSlots, plan.experts);
  while (slots > kLeastExpertSlots && others + store(slots) > budget) --slots;
  need.experts = store(slots);
  plan.hit_rate = static_cast<double>(slots) / static_cast<double>(plan.experts);
}

}  // namespace

MemoryPlan PlanMemory(const ModelConfig& config, const ModelWeights& weights,
                      const WeightPlaces& places, const PlanInputs& inputs) {
  const WeightBytes bytes = CountBytes(config, weights);
  MemoryPlan plan;
  plan.weight_bytes = bytes.matrices + bytes.vectors + bytes.experts;
  plan.experts = StreamedExperts(weights);
  plan.expert_bytes = ExpertSlotBytes(weights);
  MemoryNeed& need = plan.need;
  need.weights = places.shared + places.heap + inputs.adapter_bytes;
  need.experts = places.experts;
  need.kv_cache = KvCache::BytesFor(config, inputs.cache);
  need.activations = inputs.activation_bytes;
  need.tokenizer = inputs.tokenizer_bytes;
  need.program =
      inputs.process_bytes + kProcessBytes + (inputs.threads - 1) * Thread::kOccupiedBytes;
  plan.least_total = need.total() + PageTableBytes(need.total());
  plan.all_total = plan.least_total + kPeakDifference;
  const bool all_fit = inputs.budget_bytes == 0 || plan.least_total <= inputs.budget_bytes;
  if (plan.experts >= kLeastExpertSlots) {
    MemoryPlan streamed = plan;
    PlanStreaming(weights, inputs.budget_bytes, streamed);
    const int64_t least = std::min(plan.least_total, streamed.least_total);
    if (!all_fit) plan = streamed;
    plan.least_total = least;
  }
  need.program += PageTableBytes(need.total());
  // A small model with a large vocabulary takes most while that is read.
  const int64_t head_peak = inputs.head_peak_bytes + kHeadPeakDifference;
  need.program += std::max<int64_t>(0, head_peak - need.total());
  plan.least_total = std::max(plan.least_total, head_peak) + kPeakDifference;
  return plan;
}

}  // namespace moxie
