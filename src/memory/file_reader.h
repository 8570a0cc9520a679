#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/page_buffer.h"
#include "core/ring.h"
#include "formats/tensor_files.h"
#include "memory/read_backend.h"
#include "moxie/result.h"

namespace moxie {

/// Reads ranges of a model's files into memory while the caller computes: past the page cache
/// (O_DIRECT) through io_uring where the system allows, else with the next best way.
///
/// What arrives is complete and of the file as it was when it was mapped, or an error: short reads
/// are continued, interrupted ones repeated, and a file that was truncated, replaced or written to
/// is noticed. One caller at a time; allocates nothing after creation.
class FileReader {
 public:
  struct Options {
    bool direct = true;  ///< past the page cache where the file system can
    /// Where reads must go through the page cache: give back what they left there.
    bool drop_behind = true;
    int depth = 64;                          ///< blocks read at once
    int64_t block_bytes = int64_t{1} << 20;  ///< whole pages
    int max_reads = 256;                     ///< reads queued and not yet taken
    int threads = 8;                         ///< where io_uring is refused
    bool io_uring = true;
    /// Tests put a backend of their own in front of the one that was chosen.
    std::function<std::unique_ptr<ReadBackend>(std::unique_ptr<ReadBackend>)> wrap;
  };

  /// A range of whole pages of a file. It may end beyond the file, as long as `needed` does not.
  struct Read {
    int file = 0;
    uint64_t offset = 0;      ///< a multiple of kPageBytes
    int64_t bytes = 0;        ///< a multiple of kPageBytes
    std::byte* to = nullptr;  ///< at a multiple of kPageBytes
    int32_t tag = 0;          ///< the caller's name for it
  };
  struct Done {
    int32_t tag = 0;
    std::optional<Error> error;
  };

  /// Errors: kIo, kNotFound where a file cannot be opened again; kInvalidInput where one has
  /// changed since it was mapped.
  static Result<std::unique_ptr<FileReader>> Create(std::span<const MappedFile> files,
                                                    const Options& options);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  /// Queues a read; at most max_reads may be queued and not taken.
  void Queue(const Read& read);

  /// Says that reads will go to this memory, each within one of its pieces, where the way of
  /// reading has a use for that (io_uring's registered buffers). The memory must outlive the
  /// reader's reads.
  void ExpectMemory(std::span<std::byte> memory, int64_t piece_bytes);
  /// What the system then keeps for so much memory.
  static int64_t ExpectedMemoryBytes(int64_t bytes) { return bytes / kPageBytes * 16; }

  /// Reads that were queued and not taken.
  int pending() const { return pending_; }

  /// A read that is done, whole or with its error; nothing where none is done yet and `wait` is
  /// false, or none is pending.
  std::optional<Done> Take(bool wait);

  /// Hands out blocks in the place of those that are done, without taking a read.
  void GoOn();

  /// Waits for what is on its way into memory that its owner is about to give back. Afterwards
  /// nothing may be done but to destroy the reader, which does the same.
  void Abandon();

  /// How it reads, and why not better: "io_uring, O_DIRECT", "pread (io_uring: Operation not
  /// permitted), page cache", ...
  std::string Method() const;

  /// Bytes that arrived so far.
  int64_t bytes_read() const { return bytes_read_; }

  /// What a reader keeps in memory beyond what it reads into: rings and the stacks of threads.
  static int64_t OwnBytes(const Options& options);

 private:
  struct File {
    const MappedFile* mapped = nullptr;
    int fd = -1;
    bool direct = false;
  };
  struct Pending {
    Read read;
    int64_t issued = 0;  ///< bytes handed out in blocks
    int blocks = 0;      ///< handed out and not done
    std::optional<Error> error;
  };
  /// A block on its way.
  struct Flight {
    int32_t pending = -1;
    ReadBackend::Block block;
    int64_t needed = 0;   ///< bytes that must come: fewer than the block's at the end of the file
    int tries = 0;        ///< without progress
    bool active = false;  ///< taken by the backend, and not yet given back
  };

  explicit FileReader(Options options);

  Result<void> OpenFiles(std::span<const MappedFile> files);
  static Result<int> OpenAgain(const MappedFile& mapped, bool direct);
  static Result<void> CheckUnchanged(const File& file);
  void Issue();
  void Start(Flight& flight);
  void FallBack(int refusal);
  void Break(const char* reason);
  bool Drain(ReadBackend& backend, int flights);
  void Handle(const ReadBackend::Done& done);
  void Collect(bool wait);
  bool Continue(Flight& flight, int64_t result);
  bool ReadThroughCache(File& file);
  void ExpectFiles();
  void Finish(Flight& flight, std::optional<Error> error);
  int InFlight() const { return options_.depth - static_cast<int>(free_flights_.size()); }
  File& FileOf(const Flight& flight) {
    return files_[static_cast<size_t>(reads_[static_cast<size_t>(flight.pending)].read.file)];
  }
  const File& FileOf(const Flight& flight) const {
    return const_cast<FileReader*>(this)->FileOf(flight);
  }
  Error Complain(const Flight& flight, const std::string& what) const;

  Options options_;
  std::vector<File> files_;
  std::unique_ptr<ReadBackend> backend_;
  bool threads_ = false;         ///< whether backend_ is the last resort
  int refusal_ = 0;              ///< the system's reason against io_uring, as a negative errno
  std::optional<Error> broken_;  ///< why nothing can be read any more
  std::vector<Pending> reads_;
  std::vector<Flight> flights_;
  std::vector<int32_t> free_reads_, free_flights_;
  Ring<int32_t> queue_;     ///< reads with something left to hand out
  Ring<int32_t> finished_;  ///< done and not taken
  int pending_ = 0;
  int64_t bytes_read_ = 0;
};

}  // namespace moxie
