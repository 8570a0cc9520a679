// Any text through fixed vocabularies. A byte-level vocabulary gives the text back, its ill-formed
// bytes as U+FFFD, and a stream prints what decoding at once gives.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tokenizer/loaders.h"
#include "tokenizer/normalizer.h"

namespace {

using moxie::PipelineTokenizer;

PipelineTokenizer MakeByteLevel(const std::string& pre, const std::string& normalizer) {
  std::string vocab;
  int next = 0;
  const auto add = [&](const std::string& piece) {
    const std::string escape = piece == "\"" || piece == "\\" ? "\\" : "";
    vocab += (next == 0 ? "\"" : ",\"") + escape + piece + "\":" + std::to_string(next);
    ++next;
  };
  for (int byte = 0; byte < 256; ++byte) {
    add(moxie::BytesToCharacters(std::string(1, static_cast<char>(byte))));
  }
  add("aa");
  add("\xC4\xA0\x61");  // A space and an a.
  auto parts = moxie::LoadTokenizerJson(
      R"({"added_tokens":[{"id":258,"content":"<s>","special":true,"lstrip":true},)"
      R"({"id":259,"content":"  ","normalized":true}],"normalizer":)" +
      normalizer + R"(,"pre_tokenizer":)" + pre +
      R"(,"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{)" + vocab +
      R"(},"merges":["a a","Ġ a"]}})");
  if (!parts) std::abort();
  return PipelineTokenizer(std::move(parts).value());
}

void CheckRoundTrip(const PipelineTokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.Encode(text, {.add_special = false, .parse_special = false});
  const std::string decoded = tokenizer.Decode(ids, false);
  if (decoded != moxie::ReplaceInvalidUtf8(text)) std::abort();
  moxie::StreamDecoder stream(tokenizer);
  std::string streamed;
  for (const moxie::TokenId id : ids) {
    const std::string part = stream.Add(id);
    if (!moxie::IsValidUtf8(part)) std::abort();
    streamed += part;
  }
  if (streamed + stream.Finish() != decoded) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const PipelineTokenizer gpt2 =
      MakeByteLevel(R"({"type":"ByteLevel","add_prefix_space":false})", "null");
  static const PipelineTokenizer gpt4o = MakeByteLevel(
      R"({"type":"Sequence","pretokenizers":[{"type":"Split","behavior":"Isolated","pattern":{"Regex":)"
      R"("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{M}]*[\\p{Ll}\\p{Lo}\\p{M}]+(?i:'s|'t)?|\\p{N}{1,3}|)"
      R"( ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},)"
      R"({"type":"Digits","individual_digits":true},{"type":"Punctuation","behavior":"Contiguous"},)"
      R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})",
      "null");
  static const PipelineTokenizer normalizing = MakeByteLevel(
      R"({"type":"ByteLevel"})",
      R"({"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Lowercase"},{"type":"Strip"},)"
      R"({"type":"StripAccents"},{"type":"NFD"}]})");
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckRoundTrip(gpt2, text);
  CheckRoundTrip(gpt4o, text);
  normalizing.Decode(normalizing.Encode(text, {}), true);
  return 0;
}
