#pragma once

#include <filesystem>

namespace moxie {

/// The project's folder. A function, so that one small object file alone depends on where a
/// checkout lies and compiled tests can be shared between checkouts (ccache).
const std::filesystem::path& SourceDir();

}  // namespace moxie
