#include "server/memory_reserve.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace moxie::server {
namespace {

constexpr size_t kBytes = size_t{1} << 20;

std::atomic<void*> reserve{nullptr};  // A new handler is a function without an object.

/// Called by operator new, which tries again where this returns.
void GiveBack() {
  void* const held = reserve.exchange(nullptr);
  if (held == nullptr) throw std::bad_alloc();
  std::free(held);
}

}  // namespace

MemoryReserve::MemoryReserve() {
  Refill();
  std::set_new_handler(GiveBack);
}

MemoryReserve::~MemoryReserve() {
  std::set_new_handler(nullptr);
  std::free(reserve.exchange(nullptr));
}

void MemoryReserve::Refill() {
  if (reserve != nullptr) return;
  void* none = nullptr;
  void* const taken = std::malloc(kBytes);
  if (!reserve.compare_exchange_strong(none, taken)) std::free(taken);
}

}  // namespace moxie::server
