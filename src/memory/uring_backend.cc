#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "memory/read_backend.h"

namespace moxie {
namespace {

class UringBackend final : public ReadBackend {
 public:
  explicit UringBackend(const io_uring& ring) : ring_(ring) {}
  ~UringBackend() override { io_uring_queue_exit(&ring_); }

  std::string_view name() const override { return "io_uring"; }

  void ExpectFiles(std::span<const int> fds) override {
    if (!files_.empty()) io_uring_unregister_files(&ring_);
    files_.assign(fds.begin(), fds.end());
    if (io_uring_register_files(&ring_, fds.data(), static_cast<unsigned>(fds.size())) < 0)
      files_.clear();
  }

  void ExpectMemory(std::span<std::byte> memory, int64_t piece_bytes) override {
    std::vector<iovec> pieces;
    const auto piece = static_cast<size_t>(piece_bytes);
    for (size_t at = 0; at < memory.size(); at += piece)
      pieces.push_back({memory.data() + at, std::min(piece, memory.size() - at)});
    if (io_uring_register_buffers(&ring_, pieces.data(), static_cast<unsigned>(pieces.size())) < 0)
      return;  // RLIMIT_MEMLOCK, mostly.
    memory_ = memory;
    piece_bytes_ = piece_bytes;
  }

  int Start(const Block& block) override {
    if (refused_) return -EBUSY;
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) return -EBUSY;
    const auto file = std::ranges::find(files_, block.fd);
    const bool fixed_file = file != files_.end();
    const int fd = fixed_file ? static_cast<int>(file - files_.begin()) : block.fd;
    const auto bytes = static_cast<unsigned>(block.bytes);
    const bool fixed_memory = !memory_.empty() && block.to >= memory_.data() &&
                              block.to + block.bytes <= memory_.data() + std::ssize(memory_);
    if (fixed_memory) {
      const auto piece = static_cast<int>((block.to - memory_.data()) / piece_bytes_);
      io_uring_prep_read_fixed(entry, fd, block.to, bytes, block.offset, piece);
    } else {
      io_uring_prep_read(entry, fd, block.to, bytes, block.offset);
    }
    if (fixed_file) entry->flags |= IOSQE_FIXED_FILE;
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
  std::vector<int> files_;       ///< registered, by their place
  std::span<std::byte> memory_;  ///< registered in pieces
  int64_t piece_bytes_ = 0;
};

}  // namespace

std::unique_ptr<ReadBackend> MakeUringBackend(int depth, int* refusal) {
  io_uring ring{};
  *refusal = io_uring_queue_init(static_cast<unsigned>(depth), &ring, 0);
  if (*refusal < 0) return nullptr;
  return std::make_unique<UringBackend>(ring);
}

}  // namespace moxie
