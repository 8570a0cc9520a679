#include "model/mix.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "model/names.h"

namespace moxie {
namespace {

constexpr std::array kMixes = {
    Mix{"f32", 0, DType::kF32},        Mix{"f16", 1, DType::kF16},
    Mix{"bf16", 32, DType::kBF16},     Mix{"q8_0", 7, DType::kQ8_0},
    Mix{"q6_k", 18, DType::kQ6_K},     Mix{"q5_k_m", 17, DType::kQ5_K},
    Mix{"q5_k_s", 16, DType::kQ5_K},   Mix{"q5_1", 9, DType::kQ5_1},
    Mix{"q5_0", 8, DType::kQ5_0},      Mix{"q4_k_m", 15, DType::kQ4_K},
    Mix{"q4_k_s", 14, DType::kQ4_K},   Mix{"iq4_nl", 25, DType::kIQ4_NL},
    Mix{"iq4_xs", 30, DType::kIQ4_XS}, Mix{"q4_1", 3, DType::kQ4_1},
    Mix{"q4_0", 2, DType::kQ4_0},      Mix{"mxfp4", 38, DType::kMXFP4},
    Mix{"q3_k_l", 13, DType::kQ3_K},   Mix{"q3_k_m", 12, DType::kQ3_K},
    Mix{"q3_k_s", 11, DType::kQ3_K},   Mix{"q2_k", 10, DType::kQ2_K},
    Mix{"q2_k_s", 21, DType::kQ2_K},   Mix{"tq2_0", 37, DType::kTQ2_0},
    Mix{"tq1_0", 36, DType::kTQ1_0},
};

struct Alias {
  std::string_view name, mix;
};
constexpr std::array kAliases = {Alias{"q3_k", "q3_k_m"}, Alias{"q4_k", "q4_k_m"},
                                 Alias{"q5_k", "q5_k_m"}, Alias{"mxfp4_moe", "mxfp4"}};

/// What a tensor is to a mix.
enum class Part : uint8_t {
  kOutput,
  kEmbedding,
  kValues,  // Also fused ones: they are the most sensitive.
  kKeys,
  kAttentionOutput,
  kDown,
  kOther,
};

/// Where a rule holds.
enum class Where : uint8_t {
  kAll,
  kFirstTwo,
  kFirstFour,
  kFirstSixteenth,
  kFirstEighth,
  kMoreBits,  // First and last eighth of the layers, and every third between.
  kGroupedQueries,
  kEightExperts,
  kFirstEighthWithImportance,
  kFirstEighthWithout,
};

struct Rule {
  std::string_view mix;
  Part part;
  Where where;
  DType type;
};

// The first rule that holds decides; without one the tensor gets the mix's own type.
constexpr std::array kRules = {
    Rule{"q2_k", Part::kValues, Where::kGroupedQueries, DType::kQ4_K},
    Rule{"q2_k", Part::kValues, Where::kAll, DType::kQ3_K},
    Rule{"q2_k", Part::kDown, Where::kAll, DType::kQ3_K},
    Rule{"q2_k", Part::kAttentionOutput, Where::kEightExperts, DType::kQ5_K},
    Rule{"q2_k", Part::kAttentionOutput, Where::kAll, DType::kQ3_K},
    Rule{"q2_k_s", Part::kValues, Where::kGroupedQueries, DType::kQ4_K},
    Rule{"q2_k_s", Part::kDown, Where::kFirstEighth, DType::kQ4_K},
    Rule{"q3_k_s", Part::kAttentionOutput, Where::kEightExperts, DType::kQ5_K},
    Rule{"q3_k_m", Part::kValues, Where::kFirstTwo, DType::kQ5_K},
    Rule{"q3_k_m", Part::kValues, Where::kAll, DType::kQ4_K},
    Rule{"q3_k_m", Part::kDown, Where::kFirstSixteenth, DType::kQ5_K},
    Rule{"q3_k_m", Part::kDown, Where::kAll, DType::kQ4_K},
    Rule{"q3_k_m", Part::kAttentionOutput, Where::kEightExperts, DType::kQ5_K},
    Rule{"q3_k_m", Part::kAttentionOutput, Where::kAll, DType::kQ4_K},
    Rule{"q3_k_l", Part::kValues, Where::kAll, DType::kQ5_K},
    Rule{"q3_k_l", Part::kDown, Where::kAll, DType::kQ5_K},
    Rule{"q3_k_l", Part::kAttentionOutput, Where::kEightExperts, DType::kQ3_K},
    Rule{"q3_k_l", Part::kAttentionOutput, Where::kAll, DType::kQ5_K},
    Rule{"q4_k_s", Part::kValues, Where::kFirstFour, DType::kQ5_K},
    Rule{"q4_k_s", Part::kDown, Where::kFirstEighth, DType::kQ5_K},
    Rule{"q4_k_s", Part::kAttentionOutput, Where::kEightExperts, DType::kQ5_K},
    Rule{"q4_k_m", Part::kValues, Where::kMoreBits, DType::kQ6_K},
    Rule{"q4_k_m", Part::kDown, Where::kMoreBits, DType::kQ6_K},
    Rule{"q4_k_m", Part::kAttentionOutput, Where::kEightExperts, DType::kQ5_K},
    Rule{"q5_k_m", Part::kValues, Where::kMoreBits, DType::kQ6_K},
    Rule{"q5_k_m", Part::kDown, Where::kMoreBits, DType::kQ6_K},
    Rule{"iq4_nl", Part::kValues, Where::kGroupedQueries, DType::kQ5_K},
    Rule{"iq4_nl", Part::kDown, Where::kFirstEighthWithout, DType::kQ5_K},
    Rule{"iq4_nl", Part::kAttentionOutput, Where::kEightExperts, DType::kQ5_K},
    Rule{"iq4_xs", Part::kValues, Where::kGroupedQueries, DType::kQ5_K},
    Rule{"iq4_xs", Part::kDown, Where::kFirstEighthWithout, DType::kQ5_K},
    Rule{"iq4_xs", Part::kAttentionOutput, Where::kEightExperts, DType::kQ5_K},
    Rule{"q4_0", Part::kDown, Where::kFirstEighthWithImportance, DType::kQ4_1},
    Rule{"q5_0", Part::kDown, Where::kFirstEighthWithImportance, DType::kQ5_1},
    Rule{"tq1_0", Part::kEmbedding, Where::kAll, DType::kQ4_K},
    Rule{"tq2_0", Part::kEmbedding, Where::kAll, DType::kQ4_K},
};

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

Part PartOf(std::string_view name, bool tied) {
  if (name == "output.weight") return Part::kOutput;
  if (name == "token_embd.weight") return tied ? Part::kOutput : Part::kEmbedding;
  for (const std::string_view values : {"attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"}) {
    if (Contains(name, values)) return Part::kValues;
  }
  if (Contains(name, "attn_k.weight")) return Part::kKeys;
  if (Contains(name, "attn_output.weight")) return Part::kAttentionOutput;
  return Contains(name, "ffn_down") ? Part::kDown : Part::kOther;
}

bool Holds(Where where, const MixModel& model, int64_t layer, int64_t layers) {
  const bool first_eighth = layer < layers / 8;
  switch (where) {
    case Where::kAll:
      return true;
    case Where::kFirstTwo:
      return layer < 2;
    case Where::kFirstFour:
      return layer < 4;
    case Where::kFirstSixteenth:
      return layer < layers / 16;
    case Where::kFirstEighth:
      return first_eighth;
    case Where::kMoreBits:
      return first_eighth || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
    case Where::kGroupedQueries:
      return model.queries_per_key >= 4;
    case Where::kEightExperts:
      return model.experts == 8;
    case Where::kFirstEighthWithImportance:
      return first_eighth && model.has_importance;
    case Where::kFirstEighthWithout:
      return first_eighth && !model.has_importance;
  }
  return false;
}

DType ChooseType(const Mix& mix, const MixModel& model, Part part, const TensorSpec& tensor,
                 int64_t layer, int64_t layers) {
  if (TraitsOf(mix.type).block_elements == 1) return mix.type;
  const bool whole_blocks = tensor.shape.back() % TraitsOf(mix.type).block_elements == 0;
  if (mix.type == DType::kMXFP4)
    return part != Part::kOutput && tensor.shape.size() == 3 ? mix.type : DType::kQ8_0;
  if (part == Part::kOutput)
    return whole_blocks && mix.type != DType::kQ8_0 ? DType::kQ6_K : DType::kQ8_0;
  DType type = mix.type;
  for (const Rule& rule : kRules) {
    if (rule.mix != mix.name || rule.part != part || !Holds(rule.where, model, layer, layers))
      continue;
    type = rule.type;
    break;
  }
  // Eight or more queries share these values, so they are few and count much.
  if (part == Part::kValues && model.shares_values &&
      (type == DType::kQ3_K || type == DType::kQ4_K))
    type = DType::kQ5_K;
  if (model.experts == 8 && (part == Part::kValues || part == Part::kKeys)) type = DType::kQ8_0;
  return type;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

}  // namespace

const Mix* FindMix(std::string_view name) {
  std::string wanted = Lower(name);
  for (const Alias& alias : kAliases) {
    if (wanted == alias.name) wanted = alias.mix;
  }
  const auto* const found = std::ranges::find(kMixes, std::string_view(wanted), &Mix::name);
  return found != kMixes.end() ? found : nullptr;
}

std::string MixNames() {
  std::string names;
  for (const Mix& mix : kMixes) names += (names.empty() ? "" : ", ") + std::string(mix.name);
  return names;
}

Result<MixModel> ReadMixModel(const GgufMetadata& metadata) {
  MOXIE_TRY_ASSIGN(const auto architecture, metadata.Text("general.architecture"));
  const std::string prefix = architecture.value_or("") + ".";
  // A model may list a number for each layer; then it counts as absent, which changes no rule.
  const auto number = [&](const char* key) -> int64_t {
    const auto value = metadata.Integer(prefix + key);
    return value ? value->value_or(0) : 0;
  };
  MixModel model;
  model.layers = number("block_count");
  model.experts = number("expert_count");
  const int64_t heads = number("attention.head_count");
  const int64_t key_heads = number("attention.head_count_kv");
  model.queries_per_key = key_heads > 0 ? heads / key_heads : 1;
  model.shares_values = model.layers == 80 && key_heads > 0 && key_heads != heads &&
                        (architecture == "llama" || architecture == "qwen2");
  return model;
}

bool IsQuantisable(const TensorSpec& tensor) {
  const std::string_view name = tensor.name;
  return tensor.shape.size() >= 2 && name.ends_with("weight") && !name.ends_with("_norm.weight") &&
         !Contains(name, "ffn_gate_inp.weight") && tensor.type != DType::kI8 &&
         tensor.type != DType::kI16 && tensor.type != DType::kI32 && tensor.type != DType::kI64;
}

std::vector<DType> ChooseTypes(const Mix& mix, const MixModel& model,
                               std::span<const TensorSpec> tensors) {
  const bool tied = std::ranges::find(tensors, "output.weight", &TensorSpec::name) == tensors.end();
  // Values are numbered among themselves: not every layer need have them.
  std::vector<int64_t> value_layers;
  for (const TensorSpec& tensor : tensors) {
    if (PartOf(tensor.name, tied) == Part::kValues)
      value_layers.push_back(LayerOf(FileLayout::kGguf, tensor.name));
  }
  std::ranges::sort(value_layers);
  std::vector<DType> types;
  for (const TensorSpec& tensor : tensors) {
    if (!IsQuantisable(tensor)) {
      types.push_back(tensor.type);
      continue;
    }
    const Part part = PartOf(tensor.name, tied);
    int64_t layer = LayerOf(FileLayout::kGguf, tensor.name);
    int64_t layers = model.layers;
    if (part == Part::kValues) {
      layer = std::ranges::lower_bound(value_layers, layer) - value_layers.begin();
      layers = std::ssize(value_layers);
    }
    types.push_back(
        FittingType(ChooseType(mix, model, part, tensor, layer, layers), tensor.shape.back()));
  }
  return types;
}

DType FittingType(DType type, int64_t columns) {
  const auto fits = [columns](DType t) { return columns % TraitsOf(t).block_elements == 0; };
  if (fits(type)) return type;
  DType substitute = type;
  switch (type) {
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kTQ1_0:
    case DType::kTQ2_0:
      substitute = DType::kQ4_0;
      break;
    case DType::kQ4_K:
      substitute = DType::kQ5_0;
      break;
    case DType::kQ5_K:
      substitute = DType::kQ5_1;
      break;
    case DType::kQ6_K:
      substitute = DType::kQ8_0;
      break;
    case DType::kIQ4_XS:
      substitute = DType::kIQ4_NL;
      break;
    default:
      break;
  }
  return fits(substitute) ? substitute : DType::kF16;
}

}  // namespace moxie
