#include "engine/sizing.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "core/thread_pool.h"
#include "memory/streamed_store.h"
#include "moxie/machine.h"
#include "sampling/sampler.h"

namespace moxie {
namespace {

constexpr int64_t kPageTokens = 32;
constexpr int kMaxThreads = 1024;
constexpr int kMaxParallel = 4096;
constexpr int64_t kMaxContext = int64_t{1} << 24;
constexpr int64_t kMaxBatchTokens = 1 << 16;

Error OutOfRange(const std::string& what, int64_t value, int64_t least, int64_t most) {
  return {ErrorCode::kInvalidInput, what + " is " + std::to_string(value) + ", but must be " +
                                        std::to_string(least) + ".." + std::to_string(most)};
}

Result<DType> ParseKvType(const ModelOptions& options) {
  const std::optional<DType> type = DTypeFromName(options.kv_type);
  if (type == DType::kF32 || type == DType::kF16 || type == DType::kQ8_0) return *type;
  return Error{ErrorCode::kInvalidInput,
               "--kv-type is " + options.kv_type + ", but must be f16, q8_0 or f32"};
}

int64_t AdapterBytes(const std::vector<const AdapterWeights*>& adapters) {
  size_t floats = 0;
  const auto add = [&](const LoraPair& pair) { floats += pair.a.size() + pair.b.size(); };
  const auto add_ffn = [&](const FeedForwardAdapter& ffn) {
    for (const LoraPair* pair : {&ffn.gate, &ffn.up, &ffn.down}) add(*pair);
  };
  for (const AdapterWeights* adapter : adapters) {
    for (const LayerAdapter& layer : adapter->layers) {
      for (const LoraPair* pair : {&layer.q, &layer.k, &layer.v, &layer.output, &layer.router})
        add(*pair);
      add_ffn(layer.dense);
      add_ffn(layer.shared);
      for (const FeedForwardAdapter& expert : layer.experts) add_ffn(expert);
    }
  }
  return static_cast<int64_t>(floats * sizeof(float));
}

}  // namespace

Result<const KernelSet*> ChooseKernels(const ModelOptions& options) {
  const std::string& name = options.kernels;
  const KernelSet* set = name == "auto" ? &BestKernelSet() : FindKernelSet(name);
  if (set != nullptr) return options.batch_invariant ? &BatchInvariant(*set) : set;
  std::string usable;
  for (const KernelSet* known : AllKernelSets()) {
    if (known->usable()) usable += (usable.empty() ? "" : ", ") + std::string(known->name);
  }
  return Error{ErrorCode::kUnsupported,
               "--kernels is " + name + ", but this machine and build have " + usable};
}

Result<void> CompleteOptions(const ModelConfig& config, ModelOptions& options) {
  if (options.threads == 0) options.threads = UsableCpus();
  if (options.context == 0) {
    options.context = std::min(config.context_length > 0 ? config.context_length : kDefaultContext,
                               kDefaultContext);
  }
  if (options.threads < 1 || options.threads > kMaxThreads)
    return OutOfRange("--threads", options.threads, 1, kMaxThreads);
  if (options.context < 1 || options.context > kMaxContext)
    return OutOfRange("--context", options.context, 1, kMaxContext);
  if (options.parallel < 1 || options.parallel > kMaxParallel)
    return OutOfRange("parallel", options.parallel, 1, kMaxParallel);
  if (options.batch_tokens < 1 || options.batch_tokens > kMaxBatchTokens)
    return OutOfRange("batch_tokens", options.batch_tokens, 1, kMaxBatchTokens);
  options.batch_tokens = std::max<int64_t>(options.batch_tokens, options.parallel);
  // No pass can be larger than all sequences together.
  options.batch_tokens = std::min(options.batch_tokens, options.context * options.parallel);
  if (options.memory_bytes <= 0) options.memory_bytes = AutomaticMemoryBytes(InspectMachine());
  return {};
}

Result<std::vector<AdapterWeights>> LoadAdapters(const ModelOptions& options,
                                                 const ModelConfig& config) {
  std::vector<AdapterWeights> adapters;
  for (const AdapterOptions& adapter : options.adapters) {
    MOXIE_TRY_ASSIGN(AdapterWeights weights, LoadAdapter(adapter.path, config, adapter.scale));
    adapters.push_back(std::move(weights));
  }
  return adapters;
}

Result<RunSizes> SizesOf(const ModelOptions& options, std::span<const AdapterWeights> adapters) {
  MOXIE_TRY_ASSIGN(const DType kv_type, ParseKvType(options));
  const int64_t pages = (options.context + kPageTokens - 1) / kPageTokens;
  RunSizes sizes;
  sizes.cache = {.type = kv_type,
                 .capacity_tokens = pages * kPageTokens * options.parallel,
                 .page_tokens = kPageTokens,
                 .max_chunk_tokens = std::min(options.batch_tokens, options.context),
                 // As many again are kept for prompts that begin alike.
                 .max_sequences = 2 * options.parallel};
  sizes.decoder = {.max_tokens = options.batch_tokens, .max_logit_rows = options.batch_tokens};
  for (const AdapterWeights& adapter : adapters) sizes.decoder.adapters.push_back(&adapter);
  return sizes;
}

namespace {

MemoryPlan PlanSizes(const ModelConfig& config, const ModelWeights& weights,
                     const WeightPlaces& places, const HeadBytes& head, const ModelOptions& options,
                     const KernelSet& kernels, const RunSizes& sizes) {
  const int64_t logits = config.vocab_size * static_cast<int64_t>(sizeof(float));
  const int64_t a_sequence = logits + Sampler::BytesFor(config.vocab_size);
  return PlanMemory(config, weights, places,
                    {.cache = sizes.cache,
                     .activation_bytes = Decoder::BytesFor(config, weights, kernels,
                                                           options.threads, sizes.decoder) +
                                         options.parallel * a_sequence,
                     .adapter_bytes = AdapterBytes(sizes.decoder.adapters),
                     .tokenizer_bytes = head.tokenizer,
                     .process_bytes = head.process,
                     .head_peak_bytes = head.peak,
                     .threads = options.threads,
                     .budget_bytes = options.memory_bytes});
}

}  // namespace

MemoryPlan PlanRun(const ModelConfig& config, const ModelWeights& weights,
                   const WeightPlaces& places, const HeadBytes& head, const ModelOptions& options,
                   const KernelSet& kernels, RunSizes& sizes) {
  const auto plan = [&] {
    return PlanSizes(config, weights, places, head, options, kernels, sizes);
  };
  const MemoryPlan first = plan();
  const int64_t block = options.batch_tokens, all = options.context * options.parallel;
  if (first.expert_slots <= kLeastExpertSlots || all <= block) return first;
  const auto grow = [&](int64_t tokens) {
    sizes.decoder.max_tokens = tokens;
    sizes.decoder.block_tokens = block;
    sizes.cache.max_chunk_tokens = std::min(tokens, options.context);
  };
  const auto others = [](const MemoryPlan& p) { return p.need.total() - p.need.experts; };
  const int64_t spare = first.need.experts / 8;
  const RunSizes small = sizes;
  grow(std::min(2 * block, all));
  const int64_t more = std::max<int64_t>(others(plan()) - others(first), 1);
  const int64_t tokens = std::min(all, block + (sizes.decoder.max_tokens - block) * spare / more);
  sizes = small;
  // Whole blocks, unless that is all there can be.
  const int64_t pass = tokens < all ? tokens / block * block : all;
  if (pass <= block) return first;
  grow(pass);
  return plan();
}

}  // namespace moxie
