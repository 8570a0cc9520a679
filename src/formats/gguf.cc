#include "formats/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>
#include <unordered_set>
#include <utility>

#include "core/printable.h"

namespace moxie {
namespace {

static_assert(std::endian::native == std::endian::little, "files are read in place");

// What a header may hold at most, so that a hostile file cannot ask for more than about 1 GiB.
// DeepSeek-V3 with one tensor an expert has 46,000 tensors; vocabularies have 300,000 entries.
constexpr uint64_t kMaxHeaderBytes = uint64_t{256} << 20;
constexpr uint64_t kMaxArrayElements = uint64_t{16} << 20;  // of all arrays together
constexpr uint64_t kMaxTensors = uint64_t{1} << 20;
constexpr uint64_t kMaxKeyValues = uint64_t{1} << 16;
constexpr uint64_t kMaxNameBytes = 65'535;  // the specification's limit for keys
constexpr uint32_t kMaxDimensions = 8;      // ggml has 4

constexpr uint32_t kStringType = 8;
constexpr uint32_t kArrayType = 9;
constexpr uint32_t kTypeCount = 13;

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::string_view name) : bytes_(bytes), name_(name) {}

  Result<GgufHeader> Parse();

 private:
  Error Fail(const std::string& what, ErrorCode code = ErrorCode::kInvalidInput) const {
    std::string message = std::string(name_) + ": " + what;
    if (!subject_.empty()) message += " (" + subject_ + ")";
    return {code, std::move(message)};
  }

  Error Ends(std::string_view within) const {
    if (limit_ < bytes_.size()) {
      return Fail("has a header of more than " + std::to_string(limit_) + " bytes");
    }
    return Fail("ends within " + std::string(within) + " at byte " + std::to_string(pos_) + " of " +
                std::to_string(bytes_.size()));
  }

  uint64_t left() const { return limit_ - pos_; }

  template <class T>
  Result<T> Number(std::string_view within) {
    if (left() < sizeof(T)) return Ends(within);
    T value;
    std::memcpy(&value, bytes_.data() + pos_, sizeof(T));
    pos_ += sizeof(T);
    return value;
  }

  Result<bool> Bool(std::string_view within) {
    MOXIE_TRY_ASSIGN(const uint8_t byte, Number<uint8_t>(within));
    if (byte > 1)
      return Fail("has a bool of value " + std::to_string(byte) + ", but it must be 0 or 1");
    return byte == 1;
  }

  Result<std::string> Text(std::string_view within, uint64_t max = kMaxHeaderBytes) {
    MOXIE_TRY_ASSIGN(const uint64_t length, Number<uint64_t>(within));
    if (length > left() || length > max) {
      return Fail("has a string of " + std::to_string(length) + " bytes in " + std::string(within) +
                  ", but at most " + std::to_string(std::min(left(), max)) + " fit there");
    }
    std::string text(reinterpret_cast<const char*>(bytes_.data() + pos_), length);
    pos_ += length;
    return text;
  }

  template <class T>
  Result<T> Scalar(std::string_view within) {
    if constexpr (std::is_same_v<T, bool>) {
      return Bool(within);
    } else if constexpr (std::is_same_v<T, std::string>) {
      return Text(within);
    } else {
      return Number<T>(within);
    }
  }

  Result<void> Start(GgufHeader* header);
  Result<void> KeyValue(GgufMetadata* metadata);
  Result<GgufValue> Value(uint32_t type);
  Result<GgufValue> Array();
  template <class T>
  Result<GgufValue> ScalarValue();
  template <class T>
  Result<GgufValue> ArrayValue(uint64_t count);
  Result<TensorInfo> Tensor();
  Result<void> Place(GgufHeader* header);
  Result<void> CheckApart(const GgufHeader& header);

  std::span<const std::byte> bytes_;
  std::string_view name_;
  std::string subject_;  ///< the key or tensor being read
  uint64_t pos_ = 0;
  uint64_t limit_ = 0;  ///< bytes that the header may take
  uint64_t tensor_count_ = 0;
  uint64_t key_value_count_ = 0;
  uint64_t array_elements_ = 0;
};

