#pragma once

#include <string_view>

#include "model/names.h"
#include "model/tensor_finder.h"
#include "model/weights.h"

namespace moxie {

/// Loads a layer of latent attention (DeepSeek-V2, arXiv:2405.04434). kv_b comes as one matrix, or
/// in newer GGUFs as k_b, transposed for each head, and v_b; these are joined into `owned`.
Result<void> LoadLatentAttention(TensorFinder& finder, const TensorNames& names,
                                 const ModelConfig& config, std::string_view prefix,
                                 AttentionWeights& out,
                                 std::vector<std::unique_ptr<std::byte[]>>& owned);

}  // namespace moxie
