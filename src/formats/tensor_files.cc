#include "formats/tensor_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

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

}  // namespace

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
  ::close(fd);
  if (failure != 0) return Failed(path, "mapped", failure);
  if (!regular) return Error{ErrorCode::kIo, path.string() + ": is not a regular file"};
  MappedFile file;
  file.path_ = path;
  if (size > 0) file.bytes_ = {static_cast<const std::byte*>(address), size};
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
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

const TensorInfo* TensorFiles::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

void TensorFiles::ReleasePages() const {
  for (const MappedFile& file : files_) {
    if (file.bytes().empty()) continue;
    ::madvise(const_cast<std::byte*>(file.bytes().data()), file.bytes().size(), MADV_DONTNEED);
  }
}

}  // namespace moxie
