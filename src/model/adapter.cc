#include "model/adapter.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "core/printable.h"
#include "formats/model_files.h"
#include "formats/safetensors.h"
#include "model/adapter_config.h"
#include "model/family.h"
#include "model/settings.h"
#include "model/tensor_finder.h"
#include "quant/dequantize.h"

namespace moxie {
namespace {

constexpr std::string_view kConfigName = "adapter_config.json";
constexpr std::string_view kWeightsName = "adapter_model.safetensors";

/// The two tensors of one adapted module.
struct Module {
  const TensorInfo* a = nullptr;
  const TensorInfo* b = nullptr;
};

/// Where a module's pair goes, and the matrix that it must fit.
struct Slot {
  LoraPair* pair = nullptr;
  int64_t in = 0;
  int64_t out = 0;
  int64_t rotated_heads = 0;  ///< rows are heads to be brought into rotary order, if above 0
};

Error Complain(const TensorInfo& tensor, ErrorCode code, std::string_view what) {
  return Error{code, std::string(kWeightsName) + ": tensor " + Printable(tensor.name) + " " +
                         std::string(what)};
}

/// Takes a leading "PREFIX" off `text`, if it is there.
bool Take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// Takes a leading number and a dot off `text`.
std::optional<int64_t> TakeNumber(std::string_view& text) {
  int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr == end || *parsed.ptr != '.') return std::nullopt;
  text = text.substr(static_cast<size_t>(parsed.ptr - text.data()) + 1);
  return number;
}

class AdapterLoader {
 public:
  AdapterLoader(const AdapterConfig& settings, const TensorFiles& files, const ModelConfig& config,
                double strength)
      : settings_(settings), files_(files), config_(config), strength_(strength) {}

  Result<AdapterWeights> Load() {
    MOXIE_TRY(CollectModules());
    out_.layers.resize(config_.layers.size());
    for (const auto& [name, module] : modules_) {
      if (module.a == nullptr || module.b == nullptr) {
        const TensorInfo& present = module.a != nullptr ? *module.a : *module.b;
        return Complain(present, ErrorCode::kInvalidInput,
                        "has no counterpart, but A and B must both be there");
      }
      MOXIE_TRY(LoadModule(name, module));
    }
    MOXIE_TRY(RefuseIdleTargets());
    return std::move(out_);
  }

 private:
  Result<void> CollectModules();
  Result<void> LoadModule(const std::string& name, const Module& module);
  Result<void> LoadFused(const std::string& name, const Module& module, LayerAdapter& layer);
  Result<void> LoadPair(const std::string& name, const Module& module, const Slot& slot);
  Result<std::vector<float>> Values(const TensorInfo& tensor) const;
  Result<void> RefuseIdleTargets() const;

  std::optional<Slot> FindSlot(std::string_view part, bool sparse, LayerAdapter& layer) const;
  std::optional<Slot> FindAttention(std::string_view part, LayerAdapter& layer) const;
  std::optional<Slot> FindExpert(std::string_view part, LayerAdapter& layer) const;
  std::optional<Slot> FindFeedForward(std::string_view part, int64_t ffn,
                                      FeedForwardAdapter& adapter) const;

