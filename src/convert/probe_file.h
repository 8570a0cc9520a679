#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "moxie/result.h"

namespace moxie {

/// The divergences that a target's errors were measured to cause (Prober).
struct ProbedDivergences {
  double coarse = 0;                ///< in four bits
  std::optional<double> fine = {};  ///< in eight, of a mixture's
};

/// Of all targets, by the first of their names.
using ProbeResults = std::map<std::string, ProbedDivergences, std::less<>>;

/// Reads what WriteProbes wrote: a line a target with its name, the divergence in four bits and, of
/// a mixture's, that in eight.
///
/// Errors: kNotFound, kIo; kInvalidInput with one sentence that starts with the file's name.
Result<ProbeResults> ReadProbes(const std::filesystem::path& path);

/// Errors: those of AtomicFile.
Result<void> WriteProbes(const ProbeResults& results, const std::filesystem::path& path);

}  // namespace moxie
