#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "core/ring.h"
#include "core/thread.h"
#include "memory/read_backend.h"

namespace moxie {
namespace {

class ThreadBackend final : public ReadBackend {
 public:
  ThreadBackend(int depth, int threads)
      : depth_(depth), waiting_(static_cast<size_t>(depth)), done_(static_cast<size_t>(depth)) {
    threads_.reserve(static_cast<size_t>(threads));
    try {
      for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
    } catch (...) {
      Stop();
      throw;
    }
  }

  ~ThreadBackend() override { Stop(); }

  std::string_view name() const override { return "pread"; }

  int Start(const Block& block) override {
    {
      const std::lock_guard lock(mutex_);
      if (started_ == depth_) return -EBUSY;
      ++started_;
      waiting_.Push(block);
    }
    work_.notify_one();
    return 0;
  }

  int Take(Done& done, bool wait) override {
    std::unique_lock lock(mutex_);
    if (wait) finished_.wait(lock, [this] { return !done_.empty(); });
    if (done_.empty()) return 0;
    done = done_.Pop();
    --started_;
    return 1;
  }

 private:
  void Stop() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    work_.notify_all();
    threads_.clear();  // Joins them.
  }

  void Work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
      if (stop_) return;
      const Block block = waiting_.Pop();
      lock.unlock();
      const ssize_t got = pread(block.fd, block.to, static_cast<size_t>(block.bytes),
                                static_cast<off_t>(block.offset));
      const int64_t result = got < 0 ? -errno : got;
      lock.lock();
      done_.Push({block.index, result});
      finished_.notify_one();
    }
  }

  const int depth_;
  int started_ = 0;  ///< and not taken
  std::mutex mutex_;
  std::condition_variable work_, finished_;
  Ring<Block> waiting_;
  Ring<Done> done_;
  bool stop_ = false;
  std::vector<Thread> threads_;
};

}  // namespace

std::unique_ptr<ReadBackend> MakeThreadBackend(int depth, int threads) {
  return std::make_unique<ThreadBackend>(depth, threads);
}

}  // namespace moxie
