#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/atomic_file.h"
#include "core/dtype.h"
#include "formats/gguf.h"
#include "moxie/result.h"

namespace moxie {

/// A tensor that is to be written.
struct TensorSpec {
  std::string name;
  DType type = DType::kF32;
  std::vector<int64_t> shape;  ///< outermost first
  bool is_unsigned = false;    ///< of DType::kI8 in safetensors: U8 is written
};

/// Which file of a split set a GGUF is.
struct SplitPlace {
  uint16_t number = 0;  ///< from 0
  uint16_t count = 1;
  int32_t tensors = 0;  ///< of all files
};

/// Bytes of the GGUF that CreateGguf begins, when all its tensors are written.
///
/// Errors: as CreateGguf's, but for those of AtomicFile.
Result<uint64_t> GgufFileBytes(const GgufMetadata& metadata, std::span<const TensorSpec> tensors);

/// Writes a file of tensors whose names, types and shapes are known before their data: bytes
/// stream through, tensor after tensor in the order of the specs, in pieces of any size. The file
/// appears under its name only when Finish succeeds; an interrupted one leaves nothing.
class TensorWriter {
 public:
  /// A GGUF of version 3. The metadata keep the types of their values, and general.alignment
  /// holds; keys split.* are left out, and those of `split` written where it is one of several.
  ///
  /// Errors: kInvalidInput for a bad shape, alignment or a name twice; those of AtomicFile.
  static Result<TensorWriter> CreateGguf(const std::filesystem::path& path,
                                         const GgufMetadata& metadata,
                                         std::span<const TensorSpec> tensors,
                                         const SplitPlace& split = {});

  /// A safetensors file of float and integer types (DType::kI8 is written as I8 or U8).
  ///
  /// Errors: as above; kUnsupported for a block-quantised type.
  static Result<TensorWriter> CreateSafetensors(
      const std::filesystem::path& path,
      const std::map<std::string, std::string, std::less<>>& metadata,
      std::span<const TensorSpec> tensors);

  /// Appends bytes of the current tensor, and no more than are left of it.
  Result<void> Write(std::span<const std::byte> bytes);

  /// Gives the file its name. All tensors must have been written.
  Result<void> Finish();

  /// Bytes of the file so far.
  uint64_t size() const { return file_.size(); }

 private:
  TensorWriter(AtomicFile file, std::vector<uint64_t> bytes, uint64_t alignment)
      : file_(std::move(file)), bytes_(std::move(bytes)), alignment_(alignment) {}

  AtomicFile file_;
  std::vector<uint64_t> bytes_;  ///< of each tensor
  uint64_t alignment_;           ///< of each tensor's begin and of the file's end
  size_t current_ = 0;
  uint64_t written_ = 0;  ///< of the current tensor
};

}  // namespace moxie