Result<void> Parser::Start(GgufHeader* header) {
  static constexpr char kMagic[4] = {'G', 'G', 'U', 'F'};
  if (bytes_.size() < 4 || std::memcmp(bytes_.data(), kMagic, 4) != 0) {
    return Fail(bytes_.empty() ? "is empty, but must be a GGUF file"
                               : "does not begin with \"GGUF\", so it is no GGUF file");
  }
  pos_ = 4;
  MOXIE_TRY_ASSIGN(header->version, Number<uint32_t>("the version"));
  const uint32_t version = header->version;
  if (version != 0 && (version & 0xffff) == 0) {
    return Fail("is a big-endian GGUF, but only little-endian ones are read",
                ErrorCode::kUnsupported);
  }
  if (version != 2 && version != 3) {
    return Fail(
        "is a GGUF of version " + std::to_string(version) + ", but must be of version 2 or 3",
        ErrorCode::kUnsupported);
  }
  MOXIE_TRY_ASSIGN(tensor_count_, Number<uint64_t>("the number of tensors"));
  MOXIE_TRY_ASSIGN(key_value_count_, Number<uint64_t>("the number of key-values"));
  // The least a key-value takes: key length, type, a byte. A tensor: name length, dimensions,
  // type, offset.
  const uint64_t key_values = std::min(left() / 13, kMaxKeyValues);
  const uint64_t tensors = std::min(left() / 24, kMaxTensors);
  if (key_value_count_ > key_values) {
    return Fail("claims " + std::to_string(key_value_count_) + " key-values, but at most " +
                std::to_string(key_values) + " are possible");
  }
  if (tensor_count_ > tensors) {
    return Fail("claims " + std::to_string(tensor_count_) + " tensors, but at most " +
                std::to_string(tensors) + " are possible");
  }
  return {};
}

template <class T>
Result<GgufValue> Parser::ScalarValue() {
  MOXIE_TRY_ASSIGN(T value, Scalar<T>("a value"));
  return GgufValue(std::in_place_type<T>, std::move(value));
}

template <class T>
Result<GgufValue> Parser::ArrayValue(uint64_t count) {
  constexpr uint64_t kLeast = std::is_same_v<T, std::string> ? 8 : sizeof(T);
  array_elements_ += std::min(count, kMaxArrayElements + 1);
  if (count > left() / kLeast || array_elements_ > kMaxArrayElements) {
    return Fail("has an array of " + std::to_string(count) + " elements, but at most " +
                std::to_string(std::min(left() / kLeast, kMaxArrayElements)) + " are possible");
  }
  std::vector<T> elements;
  elements.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    MOXIE_TRY_ASSIGN(T element, Scalar<T>("an array"));
    elements.push_back(std::move(element));
  }
  return GgufValue(GgufArray(std::move(elements)));
}

Result<GgufValue> Parser::Array() {
  MOXIE_TRY_ASSIGN(const uint32_t type, Number<uint32_t>("an array's type"));
  MOXIE_TRY_ASSIGN(const uint64_t count, Number<uint64_t>("an array's length"));
  switch (type) {
    case 0:
      return ArrayValue<uint8_t>(count);
    case 1:
      return ArrayValue<int8_t>(count);
    case 2:
      return ArrayValue<uint16_t>(count);
    case 3:
      return ArrayValue<int16_t>(count);
    case 4:
      return ArrayValue<uint32_t>(count);
    case 5:
      return ArrayValue<int32_t>(count);
    case 6:
      return ArrayValue<float>(count);
    case 7:
      return ArrayValue<bool>(count);
    case kStringType:
      return ArrayValue<std::string>(count);
    case kArrayType:
      return Fail("has an array of arrays, but arrays must hold plain values");
    case 10:
      return ArrayValue<uint64_t>(count);
    case 11:
      return ArrayValue<int64_t>(count);
    case 12:
      return ArrayValue<double>(count);
    default:
      return Fail("has an array of type " + std::to_string(type) + ", but types are 0.." +
                  std::to_string(kTypeCount - 1));
  }
}

Result<GgufValue> Parser::Value(uint32_t type) {
  switch (type) {
    case 0:
      return ScalarValue<uint8_t>();
    case 1:
      return ScalarValue<int8_t>();
    case 2:
      return ScalarValue<uint16_t>();
    case 3:
      return ScalarValue<int16_t>();
    case 4:
      return ScalarValue<uint32_t>();
    case 5:
      return ScalarValue<int32_t>();
    case 6:
      return ScalarValue<float>();
    case 7:
      return ScalarValue<bool>();
    case kStringType:
      return ScalarValue<std::string>();
    case kArrayType:
      return Array();
    case 10:
      return ScalarValue<uint64_t>();
    case 11:
      return ScalarValue<int64_t>();
    case 12:
      return ScalarValue<double>();
    default:
      return Fail("has a value of type " + std::to_string(type) + ", but types are 0.." +
                  std::to_string(kTypeCount - 1));
  }
}

