#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/importance_file.h"
#include "core/dtype.h"
#include "core/matrix.h"
#include "forward/decoder.h"
#include "moxie/model.h"
#include "moxie/result.h"

namespace moxie {

/// Matrices whose errors are measured together: one, or one of each expert of a layer.
struct ProbeTarget {
  std::vector<std::string> names;  ///< the tensors that a GGUF may hold them in; importance knows
                                   ///< the first
  std::vector<const WeightMatrix*> matrices;
  int64_t layer = 0;     ///< the first that sees a difference; -1: the embeddings do
  bool experts = false;  ///< whether they are one of each of that layer's experts
};

/// Every target that a model has.
std::vector<ProbeTarget> ProbeTargets(const Model& model);

/// Measures how much errors in single tensors change what a model says: a tensor's weights are
/// replaced, in memory, by what they would be in another type, and the mean Kullback-Leibler
/// divergence of all next-token probabilities of a text from the untouched model's is taken, but
/// for pieces of the text that diverge far more than others. At the untouched weights that
/// divergence has its minimum, so it is quadratic in small errors, and for errors that do not know
/// of each other, such as those of rounding, the sum over tensors. Where errors change which
/// experts are chosen, the divergence jumps, and as many tokens do so as the errors are large: that
/// part is linear in them.
///
/// Layers before the target are not computed again. The model's weights must lie in memory; they
/// are back to the last bit when Measure returns.
class Prober final : private HiddenObserver, private RoutingObserver {
 public:
  /// Runs the untouched model on pieces spread over the text. `model` must outlive the prober.
  ///
  /// Errors: kOverBudget where experts are streamed from disk; kInvalidInput for a text of less
  /// than two tokens; the forward pass's.
  static Result<std::unique_ptr<Prober>> Create(Model& model, std::string_view text);

  /// The divergence with all of the targets, at least one, in `type`, encoded with `importance`.
  ///
  /// Errors: kUnsupported for weights of a type that cannot be written; the forward pass's.
  Result<double> Measure(std::span<const ProbeTarget> targets, DType type,
                         const Importance& importance);

  /// How much each expert of a layer counts, as shares: how often it is chosen, by the mean square
  /// of the weight that its output is then applied with. Each is taken to have been chosen once
  /// more, with the usual weight, so that one that the text does not reach still counts a little.
  ///
  ///   counts  [experts] how often a longer text chose each, or empty: these pieces' are taken,
  ///           in which a rare expert comes up a few times or never
  std::vector<double> ExpertUse(int64_t layer, std::span<const float> counts) const;

  int64_t tokens() const { return static_cast<int64_t>(base_logs_.size()); }

 private:
  explicit Prober(Model& model) : model_(model) {}

  Result<void> ReadText(std::string_view text);
  Result<void> Run(std::span<float> logits, const ForwardObservers& observers,
                   const ForwardStart& start);
  Result<void> RunBase();
  double DivergenceFromBase();
  void OnHidden(int64_t index, std::span<const float> hidden) override;
  void OnRouting(int64_t layer, std::span<const float> logits, std::span<const int32_t> ids,
                 std::span<const float> weights) override;

  Model& model_;
  std::vector<std::vector<int32_t>> pieces_;
  std::vector<std::vector<float>> hidden_;  ///< [layers] of [tokens, dim]: each layer's input
  struct Choices {
    double count = 0;
    double squares = 0;  ///< of the weights
  };
  std::vector<std::vector<Choices>> choices_;  ///< [layers, experts]
  std::vector<float> base_, logits_;           ///< [tokens, vocab]
  std::vector<double> base_logs_;              ///< [tokens] LogSumOfExponentials
};

}  // namespace moxie
