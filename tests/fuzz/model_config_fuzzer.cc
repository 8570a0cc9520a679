#include <cstddef>
#include <cstdint>
#include <string_view>

#include "model/describe.h"
#include "model/family.h"
#include "moxie/result.h"

namespace {

using namespace moxie;

void Check(std::string_view text, FileLayout layout) {
  const auto settings = Settings::FromJson(text, "config.json", layout);
  ModelFiles files;
  files.layout = layout;
  const auto config = settings ? ReadConfig({*settings, files}) : settings.error();
  if (!config) {
    MOXIE_CHECK(config.error().message.starts_with("config.json: "));
    MOXIE_CHECK(config.error().message.find('\n') == std::string::npos);
    return;
  }
  // Whatever passes is sound enough to compute with.
  MOXIE_CHECK(!config->layers.empty() && config->dim > 0 && config->vocab_size > 0);
  MOXIE_CHECK(config->attention.heads % config->attention.kv_heads == 0);
  MOXIE_CHECK(config->router.used <= config->router.experts);
  MOXIE_CHECK(config->rope.dims > 0 && config->rope.dims % 2 == 0 && config->rope.base > 1);
  const ParameterCount count = CountParameters(*config);
  MOXIE_CHECK(count.total > 0 && count.active > 0 && count.active <= count.total);
}

}  // namespace

// Configurations of folders: config.json and params.json.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Check(text, FileLayout::kHuggingFace);
  Check(text, FileLayout::kConsolidated);
  return 0;
}
