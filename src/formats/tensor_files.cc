#include "formats/tensor_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>

#include "core/printable.h"

namespace moxie {
namespace {

Error Failed(const std::filesystem::path& path, const char* verb, int code) {
  return {code == ENOENT || code == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo,
          path.string() + ": cannot be " + verb + ": " + std::generic_category().message(code)};
}

FileIdentity IdentityFrom(const struct stat& status) {
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size = status.st_size,
          .modified_ns = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

}  // namespace

Result<FileIdentity> IdentityOf(int fd, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return Failed(path, "looked at", errno);
  return IdentityFrom(status);
}

Result<MappedFile> MappedFile::Open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Failed(path, "opened", errno);
  struct stat status {};
  void* address = nullptr;
  int failure = ::fstat(fd, &status) == 0 ? 0 : errno;
  const bool regular = failure == 0 && S_ISREG(status.st_mode);
  const size_t size = regular ? static_cast<size_t>(status.st_size) : 0;
  if (size > 0) {
    address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) failure = errno;
  }
  MappedFile file;
  file.path_ = path;
  file.fd_ = fd;
  if (failure != 0) return Failed(path, "mapped", failure);
  if (!regular) return Error{ErrorCode::kIo, path.string() + ": is not a regular file"};
  file.identity_ = IdentityFrom(status);
  if (size > 0) file.bytes_ = {static_cast<const std::byte*>(address), size};
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      identity_(other.identity_),
      bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(identity_, other.identity_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  if (fd_ >= 0) ::close(fd_);
}

Result<void> MappedFile::Read(uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t got = ::pread(fd_, to.data(), to.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failed(path_, "read", errno);
    if (got == 0)
      return Error{ErrorCode::kIo, path_.string() + ": ends at byte " + std::to_string(offset) +
                                       ", but was longer when it was opened"};
    to = to.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

int64_t MappedFile::CachedBytes() const {
  constexpr size_t kPage = 4096;
  // Linux 6.5 has a call that takes no time for each page that is not there.
  constexpr long kCachestat = 451;
  struct {
    uint64_t offset = 0, length = 0;  // 0: to the end
  } all;
  struct {
    uint64_t cached = 0, others[4] = {};
  } counts;
  if (::syscall(kCachestat, fd_, &all, &counts, 0) == 0)
    return static_cast<int64_t>(counts.cached * kPage);
  constexpr size_t kWindow = size_t{64} << 20;
  std::vector<unsigned char> in_cache(kWindow / kPage);
  int64_t pages = 0;
  for (size_t at = 0; at < bytes_.size(); at += kWindow) {
    const size_t size = std::min(kWindow, bytes_.size() - at);
    auto* const from = const_cast<std::byte*>(bytes_.data() + at);
    if (::mincore(from, size, in_cache.data()) != 0) return 0;
    pages += std::count_if(in_cache.begin(),
                           in_cache.begin() + static_cast<ptrdiff_t>((size + kPage - 1) / kPage),
                           [](unsigned char flags) { return (flags & 1) != 0; });
  }
  return pages * static_cast<int64_t>(kPage);
}

void MappedFile::ReleasePages() const {
  if (!bytes_.empty())
    ::madvise(const_cast<std::byte*>(bytes_.data()), bytes_.size(), MADV_DONTNEED);
}

Result<uint64_t> TensorBytes(std::string_view file, std::string_view tensor, DType type,
                             std::span<const int64_t> shape) {
  const auto fail = [&](const std::string& what) {
    return Error{ErrorCode::kInvalidInput,
                 std::string(file) + ": tensor " + Printable(tensor) + " " + what};
  };
  int64_t elements = 1;
  for (const int64_t size : shape) {
    if (size < 1) {
      return fail("has a dimension of " + std::to_string(size) + ", but it must be at least 1");
    }
    if (elements > std::numeric_limits<int64_t>::max() / size) {
      return fail("has dimensions whose product is not below 2^63");
    }
    elements *= size;
  }
  const DTypeTraits& traits = TraitsOf(type);
  const int64_t innermost = shape.empty() ? 1 : shape.back();
  if (innermost % traits.block_elements != 0) {
    return fail("has rows of " + std::to_string(innermost) + " elements, but " +
                std::string(traits.name) + " stores blocks of " +
                std::to_string(traits.block_elements));
  }
  const std::optional<int64_t> bytes = BytesOf(type, elements);
  if (!bytes) return fail("has dimensions whose bytes are not below 2^63");
  return static_cast<uint64_t>(*bytes);
}

TensorFiles::TensorFiles(std::vector<MappedFile> files, std::vector<TensorInfo> tensors)
    : files_(std::move(files)), tensors_(std::move(tensors)) {
  for (size_t i = 0; i < tensors_.size(); ++i) by_name_.emplace(tensors_[i].name, i);
  MOXIE_CHECK(by_name_.size() == tensors_.size());
}

Result<TensorFiles> TensorFiles::Create(std::vector<MappedFile> files,
                                        std::vector<TensorInfo> tensors) {
  std::map<std::string_view, const TensorInfo*> seen;
  for (const TensorInfo& tensor : tensors) {
    const auto [other, added] = seen.emplace(tensor.name, &tensor);
    if (added) continue;
    const auto path = [&](const TensorInfo& t) {
      return files[static_cast<size_t>(t.file)].path().string();
    };
    return Error{ErrorCode::kInvalidInput, path(tensor) + ": has a tensor " +
                                               Printable(tensor.name) + " that " +
                                               path(*other->second) + " has as well"};
  }
  return TensorFiles(std::move(files), std::move(tensors));
}

TensorFiles::Place TensorFiles::Locate(const std::byte* mapped) const {
  const auto address = reinterpret_cast<uintptr_t>(mapped);
  for (size_t i = 0; i < files_.size(); ++i) {
    const auto begin = reinterpret_cast<uintptr_t>(files_[i].bytes().data());
    if (address >= begin && address - begin < files_[i].bytes().size())
      return {static_cast<int>(i), address - begin};
  }
  return {};
}

const TensorInfo* TensorFiles::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

Result<std::vector<std::byte>> TensorFiles::Read(const TensorInfo& tensor) const {
  std::vector<std::byte> bytes(tensor.bytes);
  MOXIE_TRY(files_[static_cast<size_t>(tensor.file)].Read(tensor.offset, bytes));
  return bytes;
}

void TensorFiles::ReleasePages() const {
  for (const MappedFile& file : files_) file.ReleasePages();
}

}  // namespace moxie
