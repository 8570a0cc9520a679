#pragma once

#include <string_view>

#include "model/tensor_finder.h"
#include "model/weights.h"

namespace moxie {

/// Fills `layer.experts` from whichever way the files hold them: one tensor an expert and matrix,
/// one a layer and matrix, or gate and up in one. Views where the bytes can be used as they lie;
/// else `owned` receives what was rearranged. `prefix` is the layer's.
Result<void> LoadExperts(TensorFinder& finder, const ModelFiles& files, const ModelConfig& config,
                         std::string_view prefix, LayerWeights& layer,
                         std::vector<std::unique_ptr<std::byte[]>>& owned);

}  // namespace moxie
