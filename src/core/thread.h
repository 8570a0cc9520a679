#pragma once

#include <pthread.h>

#include <cstdint>
#include <functional>
#include <memory>

namespace moxie {

/// A thread with a stack of known size, joined when it goes out of scope. Std::thread takes what
/// the system's limits say (8 MiB and more), which no plan can count.
///
/// Throws std::system_error where the system has no thread to give, as std::thread does.
class Thread {
 public:
  /// Kernels and attention keep some kilobytes on the stack, and nothing recurses.
  static constexpr int64_t kStackBytes = 256 << 10;
  /// What the pool's workers touch of it, with their thread-local data and what the system keeps
  /// for each (a stack of 16 KiB in the kernel): measured, rounded up.
  static constexpr int64_t kOccupiedBytes = 48 << 10;

  explicit Thread(std::function<void()> work);
  Thread(Thread&& other) noexcept : thread_(other.thread_), work_(std::move(other.work_)) {}
  Thread& operator=(Thread&&) = delete;
  ~Thread();

 private:
  pthread_t thread_{};
  std::unique_ptr<std::function<void()>> work_;  ///< null: moved from
};

}  // namespace moxie