Result<void> Parser::KeyValue(GgufMetadata* metadata) {
  MOXIE_TRY_ASSIGN(std::string key, Text("a key", kMaxNameBytes));
  subject_ = "key " + Printable(key);
  MOXIE_TRY_ASSIGN(const uint32_t type, Number<uint32_t>("a value's type"));
  MOXIE_TRY_ASSIGN(GgufValue value, Value(type));
  const bool added = metadata->values.emplace(std::move(key), std::move(value)).second;
  if (!added) return Fail("has a key twice");
  subject_.clear();
  return {};
}

Result<TensorInfo> Parser::Tensor() {
  TensorInfo tensor;
  MOXIE_TRY_ASSIGN(tensor.name, Text("a tensor's name", kMaxNameBytes));
  subject_ = "tensor " + Printable(tensor.name);
  MOXIE_TRY_ASSIGN(const uint32_t dimensions, Number<uint32_t>("a tensor's dimensions"));
  if (dimensions > kMaxDimensions) {
    return Fail("has a tensor of " + std::to_string(dimensions) + " dimensions, but at most " +
                std::to_string(kMaxDimensions) + " are read");
  }
  for (uint32_t i = 0; i < dimensions; ++i) {
    MOXIE_TRY_ASSIGN(const uint64_t size, Number<uint64_t>("a tensor's dimensions"));
    tensor.shape.push_back(std::bit_cast<int64_t>(size));
  }
  // The file counts from the innermost dimension, moxie from the outermost.
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  MOXIE_TRY_ASSIGN(const uint32_t type, Number<uint32_t>("a tensor's type"));
  if (!IsKnownDType(type)) {
    return Fail("has a tensor of type id " + std::to_string(type) + ", which moxie cannot read",
                ErrorCode::kUnsupported);
  }
  tensor.type = static_cast<DType>(type);
  MOXIE_TRY_ASSIGN(tensor.bytes, TensorBytes(name_, tensor.name, tensor.type, tensor.shape));
  MOXIE_TRY_ASSIGN(tensor.offset, Number<uint64_t>("a tensor's offset"));
  subject_.clear();
  return tensor;
}

Result<void> Parser::Place(GgufHeader* header) {
  // Offsets count from the first aligned byte after the header.
  const uint64_t data = (pos_ + header->alignment - 1) / header->alignment * header->alignment;
  for (TensorInfo& tensor : header->tensors) {
    subject_ = "tensor " + Printable(tensor.name);
    if (tensor.offset % header->alignment != 0) {
      return Fail("has a tensor at offset " + std::to_string(tensor.offset) +
                  ", but offsets must be multiples of " + std::to_string(header->alignment));
    }
    const uint64_t room = bytes_.size() > data ? bytes_.size() - data : 0;
    if (tensor.offset > room || tensor.bytes > room - tensor.offset) {
      return Fail("has a tensor of " + std::to_string(tensor.bytes) + " bytes at offset " +
                  std::to_string(tensor.offset) + ", but the file has only " +
                  std::to_string(room) + " bytes of tensor data");
    }
    tensor.offset += data;
  }
  subject_.clear();
  return {};
}

Result<void> Parser::CheckApart(const GgufHeader& header) {
  const auto& tensors = header.tensors;
  std::unordered_set<std::string_view> names;
  for (const TensorInfo& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      return Fail("has two tensors named " + Printable(tensor.name));
    }
  }
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return tensors[a].offset < tensors[b].offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorInfo& before = tensors[order[i - 1]];
    const TensorInfo& after = tensors[order[i]];
    if (before.offset + before.bytes > after.offset) {
      return Fail("has tensors that overlap: " + Printable(before.name) + " and " +
                  Printable(after.name));
    }
  }
  return {};
}

Result<GgufHeader> Parser::Parse() {
  GgufHeader header;
  header.metadata.file = name_;
  limit_ = std::min<uint64_t>(bytes_.size(), kMaxHeaderBytes);
  MOXIE_TRY(Start(&header));
  for (uint64_t i = 0; i < key_value_count_; ++i) MOXIE_TRY(KeyValue(&header.metadata));
  MOXIE_TRY_ASSIGN(header.alignment, GgufAlignment(header.metadata));
  header.tensors.reserve(tensor_count_);
  for (uint64_t i = 0; i < tensor_count_; ++i) {
    MOXIE_TRY_ASSIGN(TensorInfo tensor, Tensor());
    header.tensors.push_back(std::move(tensor));
  }
  MOXIE_TRY(Place(&header));
  MOXIE_TRY(CheckApart(header));
  return header;
}

}  // namespace

Result<GgufHeader> ParseGguf(std::span<const std::byte> bytes, std::string_view name) {
  return Parser(bytes, name).Parse();
}

}  // namespace moxie
