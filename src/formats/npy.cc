#include "formats/npy.h"

#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "core/printable.h"
#include "formats/tensor_files.h"

namespace moxie {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr size_t kAlignment = 64;  // of the data, as NumPy writes it
constexpr size_t kMaxDimensions = 32;

template <class T>
constexpr std::string_view kDescr = "<f4";
template <>
constexpr std::string_view kDescr<int32_t> = "<i4";
static_assert(sizeof(float) == 4);

Error Fail(std::string_view file, const std::string& what,
           ErrorCode code = ErrorCode::kInvalidInput) {
  return {code, std::string(file) + ": " + what};
}

/// The text that follows `'key':` in the header's dictionary, spaces skipped.
std::optional<std::string_view> After(std::string_view header, std::string_view key) {
  size_t at = header.find("'" + std::string(key) + "'");
  if (at == std::string_view::npos) return std::nullopt;
  at = header.find_first_not_of(' ', at + key.size() + 2);
  if (at == std::string_view::npos || header[at] != ':') return std::nullopt;
  at = header.find_first_not_of(' ', at + 1);
  if (at == std::string_view::npos) return std::nullopt;
  return header.substr(at);
}

/// Python's tuple of integers: (), (3,), (3, 4).
std::optional<std::vector<int64_t>> ParseShape(std::string_view text) {
  if (!text.starts_with('(')) return std::nullopt;
  std::vector<int64_t> shape;
  for (size_t i = 1; i < text.size();) {
    const char c = text[i];
    if (c == ')') return shape;
    if (c == ' ' || c == ',') {
      ++i;
      continue;
    }
    if (c < '0' || c > '9' || shape.size() == kMaxDimensions) return std::nullopt;
    int64_t value = 0;
    for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
      if (value > std::numeric_limits<int64_t>::max() / 10 - 1) return std::nullopt;
      value = value * 10 + (text[i] - '0');
    }
    shape.push_back(value);
  }
  return std::nullopt;
}

/// The product of the dimensions, or nothing where it or its bytes would overflow.
std::optional<uint64_t> Elements(std::span<const int64_t> shape) {
  constexpr uint64_t kMost = uint64_t{1} << 60;
  uint64_t elements = 1;
  for (const int64_t size : shape) {
    if (size < 0) return std::nullopt;
    if (size != 0 && elements > kMost / static_cast<uint64_t>(size)) return std::nullopt;
    elements *= static_cast<uint64_t>(size);
  }
  return elements;
}

std::string Header(std::string_view descr, std::span<const int64_t> shape) {
  std::string text = "{'descr': '" + std::string(descr) + "', 'fortran_order': False, 'shape': (";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : " ") + std::to_string(shape[i]);
    if (i == 0 || i + 1 < shape.size()) text += ',';
  }
  text += "), }";
  const size_t before = kMagic.size() + 4;
  while ((before + text.size() + 1) % kAlignment != 0) text += ' ';
  text += '\n';
  std::string header(kMagic);
  header +=
      {'\x01', '\x00', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  return header + text;
}

/// The dictionary of the header and where the data begins.
Result<std::pair<std::string_view, size_t>> SplitHeader(std::span<const std::byte> bytes,
                                                        std::string_view name) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(kMagic) || text.size() < 12) {
    return Fail(name, "does not begin with \"\\x93NUMPY\", so it is no .npy file");
  }
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned version = byte(6);
  if (version < 1 || version > 3) {
    return Fail(name, "is an .npy of version " + std::to_string(version) + ", but must be 1..3",
                ErrorCode::kUnsupported);
  }
  const size_t begin = version == 1 ? 10 : 12;
  size_t length = byte(8) | static_cast<size_t>(byte(9)) << 8;
  if (version > 1)
    length |= static_cast<size_t>(byte(10)) << 16 | static_cast<size_t>(byte(11)) << 24;
  if (length > text.size() - begin) {
    return Fail(name, "claims a header of " + std::to_string(length) + " bytes, but only " +
                          std::to_string(text.size() - begin) + " follow");
  }
  return std::pair(text.substr(begin, length), begin + length);
}

}  // namespace

