#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "formats/tensor_files.h"
#include "moxie/result.h"

namespace moxie {

/// An array of a GGUF. index() is the elements' type id in the file; arrays of arrays (9) are
/// refused by the reader.
using GgufArray =
    std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>,
                 std::vector<int16_t>, std::vector<uint32_t>, std::vector<int32_t>,
                 std::vector<float>, std::vector<bool>, std::vector<std::string>, std::monostate,
                 std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>>;

/// A GGUF metadata value, in exactly the type that its file gives it, so that a copy of a file
/// keeps every type. index() is the type id in the file.
using GgufValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool,
                               std::string, GgufArray, uint64_t, int64_t, double>;

/// A GGUF's key-values with typed look-ups. A look-up returns nothing where the key is absent,
/// and an Error that names the key where its value has another type or is out of range.
class GgufMetadata {
 public:
  std::string file;  ///< begins the messages of errors
  std::map<std::string, GgufValue, std::less<>> values;

  const GgufValue* Find(std::string_view key) const;
  Result<std::optional<int64_t>> Integer(std::string_view key) const;  ///< any integer type
  Result<std::optional<double>> Number(std::string_view key) const;    ///< any number type
  Result<std::optional<bool>> Boolean(std::string_view key) const;
  Result<std::optional<std::string>> Text(std::string_view key) const;
  Result<std::optional<std::vector<std::string>>> Texts(std::string_view key) const;
  /// Arrays of any number type or of any integer type.
  Result<std::optional<std::vector<double>>> Numbers(std::string_view key) const;
  Result<std::optional<std::vector<int64_t>>> Integers(std::string_view key) const;
};

/// The alignment of tensor data in bytes that general.alignment asks for, 32 where it is absent.
///
/// Errors: kInvalidInput where it is no power of two from 8 to 2^20.
Result<uint64_t> GgufAlignment(const GgufMetadata& metadata);

/// What stands before the tensor data of one GGUF file.
struct GgufHeader {
  uint32_t version = 0;
  uint64_t alignment = 32;  ///< bytes; a power of two
  GgufMetadata metadata;
  std::vector<TensorInfo> tensors;  ///< as in the file; `offset` counts from the file's start
};

/// Reads the header of a little-endian GGUF of version 2 or 3 (the GGUF specification,
/// ggml-org/ggml docs/gguf.md) and checks that every tensor lies within `bytes`, whole blocks,
/// aligned and apart from every other. Claimed counts allocate nothing before they are checked
/// against the size of the file. `name` begins the messages of errors.
///
/// Errors: kInvalidInput; kUnsupported for a version, byte order or tensor type not read here.
Result<GgufHeader> ParseGguf(std::span<const std::byte> bytes, std::string_view name);

/// Opens the GGUF at `path` with, for a split set (NAME-00001-of-00005.gguf), all its files.
/// `metadata` receives that of the first file.
Result<TensorFiles> OpenGguf(const std::filesystem::path& path, GgufMetadata* metadata);

}  // namespace moxie
