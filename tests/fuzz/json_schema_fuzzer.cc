// Any bytes as a JSON schema; where one compiles, following it never fails.
#include <cstdint>
#include <string_view>

#include "fuzz/constraint_walk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  moxie::fuzz::Walk(moxie::fuzz::Compiler().JsonSchema(text), size);
  return 0;
}
