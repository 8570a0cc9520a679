#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace moxie {
namespace {

TEST(ThreadPool, RunsEachTaskOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int64_t count : {0, 1, 2, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
      pool.ParallelFor(count, [&](int64_t i, int worker) {
        EXPECT_LT(worker, threads);
        runs[static_cast<size_t>(i)]++;
      });
      for (const auto& r : runs) EXPECT_EQ(r.load(), 1);
    }
  }
}

TEST(ThreadPool, ManySmallJobsFinish) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  for (int job = 0; job < 5000; ++job) pool.ParallelFor(4, [&](int64_t i, int) { sum += i; });
  EXPECT_EQ(sum.load(), 5000 * 6);
}

// More threads than processors: most workers find their job over when they wake.
TEST(ThreadPool, JobsDoNotWaitForWorkersThatNeverCame) {
  ThreadPool pool(24);
  std::vector<int> values(64);  // Written without atomics: a job's end orders it before the next.
  for (int job = 0; job < 2000; ++job) {
    pool.ParallelFor(64, [&](int64_t i, int) { values[static_cast<size_t>(i)]++; });
    ASSERT_EQ(values[static_cast<size_t>(job % 64)], job + 1);
  }
}

TEST(ThreadPool, SleepingWorkersWake) {
  ThreadPool pool(3);
  for (int job = 0; job < 20; ++job) {
    std::atomic<int> runs{0};
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    pool.ParallelFor(3, [&](int64_t, int) {
      runs++;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // The caller sleeps in waiting.
    });
    EXPECT_EQ(runs.load(), 3);
  }
}

}  // namespace
}  // namespace moxie
