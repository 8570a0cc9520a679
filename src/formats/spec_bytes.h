#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "formats/tensor_writer.h"
#include "moxie/result.h"

namespace moxie {

/// The bytes of each tensor that is to be written to `file`.
///
/// Errors: kInvalidInput where two have one name or a shape is bad.
Result<std::vector<uint64_t>> SpecBytes(std::string_view file, std::span<const TensorSpec> tensors);

}  // namespace moxie
