#include "moxie/model.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "engine/model_parts.h"
#include "engine/sizing.h"
#include "memory/resident_weights.h"
#include "memory/streamed_store.h"
#include "moxie/machine.h"

namespace moxie {
namespace {

std::string Mib(int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20); }

Error OverBudget(const std::string& path, const MemoryNeed& need, int64_t budget) {
  return {ErrorCode::kOverBudget,
          path + ": needs at least " + Mib(need.total()) + " MiB (weights " +
              Mib(need.weights + need.experts) + ", keys and values " + Mib(need.kv_cache) +
              ", activations " + Mib(need.activations) + ", the rest " +
              Mib(need.io_buffers + need.tokenizer + need.program) + "), but --memory allows " +
              std::to_string(budget >> 20) +
              " MiB: a shorter --context, a smaller --batch, --kv-type q8_0 or a smaller type "
              "needs less"};
}

/// Decides what stays in memory: everything where it fits in `budget`, else all but the experts and
/// as many of those as there is room for. Returns how many; 0: all weights.
Result<int64_t> ChooseExpertSlots(const std::string& path, Model::Parts& parts, int64_t budget) {
  MemoryNeed& need = parts.need;
  if (need.total() <= budget) return 0;
  const int64_t most = StreamedExperts(parts.weights);
  if (most < kLeastExpertSlots) return OverBudget(path, need, budget);
  need.io_buffers = FileReader::OwnBytes(StreamReaderOptions(parts.weights));
  need.experts = RearrangedExpertBytes(parts.weights);
  const int64_t others = need.total();
  const auto store = [&](int64_t slots) { return StreamedStoreBytes(parts.weights, slots); };
  int64_t slots = std::clamp((budget - others) / ExpertSlotBytes(parts.weights), int64_t{0}, most);
  while (slots > kLeastExpertSlots && others + store(slots) > budget) --slots;
  slots = std::max(slots, kLeastExpertSlots);
  need.experts += store(slots);
  if (need.total() > budget) return OverBudget(path, need, budget);
  return slots;
}

Result<void> TakeMemory(const std::string& path, Model::Parts& parts) {
  const ModelOptions& options = parts.options;
  MOXIE_TRY_ASSIGN(const RunSizes sizes, SizesOf(options, parts.adapters));
  parts.cache_options = sizes.cache;
  parts.need =
      PlanRun(parts.config, parts.weights, options, sizes, *parts.kernels, parts.head_bytes).need;
  const int64_t budget =
      options.memory_bytes > 0 ? options.memory_bytes : AutomaticMemoryBytes(InspectMachine());
  MOXIE_TRY_ASSIGN(const int64_t expert_slots, ChooseExpertSlots(path, parts, budget));
  for (const MappedFile& file : parts.files.tensors.files()) file.ReleasePages();
  MOXIE_TRY_ASSIGN(parts.cache, KvCache::Create(parts.config, parts.cache_options));
  parts.threads = std::make_unique<ThreadPool>(options.threads);
  MOXIE_TRY(PlaceWeights(parts, expert_slots));
  MOXIE_TRY_ASSIGN(parts.decoder, Decoder::Create(parts.config, parts.weights, *parts.experts,
                                                  *parts.kernels, *parts.threads, sizes.decoder));
  return {};
}

}  // namespace

Model::Model(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Model::~Model() = default;

Result<std::unique_ptr<Model>> Model::Open(const std::string& path, const ModelOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  MOXIE_TRY_ASSIGN(std::unique_ptr<Parts> parts, ReadHead(path, options));
  MOXIE_TRY_ASSIGN(parts->weights, LoadWeights(parts->files, parts->config));
  MOXIE_TRY_ASSIGN(parts->adapters, LoadAdapters(parts->options, parts->config));
  MOXIE_TRY(TakeMemory(path, *parts));
  parts->load_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return std::unique_ptr<Model>(new Model(std::move(parts)));
}

const Tokenizer& Model::tokenizer() const { return *parts_->tokenizer; }
bool Model::has_chat_template() const { return parts_->chat_template.has_value(); }
bool Model::is_mixture() const { return parts_->config.is_mixture(); }
int64_t Model::context() const { return parts_->options.context; }
int64_t Model::vocab_size() const { return parts_->config.vocab_size; }
int Model::threads() const { return parts_->threads->threads(); }
std::string_view Model::kernels() const { return parts_->kernels->name; }
MemoryNeed Model::memory_need() const { return parts_->need; }
double Model::load_seconds() const { return parts_->load_seconds; }
bool Model::streams_experts() const { return parts_->expert_files != nullptr; }
ExpertTraffic Model::expert_traffic() const { return parts_->experts->traffic(); }
std::string_view Model::read_method() const { return parts_->read_method; }

int64_t PeakMemoryBytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace moxie
