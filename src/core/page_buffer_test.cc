#include "core/page_buffer.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>

#include "core/process_memory.h"

namespace moxie {
namespace {

/// Linux 5.14 can, and only where headers know of it does the buffer ask.
bool CanPopulate() {
#ifdef MADV_POPULATE_WRITE
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return false;
  const bool can = madvise(page, 4096, MADV_POPULATE_WRITE) == 0;
  munmap(page, 4096);
  return can;
#else
  return false;
#endif
}

TEST(PageBuffer, PopulatingTakesMemoryAndKeepsWhatLiesThere) {
  constexpr int64_t kBytes = int64_t{32} << 20;
  auto buffer = PageBuffer::Create(kBytes, "test");
  ASSERT_TRUE(buffer) << buffer.error().message;
  const std::span<std::byte> bytes(buffer->data(), static_cast<size_t>(kBytes));
  bytes[5000] = std::byte{7};
  const int64_t before = ResidentBytes();
  buffer->Populate(0, kBytes / 2);
  const int64_t taken = ResidentBytes() - before;
  if (CanPopulate()) {  // Other memory comes and goes meanwhile.
    EXPECT_GT(taken, kBytes / 2 - (4 << 20));
    EXPECT_LT(taken, kBytes / 2 + (4 << 20));
  }
  EXPECT_EQ(bytes[5000], std::byte{7});
  bytes[5000] = {};
  EXPECT_TRUE(std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{}; }));
}

}  // namespace
}  // namespace moxie
