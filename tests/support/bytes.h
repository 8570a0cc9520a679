#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moxie::testing {

/// Little-endian bytes put together one after the other: the files of tests are written here, by
/// hand after the formats' specifications, and not by moxie's own writers.
class Bytes {
 public:
  template <class T>
  Bytes& Add(T value) {
    static_assert(std::is_arithmetic_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& Raw(std::string_view text) {
    bytes_.append(text);
    return *this;
  }
  /// A GGUF string: length in eight bytes, then the text.
  Bytes& Text(std::string_view text) { return Add<uint64_t>(text.size()).Raw(text); }
  Bytes& Pad(size_t alignment) {
    while (bytes_.size() % alignment != 0) bytes_.push_back('\0');
    return *this;
  }

  const std::string& str() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  std::span<const std::byte> span() const { return std::as_bytes(std::span(bytes_)); }

 private:
  std::string bytes_;
};

/// A safetensors file of that header and data.
inline Bytes Safetensors(std::string_view header, std::string_view data) {
  Bytes bytes;
  return bytes.Text(header).Raw(data);
}

/// The first bytes of a GGUF: magic, version and counts.
inline Bytes GgufStart(uint64_t tensors, uint64_t key_values, uint32_t version = 3) {
  Bytes bytes;
  return bytes.Raw("GGUF").Add(version).Add(tensors).Add(key_values);
}

template <class Path>
void WriteFile(const Path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary).write(content.data(), static_cast<long>(content.size()));
}

}  // namespace moxie::testing
