#pragma once

namespace moxie::server {

/// Memory that is given back when the system refuses more (std::new_handler): what then ends, and
/// what says so, takes some, and so do destructors that must not fail. One at a time in a program.
class MemoryReserve {
 public:
  MemoryReserve();
  ~MemoryReserve();
  MemoryReserve(const MemoryReserve&) = delete;
  MemoryReserve& operator=(const MemoryReserve&) = delete;

  /// Takes it again, where it was given back and there is memory. From any thread.
  void Refill();
};

}  // namespace moxie::server
