#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "convert/importance_file.h"
#include "moxie/result.h"

// The GGUF form, which is read from a file: whatever the bytes, what is accepted gives weights.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int kFile = ::memfd_create("fuzz", 0);
  MOXIE_CHECK(::ftruncate(kFile, 0) == 0);
  MOXIE_CHECK(::pwrite(kFile, data, size, 0) == static_cast<ssize_t>(size));
  const auto importance = moxie::ReadImportance("/proc/self/fd/" + std::to_string(kFile));
  if (!importance) {
    MOXIE_CHECK(importance.error().message.find('\n') == std::string::npos);
    return 0;
  }
  for (const auto& [name, entry] : importance->entries) {
    const auto matrices = static_cast<int64_t>(entry.counts.size());
    const auto columns = static_cast<int64_t>(entry.sums.size()) / matrices;
    const auto weights = importance->Weights(name, matrices, columns);
    MOXIE_CHECK(weights && *weights && (*weights)->size() == entry.sums.size());
  }
  return 0;
}