  const AdapterConfig& settings_;
  const TensorFiles& files_;
  const ModelConfig& config_;
  const double strength_;
  std::map<std::string, Module> modules_;
  std::vector<std::string> reached_;  ///< names by which targets may call what was loaded
  AdapterWeights out_;
};

/// base_model.model.MODULE.lora_A.weight, in older files MODULE.lora_A.NAME.weight.
Result<void> AdapterLoader::CollectModules() {
  for (const TensorInfo& tensor : files_.tensors()) {
    const std::string_view name = tensor.name;
    const size_t a = name.rfind(".lora_A.");
    const size_t b = name.rfind(".lora_B.");
    const bool is_a = a != std::string_view::npos;
    if ((!is_a && b == std::string_view::npos) || !name.ends_with(".weight")) {
      return Complain(tensor, ErrorCode::kUnsupported,
                      "is neither lora_A nor lora_B, and only these are supported");
    }
    std::string_view module = name.substr(0, is_a ? a : b);
    Take(module, "base_model.model.");
    Module& entry = modules_[std::string(module)];
    const TensorInfo*& place = is_a ? entry.a : entry.b;
    if (place != nullptr) return Complain(tensor, ErrorCode::kInvalidInput, "occurs twice");
    place = &tensor;
  }
  return {};
}

Result<std::vector<float>> AdapterLoader::Values(const TensorInfo& tensor) const {
  if (tensor.type != DType::kF32 && tensor.type != DType::kF16 && tensor.type != DType::kBF16) {
    return Complain(
        tensor, ErrorCode::kInvalidInput,
        "has type " + std::string(NameOf(tensor.type)) + ", but must be f32, f16 or bf16");
  }
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  Dequantize(tensor.type, files_.Bytes(tensor).data(), tensor.elements(), values.data());
  return values;
}

std::optional<Slot> AdapterLoader::FindAttention(std::string_view part, LayerAdapter& layer) const {
  const AttentionConfig& a = config_.attention;
  const bool latent = a.latent.kv_rank > 0;
  if (part == "o_proj") {
    return Slot{&layer.output, a.heads * (latent ? a.latent.value_dim : a.head_dim), config_.dim};
  }
  if (latent) return std::nullopt;
  const bool turned = config_.rope.layout == RopeLayout::kInterleaved;
  const int64_t q_rows = a.heads * a.head_dim;
  const int64_t kv_rows = a.kv_heads * a.head_dim;
  if (part == "q_proj") return Slot{&layer.q, config_.dim, q_rows, turned ? a.heads : 0};
  if (part == "k_proj") return Slot{&layer.k, config_.dim, kv_rows, turned ? a.kv_heads : 0};
  if (part == "v_proj") return Slot{&layer.v, config_.dim, kv_rows};
  return std::nullopt;
}

std::optional<Slot> AdapterLoader::FindFeedForward(std::string_view part, int64_t ffn,
                                                   FeedForwardAdapter& adapter) const {
  if (part == "gate_proj" || part == "w1") return Slot{&adapter.gate, config_.dim, ffn};
  if (part == "up_proj" || part == "w3") return Slot{&adapter.up, config_.dim, ffn};
  if (part == "down_proj" || part == "w2") return Slot{&adapter.down, ffn, config_.dim};
  return std::nullopt;
}

std::optional<Slot> AdapterLoader::FindExpert(std::string_view part, LayerAdapter& layer) const {
  const std::optional<int64_t> expert = TakeNumber(part);
  if (!expert || *expert < 0 || *expert >= config_.router.experts) return std::nullopt;
  layer.experts.resize(static_cast<size_t>(config_.router.experts));
  return FindFeedForward(part, config_.expert_ffn_dim, layer.experts[static_cast<size_t>(*expert)]);
}

/// The matrix that "self_attn.q_proj" and the like name, if the layer has it.
std::optional<Slot> AdapterLoader::FindSlot(std::string_view part, bool sparse,
                                            LayerAdapter& layer) const {
  if (Take(part, "self_attn.")) return FindAttention(part, layer);
  if (!Take(part, "mlp.") && !Take(part, "block_sparse_moe.")) return std::nullopt;
  if (!sparse) return FindFeedForward(part, config_.ffn_dim, layer.dense);
  if (part == "gate" || part == "router")
    return Slot{&layer.router, config_.dim, config_.router.experts};
  if (Take(part, "experts.")) return FindExpert(part, layer);
  const bool shared = Take(part, "shared_expert.") || Take(part, "shared_experts.");
  if (!shared || config_.shared_expert == SharedExpert::kNone) return std::nullopt;
  return FindFeedForward(part, config_.shared_ffn_dim, layer.shared);
}

Result<void> AdapterLoader::LoadModule(const std::string& name, const Module& module) {
  std::string_view part = name;
  const bool layered = Take(part, "model.layers.") || Take(part, "layers.");
  const std::optional<int64_t> number = layered ? TakeNumber(part) : std::nullopt;
  if (number && *number >= 0 && *number < static_cast<int64_t>(config_.layers.size())) {
    const bool sparse = config_.layers[static_cast<size_t>(*number)].sparse;
    LayerAdapter& layer = out_.layers[static_cast<size_t>(*number)];
    if (sparse && (part == "mlp.experts" || part == "mlp.experts.base_layer")) {
      return LoadFused(name, module, layer);
    }
    const std::optional<Slot> slot = FindSlot(part, sparse, layer);
    if (slot) {
      reached_.push_back(name);
      reached_.push_back(name + ".weight");  // As target_parameters call it.
      return LoadPair(name, module, *slot);
    }
  }
  return Complain(
      *module.a, ErrorCode::kInvalidInput,
      "matches no matrix of this " + config_.family + " model that an adapter can change");
}

Error WrongShape(const TensorInfo& tensor, const std::vector<int64_t>& expected) {
  return Complain(
      tensor, ErrorCode::kInvalidInput,
      "has shape " + ShowShape(tensor.shape) + ", but must have " + ShowShape(expected));
}

/// Brings rows from half rotation (i, i + n/2 turn together) into interleaved order (2i, 2i + 1).
void InterleaveRows(std::vector<float>& rows, int64_t heads, int64_t width) {
  const std::vector<float> half = rows;
  const int64_t head_dim = static_cast<int64_t>(rows.size()) / (heads * width);
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < head_dim; ++i) {
      const int64_t from = h * head_dim + (i % 2) * (head_dim / 2) + i / 2;
      std::copy_n(half.begin() + from * width, width, rows.begin() + (h * head_dim + i) * width);
    }
  }
}

