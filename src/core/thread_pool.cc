#include "core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/cgroup.h"

namespace moxie {
namespace {

constexpr int kSpins = 1000;  // Of 40 to 140 cycles each: a decode step starts tasks that often.

// state_: a job is open from when the caller has published it until the caller finds no task left.
// A worker enters an open job by adding 1 and leaves by subtracting it; task_ and shares_ may
// change only while the job is closed and nobody is in it.
constexpr uint32_t kOpen = 0x8000;
constexpr uint32_t kInside = 0x7fff;
constexpr int kJobShift = 16;

uint32_t JobOf(uint32_t state) { return state >> kJobShift; }

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) : shares_(static_cast<size_t>(threads)) {
  workers_.reserve(shares_.size());
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
  } catch (...) {
    Stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { Stop(); }

void ThreadPool::Stop() {
  stop_.store(true);
  state_.fetch_add(1u << kJobShift);
  state_.notify_all();
  workers_.clear();  // Joins them.
}

/// Spins, then sleeps, until `done(state)`; returns that state.
template <class Done>
uint32_t ThreadPool::WaitUntil(Done done) {
  uint32_t state = state_.load(std::memory_order_acquire);
  for (int spin = 0; spin < kSpins && !done(state); ++spin) {
    Pause();
    state = state_.load(std::memory_order_acquire);
  }
  while (!done(state)) {
    state_.wait(state, std::memory_order_acquire);
    state = state_.load(std::memory_order_acquire);
  }
  return state;
}

void ThreadPool::RunTasks(int worker) noexcept {
  const auto shares = static_cast<int64_t>(shares_.size());
  for (int64_t i = 0; i < shares; ++i) {
    Share& share = shares_[static_cast<size_t>((worker + i) % shares)];
    // Looking first spares the others' counters where nothing is left.
    while (share.next.load(std::memory_order_relaxed) < share.end) {
      const int64_t index = share.next.fetch_add(1, std::memory_order_relaxed);
      if (index >= share.end) break;
      (*task_)(index, worker);
    }
  }
}

void ThreadPool::Work(int worker) {
  uint32_t seen = 0;
  for (;;) {
    uint32_t state = WaitUntil([&](uint32_t s) { return JobOf(s) != seen; });
    if (stop_.load()) return;
    seen = JobOf(state);
    bool inside = false;
    while (!inside && (state & kOpen) != 0 && JobOf(state) == seen) {
      inside = state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel);
    }
    if (!inside) continue;
    RunTasks(worker);
    const uint32_t before = state_.fetch_sub(1, std::memory_order_acq_rel);
    if ((before & kOpen) == 0 && (before & kInside) == 1) state_.notify_all();
  }
}

void ThreadPool::ParallelFor(int64_t count, FunctionRef<void(int64_t index, int worker)> task) {
  if (workers_.empty() || count <= 1) {
    for (int64_t i = 0; i < count; ++i) task(i, 0);
    return;
  }
  task_ = &task;
  const auto shares = static_cast<int64_t>(shares_.size());
  for (int64_t i = 0; i < shares; ++i) {
    Share& share = shares_[static_cast<size_t>(i)];
    share.next.store(count * i / shares, std::memory_order_relaxed);
    share.end = count * (i + 1) / shares;
  }
  // Closed and empty: nobody else writes the state.
  const uint32_t job = JobOf(state_.load(std::memory_order_relaxed)) + 1;
  state_.store(job << kJobShift | kOpen, std::memory_order_release);
  state_.notify_all();
  RunTasks(0);
  state_.fetch_and(~kOpen, std::memory_order_acq_rel);
  WaitUntil([](uint32_t s) { return (s & kInside) == 0; });
}

int UsableCpus() {
  int cpus = 1;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cpus = std::max(1, CPU_COUNT(&set));
  if (const std::optional<double> limit = CgroupCpuLimit())
    cpus = std::min(cpus, std::max(1, static_cast<int>(std::ceil(*limit))));
  return cpus;
}

}  // namespace moxie
