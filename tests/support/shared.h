#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include "support/source_dir.h"

namespace moxie::testing {

/// The folder of reference data that lies beside a checkout ($MOXIE_SHARED, or ../shared), or
/// nothing where there is none: tests that need it are skipped with that reason.
inline std::optional<std::filesystem::path> SharedDir() {
  const char* set = std::getenv("MOXIE_SHARED");
  const std::filesystem::path dir = set != nullptr ? set : SourceDir() / ".." / "shared";
  std::error_code error;
  if (!std::filesystem::is_directory(dir / "golden", error)) return std::nullopt;
  return dir;
}

}  // namespace moxie::testing