Result<void> AdapterLoader::LoadPair(const std::string& name, const Module& module,
                                     const Slot& slot) {
  const int64_t rank = module.a->shape.empty() ? 0 : module.a->shape[0];
  if (module.a->shape != std::vector<int64_t>{rank, slot.in}) {
    return WrongShape(*module.a, {rank, slot.in});
  }
  if (module.b->shape != std::vector<int64_t>{slot.out, rank}) {
    return WrongShape(*module.b, {slot.out, rank});
  }
  LoraPair& pair = *slot.pair;
  if (!pair.empty())
    return Complain(*module.a, ErrorCode::kInvalidInput,
                    "adapts a matrix that another tensor adapts already");
  pair = {{},       {},   slot.in,
          slot.out, rank, static_cast<float>(settings_.ScaleOf(name, rank) * strength_)};
  MOXIE_TRY_ASSIGN(pair.a, Values(*module.a));
  MOXIE_TRY_ASSIGN(pair.b, Values(*module.b));
  if (slot.rotated_heads > 0) InterleaveRows(pair.b, slot.rotated_heads, rank);
  return {};
}

/// PEFT's target_parameters on a layer's experts: A is [experts * r, in] with the expert slow, B is
/// [out, r * experts] with the expert fast. gate_up's rows are the gate's, then the up's; gpt-oss's
/// alternate.
Result<void> AdapterLoader::LoadFused(const std::string& name, const Module& module,
                                      LayerAdapter& layer) {
  const int64_t experts = config_.router.experts;
  const int64_t ffn = config_.expert_ffn_dim;
  const std::vector<int64_t>& b_shape = module.b->shape;
  const std::vector<int64_t>& a_shape = module.a->shape;
  const bool two = a_shape.size() == 2 && b_shape.size() == 2;
  const bool gate_up = two && b_shape[0] == 2 * ffn && a_shape[1] == config_.dim;
  const int64_t in = gate_up ? config_.dim : ffn;
  const int64_t out = gate_up ? 2 * ffn : config_.dim;
  const int64_t total = two ? a_shape[0] : 0;
  if (!two || total % experts != 0 || a_shape[1] != in) {
    return WrongShape(*module.a, {total - total % experts, in});
  }
  if (b_shape != std::vector<int64_t>{out, total}) return WrongShape(*module.b, {out, total});
  const int64_t rank = total / experts;
  MOXIE_TRY_ASSIGN(const auto a, Values(*module.a));
  MOXIE_TRY_ASSIGN(const auto b, Values(*module.b));
  const std::string base = NamesModule(name, "base_layer") ? name.substr(0, name.rfind('.')) : name;
  const std::string parameter = base + (gate_up ? ".gate_up_proj" : ".down_proj");
  reached_.push_back(parameter);
  const auto scale = static_cast<float>(settings_.ScaleOf(parameter, rank) * strength_);
  const Family* family = FindFamily(config_.family);
  const bool alternating = family != nullptr && family->transposed_experts;
  layer.experts.resize(static_cast<size_t>(experts));
  const auto fill = [&](int64_t e, int64_t first, int64_t step, int64_t rows, LoraPair& pair) {
    pair = {{}, {}, in, rows, rank, scale};
    pair.a.assign(a.begin() + e * rank * in, a.begin() + (e + 1) * rank * in);
    pair.b.resize(static_cast<size_t>(rows * rank));
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t j = 0; j < rank; ++j) {
        const int64_t from = (first + row * step) * total + j * experts + e;
        pair.b[static_cast<size_t>(row * rank + j)] = b[static_cast<size_t>(from)];
      }
    }
  };
  for (int64_t e = 0; e < experts; ++e) {
    FeedForwardAdapter& expert = layer.experts[static_cast<size_t>(e)];
    if (!(gate_up ? expert.gate : expert.down).empty()) {
      return Complain(*module.a, ErrorCode::kInvalidInput,
                      "adapts a matrix that another tensor adapts already");
    }
    if (!gate_up) {
      fill(e, 0, 1, out, expert.down);
      continue;
    }
    fill(e, 0, alternating ? 2 : 1, ffn, expert.gate);
    fill(e, alternating ? 1 : ffn, alternating ? 2 : 1, ffn, expert.up);
  }
  return {};
}

