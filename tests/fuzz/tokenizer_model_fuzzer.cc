// tokenizer.model from untrusted folders: protobuf bytes to a tokenizer or an error.
#include <cstdint>
#include <string_view>

#include "tokenizer/loaders.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto parts =
      moxie::LoadSentencePiece(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!parts) return 0;
  const moxie::PipelineTokenizer tokenizer(std::move(parts).value());
  for (const char* text : {"a  b\xC3\xA9 12", "\xFF\xE2\x96\x81 <s>", "\xEF\xAC\x81\xE3\x8E\xA1"}) {
    tokenizer.Decode(tokenizer.Encode(text, {}), true);
  }
  return 0;
}
