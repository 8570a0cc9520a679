#include "convert/type_costs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>

#include "convert/probe.h"
#include "convert/probe_file.h"
#include "engine/model_parts.h"
#include "model/mix.h"
#include "quant/dequantize.h"

namespace moxie {
namespace {

constexpr int64_t kSampledRows = 64;       // of a tensor,
constexpr int64_t kLeastSampledRows = 16;  // and of each expert's matrix at least.

// Four bits lie in the middle of what is chosen among, and every row of whole blocks of 32 can have
// them; eight are as fine as rounding gets.
constexpr DType kCoarse = DType::kQ4_0;
constexpr DType kFine = DType::kQ8_0;

constexpr std::array kTypes = {
    DType::kF16,  DType::kQ8_0, DType::kQ6_K,  DType::kQ5_K,   DType::kQ5_1,   DType::kQ5_0,
    DType::kQ4_K, DType::kQ4_1, DType::kQ4_0,  DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4,
    DType::kQ3_K, DType::kQ2_K, DType::kTQ2_0, DType::kTQ1_0,
};

int64_t ElementsOf(const TensorSpec& spec) {
  return std::accumulate(spec.shape.begin(), spec.shape.end(), int64_t{1}, std::multiplies<>());
}

/// One matrix of a tensor, and how its errors count.
struct Piece {
  TensorView view;
  const float* importance = nullptr;  ///< [columns], or null
  double use = 1;
};

/// A tensor whose type is to be chosen.
struct Unit {
  size_t tensor = 0;
  std::vector<Piece> pieces;
  std::vector<float> weights;  ///< [pieces, columns] what the pieces' importance points into
};

/// Squared error of rows spread over the matrix, scaled up to all of it.
double SampledError(const Piece& piece, int64_t wanted_rows, DType type, const KernelSet& kernels) {
  const int64_t columns = piece.view.column_count();
  const int64_t rows = piece.view.row_count();
  const int64_t sampled = std::min(rows, wanted_rows);
  std::vector<float> row(static_cast<size_t>(columns)), decoded(row.size());
  std::vector<double> scratch(static_cast<size_t>(ScratchBytes(piece.view)) / sizeof(double) + 1);
  std::vector<std::byte> coded(static_cast<size_t>(BytesOf(type, columns).value()));
  double error = 0;
  for (int64_t i = 0; i < sampled; ++i) {
    ReadRows(piece.view, i * rows / sampled, 1, DType::kF32, nullptr, kernels,
             reinterpret_cast<std::byte*>(scratch.data()),
             reinterpret_cast<std::byte*>(row.data()));
    kernels.quantize(type, row.data(), columns, piece.importance, coded.data());
    Dequantize(type, coded.data(), columns, decoded.data());
    for (size_t c = 0; c < row.size(); ++c) {
      const double difference = static_cast<double>(row[c]) - static_cast<double>(decoded[c]);
      const double weight = piece.importance != nullptr ? piece.importance[c] : 1.0f;
      error += weight * difference * difference;
    }
  }
  return error * piece.use * static_cast<double>(rows) / static_cast<double>(sampled);
}

/// Squared errors of a target's tensors.
struct Errors {
  std::vector<std::map<DType, double>> of;  ///< each tensor's in each type that it may have
  std::map<DType, double> sums;
};

/// What a divergence measured with a squared error of 1 becomes with another: a part is
/// proportional to the squared error, the rest, from choosing other experts, to its root.
TypeOption Scaled(const Probed& probed, double error) {
  const double root = probed.root_share.value_or(0);
  const double rerouting = root * probed.divergence;
  return {.divergence = probed.divergence * (1 - root) * error,
          .rerouting = rerouting * rerouting * error};
}

Error OfAnotherModel(const std::string& file, const std::string& tensor) {
  return {ErrorCode::kInvalidInput, file + ": is of another model: see what it says of " + tensor};
}

class Costs {
 public:
  Costs(std::span<const PlannedTensor> tensors, Model& model, const Importance& importance)
      : tensors_(tensors), model_(model), importance_(importance), options_(tensors.size()) {}