Result<void> AdapterLoader::RefuseIdleTargets() const {
  for (const std::string& target : settings_.targets) {
    const auto names = [&target](const std::string& name) { return NamesModule(name, target); };
    if (std::none_of(reached_.begin(), reached_.end(), names)) {
      return Error{ErrorCode::kInvalidInput, std::string(kConfigName) + ": target " +
                                                 Printable(target) + " matches no tensor of " +
                                                 std::string(kWeightsName) +
                                                 ", but every target must"};
    }
  }
  return {};
}

}  // namespace

Result<AdapterWeights> LoadAdapter(const std::filesystem::path& folder, const ModelConfig& config,
                                   double strength) {
  ModelFiles companion;
  companion.layout = FileLayout::kHuggingFace;
  companion.path = folder;
  MOXIE_TRY_ASSIGN(const auto text, companion.ReadCompanion(kConfigName));
  if (!text) {
    return Error{ErrorCode::kNotFound, folder.string() + ": has no " + std::string(kConfigName) +
                                           ", but an adapter needs it"};
  }
  MOXIE_TRY_ASSIGN(const Settings settings,
                   Settings::FromJson(*text, std::string(kConfigName), FileLayout::kHuggingFace));
  MOXIE_TRY_ASSIGN(const AdapterConfig adapter, ReadAdapterConfig(settings));
  MOXIE_TRY_ASSIGN(const TensorFiles files, OpenSafetensors({folder / kWeightsName}));
  if (!std::isfinite(strength)) {
    return Error{ErrorCode::kInvalidInput, folder.string() + ": the scale must be a finite number"};
  }
  AdapterLoader loader(adapter, files, config, strength);
  MOXIE_TRY_ASSIGN(AdapterWeights weights, loader.Load());
  weights.name = DisplayName(companion);
  return weights;
}

}  // namespace moxie
