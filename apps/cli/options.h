#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moxie/generate.h"
#include "moxie/model.h"

namespace moxie::cli {

/// "12GiB", "12G", "800MiB", "64k" or bytes; powers of 1024 all. Nothing for anything else.
std::optional<int64_t> ParseSize(const std::string& text);

/// Options shared by all commands that run a model, as given. Bound to the parser by
/// AddModelOptions, so the object must outlive parsing.
struct ModelArguments {
  std::string model;
  int threads = 0;
  int64_t context = 0;
  int64_t batch = 512;
  std::string memory = "auto";
  std::string kv_type = "f32";
  std::string kernels = "auto";
  bool batch_invariant = false;
  std::vector<std::string> adapters;

  ModelOptions ToOptions() const;
};

/// MODEL and the options above. `defaults` holds what the help shows as defaults.
void AddModelOptions(CLI::App& command, ModelArguments& arguments);
/// The options without MODEL.
void AddRunOptions(CLI::App& command, ModelArguments& arguments);
/// MODEL alone, for commands that only look at it.
void AddModelArgument(CLI::App& command, std::string& model);

/// Options of commands that generate text.
struct SamplingArguments {
  SamplingOptions sampling;
  int64_t max_tokens = -1;
  std::vector<std::string> stop;
  std::vector<std::string> logit_bias;
  bool ignore_eos = false;

  /// Everything of the request but its prompt.
  Request ToRequest() const;
};
void AddSamplingOptions(CLI::App& command, SamplingArguments& arguments);

}  // namespace moxie::cli
