#pragma once

#include <span>
#include <vector>

#include "forward/decoder.h"
#include "memory/plan.h"
#include "model/config.h"
#include "model/weights.h"
#include "moxie/model.h"

namespace moxie {

/// A run's options as the parts of the engine take them. Model::Open and PlanModel both size by
/// this, so that what is planned is what happens.
struct RunSizes {
  KvCache::Options cache;
  Decoder::Options decoder;
};

/// What reading a model's files but for its weights takes, in bytes.
struct HeadBytes {
  int64_t tokenizer = 0;  ///< with template, metadata and tables of tensors
  int64_t process = 0;    ///< resident besides, once the files are read: program, libraries, heap
  int64_t peak = 0;       ///< resident at most while they were read; 0: no more than before
};

/// Checks the options against the model and fills in their defaults.
///
/// Errors: kInvalidInput.
Result<void> CompleteOptions(const ModelConfig& config, ModelOptions& options);

/// Errors: kUnsupported for a name of a kernel set that is not usable here.
Result<const KernelSet*> ChooseKernels(const ModelOptions& options);

/// The adapters that the options name, for a model of this configuration.
///
/// Errors: those of LoadAdapter.
Result<std::vector<AdapterWeights>> LoadAdapters(const ModelOptions& options,
                                                 const ModelConfig& config);

/// `options` must be complete, and `adapters` outlive the result.
Result<RunSizes> SizesOf(const ModelOptions& options,
                         std::span<const AdapterWeights> adapters = {});

/// The memory of a run. `weights` may be an outline. `options` must be complete.
///
/// Where experts are streamed, `sizes` grow so that one pass takes in prompts as long as the
/// context: what it misses of each layer is then read once for all of it. The activations of such a
/// pass take at most an eighth of what is left for experts. Tokens are multiplied in blocks of
/// batch_tokens all the same, so that no result depends on the budget.
MemoryPlan PlanRun(const ModelConfig& config, const ModelWeights& weights,
                   const WeightPlaces& places, const HeadBytes& head, const ModelOptions& options,
                   const KernelSet& kernels, RunSizes& sizes);

}  // namespace moxie
