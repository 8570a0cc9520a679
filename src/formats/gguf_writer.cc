#include <map>
#include <string>
#include <type_traits>

#include "formats/spec_bytes.h"
#include "formats/tensor_writer.h"

namespace moxie {
namespace {

constexpr uint32_t kVersion = 3;

/// The header's bytes, grown as it is written.
class Header {
 public:
  template <class T>
  void Add(T value) {
    static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void Add(bool value) { bytes_.push_back(value ? '\1' : '\0'); }
  void Add(std::string_view text) {
    Add<uint64_t>(text.size());
    bytes_.append(text);
  }
  void Add(const std::string& text) { Add(std::string_view(text)); }
  void Add(const GgufArray& array) {
    Add(static_cast<uint32_t>(array.index()));
    std::visit([this](const auto& elements) { AddElements(elements); }, array);
  }

  void Raw(std::string_view text) { bytes_.append(text); }
  void PadTo(uint64_t alignment) {
    bytes_.append((alignment - bytes_.size() % alignment) % alignment, '\0');
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void AddElements(std::monostate) { MOXIE_CHECK(false); }  // Arrays of arrays do not exist.
  template <class T>
  void AddElements(const std::vector<T>& elements) {
    Add<uint64_t>(elements.size());
    for (const T element : elements) Add(element);
  }
  void AddElements(const std::vector<std::string>& elements) {
    Add<uint64_t>(elements.size());
    for (const std::string& element : elements) Add(element);
  }

  std::string bytes_;
};

using Values = std::map<std::string, GgufValue, std::less<>>;

void AddMetadata(const Values& values, Header* header) {
  for (const auto& [key, value] : values) {
    header->Add(key);
    header->Add(static_cast<uint32_t>(value.index()));
    std::visit([&](const auto& v) { header->Add(v); }, value);
  }
}

/// The keys that are written, with those of the split set.
Values WrittenKeys(const GgufMetadata& metadata, const SplitPlace& split) {
  Values values;
  for (const auto& [key, value] : metadata.values) {
    if (!key.starts_with("split.")) values.emplace(key, value);
  }
  if (split.count > 1) {
    values["split.no"] = split.number;
    values["split.count"] = split.count;
    values["split.tensors.count"] = split.tensors;
  }
  return values;
}

void AddTensors(std::span<const TensorSpec> tensors, std::span<const uint64_t> bytes,
                uint64_t alignment, Header* header) {
  uint64_t offset = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorSpec& tensor = tensors[i];
    header->Add(tensor.name);
    header->Add(static_cast<uint32_t>(tensor.shape.size()));
    for (size_t d = tensor.shape.size(); d-- > 0;) header->Add(tensor.shape[d]);
    header->Add(static_cast<uint32_t>(tensor.type));
    header->Add(offset);
    offset += (bytes[i] + alignment - 1) / alignment * alignment;
  }
}

struct Layout {
  std::string header;
  std::vector<uint64_t> bytes;  ///< of each tensor
  uint64_t alignment = 0;
};

Result<Layout> LayOut(std::string_view file, const GgufMetadata& metadata,
                      std::span<const TensorSpec> tensors, const SplitPlace& split) {
  Layout layout;
  MOXIE_TRY_ASSIGN(layout.alignment, GgufAlignment(metadata));
  MOXIE_TRY_ASSIGN(layout.bytes, SpecBytes(file, tensors));
  const Values values = WrittenKeys(metadata, split);
  Header header;
  header.Raw("GGUF");
  header.Add(kVersion);
  header.Add<uint64_t>(tensors.size());
  header.Add<uint64_t>(values.size());
  AddMetadata(values, &header);
  AddTensors(tensors, layout.bytes, layout.alignment, &header);
  header.PadTo(layout.alignment);
  layout.header = header.bytes();
  return layout;
}

}  // namespace

Result<uint64_t> GgufFileBytes(const GgufMetadata& metadata, std::span<const TensorSpec> tensors) {
  MOXIE_TRY_ASSIGN(const Layout layout, LayOut(metadata.file, metadata, tensors, {}));
  uint64_t size = layout.header.size();
  for (const uint64_t bytes : layout.bytes)
    size += (bytes + layout.alignment - 1) / layout.alignment * layout.alignment;
  return size;
}

Result<TensorWriter> TensorWriter::CreateGguf(const std::filesystem::path& path,
                                              const GgufMetadata& metadata,
                                              std::span<const TensorSpec> tensors,
                                              const SplitPlace& split) {
  MOXIE_TRY_ASSIGN(Layout layout, LayOut(path.string(), metadata, tensors, split));
  MOXIE_TRY_ASSIGN(AtomicFile file, AtomicFile::Create(path));
  MOXIE_TRY(file.Write(layout.header));
  return TensorWriter(std::move(file), std::move(layout.bytes), layout.alignment);
}

}  // namespace moxie
