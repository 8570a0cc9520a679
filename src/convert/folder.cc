#include "convert/folder.h"

#include <unistd.h>

#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "core/atomic_file.h"

namespace moxie {

namespace fs = std::filesystem;

Result<FolderWriter> FolderWriter::Create(const fs::path& path) {
  const fs::path target = path.has_filename() ? path : path.parent_path();
  std::error_code error;
  const bool there = fs::exists(fs::symlink_status(target, error));
  if (there && !(fs::is_directory(target, error) && fs::is_empty(target, error))) {
    return Error{ErrorCode::kInvalidInput,
                 path.string() + ": is there already, but a new or empty folder is wanted"};
  }
  FolderWriter folder;
  folder.target_ = target;
  const fs::path temporary = target.parent_path() / ("." + target.filename().string() + "." +
                                                     std::to_string(::getpid()) + ".partial");
  if (!fs::create_directory(temporary, error)) {
    return Error{ErrorCode::kIo,
                 path.string() + ": cannot be written: " +
                     (error ? error.message() : "a temporary folder is in the way")};
  }
  folder.temporary_ = temporary;
  return folder;
}

FolderWriter::FolderWriter(FolderWriter&& other) noexcept
    : target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, {})),
      index_(std::move(other.index_)),
      index_bytes_(other.index_bytes_) {}

FolderWriter::~FolderWriter() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

Result<void> FolderWriter::WriteFile(std::string_view name, std::string_view text) {
  MOXIE_TRY_ASSIGN(AtomicFile file, AtomicFile::Create(temporary_ / name));
  MOXIE_TRY(file.Write(text));
  return file.Commit();
}

void FolderWriter::AddToIndex(const std::string& tensor, const std::string& file, int64_t bytes) {
  index_.emplace(tensor, file);
  index_bytes_ += bytes;
}

Result<void> FolderWriter::WriteIndex() {
  const nlohmann::json index = {{"metadata", {{"total_size", index_bytes_}}},
                                {"weight_map", index_}};
  return WriteFile("model.safetensors.index.json", index.dump(2) + "\n");
}

Result<void> FolderWriter::Finish() {
  std::error_code error;
  fs::rename(temporary_, target_, error);
  if (error)
    return Error{ErrorCode::kIo, target_.string() + ": cannot be written: " + error.message()};
  temporary_.clear();
  return {};
}

}  // namespace moxie
