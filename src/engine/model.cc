#include "moxie/model.h"

#include <chrono>
#include <new>
#include <string>
#include <system_error>

#include "core/process_memory.h"
#include "engine/model_parts.h"
#include "engine/sizing.h"

namespace moxie {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// What `act` gives, or an error where the system refuses memory or threads meanwhile.
template <class Act>
auto WithSystem(const std::string& path, const Act& act) -> decltype(act()) try {
  return act();
} catch (const std::bad_alloc&) {
  return Error{ErrorCode::kOverBudget, path + ": the system has not the memory to open it"};
} catch (const std::system_error& error) {
  return Error{ErrorCode::kOverBudget,
               path + ": the system refuses threads: " + error.code().message()};
}

std::string Mib(int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20); }

Error OverBudget(const std::string& path, const MemoryPlan& plan, int64_t budget) {
  const MemoryNeed& need = plan.need;
  return {ErrorCode::kOverBudget,
          path + ": needs at least " + Mib(plan.least_total) + " MiB (weights " +
              Mib(need.weights + need.experts) + ", keys and values " + Mib(need.kv_cache) +
              ", activations " + Mib(need.activations) + ", the rest " +
              Mib(need.io_buffers + need.tokenizer + need.program) + "), but --memory allows " +
              std::to_string(budget >> 20) +
              " MiB: a shorter --context, a smaller --batch, --kv-type q8_0 or a smaller type "
              "needs less"};
}

Result<void> TakeMemory(const std::string& path, Model::Parts& parts) {
  const ModelOptions& options = parts.options;
  MOXIE_TRY_ASSIGN(RunSizes sizes, SizesOf(options, parts.adapters));
  const WeightPlaces places = PlacesOf(parts.config, parts.weights, parts.files.tensors);
  const MemoryPlan plan =
      PlanRun(parts.config, parts.weights, places, parts.head, options, *parts.kernels, sizes);
  parts.cache_options = sizes.cache;
  parts.pass_tokens = sizes.decoder.max_tokens;
  parts.need = plan.need;
  parts.planned_hit_rate = plan.hit_rate;
  if (plan.need.total() > options.memory_bytes) return OverBudget(path, plan, options.memory_bytes);
  MOXIE_TRY_ASSIGN(parts.cache, KvCache::Create(parts.config, parts.cache_options));
  parts.threads = std::make_unique<ThreadPool>(options.threads);
  MOXIE_TRY(PlaceWeights(parts, plan.expert_slots));
  MOXIE_TRY_ASSIGN(parts.decoder, Decoder::Create(parts.config, parts.weights, *parts.experts,
                                                  *parts.kernels, *parts.threads, sizes.decoder));
  return {};
}

}  // namespace

Model::Model(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Model::~Model() = default;

Result<std::unique_ptr<Model>> Model::Open(const std::string& path, const ModelOptions& options) {
  MOXIE_TRY_ASSIGN(ModelHead head, ModelHead::Read(path, options));
  return Open(std::move(head));
}

Result<std::unique_ptr<Model>> Model::Open(ModelHead head) {
  return WithSystem(head.path(), [&]() -> Result<std::unique_ptr<Model>> {
    const auto start = Clock::now();
    std::unique_ptr<Parts> parts = std::move(head.parts_);
    CountProcess(*parts);  // What came since the head was read.
    MOXIE_TRY_ASSIGN(parts->adapters, LoadAdapters(parts->options, parts->config));
    MOXIE_TRY(TakeMemory(head.path(), *parts));
    parts->load_seconds += SecondsSince(start);
    return std::unique_ptr<Model>(new Model(std::move(parts)));
  });
}

Result<ModelHead> ModelHead::Read(const std::string& path, const ModelOptions& options) {
  return WithSystem(path, [&]() -> Result<ModelHead> {
    const auto start = Clock::now();
    MOXIE_TRY_ASSIGN(std::unique_ptr<Model::Parts> parts, ReadHead(path, options));
    parts->load_seconds = SecondsSince(start);
    return ModelHead(path, std::move(parts));
  });
}

ModelHead::ModelHead(std::string path, std::unique_ptr<Model::Parts> parts)
    : path_(std::move(path)), parts_(std::move(parts)) {}
ModelHead::ModelHead(ModelHead&&) noexcept = default;
ModelHead& ModelHead::operator=(ModelHead&&) noexcept = default;
ModelHead::~ModelHead() = default;
const ModelOptions& ModelHead::options() const { return parts_->options; }

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

int64_t PeakMemoryBytes() { return PeakResidentBytes(); }

}  // namespace moxie
