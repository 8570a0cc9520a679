#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "moxie/result.h"

namespace moxie {

/// What tells one state of a file from another: a file that is replaced, truncated or written to
/// differs in one of these.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size = 0;         ///< bytes
  int64_t modified_ns = 0;  ///< since the epoch
  bool operator==(const FileIdentity&) const = default;
};

/// The identity of an open file. Errors: kIo, naming `path`.
Result<FileIdentity> IdentityOf(int fd, const std::filesystem::path& path);

/// A file mapped read-only for its lifetime. Empty files map to an empty span.
class MappedFile {
 public:
  /// Errors: kNotFound; kIo where it cannot be opened, mapped or is no regular file.
  static Result<MappedFile> Open(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  const FileIdentity& identity() const { return identity_; }  ///< when it was mapped

  /// Reads bytes of the file as it was when it was mapped. Unlike a look into the mapping, which
  /// ends the process where the file has been cut short meanwhile, this says so.
  ///
  /// Errors: kIo.
  Result<void> Read(uint64_t offset, std::span<std::byte> to) const;

  /// Bytes that lie in the page cache now, in whole pages. Where the file belongs to another user
  /// the system says that all do.
  int64_t CachedBytes() const;

  /// Gives the mapping's pages back; they are read again where they are touched.
  void ReleasePages() const;

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  int fd_ = -1;
  FileIdentity identity_;
  std::span<const std::byte> bytes_;
};

/// One tensor as a file names it. Every reader has checked that the bytes lie within the file
/// and that their number is that of the shape and type.
struct TensorInfo {
  std::string name;
  DType type = DType::kF32;
  std::vector<int64_t> shape;  ///< outermost first: [rows, cols], [experts, rows, cols]
  int file = 0;                ///< index into TensorFiles::files()
  uint64_t offset = 0;         ///< from the start of that file
  uint64_t bytes = 0;

  int64_t elements() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
};

/// The bytes that a tensor of that type and shape takes.
///
/// Errors: kInvalidInput, naming `file` and `tensor`, where a dimension is below 1, the product
/// overflows, or the innermost dimension is not whole blocks of the type.
Result<uint64_t> TensorBytes(std::string_view file, std::string_view tensor, DType type,
                             std::span<const int64_t> shape);

/// The named tensors of a GGUF (with its splits) or of a folder of safetensors, mapped.
/// Immutable after construction, so safe to share between threads.
class TensorFiles {
 public:
  TensorFiles() = default;

  /// `tensors` lie within `files` and have unique names.
  TensorFiles(std::vector<MappedFile> files, std::vector<TensorInfo> tensors);

  /// The same from several files' readers.
  ///
  /// Errors: kInvalidInput where two tensors have one name.
  static Result<TensorFiles> Create(std::vector<MappedFile> files, std::vector<TensorInfo> tensors);

  const std::vector<MappedFile>& files() const { return files_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  /// The tensor of that name, or null. Names are unique.
  const TensorInfo* Find(std::string_view name) const;

  /// Where a byte of a mapping lies: its file and the offset there; no file for bytes elsewhere.
  struct Place {
    int file = -1;
    uint64_t offset = 0;
  };
  Place Locate(const std::byte* mapped) const;

  /// The tensor's bytes in the mapping; valid while this object lives.
  std::span<const std::byte> Bytes(const TensorInfo& tensor) const {
    return files_[static_cast<size_t>(tensor.file)].bytes().subspan(tensor.offset, tensor.bytes);
  }

  /// A copy of the tensor's bytes, for which the mapping is not touched. Errors: kIo.
  Result<std::vector<std::byte>> Read(const TensorInfo& tensor) const;

  /// Lets go of the pages that were touched so far: they stop counting as this process's memory and
  /// come back when they are touched again. Safe to call while others read.
  void ReleasePages() const;

 private:
  std::vector<MappedFile> files_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
};

}  // namespace moxie
