#pragma once

#include <string>

namespace moxie::cli {

/// `moxie bench --replay FILE`: what share of a recorded routing caches of several sizes and
/// policies would have found. Returns the exit status.
int Replay(const std::string& file, bool json);

}  // namespace moxie::cli
