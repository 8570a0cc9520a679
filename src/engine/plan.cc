#include "moxie/plan.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "core/process_memory.h"
#include "engine/model_parts.h"
#include "engine/plan_speed.h"
#include "engine/sizing.h"
#include "engine/work_per_token.h"
#include "memory/file_speed.h"
#include "model/catalogue.h"
#include "model/describe.h"
#include "model/mix.h"
#include "model/outline.h"

namespace moxie {
namespace {

/// Heap and metadata for each token of a vocabulary with its merges, where there is no file to
/// read them from: what byte-level vocabularies of 49,152 to 151,936 tokens take.
constexpr int64_t kTokenizerBytesAToken = 450;

/// A model's shape, and its weights where there is a file.
struct Subject {
  ModelConfig config;
  HeadBytes head;
  Model::Parts* parts = nullptr;  ///< of a file, or null
};

/// As moxie quantize would store it.
ModelWeights OutlineAsMix(const ModelConfig& config, const Mix& mix) {
  std::vector<TensorSpec> tensors;
  OutlineWeights(config, [&](std::string_view name, int64_t cols) {
    // Experts are stacked, which the mix looks at; no number of rows is.
    const bool stacked = name.find("_exps.") != std::string_view::npos;
    std::vector<int64_t> shape = {2, cols};
    if (stacked) shape = {2, 2, cols};
    tensors.push_back({std::string(name), DType::kF32, std::move(shape)});
    return DType::kF32;
  });
  const AttentionConfig& attention = config.attention;
  const std::vector<DType> types = ChooseTypes(
      mix,
      {.layers = std::ssize(config.layers),
       .experts = config.router.experts,
       .queries_per_key = attention.heads / std::max<int64_t>(attention.kv_heads, 1),
       .shares_values = config.layers.size() == 80 && attention.kv_heads != attention.heads &&
                        (config.family == "llama" || config.family == "qwen2")},
      tensors);
  size_t next = 0;
  return OutlineWeights(config, [&](std::string_view, int64_t) { return types[next++]; });
}

/// All matrices of one type, but for routers, which stay float32 as llama.cpp keeps them; or as a
/// mix that is not also a type's name.
Result<ModelWeights> OutlineAs(const ModelConfig& config, const std::string& name) {
  const std::optional<DType> type = DTypeFromName(name);
  const std::vector<std::string> types = PlanTypes();
  if (!type || std::ranges::find(types, NameOf(*type)) == types.end()) {
    const Mix* const mix = FindMix(name);
    if (mix != nullptr) return OutlineAsMix(config, *mix);
    std::string known;
    for (const std::string& each : types) known += (known.empty() ? "" : ", ") + each;
    known += " or a mix: " + MixNames();
    return Error{ErrorCode::kInvalidInput, "--type is " + name + ", but must be one of " + known};
  }
  return OutlineWeights(config, [&](std::string_view tensor, int64_t cols) {
    const bool router = tensor.find("ffn_gate_inp") != std::string_view::npos;
    return router ? DType::kF32 : TypeForRows(*type, cols);
  });
}

Result<Subject> FindSubject(const std::string& name) {
  const std::optional<CatalogueModel> known = FindInCatalogue(name);
  if (!known)
    return Error{ErrorCode::kNotFound,
                 name + ": is neither a file or folder nor a model of the catalogue"};
  PopulateProgram();
  return Subject{.config = known->config,
                 .head = {.tokenizer = known->config.vocab_size * kTokenizerBytesAToken,
                          .process = ResidentBytes()}};
}

/// What all rows of a plan share.
struct Setting {
  const Subject& subject;
  const ModelOptions& options;
  const RunSizes& sizes;
  const KernelSet& kernels;
  const MachineSpeeds* machine;  ///< null: speed is not planned
  const RoutingTrace* routing;   ///< or null: even
  bool patient;                  ///< there is one type alone
  PageBuffer& probe_memory;
};

/// What a cache of as large a share of the experts finds of a routing that was recorded.
double HitRateOf(const RoutingTrace& routing, const MemoryPlan& memory) {
  const auto experts = static_cast<double>(std::ssize(routing.layers) * routing.experts);
  const double share =
      static_cast<double>(memory.expert_slots) / static_cast<double>(memory.experts);
  const auto cached = std::max<int64_t>(std::llround(experts * share), routing.experts_per_token);
  return ReplayRouting(routing, cached).front().hit_rate;
}

/// Of a layer, that so many tokens of a routing that was recorded go to at its beginning, on
/// average.
double DistinctExperts(const RoutingTrace& routing, int64_t tokens) {
  int64_t sum = 0;
  for (const RoutingTrace::Layer& layer : routing.layers) {
    const auto seen = static_cast<size_t>(tokens * routing.experts_per_token);
    std::vector<int32_t> ids(
        layer.experts.begin(),
        layer.experts.begin() + static_cast<std::ptrdiff_t>(std::min(seen, layer.experts.size())));
    std::ranges::sort(ids);
    sum += std::unique(ids.begin(), ids.end()) - ids.begin();  // clang 14 refuses ranges::unique.
  }
  return static_cast<double>(sum) / static_cast<double>(std::max<size_t>(routing.layers.size(), 1));
}

/// Experts without a gate are not computed by any layer of ours: one with a gate that takes as many
/// operations and bytes stands for them while speed is probed.
ModelConfig WithGates(ModelConfig config) {
  constexpr int64_t kBlock = 256;
  config.expert_ffn_dim = (config.expert_ffn_dim * 2 / 3 + kBlock - 1) / kBlock * kBlock;
  config.experts_gated = true;
  return config;
}

/// One row of the plan: the subject with weights of one type.
/// `type`: that of the outline, or empty for a file.
Result<ModelPlan> PlanAs(const Setting& setting, const ModelWeights& weights,
                         const WeightPlaces& places, const std::string& type) {
  const ModelConfig& config = setting.subject.config;
  const ModelOptions& options = setting.options;
  const TokenWork work = WorkPerToken(config, weights);
  const ParameterCount count = CountParameters(config);
  RunSizes sizes = setting.sizes;
  const MemoryPlan memory =
      PlanRun(config, weights, places, setting.subject.head, options, setting.kernels, sizes);
  ModelPlan plan;
  plan.name = config.name;
  plan.type = NameOf(work.MainType());
  plan.parameters = count.total;
  plan.active_parameters = count.active;
  plan.weight_bytes = memory.weight_bytes;
  plan.bytes_per_token = work.TotalBytes();
  plan.options = options;
  plan.need = memory.need;
  plan.least_bytes = memory.least_total;
  plan.all_bytes = memory.all_total;
  plan.fits = plan.need.total() <= options.memory_bytes;
  plan.streamed = memory.expert_slots > 0;
  plan.expert_slots = memory.expert_slots;
  plan.experts = memory.experts;
  plan.pass_tokens = sizes.decoder.max_tokens;
  plan.expert_bytes = memory.expert_bytes;
  plan.mixture_layers =
      std::ranges::count_if(config.layers, [](const LayerConfig& l) { return l.sparse; });
  plan.experts_used = plan.mixture_layers > 0 ? config.router.used : 0;
  plan.hit_rate = plan.streamed && setting.routing != nullptr ? HitRateOf(*setting.routing, memory)
                                                              : memory.hit_rate;
  if (setting.machine == nullptr || (plan.streamed && setting.machine->disk_bytes_per_s <= 0))
    return plan;
  ThreadPool threads(options.threads);
  const int64_t prompt = std::min(kPlanPromptTokens, options.context);
  const auto probe = [&](const ModelConfig& probed_config, const ModelWeights& probed_weights) {
    return ProbeSpeeds(probed_config, probed_weights, options, setting.sizes, setting.kernels,
                       threads,
                       {.prompt_tokens = prompt,
                        .streamed = plan.streamed,
                        .patient = setting.patient || type.empty()},
                       setting.probe_memory);
  };
  const auto probed = [&]() -> Result<ProbedSpeeds> {
    if (config.experts_gated) return probe(config, weights);
    const ModelConfig gated = WithGates(config);
    MOXIE_TRY_ASSIGN(const ModelWeights gated_weights, OutlineAs(gated, type));
    return probe(gated, gated_weights);
  }();
  if (!probed) return plan.fits ? Result<ModelPlan>(probed.error()) : plan;
  const Model::Parts* const parts = setting.subject.parts;
  const int64_t pass = std::min(plan.pass_tokens, prompt);
  const double distinct = setting.routing != nullptr
                              ? DistinctExperts(*setting.routing, pass)
                              : DistinctExperts(config.router, static_cast<double>(pass));
  plan.speed = PlanSpeed(plan, {.tokens = prompt, .distinct_experts = distinct}, *probed,
                         *setting.machine, parts != nullptr ? parts->load_seconds : 0);
  return plan;
}

/// The machine's, with the disk of the model's own files: it may be another one, and what was just
/// written, as the machine's figure has it, may be read faster than what was not.
MachineSpeeds SpeedsFor(const Subject& subject, const MachineSpeeds& machine) {
  MachineSpeeds speeds = machine;
  if (subject.parts == nullptr) return speeds;
  const Result<double> rate = MeasureReading(subject.parts->files.tensors);
  if (rate) speeds.disk_bytes_per_s = *rate;
  return speeds;
}

Result<std::vector<ModelPlan>> PlanSubject(const Subject& subject,
                                           const std::vector<std::string>& types,
                                           const ModelOptions& options,
                                           const MachineSpeeds* machine,
                                           const RoutingTrace* routing) {
  ModelOptions complete = options;
  MOXIE_TRY(CompleteOptions(subject.config, complete));
  MOXIE_TRY_ASSIGN(const KernelSet* kernels, ChooseKernels(options));
  MOXIE_TRY_ASSIGN(const std::vector<AdapterWeights> adapters,
                   LoadAdapters(complete, subject.config));
  MOXIE_TRY_ASSIGN(const RunSizes sizes, SizesOf(complete, adapters));
  std::optional<MachineSpeeds> speeds;
  if (machine != nullptr) speeds = SpeedsFor(subject, *machine);
  PageBuffer probe_memory;
  const Setting setting{
      subject, complete,          sizes,       *kernels, speeds ? &*speeds : nullptr,
      routing, types.size() == 1, probe_memory};
  std::vector<ModelPlan> plans;
  for (const std::string& type : types) {
    if (type.empty() && subject.parts != nullptr) {
      ModelWeights& weights = subject.parts->weights;
      const WeightPlaces places = PlacesOf(subject.config, weights, subject.parts->files.tensors);
      MOXIE_TRY_ASSIGN(plans.emplace_back(), PlanAs(setting, weights, places, ""));
      continue;
    }
    const std::string as = type.empty() ? "bf16" : type;
    MOXIE_TRY_ASSIGN(ModelWeights weights, OutlineAs(subject.config, as));
    const WeightPlaces places = PlacesOfOutline(subject.config, weights);
    MOXIE_TRY_ASSIGN(plans.emplace_back(), PlanAs(setting, weights, places, as));
    if (!type.empty()) plans.back().type = type;
  }
  return plans;
}

Subject SubjectOf(const ModelHead& head) {
  Model::Parts& parts = head.parts();
  return {.config = parts.config, .head = parts.head, .parts = &parts};
}

}  // namespace

std::vector<CatalogueEntry> ListCatalogue() {
  std::vector<CatalogueEntry> entries;
  for (const CatalogueModel& model : Catalogue()) {
    const ParameterCount count = CountParameters(model.config);
    entries.push_back({std::string(model.name), model.config.name, std::string(model.source),
                       count.total, count.active});
  }
  return entries;
}

std::vector<std::string> PlanTypes() {
  return {"f32",    "bf16",   "f16",  "q8_0",   "q6_k",    "q5_1", "q5_k_m",
          "q5_k",   "q5_0",   "q4_1", "q4_k_m", "q4_k",    "q4_0", "mxfp4",
          "iq4_xs", "q3_k_m", "q3_k", "iq3_s",  "iq3_xxs", "q2_k", "iq2_xs"};
}

Result<std::vector<ModelPlan>> PlanModel(const std::string& model,
                                         const std::vector<std::string>& types,
                                         const ModelOptions& options, const MachineSpeeds* machine,
                                         const RoutingTrace* routing) {
  std::error_code error;
  if (!std::filesystem::exists(model, error)) {
    MOXIE_TRY_ASSIGN(const Subject subject, FindSubject(model));
    return PlanSubject(subject, types, options, machine, routing);
  }
  MOXIE_TRY_ASSIGN(const ModelHead head, ModelHead::Read(model, options));
  return PlanSubject(SubjectOf(head), types, options, machine, routing);
}

Result<ModelPlan> PlanModel(const ModelHead& head) {
  MOXIE_TRY_ASSIGN(const std::vector<ModelPlan> plans,
                   PlanSubject(SubjectOf(head), {""}, head.options(), nullptr, nullptr));
  return plans.front();
}

}  // namespace moxie
