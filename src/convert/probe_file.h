#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "moxie/result.h"

namespace moxie {

/// What a target's errors were measured to cause (Prober).
struct Probed {
  double divergence = 0;  ///< in four bits
  /// Of a mixture's: the share of it that grows with the root of the squared errors.
  std::optional<double> root_share = {};
};

/// Of all targets, by the first of their names.
using ProbeResults = std::map<std::string, Probed, std::less<>>;

/// Reads what WriteProbes wrote: a line a target with its name, the divergence and, of a mixture's,
/// the share.
///
/// Errors: kNotFound, kIo; kInvalidInput with one sentence that starts with the file's name.
Result<ProbeResults> ReadProbes(const std::filesystem::path& path);

/// Errors: those of AtomicFile.
Result<void> WriteProbes(const ProbeResults& results, const std::filesystem::path& path);

}  // namespace moxie