  Result<std::vector<std::vector<TypeOption>>> Measure(
      std::string_view text, const std::string& kept,
      const std::function<bool(double share)>& progress) {
    MOXIE_TRY_ASSIGN(const std::unique_ptr<Prober> prober, Prober::Create(model_, text));
    const std::vector<ProbeTarget> targets = Wanted();
    if (!kept.empty() && std::filesystem::exists(kept)) {  // What an earlier run measured.
      MOXIE_TRY_ASSIGN(probed_, ReadProbes(kept));
      MOXIE_TRY(CheckKept(probed_, targets, kept));
    }
    for (auto first = targets.begin(); first != targets.end();) {
      const auto end = std::find_if(first, targets.end(),
                                    [&](const auto& t) { return t.layer != first->layer; });
      MOXIE_TRY_ASSIGN(const bool probed, MeasureLayer({first, end}, *prober));
      if (probed && !kept.empty())
        MOXIE_TRY(MergeProbes(probed_, kept, [&](const ProbeResults& held) {
          return CheckKept(held, targets, kept);
        }));
      first = end;
      if (progress && !progress(static_cast<double>(end - targets.begin()) /
                                static_cast<double>(targets.size())))
        return Error{ErrorCode::kCancelled, "cancelled"};
    }
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (options_[i].empty()) AddOnlyOption(i);
    }
    return std::move(options_);
  }

 private:
  std::vector<ProbeTarget> Wanted() {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const TensorSpec& spec = tensors_[i].spec;
      if (IsQuantisable(spec) && spec.shape.back() % TraitsOf(kCoarse).block_elements == 0)
        by_name_[spec.name] = i;
    }
    std::vector<ProbeTarget> wanted;
    for (ProbeTarget& target : ProbeTargets(model_)) {
      if (std::ranges::any_of(target.names, [&](const auto& n) { return by_name_.contains(n); }))
        wanted.push_back(std::move(target));
    }
    return wanted;
  }

  Result<void> CheckKept(const ProbeResults& held, std::span<const ProbeTarget> targets,
                         const std::string& kept) const {
    for (const auto& entry : held) {
      const bool known = std::ranges::any_of(
          targets, [&](const ProbeTarget& target) { return target.names.front() == entry.first; });
      if (!known || entry.second.root_share.has_value() != model_.is_mixture())
        return OfAnotherModel(kept, entry.first);
    }
    return {};
  }

  /// All targets of a layer. Returns whether they had to be probed.
  Result<bool> MeasureLayer(std::span<const ProbeTarget> targets, Prober& prober) {
    std::vector<std::vector<Unit>> units;
    std::vector<Errors> errors;
    for (const ProbeTarget& target : targets) {
      MOXIE_TRY_ASSIGN(std::vector<Unit> own, UnitsOf(target, prober));
      errors.push_back(ErrorsOf(own));
      units.push_back(std::move(own));
    }
    const bool known = std::ranges::all_of(
        targets, [&](const ProbeTarget& t) { return probed_.contains(t.names.front()); });
    if (!known) MOXIE_TRY(Probe(targets, errors, prober));
    for (size_t i = 0; i < targets.size(); ++i)
      AddOptions(units[i], errors[i], probed_[targets[i].names.front()], targets[i].layer);
    return !known;
  }

  Result<void> Probe(std::span<const ProbeTarget> targets, std::span<const Errors> errors,
                     Prober& prober) {
    std::vector<TypeOption> square, root;  // All in eight bits, were each all of its kind.
    for (size_t i = 0; i < targets.size(); ++i) {
      Probed& probed = probed_[targets[i].names.front()];
      MOXIE_TRY_ASSIGN(probed.divergence,
                       prober.Measure(targets.subspan(i, 1), kCoarse, importance_));
      probed.divergence = std::max(probed.divergence, 0.0);
      const double coarse = errors[i].sums.at(kCoarse);
      const double fine = coarse > 0 ? errors[i].sums.at(kFine) / coarse : 0;
      square.push_back(Scaled({probed.divergence, 0.0}, fine));
      root.push_back(Scaled({probed.divergence, 1.0}, fine));
      probed.root_share.reset();
    }
    if (!model_.is_mixture()) return {};
    MOXIE_TRY_ASSIGN(const double fine, prober.Measure(targets, kFine, importance_));
    const double least = DivergenceOfAll(square), most = DivergenceOfAll(root);
    const double share = most > least ? std::clamp((fine - least) / (most - least), 0.0, 1.0) : 0;
    for (const ProbeTarget& target : targets) probed_[target.names.front()].root_share = share;
    return {};
  }

