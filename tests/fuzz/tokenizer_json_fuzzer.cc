// tokenizer.json and tekken.json from untrusted folders: whatever the bytes are, they give a
// tokenizer or an error, and a tokenizer takes any text. What converting reads of them, too.
#include <cstdint>
#include <string_view>

#include "convert/gguf_vocabulary.h"
#include "tokenizer/loaders.h"

namespace {

void Use(moxie::Result<moxie::TokenizerParts> parts) {
  if (!parts) return;
  const moxie::PipelineTokenizer tokenizer(std::move(parts).value());
  const auto ids = tokenizer.Encode("a <s>\xC3\xA9 12\xFF\n\xE2\x96\x81 b", {});
  tokenizer.Decode(ids, false);
  moxie::StreamDecoder stream(tokenizer);
  for (const moxie::TokenId id : ids) stream.Add(id);
  stream.Finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Use(moxie::LoadTokenizerJson(text));
  Use(moxie::LoadTekken(text));
  static_cast<void>(moxie::ReadTokenizerJson(text, false));
  return 0;
}
