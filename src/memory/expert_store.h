#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/matrix.h"
#include "model/weights.h"
#include "moxie/model.h"
#include "moxie/result.h"

namespace moxie {

/// One expert's matrices, ready to multiply with. Valid until the call that ends its turn.
struct ExpertView {
  WeightMatrix gate, up, down;
  std::span<const float> gate_bias, up_bias, down_bias;
};

/// The only thing that knows whether an expert is in memory or on disk.
///
/// A layer's work is: Begin(layer, experts) with the distinct experts that the batch chose, then
/// Next() until it gives none: first all that are present, to be computed together, then missing
/// ones as they arrive, so that computing and reading overlap. What is multiplied last of an expert
/// may still be on its way when it is given: Complete() waits for that. One Begin at a time.
class ExpertStore {
 public:
  virtual ~ExpertStore() = default;

  /// `experts`: distinct ids, each with at least one token.
  virtual Result<void> Begin(int64_t layer, std::span<const int32_t> experts) = 0;

  struct Ready {
    int32_t expert = -1;
    ExpertView view;  ///< valid until the next call of Next or Begin
  };

  /// The experts whose gate and up are there, at least one; none: all of Begin's have been given.
  /// Waits where nothing is ready yet. Valid until the next call of Next or Begin. After an error
  /// only Begin goes on.
  virtual Result<std::span<const Ready>> Next() = 0;

  /// Keeps the disk busy; to be called between parts of a long computation. What Next gave stays.
  virtual void GoOnReading() {}

  /// What was asked for so far. Nothing misses where all lies in memory.
  virtual ExpertTraffic traffic() const { return {}; }

  /// Waits until the down of what Next gave last is there, too. To be called before it is read.
  virtual Result<void> Complete() { return {}; }
};

/// The view of weights that lie in memory. Valid as long as they are.
ExpertView ViewOf(const FeedForwardWeights& weights);

/// A store whose experts all lie in memory or in a mapping. `weights` must outlive it.
std::unique_ptr<ExpertStore> MakeResidentExpertStore(const ModelWeights& weights);

}  // namespace moxie
