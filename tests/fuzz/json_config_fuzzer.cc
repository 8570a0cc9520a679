#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "formats/json.h"
#include "moxie/result.h"

// Both parsers accept the same texts, and what they read is read again from its own text.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = moxie::ParseJson(text, "config.json");
  const auto ordered = moxie::ParseOrderedJson(text, "config.json");
  MOXIE_CHECK(json.has_value() == ordered.has_value());
  if (!json) {
    MOXIE_CHECK(json.error().message == ordered.error().message);
    MOXIE_CHECK(json.error().message.starts_with("config.json: "));
    MOXIE_CHECK(json.error().message.find('\n') == std::string::npos);
    return 0;
  }
  const auto again = moxie::ParseJson(json->dump(), "again");
  MOXIE_CHECK(again.has_value() && *again == *json);
  return 0;
}
