#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
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

}  // namespace
}  // namespace moxie
