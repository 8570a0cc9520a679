#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "convert/gguf_metadata.h"
#include "convert/tensor_plan.h"
#include "convert/tensor_stream.h"
#include "formats/model_files.h"
#include "formats/tensor_writer.h"
#include "model/config.h"
#include "model/family.h"
#include "model/names.h"
#include "moxie/convert.h"

namespace moxie {
namespace {

constexpr int64_t kMostExperts = 1024;
constexpr int64_t kBufferBytes = int64_t{64} << 20;
constexpr std::array<std::string_view, 3> kMatrices = {"ffn_gate", "ffn_up", "ffn_down"};

/// What a dense family of GGUF files becomes.
struct Upcycled {
  std::string_view dense;
  std::string_view mixture;
};
constexpr std::array kFamilies = {Upcycled{"llama", "llama"}, Upcycled{"qwen3", "qwen3moe"}};

Error Refuse(ErrorCode code, const ModelFiles& files, const std::string& what) {
  return {code, DisplayName(files) + ": " + what};
}

Result<void> CheckOptions(const UpcycleOptions& options) {
  const auto refuse = [](const std::string& what) { return Error{ErrorCode::kInvalidInput, what}; };
  if (options.experts < 1 || options.experts > kMostExperts)
    return refuse("--experts is " + std::to_string(options.experts) + ", but must be 1.." +
                  std::to_string(kMostExperts));
  if (options.used < 1 || options.used > options.experts)
    return refuse("--used is " + std::to_string(options.used) + ", but must be 1.." +
                  std::to_string(options.experts) + " (--experts)");
  if (!(options.noise >= 0) || !std::isfinite(options.noise))
    return refuse("--noise must be 0 or more");
  return {};
}

Result<Upcycled> FamilyOf(const ModelFiles& files, const ModelConfig& config) {
  const std::string_view architecture = FindFamily(config.family)->gguf;
  for (const Upcycled& family : kFamilies) {
    if (architecture == family.dense) return family;
  }
  return Refuse(ErrorCode::kUnsupported, files,
                "is of the family " + config.family +
                    ", but upcycling knows llama (with Mistral and SmolLM2) and qwen3");
}

/// The dense model's keys: a GGUF's own, or those that a folder's GGUF would have.
Result<GgufMetadata> DenseMetadata(const ModelFiles& files, const ModelConfig& config) {
  if (files.layout == FileLayout::kGguf) return files.metadata;
  MOXIE_TRY_ASSIGN(GgufMetadata metadata, ModelMetadata(files, config));
  MOXIE_TRY(AddTokenizerMetadata(files, config, &metadata));
  return metadata;
}

/// The metadata of the mixture: the family's keys under its new name, and how many experts.
GgufMetadata MixtureMetadata(const GgufMetadata& dense, const Upcycled& family,
                             const ModelConfig& config, const UpcycleOptions& options) {
  GgufMetadata metadata;
  metadata.file = dense.file;
  const std::string old_prefix = std::string(family.dense) + ".";
  const std::string prefix = std::string(family.mixture) + ".";
  for (const auto& [key, value] : dense.values)
    metadata.values.emplace(
        key.starts_with(old_prefix) ? prefix + key.substr(old_prefix.size()) : key, value);
  metadata.values["general.architecture"] = std::string(family.mixture);
  metadata.values["general.name"] = config.name + " upcycled " + std::to_string(options.experts) +
                                    "x" + std::to_string(options.used);
  metadata.values.erase("general.size_label");  // It told the dense model's size.
  metadata.values[prefix + "expert_count"] = static_cast<uint32_t>(options.experts);
  metadata.values[prefix + "expert_used_count"] = static_cast<uint32_t>(options.used);
  if (family.dense != family.mixture)
    metadata.values[prefix + "expert_feed_forward_length"] = static_cast<uint32_t>(config.ffn_dim);
  return metadata;
}

/// "blk.3." of "blk.3.ffn_gate.weight" where `matrix` is "ffn_gate", else nothing.
std::optional<std::string> LayerPrefix(std::string_view name, std::string_view matrix) {
  const std::string tail = std::string(matrix) + ".weight";
  if (!name.starts_with("blk.") || !name.ends_with("." + tail)) return std::nullopt;
  return std::string(name.substr(0, name.size() - tail.size()));
}

/// Numbers that are normal to the eye, and equal on every machine: twelve uniform ones added up
/// (SplitMix64, by Steele, Lea and Flood, OOPSLA 2014), less their mean.
class Noise {
 public:
  explicit Noise(uint64_t seed) : state_(seed) {}

