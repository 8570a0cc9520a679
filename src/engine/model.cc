#include "moxie/model.h"

#include <sys/resource.h>

#include <chrono>
#include <string>

#include "engine/model_parts.h"
#include "engine/sizing.h"

namespace moxie {
namespace {

Result<void> CheckBudget(const std::string& path, const MemoryNeed& need, int64_t budget) {
  if (budget == 0 || need.total() <= budget) return {};
  const auto mib = [](int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20); };
  return Error{ErrorCode::kOverBudget,
               path + ": needs " + mib(need.total()) + " MiB (weights " +
                   mib(need.weights + need.experts) + ", keys and values " + mib(need.kv_cache) +
                   ", activations " + mib(need.activations) + ", the rest " +
                   mib(need.io_buffers + need.tokenizer + need.program) +
                   "), but --memory allows " + std::to_string(budget >> 20) + " MiB"};
}

Result<void> TakeMemory(const std::string& path, Model::Parts& parts) {
  const ModelOptions& options = parts.options;
  MOXIE_TRY_ASSIGN(const RunSizes sizes, SizesOf(options, parts.adapters));
  parts.cache_options = sizes.cache;
  parts.need =
      PlanRun(parts.config, parts.weights, options, sizes, *parts.kernels, parts.head_bytes).need;
  MOXIE_TRY(CheckBudget(path, parts.need, options.memory_bytes));
  MOXIE_TRY_ASSIGN(parts.cache, KvCache::Create(parts.config, parts.cache_options));
  parts.threads = std::make_unique<ThreadPool>(options.threads);
  parts.experts = MakeResidentExpertStore(parts.weights);
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

int64_t PeakMemoryBytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace moxie
