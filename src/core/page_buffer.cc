#include "core/page_buffer.h"

#include <sys/mman.h>

#include <string>
#include <utility>

namespace moxie {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

Result<PageBuffer> PageBuffer::Create(int64_t bytes, std::string_view purpose) {
  PageBuffer buffer;
  if (bytes <= 0) return buffer;
  const auto size = static_cast<size_t>(RoundUpToPage(bytes));
  const bool huge = size >= kHugePage;
  const size_t taken = huge ? size + kHugePage : size;
  void* const address =
      mmap(nullptr, taken, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED)
    return Error{ErrorCode::kOverBudget, std::string(purpose) + ": " + std::to_string(size) +
                                             " bytes are needed, but the system has not that much "
                                             "memory"};
  auto* begin = static_cast<std::byte*>(address);
  buffer.mapping_ = {begin, taken};
  if (huge) {
    const size_t beyond = reinterpret_cast<uintptr_t>(begin) % kHugePage;
    begin += beyond == 0 ? 0 : kHugePage - beyond;
    // The last part of a huge page stays in small ones, so that no more than `size` is occupied.
    madvise(begin, size / kHugePage * kHugePage, MADV_HUGEPAGE);
  }
  buffer.bytes_ = {begin, size};
  return buffer;
}

void PageBuffer::Populate(int64_t offset, int64_t bytes) const {
#ifdef MADV_POPULATE_WRITE
  madvise(data() + offset, static_cast<size_t>(bytes), MADV_POPULATE_WRITE);
#else
  (void)offset, (void)bytes;
#endif
}

PageBuffer::PageBuffer(PageBuffer&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})), mapping_(std::exchange(other.mapping_, {})) {}

PageBuffer& PageBuffer::operator=(PageBuffer&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(mapping_, other.mapping_);
  return *this;
}

PageBuffer::~PageBuffer() {
  if (!mapping_.empty()) munmap(mapping_.data(), mapping_.size());
}

}  // namespace moxie
