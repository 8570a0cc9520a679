#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "formats/tensor_files.h"
#include "moxie/result.h"

namespace moxie {

/// A GGUF metadata value. Arrays hold one element type; nested arrays are refused by the reader.
using GgufValue =
    std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<bool>,
                 std::vector<int64_t>, std::vector<uint64_t>, std::vector<double>,
                 std::vector<std::string>>;

/// A GGUF's key-values with typed look-ups. A look-up returns nothing where the key is absent,
/// and an Error that names the key where its value has another type or is out of range.
class GgufMetadata {
 public:
  std::map<std::string, GgufValue, std::less<>> values;

  const GgufValue* Find(std::string_view key) const;
  Result<std::optional<int64_t>> Integer(std::string_view key) const;  ///< any integer type
  Result<std::optional<double>> Number(std::string_view key) const;    ///< any number type
  Result<std::optional<bool>> Boolean(std::string_view key) const;
  Result<std::optional<std::string>> Text(std::string_view key) const;
  Result<std::optional<std::vector<std::string>>> Texts(std::string_view key) const;
  Result<std::optional<std::vector<double>>> Numbers(std::string_view key) const;
  Result<std::optional<std::vector<int64_t>>> Integers(std::string_view key) const;
};

enum class FileLayout : uint8_t { kGguf, kHuggingFace, kConsolidated };

/// A model's files, opened and checked but not interpreted: what MODEL on the command line names.
struct ModelFiles {
  FileLayout layout = FileLayout::kGguf;
  std::filesystem::path path;  ///< the GGUF (first of a split set) or the folder
  TensorFiles tensors;
  GgufMetadata metadata;       ///< of a GGUF; empty for folders

  /// The text of a file beside the weights (config.json, tokenizer.json, ...), or nothing where
  /// the folder has none. Files over 256 MiB are an error. `name` is never taken from a file.
  Result<std::optional<std::string>> ReadCompanion(std::string_view name) const;
};

/// Opens a GGUF, a Hugging Face folder (config.json) or a consolidated folder (params.json).
/// Tensor data is mapped, not read.
///
/// Errors: kNotFound, kIo; kInvalidInput with one sentence that starts with the file's name.
Result<ModelFiles> OpenModelFiles(const std::filesystem::path& path);

}  // namespace moxie
