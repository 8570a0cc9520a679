#pragma once

#include <vector>

#include "convert/tensor_plan.h"
#include "formats/gguf.h"
#include "formats/model_files.h"
#include "moxie/result.h"

namespace moxie {

/// A model as a GGUF would hold it, in the types that it has.
struct QuantizeSource {
  std::vector<PlannedTensor> tensors;
  GgufMetadata metadata;
};

/// A GGUF's own tensors and keys, or those that a folder's would have. `files` must outlive the
/// result.
///
/// Errors: as PlanTensors', ModelMetadata's and AddTokenizerMetadata's.
Result<QuantizeSource> ReadQuantizeSource(const ModelFiles& files);

/// Gives every expert tensors of its own (blk.0.ffn_up.3.weight), the older of GGUF's two forms, so
/// that each may have its own type. Models whose experts have biases stay as they are: that form
/// does not have them.
void SeparateExperts(std::vector<PlannedTensor>& tensors);

}  // namespace moxie
