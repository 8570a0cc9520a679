#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "moxie/profile.h"

namespace moxie::cli {

/// A part's name and its share of the time, 0 to 1; most first, "rest" among them. They add up
/// to 1, but for "context", which is a part of attention.
using PartShares = std::vector<std::pair<std::string, double>>;

/// Where the time of spans that begin in [begin_ns, end_ns) went.
PartShares SharesOf(const Profile& profile, int64_t begin_ns, int64_t end_ns);

/// "experts 60 %, attention 21 % (context 8 %), ...": parts of at least half a percent.
std::string FormatShares(const PartShares& shares);

/// The profile in Chrome's trace event format, for chrome://tracing or ui.perfetto.dev.
std::string ToChromeTrace(const Profile& profile);

}  // namespace moxie::cli
