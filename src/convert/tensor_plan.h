#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "convert/tensor_view.h"
#include "formats/model_files.h"
#include "formats/tensor_writer.h"
#include "model/config.h"
#include "moxie/result.h"

namespace moxie {

/// One tensor of a converted model: what it is called, and where its rows come from.
struct PlannedTensor {
  enum class Form : uint8_t {
    kRows,         ///< of the spec's type
    kMxfp4Blocks,  ///< the blocks of MXFP4 rows as gpt-oss's folders hold them
    kMxfp4Scales,  ///< and their scales
  };

  TensorSpec spec;
  Form form = Form::kRows;
  std::vector<TensorView> parts;  ///< rows after one another, all of one width
  std::vector<float> values;      ///< where there are no parts: computed here, one row
  /// [matrices, columns]: what Quantize weighs errors with; or empty. Several parts hold as many
  /// matrices each.
  std::vector<float> importance = {};

  int64_t columns() const {
    return parts.empty() ? static_cast<int64_t>(values.size()) : parts.front().column_count();
  }

  /// The matrices of a tensor of three dimensions, one after another; of another its parts.
  std::vector<TensorView> Matrices() const;
};

/// Lays out the tensors of opened files under the names, in the shapes and in the order that
/// another layout has: GGUF's as llama.cpp writes them (rows of Q and K in rotary pairs for the
/// llama architecture, experts stacked, kv_b split and transposed, norms, routers and biases in
/// float32), or Hugging Face's.
///
/// `type` is wanted for everything else; nothing: each tensor's own, and for a folder bfloat16
/// where a GGUF's tensor is quantised. A row that is not whole blocks of the type is kept as
/// float16. In a folder what GGUF holds in float32 takes the folder's type where that loses
/// nothing.
///
/// Errors: kInvalidInput for a tensor that is missing, misshapen or of no use to the model;
/// kUnsupported for what the layout cannot say. `files` must outlive the result.
Result<std::vector<PlannedTensor>> PlanTensors(const ModelFiles& files, const ModelConfig& config,
                                               FileLayout to, std::optional<DType> type);

/// The type of most of the bytes, which names the file's.
DType MainType(const std::vector<PlannedTensor>& tensors);

}  // namespace moxie
