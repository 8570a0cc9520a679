#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "moxie/result.h"

namespace moxie {

/// The unit in which memory is taken and files are read: a page, and no less than what O_DIRECT
/// asks of offsets and addresses.
inline constexpr int64_t kPageBytes = 4096;

constexpr int64_t RoundUpToPage(int64_t bytes) {
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}
constexpr int64_t RoundDownToPage(int64_t bytes) { return bytes / kPageBytes * kPageBytes; }

/// Zeroed pages straight from the system, in huge ones where they are large. They occupy memory
/// from the moment they are first written.
class PageBuffer {
 public:
  PageBuffer() = default;

  /// `bytes` is rounded up to pages. Errors: kOverBudget where the system refuses, naming
  /// `purpose`.
  static Result<PageBuffer> Create(int64_t bytes, std::string_view purpose);
  PageBuffer(PageBuffer&& other) noexcept;
  PageBuffer& operator=(PageBuffer&& other) noexcept;
  ~PageBuffer();

  /// Takes a part of it, in whole pages, from the system now instead of when it is first written.
  /// What lies there stays; safe while others write there. Only for speed: where the system cannot,
  /// nothing happens.
  void Populate(int64_t offset, int64_t bytes) const;

  std::byte* data() const { return bytes_.data(); }
  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }

 private:
  std::span<std::byte> bytes_;    ///< begins at a multiple of 2 MiB where it is as large
  std::span<std::byte> mapping_;  ///< what was taken, alignment included
};

}  // namespace moxie
