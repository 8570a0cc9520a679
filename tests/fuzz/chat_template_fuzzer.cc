#include <cstddef>
#include <cstdint>
#include <string_view>

#include "moxie/result.h"
#include "tokenizer/chat_template.h"

namespace {

constexpr std::string_view kVariables = R"({
  "messages": [{"role": "system", "content": "S é"}, {"role": "user", "content": [{"type": "text", "text": "a"}]},
               {"role": "assistant", "content": "<think>x</think>y", "tool_calls": [{"id": "abcdefghi",
                "function": {"name": "f", "arguments": {"a": 1, "b": [true, null, 2.5]}}}]}],
  "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
  "i": 7, "n": -3, "zero": 0, "f": 2.5, "big": 18446744073709551616, "t": true, "u": false, "none_": null,
  "s": "Hello World", "e": "", "d": "grüße ΣΑΣ 日本 🎉", "l": [3, 1, 2], "ls": ["b", "A"], "dt": {"b": 1, "a": "x"},
  "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true})";

}  // namespace

// Whatever the template, rendering ends within its limits: with text of bounded length, or with an
// error of one line.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const moxie::TemplateLimits limits = {.steps = 100'000, .depth = 50, .output_bytes = 1 << 20};
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto compiled = moxie::ChatTemplate::Compile(source);
  if (!compiled) {
    MOXIE_CHECK(compiled.error().message.find('\n') == std::string::npos);
    return 0;
  }
  const auto text = compiled->Render(kVariables, limits);
  if (text) {
    MOXIE_CHECK(static_cast<int64_t>(text->size()) <= limits.output_bytes);
  } else {
    MOXIE_CHECK(text.error().message.find('\n') == std::string::npos);
  }
  return 0;
}
