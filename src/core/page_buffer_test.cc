#include "core/page_buffer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/process_memory.h"

namespace moxie {
namespace {

TEST(PageBuffer, PopulatingTakesMemoryAndKeepsWhatLiesThere) {
  constexpr int64_t kBytes = int64_t{32} << 20;
  auto buffer = PageBuffer::Create(kBytes, "test");
  ASSERT_TRUE(buffer) << buffer.error().message;
  const std::span<std::byte> bytes(buffer->data(), static_cast<size_t>(kBytes));
  bytes[5000] = std::byte{7};
  const int64_t before = ResidentBytes();
  buffer->Populate(0, kBytes / 2);
  // Before Linux 5.14 nothing happens; other memory comes and goes meanwhile.
  const int64_t taken = ResidentBytes() - before;
  if (taken > kPageBytes * 100) {
    EXPECT_GT(taken, kBytes / 2 - (4 << 20));
    EXPECT_LT(taken, kBytes / 2 + (4 << 20));
  }
  EXPECT_EQ(bytes[5000], std::byte{7});
  bytes[5000] = {};
  EXPECT_TRUE(std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{}; }));
}

}  // namespace
}  // namespace moxie
