#include <algorithm>
#include <vector>

#include "memory/expert_store.h"

namespace moxie {
namespace {

class ResidentExpertStore : public ExpertStore {
 public:
  explicit ResidentExpertStore(const ModelWeights& weights) : weights_(weights) {
    size_t most = 0;
    for (const LayerWeights& layer : weights.layers) most = std::max(most, layer.experts.size());
    ready_.reserve(most);
  }

  Result<void> Begin(int64_t layer, std::span<const int32_t> experts) override {
    const LayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
    ready_.clear();
    given_ = false;
    for (const int32_t expert : experts)
      ready_.push_back({expert, ViewOf(weights.experts[static_cast<size_t>(expert)])});
    return {};
  }

  Result<std::span<const Ready>> Next() override {
    if (given_) return std::span<const Ready>();
    given_ = true;
    return std::span<const Ready>(ready_);
  }

 private:
  const ModelWeights& weights_;
  std::vector<Ready> ready_;
  bool given_ = true;
};

}  // namespace

ExpertView ViewOf(const FeedForwardWeights& weights) {
  return {.gate = weights.gate.matrix,
          .up = weights.up.matrix,
          .down = weights.down.matrix,
          .gate_bias = weights.gate_bias,
          .up_bias = weights.up_bias,
          .down_bias = weights.down_bias};
}

std::unique_ptr<ExpertStore> MakeResidentExpertStore(const ModelWeights& weights) {
  return std::make_unique<ResidentExpertStore>(weights);
}

}  // namespace moxie
