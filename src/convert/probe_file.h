#pragma once

#include <filesystem>
#include <functional>
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

/// Writes `results` and what else the file holds by then, which `results` gets, too: runs that
/// share a file, at the same time even, keep each other's.
///
///   check  told what the file holds before it is replaced; its error leaves the file alone
///
/// Errors: those of ReadProbes, but for kNotFound, of `check` and of AtomicFile.
Result<void> MergeProbes(ProbeResults& results, const std::filesystem::path& path,
                         const std::function<Result<void>(const ProbeResults&)>& check);

}  // namespace moxie
