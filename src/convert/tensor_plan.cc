#include "convert/tensor_plan.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "convert/gguf_metadata.h"
#include "convert/tensor_planner.h"
#include "quant/dequantize.h"
#include "quant/quantize.h"

namespace moxie {
namespace {

bool IsFloat(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

/// The type of a folder that a GGUF becomes: that of most of its bytes.
DType FolderType(const TensorFiles& tensors) {
  std::map<DType, uint64_t> bytes;
  for (const TensorInfo& tensor : tensors.tensors()) bytes[tensor.type] += tensor.bytes;
  const auto most =
      std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  return most != bytes.end() && IsFloat(most->first) ? most->first : DType::kBF16;
}

/// Which of a role's spellings a family's files have.
size_t SpellingOf(const Family& family, FileLayout layout, TensorRole role) {
  const bool mixtral = family.name == "mixtral";
  if (layout == FileLayout::kGguf)
    return role == &TensorNames::ffn_norm && family.transposed_experts ? 1 : 0;
  if (role == &TensorNames::router) return mixtral ? 0 : family.transposed_experts ? 2 : 1;
  for (const TensorRole expert :
       {&TensorNames::expert_gate, &TensorNames::expert_up, &TensorNames::expert_down})
    if (role == expert) return mixtral ? 0 : 1;
  for (const TensorRole shared :
       {&TensorNames::shared_gate, &TensorNames::shared_up, &TensorNames::shared_down})
    if (role == shared) return family.name == "deepseek3" ? 1 : 0;
  return 0;
}

/// Whether every value is the same after a pass through `type`.
bool Survives(const TensorView& view, DType type) {
  const int64_t columns = view.column_count();
  std::vector<std::byte> scratch(static_cast<size_t>(ScratchBytes(view)));
  std::vector<float> values(static_cast<size_t>(columns)), back(values.size());
  std::vector<std::byte> encoded(static_cast<size_t>(BytesOf(type, columns).value()));
  for (int64_t r = 0; r < view.row_count(); ++r) {
    ReadRows(view, r, 1, DType::kF32, nullptr, BestKernelSet(), scratch.data(),
             reinterpret_cast<std::byte*>(values.data()));
    Quantize(type, values.data(), columns, nullptr, encoded.data());
    Dequantize(type, encoded.data(), columns, back.data());
    if (std::memcmp(values.data(), back.data(), values.size() * sizeof(float)) != 0) return false;
  }
  return true;
}

}  // namespace

bool StaysFloat32(std::string_view gguf_name, size_t dimensions) {
  return dimensions <= 1 || !gguf_name.ends_with(".weight") ||
         gguf_name.ends_with("_norm.weight") ||
         gguf_name.find("ffn_gate_inp") != std::string_view::npos;
}

std::vector<TensorView> PlannedTensor::Matrices() const {
  if (spec.shape.size() < 3 || std::cmp_equal(parts.size(), spec.shape.front())) return parts;
  std::vector<TensorView> matrices;
  for (int64_t m = 0; m < spec.shape.front(); ++m) matrices.push_back(Entry(parts.front(), m));
  return matrices;
}

DType MainType(const std::vector<PlannedTensor>& tensors) {
  std::map<DType, int64_t> bytes;
  for (const PlannedTensor& tensor : tensors) {
    int64_t elements = 1;
    for (const int64_t d : tensor.spec.shape) elements *= d;
    bytes[tensor.spec.type] += BytesOf(tensor.spec.type, elements).value_or(0);
  }
  const auto most =
      std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  return most == bytes.end() ? DType::kF32 : most->first;
}

Result<std::vector<PlannedTensor>> PlanTensors(const ModelFiles& files, const ModelConfig& config,
                                               FileLayout to, std::optional<DType> type) {
  return TensorPlanner(files, config, to, type).Plan();
}

TensorPlanner::TensorPlanner(const ModelFiles& files, const ModelConfig& config, FileLayout to,
                             std::optional<DType> type)
    : files_(files),
      config_(config),
      family_(*FindFamily(config.family)),
      to_layout_(to),
      from_(NamesOf(files.layout)),
      to_(NamesOf(to)),
      type_(type),
      folder_type_(type.value_or(FolderType(files.tensors))),
      regroup_heads_((config.rope.layout == RopeLayout::kInterleaved) !=
                     (to == FileLayout::kGguf ? family_.gguf_interleaved
                                              : config.attention.latent.kv_rank > 0)),
      finder_(files) {}

std::string TensorPlanner::Name(TensorRole role, std::string_view suffix, int64_t number) const {
  const std::string_view spelling = (to_.*role)[SpellingOf(family_, to_layout_, role)];
  return to_prefix_ + WithNumber(spelling, number) + std::string(suffix);
}

Result<const TensorInfo*> TensorPlanner::Find(TensorRole role, const Shape& shape,
                                              std::string_view suffix) {
  const Role from = From(role, suffix);
  const TensorInfo* tensor = finder_.Find(from);
  const bool row =
      tensor != nullptr && shape.size() == 1 && tensor->shape == Shape{1, shape.front()};
  return row ? tensor : finder_.Need(from, shape);
}

Result<const TensorInfo*> TensorPlanner::FindPlain(TensorRole role, const Shape& shape,
                                                   std::string_view suffix) {
  MOXIE_TRY_ASSIGN(const TensorInfo* tensor, Find(role, shape, suffix));
  if (TraitsOf(tensor->type).block_elements == 1) return tensor;
  return finder_.Complain(*tensor, "has type " + std::string(NameOf(tensor->type)) +
                                       ", but must be f32, f16 or bf16 to be rearranged");
}

DType TensorPlanner::FolderTypeFor(const Shape& shape, const std::vector<TensorView>& parts) const {
  const DType own = parts.front().type;
  if (!IsFloat(own) || own == folder_type_) return folder_type_;
  // What a GGUF holds in float32 by rule takes the folder's type where that loses nothing.
  const bool small = own == DType::kF32 && (shape.size() == 1 || config_.router.experts > 0);
  if (small && !std::ranges::all_of(
                   parts, [&](const TensorView& part) { return Survives(part, folder_type_); }))
    return own;
  return small || type_ ? folder_type_ : own;
}

DType TensorPlanner::TypeFor(const std::string& name, const Shape& shape,
                             const std::vector<TensorView>& parts) const {
  if (to_layout_ != FileLayout::kGguf) return FolderTypeFor(shape, parts);
  if (StaysFloat32(name, shape.size())) return DType::kF32;
  const DType own = parts.front().type;
  const bool alike = std::ranges::all_of(parts, [own](const auto& p) { return p.type == own; });
  const DType wanted = type_.value_or(alike ? own : DType::kF32);
  const bool whole = shape.back() % TraitsOf(wanted).block_elements == 0;
  return whole ? wanted : DType::kF16;
}

Result<void> TensorPlanner::Add(std::string name, Shape shape, std::vector<TensorView> parts) {
  PlannedTensor planned;
  planned.spec.type = TypeFor(name, shape, parts);
  planned.spec.name = std::move(name);
  planned.spec.shape = std::move(shape);
  planned.parts = std::move(parts);
  plan_.push_back(std::move(planned));
  return {};
}

void TensorPlanner::AddValues(std::string name, std::vector<float> values) {
  PlannedTensor planned;
  planned.spec = {std::move(name), DType::kF32, {static_cast<int64_t>(values.size())}};
  planned.values = std::move(values);
  plan_.push_back(std::move(planned));
}

Result<void> TensorPlanner::Copy(TensorRole role, const Shape& shape, std::string_view suffix) {
  MOXIE_TRY_ASSIGN(const TensorInfo* tensor, Find(role, shape, suffix));
  return Add(Name(role, suffix), shape, {View(*tensor)});
}

TensorView TensorPlanner::Heads(TensorView rows, int64_t heads) const {
  if (!regroup_heads_) return rows;
  // In the source element p of pair i is row 2i + p or row i + p * n/2 of a head of n.
  const int64_t pairs = rows.row_count() / heads / 2;
  const int64_t stride = rows.rows.back().stride;
  const Axis head{heads, 2 * pairs * stride};
  if (config_.rope.layout == RopeLayout::kHalf) {
    rows.rows = {head, {pairs, stride}, {2, pairs * stride}};
  } else {
    rows.rows = {head, {2, stride}, {pairs, 2 * stride}};
  }
  return rows;
}

Result<void> TensorPlanner::CopyHeads(TensorRole role, int64_t heads, std::string_view suffix) {
  const int64_t rows = heads * config_.attention.head_dim;
  const bool vector = suffix == ".bias";
  const Shape shape = vector ? Shape{rows} : Shape{rows, config_.dim};
  MOXIE_TRY_ASSIGN(const TensorInfo* tensor,
                   vector ? FindPlain(role, shape, suffix) : Find(role, shape, suffix));
  const TensorView view =
      vector && regroup_heads_ ? ElementsOf(*tensor, finder_.Data(*tensor)) : View(*tensor);
  return Add(Name(role, suffix), shape, {Heads(view, heads)});
}

Result<std::vector<PlannedTensor>> TensorPlanner::Plan() {
  const AttentionConfig& attention = config_.attention;
  if (regroup_heads_ && (attention.latent.kv_rank > 0 || config_.rope.dims != attention.head_dim)) {
    return Error{ErrorCode::kUnsupported,
                 DisplayName(files_) + ": rotates heads in an order that " +
                     (to_layout_ == FileLayout::kGguf ? "a GGUF" : "a folder") + " of the family " +
                     config_.family + " cannot say"};
  }
  MOXIE_TRY(Copy(&TensorNames::embedding, {config_.vocab_size, config_.dim}));
  if (config_.tied_embeddings) {
    static_cast<void>(finder_.Find(From(&TensorNames::output)));
  } else {
    MOXIE_TRY(Copy(&TensorNames::output, {config_.vocab_size, config_.dim}));
  }
  MOXIE_TRY(Copy(&TensorNames::output_norm, {config_.dim}));
  constexpr Spellings kFactors = {"rope_freqs"};
  static_cast<void>(finder_.Find({kFactors}));  // Read with the configuration.
  std::vector<float> factors = FrequencyFactors(config_.rope);
  if (to_layout_ == FileLayout::kGguf && !factors.empty())
    AddValues("rope_freqs.weight", std::move(factors));
  for (size_t i = 0; i < config_.layers.size(); ++i) MOXIE_TRY(Layer(static_cast<int64_t>(i)));
  MOXIE_TRY(finder_.RefuseUnused(config_));
  return std::move(plan_);
}

Result<void> TensorPlanner::Layer(int64_t number) {
  from_prefix_ = WithNumber(from_.layer_prefix, number);
  to_prefix_ = WithNumber(to_.layer_prefix, number);
  MOXIE_TRY(Copy(&TensorNames::attention_norm, {config_.dim}));
  const bool latent = config_.attention.latent.kv_rank > 0;
  MOXIE_TRY(latent ? LatentAttention() : Attention());
  MOXIE_TRY(Copy(&TensorNames::ffn_norm, {config_.dim}));
  return config_.layers[static_cast<size_t>(number)].sparse ? Mixture() : Dense();
}

Result<void> TensorPlanner::Attention() {
  const AttentionConfig& a = config_.attention;
  const int64_t q_rows = a.heads * a.head_dim;
  const int64_t kv_rows = a.kv_heads * a.head_dim;
  for (const std::string_view suffix : {".weight", ".bias"}) {
    if (suffix == ".bias" && !a.qkv_bias) continue;
    if (Has(&TensorNames::qkv, suffix)) {
      MOXIE_TRY(FusedQkv(suffix));
      continue;
    }
    MOXIE_TRY(CopyHeads(&TensorNames::q, a.heads, suffix));
    MOXIE_TRY(CopyHeads(&TensorNames::k, a.kv_heads, suffix));
    const Shape shape = suffix == ".bias" ? Shape{kv_rows} : Shape{kv_rows, config_.dim};
    MOXIE_TRY(Copy(&TensorNames::v, shape, suffix));
  }
  MOXIE_TRY(Copy(&TensorNames::attention_output, {config_.dim, q_rows}));
  if (a.output_bias) MOXIE_TRY(Copy(&TensorNames::attention_output, {config_.dim}, ".bias"));
  if (a.qk_norm != QkNorm::kNone) {
    const bool whole = a.qk_norm == QkNorm::kWhole;
    MOXIE_TRY(Copy(&TensorNames::q_norm, {whole ? q_rows : a.head_dim}));
    MOXIE_TRY(Copy(&TensorNames::k_norm, {whole ? kv_rows : a.head_dim}));
  }
  return a.sinks ? Copy(&TensorNames::sinks, {a.heads}, "") : Result<void>();
}

/// Newer GGUFs may hold q, k and v as one matrix, in that order.
Result<void> TensorPlanner::FusedQkv(std::string_view suffix) {
  const AttentionConfig& a = config_.attention;
  const bool vector = suffix == ".bias";
  const int64_t all = (a.heads + 2 * a.kv_heads) * a.head_dim;
  MOXIE_TRY_ASSIGN(const TensorInfo* tensor,
                   vector ? FindPlain(&TensorNames::qkv, {all}, suffix)
                          : Find(&TensorNames::qkv, {all, config_.dim}, suffix));
  TensorView rest = vector ? ElementsOf(*tensor, finder_.Data(*tensor)) : View(*tensor);
  for (const TensorRole role : {&TensorNames::q, &TensorNames::k, &TensorNames::v}) {
    const int64_t heads = role == &TensorNames::q ? a.heads : a.kv_heads;
    const int64_t rows = heads * a.head_dim;
    TensorView part = rest;
    part.rows = {{rows, rest.rows.back().stride}};
    rest.data += rows * rest.rows.back().stride;
    if (role != &TensorNames::v) part = Heads(std::move(part), heads);
    const Shape shape = vector ? Shape{rows} : Shape{rows, config_.dim};
    MOXIE_TRY(Add(Name(role, suffix), shape, {std::move(part)}));
  }
  return {};
}

Result<void> TensorPlanner::Dense() {
  const int64_t ffn = config_.ffn_dim;
  MOXIE_TRY(Copy(&TensorNames::gate, {ffn, config_.dim}));
  MOXIE_TRY(Copy(&TensorNames::up, {ffn, config_.dim}));
  MOXIE_TRY(Copy(&TensorNames::down, {config_.dim, ffn}));
  if (!config_.ffn_bias) return {};
  MOXIE_TRY(Copy(&TensorNames::gate, {ffn}, ".bias"));
  MOXIE_TRY(Copy(&TensorNames::up, {ffn}, ".bias"));
  return Copy(&TensorNames::down, {config_.dim}, ".bias");
}

Result<void> TensorPlanner::Mixture() {
  const int64_t experts = config_.router.experts;
  MOXIE_TRY(Copy(&TensorNames::router, {experts, config_.dim}));
  if (config_.router.logit_bias) MOXIE_TRY(Copy(&TensorNames::router, {experts}, ".bias"));
  if (config_.router.selection_bias) MOXIE_TRY(Copy(&TensorNames::selection_bias, {experts}, ""));
  MOXIE_TRY(Experts());
  return config_.shared_expert == moxie::SharedExpert::kNone ? Result<void>() : SharedExpert();
}

Result<void> TensorPlanner::SharedExpert() {
  const int64_t ffn = config_.shared_ffn_dim;
  MOXIE_TRY(Copy(&TensorNames::shared_gate, {ffn, config_.dim}));
  MOXIE_TRY(Copy(&TensorNames::shared_up, {ffn, config_.dim}));
  MOXIE_TRY(Copy(&TensorNames::shared_down, {config_.dim, ffn}));
  if (config_.shared_expert == moxie::SharedExpert::kAdded) return {};
  // A row in a folder, a vector in a GGUF.
  MOXIE_TRY_ASSIGN(const TensorInfo* tensor,
                   Find(&TensorNames::shared_router, {config_.dim}, ".weight"));
  const Shape shape = to_layout_ == FileLayout::kGguf ? Shape{config_.dim} : Shape{1, config_.dim};
  return Add(Name(&TensorNames::shared_router), shape, {View(*tensor)});
}

}  // namespace moxie
