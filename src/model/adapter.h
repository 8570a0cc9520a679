#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "model/config.h"
#include "moxie/result.h"

namespace moxie {

/// A low-rank addition to one matrix: y += scale * B (A x) (LoRA, arXiv:2106.09685, section 4.1).
struct LoraPair {
  std::vector<float> a;  ///< [rank, in]
  std::vector<float> b;  ///< [out, rank], rows in the order of the base matrix's rows
  int64_t in = 0;
  int64_t out = 0;
  int64_t rank = 0;
  float scale = 0;

  bool empty() const { return rank == 0; }
};

struct FeedForwardAdapter {
  LoraPair gate, up, down;
};

/// What an adapter adds to one layer, parallel to LayerWeights.
struct LayerAdapter {
  LoraPair q, k, v, output;
  LoraPair router;
  FeedForwardAdapter dense;                 ///< of a dense layer
  FeedForwardAdapter shared;                ///< of the shared expert
  std::vector<FeedForwardAdapter> experts;  ///< [experts], or empty where none has one
};

/// A model's adapter by role, in float32, whatever the base's types are. Immutable after loading;
/// safe to share between threads.
struct AdapterWeights {
  std::string name;  ///< the folder's
  std::vector<LayerAdapter> layers;
};

/// Reads a PEFT folder (adapter_config.json, adapter_model.safetensors) for a model of this
/// configuration. `strength` multiplies the adapter's own scale, lora_alpha / r.
///
/// Experts may be adapted one by one (w1, w2, w3 or gate_proj, up_proj, down_proj) or, through
/// PEFT's target_parameters, as fused gate_up_proj and down_proj. Adapters are trained on Hugging
/// Face's row order: where config.rope is interleaved, B of q and k is reordered to the base's.
///
/// Errors: kNotFound, kIo; kInvalidInput where a tensor matches no matrix of the model, has another
/// shape, or a target of adapter_config.json matches no tensor; kUnsupported for anything but plain
/// LoRA (DoRA, biases, saved modules, initialisations that change the base).
Result<AdapterWeights> LoadAdapter(const std::filesystem::path& folder, const ModelConfig& config,
                                   double strength = 1.0);

}  // namespace moxie
