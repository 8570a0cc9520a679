#include <liburing.h>

#include <cerrno>

#include "memory/read_backend.h"

namespace moxie {
namespace {

class UringBackend final : public ReadBackend {
 public:
  explicit UringBackend(const io_uring& ring) : ring_(ring) {}
  ~UringBackend() override { io_uring_queue_exit(&ring_); }

  std::string_view name() const override { return "io_uring"; }

  int Start(const Block& block) override {
    if (refused_) return -EBUSY;
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) return -EBUSY;
    io_uring_prep_read(entry, block.fd, block.to, static_cast<unsigned>(block.bytes), block.offset);
    io_uring_sqe_set_data64(entry, static_cast<uint64_t>(block.index));
    int submitted = 0;
    for (int tries = 0; tries < kTries; ++tries) {
      submitted = io_uring_submit(&ring_);
      if (submitted == 1) return 0;
      if (submitted != -EINTR && submitted != -EAGAIN) break;
    }
    // The entry stays in the ring: another submission would hand it in after all.
    refused_ = true;
    return submitted < 0 ? submitted : -EBUSY;
  }

  int Take(Done& done, bool wait) override {
    io_uring_cqe* entry = nullptr;
    int result = 0;
    do {
      result = wait ? io_uring_wait_cqe(&ring_, &entry) : io_uring_peek_cqe(&ring_, &entry);
    } while (result == -EINTR);
    if (result == -EAGAIN) return 0;
    if (result < 0) return result;
    done.index = static_cast<int32_t>(io_uring_cqe_get_data64(entry));
    done.result = entry->res;
    io_uring_cqe_seen(&ring_, entry);
    return 1;
  }

 private:
  static constexpr int kTries = 100;
  io_uring ring_;
  bool refused_ = false;
};

}  // namespace

std::unique_ptr<ReadBackend> MakeUringBackend(int depth, int* refusal) {
  io_uring ring{};
  *refusal = io_uring_queue_init(static_cast<unsigned>(depth), &ring, 0);
  if (*refusal < 0) return nullptr;
  return std::make_unique<UringBackend>(ring);
}

}  // namespace moxie