  float Next(double deviation) {
    double sum = -6.0;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(NextBits() >> 11) * 0x1p-53;
    return static_cast<float>(sum * deviation);
  }

 private:
  uint64_t NextBits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  uint64_t state_;
};

std::vector<float> Router(const ModelConfig& config, const UpcycleOptions& options, Noise& noise) {
  std::vector<float> router(static_cast<size_t>(options.experts * config.dim));
  if (options.noise > 0) std::ranges::generate(router, [&] { return noise.Next(options.noise); });
  return router;
}

/// The dense model's tensors with every feed-forward matrix as often as there are experts, and a
/// router before the first.
Result<std::vector<PlannedTensor>> PlanMixture(const ModelFiles& files, const ModelConfig& config,
                                               const UpcycleOptions& options) {
  MOXIE_TRY_ASSIGN(std::vector<PlannedTensor> dense,
                   PlanTensors(files, config, FileLayout::kGguf, std::nullopt));
  Noise noise(options.seed);
  std::vector<PlannedTensor> plan;
  for (PlannedTensor& tensor : dense) {
    const std::string name = tensor.spec.name;
    if (name.find(".ffn_") != std::string::npos && name.ends_with(".bias"))
      return Refuse(ErrorCode::kUnsupported, files,
                    "tensor " + name + ": experts of this family have no biases");
    for (const std::string_view matrix : kMatrices) {
      const std::optional<std::string> prefix = LayerPrefix(name, matrix);
      if (!prefix) continue;
      if (matrix == kMatrices[0]) {
        PlannedTensor& router = plan.emplace_back();
        router.spec = {*prefix + "ffn_gate_inp.weight", DType::kF32, {options.experts, config.dim}};
        router.values = Router(config, options, noise);
      }
      tensor.spec.name = *prefix + std::string(matrix) + "_exps.weight";
      tensor.spec.shape.insert(tensor.spec.shape.begin(), options.experts);
      tensor.parts.assign(static_cast<size_t>(options.experts), TensorView(tensor.parts.front()));
    }
    plan.push_back(std::move(tensor));
  }
  return plan;
}

}  // namespace

Result<void> Upcycle(const std::string& in, const std::string& out, const UpcycleOptions& options) {
  MOXIE_TRY(CheckOptions(options));
  MOXIE_TRY_ASSIGN(const ModelFiles files, OpenModelFiles(in));
  MOXIE_TRY_ASSIGN(const ModelConfig config, ReadModelConfig(files));
  if (config.is_mixture())
    return Refuse(ErrorCode::kInvalidInput, files,
                  "is a mixture of experts already, but a dense model is wanted");
  MOXIE_TRY_ASSIGN(const Upcycled family, FamilyOf(files, config));
  MOXIE_TRY_ASSIGN(const std::vector<PlannedTensor> plan, PlanMixture(files, config, options));
  MOXIE_TRY_ASSIGN(const GgufMetadata dense, DenseMetadata(files, config));
  std::vector<TensorSpec> specs;
  specs.reserve(plan.size());
  for (const PlannedTensor& tensor : plan) specs.push_back(tensor.spec);
  MOXIE_TRY_ASSIGN(
      TensorWriter writer,
      TensorWriter::CreateGguf(out, MixtureMetadata(dense, family, config, options), specs));
  ThreadPool threads(UsableCpus());
  TensorStream stream(files, kBufferBytes, threads, BestKernelSet(), {});
  MOXIE_TRY(stream.Write(plan, writer));
  return writer.Finish();
}

}  // namespace moxie
