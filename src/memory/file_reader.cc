#include "memory/file_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

namespace moxie {
namespace {

constexpr int kMostTries = 100;
constexpr int kUringEntryBytes = 64 + 2 * 16;  // A submission and two completions.
constexpr int kThreadStackBytes = 4 * 4096;    // What a thread that only reads touches of its own.

std::string Reason(int code) { return std::generic_category().message(code); }

bool RefusesUring(int64_t result) {
  return result == -EPERM || result == -EACCES || result == -ENOSYS || result == -EOPNOTSUPP;
}

}  // namespace

FileReader::FileReader(Options options)
    : options_(std::move(options)),
      reads_(static_cast<size_t>(options_.max_reads)),
      flights_(static_cast<size_t>(options_.depth)),
      queue_(reads_.size()),
      finished_(reads_.size()) {
  for (int i = options_.max_reads; i-- > 0;) free_reads_.push_back(i);
  for (int i = options_.depth; i-- > 0;) free_flights_.push_back(i);
}

FileReader::~FileReader() {
  Abandon();
  backend_.reset();
  for (const File& file : files_) close(file.fd);
}

Result<std::unique_ptr<FileReader>> FileReader::Create(std::span<const MappedFile> files,
                                                       const Options& options) {
  std::unique_ptr<FileReader> reader(new FileReader(options));
  MOXIE_TRY(reader->OpenFiles(files));
  if (options.io_uring) reader->backend_ = MakeUringBackend(options.depth, &reader->refusal_);
  reader->threads_ = reader->backend_ == nullptr;
  if (reader->threads_) reader->backend_ = MakeThreadBackend(options.depth, options.threads);
  if (options.wrap) reader->backend_ = options.wrap(std::move(reader->backend_));
  reader->ExpectFiles();
  return reader;
}

void FileReader::ExpectFiles() {
  std::vector<int> fds;
  for (const File& file : files_) fds.push_back(file.fd);
  backend_->ExpectFiles(fds);
}

void FileReader::ExpectMemory(std::span<std::byte> memory, int64_t piece_bytes) {
  backend_->ExpectMemory(memory, piece_bytes);
}

Result<int> FileReader::OpenAgain(const MappedFile& mapped, bool direct) {
  const int fd = open(mapped.path().c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
  if (fd >= 0) return fd;
  return Error{errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
               mapped.path().string() + ": cannot be opened again: " + Reason(errno)};
}

Result<void> FileReader::OpenFiles(std::span<const MappedFile> files) {
  for (const MappedFile& mapped : files) {
    auto fd = options_.direct ? OpenAgain(mapped, true) : Result<int>(-1);
    const bool direct = options_.direct && fd;
    if (!direct) fd = OpenAgain(mapped, false);
    if (!fd) return fd.error();
    files_.push_back({&mapped, *fd, direct});
    // What the kernel would read ahead is memory that nobody asked for.
    if (!direct && options_.drop_behind) posix_fadvise(*fd, 0, 0, POSIX_FADV_RANDOM);
    MOXIE_TRY(CheckUnchanged(files_.back()));
  }
  return {};
}

Result<void> FileReader::CheckUnchanged(const File& file) {
  MOXIE_TRY_ASSIGN(const FileIdentity now, IdentityOf(file.fd, file.mapped->path()));
  if (now == file.mapped->identity()) return {};
  return Error{ErrorCode::kIo, file.mapped->path().string() +
                                   ": has changed since it was opened, but must stay as it is "
                                   "while the model runs"};
}

void FileReader::Queue(const Read& read) {
  MOXIE_CHECK(!free_reads_.empty() && read.bytes > 0 && read.bytes % kPageBytes == 0 &&
              read.offset % kPageBytes == 0);
  const int32_t index = free_reads_.back();
  free_reads_.pop_back();
  reads_[static_cast<size_t>(index)] = {.read = read, .error = std::nullopt};
  ++pending_;
  queue_.Push(index);
  Issue();
}

/// Hands out blocks of the queued reads, oldest first.
void FileReader::Issue() {
  while (!queue_.empty() && !free_flights_.empty()) {
    const int32_t index = queue_.front();
    Pending& pending = reads_[static_cast<size_t>(index)];
    const Read& read = pending.read;
    if (broken_) pending.error = broken_;
    if (pending.error) pending.issued = read.bytes;  // The rest is of no use.
    const int64_t bytes = std::min(options_.block_bytes, read.bytes - pending.issued);
    if (pending.issued + bytes >= read.bytes) queue_.Pop();
    if (bytes == 0) {
      if (pending.blocks == 0) finished_.Push(index);
      continue;
    }
    Flight& flight = flights_[static_cast<size_t>(free_flights_.back())];
    const File& file = files_[static_cast<size_t>(read.file)];
    flight = {.pending = index,
              .block = {.fd = file.fd,
                        .index = free_flights_.back(),
                        .offset = read.offset + static_cast<uint64_t>(pending.issued),
                        .to = read.to + pending.issued,
                        .bytes = bytes}};
    free_flights_.pop_back();
    const int64_t left = file.mapped->identity().size - static_cast<int64_t>(flight.block.offset);
    flight.needed = std::min(bytes, left);
    pending.issued += bytes;
    ++pending.blocks;
    Start(flight);
  }
}

void FileReader::Start(Flight& flight) {
  while (!broken_) {
    const int refusal = backend_->Start(flight.block);
    flight.active = refusal == 0;
    if (flight.active) return;
    if (threads_) {
      Finish(flight, Complain(flight, "cannot be read: " + Reason(-refusal)));
      return;
    }
    FallBack(refusal);
  }
  Finish(flight, broken_);
}

/// Goes on with threads where io_uring is refused in the middle.
void FileReader::FallBack(int refusal) {
  refusal_ = refusal;
  std::unique_ptr<ReadBackend> refused;
  try {
    refused = std::exchange(backend_, MakeThreadBackend(options_.depth, options_.threads));
    if (options_.wrap) backend_ = options_.wrap(std::move(backend_));
  } catch (const std::bad_alloc&) {
    return Break("no memory left");  // As many letters as take none.
  } catch (const std::system_error&) {
    return Break("no threads left");
  }
  threads_ = true;
  const auto left = std::count_if(flights_.begin(), flights_.end(),
                                  [](const Flight& flight) { return flight.active; });
  if (Drain(*refused, static_cast<int>(left))) return;
  // What the system may still write somewhere must not meet anything new there.
  Break("io_uring: lost reads that it had accepted");
}

/// Ends all that was asked for, and all that will be, with an error.
void FileReader::Break(const char* reason) {
  broken_ = Error{ErrorCode::kIo, reason};
  for (Flight& flight : flights_) {
    if (flight.active) Finish(flight, broken_);
  }
}

/// Takes the results of reads that a refused backend had accepted.
bool FileReader::Drain(ReadBackend& backend, int flights) {
  constexpr int kPolls = 10'000;
  for (int polls = 0; flights > 0 && polls < kPolls;) {
    ReadBackend::Done done;
    if (backend.Take(done, false) == 1) {
      Handle(done);
      --flights;
    } else {
      ++polls;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  return flights == 0;
}

std::optional<FileReader::Done> FileReader::Take(bool wait) {
  for (;;) {
    // Everything that is done makes room for new blocks before anybody computes.
    Collect(wait);
    if (!finished_.empty()) break;
    if (!wait || pending_ == 0) return std::nullopt;
  }
  const int32_t index = finished_.Pop();
  Pending& pending = reads_[static_cast<size_t>(index)];
  free_reads_.push_back(index);
  --pending_;
  return Done{pending.read.tag, std::move(pending.error)};
}

void FileReader::GoOn() { Collect(false); }

void FileReader::Abandon() {
  ReadBackend::Done done;
  while (!broken_ && std::ranges::any_of(flights_, &Flight::active)) {
    if (backend_->Take(done, true) != 1) break;
    flights_[static_cast<size_t>(done.index)].active = false;
  }
}

/// Takes what is done from the backend; where `wait` asks for it, until a read is finished.
void FileReader::Collect(bool wait) {
  ReadBackend::Done done;
  while (InFlight() > 0) {
    const int taken = backend_->Take(done, wait && finished_.empty());
    if (taken == 0) break;
    if (taken < 0) {
      FallBack(taken);
    } else {
      Handle(done);
    }
    Issue();
  }
  Issue();
}

void FileReader::Handle(const ReadBackend::Done& done) {
  Flight& flight = flights_[static_cast<size_t>(done.index)];
  flight.active = false;
  const File& file = FileOf(flight);
  if (done.result >= flight.needed) {
    bytes_read_ += flight.needed;
    if (!file.direct && options_.drop_behind)
      posix_fadvise(file.fd, static_cast<off_t>(flight.block.offset), flight.block.bytes,
                    POSIX_FADV_DONTNEED);
    Finish(flight, std::nullopt);
  } else if (Continue(flight, done.result)) {
    Start(flight);
  } else if (done.result >= 0) {
    Finish(flight, Complain(flight, "ends, but was longer when it was opened"));
  } else {
    Finish(flight, Complain(flight, "cannot be read: " + Reason(static_cast<int>(-done.result))));
  }
}

/// Prepares what is left of a block to be read again, where that can help.
bool FileReader::Continue(Flight& flight, int64_t result) {
  if (result == 0) return false;
  // O_DIRECT goes on at whole pages only.
  const int64_t progress = result > 0 ? RoundDownToPage(result) : 0;
  if (progress > 0) {
    bytes_read_ += progress;
    flight.block.offset += static_cast<uint64_t>(progress);
    flight.block.to += progress;
    flight.block.bytes -= progress;
    flight.needed -= progress;
    flight.tries = 0;
    return true;
  }
  if (++flight.tries > kMostTries) return false;
  if (result > 0 || result == -EINTR || result == -EAGAIN || result == -ECANCELED) return true;
  if (RefusesUring(result)) {
    if (!threads_) FallBack(static_cast<int>(result));
    return true;
  }
  return result == -EINVAL && ReadThroughCache(FileOf(flight));
}

/// Some file systems let a file be opened with O_DIRECT and refuse to read it so.
bool FileReader::ReadThroughCache(File& file) {
  if (!file.direct) return true;  // Another block has seen to it.
  const Result<int> fd = OpenAgain(*file.mapped, false);
  if (!fd) return false;
  // The number stays the same for blocks that are on their way.
  const bool replaced = dup3(*fd, file.fd, O_CLOEXEC) >= 0;
  close(*fd);
  if (!replaced) return false;
  file.direct = false;
  ExpectFiles();
  if (options_.drop_behind) posix_fadvise(file.fd, 0, 0, POSIX_FADV_RANDOM);
  return true;
}

void FileReader::Finish(Flight& flight, std::optional<Error> error) {
  Pending& pending = reads_[static_cast<size_t>(flight.pending)];
  flight.active = false;
  free_flights_.push_back(flight.block.index);
  if (error && !pending.error) pending.error = std::move(error);
  if (--pending.blocks > 0 || pending.issued < pending.read.bytes) return;
  if (!pending.error) {
    const Result<void> unchanged = CheckUnchanged(files_[static_cast<size_t>(pending.read.file)]);
    if (!unchanged) pending.error = unchanged.error();
  }
  finished_.Push(flight.pending);
}

Error FileReader::Complain(const Flight& flight, const std::string& what) const {
  return {ErrorCode::kIo, FileOf(flight).mapped->path().string() + ": " + what + " (at byte " +
                              std::to_string(flight.block.offset) + ")"};
}

std::string FileReader::Method() const {
  const bool direct =
      std::all_of(files_.begin(), files_.end(), [](const File& file) { return file.direct; });
  std::string method = threads_ ? "pread" : "io_uring";
  if (threads_ && refusal_ < 0) method += " (io_uring: " + Reason(-refusal_) + ")";
  return method + (direct ? ", O_DIRECT" : ", page cache");
}

int64_t FileReader::OwnBytes(const Options& options) {
  const int64_t rings = RoundUpToPage(int64_t{options.depth} * kUringEntryBytes);
  return std::max(rings, int64_t{options.threads} * kThreadStackBytes);
}

}  // namespace moxie
