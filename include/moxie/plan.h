#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/machine.h"
#include "moxie/model.h"
#include "moxie/result.h"
#include "moxie/routing.h"

namespace moxie {

/// A model of the catalogue: published, its shape known without a file.
struct CatalogueEntry {
  std::string name;    ///< what PlanModel takes: "mixtral-8x7b"
  std::string title;   ///< "Mixtral 8x7B"
  std::string source;  ///< where its shape is published
  int64_t parameters = 0;
  int64_t active_parameters = 0;
};

/// Every model of the catalogue.
std::vector<CatalogueEntry> ListCatalogue();

/// The types that are compared, most precise first: one for all matrices, or a mix of moxie
/// quantize
/// ("q4_k_m"; its other mixes may be planned with as well).
std::vector<std::string> PlanTypes();

/// Where a token's time goes with all weights in memory, in seconds.
struct TokenSeconds {
  double attention = 0;
  double experts = 0;   ///< the chosen ones and the shared one
  double head = 0;      ///< logits
  double rest = 0;      ///< routers, dense feed-forwards, norms
  double sampling = 0;  ///< choosing the token
  double total() const { return attention + experts + head + rest + sampling; }
};

/// How fast a run will be, after a prompt of kPlanPromptTokens or as many as the context has.
struct SpeedPlan {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  double load_s = 0;            ///< from the disk; 0: not known
  double load_cached_s = 0;     ///< of files that lie in the page cache; 0: not known
  double disk_bytes_per_s = 0;  ///< of the model's own files, where there are any
  int64_t bytes_from_disk = 0;  ///< that a decoded token waits for on average
  std::string limit;            ///< what keeps decoding from being faster, in words
  TokenSeconds decode;          ///< a decoded token's
  TokenSeconds prefill;         ///< a prompt's, shared out over its tokens
};

inline constexpr int64_t kPlanPromptTokens = 512;

/// What a model will take and do, before anything of it is loaded.
struct ModelPlan {
  std::string name;  ///< the model's
  std::string type;  ///< of the weights; for a file as it is, the one that most bytes have
  int64_t parameters = 0;
  int64_t active_parameters = 0;
  int64_t weight_bytes = 0;     ///< all weights together: the file's size but for its metadata
  int64_t bytes_per_token = 0;  ///< of weights that one decoded token reads
  ModelOptions options;         ///< with every default filled in
  MemoryNeed need;  ///< at the peak; under a budget with the experts that it leaves room for
  int64_t least_bytes = 0;   ///< the smallest budget that works
  bool fits = true;          ///< whether options.memory_bytes is enough (0: no limit)
  bool streamed = false;     ///< experts are read from disk as tokens need them
  int64_t expert_slots = 0;  ///< experts in memory at once, where streamed
  int64_t experts = 0;       ///< of all layers together, that could be streamed
  int64_t pass_tokens = 0;   ///< of prompts that share one reading of missing experts
  int64_t expert_bytes = 0;  ///< that reading one takes
  int64_t mixture_layers = 0;
  int64_t experts_used = 0;  ///< that a token asks each of them for
  double hit_rate = 1;  ///< of experts that a token asks for, found in memory: as a routing shows,
                        ///< else where it is even and independent from token to token
  int64_t all_bytes = 0;  ///< memory with which all weights stay in memory
  std::optional<SpeedPlan> speed;
};

/// The least memory with which the planned run decodes that fast on this machine, experts on disk
/// or not; nothing where no memory is enough. `plan.speed` must be there.
std::optional<int64_t> MemoryForSpeed(const ModelPlan& plan, double tokens_per_s);

/// Plans runs of `model`, a MODEL as Model::Open takes it or a catalogue's name: one for each of
/// `types`, which are of PlanTypes or names of mixes ("q4_k_m"), as if the model were stored so, or
/// "": a file as it is, a catalogue's model as bf16. The engine sizes everything by the same code.
/// With `machine`, speed is planned too: some layers of the model run for some tenths of a second a
/// type, with bytes at random as weights, and some of a file is read past the page cache. With
/// `routing`, the experts found in memory are those that the engine's cache would have found of it,
/// of as large a share of its experts.
///
/// Errors: as Model::Open's; kNotFound for a name that is neither a file nor in the catalogue,
/// kInvalidInput for a type that there is not.
Result<std::vector<ModelPlan>> PlanModel(const std::string& model,
                                         const std::vector<std::string>& types,
                                         const ModelOptions& options,
                                         const MachineSpeeds* machine = nullptr,
                                         const RoutingTrace* routing = nullptr);

/// Plans the memory of what Model::Open would make of the head.
Result<ModelPlan> PlanModel(const ModelHead& head);

/// What the machine allows one answer of an opened model; keys and values are left out.
struct DecodeBound {
  double tokens_per_s = 0;       ///< 0: not known, for want of a rate
  double bytes_from_memory = 0;  ///< that a token reads at least
  double bytes_from_disk = 0;    ///< that it waits for on average
  bool by_disk = false;          ///< the disk is the slower of the two
};

/// The slower of memory, which gives every weight that a token meets, and the disk, which gives the
/// experts that are not in memory: of those asked for as many as `traffic` shows, or as were
/// planned where it shows none. Only `machine`'s rates of memory and disk are looked at.
/// Safe to call while an engine steps.
DecodeBound BoundDecoding(const Model& model, const MachineSpeeds& machine,
                          const ExpertTraffic& traffic = {});

/// Bytes a second at which the experts of a model that streams them come from disk while nothing
/// is computed, measured for some two seconds; they take the place of cached ones.
/// Not while an engine steps.
///
/// Errors: what reading reports.
Result<double> MeasureExpertReading(Model& model);

}  // namespace moxie
