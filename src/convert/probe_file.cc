#include "convert/probe_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <system_error>

#include "core/atomic_file.h"

namespace moxie {
namespace {

/// A number of at least 0 from the whole of `word`.
std::optional<double> NumberIn(const std::string& word) {
  char* end = nullptr;
  const double number = std::strtod(word.c_str(), &end);
  if (word.empty() || *end != '\0' || !std::isfinite(number) || number < 0) return std::nullopt;
  return number;
}

/// Keeps other runs from replacing files in a folder for as long as it lives. The folder is locked
/// because the file itself is replaced. File systems that cannot lock one go without.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder)
      : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    while (fd_ >= 0 && ::flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  ~FolderLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  const int fd_;
};

Result<void> WriteProbes(const ProbeResults& results, const std::filesystem::path& path) {
  std::string text;
  for (const auto& [name, probed] : results) {
    char numbers[80];
    const int length = std::snprintf(numbers, sizeof numbers, " %.9g", probed.divergence);
    if (probed.root_share)
      std::snprintf(numbers + length, sizeof numbers - static_cast<size_t>(length), " %.9g",
                    *probed.root_share);
    text += name + numbers + "\n";
  }
  MOXIE_TRY_ASSIGN(AtomicFile file, AtomicFile::Create(path));
  MOXIE_TRY(file.Write(text));
  return file.Commit();
}

}  // namespace

Result<ProbeResults> ReadProbes(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file)
    return Error{errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                 path.string() + ": cannot be read: " + std::generic_category().message(errno)};
  ProbeResults results;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    std::istringstream words(line);
    std::string name, divergence, share, more;
    words >> name >> divergence >> share >> more;
    const auto caused = NumberIn(divergence);
    Probed probed;
    if (!share.empty()) probed.root_share = NumberIn(share);
    if (!caused || probed.root_share.has_value() == share.empty() || !more.empty() ||
        probed.root_share.value_or(0) > 1)
      return Error{ErrorCode::kInvalidInput,
                   path.string() + ": line " + std::to_string(number) +
                       " must be a tensor's name, a divergence and perhaps a share"};
    probed.divergence = *caused;
    results[name] = probed;
  }
  if (file.bad()) return Error{ErrorCode::kIo, path.string() + ": cannot be read"};
  return results;
}

Result<void> MergeProbes(ProbeResults& results, const std::filesystem::path& path,
                         const std::function<Result<void>(const ProbeResults&)>& check) {
  std::error_code error;
  const auto target = std::filesystem::weakly_canonical(path, error);  // AtomicFile's, too.
  const FolderLock lock((error ? path : target).parent_path());
  Result<ProbeResults> held = ReadProbes(path);
  if (held) {
    MOXIE_TRY(check(*held));
    results.merge(*held);
  } else if (held.error().code != ErrorCode::kNotFound) {
    return held.error();
  }
  return WriteProbes(results, path);
}

}  // namespace moxie
