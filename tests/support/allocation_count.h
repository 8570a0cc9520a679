#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

// Counts the allocations of a test program. Replaces the global operators, so exactly one source
// file of a program may include it.

namespace moxie::testing {

inline std::atomic<int64_t> allocation_count{0};

/// Allocations of the process so far, in all threads.
inline int64_t AllocationCount() { return allocation_count.load(); }

}  // namespace moxie::testing

[[gnu::noinline]] void* operator new(std::size_t size) {
  moxie::testing::allocation_count.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  moxie::testing::allocation_count.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(size == 0 ? 1 : size);
}
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
