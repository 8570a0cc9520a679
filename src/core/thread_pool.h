#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "core/function_ref.h"
#include "core/thread.h"

namespace moxie {

/// Workers that take numbered tasks. Each begins with a share of neighbouring numbers, so that what
/// it reads ahead is its own next task, and goes on with what is left of the others' shares. Tasks
/// are taken, never assigned, and a job waits only for workers that have entered it: one that the
/// machine keeps from running holds nobody back, one that it interrupts holds a job back by one
/// task. Waiting threads spin for some tens of microseconds, then sleep.
///
/// One caller at a time: ParallelFor must not be called concurrently or from inside a task.
class ThreadPool {
 public:
  /// `threads` counts the caller: `threads - 1` workers are started. At least 1. Throws as Thread
  /// does.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls `task(index, worker)` once for each index in [0, count), worker in [0, threads()),
  /// and returns when all are done. Results must not depend on which worker ran a task. A task
  /// must not throw: the others could not be called back (std::terminate).
  void ParallelFor(int64_t count, FunctionRef<void(int64_t index, int worker)> task);

 private:
  void Work(int worker);
  void Stop();
  void RunTasks(int worker) noexcept;
  template <class Done>
  uint32_t WaitUntil(Done done);

  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  std::vector<Share> shares_;  // One a thread.
  std::vector<Thread> workers_;
  // The present job: its number in the high 16 bits (a worker that sleeps through 65,536 jobs only
  // misses one), whether workers may still enter it, and how many are in it. See thread_pool.cc.
  std::atomic<uint32_t> state_{0};
  std::atomic<bool> stop_{false};
  const FunctionRef<void(int64_t, int)>* task_ = nullptr;
};

/// The number of CPUs this process may use: affinity mask and the CPU quotas of its control
/// groups, at least 1.
int UsableCpus();

}  // namespace moxie
