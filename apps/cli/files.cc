#include "files.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

namespace moxie::cli {
namespace {

constexpr size_t kMostBytes = size_t{1} << 30;

struct Closer {
  void operator()(std::FILE* file) const {
    if (file != stdin) std::fclose(file);
  }
};
using File = std::unique_ptr<std::FILE, Closer>;

Error SystemError(const std::string& path) {
  return {errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
          path + ": " + std::strerror(errno)};
}

}  // namespace

Result<std::string> ReadFile(const std::string& path) {
  const bool standard = path.empty() || path == "-";
  const std::string name = standard ? "standard input" : path;
  const File file(standard ? stdin : std::fopen(path.c_str(), "rb"));
  if (file == nullptr) return SystemError(name);
  std::string bytes;
  std::string block(size_t{1} << 16, '\0');
  while (const size_t got = std::fread(block.data(), 1, block.size(), file.get())) {
    bytes.append(block, 0, got);
    if (bytes.size() > kMostBytes)
      return Error{ErrorCode::kInvalidInput, name + ": has more than 1 GiB"};
  }
  if (std::ferror(file.get()) != 0) return SystemError(name);
  return bytes;
}

Result<void> WriteFile(const std::string& path, std::string_view bytes) {
  const std::string part = path + ".part";
  File file(std::fopen(part.c_str(), "wb"));
  if (file == nullptr) return SystemError(part);
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size();
  const bool closed = std::fclose(file.release()) == 0;
  if (!written || !closed || std::rename(part.c_str(), path.c_str()) != 0) {
    const Error error = SystemError(path);
    std::remove(part.c_str());
    return error;
  }
  return {};
}

Result<std::vector<TokenId>> ReadIds(const std::string& path) {
  MOXIE_TRY_ASSIGN(const std::string text, ReadFile(path));
  const nlohmann::json array = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!array.is_array())
    return Error{ErrorCode::kInvalidInput, path + ": not a JSON array of token ids"};
  std::vector<TokenId> ids;
  ids.reserve(array.size());
  for (const nlohmann::json& item : array) {
    const bool fits =
        item.is_number_integer() && item >= 0 && item <= std::numeric_limits<TokenId>::max();
    if (!fits)
      return Error{ErrorCode::kInvalidInput, path + ": item " + std::to_string(ids.size()) +
                                                 " is not a token id (0..2147483647)"};
    ids.push_back(item.get<TokenId>());
  }
  return ids;
}

}  // namespace moxie::cli
