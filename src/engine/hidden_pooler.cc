#include "engine/hidden_pooler.h"

namespace moxie {

void PooledStates::Add(std::span<const float> row) {
  if (pooling == Pooling::kLast || sum.empty()) {
    sum.assign(row.begin(), row.end());
    tokens = 1;
    return;
  }
  for (size_t i = 0; i < row.size(); ++i) sum[i] += row[i];
  ++tokens;
}

std::vector<float> PooledStates::Vector() const {
  std::vector<float> mean;
  mean.reserve(sum.size());
  for (const double value : sum)
    mean.push_back(static_cast<float>(value / static_cast<double>(tokens)));
  return mean;
}

void HiddenPooler::AddTokens(PooledStates* owner, int64_t tokens) {
  segments_.push_back({owner, tokens});
  wanted_ = wanted_ || owner != nullptr;
}

void HiddenPooler::Clear() {
  segments_.clear();
  wanted_ = false;
}

void HiddenPooler::OnHidden(int64_t index, std::span<const float> hidden) {
  if (index != layers_) return;
  const auto dim = static_cast<size_t>(dim_);
  size_t at = 0;
  for (const Segment& segment : segments_) {
    for (int64_t i = 0; i < segment.tokens; ++i, at += dim) {
      if (segment.owner != nullptr) segment.owner->Add(hidden.subspan(at, dim));
    }
  }
}

}  // namespace moxie
