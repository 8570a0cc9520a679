#include "moxie/model.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "engine/model_parts.h"

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

Result<const KernelSet*> ChooseKernels(const std::string& name) {
  if (name == "auto") return &BestKernelSet();
  const KernelSet* set = FindKernelSet(name);
  if (set != nullptr) return set;
  std::string usable;
  for (const KernelSet* known : AllKernelSets()) {
    if (known->usable()) usable += (usable.empty() ? "" : ", ") + std::string(known->name);
  }
  return Error{ErrorCode::kUnsupported,
               "--kernels is " + name + ", but this machine and build have " + usable};
}

/// Checks the options and fills in their defaults.
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
  if (options.memory_bytes < 0) options.memory_bytes = 0;
  return {};
}

/// Buffers of the forward pass, estimated from above: for each token of a batch the residual
/// stream, the projections, and what the experts that it goes to keep; and one row of logits for
/// each sequence.
int64_t ActivationBytes(const ModelConfig& config, const ModelOptions& options) {
  const AttentionConfig& attention = config.attention;
  const int64_t head =
      std::max(attention.head_dim, attention.latent.nope_dim + attention.latent.rope_dim);
  const int64_t projections = (2 * attention.heads + 2 * attention.kv_heads) * head;
  const int64_t ffn = std::max(config.ffn_dim + config.shared_ffn_dim,
                               config.expert_ffn_dim * config.router.used + config.shared_ffn_dim);
  const int64_t per_token = 6 * config.dim + projections + 4 * ffn + 4 * config.router.experts;
  return 4 * (options.batch_tokens * per_token + options.parallel * config.vocab_size +
              options.threads * options.context);
}

MemoryNeed NeedOf(const Model::Parts& parts) {
  MemoryNeed need;
  for (const TensorInfo& tensor : parts.files.tensors.tensors())
    need.weights += static_cast<int64_t>(tensor.bytes);
  need.kv_cache = KvCache::BytesFor(parts.config, parts.cache_options);
  need.activations = ActivationBytes(parts.config, parts.options);
  return need;
}

Result<void> CheckBudget(const std::string& path, const MemoryNeed& need, int64_t budget) {
  if (budget == 0 || need.total() <= budget) return {};
  const auto mib = [](int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20); };
  return Error{ErrorCode::kOverBudget, path + ": needs " + mib(need.total()) + " MiB (weights " +
                                           mib(need.weights) + ", keys and values " +
                                           mib(need.kv_cache) + ", activations " +
                                           mib(need.activations) + "), but --memory allows " +
                                           std::to_string(budget >> 20) + " MiB"};
}

Result<void> ReadTokenizerAndTemplate(Model::Parts& parts) {
  MOXIE_TRY_ASSIGN(parts.tokenizer, LoadTokenizer(parts.files));
  MOXIE_TRY_ASSIGN(parts.chat_template_source, ReadChatTemplate(parts.files));
  if (!parts.chat_template_source.empty())
    parts.chat_template.emplace(ChatTemplate::Compile(parts.chat_template_source));
  return {};
}

Result<void> ReadAdapters(Model::Parts& parts) {
  for (const AdapterOptions& adapter : parts.options.adapters) {
    MOXIE_TRY_ASSIGN(AdapterWeights weights,
                     LoadAdapter(adapter.path, parts.config, adapter.scale));
    parts.adapters.push_back(std::move(weights));
  }
  return {};
}

Result<void> TakeMemory(const std::string& path, Model::Parts& parts) {
  const ModelOptions& options = parts.options;
  MOXIE_TRY_ASSIGN(const DType kv_type, ParseKvType(options));
  const int64_t pages = (options.context + kPageTokens - 1) / kPageTokens;
  parts.cache_options = {.type = kv_type,
                         .capacity_tokens = pages * kPageTokens * options.parallel,
                         .page_tokens = kPageTokens,
                         .max_chunk_tokens = std::min(options.batch_tokens, options.context),
                         .max_sequences = options.parallel};
  parts.need = NeedOf(parts);
  MOXIE_TRY(CheckBudget(path, parts.need, options.memory_bytes));
  MOXIE_TRY_ASSIGN(parts.cache, KvCache::Create(parts.config, parts.cache_options));
  parts.threads = std::make_unique<ThreadPool>(options.threads);
  parts.experts = MakeResidentExpertStore(parts.weights);
  Decoder::Options decoder{.max_tokens = options.batch_tokens,
                           .max_logit_rows = options.batch_tokens};
  for (const AdapterWeights& adapter : parts.adapters) decoder.adapters.push_back(&adapter);
  MOXIE_TRY_ASSIGN(parts.decoder, Decoder::Create(parts.config, parts.weights, *parts.experts,
                                                  *parts.kernels, *parts.threads, decoder));
  return {};
}

}  // namespace

Model::Model(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Model::~Model() = default;

Result<std::unique_ptr<Model>> Model::Open(const std::string& path, const ModelOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  MOXIE_TRY_ASSIGN(ModelFiles files, OpenModelFiles(path));
  auto parts = std::make_unique<Parts>(std::move(files), options);
  MOXIE_TRY_ASSIGN(parts->kernels, ChooseKernels(options.kernels));
  MOXIE_TRY_ASSIGN(parts->config, ReadModelConfig(parts->files));
  MOXIE_TRY(CompleteOptions(parts->config, parts->options));
  MOXIE_TRY(ReadTokenizerAndTemplate(*parts));
  MOXIE_TRY_ASSIGN(parts->weights, LoadWeights(parts->files, parts->config));
  MOXIE_TRY(ReadAdapters(*parts));
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
