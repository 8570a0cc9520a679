#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/gguf.h"
#include "moxie/result.h"

// Whatever the bytes, a header that is accepted keeps its promises: every tensor lies within the
// file, apart from the others, and its bytes are those of its shape.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto header = moxie::ParseGguf(bytes, "fuzz.gguf");
  if (!header) {
    MOXIE_CHECK(header.error().message.starts_with("fuzz.gguf: "));
    MOXIE_CHECK(header.error().message.find('\n') == std::string::npos);
    return 0;
  }
  uint64_t total = 0;
  for (const moxie::TensorInfo& tensor : header->tensors) {
    MOXIE_CHECK(tensor.offset <= size && tensor.bytes <= size - tensor.offset);
    MOXIE_CHECK(tensor.elements() >= 1);
    const auto expected = moxie::BytesOf(tensor.type, tensor.elements());
    MOXIE_CHECK(expected && static_cast<uint64_t>(*expected) == tensor.bytes);
    total += tensor.bytes;
  }
  MOXIE_CHECK(total <= size);
  for (const auto& [key, value] : header->metadata.values) {
    static_cast<void>(header->metadata.Integer(key));
    static_cast<void>(header->metadata.Number(key));
    static_cast<void>(header->metadata.Integers(key));
    static_cast<void>(header->metadata.Numbers(key));
    static_cast<void>(header->metadata.Texts(key));
  }
  return 0;
}
