#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include "moxie/result.h"

namespace moxie {

/// A file that appears under its name only when it is whole: it is written to a temporary file in
/// the same folder, which Commit synchronises with the disk and renames. Without Commit the
/// temporary file is removed and whatever had the name before stays.
///
/// A path that names something other than a regular file (/dev/null, a pipe) is written directly;
/// a symbolic link's target is replaced, not the link.
///
/// Errors of all calls: kIo (kNotFound where the folder does not exist), beginning with the path.
class AtomicFile {
 public:
  static Result<AtomicFile> Create(const std::filesystem::path& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();

  /// Appends bytes. Unbuffered: write few large pieces.
  Result<void> Write(std::span<const std::byte> bytes);
  Result<void> Write(std::string_view text) { return Write(std::as_bytes(std::span(text))); }

  /// Bytes written so far.
  uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

  /// Gives the file its name. Nothing can be written afterwards.
  Result<void> Commit();

 private:
  AtomicFile() = default;
  Error Failed(int code) const;
  void Abandon();

  std::filesystem::path path_;       ///< as given
  std::filesystem::path target_;     ///< symbolic links resolved
  std::filesystem::path temporary_;  ///< empty: written directly
  int fd_ = -1;
  uint64_t size_ = 0;
};

}  // namespace moxie
