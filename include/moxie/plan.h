#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/model.h"
#include "moxie/result.h"

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

/// The types of weights that a model may be planned with, most precise first.
std::vector<std::string> PlanTypes();

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
  int64_t expert_bytes = 0;  ///< that reading one takes
  double hit_rate = 1;       ///< of experts that a token asks for, found in memory where routing is
                             ///< even and independent from token to token
};

/// Plans runs of `model`, a MODEL as Model::Open takes it or a catalogue's name: one for each of
/// `types`, which are of PlanTypes, as if all matrices were stored so, or "": a file as it is, a
/// catalogue's model as bf16. The engine sizes everything by the same code.
///
/// Errors: as Model::Open's; kNotFound for a name that is neither a file nor in the catalogue,
/// kInvalidInput for a type that there is not.
Result<std::vector<ModelPlan>> PlanModel(const std::string& model,
                                         const std::vector<std::string>& types,
                                         const ModelOptions& options);

}  // namespace moxie
