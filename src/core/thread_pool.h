#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "core/function_ref.h"

namespace moxie {

/// Workers that take numbered tasks from one counter. Tasks are taken, never assigned, so a
/// worker that the machine slows down holds nobody back for longer than one task.
/// Waiting threads spin for a few microseconds, then sleep.
///
/// One caller at a time: ParallelFor must not be called concurrently or from inside a task.
class ThreadPool {
 public:
  /// `threads` counts the caller: `threads - 1` workers are started. At least 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls `task(index, worker)` once for each index in [0, count), worker in [0, threads()),
  /// and returns when all are done. Results must not depend on which worker ran a task.
  void ParallelFor(int64_t count, FunctionRef<void(int64_t index, int worker)> task);

 private:
  void Work(int worker);
  void RunTasks(int worker);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::atomic<uint64_t> generation_{0};  // Each job adds 1.
  std::atomic<int> busy_{0};             // Workers that have not finished the present job.
  std::atomic<int64_t> next_{0};
  std::atomic<bool> stop_{false};
  int64_t count_ = 0;
  const FunctionRef<void(int64_t, int)>* task_ = nullptr;
};

/// The number of CPUs this process may use: affinity mask and cgroup CPU quota, at least 1.
int UsableCpus();

}  // namespace moxie
