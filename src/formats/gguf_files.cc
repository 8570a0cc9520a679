#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/printable.h"
#include "formats/gguf.h"

namespace moxie {
namespace {

constexpr std::string_view kNumber = "00001";
constexpr std::string_view kEnd = ".gguf";

/// A split file's name is PREFIX-00001-of-00005.gguf.
struct SplitName {
  std::string prefix;
  int64_t number = 0;  ///< from 1
  int64_t count = 0;
};

std::optional<int64_t> FiveDigits(std::string_view text) {
  int64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

std::optional<SplitName> ParseSplitName(std::string_view name) {
  constexpr std::string_view kOf = "-of-";
  const size_t tail = 1 + 2 * kNumber.size() + kOf.size() + kEnd.size();
  if (name.size() < tail || !name.ends_with(kEnd)) return std::nullopt;
  const std::string_view numbers = name.substr(name.size() - tail);
  const auto number = FiveDigits(numbers.substr(1, kNumber.size()));
  const auto count = FiveDigits(numbers.substr(1 + kNumber.size() + kOf.size(), kNumber.size()));
  if (numbers[0] != '-' || numbers.substr(1 + kNumber.size(), kOf.size()) != kOf || !number ||
      !count) {
    return std::nullopt;
  }
  return SplitName{std::string(name.substr(0, name.size() - tail)), *number, *count};
}

std::filesystem::path SiblingPath(const std::filesystem::path& path, const SplitName& name,
                                  int64_t number) {
  char numbers[32];
  std::snprintf(numbers, sizeof numbers, "-%05d-of-%05d", static_cast<int>(number),
                static_cast<int>(name.count));
  return path.parent_path() / (name.prefix + numbers + std::string(kEnd));
}

struct Part {
  MappedFile file;
  GgufHeader header;
};

Result<Part> OpenPart(const std::filesystem::path& path) {
  MOXIE_TRY_ASSIGN(MappedFile file, MappedFile::Open(path));
  MOXIE_TRY_ASSIGN(GgufHeader header, ParseGguf(file.bytes(), path.string()));
  return Part{std::move(file), std::move(header)};
}

/// The value of a split.* key, which must lie in [least, most]; `absent` where there is none.
Result<int64_t> SplitKey(const GgufMetadata& metadata, std::string_view key, int64_t least,
                         int64_t most, int64_t absent) {
  MOXIE_TRY_ASSIGN(const std::optional<int64_t> value, metadata.Integer(key));
  if (!value) return absent;
  if (*value < least || *value > most) {
    return Error{ErrorCode::kInvalidInput, metadata.file + ": " + std::string(key) + " is " +
                                               std::to_string(*value) + ", but must be " +
                                               std::to_string(least) +
                                               (least == most ? "" : ".." + std::to_string(most))};
  }
  return *value;
}

/// Opens all the files of the set that `part`, of name `name`, belongs to, in order.
Result<std::vector<Part>> OpenSet(const std::filesystem::path& path, Part part,
                                  const SplitName& name) {
  std::vector<Part> parts;
  for (int64_t number = 1; number <= name.count; ++number) {
    if (number == name.number) {
      parts.push_back(std::move(part));  // Once. NOLINT(bugprone-use-after-move)
    } else {
      MOXIE_TRY_ASSIGN(Part sibling, OpenPart(SiblingPath(path, name, number)));
      parts.push_back(std::move(sibling));
    }
    const GgufMetadata& metadata = parts.back().header.metadata;
    MOXIE_TRY(SplitKey(metadata, "split.count", name.count, name.count, 0));
    MOXIE_TRY(SplitKey(metadata, "split.no", number - 1, number - 1, 0));
  }
  return parts;
}

Result<void> CheckTensorCount(const std::vector<Part>& parts) {
  int64_t tensors = 0;
  for (const Part& part : parts) tensors += static_cast<int64_t>(part.header.tensors.size());
  MOXIE_TRY(SplitKey(parts[0].header.metadata, "split.tensors.count", tensors, tensors, tensors));
  return {};
}

}  // namespace

Result<TensorFiles> OpenGguf(const std::filesystem::path& path, GgufMetadata* metadata) {
  MOXIE_TRY_ASSIGN(Part part, OpenPart(path));
  MOXIE_TRY_ASSIGN(const int64_t count,
                   SplitKey(part.header.metadata, "split.count", 0, 65'535, 1));
  std::vector<Part> parts;
  if (count <= 1) {
    parts.push_back(std::move(part));
  } else {
    const auto name = ParseSplitName(path.filename().string());
    if (!name || name->count != count || name->number < 1 || name->number > count) {
      return Error{ErrorCode::kInvalidInput,
                   path.string() + ": is one of " + std::to_string(count) +
                       " files (split.count), but its name does not end in -00001-of-" +
                       SiblingPath({}, {"", 1, count}, 1).string().substr(10)};
    }
    MOXIE_TRY_ASSIGN(parts, OpenSet(path, std::move(part), *name));
    MOXIE_TRY(CheckTensorCount(parts));
  }

  std::vector<MappedFile> files;
  std::vector<TensorInfo> tensors;
  for (Part& each : parts) {
    for (TensorInfo& tensor : each.header.tensors) {
      tensor.file = static_cast<int>(files.size());
      tensors.push_back(std::move(tensor));
    }
    files.push_back(std::move(each.file));
  }
  *metadata = std::move(parts[0].header.metadata);
  return TensorFiles::Create(std::move(files), std::move(tensors));
}

}  // namespace moxie