  /// The tensors that hold the target's matrices.
  Result<std::vector<Unit>> UnitsOf(const ProbeTarget& target, const Prober& prober) {
    std::vector<double> use;
    if (target.experts) {
      const auto longer = importance_.entries.find(target.names.front());
      use = prober.ExpertUse(target.layer, longer != importance_.entries.end()
                                               ? longer->second.counts
                                               : std::vector<float>());
    }
    std::vector<Unit> units;
    for (size_t n = 0; n < target.names.size(); ++n) {
      const auto found = by_name_.find(target.names[n]);
      if (found == by_name_.end()) continue;
      const PlannedTensor& tensor = tensors_[found->second];
      Unit unit;
      unit.tensor = found->second;
      const int64_t matrices = tensor.spec.shape.size() > 2 ? tensor.spec.shape[0] : 1;
      MOXIE_TRY_ASSIGN(auto weights,
                       importance_.Weights(tensor.spec.name, matrices, tensor.columns()));
      if (weights) unit.weights = std::move(*weights);
      const std::vector<TensorView> views = tensor.Matrices();
      for (size_t m = 0; m < views.size(); ++m) {
        Piece piece;
        piece.view = views[m];
        if (!unit.weights.empty())
          piece.importance =
              unit.weights.data() + (matrices > 1 ? static_cast<int64_t>(m) : 0) * tensor.columns();
        if (target.experts) piece.use = use[n == 0 ? m : n - 1];
        unit.pieces.push_back(std::move(piece));
      }
      units.push_back(std::move(unit));
    }
    return units;
  }

  Errors ErrorsOf(const std::vector<Unit>& units) {
    struct Task {
      size_t unit;
      DType type;
      double error = 0;
    };
    std::vector<Task> tasks;
    for (size_t u = 0; u < units.size(); ++u) {
      const int64_t columns = tensors_[units[u].tensor].columns();
      for (const DType type : kTypes) {
        if (columns % TraitsOf(type).block_elements == 0) tasks.push_back({u, type});
      }
    }
    model_.parts().threads->ParallelFor(std::ssize(tasks), [&](int64_t i, int) {
      Task& task = tasks[static_cast<size_t>(i)];
      const std::vector<Piece>& pieces = units[task.unit].pieces;
      const int64_t rows = std::max(kLeastSampledRows, kSampledRows / std::ssize(pieces));
      for (const Piece& piece : pieces)
        task.error += SampledError(piece, rows, task.type, *model_.parts().kernels);
    });
    Errors errors;
    errors.of.resize(units.size());
    for (const Task& task : tasks) {
      errors.of[task.unit][task.type] = task.error;
      errors.sums[task.type] += task.error;
    }
    return errors;
  }

  void AddOptions(const std::vector<Unit>& units, const Errors& errors, const Probed& probed,
                  int64_t layer) {
    const double all = errors.sums.at(kCoarse);
    for (size_t u = 0; u < units.size(); ++u) {
      const size_t tensor = units[u].tensor;
      for (const auto& [type, error] : errors.of[u]) {
        TypeOption option = Scaled(probed, all > 0 ? error / all : 0);
        option.layer = layer;
        option.type = type;
        option.bytes = BytesOf(type, ElementsOf(tensors_[tensor].spec)).value();
        options_[tensor].push_back(option);
      }
      AddOwnType(tensor);
    }
  }

  void AddOwnType(size_t tensor) {
    const TensorSpec& spec = tensors_[tensor].spec;
    options_[tensor].push_back({spec.type, BytesOf(spec.type, ElementsOf(spec)).value(), 0});
  }

  /// Norms and the like stay as they are; what cannot be probed gets eight bits.
  void AddOnlyOption(size_t tensor) {
    const TensorSpec& spec = tensors_[tensor].spec;
    const DType type =
        IsQuantisable(spec) ? FittingType(DType::kQ8_0, spec.shape.back()) : spec.type;
    options_[tensor].push_back({type, BytesOf(type, ElementsOf(spec)).value(), 0});
  }

  std::span<const PlannedTensor> tensors_;
  Model& model_;
  const Importance& importance_;
  ProbeResults probed_;
  std::map<std::string, size_t, std::less<>> by_name_;  ///< tensors to choose for
  std::vector<std::vector<TypeOption>> options_;
};

}  // namespace

Result<std::vector<std::vector<TypeOption>>> MeasureTypeCosts(
    std::span<const PlannedTensor> tensors, Model& model, std::string_view text,
    const Importance& importance, const std::string& kept,
    const std::function<bool(double share)>& progress) {
  return Costs(tensors, model, importance).Measure(text, kept, progress);
}

}  // namespace moxie
