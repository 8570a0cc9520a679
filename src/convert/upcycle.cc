#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/model_files.h"
#include "formats/tensor_writer.h"
#include "model/config.h"
#include "moxie/convert.h"

namespace moxie {
namespace {

constexpr int64_t kMaxExperts = 1024;
constexpr std::array<std::string_view, 3> kMatrices = {"ffn_gate", "ffn_up", "ffn_down"};

/// What a dense family of GGUF files becomes.
struct Family {
  std::string_view dense;
  std::string_view mixture;
};
constexpr std::array kFamilies = {Family{"llama", "llama"}, Family{"qwen3", "qwen3moe"}};

/// One tensor of the result: a copy of `source` as often as `copies`, or a router without source.
struct PlannedTensor {
  TensorSpec spec;
  const TensorInfo* source = nullptr;
  int64_t copies = 1;
};

Error Refuse(ErrorCode code, const ModelFiles& files, const std::string& what) {
  return {code, files.path.filename().string() + ": " + what};
}

Result<void> CheckOptions(const UpcycleOptions& options) {
  const auto refuse = [](const std::string& what) { return Error{ErrorCode::kInvalidInput, what}; };
  if (options.experts < 1 || options.experts > kMaxExperts)
    return refuse("--experts is " + std::to_string(options.experts) + ", but must be 1.." +
                  std::to_string(kMaxExperts));
  if (options.used < 1 || options.used > options.experts)
    return refuse("--used is " + std::to_string(options.used) + ", but must be 1.." +
                  std::to_string(options.experts) + " (--experts)");
  if (!(options.noise >= 0) || !std::isfinite(options.noise))
    return refuse("--noise must be 0 or more");
  return {};
}

Result<Family> FamilyOf(const ModelFiles& files) {
  if (files.layout != FileLayout::kGguf)
    return Refuse(ErrorCode::kUnsupported, files, "is a folder, but upcycling reads a .gguf file");
  MOXIE_TRY_ASSIGN(const std::optional<std::string> name,
                   files.metadata.Text("general.architecture"));
  for (const Family& family : kFamilies) {
    if (name == family.dense) return family;
  }
  return Refuse(ErrorCode::kUnsupported, files,
                "general.architecture is " + name.value_or("absent") +
                    ", but upcycling knows llama and qwen3");
}

/// The metadata of the mixture: the family's keys under its new name, and how many experts.
GgufMetadata MixtureMetadata(const ModelFiles& files, const Family& family,
                             const ModelConfig& config, const UpcycleOptions& options) {
  GgufMetadata metadata;
  metadata.file = files.metadata.file;
  const std::string old_prefix = std::string(family.dense) + ".";
  const std::string prefix = std::string(family.mixture) + ".";
  for (const auto& [key, value] : files.metadata.values)
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

Result<std::vector<PlannedTensor>> PlanTensors(const ModelFiles& files, const ModelConfig& config,
                                               int64_t experts) {
  std::vector<PlannedTensor> plan;
  for (const TensorInfo& tensor : files.tensors.tensors()) {
    PlannedTensor planned{{tensor.name, tensor.type, tensor.shape}, &tensor, 1};
    for (const std::string_view matrix : kMatrices) {
      const std::optional<std::string> prefix = LayerPrefix(tensor.name, matrix);
      if (!prefix) continue;
      planned.spec.name = *prefix + std::string(matrix) + "_exps.weight";
      planned.spec.shape.insert(planned.spec.shape.begin(), experts);
      planned.copies = experts;
      if (matrix != kMatrices[0]) continue;
      plan.push_back(
          {{*prefix + "ffn_gate_inp.weight", DType::kF32, {experts, config.dim}}, nullptr, 1});
    }
    if (planned.copies == 1 && tensor.name.find(".ffn_") != std::string::npos &&
        tensor.name.ends_with(".bias"))
      return Refuse(ErrorCode::kUnsupported, files,
                    "tensor " + tensor.name + ": experts of this family have no biases");
    plan.push_back(std::move(planned));
  }
  return plan;
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

Result<void> WriteTensors(const ModelFiles& files, std::span<const PlannedTensor> plan,
                          const UpcycleOptions& options, TensorWriter& writer) {
  Noise noise(options.seed);
  for (const PlannedTensor& tensor : plan) {
    if (tensor.source == nullptr) {
      std::vector<float> router(static_cast<size_t>(tensor.spec.shape[0] * tensor.spec.shape[1]));
      if (options.noise > 0)
        std::generate(router.begin(), router.end(), [&] { return noise.Next(options.noise); });
      MOXIE_TRY(writer.Write(std::as_bytes(std::span(router))));
      continue;
    }
    for (int64_t copy = 0; copy < tensor.copies; ++copy)
      MOXIE_TRY(writer.Write(files.tensors.Bytes(*tensor.source)));
  }
  return writer.Finish();
}

}  // namespace

Result<void> Upcycle(const std::string& in, const std::string& out, const UpcycleOptions& options) {
  MOXIE_TRY(CheckOptions(options));
  MOXIE_TRY_ASSIGN(const ModelFiles files, OpenModelFiles(in));
  MOXIE_TRY_ASSIGN(const ModelConfig config, ReadModelConfig(files));
  if (config.is_mixture())
    return Refuse(ErrorCode::kInvalidInput, files,
                  "is a mixture of experts already, but a dense model is wanted");
  MOXIE_TRY_ASSIGN(const Family family, FamilyOf(files));
  MOXIE_TRY_ASSIGN(const std::vector<PlannedTensor> plan,
                   PlanTensors(files, config, options.experts));
  std::vector<TensorSpec> specs;
  for (const PlannedTensor& tensor : plan) specs.push_back(tensor.spec);
  MOXIE_TRY_ASSIGN(
      TensorWriter writer,
      TensorWriter::CreateGguf(out, MixtureMetadata(files, family, config, options), specs));
  return WriteTensors(files, plan, options, writer);
}

}  // namespace moxie
