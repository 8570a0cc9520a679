#include <algorithm>
#include <utility>

#include "convert/tensor_planner.h"

namespace moxie {
namespace {

/// The `index`-th expert's matrix of views that are one stack or one each.
TensorView Expert(const std::vector<TensorView>& views, int64_t experts, int64_t index) {
  if (std::cmp_equal(views.size(), experts) && views.front().rows.size() == 1)
    return views[static_cast<size_t>(index)];
  return Entry(views.front(), index);
}

bool AreMxfp4(const std::vector<TensorView>& views) {
  return std::ranges::all_of(views, [](const auto& v) { return v.type == DType::kMXFP4; });
}

/// Element, row or matrix `first` and then every `step`-th along the last axis of `axes`.
void EveryOther(std::vector<Axis>& axes, TensorView& view, int64_t first) {
  Axis& axis = axes.back();
  view.data += first * axis.stride;
  if (view.scales != nullptr) view.scales += first * axis.stride / 16;
  axis = {axis.count / 2, 2 * axis.stride};
}

}  // namespace

Result<void> TensorPlanner::Experts() {
  MOXIE_TRY_ASSIGN(const ExpertMatrices found, FindExperts());
  const int64_t experts = config_.router.experts;
  const int64_t dim = config_.dim;
  const int64_t ffn = config_.expert_ffn_dim;
  if (to_layout_ == FileLayout::kGguf) {
    MOXIE_TRY(Add(Name(&TensorNames::experts_gate), {experts, ffn, dim}, found.gate));
    MOXIE_TRY(Add(Name(&TensorNames::experts_up), {experts, ffn, dim}, found.up));
    MOXIE_TRY(Add(Name(&TensorNames::experts_down), {experts, dim, ffn}, found.down));
  } else if (family_.transposed_experts) {
    const bool packed =
        !type_ && AreMxfp4(found.gate) && AreMxfp4(found.up) && AreMxfp4(found.down);
    if (packed) {
      AddMxfp4Experts(found);
    } else {
      MOXIE_TRY(AddTransposedExperts(found));
    }
  } else {
    for (int64_t e = 0; e < experts; ++e) {
      const auto add = [&](TensorRole role, const std::vector<TensorView>& from, int64_t rows,
                           int64_t columns) {
        return Add(Name(role, ".weight", e), {rows, columns}, {Expert(from, experts, e)});
      };
      MOXIE_TRY(add(&TensorNames::expert_gate, found.gate, ffn, dim));
      MOXIE_TRY(add(&TensorNames::expert_up, found.up, ffn, dim));
      MOXIE_TRY(add(&TensorNames::expert_down, found.down, dim, ffn));
    }
  }
  return config_.expert_bias ? ExpertBiases() : Result<void>();
}

Result<TensorPlanner::ExpertMatrices> TensorPlanner::FindExperts() {
  const bool gguf = files_.layout == FileLayout::kGguf;
  if (family_.transposed_experts && !gguf)
    return Has(&TensorNames::experts_gate_up, "_blocks") ? Mxfp4Experts() : TransposedExperts();
  if (finder_.Has(From(&TensorNames::expert_gate, ".weight", 0))) return SeparateExperts();
  if (gguf) return StackedExperts(".weight");
  if (Has(&TensorNames::experts_gate, "")) return FlatExperts();
  if (Has(&TensorNames::experts_gate_up, "")) return StackedExperts("");
  return SeparateExperts();  // Names the tensors that are missing.
}

Result<TensorPlanner::ExpertMatrices> TensorPlanner::SeparateExperts() {
  ExpertMatrices out;
  const auto find = [&](TensorRole role, int64_t expert, const Shape& shape,
                        std::vector<TensorView>& to) -> Result<void> {
    MOXIE_TRY_ASSIGN(const TensorInfo* tensor, finder_.Need(From(role, ".weight", expert), shape));
    to.push_back(View(*tensor));
    return {};
  };
  const Shape in = {config_.expert_ffn_dim, config_.dim};
  for (int64_t e = 0; e < config_.router.experts; ++e) {
    MOXIE_TRY(find(&TensorNames::expert_gate, e, in, out.gate));
    MOXIE_TRY(find(&TensorNames::expert_up, e, in, out.up));
    MOXIE_TRY(find(&TensorNames::expert_down, e, {in[1], in[0]}, out.down));
  }
  return out;
}

/// One tensor a matrix with the experts stacked, or gate and up in one tensor, gate's rows first.
Result<TensorPlanner::ExpertMatrices> TensorPlanner::StackedExperts(std::string_view suffix) {
  const int64_t experts = config_.router.experts;
  const int64_t dim = config_.dim;
  const int64_t ffn = config_.expert_ffn_dim;
  ExpertMatrices out;
  if (Has(&TensorNames::experts_gate_up, suffix)) {
    MOXIE_TRY_ASSIGN(const TensorInfo* both,
                     Find(&TensorNames::experts_gate_up, {experts, 2 * ffn, dim}, suffix));
    TensorView half = View(*both);
    half.rows.back().count = ffn;
    out.gate = {half};
    half.data += ffn * half.rows.back().stride;
    out.up = {half};
  } else {
    MOXIE_TRY_ASSIGN(const TensorInfo* gate,
                     Find(&TensorNames::experts_gate, {experts, ffn, dim}, suffix));
    MOXIE_TRY_ASSIGN(const TensorInfo* up,
                     Find(&TensorNames::experts_up, {experts, ffn, dim}, suffix));
    out.gate = {View(*gate)};
    out.up = {View(*up)};
  }
  MOXIE_TRY_ASSIGN(const TensorInfo* down,
                   Find(&TensorNames::experts_down, {experts, dim, ffn}, suffix));
  out.down = {View(*down)};
  return out;
}

/// Mistral's first release: [experts * ffn, dim] for all three, so that down lies transposed.
Result<TensorPlanner::ExpertMatrices> TensorPlanner::FlatExperts() {
  const int64_t experts = config_.router.experts;
  const int64_t ffn = config_.expert_ffn_dim;
  ExpertMatrices out;
  const auto find = [&](TensorRole role, std::vector<TensorView>& to) -> Result<void> {
    MOXIE_TRY_ASSIGN(const TensorInfo* tensor, FindPlain(role, {experts * ffn, config_.dim}, ""));
    TensorView view = View(*tensor);
    const int64_t row = view.rows.back().stride;
    view.rows = {{experts, ffn * row}, {ffn, row}};
    to.push_back(std::move(view));
    return {};
  };
  MOXIE_TRY(find(&TensorNames::experts_gate, out.gate));
  MOXIE_TRY(find(&TensorNames::experts_up, out.up));
  MOXIE_TRY(find(&TensorNames::experts_down, out.down));
  out.down.front() = Transposed(out.down.front());
  return out;
}

/// gpt-oss in plain floats: [experts, dim, 2 * ffn] with gate and up columns alternating, and
/// [experts, ffn, dim].
Result<TensorPlanner::ExpertMatrices> TensorPlanner::TransposedExperts() {
  const int64_t experts = config_.router.experts;
  const int64_t ffn = config_.expert_ffn_dim;
  MOXIE_TRY_ASSIGN(const TensorInfo* both,
                   FindPlain(&TensorNames::experts_gate_up, {experts, config_.dim, 2 * ffn}, ""));
  MOXIE_TRY_ASSIGN(const TensorInfo* down,
                   FindPlain(&TensorNames::experts_down, {experts, ffn, config_.dim}, ""));
  ExpertMatrices out;
  for (const int64_t which : {0, 1}) {
    TensorView view = View(*both);
    EveryOther(view.columns, view, which);
    (which == 0 ? out.gate : out.up).push_back(Transposed(view));
  }
  out.down.push_back(Transposed(View(*down)));
  return out;
}

/// gpt-oss in MXFP4: blocks and scales apart, gate and up rows alternating.
Result<TensorPlanner::ExpertMatrices> TensorPlanner::Mxfp4Experts() {
  const int64_t ffn = config_.expert_ffn_dim;
  MOXIE_TRY_ASSIGN(const TensorView both,
                   Mxfp4(&TensorNames::experts_gate_up, 2 * ffn, config_.dim));
  ExpertMatrices out;
  for (const int64_t which : {0, 1}) {
    TensorView view = both;
    EveryOther(view.rows, view, which);
    (which == 0 ? out.gate : out.up).push_back(std::move(view));
  }
  MOXIE_TRY_ASSIGN(TensorView down, Mxfp4(&TensorNames::experts_down, config_.dim, ffn));
  out.down.push_back(std::move(down));
  return out;
}

Result<TensorView> TensorPlanner::Mxfp4(TensorRole role, int64_t rows, int64_t columns) {
  const int64_t experts = config_.router.experts;
  const Shape scales_shape = {experts, rows, columns / 32};
  const Shape blocks_shape = {experts, rows, columns / 32, 16};
  const auto find = [&](std::string_view suffix, const Shape& shape) -> Result<const std::byte*> {
    const Role from = From(role, suffix);
    const TensorInfo* tensor = finder_.Find(from);
    if (tensor == nullptr) return finder_.Missing(from, ShowShape(shape));
    if (tensor->type == DType::kI8 && tensor->shape == shape && columns % 32 == 0)
      return finder_.Data(*tensor);
    return finder_.Complain(*tensor, "has shape " + ShowShape(tensor->shape) + " of " +
                                         std::string(NameOf(tensor->type)) + ", but must have " +
                                         ShowShape(shape) + " of bytes");
  };
  TensorView view;
  view.type = DType::kMXFP4;
  MOXIE_TRY_ASSIGN(view.data, find("_blocks", blocks_shape));
  MOXIE_TRY_ASSIGN(view.scales, find("_scales", scales_shape));
  view.rows = {{experts, rows * columns / 2}, {rows, columns / 2}};
  view.columns = {{columns, 0}};
  return view;
}

Result<void> TensorPlanner::NeedOneType(const ExpertMatrices& experts, DType type) const {
  for (const std::vector<TensorView>* views : {&experts.gate, &experts.up}) {
    for (const TensorView& view : *views) {
      if (view.type == type) continue;
      return Error{ErrorCode::kUnsupported,
                   DisplayName(files_) + ": has experts of " + std::string(NameOf(view.type)) +
                       " and of " + std::string(NameOf(type)) +
                       ", but a folder of this family holds gate and up as one tensor"};
    }
  }
  return {};
}

/// Gate and up columns alternate, one of each from matrices that lie apart: as a column axis of two
/// whose stride is the way from one to the other.
Result<void> TensorPlanner::AddTransposedExperts(const ExpertMatrices& experts) {
  const int64_t count = config_.router.experts;
  const int64_t dim = config_.dim;
  const int64_t ffn = config_.expert_ffn_dim;
  MOXIE_TRY(NeedOneType(experts, experts.gate.front().type));
  std::vector<TensorView> both, downs;
  for (int64_t e = 0; e < count; ++e) {
    const TensorView gate = Expert(experts.gate, count, e);
    const TensorView up = Expert(experts.up, count, e);
    TensorView alternating = Transposed(gate);
    alternating.columns.push_back({2, up.data - gate.data});
    both.push_back(std::move(alternating));
    downs.push_back(Transposed(Expert(experts.down, count, e)));
  }
  MOXIE_TRY(Add(Name(&TensorNames::experts_gate_up, ""), {count, dim, 2 * ffn}, std::move(both)));
  return Add(Name(&TensorNames::experts_down, ""), {count, ffn, dim}, std::move(downs));
}

void TensorPlanner::AddMxfp4Experts(const ExpertMatrices& experts) {
  const int64_t count = config_.router.experts;
  const auto add = [&](TensorRole role, const std::vector<TensorView>& parts, int64_t rows,
                       int64_t columns) {
    for (const auto form : {PlannedTensor::Form::kMxfp4Blocks, PlannedTensor::Form::kMxfp4Scales}) {
      const bool scales = form == PlannedTensor::Form::kMxfp4Scales;
      PlannedTensor planned;
      planned.spec = {Name(role, scales ? "_scales" : "_blocks"),
                      DType::kI8,
                      {count, rows, columns / 32},
                      true};
      if (!scales) planned.spec.shape.push_back(16);
      planned.form = form;
      planned.parts = parts;
      plan_.push_back(std::move(planned));
    }
  };
  std::vector<TensorView> both, downs;
  for (int64_t e = 0; e < count; ++e) {
    TensorView gate = Expert(experts.gate, count, e);
    gate.rows.push_back({2, Expert(experts.up, count, e).data - gate.data});
    both.push_back(std::move(gate));
    downs.push_back(Expert(experts.down, count, e));
  }
  add(&TensorNames::experts_gate_up, both, 2 * config_.expert_ffn_dim, config_.dim);
  add(&TensorNames::experts_down, downs, config_.dim, config_.expert_ffn_dim);
}

Result<void> TensorPlanner::ExpertBiases() {
  const int64_t count = config_.router.experts;
  const int64_t ffn = config_.expert_ffn_dim;
  const bool from_gguf = files_.layout == FileLayout::kGguf;
  const bool to_gguf = to_layout_ == FileLayout::kGguf;
  const std::string_view suffix = from_gguf ? ".bias" : "_bias";
  const std::string_view to_suffix = to_gguf ? ".bias" : "_bias";
  TensorView gate, up;
  if (from_gguf) {
    MOXIE_TRY_ASSIGN(const TensorInfo* gates,
                     FindPlain(&TensorNames::experts_gate, {count, ffn}, suffix));
    MOXIE_TRY_ASSIGN(const TensorInfo* ups,
                     FindPlain(&TensorNames::experts_up, {count, ffn}, suffix));
    gate = View(*gates);
    up = View(*ups);
  } else {
    MOXIE_TRY_ASSIGN(const TensorInfo* both,
                     FindPlain(&TensorNames::experts_gate_up, {count, 2 * ffn}, suffix));
    gate = up = View(*both);
    EveryOther(gate.columns, gate, 0);
    EveryOther(up.columns, up, 1);
  }
  MOXIE_TRY(NeedOneType({{gate}, {up}, {}}, gate.type));
  if (to_gguf) {
    MOXIE_TRY(Add(Name(&TensorNames::experts_gate, to_suffix), {count, ffn}, {gate}));
    MOXIE_TRY(Add(Name(&TensorNames::experts_up, to_suffix), {count, ffn}, {up}));
  } else {
    TensorView both = gate;
    both.columns.push_back({2, up.data - gate.data});
    MOXIE_TRY(Add(Name(&TensorNames::experts_gate_up, to_suffix), {count, 2 * ffn}, {both}));
  }
  MOXIE_TRY_ASSIGN(const TensorInfo* down,
                   FindPlain(&TensorNames::experts_down, {count, config_.dim}, suffix));
  return Add(Name(&TensorNames::experts_down, to_suffix), {count, config_.dim}, {View(*down)});
}

}  // namespace moxie
