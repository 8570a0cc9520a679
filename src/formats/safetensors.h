#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tensor_files.h"
#include "moxie/result.h"

namespace moxie {

/// What stands before the tensor data of one safetensors file.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  ///< in order of offset, which counts from the file's start
  std::map<std::string, std::string, std::less<>> metadata;  ///< "__metadata__"
};

/// Reads the header of a safetensors file (github.com/huggingface/safetensors, "Format"): eight
/// bytes of length, JSON, data. As the reference does, it refuses tensors that overlap, leave gaps
/// or do not fill the file. U8 and BOOL become DType::kI8, whose bytes they share.
///
/// Errors: kInvalidInput; kUnsupported for a dtype that moxie cannot read.
Result<SafetensorsHeader> ParseSafetensors(std::span<const std::byte> bytes, std::string_view name);

/// Opens safetensors files as one set of tensors. Names must be unique over all of them.
Result<TensorFiles> OpenSafetensors(const std::vector<std::filesystem::path>& paths);

/// Opens the shards that an index (model.safetensors.index.json) names, which must be plain file
/// names, so that nothing outside of the index's folder is read; checks that each tensor of the
/// index is in the file that it names.
Result<TensorFiles> OpenSafetensorsIndex(const std::filesystem::path& index);

}  // namespace moxie