template <class T>
Result<NpyArray<T>> ParseNpy(std::span<const std::byte> bytes, std::string_view name) {
  MOXIE_TRY_ASSIGN(const auto split, SplitHeader(bytes, name));
  const auto [header, data] = split;
  const auto descr = After(header, "descr");
  const auto order = After(header, "fortran_order");
  const auto shape_text = After(header, "shape");
  if (!descr || !order || !shape_text) {
    return Fail(name, "has a header without descr, fortran_order and shape");
  }
  if (!descr->starts_with("'" + std::string(kDescr<T>) + "'")) {
    return Fail(name,
                "has elements " + Printable(descr->substr(0, descr->find(','))) +
                    ", but must have '" + std::string(kDescr<T>) + "'",
                ErrorCode::kUnsupported);
  }
  if (!order->starts_with("False")) {
    return Fail(name, "is in Fortran order, but must be in C order", ErrorCode::kUnsupported);
  }
  NpyArray<T> array;
  auto shape = ParseShape(*shape_text);
  const auto elements = shape ? Elements(*shape) : std::nullopt;
  if (!elements) return Fail(name, "has a shape that is no tuple of whole numbers");
  if (*elements != (bytes.size() - data) / sizeof(T) || (bytes.size() - data) % sizeof(T) != 0) {
    return Fail(name, "has " + std::to_string(bytes.size() - data) +
                          " bytes of data, but its shape takes " +
                          std::to_string(*elements * sizeof(T)));
  }
  array.shape = std::move(*shape);
  array.values.resize(*elements);
  if (*elements != 0) {
    std::memcpy(array.values.data(), bytes.data() + data, *elements * sizeof(T));
  }
  return array;
}

template <class T>
Result<NpyArray<T>> ReadNpy(const std::filesystem::path& path) {
  MOXIE_TRY_ASSIGN(const MappedFile file, MappedFile::Open(path));
  return ParseNpy<T>(file.bytes(), path.string());
}

template <class T>
Result<NpyWriter<T>> NpyWriter<T>::Create(const std::filesystem::path& path,
                                          std::span<const int64_t> shape) {
  const auto elements = Elements(shape);
  MOXIE_CHECK(elements.has_value() && shape.size() <= kMaxDimensions);
  MOXIE_TRY_ASSIGN(AtomicFile file, AtomicFile::Create(path));
  const std::string header = Header(kDescr<T>, shape);
  MOXIE_TRY(file.Write(header));
  return NpyWriter(std::move(file), header.size() + *elements * sizeof(T));
}

template <class T>
Result<void> NpyWriter<T>::Write(std::span<const T> values) {
  MOXIE_CHECK(values.size_bytes() <= bytes_ - file_.size());
  return file_.Write(std::as_bytes(values));
}

template <class T>
Result<void> NpyWriter<T>::Finish() {
  MOXIE_CHECK(file_.size() == bytes_);
  return file_.Commit();
}

template <class T>
Result<void> WriteNpy(const std::filesystem::path& path, std::span<const int64_t> shape,
                      std::span<const T> values) {
  MOXIE_TRY_ASSIGN(auto writer, NpyWriter<T>::Create(path, shape));
  MOXIE_TRY(writer.Write(values));
  return writer.Finish();
}

template class NpyWriter<float>;
template class NpyWriter<int32_t>;
template Result<NpyArray<float>> ParseNpy(std::span<const std::byte>, std::string_view);
template Result<NpyArray<int32_t>> ParseNpy(std::span<const std::byte>, std::string_view);
template Result<NpyArray<float>> ReadNpy(const std::filesystem::path&);
template Result<NpyArray<int32_t>> ReadNpy(const std::filesystem::path&);
template Result<void> WriteNpy(const std::filesystem::path&, std::span<const int64_t>,
                               std::span<const float>);
template Result<void> WriteNpy(const std::filesystem::path&, std::span<const int64_t>,
                               std::span<const int32_t>);

}  // namespace moxie
