#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/printable.h"
#include "formats/json.h"

namespace moxie {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as in the reference
constexpr size_t kMaxDimensions = 8;

struct NamedType {
  std::string_view name;
  DType type;
};
constexpr NamedType kTypes[] = {
    {"F32", DType::kF32}, {"F16", DType::kF16}, {"BF16", DType::kBF16}, {"F64", DType::kF64},
    {"I8", DType::kI8},   {"U8", DType::kI8},   {"BOOL", DType::kI8},   {"I16", DType::kI16},
    {"I32", DType::kI32}, {"I64", DType::kI64},
};

Error Fail(std::string_view file, const std::string& what,
           ErrorCode code = ErrorCode::kInvalidInput) {
  return {code, std::string(file) + ": " + what};
}

/// A JSON number as a count of things, or nothing where it is none.
std::optional<int64_t> Count(const Json& json) {
  if (!json.is_number_unsigned()) return std::nullopt;
  const uint64_t value = json.get<uint64_t>();
  if (!std::in_range<int64_t>(value)) return std::nullopt;
  return static_cast<int64_t>(value);
}

/// An array of counts, or nothing where `json` is none.
std::optional<std::vector<int64_t>> Counts(const Json& json, size_t most) {
  if (!json.is_array() || json.size() > most) return std::nullopt;
  std::vector<int64_t> out;
  for (const Json& element : json) {
    const auto count = Count(element);
    if (!count) return std::nullopt;
    out.push_back(*count);
  }
  return out;
}

Result<DType> ReadType(std::string_view file, const std::string& tensor, const Json& json) {
  const auto* name = json.get_ptr<const std::string*>();
  if (name == nullptr) return Fail(file, "tensor " + Printable(tensor) + " has no dtype");
  for (const NamedType& type : kTypes) {
    if (type.name == *name) return type.type;
  }
  return Fail(file,
              "tensor " + Printable(tensor) + " has dtype " + Printable(*name) +
                  ", but must be F32, F16, BF16, F64, I8, U8, BOOL, I16, I32 or I64",
              ErrorCode::kUnsupported);
}

/// One entry of the header; offsets are relative to the `data_bytes` of tensor data.
Result<TensorInfo> ReadTensor(std::string_view file, const std::string& name, const Json& entry,
                              uint64_t data_bytes) {
  static const Json kNothing;
  const auto field = [&](const char* key) -> const Json& {
    const auto it = entry.is_object() ? entry.find(key) : entry.end();
    return entry.is_object() && it != entry.end() ? *it : kNothing;
  };
  TensorInfo tensor;
  tensor.name = name;
  MOXIE_TRY_ASSIGN(tensor.type, ReadType(file, name, field("dtype")));
  const auto shape = Counts(field("shape"), kMaxDimensions);
  if (!shape) {
    return Fail(file, "tensor " + Printable(name) + " has no shape of at most " +
                          std::to_string(kMaxDimensions) + " whole numbers");
  }
  tensor.shape = *shape;
  MOXIE_TRY_ASSIGN(tensor.bytes, TensorBytes(file, name, tensor.type, tensor.shape));
  const auto offsets = Counts(field("data_offsets"), 2);
  if (!offsets || offsets->size() != 2) {
    return Fail(file, "tensor " + Printable(name) + " has no data_offsets [begin, end]");
  }
  const uint64_t begin = static_cast<uint64_t>((*offsets)[0]);
  const uint64_t end = static_cast<uint64_t>((*offsets)[1]);
  const std::string claim = "tensor " + Printable(name) + " has data_offsets [" +
                            std::to_string(begin) + ", " + std::to_string(end) + "]";
  if (begin > end || end > data_bytes) {
    return Fail(
        file, claim + ", but the file has " + std::to_string(data_bytes) + " bytes of tensor data");
  }
  if (end - begin != tensor.bytes) {
    return Fail(
        file, claim + ", but its shape and dtype take " + std::to_string(tensor.bytes) + " bytes");
  }
  tensor.offset = begin;
  return tensor;
}

Result<void> ReadMetadata(std::string_view file, const Json& json, SafetensorsHeader* header) {
  if (!json.is_object()) return Fail(file, "__metadata__ is no object");
  for (const auto& [key, value] : json.items()) {
    const auto* text = value.get_ptr<const std::string*>();
    if (text == nullptr) return Fail(file, "__metadata__ has a value that is no string");
    header->metadata.emplace(key, *text);
  }
  return {};
}

/// Sorts the tensors by offset and checks that they fill the data without gap or overlap.
Result<void> CheckCover(std::string_view file, uint64_t data_bytes, SafetensorsHeader* header) {
  std::sort(header->tensors.begin(), header->tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.offset < b.offset; });
  uint64_t end = 0;
  for (const TensorInfo& tensor : header->tensors) {
    if (tensor.offset != end) {
      return Fail(
          file, "tensor " + Printable(tensor.name) + " begins at " + std::to_string(tensor.offset) +
                    " of the tensor data, but the tensor before it ends at " + std::to_string(end));
    }
    end += tensor.bytes;
  }
  if (end != data_bytes) {
    return Fail(file, "has " + std::to_string(data_bytes) +
                          " bytes of tensor data, but its tensors take " + std::to_string(end));
  }
  return {};
}

bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

Result<SafetensorsHeader> ParseSafetensors(std::span<const std::byte> bytes,
                                           std::string_view name) {
  if (bytes.size() < 8) {
    return Fail(name, "is " + std::to_string(bytes.size()) +
                          " bytes long, but a safetensors file begins with 8 bytes of length");
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const uint64_t most = std::min<uint64_t>(bytes.size() - 8, kMaxHeaderBytes);
  if (length > most) {
    return Fail(name, "claims a header of " + std::to_string(length) + " bytes, but at most " +
                          std::to_string(most) + " are possible");
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, length);
  // The reference asks for the brace; without it a byte-order mark would pass.
  if (!text.starts_with('{')) return Fail(name, "has a header that does not begin with \"{\"");
  const std::string header_name = std::string(name) + ": the header";
  MOXIE_TRY_ASSIGN(const Json json, ParseJson(text, header_name));

  SafetensorsHeader header;
  const uint64_t data_bytes = bytes.size() - 8 - length;
  for (const auto& [key, entry] : json.items()) {
    if (key == "__metadata__") {
      MOXIE_TRY(ReadMetadata(name, entry, &header));
      continue;
    }
    MOXIE_TRY_ASSIGN(TensorInfo tensor, ReadTensor(name, key, entry, data_bytes));
    header.tensors.push_back(std::move(tensor));
  }
  MOXIE_TRY(CheckCover(name, data_bytes, &header));
  for (TensorInfo& tensor : header.tensors) tensor.offset += 8 + length;
  return header;
}

Result<TensorFiles> OpenSafetensors(const std::vector<std::filesystem::path>& paths) {
  std::vector<MappedFile> files;
  std::vector<TensorInfo> tensors;
  for (const std::filesystem::path& path : paths) {
    MOXIE_TRY_ASSIGN(MappedFile file, MappedFile::Open(path));
    MOXIE_TRY_ASSIGN(SafetensorsHeader header, ParseSafetensors(file.bytes(), path.string()));
    for (TensorInfo& tensor : header.tensors) {
      tensor.file = static_cast<int>(files.size());
      tensors.push_back(std::move(tensor));
    }
    files.push_back(std::move(file));
  }
  return TensorFiles::Create(std::move(files), std::move(tensors));
}

Result<TensorFiles> OpenSafetensorsIndex(const std::filesystem::path& index) {
  const std::string name = index.string();
  MOXIE_TRY_ASSIGN(const MappedFile file, MappedFile::Open(index));
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  MOXIE_TRY_ASSIGN(const Json json, ParseJson(text, name));
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object()) {
    return Fail(name, "has no object weight_map");
  }
  std::map<std::string, int> shards;
  for (const auto& [tensor, shard] : map->items()) {
    const auto* shard_name = shard.get_ptr<const std::string*>();
    if (shard_name == nullptr) {
      return Fail(name, "weight_map gives no file name for " + Printable(tensor));
    }
    if (!IsPlainFileName(*shard_name)) {
      return Fail(name, "weight_map names the file " + Printable(*shard_name) +
                            ", but must name files in its own folder");
    }
    shards.emplace(*shard_name, 0);
  }
  std::vector<std::filesystem::path> paths;
  for (auto& [shard, number] : shards) {
    number = static_cast<int>(paths.size());
    paths.push_back(index.parent_path() / shard);
  }
  MOXIE_TRY_ASSIGN(TensorFiles files, OpenSafetensors(paths));
  for (const auto& [tensor, shard] : map->items()) {
    const TensorInfo* info = files.Find(tensor);
    if (info == nullptr || info->file != shards[shard.get_ref<const std::string&>()]) {
      return Fail(name, "weight_map says that " + Printable(tensor) + " is in " +
                            Printable(shard.get_ref<const std::string&>()) +
                            ", but it is not there");
    }
  }
  return files;
}

}  // namespace moxie
