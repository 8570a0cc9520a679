#include "core/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

namespace moxie {
namespace {

namespace fs = std::filesystem;

constexpr int kNames = 1000;                        // tried before giving up
constexpr size_t kMaxWriteBytes = size_t{1} << 30;  // the kernel takes at most 2 GiB at once
constexpr int kFlags = O_WRONLY | O_CREAT | O_CLOEXEC;
constexpr mode_t kMode = 0666;  // less the process's umask

}  // namespace

Result<AtomicFile> AtomicFile::Create(const fs::path& path) {
  AtomicFile file;
  file.path_ = path;
  std::error_code error;
  file.target_ = fs::weakly_canonical(path, error);
  if (error) return file.Failed(error.value());
  const fs::file_status status = fs::status(file.target_, error);
  if (fs::is_directory(status)) return file.Failed(EISDIR);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    file.fd_ = ::open(file.target_.c_str(), kFlags, kMode);
    if (file.fd_ < 0) return file.Failed(errno);
    return file;
  }
  // The name is cut so that it stays within the 255 bytes that file systems allow.
  const std::string stem = "." + file.target_.filename().string().substr(0, 200) + "." +
                           std::to_string(::getpid()) + "-";
  int code = EEXIST;
  for (int i = 0; i < kNames && code == EEXIST; ++i) {
    file.temporary_ = file.target_.parent_path() / (stem + std::to_string(i) + ".partial");
    file.fd_ = ::open(file.temporary_.c_str(), kFlags | O_EXCL, kMode);
    if (file.fd_ >= 0) return file;
    code = errno;
  }
  file.temporary_.clear();
  return file.Failed(code);
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(target_, other.target_);
  std::swap(temporary_, other.temporary_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

AtomicFile::~AtomicFile() { Abandon(); }

void AtomicFile::Abandon() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

Error AtomicFile::Failed(int code) const {
  return {code == ENOENT || code == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo,
          path_.string() + ": cannot be written: " + std::generic_category().message(code)};
}

Result<void> AtomicFile::Write(std::span<const std::byte> bytes) {
  MOXIE_CHECK(fd_ >= 0);
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), std::min(bytes.size(), kMaxWriteBytes));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Failed(errno);
    size_ += static_cast<uint64_t>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

Result<void> AtomicFile::Commit() {
  MOXIE_CHECK(fd_ >= 0);
  if (temporary_.empty()) {
    if (::close(std::exchange(fd_, -1)) != 0) return Failed(errno);
    return {};
  }
  if (::fsync(fd_) != 0) return Failed(errno);
  if (::close(std::exchange(fd_, -1)) != 0) return Failed(errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) return Failed(errno);
  temporary_.clear();
  // The name is on the disk once the folder is; where folders cannot be synchronised, so be it.
  const int folder = ::open(target_.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
  return {};
}

}  // namespace moxie
