#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace moxie {

/// A way to have blocks of files read while the caller computes. Knows nothing of alignment,
/// retries or what a short read means: FileReader does. One caller at a time.
class ReadBackend {
 public:
  struct Block {
    int fd = -1;
    int32_t index = 0;  ///< the caller's name for it, returned with the result
    uint64_t offset = 0;
    std::byte* to = nullptr;
    int64_t bytes = 0;
  };
  struct Done {
    int32_t index = 0;
    int64_t result = 0;  ///< bytes read, or a negative errno
  };

  virtual ~ReadBackend() = default;

  virtual std::string_view name() const = 0;

  /// What blocks will be read from and to, where saying so beforehand makes reading cheaper. Each
  /// call takes the place of the one before. What the system refuses is done without.
  virtual void ExpectFiles(std::span<const int> fds) { static_cast<void>(fds); }
  /// Pieces of `piece_bytes` from `memory` on; no block reaches over the end of a piece.
  virtual void ExpectMemory(std::span<std::byte> memory, int64_t piece_bytes) {
    static_cast<void>(memory);
    static_cast<void>(piece_bytes);
  }

  /// Begins to read a block; `to` must stay until it is done. Returns 0, or a negative errno where
  /// this way of reading is refused: then the block was not taken, those before it still come.
  virtual int Start(const Block& block) = 0;

  /// Takes a block that is done, in any order. `wait`: waits for one; at least one must have been
  /// started. Returns 1, 0 where none is done, or a negative errno.
  virtual int Take(Done& done, bool wait) = 0;
};

/// Reads through io_uring (Axboe, "Efficient IO with io_uring"), at most `depth` blocks at once.
/// Null, with a negative errno in `*refusal`, where the system refuses it: old kernels lack it,
/// many containers forbid it.
std::unique_ptr<ReadBackend> MakeUringBackend(int depth, int* refusal);

/// Reads with pread in `threads` threads, at most `depth` blocks at once. Throws as Thread does.
std::unique_ptr<ReadBackend> MakeThreadBackend(int depth, int threads);

}  // namespace moxie
