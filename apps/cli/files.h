#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "moxie/result.h"
#include "moxie/tokenizer.h"

namespace moxie::cli {

/// The bytes of a file, or of standard input where `path` is "-" or empty. At most 1 GiB.
Result<std::string> ReadFile(const std::string& path);

/// Writes beside `path` and renames, so that no half file is ever seen there.
Result<void> WriteFile(const std::string& path, std::string_view bytes);

/// The ids in a file that holds one JSON array of integers.
Result<std::vector<TokenId>> ReadIds(const std::string& path);

}  // namespace moxie::cli
