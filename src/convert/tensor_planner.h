#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "convert/tensor_plan.h"
#include "model/family.h"
#include "model/names.h"
#include "model/tensor_finder.h"

namespace moxie {

/// A member of TensorNames: the same role in every layout.
using TensorRole = Spellings TensorNames::*;

/// What PlanTensors works with: finds tensors of the source by role and adds tensors of the result.
class TensorPlanner {
 public:
  TensorPlanner(const ModelFiles& files, const ModelConfig& config, FileLayout to,
                std::optional<DType> type);

  Result<std::vector<PlannedTensor>> Plan();

 private:
  using Shape = std::vector<int64_t>;

  /// A name of the result, below the present layer's prefix.
  std::string Name(TensorRole role, std::string_view suffix = ".weight", int64_t number = -1) const;
  Role From(TensorRole role, std::string_view suffix = ".weight", int64_t number = -1) const {
    return {from_.*role, from_prefix_, suffix, number};
  }
  bool Has(TensorRole role, std::string_view suffix = ".weight") const {
    return finder_.Has(From(role, suffix));
  }

  /// The source's tensor, or nothing where `needed` is false and it is absent. A shape of one
  /// dimension is matched by a matrix of one row, too.
  Result<const TensorInfo*> Find(TensorRole role, const Shape& shape, std::string_view suffix);
  /// The same for tensors whose elements are to be picked apart: none of a block type.
  Result<const TensorInfo*> FindPlain(TensorRole role, const Shape& shape, std::string_view suffix);
  TensorView View(const TensorInfo& tensor) const { return ViewOf(tensor, finder_.Data(tensor)); }

  Result<void> Add(std::string name, Shape shape, std::vector<TensorView> parts);
  void AddValues(std::string name, std::vector<float> values);
  DType TypeFor(const std::string& name, const Shape& shape,
                const std::vector<TensorView>& parts) const;
  DType FolderTypeFor(const Shape& shape, const std::vector<TensorView>& parts) const;

  /// Same shape, same order.
  Result<void> Copy(TensorRole role, const Shape& shape, std::string_view suffix = ".weight");
  /// The rows of heads, from the order that the source's rotation wants to the result's.
  TensorView Heads(TensorView rows, int64_t heads) const;
  Result<void> CopyHeads(TensorRole role, int64_t heads, std::string_view suffix);

  Result<void> Layer(int64_t number);
  Result<void> Attention();
  Result<void> FusedQkv(std::string_view suffix);
  Result<void> LatentAttention();
  Result<void> SplitKeysAndValues(const TensorInfo& kv_b);
  Result<void> JoinKeysAndValues();
  Result<void> Dense();
  Result<void> Mixture();
  Result<void> SharedExpert();

  // tensor_plan_experts.cc
  /// A layer's experts' gate, up and down: one view with the experts outermost, or one each.
  struct ExpertMatrices {
    std::vector<TensorView> gate, up, down;
  };
  Result<void> Experts();
  Result<ExpertMatrices> FindExperts();
  Result<ExpertMatrices> SeparateExperts();
  Result<ExpertMatrices> StackedExperts(std::string_view suffix);
  Result<ExpertMatrices> FlatExperts();
  Result<ExpertMatrices> TransposedExperts();
  Result<ExpertMatrices> Mxfp4Experts();
  Result<TensorView> Mxfp4(TensorRole role, int64_t rows, int64_t columns);
  /// Whether gate and up of every expert are of `type`, so that one view may run over both.
  Result<void> NeedOneType(const ExpertMatrices& experts, DType type) const;
  Result<void> AddTransposedExperts(const ExpertMatrices& experts);
  void AddMxfp4Experts(const ExpertMatrices& experts);
  Result<void> ExpertBiases();

  const ModelFiles& files_;
  const ModelConfig& config_;
  const Family& family_;
  const FileLayout to_layout_;
  const TensorNames& from_;
  const TensorNames& to_;
  const std::optional<DType> type_;
  DType folder_type_ = DType::kBF16;
  const bool regroup_heads_;  ///< the rotation pairs other rows of a head than the source's
  TensorFinder finder_;
  std::string from_prefix_, to_prefix_;
  std::vector<PlannedTensor> plan_;
};

/// Whether llama.cpp's files hold a tensor of that name in float32 whatever their type.
bool StaysFloat32(std::string_view gguf_name, size_t dimensions);

}  // namespace moxie
