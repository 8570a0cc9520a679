#include <nlohmann/json.hpp>
#include <string>

#include "core/printable.h"
#include "formats/spec_bytes.h"
#include "formats/tensor_writer.h"

namespace moxie {
namespace {

const char* TypeName(const TensorSpec& tensor) {
  switch (tensor.type) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kF64:
      return "F64";
    case DType::kI8:
      return tensor.is_unsigned ? "U8" : "I8";
    case DType::kI16:
      return "I16";
    case DType::kI32:
      return "I32";
    case DType::kI64:
      return "I64";
    default:
      return nullptr;
  }
}

/// A JSON string, or an Error where `text` is not UTF-8.
Result<std::string> Quoted(std::string_view file, const std::string& text) {
  if (!IsUtf8(text)) {
    return Error{ErrorCode::kInvalidInput, std::string(file) +
                                               ": a safetensors file cannot hold the name " +
                                               Printable(text) + ", since it is not UTF-8"};
  }
  return nlohmann::json(text).dump();
}

}  // namespace

Result<TensorWriter> TensorWriter::CreateSafetensors(
    const std::filesystem::path& path,
    const std::map<std::string, std::string, std::less<>>& metadata,
    std::span<const TensorSpec> tensors) {
  const std::string name = path.string();
  MOXIE_TRY_ASSIGN(std::vector<uint64_t> bytes, SpecBytes(name, tensors));
  std::string text = "{\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    MOXIE_TRY_ASSIGN(const std::string key_text, Quoted(name, key));
    MOXIE_TRY_ASSIGN(const std::string value_text, Quoted(name, value));
    if (text.back() != '{') text += ',';
    text += key_text;
    text += ':';
    text += value_text;
  }
  text += '}';
  uint64_t offset = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorSpec& tensor = tensors[i];
    const char* type = TypeName(tensor);
    if (type == nullptr) {
      return Error{ErrorCode::kUnsupported, name + ": a safetensors file cannot hold " +
                                                Printable(tensor.name) + " as " +
                                                std::string(NameOf(tensor.type))};
    }
    MOXIE_TRY_ASSIGN(const std::string key, Quoted(name, tensor.name));
    text += "," + key + ":{\"dtype\":\"" + type +
            "\",\"shape\":" + nlohmann::json(tensor.shape).dump() + ",\"data_offsets\":[" +
            std::to_string(offset) + "," + std::to_string(offset + bytes[i]) + "]}";
    offset += bytes[i];
  }
  text += '}';
  // The data begin at a multiple of eight bytes, as the reference writes them.
  while (text.size() % 8 != 0) text += ' ';
  const uint64_t length = text.size();
  MOXIE_TRY_ASSIGN(AtomicFile file, AtomicFile::Create(path));
  MOXIE_TRY(file.Write(std::as_bytes(std::span(&length, 1))));
  MOXIE_TRY(file.Write(text));
  return TensorWriter(std::move(file), std::move(bytes), 1);
}

}  // namespace moxie
