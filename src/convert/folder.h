#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "convert/tensor_plan.h"
#include "formats/model_files.h"
#include "model/config.h"
#include "moxie/result.h"
#include "moxie/tokenizer.h"

namespace moxie {

/// A folder that appears under its name only when it is whole: it is filled under a temporary name
/// beside it, which Finish changes. Without Finish the temporary folder is removed.
class FolderWriter {
 public:
  /// Errors: kInvalidInput where `path` is there already and no empty folder; kIo.
  static Result<FolderWriter> Create(const std::filesystem::path& path);
  FolderWriter(FolderWriter&& other) noexcept;
  FolderWriter& operator=(FolderWriter&&) = delete;
  ~FolderWriter();

  /// Where its files are to be written.
  const std::filesystem::path& path() const { return temporary_; }
  Result<void> WriteFile(std::string_view name, std::string_view text);

  /// model.safetensors.index.json: which file has which tensor.
  void AddToIndex(const std::string& tensor, const std::string& file, int64_t bytes);
  Result<void> WriteIndex();

  Result<void> Finish();

 private:
  FolderWriter() = default;

  std::filesystem::path target_;
  std::filesystem::path temporary_;  ///< empty: nothing to be removed
  std::map<std::string, std::string> index_;
  int64_t index_bytes_ = 0;
};

/// Writes config.json as transformers names its settings.
///
/// Errors: kUnsupported for what the family's config.json cannot say.
Result<void> WriteFolderConfig(const ModelFiles& gguf, const ModelConfig& config,
                               const std::vector<PlannedTensor>& tensors, FolderWriter& folder);

/// Writes the tokenizer's files and generation_config.json from a GGUF's arrays, and reads them
/// back to compare. Nothing where the GGUF has no tokenizer.
Result<void> WriteFolderTokenizer(const ModelFiles& gguf, FolderWriter& folder);

/// Whether two tokenizers give the same tokens for a probing text and all their own pieces.
/// `name` begins the message.
///
/// Errors: kUnsupported, naming the first difference.
Result<void> CheckSameTokens(std::string_view name, const Tokenizer& wanted, const Tokenizer& made);

}  // namespace moxie
