#include "support/source_dir.h"

namespace moxie {

const std::filesystem::path& SourceDir() {
  static const std::filesystem::path folder(MOXIE_SOURCE_DIR);
  return folder;
}

}  // namespace moxie
