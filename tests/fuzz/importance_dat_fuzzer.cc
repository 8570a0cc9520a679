#include <cstddef>
#include <cstdint>
#include <span>

#include "convert/importance_file.h"
#include "moxie/result.h"

// Whatever the bytes, an importance matrix that is accepted can be asked for weights.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto importance =
      moxie::ParseImportanceDat(std::as_bytes(std::span(data, size)), "fuzz.dat");
  if (!importance) {
    MOXIE_CHECK(importance.error().message.starts_with("fuzz.dat: "));
    MOXIE_CHECK(importance.error().message.find('\n') == std::string::npos);
    return 0;
  }
  for (const auto& [name, entry] : importance->entries) {
    const auto weights = importance->Weights(name, 1, static_cast<int64_t>(entry.sums.size()));
    MOXIE_CHECK(weights && *weights && (*weights)->size() == entry.sums.size());
  }
  return 0;
}
