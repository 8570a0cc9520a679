#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "forward/decoder.h"
#include "moxie/generate.h"

namespace moxie {

/// Hidden states of one sequence, pooled as they are computed. Sums in double, in the order of
/// positions, so that the cut into passes changes nothing.
struct PooledStates {
  Pooling pooling = Pooling::kNone;
  int64_t tokens = 0;
  std::vector<double> sum;  ///< [dim]

  void Add(std::span<const float> row);
  std::vector<float> Vector() const;
};

/// Hands the final hidden states of a forward pass to those who pool them.
class HiddenPooler final : public HiddenObserver {
 public:
  HiddenPooler(int64_t layers, int64_t dim) : layers_(layers), dim_(dim) {}

  /// Says to whom the next `tokens` tokens of the coming pass belong; null: nobody.
  void AddTokens(PooledStates* owner, int64_t tokens);
  void Clear();
  bool wanted() const { return wanted_; }

  void OnHidden(int64_t index, std::span<const float> hidden) override;

 private:
  struct Segment {
    PooledStates* owner;
    int64_t tokens;
  };
  int64_t layers_, dim_;
  std::vector<Segment> segments_;
  bool wanted_ = false;
};

}  // namespace moxie
