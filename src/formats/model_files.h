#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "formats/gguf.h"
#include "formats/tensor_files.h"
#include "moxie/result.h"

namespace moxie {

enum class FileLayout : uint8_t { kGguf, kHuggingFace, kConsolidated };

/// A model's files, opened and checked but not interpreted: what MODEL on the command line names.
struct ModelFiles {
  FileLayout layout = FileLayout::kGguf;
  std::filesystem::path path;  ///< the GGUF (first of a split set) or the folder
  TensorFiles tensors;
  GgufMetadata metadata;  ///< of a GGUF; empty for folders

  /// The text of a file beside the weights (config.json, tokenizer.json, ...), or nothing where
  /// the folder has none (a GGUF has no companions). Files over 128 MiB are an error. `name` is
  /// a plain file name and never taken from a file.
  Result<std::optional<std::string>> ReadCompanion(std::string_view name) const;
};

/// Opens a GGUF, a Hugging Face folder (config.json) or a consolidated folder (params.json).
/// Tensor data is mapped, not read.
///
/// Errors: kNotFound, kIo; kInvalidInput with one sentence that starts with the file's name.
Result<ModelFiles> OpenModelFiles(const std::filesystem::path& path);

}  // namespace moxie
