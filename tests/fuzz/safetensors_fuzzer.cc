#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "formats/safetensors.h"
#include "moxie/result.h"

// Tensors of an accepted header follow one another without gap and end with the file.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto header = moxie::ParseSafetensors(bytes, "fuzz.safetensors");
  if (!header) {
    MOXIE_CHECK(header.error().message.starts_with("fuzz.safetensors: "));
    MOXIE_CHECK(header.error().message.find('\n') == std::string::npos);
    return 0;
  }
  for (size_t i = 0; i < header->tensors.size(); ++i) {
    const moxie::TensorInfo& tensor = header->tensors[i];
    MOXIE_CHECK(tensor.elements() >= 1);
    const uint64_t end = i + 1 < header->tensors.size() ? header->tensors[i + 1].offset : size;
    MOXIE_CHECK(tensor.offset + tensor.bytes == end);
  }
  return 0;
}
