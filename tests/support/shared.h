#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

namespace moxie::testing {

/// The folder of reference data that lies beside a checkout ($MOXIE_SHARED, or ../shared), or
/// nothing where there is none: tests that need it are skipped with that reason.
inline std::optional<std::filesystem::path> SharedDir() {
  const char* set = std::getenv("MOXIE_SHARED");
  const std::filesystem::path dir =
      set != nullptr ? set : std::filesystem::path(MOXIE_SOURCE_DIR) / ".." / "shared";
  std::error_code error;
  if (!std::filesystem::is_directory(dir / "golden", error)) return std::nullopt;
  return dir;
}

}  // namespace moxie::testing
