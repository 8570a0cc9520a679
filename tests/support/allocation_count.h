#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

// Counts the allocations of a test program, and lets one of them fail. Replaces the global
// operators, so exactly one source file of a program may include it.

namespace moxie::testing {

inline std::atomic<int64_t> allocation_count{0};

/// Allocations of the process so far, in all threads.
inline int64_t AllocationCount() { return allocation_count.load(); }

/// Allocations of 64 KiB or more: those that a system may refuse. Smaller ones come from what the
/// allocator has, and some libraries cannot do without (nlohmann::json's destructor allocates).
inline std::atomic<int64_t> large_allocation_count{0};
/// The large allocation that is to fail, by its number; none below 0.
inline std::atomic<int64_t> failing_allocation{-1};

/// Whether this allocation may succeed.
inline bool CountAllocation(std::size_t size) {
  allocation_count.fetch_add(1, std::memory_order_relaxed);
  return size < (64 << 10) || large_allocation_count.fetch_add(1, std::memory_order_relaxed) !=
                                  failing_allocation.load(std::memory_order_relaxed);
}

}  // namespace moxie::testing

[[gnu::noinline]] void* operator new(std::size_t size) {
  void* const memory =
      moxie::testing::CountAllocation(size) ? std::malloc(size == 0 ? 1 : size) : nullptr;
  if (memory != nullptr) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return moxie::testing::CountAllocation(size) ? std::malloc(size == 0 ? 1 : size) : nullptr;
}
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
